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
  const file = path.join(dataDir, 'secrets.json');
  const text = await fs.readFile(file, 'utf8').catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') {
      return undefined;
    }
    throw new StartProblem(`${file} cannot be read: ${error.message}`, { cause: error });
  });
  let secrets: Secrets;
  if (text === undefined) {
    if (hasDatabase) {
      throw new StartProblem(
        `${file} is missing, and with it the keys of the database beside it. Put the file back from a backup, or start anew with another folder (--data-dir DIR).`,
      );
    }
    secrets = {
      accessTokens: {},
      keys: [{ id: crypto.createHash('sha256').update(random.bytes(32)).digest('hex').slice(0, 8), key: base64(random) }],
      signingSecret: base64(random),
    };
  } else {
    let parsed: unknown;
    try {
      parsed = JSON.parse(text);
    } catch {
      parsed = undefined;
    }
    if (!isSecrets(parsed)) {
      throw new StartProblem(`${file} is damaged. Put it back from a backup, or start anew with another folder (--data-dir DIR).`);
    }
    secrets = parsed;
  }
  const missing = clientIds.filter(id => secrets.accessTokens[id] === undefined);
  if (text !== undefined && missing.length === 0) {
    return secrets;
  }
  const tokens = missing.map(id => [id, plainSlugid(random) + plainSlugid(random)] as const);
  secrets = { ...secrets, accessTokens: { ...secrets.accessTokens, ...Object.fromEntries(tokens) } };
  await explainFileErrors(file, () => writePrivateFile(file, `${JSON.stringify(secrets, null, 2)}\n`));
  return secrets;
};
