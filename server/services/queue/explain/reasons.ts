/** The reasons for each state, in sentences. Pure. */
import type { ExplainReason, TaskExplanation } from '@tscluster/api/queue/explain.ts';
import type { TaskRun, TaskStatus } from '@tscluster/api/queue/tasks.ts';
import type { Blocker, Blockers } from './blockers.ts';
import type { TaskMoment } from './moment.ts';
import { type QueueView, whyNobodyAsks } from './queues.ts';
import { counted, duration, ending, plural, sentence, waitsFor } from './words.ts';

/** What is explained, and as of when. */
export interface Subject {
  readonly taskId: string;
  readonly status: TaskStatus;
  readonly moment: TaskMoment;
  readonly createdMs: number;
  readonly atMs: number;
  readonly nowMs: number;
  readonly isPast: boolean;
}

type Reason = { readonly reason: ExplainReason; readonly message: string };
export type Line = NonNullable<TaskExplanation['line']>;

export const lateReason = ({ moment, status, atMs }: Subject, delayMs: number): Reason[] => {
  const overMs = atMs - Date.parse(status.deadline);
  const isOpen = moment.state === 'unscheduled' || moment.state === 'pending' || moment.state === 'running';
  return isOpen && overMs > 0
    ? [
        {
          reason: 'deadline-passed',
          message: sentence(
            `its deadline passed ${duration(overMs)} ago: it is given up ${duration(delayMs)} after it, and nothing changes that`,
          ),
        },
      ]
    : [];
};

/** Of a task that has runs and waits for its dependencies once more. */
export const heldReason = ({ isPast, moment }: Subject, isHeld: boolean, unmet: number): Reason[] =>
  isHeld && !isPast
    ? [
        {
          reason: 'runs-again-later',
          message: sentence(
            `it ${moment.state === 'pending' ? 'is handed out' : 'runs again'} when the ${plural(unmet, 'task that it waits for is', 'tasks that it waits for are')} resolved`,
          ),
        },
      ]
    : [];

export const waitingReasons = (
  { moment, atMs, taskId }: Subject,
  waiting: Blockers | undefined,
  causes: readonly Blocker[],
  unmet: number,
  called: (taskId: string) => string,
  phrase: (blocker: Blocker) => string,
): Reason[] => {
  const reasons: Reason[] = [];
  const [first, ...more] = causes;
  const since = `unscheduled for ${duration(atMs - moment.sinceMs)}`;
  if (first) {
    const others = more.length > 0 ? `; ${plural(more.length, 'other task keeps', 'other tasks keep')} it waiting, too` : '';
    reasons.push({ reason: 'waits-for-tasks', message: sentence(`${since}: ${waitsFor(first.path.map(called), phrase(first))}${others}`) });
  } else if (!waiting || waiting.hidden > 0) {
    const count = waiting ? waiting.hidden : unmet;
    const what = count > 0 ? plural(count, 'task that is', 'tasks that are') : 'tasks that are';
    reasons.push({ reason: 'waits-for-tasks', message: sentence(`${since}: it waits for ${what} not shown`) });
  }
  if (waiting?.onItself) {
    reasons.push({
      reason: 'waits-for-itself',
      message: sentence(`task ${taskId} depends on itself: only scheduling or running it by hand starts it`),
    });
  }
  const [told] = reasons;
  if (told && (first?.moment?.state === 'failed' || first?.moment?.state === 'exception')) {
    const until = 'It stays unscheduled until that task completes in another run, somebody schedules it, or its deadline passes.';
    reasons[0] = { ...told, message: `${told.message} ${until}` };
  }
  return reasons.length > 0
    ? reasons
    : [
        {
          reason: 'waits-for-release',
          message: sentence(`${since}: everything that it waited for is resolved, and it is about to be scheduled`),
        },
      ];
};

const lineText = ({ ahead, isMore, byPriority }: Line): string => {
  const parts = byPriority.map(part => `${counted(part.ahead, part.isMore)} ${part.priority}`).join(', ');
  return ahead === 0
    ? 'it is the next in line'
    : `${counted(ahead, isMore)} ${ahead === 1 ? 'task is' : 'tasks are'} ahead of it (${parts})`;
};

const WHY_AGAIN = {
  retry: 'is tried again because the run before',
  'task-retry': 'is tried again because the run before',
  rerun: 'was asked to run again after the run before',
} as const;

export const pendingReasons = ({ moment, atMs, status }: Subject, line: Line | undefined, queue: QueueView | undefined): Reason[] => {
  const reasons: Reason[] = [];
  const since = `pending for ${duration(atMs - moment.sinceMs)} in ${status.taskQueueId}`;
  const why = queue && whyNobodyAsks(queue);
  const lastPolled = queue?.polls?.lastPolled;
  const silence = lastPolled === undefined ? 'as far as is remembered' : `for ${duration(atMs - Date.parse(lastPolled))}`;
  switch (why) {
    case 'no-worker-asks':
      reasons.push({ reason: why, message: sentence(`${since}: no worker has asked for work there ${silence}`) });
      break;
    case 'workers-quarantined':
      reasons.push({
        reason: why,
        message: sentence(
          `${since}: all ${plural(queue?.workers?.quarantined ?? 0, 'worker')} there ${queue?.workers?.quarantined === 1 ? 'is' : 'are'} quarantined`,
        ),
      });
      break;
    case 'workers-busy':
      reasons.push({
        reason: why,
        message: sentence(
          `${since}: the workers there are busy (${plural(queue?.claims?.workers ?? 0, 'worker holds', 'workers hold')} ${plural(queue?.claims?.runs ?? 0, 'run')}), and none has asked for more ${silence}`,
        ),
      });
      break;
    default:
      reasons.push({
        reason: 'waits-in-line',
        message: sentence(
          `${since}: ${queue?.polls?.isPolled ? 'workers ask for work there, and it waits its turn' : 'it waits for a worker'}`,
        ),
      });
  }
  if (line) {
    reasons.push({ reason: 'waits-in-line', message: sentence(lineText(line)) });
  }
  const [before, last] = [moment.runs.at(-2), moment.runs.at(-1)];
  const again = last && last.reasonCreated in WHY_AGAIN ? WHY_AGAIN[last.reasonCreated as keyof typeof WHY_AGAIN] : undefined;
  if (before && again) {
    reasons.push({
      reason: 'run-again',
      message: sentence(`it ${again} ${ending(before, atMs)}; ${plural(moment.retriesLeft, 'retry is', 'retries are')} left`),
    });
  }
  return reasons;
};

export const runningReasons = ({ moment, atMs, isPast }: Subject): Reason[] => {
  const run = moment.runs.at(-1) as TaskRun;
  const claimed = `running for ${duration(atMs - moment.sinceMs)} on ${run.workerGroup}/${run.workerId} (run ${run.runId})`;
  const leftMs = run.takenUntil === undefined ? undefined : Date.parse(run.takenUntil) - atMs;
  if (isPast || leftMs === undefined) {
    return [{ reason: 'claimed', message: sentence(claimed) }];
  }
  return leftMs > 0
    ? [{ reason: 'claimed', message: sentence(`${claimed}; its claim lasts for ${duration(leftMs)} more unless it is renewed`) }]
    : [
        { reason: 'claimed', message: sentence(claimed) },
        {
          reason: 'claim-ran-out',
          message: sentence(
            `its claim ran out ${duration(-leftMs)} ago: the run is about to be given up${moment.retriesLeft > 0 ? ' and tried again' : ''}`,
          ),
        },
      ];
};

export const endedReasons = ({ moment, atMs, status }: Subject, cancelled: TaskExplanation['changes'][number] | undefined): Reason[] => {
  const run = moment.runs.at(-1) as TaskRun;
  const how = `it ${ending(run, atMs)}`;
  switch (run.reasonResolved) {
    case 'completed':
    case 'failed':
      return [{ reason: run.reasonResolved, message: sentence(how) }];
    case 'canceled': {
      const by = cancelled?.clientId === undefined ? '' : ` by ${cancelled.clientId}`;
      return [{ reason: 'canceled', message: sentence(`${how}${by}${cancelled?.ofGroup ? ', with its group' : ''}`) }];
    }
    case 'deadline-exceeded': {
      const never = run.reasonCreated === 'exception' ? '; it had never been scheduled, because it waited for other tasks' : '';
      return [{ reason: 'deadline-exceeded', message: sentence(`${how}${never} (deadline ${status.deadline})`) }];
    }
    case 'claim-expired':
    case 'worker-shutdown':
      return [{ reason: 'worker-lost', message: sentence(`${how}, and no retries were left`) }];
    default:
      return [{ reason: 'task-refused', message: sentence(how) }];
  }
};

export const whatIsUnknown = ({ moment }: Subject, waiting: Blockers | undefined): string[] => {
  switch (moment.state) {
    case 'pending':
      return ['The place in line.', 'How many workers were known, and what they held.'];
    case 'running':
      return moment.runs.at(-1)?.takenUntil === undefined ? ['Until when the claim lasted at that moment.'] : [];
    case 'unscheduled':
      return (waiting?.forgotten ?? 0) > 0
        ? [`Whether ${plural(waiting?.forgotten ?? 0, 'task')} that ${waiting?.forgotten === 1 ? 'is' : 'are'} gone now kept it waiting.`]
        : [];
    default:
      return [];
  }
};
