/**
 * The keys of encrypted columns in an installation's folder: adding one while the server runs, seeing what lies under which, and taking off those that
 * nothing needs any more. The server looks at the file now and then, so that nothing has to be restarted.
 */
import fs from 'node:fs/promises';
import path from 'node:path';
import { type Db, openDb } from '../db/sql.ts';
import type { Clock, Random } from '../platform/clock.ts';
import { countByKey } from '../platform/encrypted-columns.ts';
import type { Key } from '../platform/keyring.ts';
import { loop, run, type RunningLoop } from '../platform/loop.ts';
import type { Platform } from '../platform/service.ts';
import { allServices } from '../services/all.ts';
import { StartProblem } from './problem.ts';
import { makeKey, readSecrets, type Secrets, writeSecrets } from './secrets.ts';

export const keysOf = ({ keys }: Secrets): Key[] => keys.map(({ id, key }) => ({ id, key: Buffer.from(key, 'base64') }));

const LOOK_MS = 2_000;

/** Follows the file's keys, from those that are known on. */
export const watchKeys = (
  dataDir: string,
  known: Secrets,
  { clock, log, metrics, keyring }: Pick<Platform, 'clock' | 'log' | 'metrics' | 'keyring'>,
): RunningLoop => {
  let current = JSON.stringify(known.keys);
  const definition = loop<undefined>({
    name: 'local/keys',
    everyMs: LOOK_MS,
    batch: 1,
    run: async () => {
      const secrets = await readSecrets(dataDir);
      const found = secrets && JSON.stringify(secrets.keys);
      if (secrets && found !== undefined && found !== current) {
        keyring.replaceKeys(keysOf(secrets));
        current = found;
        log.info({ keys: secrets.keys.map(({ id }) => id) }, 'encryption keys replaced');
      }
      return 0;
    },
  });
  return run(definition, undefined).start({ clock, log, metrics });
};

const requireSecrets = async (dataDir: string): Promise<Secrets> => {
  const secrets = await readSecrets(dataDir);
  if (!secrets) {
    throw new StartProblem(`There is no installation in ${dataDir}. Name its folder with --data-dir DIR.`);
  }
  return secrets;
};

/** Adds a key, under which everything is encrypted from now on; answers with its id. */
export const rotateKeys = async (dataDir: string, random: Random): Promise<string> => {
  const secrets = await requireSecrets(dataDir);
  const key = makeKey(random);
  await writeSecrets(dataDir, { ...secrets, keys: [...secrets.keys, key] });
  return key.id;
};

/** Calls with the installation's database, which runs as long as the installation does. */
const withDatabase = async <T>(dataDir: string, use: (db: Db) => Promise<T>): Promise<T> => {
  const text = await fs.readFile(path.join(dataDir, 'postgres', 'postmaster.pid'), 'utf8').catch(() => '');
  const [, , , port, host] = text.split('\n');
  const db = openDb({ connection: { host: host ?? '', port: Number(port), user: 'postgres', database: 'postgres' }, poolSize: 1 });
  try {
    if (!host) {
      throw new Error('it does not run');
    }
    await db`select 1`;
  } catch (error) {
    await db.close();
    throw new StartProblem(`The database in ${dataDir} does not answer: start the installation first. (${(error as Error).message})`, {
      cause: error,
    });
  }
  try {
    return await use(db);
  } finally {
    await db.close();
  }
};

export interface KeyUse {
  readonly id: string;
  /** Whether it encrypts. */
  readonly isNewest: boolean;
  /** Whether it is in the file; a key of which values are left may be lost. */
  readonly isKnown: boolean;
  /** How many values lie under it. */
  readonly values: number;
}

const listUses = async (db: Db, { keys }: Secrets): Promise<KeyUse[]> => {
  const counts = new Map<string, number>();
  for (const column of allServices.flatMap(service => service.encrypted ?? [])) {
    for (const [id, count] of await countByKey(db, column)) {
      counts.set(id, (counts.get(id) ?? 0) + count);
    }
  }
  const known = keys.map(({ id }) => id);
  const lost = [...counts.keys()].filter(id => !known.includes(id));
  return [...known, ...lost].map(id => ({
    id,
    isNewest: id === known.at(-1),
    isKnown: known.includes(id),
    values: counts.get(id) ?? 0,
  }));
};

/** What lies under which key, the oldest key first. */
export const listKeyUses = async (dataDir: string): Promise<KeyUse[]> => {
  const secrets = await requireSecrets(dataDir);
  return withDatabase(dataDir, db => listUses(db, secrets));
};

/**
 * Takes off the keys under which nothing lies, but never the newest; answers with their ids. A server that was given another key a moment ago may
 * still encrypt under the one before, so it first has the time to notice.
 */
export const pruneKeys = async (dataDir: string, clock: Clock): Promise<string[]> => {
  const { keys: before } = await requireSecrets(dataDir);
  await clock.sleep(2 * LOOK_MS);
  const secrets = await requireSecrets(dataDir);
  if (secrets.keys.at(-1)?.id !== before.at(-1)?.id) {
    return pruneKeys(dataDir, clock);
  }
  const uses = await withDatabase(dataDir, db => listUses(db, secrets));
  const idle = uses.filter(({ isKnown, isNewest, values }) => isKnown && !isNewest && values === 0).map(({ id }) => id);
  if (idle.length > 0) {
    // counting takes a while: a key that came meanwhile stays
    const now = await requireSecrets(dataDir);
    await writeSecrets(dataDir, { ...now, keys: now.keys.filter(({ id }) => !idle.includes(id)) });
  }
  return idle;
};
