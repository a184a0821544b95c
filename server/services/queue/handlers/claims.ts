import type { queueApi } from '@tscluster/api/queue/api.ts';
import { conflict } from '../../../platform/errors.ts';
import { type Handlers, RawJson } from '../../../platform/service.ts';
import { announce, taskEvent } from '../announce.ts';
import type { ClaimRequest } from '../claim.db.ts';
import { makeTaskCredentials } from '../credentials.ts';
import type { Ctx } from '../ctx.ts';
import { definitionText } from '../definition.ts';
import { countOutcome } from '../outcomes.ts';
import type { RunEnd } from '../resolve.db.ts';
import { priorityName, splitTaskQueueId } from '../rules.ts';
import { claimOne, getDefinition, lockTask } from '../tasks.db.ts';
import { lockPending, repeatReport, requireTask, unknownRun, unknownTask } from '../transitions.ts';
import type { Claimed } from '../waiters.ts';
import { notifyOutbox } from '../../../platform/events.ts';
import type { TaskStatus } from '@tscluster/api/queue/tasks.ts';

type ClaimMethods = 'claimWork' | 'claimTask' | 'reclaimTask' | 'reportCompleted' | 'reportFailed' | 'reportException';

/** How long `claimWork` waits for work. */
const LONG_POLL_MS = 20_000;
/** A task queue that is only known from `claimTask` is remembered for this long. */
const SEEN_MS = 5 * 24 * 3_600_000;

/** Run ids of any length pass the parameter's pattern; no task has that many runs. */
const toRunId = (runId: string): number => Math.min(Number(runId), 10_000);

const claimText = (ctx: Ctx, worker: ClaimRequest, claim: Claimed): string => {
  const { workerGroup, workerId } = worker;
  const { taskId, runId, takenUntilMs, scopes, status } = claim;
  const credentials = makeTaskCredentials(ctx, { taskId, runId, workerGroup, workerId, takenUntilMs, scopes });
  const task = definitionText(priorityName(claim.priority), claim.definition);
  return (
    `{"status":${status},"runId":${runId},"workerGroup":"${workerGroup}","workerId":"${workerId}",` +
    `"takenUntil":"${new Date(takenUntilMs).toISOString()}","task":${task},"credentials":${JSON.stringify(credentials)}}`
  );
};

const report = async (ctx: Ctx, end: RunEnd): Promise<RawJson> => {
  for (let tries = 1; ; tries++) {
    const row = await ctx.hot.end(end);
    if (row) {
      countOutcome(ctx, end.outcome, end.reason, row.taskQueueId);
      return new RawJson(`{"status":${row.status}}`);
    }
    const status = await repeatReport(ctx, end);
    if (status !== undefined) {
      return new RawJson(`{"status":${status}}`);
    }
    if (tries >= 5) {
      throw new Error(`Run ${end.runId} of task ${end.taskId} is running and cannot be resolved`);
    }
  }
};

export const claimHandlers: Pick<Handlers<typeof queueApi, Ctx>, ClaimMethods> = {
  async claimWork({ ctx, params: { taskQueueId }, body, authorize, signal, onSent }) {
    const { workerGroup, workerId } = body;
    await authorize({ taskQueueId, workerGroup, workerId });
    const worker = { taskQueueId, workerGroup, workerId };
    ctx.seen.worker(taskQueueId, workerGroup, workerId, []);
    const closed = signal();
    const excluded = ctx.seen.isQuarantined(taskQueueId, workerGroup, workerId);
    if (!excluded) {
      ctx.polls.polled(taskQueueId);
    }
    const { clock } = ctx.platform;
    const endMs = clock.monotonicMs() + LONG_POLL_MS;
    let claims: readonly Claimed[] = excluded ? [] : await ctx.unanswered.take(worker, body.tasks);
    for (let leftMs = LONG_POLL_MS; claims.length === 0 && leftMs > 0 && !closed.aborted; leftMs = endMs - clock.monotonicMs()) {
      const againMs = excluded ? undefined : ctx.unanswered.dueInMs(worker);
      claims = await ctx.waiters.wait(worker, body.tasks, Math.min(leftMs, againMs ?? leftMs), closed);
      if (claims.length > 0) {
        ctx.unanswered.answering(worker, claims);
        ctx.seen.worker(taskQueueId, workerGroup, workerId, claims);
      } else if (againMs !== undefined && !closed.aborted) {
        claims = await ctx.unanswered.take(worker, body.tasks);
      }
    }
    if (claims.length > 0) {
      let sent = false;
      onSent(() => {
        sent = true;
        claims.forEach(claim => ctx.hot.answered(claim, () => ctx.unanswered.settled(worker, claim)));
      });
      const onClose = (): void => {
        if (!sent) {
          ctx.unanswered.lost(worker, claims);
        }
      };
      if (closed.aborted) {
        onClose();
      } else {
        closed.addEventListener('abort', onClose, { once: true });
      }
    }
    return new RawJson(`{"tasks":[${claims.map(claim => claimText(ctx, worker, claim)).join(',')}]}`);
  },

  async claimTask({ ctx, params, body: { workerGroup, workerId }, authorize }) {
    const { db, clock } = ctx.platform;
    const { taskId } = params;
    const runId = toRunId(params.runId);
    const found = await requireTask(ctx, taskId);
    const { taskQueueId } = found;
    await authorize({ ...splitTaskQueueId(taskQueueId), workerGroup, workerId });
    const nowMs = clock.nowMs();
    ctx.seen.taskQueue(taskQueueId, nowMs + SEEN_MS);
    const takenUntilMs = nowMs + ctx.config.claimTimeoutMs;
    const takenUntil = new Date(takenUntilMs).toISOString();
    const refuse = (why: string): never => conflict(`Run {{runId}} of task \`{{taskId}}\` cannot be claimed: ${why}.`, { taskId, runId });

    const claimed = await db.tx(async tx => {
      await lockPending(tx, ctx, [taskId]);
      const task = (await lockTask(tx, taskId)) ?? unknownTask(taskId);
      if (runId > task.runId) {
        unknownRun(taskId, runId);
      }
      if (task.deadline.getTime() <= nowMs) {
        refuse('the deadline of the task is past');
      }
      if (ctx.seen.isQuarantined(taskQueueId, workerGroup, workerId)) {
        refuse('the worker is quarantined');
      }
      if (runId !== task.runId) {
        refuse('a later run exists');
      }
      if (task.state === 'pending') {
        const status = await claimOne(tx, taskId, { workerGroup, workerId }, new Date(nowMs).toISOString(), takenUntil);
        tx.afterCommit(() => {
          ctx.wake.claims(takenUntilMs);
          notifyOutbox();
        });
        return { status, scopes: task.scopes };
      }
      if (task.state !== 'running') {
        refuse(`it is ${task.state}`);
      }
      if (!task.claimedDirectly || task.workerGroup !== workerGroup || task.workerId !== workerId) {
        refuse('another worker has it');
      }
      const status = JSON.parse(task.status) as TaskStatus;
      await announce(tx, [
        taskEvent(
          'taskRunning',
          task,
          status,
          { runId, workerGroup, workerId },
          { task: { tags: JSON.parse(task.tags) as object }, takenUntil },
        ),
      ]);
      return { status: task.status, scopes: task.scopes };
    });

    const definition = (await getDefinition(db, taskId)) ?? unknownTask(taskId);
    return new RawJson(claimText(ctx, { taskQueueId, workerGroup, workerId }, { ...definition, ...claimed, runId, takenUntilMs }));
  },

  async reclaimTask({ ctx, params }) {
    const { taskId } = params;
    const runId = toRunId(params.runId);
    const row = await ctx.hot.reclaim({ taskId, runId });
    if (!row) {
      const task = await requireTask(ctx, taskId);
      if (runId > task.runId) {
        unknownRun(taskId, runId);
      }
      if (task.deadline.getTime() <= ctx.platform.clock.nowMs()) {
        conflict('Run {{runId}} of task `{{taskId}}` cannot be reclaimed: the deadline of the task ({{deadline}}) is past.', {
          taskId,
          runId,
          deadline: task.deadline.toISOString(),
        });
      }
      return conflict('Run {{runId}} of task `{{taskId}}` cannot be reclaimed: {{why}}. Stop working on it.', {
        taskId,
        runId,
        why: runId < task.runId ? 'a later run exists' : `it is ${task.state}`,
      });
    }
    const { taskQueueId, workerGroup, workerId, takenUntilMs, scopes } = row;
    ctx.seen.worker(taskQueueId, workerGroup, workerId, []);
    const credentials = makeTaskCredentials(ctx, { taskId, runId, workerGroup, workerId, takenUntilMs, scopes });
    return new RawJson(
      `{"status":${row.status},"runId":${runId},"workerGroup":"${workerGroup}","workerId":"${workerId}",` +
        `"takenUntil":"${new Date(takenUntilMs).toISOString()}","credentials":${JSON.stringify(credentials)}}`,
    );
  },

  // very old workers report failures as a success that was none
  async reportCompleted({ ctx, params: { taskId, runId }, anyBody }) {
    const failed = (anyBody as { success?: unknown } | undefined)?.success === false;
    const outcome = failed ? 'failed' : 'completed';
    return report(ctx, { taskId, runId: toRunId(runId), outcome, reason: outcome });
  },

  async reportFailed({ ctx, params: { taskId, runId } }) {
    return report(ctx, { taskId, runId: toRunId(runId), outcome: 'failed', reason: 'failed' });
  },

  async reportException({ ctx, params: { taskId, runId }, body: { reason } }) {
    return report(ctx, { taskId, runId: toRunId(runId), outcome: 'exception', reason });
  },
};
