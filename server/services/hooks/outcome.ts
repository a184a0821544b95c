/** What has become of fires: written down in one transaction, logged and counted. */
import { type Ctx, hookName } from './ctx.ts';
import { finishFires, type OpenFire, postponeFires } from './fires.db.ts';
import { type Failure, noteAttempt } from './firing.ts';
import type { HookDefinition } from './hooks.db.ts';
import { type Attempt, insertLastFires } from './last-fires.db.ts';
import { failureMail } from './mail.ts';
import { insertMails, type NewMail } from './mails.db.ts';

const SECOND_MS = 1_000;
/** A scheduled task that the queue did not answer for is tried again as often as it takes. */
const SCHEDULE_RETRY_MS = 60_000;
/** A message so often; the attempts come ever later. */
export const MAX_RETRIES = 5;
const LATER_MS = 1_000;
/** The first discarded message of a hook is logged, and then every hundredth. */
const DISCARD_LOG_EVERY = 100;
const MAX_COUNTED = 10_000;
const MAX_LOGGED_LENGTH = 2_000;

/** With the id of its task in plain text. */
export type Fire = OpenFire;

export type Outcome =
  | { readonly kind: 'created' | 'declined' }
  /** Not tried. */
  | { readonly kind: 'later' }
  | { readonly kind: 'discarded'; readonly tooSlow: boolean }
  | { readonly kind: 'failed' | 'retry'; readonly failure: Failure }
  | { readonly kind: 'ready'; readonly task: string; readonly rendered: Date; readonly isNew: boolean };

/** A message that does not match the schema of its hook: nobody hears of it but the operator, now and then. */
export const noteDiscard = (ctx: Ctx, { hookGroupId, hookId, exchange, routingKey }: Fire, problems: readonly string[]): void => {
  const { discardCounts } = ctx;
  const name = hookName({ hookGroupId, hookId });
  const discardedCount = (discardCounts.get(name) ?? 0) + 1;
  if (discardCounts.size >= MAX_COUNTED) {
    discardCounts.clear();
  }
  discardCounts.set(name, discardedCount);
  ctx.discards.inc();
  if (discardedCount === 1 || discardedCount % DISCARD_LOG_EVERY === 0) {
    const validationError = problems.join('; ').slice(0, MAX_LOGGED_LENGTH);
    ctx.platform.log.info(
      { hookGroupId, hookId, exchange, routingKey, reason: 'triggerSchema', validationError, discardedCount },
      'hook-pulse-message-discarded',
    );
  }
};

/** Writes down what has become of a batch, in one transaction. */
export const record = async (ctx: Ctx, fires: readonly Fire[], outcomes: ReadonlyMap<Fire, Outcome>): Promise<void> => {
  const { db, clock } = ctx.platform;
  const now = clock.now();
  const isRetry = (fire: Fire): boolean => ['retry', 'later'].includes(outcomes.get(fire)?.kind ?? '');
  const notBefore = (fire: Fire): Date => {
    const retryMs = fire.firedBy === 'schedule' ? SCHEDULE_RETRY_MS : 2 ** fire.attempts * SECOND_MS;
    return new Date(now.getTime() + (outcomes.get(fire)?.kind === 'later' ? LATER_MS : retryMs));
  };
  const mine = await db.tx(async tx => {
    const finished = await finishFires(
      tx,
      fires.filter(fire => !isRetry(fire)).map(fire => fire.id),
    );
    const postponed = await postponeFires(
      tx,
      fires
        .filter(isRetry)
        .map(fire => ({ id: fire.id, notBefore: notBefore(fire), attempts: fire.attempts + Number(outcomes.get(fire)?.kind === 'retry') })),
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
        attempts.push({ hookGroupId, hookId, firedBy, taskId: fire.taskId, time: now, error: failure?.text ?? '' });
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
    if (kind !== 'ready' && kind !== 'later') {
      noteAttempt(ctx, fire, { firedBy: fire.firedBy, taskId: fire.taskId, result: results[kind] });
    }
  }
};
