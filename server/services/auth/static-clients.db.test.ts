import { expect, test } from 'vitest';
import { authApi } from '@tscluster/api/auth/api.ts';
import { testDatabase } from '../../testing/template.ts';
import { BUILT_IN_CLIENTS } from './static-clients.ts';
import { refusal, withAuth } from './testing.ts';

const accessToken = 'static-token-0123456789';
const configured = (...clients: object[]): { environment: Record<string, string> } => ({
  environment: { STATIC_CLIENTS: JSON.stringify(clients) },
});

test('every start makes the database agree with the configuration', async () => {
  const { db } = await testDatabase();
  const first = await withAuth({ db, ...configured({ clientId: 'static/a', accessToken, description: 'one', scopes: ['z', 'y'] }) });
  const { clients } = await first.root.listClients({ prefix: 'static/' });
  expect(clients.length).toBe(Object.keys(BUILT_IN_CLIENTS).length + 1);
  const a = await first.root.client({ clientId: 'static/a' });
  expect(a).toMatchObject({ scopes: ['y', 'z'], disabled: false, deleteOnExpiration: false });
  expect(a.description).toMatch(/^one\n\n---\n.*static client/);
  expect(new Date(a.expires).getTime() - first.clock.nowMs()).toBe(1000 * 365 * 24 * 3600 * 1000);
  expect((await first.root.client({ clientId: 'static/taskcluster/queue' })).scopes).toEqual(['*']);
  const own = first.client(authApi, { credentials: { clientId: 'static/a', accessToken } });
  expect((await refusal(own.currentScopes())).code).toBe('InsufficientScopes');
  await first.close();

  // nothing to do: nothing is changed
  const second = await withAuth({
    db,
    clock: first.clock,
    ...configured({ clientId: 'static/a', accessToken, description: 'one', scopes: ['z', 'y'] }),
  });
  expect(await second.root.client({ clientId: 'static/a' })).toEqual(a);
  await second.root.createClient({ clientId: 'other' }, { expires: a.expires, description: '', scopes: [] });
  await second.close();

  const third = await withAuth({
    db,
    clock: first.clock,
    ...configured({ clientId: 'static/b', accessToken: `${accessToken}b`, description: 'two', scopes: [] }),
  });
  expect((await refusal(third.root.client({ clientId: 'static/a' }))).code).toBe('ResourceNotFound');
  expect((await third.root.client({ clientId: 'static/b' })).description).toMatch(/^two\n/);
  expect((await third.root.client({ clientId: 'other' })).clientId).toBe('other');
  await third.close();

  third.clock.advance({ minutes: 1 });
  const fourth = await withAuth({
    db,
    clock: first.clock,
    ...configured({ clientId: 'static/b', accessToken, description: 'two', scopes: ['auth:current-scopes'] }),
  });
  const b = await fourth.root.client({ clientId: 'static/b' });
  expect(b.lastRotated).toBe(first.clock.now().toISOString());
  const again = fourth.client(authApi, { credentials: { clientId: 'static/b', accessToken } });
  expect((await again.currentScopes()).scopes).toContain('auth:current-scopes');
  await fourth.close();
});

test('a mistake in the configuration ends the start', async () => {
  await expect(withAuth(configured({ clientId: 'static/a', accessToken: 'short', description: '', scopes: [] }))).rejects.toThrow(
    'STATIC_CLIENTS static/a needs an accessToken of 22 to 66 letters, digits, - and _',
  );
});
