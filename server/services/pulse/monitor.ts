/**
 * Looks after what namespaces do on the broker: closes connections that are too old or whose namespace has ended, tells contacts of queues that grow
 * and of those that shrink again, and deletes those that grow far too long. Nothing outside the namespaces of this service is touched.
 */
import { notifyApi } from '@tscluster/api/notify/api.ts';
import { ApiCallError } from '@tscluster/client/client.ts';
import { namespaceOf } from './accounts.ts';
import type { Broker, PulseCtx } from './ctx.ts';
import {
  getLongQueues,
  listKnown,
  listLive,
  listNotices,
  type Notice,
  noteQueue,
  type QueueState,
  settleNotice,
} from './long-queues.db.ts';
import type { BrokerConnection, BrokerQueue } from './management.ts';

const queueNamespace = (queue: string): string | undefined => /^queue\/([^/]+)\//.exec(queue)?.[1];
const present = (names: readonly (string | undefined)[]): string[] => [...new Set(names.filter(name => name !== undefined))];

export const checkConnections = async (ctx: PulseCtx, { management }: Broker): Promise<void> => {
  const { db, clock, log } = ctx.platform;
  const check = async (page: readonly BrokerConnection[]): Promise<void> => {
    const names = present(page.map(({ user }) => namespaceOf(user)));
    const [known, live] = [await listKnown(db, names), await listLive(db, names, clock.now())];
    for (const { name, user, connected_at: since } of page) {
      const namespace = namespaceOf(user) ?? '';
      const isOver = !live.has(namespace);
      if (known.has(namespace) && (isOver || since < clock.nowMs() - ctx.connectionMs)) {
        log.info({ namespace, user, isOver }, 'connection of a namespace closed');
        await management.closeConnection(
          name,
          isOver ? 'the namespace has ended' : 'the connection is too old: claim the namespace and connect again',
        );
      }
    }
  };
  for await (const page of management.listConnections()) {
    await check(page);
  }
};

/** What has to be noted of a queue; undefined when nothing has changed. */
const nextState = (
  { alertMessages, deleteMessages }: PulseCtx,
  messages: number,
  before: QueueState | undefined,
): QueueState | undefined => {
  if (messages > deleteMessages) {
    return 'deleted';
  }
  if (messages > alertMessages) {
    return before === 'long' ? undefined : 'long';
  }
  return before === 'long' ? 'recovered' : undefined;
};

export const checkQueues = async (ctx: PulseCtx, { management }: Broker): Promise<void> => {
  const { db, clock, log } = ctx.platform;
  const check = async (page: readonly BrokerQueue[]): Promise<void> => {
    const live = await listLive(db, present(page.map(({ name }) => queueNamespace(name))), clock.now());
    const ours = page.filter(({ name }) => live.has(queueNamespace(name) ?? ''));
    const noted = await getLongQueues(
      db,
      ours.map(({ name }) => name),
    );
    for (const { name, messages } of ours) {
      const state = messages === undefined ? undefined : nextState(ctx, messages, noted.get(name));
      if (messages === undefined || state === undefined) {
        continue;
      }
      const namespace = queueNamespace(name) as string;
      log.info({ namespace, queue: name, messages, state }, 'queue of a namespace');
      await noteQueue(db, { queue: name, namespace, state, messages });
      if (state === 'deleted') {
        await management.deleteQueue(name);
      }
    }
  };
  for await (const page of management.listQueues(`^queue/${ctx.namespacePrefix}`)) {
    await check(page);
  }
};

const SAYS: Readonly<Record<QueueState, (notice: Notice, ctx: PulseCtx) => { subject: string; content: string }>> = {
  long: ({ queue, messages }, { alertMessages, deleteMessages }) => ({
    subject: `Taskcluster Pulse: queue ${queue} is too long`,
    content: `The queue \`${queue}\` has ${messages} messages; ${alertMessages} are a lot. Is its consumer running? With more than ${deleteMessages} the queue will be deleted.`,
  }),
  recovered: ({ queue, messages }, { alertMessages }) => ({
    subject: `Taskcluster Pulse: queue ${queue} has recovered`,
    content: `The queue \`${queue}\` has ${messages} messages, not more than ${alertMessages} any more.`,
  }),
  deleted: ({ queue, messages }, { deleteMessages }) => ({
    subject: `Taskcluster Pulse: queue ${queue} was deleted`,
    content: `The queue \`${queue}\` had ${messages} messages, more than ${deleteMessages}, and was deleted. Its consumer has to declare and bind it again; what was in it is lost.`,
  }),
};

/** Tells one contact; false when that has to be tried again. */
const tell = async (ctx: PulseCtx, notice: Notice): Promise<boolean> => {
  const { contact: address, namespace } = notice;
  if (address === null) {
    return true;
  }
  const { subject, content } = SAYS[notice.state](notice, ctx);
  const { log } = ctx.platform;
  const notify = ctx.platform.client(notifyApi, 'pulse', { authorizedScopes: [`notify:email:${address}`], retries: 0 });
  try {
    await notify.email({ address, subject: subject.slice(0, 255), content });
    return true;
  } catch (error) {
    const isRefused = error instanceof ApiCallError && error.statusCode < 500;
    log.warn({ err: error, namespace, queue: notice.queue, isRefused }, 'the contact of a namespace could not be told');
    return isRefused;
  }
};

export const tellContacts = async (ctx: PulseCtx, limit: number): Promise<void> => {
  const { db } = ctx.platform;
  for (const notice of await listNotices(db, limit)) {
    if (await tell(ctx, notice)) {
      await settleNotice(db, notice);
    }
  }
};
