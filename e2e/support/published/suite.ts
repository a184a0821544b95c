/**
 * Every method that a published client library has is called through it, on one installation: with success, and refused for the reasons that it may have.
 * What was called is held against the library's own list in the end, so that none is forgotten.
 */
import { beforeAll, describe, expect, test } from 'vitest';
import { openMailServer } from '../../../server/testing/mail.ts';
import { startInstallation } from '../installation.ts';
import { type ServiceClient, type ServiceMethod, refusal } from '../official.ts';
import { authCalls } from './calls/auth.ts';
import { hooksCalls } from './calls/hooks.ts';
import { indexCalls } from './calls/index-tasks.ts';
import { notifyCalls } from './calls/notify.ts';
import { objectCalls } from './calls/object.ts';
import { purgeCacheCalls } from './calls/purge-cache.ts';
import { queueCalls } from './calls/queue.ts';
import { secretsCalls } from './calls/secrets.ts';
import { type Clients, type Library, SERVICES, type Service, type Under, call, method } from './library.ts';

/** They need an account with somebody else, which this installation does not have: 404 says so. */
const NOT_CONFIGURED = [
  'awsS3Credentials',
  'azureTables',
  'azureTableSAS',
  'azureContainers',
  'azureContainerSAS',
  'sentryDSN',
  'gcpCredentials',
  'githubRepoToken',
].map(name => `auth.${name}`);
/** They answer everybody, whoever asks and however. */
const OPERATIONAL = ['ping', 'lbheartbeat', 'version', 'heartbeat'];
/** It tells who somebody else is. */
const CHECKS_OTHERS = 'auth.authenticateHawk';
/** Everybody may: they are POST only because of what is asked for in the body, or bring their own token. */
const OPEN_POSTS = [
  CHECKS_OTHERS,
  'auth.expandScopes',
  'auth.testAuthenticate',
  'queue.tasks',
  'queue.statuses',
  'index.findTasksAtIndex',
  'hooks.triggerHookWithToken',
];

export interface Differences {
  /** Published methods that the protocol has no more, or not yet; the server says that it does not know them. */
  readonly unknown: readonly string[];
}

/** @param open starts the library; it is closed in the end */
export const describeLibrary = (open: () => Promise<Library>, { unknown }: Differences): void => {
  /** Arguments with which each method has succeeded, or would have with an account elsewhere. */
  const succeeded = new Map<string, unknown[]>();
  const refused = new Map<string, Set<number>>();
  // every test reads it when it runs
  const under = {} as { -readonly [K in keyof Under]: Under[K] };

  /** The same client, noting which methods succeed and which are refused. */
  const noting = (service: Service, client: ServiceClient): ServiceClient =>
    new Proxy(client, {
      get: (target, name: string) => {
        const found = target[name];
        if (typeof found !== 'function' || found.entryReference === undefined) {
          return found;
        }
        const key = `${service}.${name}`;
        const noted = (...args: unknown[]): Promise<unknown> =>
          found.apply(target, args).then(
            (value: unknown) => {
              succeeded.set(key, args);
              return value;
            },
            (error: { statusCode?: number }) => {
              if (error.statusCode === 404 && NOT_CONFIGURED.includes(key)) {
                succeeded.set(key, args);
              }
              if (error.statusCode !== undefined) {
                refused.set(key, (refused.get(key) ?? new Set()).add(error.statusCode));
              }
              throw error;
            },
          );
        return Object.assign(noted, { entryReference: found.entryReference });
      },
    });
  const notingAll = (clients: Clients): Clients =>
    Object.fromEntries(SERVICES.map(service => [service, noting(service, clients[service])])) as Record<Service, ServiceClient>;

  beforeAll(async () => {
    under.mail = await openMailServer();
    under.installation = await startInstallation({
      env: { WEBSOCKTUNNEL_SECRET: 'shared-with-a-tunnel', SMTP_URL: under.mail.url, EMAIL_SOURCE_ADDRESS: 'tc@example.com' },
    });
    const library = await open();
    const { installation } = under;
    const { credentials } = installation;
    under.library = library;
    under.connect = given => notingAll(library.connect(installation, given));
    under.root = under.connect(credentials);
    under.nobody = notingAll(library.connect(installation));
    under.impostor = under.connect({ clientId: credentials.clientId, accessToken: 'B'.repeat(44) });
    return () => library.close();
  });

  const published = (): { service: Service; name: string; entry: ServiceMethod['entryReference'] }[] =>
    SERVICES.flatMap(service =>
      under.library
        .methods(under.root[service])
        .filter(({ name }) => !unknown.includes(`${service}.${name}`))
        .map(entry => ({ service, name: entry.name, entry })),
    );

  test.each(SERVICES)('operational methods of %s answer', async service => {
    const client = under.root[service];
    expect(await call(client, 'ping')).toMatchObject({ alive: true, uptime: expect.any(Number) });
    expect(await call(client, 'lbheartbeat')).toEqual({});
    expect(await call(client, 'heartbeat')).toEqual({});
    expect(await call(client, 'version')).toMatchObject({ version: expect.any(String), commit: expect.any(String) });
  });

  for (const describeCalls of [authCalls, queueCalls, objectCalls, indexCalls, purgeCacheCalls, hooksCalls, secretsCalls, notifyCalls]) {
    describeCalls(under);
  }

  /** Methods that have something to check, with arguments that are right. */
  const checked = (): { service: Service; name: string; args: unknown[]; entry: ServiceMethod['entryReference'] }[] =>
    published()
      .filter(({ service, name }) => !OPERATIONAL.includes(name) && `${service}.${name}` !== CHECKS_OTHERS)
      .map(each => ({ ...each, args: succeeded.get(`${each.service}.${each.name}`) ?? [] }));

  /** How methods answer a caller, by `<status> <code>`; what the calls have made may be gone, and then it is said first that it is. */
  const answersTo = async (clients: Clients, methods: ReturnType<typeof checked>): Promise<Map<string, string[]>> => {
    const answers = new Map<string, string[]>();
    for (const { service, name, args } of methods) {
      const { statusCode, code } = await refusal(call(clients[service], name, ...args));
      answers.set(`${statusCode} ${code}`, [...(answers.get(`${statusCode} ${code}`) ?? []), `${service}.${name}`]);
    }
    const gone = answers.get('404 ResourceNotFound') ?? [];
    answers.delete('404 ResourceNotFound');
    expect(gone.length, gone.join()).toBeLessThan(methods.length / 3);
    return answers;
  };

  test('whoever has a wrong token is refused by every method', async () => {
    const methods = checked();
    expect(methods.length).toBeGreaterThan(100);
    expect([...(await answersTo(under.impostor, methods))].filter(([answer]) => answer !== '401 AuthenticationFailed')).toEqual([]);
  });

  test('whoever has no credentials is refused by every method that changes or hands out something', async () => {
    const methods = checked().filter(({ service, name, entry }) => entry.method !== 'get' && !OPEN_POSTS.includes(`${service}.${name}`));
    expect(methods.length).toBeGreaterThan(40);
    expect([...(await answersTo(under.nobody, methods))].filter(([answer]) => answer !== '403 InsufficientScopes')).toEqual([]);
  });

  test('methods that the protocol does not have are not known', async () => {
    for (const each of unknown) {
      const [service, name] = each.split('.') as [Service, string];
      const { args, input } = method(under.root[service], name).entryReference;
      const answer = await refusal(call(under.root[service], name, ...args.map(() => 'e2e'), ...(input === undefined ? [] : [{}])));
      expect(answer.statusCode).toBe(404);
    }
  });

  describe('no method of the library', () => {
    const names = (): string[] => published().map(({ service, name }) => `${service}.${name}`);

    test('was left out', () => {
      expect(names().length).toBeGreaterThan(130);
      expect(names().filter(name => !succeeded.has(name))).toEqual([]);
    });

    test('was not refused, for a reason of its own', () => {
      const isRefused = (name: string): boolean => [...(refused.get(name) ?? [])].some(status => status !== 401 && status < 500);
      const withoutReason = ['hooks.listHookGroups', ...SERVICES.flatMap(service => OPERATIONAL.map(name => `${service}.${name}`))];
      const own401 = ['auth.testAuthenticateGet', 'auth.currentScopes', 'auth.listRoles', 'hooks.triggerHookWithToken'];
      expect(names().filter(name => !isRefused(name) && !withoutReason.includes(name) && !own401.includes(name))).toEqual([]);
    });
  });
};
