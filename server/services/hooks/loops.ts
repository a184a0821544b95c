/**
 * What hooks do by themselves. `hooks/schedule` claims due times: in one transaction it notes that they are to be fired and moves each hook to its next
 * time, so that a time is claimed once, whoever looks and whatever crashes. `hooks/fire` then creates the tasks that are noted.
 */
import { loop } from '../../platform/loop.ts';
import { type Ctx, decryptToken, encryptToken, hookName, newTaskId } from './ctx.ts';
import { type Attempt, deleteDoneFires, deleteOldLastFires, findExistingTasks, finishFires, insertLastFires } from './fires.db.ts';
import { insertScheduledFires, type OpenFire, postponeFires, setNextFires, setTasks, takeDueHooks, takeFires } from './fires.db.ts';
import { decryptTaskId } from './ctx.ts';
import { type Cause, type Failure, createTask, makeTask, noteAttempt } from './firing.ts';
import { type HookDefinition, listTokensNotUnder, replaceStoredToken } from './hooks.db.ts';
import { rebindAll } from './bindings.ts';
import { insertMails, type NewMail } from './mails.db.ts';
import { failureMail } from './mail.ts';

const SECOND_MS = 1_000;
const MINUTE_MS = 60_000;
const HOUR_MS = 3_600_000;
const DAY_MS = 86_400_000;

// ---- due times ----

export const schedule = loop<Ctx>({
  name: 'hooks/schedule',
  everyMs: SECOND_MS,
  batch: 500,
  run: async (ctx, limit) => {
    const { db, clock, log } = ctx.platform;
    const now = clock.now();
    const claimed = await db.tx(async tx => {
      const due = await takeDueHooks(tx, now, limit);
      if (due.length === 0) {
        return 0;
      }
      const schedules = await ctx.schedules();
      const next = due.map(({ hookGroupId, hookId, schedule: patterns }) => {
        try {
          return { hookGroupId, hookId, nextFire: schedules.next(JSON.parse(patterns) as string[], now) ?? null };
        } catch (error) {
          log.error({ err: error, hookGroupId, hookId }, 'schedule of a hook cannot be read; it is not fired again until it is changed');
          return { hookGroupId, hookId, nextFire: null };
        }
      });
      await setNextFires(tx, next);
      await insertScheduledFires(
        tx,
        due.map(hook => ({ ...hook, taskId: newTaskId(ctx, hook), moment: hook.nextFire })),
      );
      return due.length;
    });
    if (claimed > 0) {
      ctx.wakeFires();
    }
    return claimed;
  },
});

// ---- firing ----

/** Longer than rendering a batch and calling the queue take together. After a crash the tasks of a batch come this much later. */
const LEASE_MS = 3 * MINUTE_MS;
/** What the queue takes is at most 15 minutes old. */
const FRESH_MS = 10 * MINUTE_MS;
const AT_ONCE = 16;
/** A scheduled task that the queue did not answer for is tried again as often as it takes, a message five times. */
const SCHEDULE_RETRY_MS = MINUTE_MS;
const EVENT_RETRIES = 5;
const eventRetryMs = (attempt: number): number => 2 ** attempt * SECOND_MS;
/** The first discarded message of a hook, and then one in so many. */
const DISCARD_LOG_EVERY = 100;

interface Fire extends OpenFire {
  /** Decrypted. */
  readonly id22: string;
}

type Outcome =
  | { readonly kind: 'created' | 'declined' | 'discarded' }
  | { readonly kind: 'failed' | 'retry'; readonly failure: Failure }
  | { readonly kind: 'ready'; readonly task: string; readonly rendered: Date; readonly isNew: boolean };

const causeOf = (fire: Fire): Cause =>
  fire.firedBy === 'schedule'
    ? { firedBy: 'schedule', scheduledTime: fire.moment }
    : { firedBy: 'pulseMessage', payload: fire.payload ?? '{}', exchange: fire.exchange, routingKey: fire.routingKey };

const discarded = new WeakMap<Ctx, Map<string, number>>();
const MAX_COUNTED = 10_000;

const noteDiscard = (ctx: Ctx, { hookGroupId, hookId, exchange, routingKey }: Fire, problems: readonly string[]): void => {
  const counts = discarded.get(ctx) ?? new Map<string, number>();
  discarded.set(ctx, counts);
  const name = hookName({ hookGroupId, hookId });
  const discardedCount = (counts.get(name) ?? 0) + 1;
  if (counts.size >= MAX_COUNTED) {
    counts.clear();
  }
  counts.set(name, discardedCount);
  ctx.discards.inc();
  if (discardedCount % DISCARD_LOG_EVERY === 1) {
    ctx.platform.log.info(
      { hookGroupId, hookId, exchange, routingKey, reason: 'triggerSchema', validationError: problems.join('; '), discardedCount },
      'hook-pulse-message-discarded',
    );
  }
};

/** Renders the template, unless an earlier try has done so and what it made is not too old by now. */
const prepare = async (ctx: Ctx, fire: Fire, existing: ReadonlySet<string>): Promise<Outcome> => {
  const nowMs = ctx.platform.clock.nowMs();
  if (existing.has(fire.id22)) {
    return { kind: 'created' }; // and the answer was lost
  }
  if (fire.task !== null && fire.rendered !== null && nowMs - fire.rendered.getTime() <= FRESH_MS) {
    return { kind: 'ready', task: fire.task, rendered: fire.rendered, isNew: false };
  }
  if (fire.firedBy === 'pulseMessage') {
    const problems = await ctx.backgroundSandbox.validate(fire.hookTriggerSchema, fire.payload ?? '{}');
    if (problems.length > 0) {
      noteDiscard(ctx, fire, problems);
      return { kind: 'discarded' };
    }
  }
  // the scheduled time, so that a little lateness does not show; after a long outage the queue would not take it
  const rendered = nowMs - fire.moment.getTime() <= FRESH_MS ? fire.moment : new Date(nowMs);
  const made = await makeTask(ctx.backgroundSandbox, fire.hookTask, causeOf(fire), fire.id22, rendered);
  if ('failure' in made) {
    return { kind: 'failed', failure: made.failure };
  }
  return 'task' in made ? { kind: 'ready', task: made.task, rendered, isNew: true } : { kind: 'declined' };
};

const call = async (ctx: Ctx, fire: Fire, task: string): Promise<Outcome> => {
  const failure = await createTask(ctx, fire, fire.id22, task, { retries: 0 });
  if (!failure) {
    return { kind: 'created' };
  }
  const again = failure.transient && (fire.firedBy === 'schedule' || fire.attempts < EVENT_RETRIES);
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

/** Writes down what has become of a batch, in one transaction. */
const record = async (ctx: Ctx, fires: readonly Fire[], outcomes: ReadonlyMap<Fire, Outcome>): Promise<void> => {
  const { db, clock } = ctx.platform;
  const now = clock.now();
  const isRetry = (fire: Fire): boolean => outcomes.get(fire)?.kind === 'retry';
  const notBefore = (fire: Fire): Date =>
    new Date(now.getTime() + (fire.firedBy === 'schedule' ? SCHEDULE_RETRY_MS : eventRetryMs(fire.attempts)));
  const mine = await db.tx(async tx => {
    const finished = await finishFires(
      tx,
      fires.filter(fire => !isRetry(fire)).map(fire => fire.id),
    );
    const postponed = await postponeFires(
      tx,
      fires.filter(isRetry).map(fire => ({ id: fire.id, notBefore: notBefore(fire) })),
    );
    // whoever comes second, after a lease that ran out, has nothing to tell
    const ours = fires.filter(fire => finished.has(fire.id) || postponed.has(fire.id));
    const attempts: Attempt[] = [];
    const mails: NewMail[] = [];
    for (const fire of ours) {
      const outcome = outcomes.get(fire);
      const failure = outcome && 'failure' in outcome ? outcome.failure : undefined;
      const isTold =
        outcome?.kind === 'created' || outcome?.kind === 'failed' || (outcome?.kind === 'retry' && fire.firedBy === 'schedule');
      if (isTold) {
        const { hookGroupId, hookId, firedBy } = fire;
        attempts.push({ hookGroupId, hookId, firedBy, taskId: fire.id22, time: now, error: failure?.text ?? '' });
      }
      if (outcome?.kind === 'failed' && fire.firedBy === 'schedule') {
        const metadata = JSON.parse(fire.hookMetadata) as HookDefinition['metadata'];
        if (metadata.emailOnError !== false) {
          mails.push(failureMail(fire, metadata.owner, outcome.failure));
        }
      }
    }
    if (attempts.length > 0) {
      await insertLastFires(tx, attempts);
    }
    if (mails.length > 0) {
      await insertMails(tx, mails, now);
    }
    return ours;
  });
  const results = { created: 'success', failed: 'failure', retry: 'failure', declined: 'declined', discarded: 'discarded' } as const;
  for (const fire of mine) {
    const kind = outcomes.get(fire)?.kind ?? 'failed';
    if (kind !== 'ready') {
      noteAttempt(ctx, fire, { firedBy: fire.firedBy, taskId: fire.id22, result: results[kind] });
    }
  }
};

export const fire = loop<Ctx>({
  name: 'hooks/fire',
  everyMs: SECOND_MS,
  batch: 50,
  run: async (ctx, limit) => {
    const { db, clock } = ctx.platform;
    const now = clock.now();
    const taken = await takeFires(db, now, new Date(now.getTime() + LEASE_MS), limit);
    if (taken.length === 0) {
      return 0;
    }
    const fires: Fire[] = taken.map(each => ({ ...each, id22: decryptTaskId(ctx, each, each.taskId) }));
    const tried = fires.filter(each => each.task !== null).map(each => each.id22);
    const existing = tried.length > 0 ? await findExistingTasks(db, tried) : new Set<string>();
    const outcomes = new Map<Fire, Outcome>();
    await eachOf(fires, async each => void outcomes.set(each, await prepare(ctx, each, existing)));
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
    await record(ctx, fires, outcomes);
    return fires.length;
  },
});

// ---- upkeep ----

/** A message that comes again after this is taken for a new one. */
const EVENTS_KNOWN_MS = DAY_MS;
export const forgetEvents = loop<Ctx>({
  name: 'hooks/forget-events',
  everyMs: 10 * MINUTE_MS,
  batch: 1_000,
  run: ({ platform: { db, clock } }, limit) => deleteDoneFires(db, new Date(clock.nowMs() - EVENTS_KNOWN_MS), limit),
});

const LAST_FIRES_MS = 365 * DAY_MS;
export const expireLastFires = loop<Ctx>({
  name: 'hooks/expire-last-fires',
  everyMs: HOUR_MS,
  batch: 1_000,
  run: ({ platform: { db, clock } }, limit) => deleteOldLastFires(db, new Date(clock.nowMs() - LAST_FIRES_MS), limit),
});

/** Binds again to what may have been refused before, such as an exchange that was not there. */
export const rebind = loop<Ctx>({
  name: 'hooks/rebind',
  everyMs: 5 * MINUTE_MS,
  batch: 1,
  run: async ctx => {
    await ctx.platform.db.tx(tx => rebindAll(ctx, tx));
    return 0;
  },
});

/** Moves trigger tokens under the newest key, so that an older one can be taken off the ring. The tokens themselves stay. */
export const reencryptTokens = loop<Ctx>({
  name: 'hooks/reencrypt-tokens',
  everyMs: HOUR_MS,
  batch: 100,
  run: async (ctx, limit) => {
    const { db, keyring } = ctx.platform;
    const [version, keyId] = keyring.encrypt('', '').split(':');
    const stale = await listTokensNotUnder(db, `${version}:${keyId}:`, limit);
    for (const hook of stale) {
      await replaceStoredToken(db, hook, hook.triggerToken, encryptToken(ctx, hook, decryptToken(ctx, hook, hook.triggerToken)));
    }
    return stale.length;
  },
});
