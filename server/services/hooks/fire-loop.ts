/**
 * Creates the tasks that are noted, a batch at a time: renders the templates, keeps what they made, calls the queue, writes down what has become of it.
 * It may die anywhere: who takes a fire again finds its task, or makes the same call.
 */
import { loop } from '../../platform/loop.ts';
import { type Ctx, decryptTaskId } from './ctx.ts';
import { findExistingTasks, finishFires, type OpenFire, renewLease, setTasks, takeFires } from './fires.db.ts';
import { type Cause, createTask, makeTask } from './firing.ts';
import { type Fire, MAX_RETRIES, noteDiscard, type Outcome, record } from './outcome.ts';

const MINUTE_MS = 60_000;
/** How long a batch is nobody else's, unless the lease is renewed. After a crash the tasks of a batch come this much later. */
export const FIRE_LEASE_MS = 30_000;
const RENEW_MS = 10_000;
/** What the queue takes is at most 15 minutes old. */
const FRESH_MS = 10 * MINUTE_MS;
const AT_ONCE = 50;
const causeOf = (fire: Fire): Cause =>
  fire.firedBy === 'schedule'
    ? { firedBy: 'schedule', scheduledTime: fire.moment }
    : { firedBy: 'pulseMessage', payload: fire.payload ?? '{}', exchange: fire.exchange, routingKey: fire.routingKey };

/** Renders the template, unless an earlier try has done so and what it made is not too old by now. */
const prepare = async (ctx: Ctx, fire: Fire, existing: ReadonlySet<string>): Promise<Outcome> => {
  const nowMs = ctx.platform.clock.nowMs();
  if (existing.has(fire.taskId)) {
    return { kind: 'created' }; // and the answer was lost
  }
  if (fire.task !== null && fire.rendered !== null && nowMs - fire.rendered.getTime() <= FRESH_MS) {
    return { kind: 'ready', task: fire.task, rendered: fire.rendered, isNew: false };
  }
  if (fire.firedBy === 'pulseMessage') {
    const { problems, tooSlow } = await ctx.sandbox.validate(fire.hookGroupId, fire.hookTriggerSchema, fire.payload ?? '{}');
    if (problems.length > 0) {
      noteDiscard(ctx, fire, problems);
      return { kind: 'discarded', tooSlow };
    }
  }
  // the scheduled time, so that a little lateness does not show; after a long outage the queue would not take it
  const rendered = nowMs - fire.moment.getTime() <= FRESH_MS ? fire.moment : new Date(nowMs);
  const template = { hookGroupId: fire.hookGroupId, task: fire.hookTask };
  const made = await makeTask(ctx.sandbox, template, causeOf(fire), fire.taskId, rendered);
  if ('failure' in made) {
    return { kind: 'failed', failure: made.failure };
  }
  return 'task' in made ? { kind: 'ready', task: made.task, rendered, isNew: true } : { kind: 'declined' };
};

const call = async (ctx: Ctx, fire: Fire, task: string): Promise<Outcome> => {
  const failure = await createTask(ctx, fire, fire.taskId, task, { retries: 0 });
  if (!failure) {
    return { kind: 'created' };
  }
  const again = failure.transient && (fire.firedBy === 'schedule' || fire.attempts < MAX_RETRIES);
  return { kind: again ? 'retry' : 'failed', failure };
};

/** Does something for each, some at a time. */
const eachOf = async <T>(items: readonly T[], work: (item: T) => Promise<void>): Promise<void> => {
  const waiting = [...items];
  const worker = async (): Promise<void> => {
    for (let item = waiting.shift(); item !== undefined; item = waiting.shift()) {
      await work(item);
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, worker));
};

/** Reads the ids of the tasks. A fire whose id cannot be read any more is given up: it must not hold up the others. */
const unseal = async (ctx: Ctx, fires: readonly OpenFire[]): Promise<Fire[]> => {
  const unreadable: number[] = [];
  const readable = fires.flatMap(each => {
    try {
      return [{ ...each, taskId: decryptTaskId(ctx, each, each.taskId) }];
    } catch (error) {
      const { hookGroupId, hookId, firedBy } = each;
      ctx.platform.log.error({ err: error, hookGroupId, hookId, firedBy }, 'the id of a task cannot be decrypted; the hook is not fired');
      unreadable.push(each.id);
      return [];
    }
  });
  if (unreadable.length > 0) {
    await ctx.platform.db.tx(tx => finishFires(tx, unreadable));
  }
  return readable;
};

/** Renders a batch and calls the queue. */
const work = async (ctx: Ctx, fires: readonly Fire[]): Promise<ReadonlyMap<Fire, Outcome>> => {
  const { db } = ctx.platform;
  const tried = fires.filter(each => each.task !== null).map(each => each.taskId);
  const existing = tried.length > 0 ? await findExistingTasks(db, tried) : new Set<string>();
  const outcomes = new Map<Fire, Outcome>();
  // The sandbox takes one of a group at a time anyway. Once a template or schema of a group took too long, the rest of the group waits for the next
  // batch: no batch takes much longer than one such.
  await eachOf([...Map.groupBy(fires, each => each.hookGroupId).values()], async group => {
    let isSlow = false;
    for (const each of group) {
      const outcome: Outcome = isSlow ? { kind: 'later' } : await prepare(ctx, each, existing);
      isSlow ||= ('tooSlow' in outcome && outcome.tooSlow) || ('failure' in outcome && outcome.failure.tooSlow);
      outcomes.set(each, outcome);
    }
  });
  const ready = fires.flatMap(each => {
    const outcome = outcomes.get(each);
    return outcome?.kind === 'ready' ? [{ fire: each, ...outcome }] : [];
  });
  const fresh = ready.filter(each => each.isNew);
  if (fresh.length > 0) {
    await setTasks(
      db,
      fresh.map(each => ({ id: each.fire.id, task: each.task, rendered: each.rendered })),
    );
  }
  await eachOf(ready, async each => void outcomes.set(each.fire, await call(ctx, each.fire, each.task)));
  return outcomes;
};

/** Renews the lease of a batch until told to stop. Should that fail, somebody else does the same once more, which changes nothing. */
const keepLease = ({ platform: { db, clock, log } }: Ctx, fires: readonly Fire[]): (() => void) => {
  const ids = fires.map(each => each.id);
  const renew = (): void => {
    timer = clock.setTimer(RENEW_MS, renew, { unref: true });
    renewLease(db, ids, new Date(clock.nowMs() + FIRE_LEASE_MS)).catch((error: unknown) => log.warn({ err: error }, 'lease not renewed'));
  };
  let timer = clock.setTimer(RENEW_MS, renew, { unref: true });
  return () => timer.cancel();
};

export const fire = loop<Ctx>({
  name: 'hooks/fire',
  everyMs: 1_000,
  batch: 50,
  run: async (ctx, limit) => {
    const { db, clock } = ctx.platform;
    const now = clock.now();
    const taken = await takeFires(db, now, new Date(now.getTime() + FIRE_LEASE_MS), limit);
    if (taken.length === 0) {
      return 0;
    }
    const fires = await unseal(ctx, taken);
    const release = keepLease(ctx, fires);
    try {
      await record(ctx, fires, await work(ctx, fires));
    } finally {
      release();
    }
    return taken.length;
  },
});
