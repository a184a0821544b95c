/**
 * Was anything lost, done twice, or done without cause? Compares three accounts of the same tasks: what the queue says of them in the end, which events
 * were delivered, and what workers received and reported. It only reads, so that it can be tried on accounts that are wrong on purpose.
 */
import type { DeliveredEvent } from './events.ts';
import type { Ledger } from './fake-workers.ts';
import { type Outcome, type PlannedTask, isRetried } from './load.ts';

export interface FinalRun {
  readonly runId: number;
  readonly state: string;
  readonly reasonCreated: string;
  readonly reasonResolved?: string | undefined;
  readonly workerGroup?: string | undefined;
  readonly workerId?: string | undefined;
  readonly started?: string | undefined;
}

export interface FinalTask {
  readonly plan: PlannedTask;
  readonly status: { readonly taskId: string; readonly state: string; readonly retriesLeft: number; readonly runs: readonly FinalRun[] };
  /** By run, names of artifacts that are announced when they can be read. */
  readonly artifacts: readonly (readonly string[])[];
}

export interface Accounts {
  readonly tasks: readonly FinalTask[];
  readonly events: readonly DeliveredEvent[];
  readonly ledger: Pick<Ledger, 'handOuts' | 'problems' | 'attempts' | 'firstPlace'>;
}

/** A client repeats a call so often when its answers are lost. */
const MAX_REPEATS = 12;

const stateOf = (outcome: Outcome): string => (outcome === 'completed' || outcome === 'failed' ? outcome : 'exception');

/** The name of an event about a task: exchange, run, and for artifacts their name. */
const keyOf = ({ exchange, payload }: DeliveredEvent): string =>
  [exchange, payload.runId ?? '_', ...(payload.artifact ? [payload.artifact.name] : [])].join(' ');

/** The events that a task must have caused, in order; those of artifacts come anywhere between running and resolved. */
export const listExpectedEvents = ({ status }: Pick<FinalTask, 'status'>): string[] => [
  'task-defined _',
  ...status.runs.flatMap(run => [
    ...(run.reasonCreated === 'exception' ? [] : [`task-pending ${run.runId}`]),
    ...(run.started === undefined ? [] : [`task-running ${run.runId}`]),
    ...(run.state === 'pending' || run.state === 'running' ? [] : [`task-${run.state} ${run.runId}`]),
  ]),
];

const checkOutcome = ({ plan, status }: FinalTask): string[] => {
  const { outcomes } = plan;
  const actual = status.runs.map(run => `${run.state}/${run.reasonResolved ?? '-'}/${run.reasonCreated}`);
  if (outcomes === undefined) {
    return status.state === 'unscheduled' && actual.length === 0 ? [] : [`should never run, but is ${status.state}: ${actual.join(', ')}`];
  }
  const wanted = outcomes.map((outcome, index) => {
    const before = outcomes[index - 1];
    const created = before === undefined ? 'scheduled' : before === 'intermittent-task' ? 'task-retry' : 'retry';
    return `${stateOf(outcome)}/${outcome}/${created}`;
  });
  if (plan.isLocal) {
    // the worker may have ended meanwhile, any number of times
    const lost = actual.slice(0, -1);
    const [last = ''] = actual.slice(-1);
    const isRight =
      lost.every((run, index) => run === `exception/worker-shutdown/${index === 0 ? 'scheduled' : 'retry'}`) &&
      last === `${wanted[0]?.split('/').slice(0, 2).join('/')}/${lost.length === 0 ? 'scheduled' : 'retry'}`;
    return isRight ? [] : [`should end as ${wanted.join(', ')}, but has ${actual.join(', ') || 'no run'}`];
  }
  return actual.join() === wanted.join() ? [] : [`should have ${wanted.join(', ')}, but has ${actual.join(', ') || 'no run'}`];
};

const checkRetries = ({ plan, status }: FinalTask): string[] => {
  const retried = status.runs.filter(run => isRetried(run.reasonResolved as Outcome)).length;
  const left = (plan.definition as { retries?: number }).retries ?? 5;
  return status.retriesLeft === left - retried ? [] : [`has ${status.retriesLeft} retries left after ${retried} of ${left}`];
};

/** How often an event may come: once, and once for each time that its cause was said again. */
const allowedTimes = (key: string, { plan }: FinalTask, { attempts }: Accounts['ledger']): number => {
  const [exchange, run = '_'] = key.split(' ');
  const runId = Number(run);
  const reports = (id: number): number => (plan.isLocal ? MAX_REPEATS : attempts(`report ${plan.taskId}/${id}`));
  switch (exchange) {
    case 'task-defined':
      return attempts(`create ${plan.taskId}`);
    case 'task-pending':
      return runId === 0 ? attempts(`create ${plan.taskId}`) : reports(runId - 1);
    case 'task-running':
      return 1;
    case 'artifact-created':
      return plan.isLocal ? MAX_REPEATS : attempts(`artifact ${plan.taskId}/${run}`);
    default:
      return reports(runId);
  }
};

const checkTaskEvents = (task: FinalTask, events: readonly DeliveredEvent[], ledger: Accounts['ledger']): string[] => {
  const problems: string[] = [];
  const expected = listExpectedEvents(task);
  const artifacts = task.artifacts.flatMap((names, runId) => names.map(name => `artifact-created ${runId} ${name}`));
  const times = new Map<string, number>();
  const order: string[] = [];
  for (const event of events) {
    const key = keyOf(event);
    if (!times.has(key) && event.exchange !== 'artifact-created') {
      order.push(key);
    }
    times.set(key, (times.get(key) ?? 0) + 1);
    const { taskId } = task.plan;
    const words = event.routingKey.split('.');
    if (words[0] !== 'primary' || words[1] !== taskId || words[2] !== String(event.payload.runId ?? '_')) {
      problems.push(`${key} was sent under ${event.routingKey}`);
    }
    const resolution = /^task-(completed|failed|exception)$/.exec(event.exchange)?.[1];
    const run = event.payload.status?.runs[event.payload.runId ?? -1];
    if (resolution !== undefined && run?.state !== resolution) {
      problems.push(`${key} says that the run is ${run?.state ?? 'missing'}`);
    }
    if (event.exchange === 'task-defined' && event.payload.status?.state !== 'unscheduled') {
      problems.push(`${key} says that the task is ${event.payload.status?.state}`);
    }
  }
  for (const key of [...expected, ...artifacts]) {
    if (!times.has(key)) {
      problems.push(`lost: ${key}`);
    }
  }
  for (const [key, count] of times) {
    if (!expected.includes(key) && !artifacts.includes(key)) {
      problems.push(`without cause: ${key}`);
    } else if (count > allowedTimes(key, task, ledger)) {
      problems.push(`${count} times: ${key}`);
    }
  }
  const wanted = expected.filter(key => times.has(key));
  const got = order.filter(key => expected.includes(key));
  if (wanted.join() !== got.join()) {
    problems.push(`out of order: ${got.join(', ')}`);
  }
  return problems;
};

const isResolution = (event: DeliveredEvent): boolean =>
  /^task-(completed|failed|exception)$/.test(event.exchange) && /^(completed|failed|exception)$/.test(event.payload.status?.state ?? '');

/** A group is announced after the last of its tasks was resolved, and not while one never was. */
const checkGroups = ({ tasks, events }: Accounts): string[] => {
  const groups = Map.groupBy(tasks, ({ plan }) => plan.taskGroupId);
  const resolvedAt = new Map<string, number>();
  const definedAt = new Map<string, number>();
  const announcedAt = new Map<string, number>();
  for (const event of events) {
    const { status, taskGroupId } = event.payload;
    if (event.exchange === 'task-group-resolved' && taskGroupId !== undefined) {
      announcedAt.set(taskGroupId, event.seq);
    } else if (status && isResolution(event)) {
      resolvedAt.set(status.taskId, resolvedAt.get(status.taskId) ?? event.seq);
    } else if (status && event.exchange === 'task-defined') {
      definedAt.set(status.taskId, definedAt.get(status.taskId) ?? event.seq);
    }
  }
  const unknown = [...announcedAt.keys()].filter(taskGroupId => !groups.has(taskGroupId));
  const problems = [...groups].flatMap(([taskGroupId, members]) => {
    const announced = announcedAt.get(taskGroupId) ?? -1;
    const open = members.find(({ status }) => status.state === 'unscheduled');
    if (open) {
      return announced > (definedAt.get(open.plan.taskId) ?? Infinity)
        ? [`without cause: task-group-resolved of ${taskGroupId}, whose task ${open.plan.taskId} never ran`]
        : [];
    }
    const last = Math.max(...members.map(({ plan }) => resolvedAt.get(plan.taskId) ?? -1));
    return announced > last ? [] : [`lost: task-group-resolved of ${taskGroupId}`];
  });
  return [...unknown.map(taskGroupId => `without cause: task-group-resolved of the unknown group ${taskGroupId}`), ...problems];
};

/** Each run was handed to one worker only, after the run before had ended and everything it waits for had been reported. */
const checkClaims = ({ tasks, ledger }: Accounts): string[] => {
  const byId = new Map(tasks.map(task => [task.plan.taskId, task]));
  const holders = new Map<string, string>();
  return ledger.handOuts.flatMap(({ taskId, runId, worker, place }) => {
    const key = `${taskId}/${runId}`;
    const task = byId.get(taskId);
    const holder = holders.get(key) ?? worker;
    holders.set(key, holder);
    const run = task?.status.runs[runId];
    const recorded = `${run?.workerGroup}/${run?.workerId}`;
    const before = runId === 0 ? [] : [`report ${taskId}/${runId - 1}`];
    const waitedFor = (task?.plan.dependencies ?? []).flatMap(id => {
      const parent = byId.get(id);
      return parent === undefined || parent.plan.isLocal ? [] : [`report ${id}/${parent.status.runs.length - 1}`];
    });
    return [
      ...(task ? [] : [`${key}: handed to ${worker}, but nobody created it`]),
      ...(holder === worker ? [] : [`${key}: handed to ${worker}, while ${holder} held it`]),
      ...(task && recorded !== worker ? [`${key}: handed to ${worker}, but the queue says ${recorded}`] : []),
      ...[...before, ...waitedFor]
        .filter(cause => !((ledger.firstPlace(cause) ?? Infinity) < place))
        .map(cause => `${key}: handed to ${worker} before «${cause}»`),
    ];
  });
};

/** Everything that is wrong, one line each; empty when all is well. */
export const audit = (accounts: Accounts): string[] => {
  const { tasks, events, ledger } = accounts;
  const byTask = Map.groupBy(
    events.filter(event => !event.exchange.startsWith('task-group-')),
    event => event.payload.status?.taskId ?? '',
  );
  const known = new Set(tasks.map(({ plan }) => plan.taskId));
  const seen = new Set<string>();
  return [
    ...ledger.problems,
    ...events.flatMap(({ eventId }) => (seen.has(eventId) ? [`delivered twice: event ${eventId}`] : (seen.add(eventId), []))),
    ...[...byTask.keys()].flatMap(taskId => (known.has(taskId) ? [] : [`without cause: events of the unknown task ${taskId}`])),
    ...tasks.flatMap(task =>
      [...checkOutcome(task), ...checkRetries(task), ...checkTaskEvents(task, byTask.get(task.plan.taskId) ?? [], ledger)].map(
        problem => `${task.plan.taskId}: ${problem}`,
      ),
    ),
    ...checkGroups(accounts),
    ...checkClaims(accounts),
  ];
};
