/** Several processes on one database: what one changes, the others know in time, with and without being told. */
import { describe, expect, test } from 'vitest';
import { authApi } from '@tscluster/api/auth/api.ts';
import { systemClock } from '../../platform/clock.ts';
import { testDatabase } from '../../testing/template.ts';
import { followChanges, purgeChanges } from './loops.ts';
import type { AuthContext } from './context.ts';
import { Directory, MAX_AGE_MS } from './directory.ts';
import type { AuthClient, AuthServer } from './testing.ts';
import { refusal, withAuth } from './testing.ts';

/** Two processes with one database and one time; `there` is the second as seen by a client. */
const withTwo = async (): Promise<{ one: AuthServer; two: AuthServer; there: (clientId: string, accessToken: string) => AuthClient }> => {
  const one = await withAuth();
  const two = await withAuth({ db: one.db, clock: one.clock });
  return { one, two, there: (clientId, accessToken) => two.client(authApi, { credentials: { clientId, accessToken } }) };
};
const contextOf = (server: AuthServer): AuthContext => server.server.services.get('auth')?.apis?.[0]?.ctx as AuthContext;
const spec = (scopes: string[]): { expires: string; description: string; scopes: string[] } => ({
  expires: '2100-01-01T00:00:00.000Z',
  description: '',
  scopes,
});

describe('another process', () => {
  test('knows a new client at once', async () => {
    const { one, there } = await withTwo();
    const { accessToken } = await one.root.createClient({ clientId: 'c' }, spec(['auth:current-scopes']));
    expect((await there('c', accessToken).currentScopes()).scopes).toContain('auth:current-scopes');
  });

  test('knows of a disabled client when a second has passed, without being told', async () => {
    const { one, there } = await withTwo();
    const { accessToken } = await one.root.createClient({ clientId: 'c' }, spec(['auth:current-scopes']));
    const own = there('c', accessToken);
    await own.currentScopes();
    await one.root.disableClient({ clientId: 'c' });
    one.clock.advance({ ms: MAX_AGE_MS });
    expect((await refusal(own.currentScopes())).message).toBe("Client with clientId 'c' is disabled");
    await one.root.deleteClient({ clientId: 'c' });
    one.clock.advance({ ms: MAX_AGE_MS });
    expect((await refusal(own.currentScopes())).message).toBe("Client with clientId 'c' not found");
  });

  test('knows of it at once when it looks', async () => {
    const { one, two, there } = await withTwo();
    const { accessToken } = await one.root.createClient({ clientId: 'c' }, spec(['auth:current-scopes', 'assume:r']));
    const own = there('c', accessToken);
    await own.currentScopes();
    await one.root.createRole({ roleId: 'r' }, { scopes: ['x'], description: '' });
    await one.root.updateRole({ roleId: 'r' }, { scopes: ['y'], description: '' });
    await followChanges.run(contextOf(two), 1);
    expect((await own.currentScopes()).scopes).toEqual(['assume:anonymous', 'assume:r', 'auth:current-scopes', 'y']);
    await one.root.deleteRole({ roleId: 'r' });
    await one.root.resetAccessToken({ clientId: 'c' });
    await followChanges.run(contextOf(two), 1);
    expect((await refusal(own.currentScopes())).message).toBe('Unauthorized: Bad mac');
    expect((await two.root.expandScopes({ scopes: ['assume:r'] })).scopes).toEqual(['assume:r']);
  });

  test('starts afresh when it has missed changes that are forgotten', async () => {
    const { one, two, there } = await withTwo();
    const { accessToken } = await one.root.createClient({ clientId: 'c' }, spec(['auth:current-scopes']));
    const own = there('c', accessToken);
    await own.currentScopes();
    await one.root.disableClient({ clientId: 'c' });
    await one.root.createRole({ roleId: 'r' }, { scopes: ['x'], description: '' });
    one.clock.advance({ hours: 2 });
    expect(await purgeChanges.run(contextOf(one), 1)).toBe(1);
    expect(await purgeChanges.run(contextOf(one), 1_000)).toBeGreaterThan(0);
    expect((await refusal(own.currentScopes())).message).toBe("Client with clientId 'c' is disabled");
    expect((await two.root.expandScopes({ scopes: ['assume:r'] })).scopes).toEqual(['assume:r', 'x']);
  });

  test('builds on the roles of the others: cycles over two processes are found, concurrent changes all count', async () => {
    const { one, two } = await withTwo();
    await one.root.createRole({ roleId: 'a' }, { scopes: ['assume:b'], description: '' });
    expect((await refusal(two.root.createRole({ roleId: 'b' }, { scopes: ['assume:a'], description: '' }))).message).toBe(
      "Roles may not contain dependency cycles, found: 'assume:b' -> 'assume:a' -> 'assume:b'",
    );
    await Promise.all(
      Array.from({ length: 20 }, (_, i) =>
        (i % 2 === 0 ? one : two).root.createRole({ roleId: `n${i}` }, { scopes: [`s${i}`], description: '' }),
      ),
    );
    one.clock.advance({ ms: MAX_AGE_MS });
    const scopes = ['assume:n*'];
    const expected = ['assume:n*', ...Array.from({ length: 20 }, (_, i) => `s${i}`).sort()];
    expect((await one.root.expandScopes({ scopes })).scopes).toEqual(expected);
    expect((await two.root.expandScopes({ scopes })).scopes).toEqual(expected);
    const versions = await one.db<{ version: number }>`select version from auth.changes order by version`;
    expect(versions.map(row => row.version)).toEqual(versions.map((_, i) => (versions[0]?.version ?? 0) + i));
  });
});

describe('the date of last use', () => {
  test('does not make others forget the client', async () => {
    const { one, two, there } = await withTwo();
    const { accessToken } = await one.root.createClient({ clientId: 'c' }, spec(['auth:current-scopes']));
    one.clock.advance({ hours: 12 });
    await there('c', accessToken).currentScopes();
    await two.server.services.get('auth')?.close?.();
    const [before] = await one.db<{ version: number }>`select version from platform.versions where name = 'auth'`;
    expect((await one.root.client({ clientId: 'c' })).lastDateUsed).toBe(one.clock.now().toISOString());
    const [after] = await one.db<{ version: number }>`select version from platform.versions where name = 'auth'`;
    expect(after).toEqual(before);
  });
});

describe('a client that changes while it is read', () => {
  test('is not remembered as it was', async () => {
    const { db } = await testDatabase();
    const server = await withAuth({ db });
    await server.root.createClient({ clientId: 'c' }, spec(['old']));
    let release: () => void = () => undefined;
    const held = new Promise<void>(resolve => {
      release = resolve;
    });
    // answers reads of clients only when it is told to
    const slow = Object.assign(
      async (strings: TemplateStringsArray, ...values: unknown[]): Promise<object[]> => {
        const rows = await db(strings, ...values);
        await held;
        return rows;
      },
      { run: db.run.bind(db) },
    ) as typeof db;
    const directory = new Directory({ db: slow, keyring: server.platform.keyring, clock: systemClock });
    const reading = directory.findClient('c');
    await db`select 1`;
    directory.clientsChanged(['c'], 1);
    release();
    expect((await reading)?.scopes).toEqual(['old']);
    expect(directory.cachedClient('c')).toBeUndefined();
    await directory.findClient('c');
    expect(directory.cachedClient('c')?.scopes).toEqual(['old']);
  });
});
