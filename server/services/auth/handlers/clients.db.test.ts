import { beforeAll, describe, expect, test } from 'vitest';
import { authApi } from '@tscluster/api/auth/api.ts';
import type { AuthServer } from '../testing.ts';
import { FUTURE, refusal, withAuth } from '../testing.ts';

let server: AuthServer;
beforeAll(async () => {
  server = await withAuth();
});

const given = { expires: FUTURE, description: 'a client', scopes: ['b', 'a*', 'a:x'] };
const exchange = (name: string): string => `exchange/taskcluster-auth/v1/${name}`;
const messages = async (): Promise<unknown[]> =>
  (await server.drain()).map(event => [event.exchange.split('/').at(-1), event.routingKey, event.cc, event.payload]);
const history = async (clientId: string): Promise<string[]> =>
  (await server.root.getEntityHistory({ entityType: 'client', entityId: clientId })).auditHistory.map(
    entry => `${entry.actionType} by ${entry.clientId}`,
  );

describe('createClient', () => {
  test('answers with the client, announces it, and the token works', async () => {
    const now = server.clock.now().toISOString();
    await server.drain();
    const made = await server.root.createClient({ clientId: 'create/1' }, given);
    expect(made).toEqual({
      clientId: 'create/1',
      description: 'a client',
      expires: FUTURE,
      created: now,
      lastModified: now,
      lastDateUsed: now,
      lastRotated: now,
      deleteOnExpiration: false,
      // sorted, but nothing is dropped
      scopes: ['a*', 'a:x', 'b'],
      expandedScopes: ['a*', 'b'],
      disabled: false,
      accessToken: expect.stringMatching(/^[A-Za-z0-9_-]{44}$/) as string,
    });
    expect(await server.drain()).toMatchObject([
      { exchange: exchange('client-created'), routingKey: '_', cc: [], payload: { version: 1, clientId: 'create/1' } },
    ]);
    expect(await history('create/1')).toEqual(['created by static/taskcluster/root']);
    const { accessToken, ...client } = made;
    expect(await server.root.client({ clientId: 'create/1' })).toEqual(client);
    const own = server.client(authApi, { credentials: { clientId: 'create/1', accessToken } });
    // `a*` covers `auth:current-scopes`
    expect((await own.currentScopes()).scopes).toEqual(['a*', 'b']);
    const [row] = await server.db<{ accessToken: string; scopes: string[] }>`
      select access_token, scopes from auth.clients where client_id = 'create/1'`;
    expect(row?.accessToken).toMatch(/^v1:test:/);
    expect(row?.scopes).toEqual(['b', 'a*', 'a:x']);
  });

  test('given again within 15 minutes gives the same client and announces it again', async () => {
    const first = await server.root.createClient({ clientId: 'create/2' }, given);
    await server.drain();
    server.clock.advance({ minutes: 15 });
    const again = await server.root.createClient({ clientId: 'create/2' }, { ...given, deleteOnExpiration: true });
    expect(again).toEqual(first);
    expect(await messages()).toEqual([['client-created', '_', [], { version: 1, clientId: 'create/2' }]]);
    expect(await history('create/2')).toEqual(['created by static/taskcluster/root', 'created by static/taskcluster/root']);
    server.clock.advance({ ms: 1 });
    expect(await refusal(server.root.createClient({ clientId: 'create/2' }, given))).toEqual({
      status: 409,
      code: 'RequestConflict',
      message: 'Client already exists',
    });
  });

  test('with anything else is a conflict, which changes and announces nothing', async () => {
    const first = await server.root.createClient({ clientId: 'create/3' }, given);
    await server.drain();
    for (const other of [
      { ...given, description: 'other' },
      { ...given, expires: '2100-01-01T00:00:00.001Z' },
      { ...given, scopes: ['a*', 'b', 'a:x'] },
      { expires: FUTURE, description: 'a client' },
    ]) {
      expect((await refusal(server.root.createClient({ clientId: 'create/3' }, other))).code).toBe('RequestConflict');
    }
    await server.root.disableClient({ clientId: 'create/3' });
    await server.drain();
    expect((await refusal(server.root.createClient({ clientId: 'create/3' }, given))).code).toBe('RequestConflict');
    expect(await messages()).toEqual([]);
    const { accessToken: _, ...client } = first;
    expect(await server.root.client({ clientId: 'create/3' })).toEqual({ ...client, disabled: true });
  });

  test('needs the right to create it and every scope', async () => {
    const limited = await server.as('create/limited', ['auth:create-client:mine/*', 'x:*']);
    await limited.createClient({ clientId: 'mine/1' }, { ...given, scopes: ['x:1', 'x:*'] });
    const refused = await refusal(limited.createClient({ clientId: 'mine/2' }, { ...given, scopes: ['x:1', 'y'] }));
    expect(refused).toMatchObject({ status: 403, code: 'InsufficientScopes' });
    expect(refused.message).toContain('missing the following scopes:\n\n```\ny\n```');
    expect((await refusal(limited.createClient({ clientId: 'others/1' }, { ...given, scopes: [] }))).code).toBe('InsufficientScopes');
    expect((await refusal(server.root.client({ clientId: 'mine/2' }))).code).toBe('ResourceNotFound');
  });

  test('refuses static ids first, then scopes with two stars, then missing scopes', async () => {
    const message =
      'clientId "static/x" starts with "static/" which is reserved for statically configured clients. Contact your administrator to change static clients.';
    const twoStars = { ...given, scopes: ['a**'] };
    expect(await refusal(server.stranger.createClient({ clientId: 'static/x' }, twoStars))).toEqual({
      status: 400,
      code: 'InputError',
      message,
    });
    expect(await refusal(server.stranger.createClient({ clientId: 'create/4' }, twoStars))).toEqual({
      status: 400,
      code: 'InputError',
      message: 'scopes must not end with `**`',
    });
    expect((await refusal(server.stranger.createClient({ clientId: 'create/4' }, given))).status).toBe(403);
    expect((await refusal(server.root.createClient({ clientId: 'a b' }, given))).code).toBe('InvalidRequestArguments');
    expect((await refusal(server.root.createClient({ clientId: 'create/4' }, { ...given, scopes: ['a', 'a'] }))).code).toBe(
      'InputValidationError',
    );
  });

  test('may be asked for a client that has expired already', async () => {
    const { accessToken } = await server.root.createClient(
      { clientId: 'create/old' },
      { expires: '2001-02-03T04:05:06.789999+01:00', description: '', scopes: ['*'] },
    );
    expect((await server.root.client({ clientId: 'create/old' })).expires).toBe('2001-02-03T03:05:06.789Z');
    const own = server.client(authApi, { credentials: { clientId: 'create/old', accessToken } });
    expect(await refusal(own.listClients())).toEqual({
      status: 401,
      code: 'AuthenticationFailed',
      message: "Client with clientId: 'create/old' has expired",
    });
  });

  test('refuses an id that no index could hold', async () => {
    const clientId = 'c'.repeat(2001);
    const message = 'clientId has 2001 characters; at most 2000 are allowed';
    expect(await refusal(server.root.createClient({ clientId }, given))).toEqual({ status: 400, code: 'InputError', message });
    expect((await refusal(server.root.deleteClient({ clientId }))).message).toBe(message);
    // the longest fits, as noise too, which does not compress
    const noise = Array.from({ length: 2000 }, (_, i) => 'abcdefghijklmnopqrstuvwxyz0123456789'[(i * i * 7 + i * 13 + (i >> 3)) % 36]).join(
      '',
    );
    expect((await server.root.createClient({ clientId: noise }, given)).clientId).toBe(noise);
    expect(await history(noise)).toEqual(['created by static/taskcluster/root']);
    await server.root.deleteClient({ clientId: noise });
  });

  test('two at once make one client', async () => {
    const [one, two] = await Promise.all([
      server.root.createClient({ clientId: 'create/twice' }, given),
      server.root.createClient({ clientId: 'create/twice' }, given),
    ]);
    expect(two).toEqual(one);
  });
});

describe('updateClient', () => {
  test('overwrites description, expiry and deleteOnExpiration, and the scopes if given', async () => {
    const { accessToken: _, ...made } = await server.root.createClient({ clientId: 'update/1' }, { ...given, deleteOnExpiration: true });
    await server.drain();
    server.clock.advance({ seconds: 1 });
    const expires = '2101-01-01T00:00:00.000Z';
    const updated = await server.root.updateClient({ clientId: 'update/1' }, { expires, description: 'new' });
    expect(updated).toEqual({
      ...made,
      expires,
      description: 'new',
      deleteOnExpiration: false,
      lastModified: server.clock.now().toISOString(),
    });
    expect((await server.root.updateClient({ clientId: 'update/1' }, { ...given, scopes: ['z', 'y'] })).scopes).toEqual(['y', 'z']);
    expect(await messages()).toEqual([
      ['client-updated', '_', [], { version: 1, clientId: 'update/1' }],
      ['client-updated', '_', [], { version: 1, clientId: 'update/1' }],
    ]);
    expect(await history('update/1')).toEqual([
      'created by static/taskcluster/root',
      'updated by static/taskcluster/root',
      'updated by static/taskcluster/root',
    ]);
  });

  test('needs the scopes that are not literally there', async () => {
    await server.root.createClient({ clientId: 'update/2' }, { ...given, scopes: ['keep', 'x*'] });
    const limited = await server.as('update/limited', ['auth:update-client:update/2']);
    expect((await limited.updateClient({ clientId: 'update/2' }, { ...given, scopes: ['x*'] })).scopes).toEqual(['x*']);
    const refused = await refusal(limited.updateClient({ clientId: 'update/2' }, { ...given, scopes: ['x*', 'x1'] }));
    expect(refused).toMatchObject({ status: 403, code: 'InsufficientScopes' });
    expect(refused.message).toContain('```\nx1\n```');
  });

  test('refuses static ids, two stars, absence, missing scopes, in this order', async () => {
    const twoStars = { ...given, scopes: ['**'] };
    expect((await refusal(server.stranger.updateClient({ clientId: 'static/x' }, twoStars))).message).toContain('reserved for statically');
    expect((await refusal(server.stranger.updateClient({ clientId: 'update/none' }, twoStars))).message).toBe(
      'scopes must not end with `**`',
    );
    expect(await refusal(server.stranger.updateClient({ clientId: 'update/none' }, given))).toEqual({
      status: 404,
      code: 'ResourceNotFound',
      message: 'Client not found',
    });
    expect((await refusal(server.stranger.updateClient({ clientId: 'update/1' }, given))).code).toBe('InsufficientScopes');
  });

  test('narrows a client at once', async () => {
    const own = await server.as('update/narrow', ['auth:current-scopes', 'q']);
    expect((await own.currentScopes()).scopes).toEqual(['assume:anonymous', 'auth:current-scopes', 'q']);
    await server.root.updateClient({ clientId: 'update/narrow' }, { ...given, scopes: ['auth:current-scopes'] });
    expect((await own.currentScopes()).scopes).toEqual(['assume:anonymous', 'auth:current-scopes']);
  });
});

describe('enableClient and disableClient', () => {
  test('take effect at once, and repeating them is harmless', async () => {
    const own = await server.as('disable/1', ['auth:current-scopes']);
    await own.currentScopes();
    await server.drain();
    expect((await server.root.disableClient({ clientId: 'disable/1' })).disabled).toBe(true);
    expect(await refusal(own.currentScopes())).toEqual({
      status: 401,
      code: 'AuthenticationFailed',
      message: "Client with clientId 'disable/1' is disabled",
    });
    expect((await server.root.disableClient({ clientId: 'disable/1' })).disabled).toBe(true);
    // an update leaves it disabled
    expect((await server.root.updateClient({ clientId: 'disable/1' }, { expires: FUTURE, description: '' })).disabled).toBe(true);
    expect((await server.root.enableClient({ clientId: 'disable/1' })).disabled).toBe(false);
    await own.currentScopes();
    expect((await messages()).map(message => (message as string[])[0])).toEqual(Array.from({ length: 4 }, () => 'client-updated'));
    expect(await history('disable/1')).toEqual(
      ['created', 'client disabled', 'client disabled', 'updated', 'client enabled'].map(action => `${action} by static/taskcluster/root`),
    );
  });

  test('are authorised before anything else is looked at', async () => {
    expect((await refusal(server.stranger.disableClient({ clientId: 'static/taskcluster/root' }))).status).toBe(403);
    expect((await refusal(server.root.disableClient({ clientId: 'static/taskcluster/root' }))).message).toContain(
      'reserved for statically',
    );
    expect((await refusal(server.root.enableClient({ clientId: 'disable/none' }))).message).toBe('Client not found');
    expect((await refusal(server.stranger.enableClient({ clientId: 'disable/none' }))).status).toBe(403);
  });
});

describe('resetAccessToken', () => {
  test('replaces the token at once, anew each time', async () => {
    const made = await server.root.createClient({ clientId: 'reset/1' }, { ...given, scopes: ['auth:current-scopes'] });
    const old = server.client(authApi, { credentials: { clientId: 'reset/1', accessToken: made.accessToken } });
    await old.currentScopes();
    await server.drain();
    server.clock.advance({ seconds: 5 });
    const reset = await server.root.resetAccessToken({ clientId: 'reset/1' });
    expect(reset.accessToken).toMatch(/^[A-Za-z0-9_-]{44}$/);
    expect(reset.accessToken).not.toBe(made.accessToken);
    expect(reset.lastRotated).toBe(server.clock.now().toISOString());
    expect(reset.created).toBe(made.created);
    expect((await refusal(old.currentScopes())).message).toBe('Unauthorized: Bad mac');
    const fresh = server.client(authApi, { credentials: { clientId: 'reset/1', accessToken: reset.accessToken } });
    await fresh.currentScopes();
    expect((await server.root.resetAccessToken({ clientId: 'reset/1' })).accessToken).not.toBe(reset.accessToken);
    expect((await messages()).map(message => (message as string[])[0])).toEqual(['client-updated', 'client-updated']);
    expect((await history('reset/1')).slice(1)).toEqual(
      ['access token reset', 'access token reset'].map(action => `${action} by static/taskcluster/root`),
    );
  });

  test('refuses static and unknown clients', async () => {
    expect((await refusal(server.root.resetAccessToken({ clientId: 'static/taskcluster/queue' }))).code).toBe('InputError');
    expect((await refusal(server.root.resetAccessToken({ clientId: 'reset/none' }))).code).toBe('ResourceNotFound');
  });
});

describe('deleteClient', () => {
  test('ends the client at once; also of what is not there it is announced and noted', async () => {
    const own = await server.as('delete/1', ['auth:current-scopes']);
    await own.currentScopes();
    await server.drain();
    expect(await server.root.deleteClient({ clientId: 'delete/1' })).toBeUndefined();
    expect((await refusal(own.currentScopes())).message).toBe("Client with clientId 'delete/1' not found");
    await server.root.deleteClient({ clientId: 'delete/1' });
    expect(await messages()).toEqual([
      ['client-deleted', '_', [], { version: 1, clientId: 'delete/1' }],
      ['client-deleted', '_', [], { version: 1, clientId: 'delete/1' }],
    ]);
    expect((await history('delete/1')).slice(1)).toEqual(['deleted by static/taskcluster/root', 'deleted by static/taskcluster/root']);
    expect((await refusal(server.root.deleteClient({ clientId: 'static/taskcluster/root' }))).code).toBe('InputError');
    expect((await refusal(server.stranger.deleteClient({ clientId: 'delete/1' }))).status).toBe(403);
  });
});

describe('listClients', () => {
  test('pages by id in the order of the protocol, by prefix', async () => {
    // the order of creation is none of these
    const ids = ['o.Zed', 'o.abc', 'o.a_b', 'o.Abc', 'o.ab', 'o.a-b'];
    for (const clientId of ids) {
      await server.root.createClient({ clientId }, { ...given, scopes: [] });
    }
    const all = await server.root.listClients({ prefix: 'o.' });
    expect(all.continuationToken).toBeUndefined();
    expect(all.clients.map(client => client.clientId)).toEqual(['o.a-b', 'o.a_b', 'o.ab', 'o.abc', 'o.Abc', 'o.Zed']);
    expect(all.clients[0]).toEqual(await server.root.client({ clientId: 'o.a-b' }));
    const walked: string[] = [];
    let continuationToken: string | undefined;
    do {
      const page = await server.root.listClients({ prefix: 'o.', limit: '2', ...(continuationToken && { continuationToken }) });
      expect(page.clients.length).toBeLessThanOrEqual(2);
      walked.push(...page.clients.map(client => client.clientId));
      // what is deleted behind and created before the present page changes nothing
      await server.root.deleteClient({ clientId: walked[0] as string });
      ({ continuationToken } = page);
    } while (continuationToken);
    expect(walked).toEqual(['o.a-b', 'o.a_b', 'o.ab', 'o.abc', 'o.Abc', 'o.Zed']);
  });

  test('without a prefix lists the static clients too; a limit of 0 gives an empty page', async () => {
    const { clients } = await server.root.listClients();
    expect(clients.map(client => client.clientId)).toContain('static/taskcluster/root');
    expect(await server.root.listClients({ limit: '0' })).toEqual({ clients: [] });
    expect((await refusal(server.root.listClients({ continuationToken: 'x!' }))).code).toBe('InputError');
    expect((await refusal(server.root.listClients({ prefix: 'a b' }))).code).toBe('InvalidRequestArguments');
  });
});

describe('the date of last use', () => {
  test('is written at the first use after six hours, once', async () => {
    const own = await server.as('used/1', ['auth:current-scopes']);
    const noted = async (): Promise<string> => {
      await server.server.services.get('auth')?.close?.();
      return (await server.root.client({ clientId: 'used/1' })).lastDateUsed;
    };
    const created = server.clock.now().toISOString();
    server.clock.advance({ hours: 6 });
    await own.currentScopes();
    expect(await noted()).toBe(created);
    server.clock.advance({ ms: 1 });
    await own.currentScopes();
    const used = server.clock.now().toISOString();
    expect(await noted()).toBe(used);
    server.clock.advance({ hours: 1 });
    await own.currentScopes();
    expect(await noted()).toBe(used);
  });

  test('is not moved by a request that fails', async () => {
    const { accessToken: _, ...made } = await server.root.createClient({ clientId: 'used/2' }, given);
    server.clock.advance({ hours: 7 });
    const wrong = server.client(authApi, { credentials: { clientId: 'used/2', accessToken: 'wrong' } });
    expect((await refusal(wrong.listClients())).message).toBe('Unauthorized: Bad mac');
    await server.server.services.get('auth')?.close?.();
    expect((await server.root.client({ clientId: 'used/2' })).lastDateUsed).toBe(made.lastDateUsed);
  });
});
