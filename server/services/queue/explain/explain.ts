/**
 * Why a task is, or was, in its state. What happened to the task itself is read from its runs; what it waits for by walking its dependencies; task queues
 * and workers from what is recorded of them. A moment that is past is put together from what is stored: what is not known of it any more is said so.
 */
import type { TaskExplanation } from '@tscluster/api/queue/explain.ts';
import type { TaskDefinition, TaskRun, TaskStatus } from '@tscluster/api/queue/tasks.ts';
import type { Caller } from '../../../platform/caller.ts';
import { inputError } from '../../../platform/errors.ts';
import type { Ctx } from '../ctx.ts';
import { getGroup } from '../groups.db.ts';
import { priorityName } from '../rules.ts';
import { getDefinition, getTask } from '../tasks.db.ts';
import { unknownTask } from '../transitions.ts';
import { listActions } from './actions.ts';
import { type Blocker, findBlockers, inOrder, isCause } from './blockers.ts';
import { MAX_COUNT, countAhead, nameIn, readNames } from './explain.db.ts';
import { type ChangeRow, listChanges } from './history.db.ts';
import { createdAt, taskAt } from './moment.ts';
import { type QueueView, pollPhrase, readQueue } from './queues.ts';
import {
  type Line,
  type Subject,
  endedReasons,
  heldReason,
  lateReason,
  pendingReasons,
  runningReasons,
  waitingReasons,
  whatIsUnknown,
} from './reasons.ts';
import { type Sight, makeSight } from './sight.ts';
import { duration, label, predicate, sentence } from './words.ts';

const MAX_BLOCKERS = 50;
const MAX_QUEUES = 5;
const MAX_CHANGES = 50;

const iso = (ms: number): string => new Date(ms).toISOString();

/** Explains a task as it is now, or as it was at `atMs`. */
export const explainTask = async (ctx: Ctx, taskId: string, caller: Caller, pastMs: number | undefined): Promise<TaskExplanation> => {
  const { db, clock } = ctx.platform;
  await Promise.all([ctx.seen.flush(), ctx.polls.flush()]);
  const nowMs = clock.nowMs();
  const [row, stored] = [(await getTask(db, taskId)) ?? unknownTask(taskId), (await getDefinition(db, taskId)) ?? unknownTask(taskId)];
  const status = JSON.parse(row.status) as TaskStatus;
  const definition = JSON.parse(`{${stored.definition}`) as Pick<TaskDefinition, 'created'>;
  const createdMs = createdAt(Date.parse(definition.created), status.runs);
  const atMs = pastMs ?? nowMs;
  const isPast = pastMs !== undefined;
  if (isPast) {
    checkMoment({ atMs, nowMs, createdMs, historyMs: ctx.config.historyMs });
  }
  const moment = taskAt({ runs: status.runs, retries: row.retries, createdMs: Math.min(createdMs, atMs) }, atMs);
  const subject: Subject = { taskId, status, moment, createdMs, atMs, nowMs, isPast };

  const sight = makeSight(caller);
  const mayRead = sight.shows('the definition of the task, and with it what it depends on', [['task', { taskId }]]);
  const unknown: string[] = [];
  const waiting = moment.state === 'unscheduled' && mayRead ? await findBlockers(db, sight, taskId, { atMs, isPast }) : undefined;
  const blockers = inOrder(waiting?.all ?? []);
  const causes = blockers.filter(isCause);
  const queues = await readQueues(ctx, sight, subject, causes);
  const line = await readLine(ctx, sight, subject, { priority: row.priority, pendingSeq: row.pendingSeq });
  const group = sight.shows('whether the task group is sealed', [['getTaskGroup', { taskGroupId: row.taskGroupId }]])
    ? await getGroup(db, row.taskGroupId)
    : undefined;
  const changes = await listChanges(db, taskId);
  const names = await readNames(
    db,
    blockers.slice(0, MAX_BLOCKERS).flatMap(({ taskId }) => (sight.may('task', { taskId }) ? [taskId] : [])),
  );
  const called = (id: string): string => label(id, names.get(id));
  const phrase = (blocker: Blocker): string => {
    const view = queues.find(queue => queue.taskQueueId === blocker.status?.taskQueueId);
    return predicate(blocker, atMs, view && pollPhrase(view, atMs, ctx.config.historyMs));
  };

  const views = changesUntil(sight, changes, atMs);
  const reasons = [
    ...lateReason(subject, ctx.config.deadlineDelayMs),
    ...(moment.state === 'unscheduled'
      ? waitingReasons(subject, waiting, causes, row.unmet, called, phrase)
      : moment.state === 'pending'
        ? pendingReasons(subject, line, queues[0])
        : moment.state === 'running'
          ? runningReasons(subject)
          : endedReasons(subject, views[0]?.change === 'cancel' ? views[0] : undefined)),
    ...heldReason(subject, row.held && Date.parse(status.deadline) > nowMs, row.unmet),
  ];
  if (isPast) {
    unknown.push(...whatIsUnknown(subject, waiting));
  }
  const run = moment.runs.at(-1);
  const sealed = group?.sealed && group.sealed.getTime() <= atMs ? group.sealed.toISOString() : undefined;
  return {
    taskId,
    at: iso(atMs),
    isPast,
    state: moment.state,
    since: iso(moment.sinceMs),
    summary: reasons.map(({ message }) => message).join(' '),
    reasons,
    task: {
      ...(mayRead ? { name: nameIn(stored.definition) } : {}),
      taskQueueId: row.taskQueueId,
      taskGroupId: row.taskGroupId,
      priority: priorityName(priorityAt(changes, row.priority, atMs)),
      retriesLeft: moment.retriesLeft,
      runs: moment.runs.length,
      created: definition.created,
      deadline: status.deadline,
      expires: status.expires,
    },
    ...(run ? { run: runView(run) } : {}),
    ...(waiting
      ? {
          waitsFor: {
            ...(isPast ? {} : { tasks: row.unmet }),
            causes: causes.length,
            hidden: waiting.hidden,
            isComplete: waiting.isComplete,
            blockers: blockers.slice(0, MAX_BLOCKERS).map(blocker => blockerView(blocker, names, phrase(blocker))),
          },
        }
      : {}),
    ...(line ? { line } : {}),
    taskQueues: [...queues],
    ...(group ? { group: sealed === undefined ? {} : { sealed } } : {}),
    changes: views,
    actions: isPast
      ? []
      : listActions(
          sight,
          { status, wasResolved: row.timesResolved > 0 },
          { nowMs, causes, queues: moment.state === 'pending' || moment.state === 'unscheduled' ? queues : [], ahead: line?.ahead ?? 0 },
        ),
    notShown: [...sight.notShown],
    unknown,
  };
};

const checkMoment = (of: { atMs: number; nowMs: number; createdMs: number; historyMs: number }): void => {
  const { atMs, nowMs, createdMs, historyMs } = of;
  if (atMs > nowMs) {
    inputError('`at` ({{at}}) is in the future: it is {{now}} now.', { at: iso(atMs), now: iso(nowMs) });
  }
  if (atMs < nowMs - historyMs) {
    inputError('`at` ({{at}}) is too long ago: what explains past moments is kept for {{days}} days.', {
      at: iso(atMs),
      days: historyMs / 86_400_000,
    });
  }
  if (atMs < createdMs) {
    inputError('There was no such task at {{at}}: it was created at {{created}}.', { at: iso(atMs), created: iso(createdMs) });
  }
};

const readQueues = async (ctx: Ctx, sight: Sight, subject: Subject, causes: readonly Blocker[]): Promise<QueueView[]> => {
  const own = subject.moment.state === 'pending' ? [subject.status.taskQueueId] : [];
  const others = causes.flatMap(({ moment, status }) => (moment?.state === 'pending' && status ? [status.taskQueueId] : []));
  const ids = [...new Set([...own, ...others])].slice(0, MAX_QUEUES);
  return Promise.all(ids.map(id => readQueue(ctx, sight, id, subject)));
};

const readLine = async (
  ctx: Ctx,
  sight: Sight,
  { moment, isPast, atMs, status: { taskQueueId } }: Subject,
  place: { readonly priority: number; readonly pendingSeq: number | null },
): Promise<Line | undefined> => {
  if (moment.state !== 'pending' || isPast || place.pendingSeq === null) {
    return undefined;
  }
  if (!sight.shows('the place in line', [['pendingTasks', { taskQueueId }]])) {
    return undefined;
  }
  const rows = await countAhead(ctx.platform.db, { taskQueueId, priority: place.priority, pendingSeq: place.pendingSeq }, new Date(atMs));
  if (!rows) {
    return undefined; // it is being handed out
  }
  const total = rows.reduce((sum, row) => sum + row.ahead, 0);
  const isMore = total > MAX_COUNT;
  return {
    ahead: Math.min(total, MAX_COUNT),
    isMore,
    byPriority: rows.map((row, i) => {
      const isCut = isMore && i === rows.length - 1;
      return { priority: priorityName(row.priority), ahead: isCut ? row.ahead - 1 : row.ahead, isMore: isCut };
    }),
  };
};

/** The priority before the first change after the moment. */
const priorityAt = (changes: readonly ChangeRow[], now: number, atMs: number): number =>
  changes.findLast(change => change.kind === 'priority' && change.at.getTime() > atMs)?.oldPriority ?? now;

const VERBS = { schedule: 'scheduled', rerun: 'run again', cancel: 'cancelled', priority: 'moved' } as const;

const changesUntil = (sight: Sight, changes: readonly ChangeRow[], atMs: number): TaskExplanation['changes'] =>
  changes
    .filter(change => change.at.getTime() <= atMs)
    .slice(0, MAX_CHANGES)
    .map(({ at, kind, ofGroup, clientId, oldPriority, newPriority }) => {
      const by = sight.showsClient(clientId) ? clientId : undefined;
      const [from, to] = [oldPriority, newPriority].map(rank => (rank === null ? undefined : priorityName(rank)));
      const priorities = from !== undefined && to !== undefined ? { oldPriority: from, newPriority: to } : {};
      const moved = kind === 'priority' ? ` from priority ${from} to ${to}` : '';
      return {
        at: at.toISOString(),
        change: kind,
        ofGroup,
        ...(by === undefined ? {} : { clientId: by }),
        ...priorities,
        message: sentence(
          `${duration(atMs - at.getTime())} before, ${ofGroup ? 'with its group' : 'the task'} ${ofGroup ? 'it ' : ''}was ${VERBS[kind]}${moved}${by === undefined ? '' : ` by ${by}`}`,
        ),
      };
    });

const runView = (run: TaskRun): NonNullable<TaskExplanation['run']> => {
  const { state: _state, reasonCreated: _reason, ...view } = run;
  return view;
};

const blockerView = (
  { taskId, status, moment, path, ...rest }: Blocker,
  names: ReadonlyMap<string, string>,
  what: string,
): NonNullable<TaskExplanation['waitsFor']>['blockers'][number] => {
  const name = names.get(taskId);
  const run = moment?.runs.at(-1);
  const { runId, reasonResolved, workerGroup, workerId } = run ?? {};
  return {
    taskId,
    name,
    state: moment?.state ?? 'missing',
    since: moment && moment.state !== 'unscheduled' ? iso(moment.sinceMs) : undefined,
    isCause: isCause({ taskId, status, moment, path, ...rest }),
    path: [...path],
    runId,
    reasonResolved,
    workerGroup,
    workerId,
    taskQueueId: status?.taskQueueId,
    message: sentence(`${label(taskId, name)} ${what}`),
  };
};
