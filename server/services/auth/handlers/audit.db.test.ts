import { beforeAll, expect, test } from 'vitest';
import type { AuthServer } from '../testing.ts';
import { refusal, withAuth } from '../testing.ts';

let server: AuthServer;
beforeAll(async () => {
  server = await withAuth();
});

test('the history of a thing is paged, the oldest first', async () => {
  const times: string[] = [];
  for (let i = 0; i < 5; i += 1) {
    times.push(server.clock.now().toISOString());
    await server.root.deleteRole({ roleId: 'paged' });
    server.clock.advance({ seconds: 1 });
  }
  const which = { entityType: 'role', entityId: 'paged' };
  const all = await server.root.getEntityHistory(which);
  expect(all).toEqual({
    auditHistory: times.map(created => ({
      clientId: 'static/taskcluster/root',
      actionType: 'deleted',
      created,
      entityId: 'paged',
      entityType: 'role',
    })),
  });
  const walked: unknown[] = [];
  let page: Awaited<ReturnType<typeof server.root.getEntityHistory>> | undefined;
  do {
    page = await server.root.getEntityHistory(which, {
      limit: '2',
      ...(page?.continuationToken && { continuationToken: page.continuationToken }),
    });
    walked.push(...page.auditHistory);
  } while (page.continuationToken);
  expect(walked).toEqual(all.auditHistory);
  expect(await server.root.getEntityHistory(which, { limit: '0' })).toEqual({ auditHistory: [] });
  expect((await refusal(server.root.getEntityHistory(which, { continuationToken: 'a!c' }))).code).toBe('InputError');
  // of letters alone, it may come from elsewhere
  expect(await server.root.getEntityHistory(which, { continuationToken: 'abc' })).toEqual(all);
});

test('what never existed has none; what has no history is refused', async () => {
  expect(await server.root.getEntityHistory({ entityType: 'worker-pool', entityId: 'a/b' })).toEqual({ auditHistory: [] });
  expect((await refusal(server.root.getEntityHistory({ entityType: 'role', entityId: 'nul\0' }))).code).toBe('InvalidRequestArguments');
  expect((await refusal(server.root.getEntityHistory({ entityType: 'task', entityId: 'x' }))).code).toBe('InvalidRequestArguments');
  expect((await refusal(server.stranger.getEntityHistory({ entityType: 'task', entityId: 'x' }))).code).toBe('InsufficientScopes');
});

test('what a client did, whatever it was', async () => {
  const own = await server.as('actor', ['auth:create-role:by-actor', 'auth:delete-client:*']);
  await own.createRole({ roleId: 'by-actor' }, { scopes: [], description: '' });
  await own.deleteClient({ clientId: 'no-such-client' });
  const { auditHistory } = await server.root.listAuditHistory({ clientId: 'actor' });
  expect(auditHistory.map(entry => [entry.entityType, entry.entityId, entry.actionType])).toEqual([
    ['role', 'by-actor', 'created'],
    ['client', 'no-such-client', 'deleted'],
  ]);
  const paged = await server.root.listAuditHistory({ clientId: 'actor' }, { limit: '1' });
  expect(paged.auditHistory).toEqual(auditHistory.slice(0, 1));
  expect((await refusal(own.listAuditHistory({ clientId: 'actor' }))).code).toBe('InsufficientScopes');
});

test('a refused call leaves none', async () => {
  await refusal(server.root.createRole({ roleId: 'self' }, { scopes: ['assume:self'], description: '' }));
  await refusal(server.root.disableClient({ clientId: 'nobody' }));
  expect((await server.root.getEntityHistory({ entityType: 'role', entityId: 'self' })).auditHistory).toEqual([]);
  expect((await server.root.getEntityHistory({ entityType: 'client', entityId: 'nobody' })).auditHistory).toEqual([]);
});
