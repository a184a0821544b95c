/**
 * What an installation keeps to itself, made at its first start: access tokens of the services and of the local worker, the keys that encrypt
 * columns, the key that signs URLs. In one file of mode 0600 beside the database, and as precious: without its keys the database's secrets are lost.
 */
import crypto from 'node:crypto';
import fs from 'node:fs/promises';
import path from 'node:path';
import { type Random, plainSlugid } from '@tscluster/client/clock.ts';
import { writePrivateFile } from './files.ts';
import { StartProblem, explainFileErrors } from './problem.ts';

export interface Secrets {
  /** Access token by client id. */
  readonly accessTokens: Readonly<Record<string, string>>;
  /** The last one encrypts; each is 32 bytes in base64. */
  readonly keys: readonly { readonly id: string; readonly key: string }[];
  /** 32 bytes in base64. */
  readonly signingSecret: string;
}

const isSecrets = (value: unknown): value is Secrets => {
  const secrets = value as Partial<Secrets> | null;
  return (
    typeof secrets?.accessTokens === 'object' &&
    Object.values(secrets.accessTokens).every(token => typeof token === 'string') &&
    Array.isArray(secrets.keys) &&
    secrets.keys.length > 0 &&
    secrets.keys.every(({ id, key }) => typeof id === 'string' && Buffer.from(key, 'base64').length === 32) &&
    Buffer.from(secrets.signingSecret ?? '', 'base64').length === 32
  );
};

const base64 = (random: Random): string => Buffer.from(random.bytes(32)).toString('base64');

/** A key for encrypted columns, with an id of its own. */
export const makeKey = (random: Random): Secrets['keys'][number] => ({
  id: crypto.createHash('sha256').update(random.bytes(32)).digest('hex').slice(0, 8),
  key: base64(random),
});

export const secretsFile = (dataDir: string): string => path.join(dataDir, 'secrets.json');

/** Reads the file; undefined when there is none. @throws {StartProblem} when it cannot be read, or is damaged */
export const readSecrets = async (dataDir: string): Promise<Secrets | undefined> => {
  const file = secretsFile(dataDir);
  const text = await fs.readFile(file, 'utf8').catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') {
      return undefined;
    }
    throw new StartProblem(`${file} cannot be read: ${error.message}`, { cause: error });
  });
  if (text === undefined) {
    return undefined;
  }
  let parsed: unknown;
  try {
    parsed = JSON.parse(text);
  } catch {
    parsed = undefined;
  }
  if (!isSecrets(parsed)) {
    throw new StartProblem(`${file} is damaged. Put it back from a backup, or start anew with another folder (--data-dir DIR).`);
  }
  return parsed;
};

/** Replaces the file. @throws {StartProblem} when the file system does not let us */
export const writeSecrets = async (dataDir: string, secrets: Secrets): Promise<void> => {
  const file = secretsFile(dataDir);
  await explainFileErrors(file, () => writePrivateFile(file, `${JSON.stringify(secrets, null, 2)}\n`));
};

/**
 * Reads the secrets, or makes them; adds a token for each client that has none yet.
 *
 * @param hasDatabase whether the data folder already holds a database, to which new keys would not fit
 */
export const loadSecrets = async (
  dataDir: string,
  clientIds: readonly string[],
  hasDatabase: boolean,
  random: Random,
): Promise<Secrets> => {
  const found = await readSecrets(dataDir);
  if (!found && hasDatabase) {
    throw new StartProblem(
      `${secretsFile(dataDir)} is missing, and with it the keys of the database beside it. Put the file back from a backup, or start anew with another folder (--data-dir DIR).`,
    );
  }
  const secrets = found ?? { accessTokens: {}, keys: [makeKey(random)], signingSecret: base64(random) };
  const missing = clientIds.filter(id => secrets.accessTokens[id] === undefined);
  if (found && missing.length === 0) {
    return found;
  }
  const tokens = missing.map(id => [id, plainSlugid(random) + plainSlugid(random)] as const);
  const complete = { ...secrets, accessTokens: { ...secrets.accessTokens, ...Object.fromEntries(tokens) } };
  await writeSecrets(dataDir, complete);
  return complete;
};
