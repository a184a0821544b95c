/**
 * The accounts of namespaces. Each has two, `<namespace>-1` and `<namespace>-2`. One is active: claims give it out. At each rotation the other, which has
 * rested for a whole interval, gets a new password and becomes the active one; the one before keeps its password and rests. So an account that
 * was given out works for at least one interval more, and `reclaimAt` lies in the middle of its rest.
 */
import { plainSlugid } from '../../platform/clock.ts';
import { apiError, conflict } from '../../platform/errors.ts';
import { type Broker, type PulseCtx, requireBroker } from './ctx.ts';
import type { BrokerUser } from './management.ts';
import { OWN_PREFIX } from './settings.ts';
import {
  type Account,
  type NamespaceRow,
  beginRemoval,
  beginRotation,
  claimRow,
  finishRemoval,
  finishRotation,
  getNamespace,
} from './namespaces.db.ts';

/** Marks the accounts that are ours; no other is touched. */
export const TAG = 'taskcluster-namespace';
const VALID = /^[A-Za-z0-9_-]{1,64}$/;

/** Refuses names that no namespace may have. */
export const checkName = ({ namespacePrefix, broker }: PulseCtx, namespace: string): void => {
  if (!VALID.test(namespace)) {
    apiError('InvalidNamespace', 'A namespace has 1 to 64 letters, digits, `_` and `-`; `{{namespace}}` is none.', { namespace });
  }
  if (!namespace.startsWith(namespacePrefix)) {
    apiError('InvalidNamespace', 'Namespaces begin with `{{namespacePrefix}}` here; `{{namespace}}` does not.', {
      namespacePrefix,
      namespace,
    });
  }
  if (namespace.startsWith(OWN_PREFIX) || namespace === broker?.ownUser) {
    apiError('InvalidNamespace', '`{{namespace}}` is what Taskcluster itself uses.', { namespace });
  }
};

export const userName = (namespace: string, account: Account): string => `${namespace}-${account}`;
/** The namespace that an account's name belongs to, if it is one of ours. */
export const namespaceOf = (user: string): string | undefined => /^(.*)-[12]$/.exec(user)?.[1];
const ACCOUNTS: readonly Account[] = [1, 2];

const passwordContext = (namespace: string, account: Account): string => `pulse/${namespace}/${account}`;
const makePassword = ({ platform }: PulseCtx, namespace: string, account: Account): string =>
  platform.keyring.encrypt(plainSlugid(platform.random) + plainSlugid(platform.random), passwordContext(namespace, account));
const readPassword = ({ platform }: PulseCtx, row: NamespaceRow, account: Account): string =>
  platform.keyring.decrypt(account === 1 ? row.password1 : row.password2, passwordContext(row.namespace, account));

const isOurs = ({ tags }: BrokerUser): boolean => (typeof tags === 'string' ? tags.split(',') : tags).includes(TAG);

/** Makes the broker's accounts what the row says. Any number of repetitions does no harm. */
const putAccounts = async (ctx: PulseCtx, { management }: Broker, row: NamespaceRow): Promise<void> => {
  const { namespace } = row;
  const own = `queue/${namespace}/.*|exchange/${namespace}/.*`;
  for (const account of ACCOUNTS) {
    const user = userName(namespace, account);
    await management.putUser(user, readPassword(ctx, row, account), TAG);
    await management.permit(user, { configure: `^(${own})$`, write: `^(${own})$`, read: `^(queue/${namespace}/.*|exchange/.*)$` });
  }
};

const deleteAccounts = async ({ management }: Broker, namespace: string): Promise<void> => {
  for (const account of ACCOUNTS) {
    const user = await management.getUser(userName(namespace, account));
    if (user && isOurs(user)) {
      await management.deleteUser(user.name);
    }
  }
};

/** Takes a row's passwords to the broker and then makes them count. Undefined when the namespace is gone. */
const apply = async (ctx: PulseCtx, broker: Broker, row: NamespaceRow): Promise<NamespaceRow | undefined> => {
  const { db, clock } = ctx.platform;
  await putAccounts(ctx, broker, row);
  const done = await finishRotation(db, row, new Date(clock.nowMs() + ctx.rotationMs));
  if (done) {
    return done;
  }
  const now = await getNamespace(db, row.namespace);
  if (!now || now.removing) {
    await deleteAccounts(broker, row.namespace); // they were removed between, and we have made them again
    return undefined;
  }
  return now.applied ? now : apply(ctx, broker, now);
};

/** Changes the passwords of a namespace whose time has come, or finishes what somebody has begun. */
export const rotate = async (ctx: PulseCtx, row: NamespaceRow): Promise<void> => {
  const broker = requireBroker(ctx);
  const { db } = ctx.platform;
  if (row.applied) {
    const resting: Account = row.active === 1 ? 2 : 1;
    await beginRotation(db, row, makePassword(ctx, row.namespace, resting));
  }
  const current = await getNamespace(db, row.namespace);
  if (current && !current.applied && !current.removing) {
    await apply(ctx, broker, current);
  }
};

/** Removes a namespace that has ended: its accounts, connections, queues and exchanges. */
export const remove = async (ctx: PulseCtx, namespace: string): Promise<void> => {
  const { management } = requireBroker(ctx);
  const { db, clock, log } = ctx.platform;
  if (!(await beginRemoval(db, namespace, clock.now()))) {
    return;
  }
  await deleteAccounts(requireBroker(ctx), namespace);
  for await (const page of management.listConnections()) {
    for (const { name } of page.filter(({ user }) => namespaceOf(user) === namespace)) {
      await management.closeConnection(name, 'the namespace has ended');
    }
  }
  // pages move while their queues go: look until there are none
  for (let left = true; left;) {
    left = false;
    for await (const page of management.listQueues(`^queue/${namespace}/`)) {
      for (const { name } of page) {
        await management.deleteQueue(name);
        left = true;
      }
    }
  }
  for (const { name } of await management.listExchanges()) {
    if (name.startsWith(`exchange/${namespace}/`)) {
      await management.deleteExchange(name);
    }
  }
  await finishRemoval(db, namespace);
  log.info({ namespace }, 'namespace removed');
};

export interface Claim {
  readonly row: NamespaceRow;
  readonly connectionString: string;
  readonly reclaimAt: Date;
}

/** Whether the broker has both accounts of a namespace; 409 when one of them is somebody else's. */
const checkAccounts = async ({ management }: Broker, namespace: string): Promise<boolean> => {
  const users = await Promise.all(ACCOUNTS.map(account => management.getUser(userName(namespace, account))));
  const foreign = users.find(user => user && !isOurs(user));
  if (foreign) {
    conflict('The broker has a user `{{name}}` that is not of this service: choose another namespace.', { name: foreign.name });
  }
  return users.every(user => user !== undefined);
};

const beingRemoved = (namespace: string): never =>
  conflict('The namespace `{{namespace}}` is being removed: claim it again in a moment.', { namespace });

/** Makes or extends a namespace; its accounts work when this returns. */
export const claim = async (ctx: PulseCtx, namespace: string, expires: Date, contact: string | undefined): Promise<Claim> => {
  const broker = requireBroker(ctx);
  const { db, clock } = ctx.platform;
  const hasAccounts = await checkAccounts(broker, namespace);
  const wanted = {
    namespace,
    expires,
    contact: contact ?? null,
    password1: makePassword(ctx, namespace, 1),
    password2: makePassword(ctx, namespace, 2),
  };
  let row = await claimRow(db, wanted, clock.now());
  if (!row) {
    await remove(ctx, namespace);
    row = await claimRow(db, wanted, clock.now());
  }
  if (!row) {
    return beingRemoved(namespace);
  }
  // also on a broker that has lost them
  const current = row.applied && hasAccounts ? row : await apply(ctx, broker, row);
  if (!current) {
    return beingRemoved(namespace);
  }
  const url = new URL(broker.publicUrl);
  url.username = userName(namespace, current.active);
  url.password = readPassword(ctx, current, current.active);
  return {
    row: current,
    connectionString: url.href,
    // a rotation that is overdue comes now at the earliest
    reclaimAt: new Date(Math.max(current.nextRotation.getTime(), clock.nowMs()) + ctx.rotationMs / 2),
  };
};
