import { beforeAll, describe, expect, test } from 'vitest';
import type { AuthServer } from '../testing.ts';
import { refusal, withAuth } from '../testing.ts';

let server: AuthServer;
beforeAll(async () => {
  server = await withAuth();
});

const messages = async (): Promise<unknown[]> =>
  (await server.drain()).map(event => [event.exchange.split('/').at(-1), event.routingKey, event.payload]);
const history = async (roleId: string): Promise<string[]> =>
  (await server.root.getEntityHistory({ entityType: 'role', entityId: roleId })).auditHistory.map(
    entry => `${entry.actionType} by ${entry.clientId}`,
  );
const expand = async (...scopes: string[]): Promise<string[]> => (await server.root.expandScopes({ scopes })).scopes;

describe('createRole', () => {
  test('stores the scopes sorted, expands at once, and is announced', async () => {
    await server.drain();
    const now = server.clock.now().toISOString();
    const made = await server.root.createRole({ roleId: 'create:1' }, { scopes: ['c', 'b*', 'b1'], description: 'd' });
    expect(made).toEqual({
      roleId: 'create:1',
      scopes: ['b*', 'b1', 'c'],
      description: 'd',
      created: now,
      lastModified: now,
      expandedScopes: ['assume:create:1', 'b*', 'c'],
    });
    expect(await server.root.role({ roleId: 'create:1' })).toEqual(made);
    expect(await expand('assume:create:1')).toEqual(['assume:create:1', 'b*', 'c']);
    expect(await messages()).toEqual([['role-created', '_', { version: 1, roleId: 'create:1' }]]);
    expect(await history('create:1')).toEqual(['created by static/taskcluster/root']);
  });

  test('given again at any time with the same set of scopes gives the same role and announces it again', async () => {
    for (const roleId of ['create:2', 'create:2*']) {
      const first = await server.root.createRole({ roleId }, { scopes: ['x', 'y'], description: '' });
      server.clock.advance({ days: 100 });
      await server.drain();
      expect(await server.root.createRole({ roleId }, { scopes: ['y', 'x'], description: '' })).toEqual(first);
      expect(await messages()).toEqual([['role-created', '_', { version: 1, roleId }]]);
      expect(await refusal(server.root.createRole({ roleId }, { scopes: ['y'], description: '' }))).toEqual({
        status: 409,
        code: 'RequestConflict',
        message: `Role with roleId '${roleId}' already exists`,
      });
      expect((await refusal(server.root.createRole({ roleId }, { scopes: ['y', 'x'], description: 'd' }))).code).toBe('RequestConflict');
      expect(await messages()).toEqual([]);
    }
  });

  test('refuses two stars, then missing scopes, then conflicts, then cycles and malformed parameters', async () => {
    const cycle = { scopes: ['assume:create:3'], description: '' };
    expect(await refusal(server.stranger.createRole({ roleId: 'create:3' }, { scopes: ['**'], description: '' }))).toEqual({
      status: 400,
      code: 'InputError',
      message: 'scopes must not end with `**`',
    });
    expect((await refusal(server.stranger.createRole({ roleId: 'create:3' }, cycle))).status).toBe(403);
    await server.root.createRole({ roleId: 'create:4' }, { scopes: [], description: '' });
    expect((await refusal(server.root.createRole({ roleId: 'create:4' }, { scopes: ['assume:create:4'], description: '' }))).code).toBe(
      'RequestConflict',
    );
    await server.drain();
    expect(await refusal(server.root.createRole({ roleId: 'create:3' }, cycle))).toEqual({
      status: 400,
      code: 'InputError',
      message: "Roles may not contain dependency cycles, found: 'assume:create:3' -> 'assume:create:3'",
    });
    expect((await refusal(server.root.createRole({ roleId: 'create:3*' }, { scopes: ['<..>a<..>'], description: '' }))).message).toBe(
      "parameterized scope '<..>a<..>' contains multiple '<..>'",
    );
    expect((await refusal(server.root.createRole({ roleId: 'create:3*' }, { scopes: ['a*<..>'], description: '' }))).message).toBe(
      "parameterized scope 'a*<..>' ends with '*<..>' which implies an ambiguous kleene",
    );
    expect((await refusal(server.root.role({ roleId: 'create:3' }))).status).toBe(404);
    expect(await messages()).toEqual([]);
    expect(await history('create:3')).toEqual([]);
  });

  test('needs the right to create it and every scope', async () => {
    const limited = await server.as('role/limited', ['auth:create-role:mine:*', 'x:*']);
    await limited.createRole({ roleId: 'mine:1' }, { scopes: ['x:1'], description: '' });
    expect((await refusal(limited.createRole({ roleId: 'mine:2' }, { scopes: ['x:1', 'y'], description: '' }))).message).toContain(
      '```\ny\n```',
    );
    expect((await refusal(limited.createRole({ roleId: 'other:2' }, { scopes: ['x:1'], description: '' }))).status).toBe(403);
  });

  test('finds a cycle through several roles that are created at the same time', async () => {
    const made = await Promise.allSettled(
      ['a', 'b', 'c'].map((name, i, names) =>
        server.root.createRole({ roleId: `ring:${name}` }, { scopes: [`assume:ring:${names[(i + 1) % 3]}`], description: '' }),
      ),
    );
    expect(made.map(outcome => outcome.status).sort()).toEqual(['fulfilled', 'fulfilled', 'rejected']);
  });

  test('takes any printable id', async () => {
    const roleId = "a b/c%2F<..>'*";
    const made = await server.root.createRole({ roleId }, { scopes: ['p:<..>'], description: '' });
    expect(made.expandedScopes).toEqual(["assume:a b/c%2F<..>'*", 'p:*']);
    expect(await server.root.role({ roleId })).toEqual(made);
    expect(await expand("assume:a b/c%2F<..>'q")).toEqual(["assume:a b/c%2F<..>'q", 'p:q']);
    await server.root.deleteRole({ roleId });
    expect((await refusal(server.root.role({ roleId }))).message).toBe('Role not found');
  });

  test('refuses a role whose expansion would have no end', async () => {
    for (let i = 20; i > 0; i -= 1) {
      const next = `assume:many${i + 1}:<..>`;
      await server.root.createRole({ roleId: `many${i}:*` }, { scopes: [`${next}a`, `${next}b`], description: '' });
    }
    const endless = /^these scopes expand to more than 100000 scopes/;
    expect((await refusal(server.root.expandScopes({ scopes: ['assume:many1:'] }))).message).toMatch(endless);
    const scopes = ['assume:many1:x'];
    expect((await refusal(server.root.createRole({ roleId: 'endless' }, { scopes, description: '' }))).message).toMatch(endless);
    const client = { expires: '2100-01-01T00:00:00Z', description: '', scopes };
    expect((await refusal(server.root.createClient({ clientId: 'endless' }, client))).message).toMatch(endless);
    // what has become endless later can still be seen and taken away
    await server.root.deleteRole({ roleId: 'many2:*' });
    await server.root.createRole({ roleId: 'endless' }, { scopes, description: '' });
    await server.root.createClient({ clientId: 'endless' }, client);
    await server.root.createRole({ roleId: 'many2:*' }, { scopes: ['assume:many3:<..>a', 'assume:many3:<..>b'], description: '' });
    expect((await server.root.role({ roleId: 'endless' })).expandedScopes).toEqual(['assume:endless']);
    expect((await server.root.listRoles()).map(role => role.roleId)).toContain('endless');
    expect((await server.root.disableClient({ clientId: 'endless' })).expandedScopes).toEqual(scopes);
  });

  test('refuses an id that no index could hold', async () => {
    const roleId = 'r'.repeat(2001);
    expect(await refusal(server.root.createRole({ roleId }, { scopes: [], description: '' }))).toEqual({
      status: 400,
      code: 'InputError',
      message: 'roleId has 2001 characters; at most 2000 are allowed',
    });
    expect((await refusal(server.root.deleteRole({ roleId }))).code).toBe('InputError');
    expect((await refusal(server.root.role({ roleId }))).code).toBe('ResourceNotFound');
  });
});

describe('updateRole', () => {
  test('replaces scopes and description', async () => {
    const made = await server.root.createRole({ roleId: 'update:1' }, { scopes: ['a'], description: '' });
    await server.drain();
    server.clock.advance({ seconds: 1 });
    const updated = await server.root.updateRole({ roleId: 'update:1' }, { scopes: ['c', 'b'], description: 'new' });
    expect(updated).toEqual({
      ...made,
      scopes: ['b', 'c'],
      description: 'new',
      lastModified: server.clock.now().toISOString(),
      expandedScopes: ['assume:update:1', 'b', 'c'],
    });
    expect(await expand('assume:update:1')).toEqual(['assume:update:1', 'b', 'c']);
    expect(await messages()).toEqual([['role-updated', '_', { version: 1, roleId: 'update:1' }]]);
    expect(await history('update:1')).toEqual(['created by static/taskcluster/root', 'updated by static/taskcluster/root']);
    expect((await server.root.updateRole({ roleId: 'update:1' }, { scopes: [], description: '' })).scopes).toEqual([]);
  });

  test('refuses two stars, absence, missing scopes, cycles, in this order', async () => {
    await server.root.createRole({ roleId: 'update:2' }, { scopes: ['a'], description: '' });
    expect((await refusal(server.stranger.updateRole({ roleId: 'update:none' }, { scopes: ['**'], description: '' }))).code).toBe(
      'InputError',
    );
    expect(await refusal(server.stranger.updateRole({ roleId: 'update:none' }, { scopes: ['a'], description: '' }))).toEqual({
      status: 404,
      code: 'ResourceNotFound',
      message: "Role with roleId 'update:none' not found",
    });
    const cycle = { scopes: ['assume:update:2'], description: '' };
    expect((await refusal(server.stranger.updateRole({ roleId: 'update:2' }, cycle))).status).toBe(403);
    expect((await refusal(server.root.updateRole({ roleId: 'update:2' }, cycle))).code).toBe('InputError');
    expect((await server.root.role({ roleId: 'update:2' })).scopes).toEqual(['a']);
  });

  test('needs only the scopes that the role did not give already, through other roles too', async () => {
    await server.root.createRole({ roleId: 'update:inner' }, { scopes: ['y'], description: '' });
    await server.root.createRole({ roleId: 'update:3' }, { scopes: ['k*', 'assume:update:inner'], description: '' });
    const limited = await server.as('role/updater', ['auth:update-role:update:3']);
    const updated = await limited.updateRole({ roleId: 'update:3' }, { scopes: ['k*', 'kb', 'y', 'assume:update:inner'], description: '' });
    expect(updated.scopes).toEqual(['assume:update:inner', 'k*', 'kb', 'y']);
    expect((await refusal(limited.updateRole({ roleId: 'update:3' }, { scopes: ['k*', 'z'], description: '' }))).message).toContain(
      '```\nz\n```',
    );
    // what was dropped has to be earned again
    await limited.updateRole({ roleId: 'update:3' }, { scopes: ['kb'], description: '' });
    expect((await refusal(limited.updateRole({ roleId: 'update:3' }, { scopes: ['k*'], description: '' }))).code).toBe(
      'InsufficientScopes',
    );
  });

  test('changes what its holders may do at once', async () => {
    await server.root.createRole({ roleId: 'update:4' }, { scopes: ['auth:current-scopes'], description: '' });
    const own = await server.as('role/holder', ['assume:update:4']);
    await own.currentScopes();
    await server.root.updateRole({ roleId: 'update:4' }, { scopes: [], description: '' });
    expect((await refusal(own.currentScopes())).code).toBe('InsufficientScopes');
  });
});

describe('deleteRole', () => {
  test('is announced and noted also when there is none', async () => {
    await server.root.createRole({ roleId: 'delete:1' }, { scopes: ['a'], description: '' });
    await server.drain();
    expect(await server.root.deleteRole({ roleId: 'delete:1' })).toBeUndefined();
    expect(await expand('assume:delete:1')).toEqual(['assume:delete:1']);
    await server.root.deleteRole({ roleId: 'delete:1' });
    expect(await messages()).toEqual([
      ['role-deleted', '_', { version: 1, roleId: 'delete:1' }],
      ['role-deleted', '_', { version: 1, roleId: 'delete:1' }],
    ]);
    expect((await history('delete:1')).slice(1)).toEqual(['deleted by static/taskcluster/root', 'deleted by static/taskcluster/root']);
    expect((await refusal(server.stranger.deleteRole({ roleId: 'delete:1' }))).status).toBe(403);
  });
});

describe('lists of roles', () => {
  test('are in the order of the protocol, whole without a limit, and paged by id with one', async () => {
    const own = await withAuth();
    const ids = ['b', 'A', 'a*', 'a-b', 'a', 'ab', '0'];
    for (const roleId of ids) {
      await own.root.createRole({ roleId }, { scopes: [`s:${roleId.replace('*', '')}`], description: '' });
    }
    const all = await own.root.listRoles();
    const order = ['0', 'a', 'a*', 'A', 'a-b', 'ab', 'b'];
    expect(all.map(role => role.roleId)).toEqual(order);
    expect(all[1]).toEqual(await own.root.role({ roleId: 'a' }));
    expect(await own.root.listRoles2()).toEqual({ roles: all });
    expect(await own.root.listRoles2({ limit: '0' })).toEqual({ roles: all });
    expect(await own.root.listRoleIds()).toEqual({ roleIds: order });
    const first = await own.root.listRoleIds({ limit: '3' });
    expect(first.roleIds).toEqual(order.slice(0, 3));
    // without a limit a token is checked but has no effect
    expect(await own.root.listRoleIds({ continuationToken: first.continuationToken })).toEqual({ roleIds: order });
    expect((await refusal(own.root.listRoleIds({ continuationToken: 'zzz' }))).code).toBe('InputError');
    // a page is not disturbed by what is deleted before it
    await own.root.deleteRole({ roleId: '0' });
    const second = await own.root.listRoleIds({ limit: '3', continuationToken: first.continuationToken });
    expect(second.roleIds).toEqual(order.slice(3, 6));
    const third = await own.root.listRoles2({ limit: '3', continuationToken: second.continuationToken });
    expect(third.roles.map(role => role.roleId)).toEqual(['b']);
    expect(third.continuationToken).toBeUndefined();
    expect((await own.root.listRoles2({ limit: '100000' })).roles.length).toBe(6);
    await own.close();
  });

  test('of the oldest kind take no query', async () => {
    const own = await withAuth();
    await own.root.createRole({ roleId: 'anonymous' }, { scopes: ['auth:list-roles'], description: '' });
    const ask = async (path: string) => (await own.fetch(`${own.rootUrl}/api/auth/v1${path}`)).status;
    expect([await ask('/roles/'), await ask('/roles/?limit=1'), await ask('/roles2/?limit=1')]).toEqual([200, 400, 200]);
  });
});
