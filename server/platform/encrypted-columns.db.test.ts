/** Moving encrypted values to the newest key while everything goes on. */
import { secretsApi } from '@tscluster/api/secrets/api.ts';
import { beforeAll, describe, expect, test } from 'vitest';
import { secretsService } from '../services/secrets/service.ts';
import { type TestServer, withServer } from '../testing/server.ts';
import { allServices } from '../services/all.ts';
import { countByKey, reencryption, reencryptionLoop } from './encrypted-columns.ts';
import type { Key } from './keyring.ts';

const key = (id: string, byte: number): Key => ({ id, key: Buffer.alloc(32, byte) });
const OLD = key('test', 1);
const [column] = secretsService.encrypted ?? [];
if (!column) {
  throw new Error('The secrets service names no encrypted column');
}

let server: TestServer;
const secrets = () => server.client(secretsApi);
const expires = '2100-01-01T00:00:00.000Z';
const left = async (): Promise<number | undefined> => {
  const metric = await server.platform.metrics.registry.getSingleMetric('encrypted_values_left')?.get();
  return metric?.values.find(({ labels }) => labels['table'] === 'secrets.secrets')?.value;
};

/** Starts the loop and waits until everything lies under one key. */
const moveAll = async (keyId: string): Promise<void> => {
  const { db, keyring, log, metrics, clock } = server.platform;
  const running = reencryption('secrets', column, { db, keyring, log, metrics }).start({ clock, log, metrics });
  for (;;) {
    const counts = await countByKey(db, column);
    if (counts.size === 1 && counts.has(keyId)) {
      break;
    }
  }
  await running.stop();
};

beforeAll(async () => {
  server = await withServer([secretsService]);
  for (let i = 0; i < 250; i++) {
    await secrets().set({ name: `n/${i}` }, { secret: { i }, expires });
  }
});

describe('a new key', () => {
  test('takes over everything, while secrets are read and written', async () => {
    server.platform.keyring.replaceKeys([OLD, key('second', 2)]);
    const moving = moveAll('second');
    await Promise.all(
      Array.from({ length: 50 }, async (_, i) => {
        await secrets().set({ name: `n/${i}` }, { secret: { i, again: true }, expires });
        expect((await secrets().get({ name: `n/${i}` })).secret).toEqual({ i, again: true });
        expect((await secrets().get({ name: `n/${i + 100}` })).secret).toEqual({ i: i + 100 });
      }),
    );
    await moving;
    expect(await left()).toBe(0);
    server.platform.keyring.replaceKeys([key('second', 2)]);
    expect((await secrets().get({ name: 'n/249' })).secret).toEqual({ i: 249 });
    expect((await secrets().get({ name: 'n/7' })).secret).toEqual({ i: 7, again: true });
  });

  test('leaves alone what cannot be decrypted, and says how much is left', async () => {
    await server.db`update secrets.secrets set encrypted = replace(encrypted, 'v1:second:', 'v1:lost:') where name < 'n/2'`;
    const [lost] = await server.db<{ count: number }>`select count(*) from secrets.secrets where starts_with(encrypted, 'v1:lost:')`;
    expect(lost?.count).toBeGreaterThan(100);
    server.platform.keyring.replaceKeys([key('second', 2), key('third', 3)]);
    const { db, keyring, log, metrics, clock } = server.platform;
    const running = reencryption('secrets', column, { db, keyring, log, metrics }).start({ clock, log, metrics });
    for (;;) {
      const counts = await countByKey(db, column);
      if (!counts.has('second')) {
        expect(Object.fromEntries(counts)).toEqual({ lost: lost?.count, third: 250 - (lost?.count ?? 0) });
        break;
      }
    }
    await running.stop();
    expect(await left()).toBe(lost?.count);
  });
});

test('counts what is left also when a walk ends with a full batch, and walks anew for another ring', async () => {
  const { keyring, db, log, metrics } = server.platform;
  await server.db`update secrets.secrets set encrypted = replace(encrypted, 'v1:third:', 'v1:lost:')`;
  const loop = reencryptionLoop('secrets', column, { db, keyring, log, metrics });
  expect([await loop.run(undefined, 250), await left()]).toEqual([250, 250]);
  expect([await loop.run(undefined, 250), await left()]).toEqual([0, 250]);
  expect([await loop.run(undefined, 100), await left()]).toEqual([100, 250]);
  keyring.replaceKeys([key('lost', 2), key('fourth', 4)]);
  const batches = [await loop.run(undefined, 100), await loop.run(undefined, 100), await loop.run(undefined, 100)];
  expect(batches).toEqual([100, 100, 50]);
  // the test before took these from another key
  const [found] = await server.db<{ count: number }>`select count(*) from secrets.secrets where name < 'n/2'`;
  expect(await left()).toBe(250 - (found?.count ?? 0));
});

test('a ring that is none changes nothing', () => {
  const { keyring } = server.platform;
  const before = keyring.newestPrefix;
  expect(() => keyring.replaceKeys([])).toThrow('empty');
  expect(() => keyring.replaceKeys([OLD, OLD])).toThrow('same id');
  expect(keyring.newestPrefix).toBe(before);
});

test('every encrypted column that a service names is there, with its key', async () => {
  const columns = allServices.flatMap(service => service.encrypted ?? []);
  expect(columns.map(each => `${each.table}.${each.column}`)).toEqual(
    expect.arrayContaining(['auth.clients.access_token', 'secrets.secrets.encrypted', 'hooks.hooks.trigger_token', 'hooks.fires.task_id']),
  );
  for (const each of columns) {
    expect(await countByKey(server.db, each)).toBeInstanceOf(Map);
    const rows = await server.db.run({
      text: `select a.attname from pg_index i join pg_attribute a on a.attrelid = i.indrelid and a.attnum = any(i.indkey)
        where i.indrelid = $1::regclass and i.indisprimary`,
      values: [each.table],
    });
    expect(new Set(rows.rows.map(row => (row as { attname: string }).attname))).toEqual(new Set(each.key));
  }
});
