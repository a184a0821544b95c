/** What the tests of hooks share: an installation of auth, queue and hooks, whose loops run when the test says so. */
import { authApi } from '@tscluster/api/auth/api.ts';
import { hooksApi } from '@tscluster/api/hooks/api.ts';
import { queueApi } from '@tscluster/api/queue/api.ts';
import type { MethodInput } from '@tscluster/api/define.ts';
import { ApiCallError, type Client } from '@tscluster/client/client.ts';
import type { Api } from '@tscluster/api/define.ts';
import { expect } from 'vitest';
import type { Loop } from '../../platform/loop.ts';
import type { Service } from '../../platform/service.ts';
import { createTemporaryCredentials } from '../../platform/temporary-credentials.ts';
import { type TestServer, type WithServerOptions, withServer } from '../../testing/server.ts';
import { auth } from '../auth/service.ts';
import { queueService } from '../queue/service.ts';
import type { Ctx } from './ctx.ts';
import { fire } from './fire-loop.ts';
import { schedule } from './schedule-loop.ts';
import { contexts, hooksService } from './service.ts';

export type HookRequest = MethodInput<(typeof hooksApi)['methods']['createHook']>;
export type HooksClient = Client<typeof hooksApi>;

export const ROOT = { clientId: 'static/taskcluster/root', accessToken: 'token-of-root-0123456789abcdef' };
export const TASK_QUEUE = 'prov/wt';
/** What every hook of these tests may do. */
export const ROLE_SCOPES = [
  'queue:create-task:project:none',
  'queue:create-task:lowest:prov/wt',
  'queue:scheduler-id:-',
  'queue:route:index.*',
];

/** A template of a task that the queue takes. */
export const aTemplate = (fields: Record<string, unknown> = {}): Record<string, unknown> => ({
  taskQueueId: TASK_QUEUE,
  payload: {},
  metadata: { name: 'n', description: 'd', owner: 'o@example.com', source: 'https://src.example' },
  ...fields,
});

/** A template that puts what it is told into the payload of its task. */
export const echo = (...names: string[]): Record<string, unknown> =>
  aTemplate({ payload: Object.fromEntries(names.map(name => [name, { $eval: name }])) });

export const aHook = (fields: Partial<HookRequest> = {}): HookRequest => ({
  metadata: { name: 'a hook', description: 'for a test', owner: 'owner@example.com' },
  task: aTemplate(),
  triggerSchema: { type: 'object' },
  ...fields,
});

export interface HooksServer extends TestServer {
  readonly hooks: HooksClient;
  readonly queue: Client<typeof queueApi>;
  readonly auth: Client<typeof authApi>;
  readonly ctx: Ctx;
  /** An API as seen by somebody with these scopes. */
  as<A extends Api>(api: A, scopes: readonly string[]): Client<A>;
  /** Runs a loop until it has nothing left that is due. */
  runLoop(loop: Loop<Ctx>): Promise<void>;
  /** Claims what is due, and fires everything that waits. */
  work(): Promise<void>;
  /** Creates `g/<hookId>`, which may create tasks. */
  create(hookId: string, fields?: Partial<HookRequest>): Promise<void>;
  definition(taskId: string): Promise<Record<string, unknown>>;
  /** The last fires of `g/<hookId>`, the latest first; none if there are none. */
  lastFires(hookId: string): Promise<Awaited<ReturnType<HooksClient['listLastFires']>>['lastFires']>;
}

export const withHooks = async (
  options: WithServerOptions & { readonly more?: readonly Service[]; readonly withoutRole?: boolean } = {},
): Promise<HooksServer> => {
  const server = await withServer([auth, queueService, hooksService, ...(options.more ?? [])], options);
  const running = server.server.services.get('hooks');
  const ctx = running && contexts.get(running);
  if (!ctx) {
    throw new Error('The hooks service does not run');
  }
  const asRoot = <A extends Api>(api: A): Client<A> => server.client(api, { credentials: ROOT });
  const hooks = asRoot(hooksApi);
  const root = asRoot(authApi);
  const queue = asRoot(queueApi);
  if (!options.withoutRole) {
    await root.createRole({ roleId: 'hook-id:g/*' }, { description: '', scopes: [...ROLE_SCOPES] });
  }
  const runLoop = async (loop: Loop<Ctx>): Promise<void> => {
    while ((await loop.run(ctx, loop.batch)) > 0) {
      // until nothing is left
    }
  };
  return {
    ...server,
    hooks,
    queue,
    auth: root,
    ctx,
    as: (api, scopes) => {
      const start = server.clock.now();
      const expiry = new Date(start.getTime() + 3_600_000);
      const credentials = createTemporaryCredentials({ credentials: ROOT, scopes, start, expiry, seed: 's'.repeat(44) });
      return server.client(api, { credentials });
    },
    runLoop,
    work: async () => {
      await runLoop(schedule);
      await runLoop(fire);
    },
    create: async (hookId, fields = {}) => {
      await hooks.createHook({ hookGroupId: 'g', hookId }, aHook(fields));
    },
    definition: async taskId => (await queue.task({ taskId })) as unknown as Record<string, unknown>,
    lastFires: async hookId => {
      try {
        return (await hooks.listLastFires({ hookGroupId: 'g', hookId })).lastFires;
      } catch (error) {
        if (error instanceof ApiCallError && error.statusCode === 404) {
          return [];
        }
        throw error;
      }
    },
  };
};

/** Expects a call to be refused; answers with what was said, without the footer. */
export const refusal = async (call: Promise<unknown>, status: number, code: string): Promise<string> => {
  const error: unknown = await call.then(
    value => new Error(`The call was not refused: ${JSON.stringify(value)}`),
    (caught: unknown) => caught,
  );
  if (!(error instanceof ApiCallError)) {
    throw error;
  }
  expect({ status: error.statusCode, code: error.code, message: error.message }).toMatchObject({ status, code });
  return error.message.split('\n\n---\n\n')[0] ?? '';
};
