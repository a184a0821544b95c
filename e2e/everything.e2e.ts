/**
 * One story through all services of one installation, started as people start it: a hook fires at its time, its task is indexed, a message fires the next
 * hook, whose task reads a secret, spoils a cache and fails, and that is told by mail, on IRC, on Slack, by a message, and about its group. Meanwhile the server is
 * killed (-9) again and again. Nothing is missing in the end, and nothing is there twice, but where this says so.
 *
 * What a medium cannot take back is sent at least once: who dies after a message was taken and before that is noted sends it again, the same one. One kill
 * hits this moment on purpose.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { exchangeName } from '@tscluster/api/define.ts';
import { exchanges } from '@tscluster/api/all.ts';
import { authApi } from '@tscluster/api/auth/api.ts';
import { hooksApi } from '@tscluster/api/hooks/api.ts';
import { indexApi } from '@tscluster/api/index/api.ts';
import { type Delivery } from '@tscluster/api/notify/deliveries.ts';
import { notifyApi } from '@tscluster/api/notify/api.ts';
import { purgeCacheApi } from '@tscluster/api/purge-cache/api.ts';
import { queueApi } from '@tscluster/api/queue/api.ts';
import { secretsApi } from '@tscluster/api/secrets/api.ts';
import { type Client, createClient } from '@tscluster/client/client.ts';
import { listen } from '@tscluster/client/events.ts';
import { beforeAll, expect, test } from 'vitest';
import { openDb } from '../server/db/sql.ts';
import { parseEvents, readEventLog } from '../server/platform/event-log.ts';
import { FIRE_LEASE_MS } from '../server/services/hooks/fire-loop.ts';
import { LEASE_MS } from '../server/services/notify/attempt.ts';
import { GROUP_LEASE_MS } from '../server/services/notify/groups.ts';
import { type IrcPerson, openIrcPerson, openIrcServer } from '../server/testing/irc-server.ts';
import { openMailServer } from '../server/testing/mail.ts';
import { describeWith } from '../server/testing/programs.ts';
import { type ReceivedRequest, openReceiver } from '../server/testing/receiver.ts';
import { listExpectedEvents } from './support/audit.ts';
import { type Installation, startInstallation } from './support/installation.ts';
import { waitFor } from './support/processes.ts';
import { aScript, aTask, newId } from './support/tasks.ts';

const WAIT_MS = 120_000;
const COMPLETED = 'exchange/taskcluster-queue/v1/task-completed';
const INDEX_PATH = 'e2e.everything.latest';
const SECRET = 'e2e/everything';
const CACHE = 'e2e-everything';
const VALUE = 'what-the-task-was-told';

interface SeenEvent {
  readonly id: string;
  readonly exchange: string;
  readonly taskId: string | undefined;
  readonly runId: number | undefined;
}

describeWith('ngircd', 'ngircd', 'all services at once', () => {
  let installation: Installation;
  let auth: Client<typeof authApi>;
  let queue: Client<typeof queueApi>;
  let hooks: Client<typeof hooksApi>;
  let index: Client<typeof indexApi>;
  let notify: Client<typeof notifyApi>;
  let caches: Client<typeof purgeCacheApi>;
  let secrets: Client<typeof secretsApi>;
  let person: IrcPerson;
  let mail: Awaited<ReturnType<typeof openMailServer>>;
  let slack: Awaited<ReturnType<typeof openReceiver>>;
  const seen: SeenEvent[] = [];

  /** Follows all exchanges there are through every end of the stream. */
  const follow = async (): Promise<void> => {
    const { rootUrl, credentials } = installation;
    const bindings = exchanges.flatMap(each =>
      Object.values(each.exchanges).map(({ exchange }) => ({ exchange: exchangeName(each, exchange), routingKeyPattern: '#' })),
    );
    await new Promise<void>((resolve, reject) => {
      const read = async (): Promise<void> => {
        for await (const { message } of listen({ rootUrl, credentials, bindings, onReady: resolve })) {
          const {
            status,
            runId,
            message: told,
          } = message.payload as { [name in 'status' | 'message']?: { taskId?: string } } & { runId?: number };
          seen.push({ id: message.id, exchange: message.exchange.split('/').slice(1).join('/'), taskId: (status ?? told)?.taskId, runId });
        }
      };
      read().catch(reject);
    });
  };
  const event = (name: string, taskId: string | undefined, runId?: number): Promise<SeenEvent> =>
    waitFor(`${name} of ${taskId}`, WAIT_MS, async () =>
      seen.find(each => each.exchange.endsWith(`/${name}`) && each.taskId === taskId && (runId === undefined || each.runId === runId)),
    );
  const textOf = async (taskId: string, name: string): Promise<string> =>
    (await fetch(await queue.buildSignedUrl('getLatestArtifact', { taskId, name }))).text();

  beforeAll(async () => {
    mail = await openMailServer();
    slack = await openReceiver();
    // it takes messages, and says nothing
    slack.answer({ hang: true });
    const irc = await openIrcServer();
    person = await openIrcPerson(irc, 'reader');
    person.send('JOIN #builds');
    await person.hear(/ 366 /);
    installation = await startInstallation({
      program: 'taskcluster up',
      env: {
        SMTP_URL: mail.url,
        EMAIL_SOURCE_ADDRESS: 'tc@example.com',
        IRC_SERVER: '127.0.0.1',
        IRC_PORT: String(irc.port),
        IRC_TLS: 'false',
        SLACK_ACCESS_TOKEN: 'xoxb-e2e',
        SLACK_API_URL: slack.url,
        NOTIFY_GROUP_SETTLE_SECONDS: '1',
      },
    });
    const options = { rootUrl: installation.rootUrl, credentials: installation.credentials };
    auth = createClient(authApi, options);
    queue = createClient(queueApi, options);
    hooks = createClient(hooksApi, options);
    index = createClient(indexApi, { rootUrl: installation.rootUrl });
    notify = createClient(notifyApi, options);
    caches = createClient(purgeCacheApi, options);
    secrets = createClient(secretsApi, options);
    await follow();
  });

  const { created: _created, deadline: _deadline, expires: _expires, ...template } = aTask();
  const metadata = (name: string) => ({ name, description: 'part of the story', owner: 'owner@example.com' });
  const nightly = { hookGroupId: 'e2e', hookId: 'nightly' };
  const followUp = { hookGroupId: 'e2e', hookId: 'follow-up' };
  const ROUTES = [
    'notify.email.dev@example.com.on-failed',
    'notify.irc-channel.#builds.on-failed',
    'notify.slack-channel.C0123.on-failed',
    'notify.pulse.e2e.failed.on-failed',
    'notify.group.email.team@example.com.on-resolved',
  ];
  /** When the hook is to fire. */
  let moment: string;
  let built: string;
  const failed: string[] = [];
  let deliveries: Delivery[] = [];
  const posted: ReceivedRequest[] = [];
  let killedMs = 0;

  const firesOf = async (hook: typeof nightly) => (await hooks.listLastFires(hook).catch(() => ({ lastFires: [] }))).lastFires;

  /** What a process has in hand stays its own for some minutes, though it is dead. They are over: nobody waits here. */
  const endLeases = async (): Promise<void> => {
    const database = await installation.connectDatabase();
    const before = (leaseMs: number): string => new Date(killedMs + leaseMs).toISOString();
    try {
      await database.query("update notify.deliveries set due = '2000-01-01' where state = 'waiting' and attempts > 0 and due <= $1", [
        before(LEASE_MS),
      ]);
      await database.query("update hooks.fires set not_before = '2000-01-01' where not done and leased_until <= $1", [
        before(FIRE_LEASE_MS),
      ]);
      await database.query("update notify.groups set due = '2000-01-01' where watched and due <= $1", [before(GROUP_LEASE_MS)]);
    } finally {
      await database.end();
    }
  };

  const restart = async (): Promise<void> => {
    await installation.restart();
    await endLeases();
  };
  const killAndRestart = async (): Promise<void> => {
    await installation.kill('server');
    killedMs = Date.now();
    await restart();
  };

  test('a hook fires at its time, once, though the server was away', async () => {
    await auth.createRole(
      { roleId: 'hook-id:e2e/*' },
      {
        description: 'hooks of this story',
        scopes: [
          'queue:create-task:project:none',
          'queue:create-task:lowest:local/process',
          'queue:scheduler-id:-',
          `queue:route:index.${INDEX_PATH}`,
          ...ROUTES.map(route => `queue:route:${route}`),
          `secrets:get:${SECRET}`,
          `generic-worker:cache:${CACHE}`,
        ],
      },
    );
    await secrets.set({ name: SECRET }, { secret: { value: VALUE }, expires: new Date(Date.now() + 3_600_000).toISOString() });
    // the first run would go on until the server is killed; the second is the build
    const build = 'if [ "$RUN_ID" = 0 ]; then sleep 3600; fi; echo "made at ${scheduledTime}" > report.txt';
    await hooks.createHook(followUp, {
      metadata: metadata('follow up'),
      triggerSchema: { type: 'object' },
      bindings: [{ exchange: COMPLETED, routingKeyPattern: `route.index.${INDEX_PATH}` }],
      task: {
        ...template,
        routes: ROUTES,
        scopes: [`secrets:get:${SECRET}`, `generic-worker:cache:${CACHE}`],
        payload: {
          ...aScript(
            `echo line >> cache/lines; curl -sf "$TASKCLUSTER_PROXY_URL/api/secrets/v1/secret/${SECRET}" | sed 's/.*"value":"\\([^"]*\\)".*/\\1/' | tr -d '\\n' | wc -c; exit 3`,
          ),
          mounts: [{ directory: 'cache', cacheName: CACHE }],
          features: { taskclusterProxy: true },
        },
      },
    });
    const hook = (schedule: string[]) => ({
      metadata: metadata('nightly'),
      schedule,
      task: {
        ...template,
        routes: [`index.${INDEX_PATH}`],
        payload: { ...aScript(build), artifacts: [{ type: 'file', path: 'report.txt', name: 'public/report.txt' }] },
      },
    });
    await hooks.createHook(nightly, hook([]));
    // once a day, the first time soon; again with more time if it was over before it was known
    for (let inMs = 3_000; ; inMs *= 2) {
      const time = new Date(Math.ceil((Date.now() + inMs) / 1_000) * 1_000);
      await hooks.updateHook(nightly, hook([`${time.getUTCSeconds()} ${time.getUTCMinutes()} ${time.getUTCHours()} * * *`]));
      const { nextScheduledDate } = await hooks.getHookStatus(nightly);
      if (nextScheduledDate === time.toISOString()) {
        moment = time.toISOString();
        await installation.kill('server');
        await sleep(Math.max(0, time.getTime() - Date.now()));
        break;
      }
    }
    await installation.restart();
    const fire = await waitFor('the hook', WAIT_MS, async () => (await firesOf(nightly))[0]);
    expect(fire).toMatchObject({ firedBy: 'schedule', result: 'success' });
    built = fire.taskId;
  });

  test('its task is run again after a kill, and found by its path after the next', async () => {
    await event('task-running', built, 0);
    await killAndRestart();
    await event('task-completed', built, 1);
    await killAndRestart();
    const found = await waitFor('the index entry', WAIT_MS, () => index.findTask({ indexPath: INDEX_PATH }).catch(() => undefined));
    expect(found.taskId).toBe(built);
    const byPath = await fetch(index.buildUrl('findArtifactFromTask', { indexPath: INDEX_PATH, name: 'public/report.txt' }));
    expect([byPath.status, await byPath.text()]).toEqual([200, `made at ${moment}\n`]);
    const ran = await waitFor('both runs in the history', WAIT_MS, async () => {
      const { runs } = await index.listHistory({ indexPath: INDEX_PATH });
      return runs.length >= 2 && runs;
    });
    expect(ran.map(({ taskId, runId, reasonResolved }) => `${taskId} ${runId} ${reasonResolved}`)).toEqual([
      `${built} 1 completed`,
      `${built} 0 worker-shutdown`,
    ]);
  });

  test('each message about it fires the next hook once; its task reads a secret, and fails', async () => {
    await waitFor('the hook', WAIT_MS, async () => (await firesOf(followUp)).length > 0);
    const [first] = await firesOf(followUp);
    await event('task-failed', first?.taskId);
    await killAndRestart();
    const fires = await waitFor('all that was announced', WAIT_MS, async () => {
      const found = await firesOf(followUp);
      return found.length === seen.filter(each => each.exchange.endsWith('/task-completed') && each.taskId === built).length && found;
    });
    expect(fires.every(({ firedBy, result }) => firedBy === 'pulseMessage' && result === 'success')).toBe(true);
    for (const { taskId } of fires) {
      await event('task-failed', taskId);
      failed.push(taskId);
      const log = await textOf(taskId, 'public/logs/live.log');
      expect(log).toMatch(new RegExp(`^${VALUE.length}$`, 'm'));
    }
  });

  let lines: number;
  /** Runs a task that adds a line to what it finds in the cache, and tells how many there are. */
  const countLines = async (): Promise<number> => {
    const taskId = newId();
    const payload = aScript('echo line >> cache/lines; echo "lines: $(wc -l < cache/lines)"', {
      mounts: [{ directory: 'cache', cacheName: CACHE }],
    });
    await queue.createTask({ taskId }, aTask({ payload, scopes: [`generic-worker:cache:${CACHE}`] }));
    await event('task-completed', taskId);
    return Number(/^lines: (\d+)$/m.exec(await textOf(taskId, 'public/logs/live.log'))?.[1]);
  };

  test('all who are to hear of it do: once, and after a kill in the very moment again', async () => {
    /** All deliveries, once there is one for each route and each is as it should be. */
    const settled = async (isSettled: (delivery: Delivery) => boolean): Promise<Delivery[]> => {
      let all: Delivery[] = [];
      await waitFor('the deliveries', WAIT_MS, async () => {
        const lists = await Promise.all(failed.map(taskId => notify.listTaskGroupDeliveries({ taskGroupId: taskId })));
        all = lists.flatMap(list => list.deliveries);
        const wanted = all.filter(({ state }) => state === 'sent' || state === 'waiting');
        return wanted.length === failed.length * ROUTES.length && all.every(isSettled);
      }).catch((error: Error) => expect.fail(`${error.message}: ${JSON.stringify(all)}`));
      return all;
    };
    await settled(({ state, notificationType }) => notificationType === 'slack-channel' || state !== 'waiting');
    // it has taken the message, and nobody will know that it has
    await waitFor('Slack to be told', WAIT_MS, async () => {
      posted.push(...slack.taken());
      return posted.length >= failed.length;
    });
    lines = await countLines();
    await installation.kill('server');
    killedMs = Date.now();
    slack.answer({ json: { ok: true } });
    await restart();
    deliveries = await settled(({ state }) => state !== 'waiting');
  });

  test('a cache outlives kills, and a request to empty it does too', async () => {
    expect(await countLines()).toBe(lines + 1);
    await caches.purgeCache({ workerPoolId: 'local/process' }, { cacheName: CACHE });
    await killAndRestart();
    expect(await countLines()).toBe(1);
  });

  test('each message has come as often as it was tried at most, and those that were tried once, once', async () => {
    posted.push(...slack.taken());
    const received = await mail.taken();
    const mailed = Map.groupBy(received, ({ messageId }) => messageId ?? '');
    const sent = deliveries.filter(({ state }) => state === 'sent');
    for (const taskId of failed) {
      const mine = sent.filter(each => each.taskGroupId === taskId);
      expect(mine).toHaveLength(ROUTES.length);
      expect(new Set(mine.map(({ route }) => route))).toEqual(new Set(ROUTES));
      for (const { notificationType, deliveryId, attempts } of mine) {
        const copies = {
          email: mailed.get(`<${deliveryId}@example.com>`)?.length,
          'irc-channel': person.lines.filter(line => line.includes('PRIVMSG #builds') && line.includes(taskId)).length,
          'slack-channel': posted.filter(({ body }) => body.includes(taskId)).length,
          pulse: seen.filter(each => each.exchange.endsWith('/notification') && each.taskId === taskId).length,
        }[notificationType as 'email'];
        // as often as it was tried, at most; one that was tried once has come once
        expect(copies, notificationType).toBeGreaterThanOrEqual(notificationType === 'slack-channel' ? 2 : 1);
        expect(copies, notificationType).toBeLessThanOrEqual(notificationType === 'pulse' ? 1 : attempts);
      }
    }
    expect(new Set(posted.map(({ body }) => body)).size).toBe(failed.length);
    expect(mailed.size).toBe(2 * failed.length);
    expect(received.map(({ envelope }) => envelope.to.join()).filter(to => !['dev@example.com', 'team@example.com'].includes(to))).toEqual(
      [],
    );
  });

  test('whoever listened has heard of all of it, in order, and of nothing twice', async () => {
    const last = newId();
    await queue.createTask({ taskId: last }, aTask({ taskQueueId: 'local/nobody' }));
    await event('task-pending', last);
    const db = openDb({ connection: await installation.databaseAddress() });
    const rows = await readEventLog(db, 0, 100_000);
    await db.close();
    const logged = rows.flatMap(({ outboxId, msg }) => parseEvents(outboxId, msg));
    // those from before there was a listener are what the installation made of itself
    const from = logged.findIndex(({ id }) => id === seen[0]?.id);
    expect(seen.map(({ id }) => id)).toEqual(logged.slice(from).map(({ id }) => id));
    expect(logged.slice(0, from).filter(({ exchange }) => !exchange.startsWith('exchange/taskcluster-auth/'))).toEqual([]);

    const own = seen.filter(each => each.taskId !== undefined && each.exchange.startsWith('taskcluster-queue/'));
    const byTask = Map.groupBy(own, ({ taskId }) => taskId as string);
    expect(byTask.size).toBe(1 + failed.length + 3 + 1);
    for (const [taskId, events] of byTask) {
      const keys = events.map(({ exchange, runId }) => `${exchange.slice(exchange.lastIndexOf('/') + 1)} ${runId ?? '_'}`);
      const { status } = await queue.status({ taskId });
      expect([...new Set(keys)].filter(key => !key.startsWith('artifact-created '))).toEqual(listExpectedEvents({ status }));
      // what was asked for once more, because a kill had cut off the answer, is announced once more
      expect(keys.filter(key => key.startsWith('task-running '))).toHaveLength(status.runs.filter(({ started }) => started).length);
      expect(
        Math.max(
          ...[
            ...Map.groupBy(
              keys.filter(key => key.startsWith('task-')),
              key => key,
            ).values(),
          ].map(same => same.length),
        ),
      ).toBeLessThanOrEqual(2);
    }
    const changes = seen.map(({ exchange }) => exchange).filter(exchange => /hook-|role-/.test(exchange));
    expect(changes.filter(exchange => !exchange.endsWith('/hook-updated'))).toEqual([
      'taskcluster-auth/v1/role-created',
      'taskcluster-hooks/v1/hook-created',
      'taskcluster-hooks/v1/hook-created',
    ]);
  });
});
