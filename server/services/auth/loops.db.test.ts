import { beforeAll, describe, expect, test } from 'vitest';
import type { AuthContext } from './context.ts';
import { purgeAuditHistory, purgeExpiredClients } from './loops.ts';
import type { AuthServer } from './testing.ts';
import { refusal, withAuth } from './testing.ts';

let server: AuthServer;
let ctx: AuthContext;
beforeAll(async () => {
  server = await withAuth();
  ctx = server.server.services.get('auth')?.apis?.[0]?.ctx as AuthContext;
});

describe('purgeExpiredClients', () => {
  test('deletes expired clients that are to be deleted, in batches, notes it, and announces nothing', async () => {
    const at = (ms: number): string => new Date(server.clock.nowMs() + ms).toISOString();
    const make = (clientId: string, expires: string, deleteOnExpiration: boolean): Promise<unknown> =>
      server.root.createClient({ clientId }, { expires, description: '', deleteOnExpiration });
    await make('gone/1', at(1000), true);
    await make('gone/2', at(500), true);
    await make('gone/3', at(2000), true);
    await make('stays/not-to-be-deleted', at(1000), false);
    await make('stays/not-expired', at(3001), true);
    await make('stays/just-now', at(3000), true);
    server.clock.advance({ seconds: 3 });
    await server.drain();
    expect(await purgeExpiredClients.run(ctx, 2)).toBe(2);
    expect(await purgeExpiredClients.run(ctx, 2)).toBe(1);
    expect(await purgeExpiredClients.run(ctx, 2)).toBe(0);
    const { clients } = await server.root.listClients();
    expect(clients.map(client => client.clientId).filter(id => !id.startsWith('static/'))).toEqual([
      'stays/just-now',
      'stays/not-expired',
      'stays/not-to-be-deleted',
    ]);
    expect(await server.drain()).toEqual([]);
    expect((await server.root.getEntityHistory({ entityType: 'client', entityId: 'gone/1' })).auditHistory).toMatchObject([
      { actionType: 'created' },
      { actionType: 'expired', clientId: 'static/taskcluster/auth' },
    ]);
  });
});

describe('purgeAuditHistory', () => {
  test('forgets what is older than thirty days', async () => {
    await server.root.deleteRole({ roleId: 'h1' });
    server.clock.advance({ days: 30 });
    await server.root.deleteRole({ roleId: 'h2' });
    while ((await purgeAuditHistory.run(ctx, 3)) === 3) {
      // more is waiting
    }
    const history = async (roleId: string): Promise<number> =>
      (await server.root.getEntityHistory({ entityType: 'role', entityId: roleId })).auditHistory.length;
    expect(await history('h1')).toBe(1);
    server.clock.advance({ ms: 1 });
    await purgeAuditHistory.run(ctx, 1_000);
    expect(await history('h1')).toBe(0);
    expect(await history('h2')).toBe(1);
    expect((await refusal(server.root.role({ roleId: 'h2' }))).code).toBe('ResourceNotFound');
  });
});
