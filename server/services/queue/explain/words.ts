/** The sentences of an explanation. Pure. Durations are as of the moment that is explained. */
import type { TaskRun } from '@tscluster/api/queue/tasks.ts';
import type { Blocker } from './blockers.ts';

const UNITS = [
  ['day', 86_400_000],
  ['hour', 3_600_000],
  ['minute', 60_000],
  ['second', 1_000],
] as const;

/** `12 minutes`: in the largest unit of which there are at least two; `a moment` below a second. */
export const duration = (ms: number): string => {
  if (ms < 1_000) {
    return 'a moment';
  }
  const [unit, size] = UNITS.find(([, size]) => ms >= 2 * size) ?? UNITS[3];
  return plural(Math.floor(ms / size), unit);
};

export const plural = (count: number, word: string, words = `${word}s`): string => `${grouped(count)} ${count === 1 ? word : words}`;
const grouped = (count: number): string => String(count).replace(/\B(?=(\d{3})+$)/g, ',');
/** `10,000+`. */
export const counted = (count: number, isMore: boolean): string => `${grouped(count)}${isMore ? '+' : ''}`;

export const sentence = (text: string): string => `${text.charAt(0).toUpperCase()}${text.slice(1)}.`;

/** How a task is called: its name, if it may be told, and its id. */
export const label = (taskId: string, name: string | undefined): string =>
  name === undefined ? `task ${taskId}` : `\`${name}\` (${taskId})`;

const onWorker = ({ workerGroup, workerId }: TaskRun): string => (workerId === undefined ? '' : ` on ${workerGroup}/${workerId}`);

/** How a run ended: `was cancelled 3 hours ago`. */
export const ending = (run: TaskRun, atMs: number): string => {
  const ago = `${duration(atMs - Date.parse(run.resolved ?? run.scheduled))} ago`;
  const where = `(run ${run.runId}${onWorker(run)})`;
  switch (run.reasonResolved) {
    case 'completed':
      return `completed ${ago} ${where}`;
    case 'failed':
      return `failed ${ago} ${where}`;
    case 'canceled':
      return `was cancelled ${ago}`;
    case 'deadline-exceeded':
      return `missed its deadline ${ago}${run.started === undefined ? ', before a worker had it' : ` while it was running${onWorker(run)}`}`;
    case 'claim-expired':
      return `was lost ${ago}: its worker did not renew the claim ${where}`;
    case 'worker-shutdown':
      return `was lost ${ago}: its worker was shut down ${where}`;
    case 'malformed-payload':
      return `was refused ${ago}: the worker does not understand its payload ${where}`;
    case 'resource-unavailable':
      return `could not run ${ago}: something it needs was not available ${where}`;
    case 'internal-error':
      return `could not run ${ago}: the worker had an internal error ${where}`;
    case 'intermittent-task':
      return `failed ${ago} in a way that may be tried again ${where}`;
    default:
      return `ended ${ago} ${where}`;
  }
};

/** What holds of a task that another one waits for, to follow its name. `queue` says what is known of the task queue in which it is pending. */
export const predicate = ({ status, moment, waiting }: Blocker, atMs: number, queue: string | undefined): string => {
  const run = moment?.runs.at(-1);
  if (!status || !moment) {
    return 'does not exist any more';
  }
  const since = duration(atMs - moment.sinceMs);
  switch (moment.state) {
    case 'pending':
      return `has been pending for ${since} in ${status.taskQueueId}${queue === undefined ? '' : `, where ${queue}`}`;
    case 'running':
      return `has been running for ${since}${run ? onWorker(run) : ''}`;
    case 'completed':
      return `${run ? ending(run, atMs) : 'completed'}; what waits for it is about to be released`;
    case 'unscheduled':
      return {
        'on-others': 'waits for other tasks',
        'on-itself': 'depends on itself',
        hidden: 'waits for tasks that are not shown',
        'not-looked-at': 'waits for tasks that were not looked at',
        released: 'is about to be scheduled',
      }[waiting];
    default:
      return run ? ending(run, atMs) : moment.state;
  }
};

/** `It waits for A and, through it, for B, which failed.` */
export const waitsFor = (path: readonly string[], what: string): string => {
  const [first = '', ...rest] = path;
  const last = rest.at(-1);
  const between = rest.length > 1 ? ` and ${plural(rest.length - 1, 'other')}` : '';
  return last === undefined
    ? `it waits for ${first}, which ${what}`
    : `it waits for ${first} and, through it${between}, for ${last}, which ${what}`;
};
