/** What a refused caller is told: which scopes are missing, and where they could be granted. */
import type { AddressInfo } from 'node:net';
import taskcluster from 'taskcluster-client';
import type { PublicClient } from 'taskcluster-client';
import { authApi } from '@tscluster/api/auth/api.ts';
import { defineApi, type ScopeTemplate } from '@tscluster/api/define.ts';
import { object, schema, set, string, boolean } from '@tscluster/api/schema.ts';
import { beforeAll, describe, expect, test } from 'vitest';
import { type Service, serve } from '../../platform/service.ts';
import { presentClock } from '../../testing/clock.ts';
import { withServer } from '../../testing/server.ts';
import { auth } from './service.ts';
import { FUTURE, ROOT } from './testing.ts';

const words = { title: 'Guarded', description: 'Answers whoever may.', category: 'C', stability: 'stable' } as const;
const input = schema('guarded', 'input', { title: 'Input' }, object({ wide: boolean(), names: set(string()), levels: set(string()) }));
const mixed = {
  AllOf: [
    'g:base',
    { if: 'wide', then: { AnyOf: [{ for: 'level', in: 'levels', each: 'g:level:<level>' }] }, else: 'g:narrow' },
    { for: 'name', in: 'names', each: 'g:name:<name>' },
  ],
} as const satisfies ScopeTemplate;
const guardedApi = defineApi({
  service: 'guarded',
  version: 'v1',
  title: 'Guarded',
  description: 'For tests of refusals',
  methods: {
    mixed: { ...words, method: 'post', route: '/mixed', scopes: mixed, input },
    either: {
      ...words,
      method: 'get',
      route: '/either/<id>',
      scopes: { AnyOf: [{ AllOf: ['g:one:<id>', 'g:two:<id>'] }, 'g:single:<id>', 'g:other:<id>'] },
    },
  },
});
const guarded: Service = {
  name: 'guarded',
  settings: {},
  start: () => ({
    apis: [
      serve(
        guardedApi,
        {
          mixed: async ({ body: { wide, names, levels }, authorize }) => authorize({ wide, names, levels }),
          either: async () => undefined,
        },
        {},
      ),
    ],
  }),
};

interface Credentials {
  readonly clientId: string;
  readonly accessToken: string;
  readonly certificate?: string;
}
type Public = PublicClient<keyof (typeof authApi)['methods']>;
interface Refusal {
  readonly code: string;
  readonly message: string;
  readonly details: Record<string, unknown>;
  readonly requestInfo: { readonly method: string };
}

const start = async () => {
  const server = await withServer([auth, guarded], { split: false, clock: presentClock() });
  const root = server.client(authApi, { credentials: ROOT });
  const make = async (clientId: string, scopes: string[]): Promise<Credentials> => {
    const { accessToken } = await root.createClient({ clientId }, { expires: FUTURE, description: '', scopes });
    return { clientId, accessToken };
  };
  const post = async (credentials: Credentials | null, body: { wide?: boolean; names?: string[]; levels?: string[] }): Promise<Refusal> => {
    const client = server.client(guardedApi, credentials === null ? { scopes: null } : { credentials: { ...credentials } });
    return client.mixed({ wide: false, names: [], levels: [], ...body }).then(
      () => expect.unreachable('it was not refused'),
      (error: { body: Refusal }) => error.body,
    );
  };
  return { server, root, make, post };
};

/** The text of a message above its footer, without what the protocol has: the last paragraph. */
const advice = ({ message }: Refusal): string => message.split('\n\n---\n\n')[0]?.split('```\n\n').at(-1) ?? '';

let here: Awaited<ReturnType<typeof start>>;
beforeAll(async () => {
  here = await start();
});

describe('a refusal', () => {
  test('names the fewest scopes that would do, of an expression with conditions and lists', async () => {
    const caller = await here.make('r/mixed', ['g:name:a', 'g:n*x']);
    expect((await here.post(caller, { names: ['a', 'b', 'c'] })).details).toEqual({
      missingScopes: ['g:base', 'g:name:b', 'g:name:c', 'g:narrow'],
      grantTo: { clientId: 'r/mixed', roleIds: [] },
    });
    // what a list makes stands with the strongest first, and the weakest is proposed
    const wide = await here.post(caller, { wide: true, levels: ['high', 'medium', 'low'], names: ['a'] });
    expect(wide.details).toMatchObject({
      missingScopes: ['g:base', 'g:level:low'],
      alternatives: [
        ['g:base', 'g:level:medium'],
        ['g:base', 'g:level:high'],
      ],
    });
    expect(wide.message).toContain('"AnyOf": [\n        "g:level:high",\n        "g:level:medium",\n        "g:level:low"');
    const impossible = await here.post(caller, { wide: true });
    expect(impossible.details).toEqual({});
    expect(advice(impossible)).toBe('No scopes would do.');
  });

  test('keeps what the protocol has, and adds a paragraph', async () => {
    await here.root.createRole({ roleId: 'r-team' }, { scopes: ['g:name:team'], description: '' });
    const caller = await here.make('r/text', ['assume:r-team', 'auth:get-role:r-*', 'g:narrow']);
    const { code, message, requestInfo } = await here.post(caller, { names: ['team', 'b'] });
    expect({ code, method: requestInfo.method }).toEqual({ code: 'InsufficientScopes', method: 'mixed' });
    expect(message.split('\n\n---\n\n')[0]).toBe(
      [
        'Client ID r/text does not have sufficient scopes and is missing the following scopes:',
        '```\n{\n  "AllOf": [\n    "g:base",\n    "g:name:b"\n  ]\n}\n```',
        'This request requires the client to satisfy the following scope expression:',
        '```\n{\n  "AllOf": [\n    "g:base",\n    "g:narrow",\n    "g:name:team",\n    "g:name:b"\n  ]\n}\n```',
        'The least that would do is `g:base`, `g:name:b`. It can be granted to the client `r/text`, or to the role `r-team`.',
      ].join('\n\n'),
    );
  });

  test('chooses the smallest alternative, as one call sees it', async () => {
    const caller = await here.make('r/either', []);
    const either = async (id: string) =>
      here.server
        .client(guardedApi, { credentials: { ...caller } })
        .either({ id })
        .then(
          () => expect.unreachable(),
          (error: { body: Refusal }) => error.body.details,
        );
    expect(await either('x')).toMatchObject({ missingScopes: ['g:single:x'], alternatives: [['g:other:x']] });
    await here.root.updateClient({ clientId: 'r/either' }, { expires: FUTURE, description: '', scopes: ['g:one:*'] });
    expect(await either('x')).toMatchObject({ missingScopes: ['g:two:x'], alternatives: [['g:single:x'], ['g:other:x']] });
  });

  test('without credentials proposes nobody to grant to', async () => {
    const refused = await here.post(null, { names: ['a'] });
    expect(refused.details).toEqual({ missingScopes: ['g:base', 'g:name:a', 'g:narrow'] });
    expect(refused.message).toMatch(
      /^This request requires Taskcluster credentials that satisfy the following scope expression:\n\n```\n{[^`]*```\n\n---\n\n/,
    );
  });

  test('names of roles those that the caller may know, and never everybody’s', async () => {
    await here.root.createRole({ roleId: 'r-inner' }, { scopes: ['r:inner'], description: '' });
    await here.root.createRole({ roleId: 'r-outer:*' }, { scopes: ['assume:r-inner', 'r:<..>'], description: '' });
    const roles = async (clientId: string, ...scopes: string[]): Promise<unknown> =>
      (await here.post(await here.make(clientId, ['assume:r-outer:x', 'assume:r-many-*', ...scopes]), {})).details['grantTo'];
    expect(await roles('r/blind')).toEqual({ clientId: 'r/blind', roleIds: [] });
    expect(await roles('r/current', 'auth:current-scopes')).toEqual({ clientId: 'r/current', roleIds: ['r-inner', 'r-outer:x'] });
    expect(await roles('r/list', 'auth:list-roles')).toEqual({ clientId: 'r/list', roleIds: ['r-inner', 'r-outer:x'] });
    expect(await roles('r/one', 'auth:get-role:r-outer:x')).toEqual({ clientId: 'r/one', roleIds: ['r-outer:x'] });
    const many = await roles('r/many', 'auth:current-scopes', ...Array.from({ length: 30 }, (_, i) => `assume:r-0${i}`));
    expect((many as { roleIds: string[] }).roleIds).toHaveLength(20);
  });

  test('does not propose the client where its scopes would not reach the request', async () => {
    const issuer = await here.make('r/issuer', ['assume:r-team', 'auth:*', 'g:base']);
    const temporary = taskcluster.createTemporaryCredentials({
      start: new Date(here.server.clock.nowMs() - 1000),
      expiry: new Date(here.server.clock.nowMs() + 60_000),
      credentials: issuer,
      clientId: 'r/named',
      scopes: ['assume:r-team', 'auth:current-scopes'],
    }) as Credentials;
    const refused = await here.post(temporary, { names: ['team'] });
    expect(refused.details).toEqual({
      missingScopes: ['g:base', 'g:narrow'],
      grantTo: { roleIds: ['r-team'] },
      limitedBy: 'certificate',
    });
    expect(advice(refused)).toBe(
      'The least that would do is `g:base`, `g:narrow`. It can be granted to the role `r-team`. The credentials are temporary: what they may do was said when they were made.',
    );
  });

  test('knows limited requests and signed links', async () => {
    await here.server.server.app.listen({ port: 0, host: '127.0.0.1' });
    const rootUrl = `http://127.0.0.1:${(here.server.server.app.server.address() as AddressInfo).port}`;
    const credentials = await here.make('r/public', ['auth:*']);
    const limited: Public = new taskcluster.Auth({ rootUrl, credentials, retries: 0, authorizedScopes: ['auth:get-role:*'] });
    const error = (await limited.currentScopes().catch((failure: unknown) => failure)) as { body: Refusal };
    expect(error.body.details).toEqual({ missingScopes: ['auth:current-scopes'], grantTo: { roleIds: [] }, limitedBy: 'authorizedScopes' });
    expect(advice(error.body)).toBe('The least that would do is `auth:current-scopes`. The request is limited to its `authorizedScopes`.');
    const plain: Public = new taskcluster.Auth({ rootUrl, credentials: await here.make('r/plain', []), retries: 0 });
    const signed = async (client: Public): Promise<Refusal> =>
      (await (await fetch(client.buildSignedUrl(client.currentScopes, { expiration: 60 }))).json()) as Refusal;
    expect((await signed(plain)).details).toEqual({
      missingScopes: ['auth:current-scopes'],
      grantTo: { clientId: 'r/plain', roleIds: [] },
    });
    expect((await signed(limited)).details).toMatchObject({ limitedBy: 'authorizedScopes' });
  });

  test('of credentials that are not valid says nothing of scopes', async () => {
    const refused = await here.post({ clientId: 'r/nobody', accessToken: 'a'.repeat(44) }, {});
    expect(refused.code).toBe('AuthenticationFailed');
    expect(refused.details).toBeUndefined();
  });
});
