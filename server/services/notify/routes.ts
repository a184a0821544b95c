/**
 * Routes that ask for notifications: `notify.<type>.<address>.on-<filter>` for a task, `notify.group.<type>.<address>.on-<filter>` for its whole group.
 * An address may have dots, so the filter is what follows the last one. What decides is the state in the message, never the exchange: a run that is
 * tried again after an exception is announced on `task-exception` with its new run pending.
 */
import { NOTIFICATION_TYPES, type NotificationType } from '@tscluster/api/notify/deliveries.ts';
import { queueEvents } from '@tscluster/api/queue/events.ts';
import { exchangeName } from '@tscluster/api/define.ts';
import type { TaskState, TaskStatus } from '@tscluster/api/queue/tasks.ts';
import type { Binding } from '../../platform/bus/bus.ts';

export type GroupResult = 'completed' | 'failed' | 'incomplete';

export interface NotifyRoute {
  /** As it stands in the task. */
  readonly route: string;
  readonly kind: 'task' | 'group';
  readonly type: NotificationType;
  readonly address: string;
  readonly filter: Filter;
}

const ALL_STATES: readonly TaskState[] = ['unscheduled', 'pending', 'running', 'completed', 'failed', 'exception'];
const RESOLVED: readonly TaskState[] = ['completed', 'failed', 'exception'];

/** The states of a task in which a filter asks for a message. */
const STATES = {
  any: RESOLVED,
  completed: ['completed'],
  defined: ['unscheduled'],
  exception: ['exception'],
  failed: ['failed'],
  pending: ['pending'],
  resolved: RESOLVED,
  running: ['running'],
  success: ['completed'],
  transition: ALL_STATES,
} as const satisfies Record<string, readonly TaskState[]>;
export type Filter = keyof typeof STATES;

const GROUP_FILTERS: ReadonlySet<Filter> = new Set(['any', 'completed', 'exception', 'failed', 'resolved', 'success', 'transition']);

const isType = (text: string): text is NotificationType => (NOTIFICATION_TYPES as readonly string[]).includes(text);
const isFilter = (text: string): text is Filter => Object.hasOwn(STATES, text);

/** Reads a route; undefined when it is not one of ours. */
export const parseRoute = (route: string, prefix: string): NotifyRoute | undefined => {
  if (!route.startsWith(`${prefix}.`)) {
    return undefined;
  }
  const words = route.slice(prefix.length + 1).split('.');
  const kind = words[0] === 'group' ? 'group' : 'task';
  if (kind === 'group') {
    words.shift();
  }
  const type = words.shift() ?? '';
  const last = words.pop() ?? '';
  const filter = last.slice('on-'.length);
  if (words.length === 0 || !isType(type) || !last.startsWith('on-') || !isFilter(filter)) {
    return undefined;
  }
  return kind === 'group' && !GROUP_FILTERS.has(filter) ? undefined : { route, kind, type, address: words.join('.'), filter };
};

/** The distinct routes of a message, from its further routing keys. */
export const routesOf = (cc: readonly string[], prefix: string): NotifyRoute[] =>
  [...new Set(cc)].flatMap(key => (key.startsWith('route.') ? (parseRoute(key.slice('route.'.length), prefix) ?? []) : []));

/** Whether a route asks for a message about a task in a state. */
export const asksForTask = ({ kind, filter }: NotifyRoute, state: TaskState): boolean =>
  kind === 'task' && (STATES[filter] as readonly TaskState[]).includes(state);

/** Whether a route asks for a message about a group that ended so. */
export const asksForGroup = (
  { kind, filter }: NotifyRoute,
  { result, hasExceptions }: { readonly result: GroupResult; readonly hasExceptions: boolean },
): boolean => {
  if (kind !== 'group') {
    return false;
  }
  switch (filter) {
    case 'completed':
    case 'success':
      return result === 'completed';
    case 'failed':
      return result === 'failed';
    case 'exception':
      return result === 'failed' && hasExceptions;
    default:
      return GROUP_FILTERS.has(filter);
  }
};

/** Whether nobody is to hear of it: the task was cancelled, or whatever else the operator chose. */
export const isIgnored = ({ state, runs }: Pick<TaskStatus, 'state' | 'runs'>, ignoredReasons: ReadonlySet<string>): boolean =>
  state === 'exception' && ignoredReasons.has(runs.at(-1)?.reasonResolved ?? '');

type QueueExchange = keyof typeof queueEvents.exchanges;
const exchange = (name: QueueExchange): string => exchangeName(queueEvents, queueEvents.exchanges[name].exchange);

const FILTERS_BY_EXCHANGE: readonly (readonly [QueueExchange, readonly Filter[]])[] = [
  ['taskDefined', ['defined']],
  ['taskPending', ['pending']],
  ['taskRunning', ['running']],
  ['taskCompleted', ['completed', 'success', 'resolved', 'any']],
  ['taskFailed', ['failed', 'resolved', 'any']],
  ['taskException', ['exception', 'resolved', 'any']],
];

/** What reaches us of tasks with routes of the first kind. */
export const taskBindings = (prefix: string): Binding[] =>
  FILTERS_BY_EXCHANGE.flatMap(([name, filters]) =>
    [...filters, 'transition'].map(filter => ({ exchange: exchange(name), pattern: `route.${prefix}.#.on-${filter}` })),
  );

/** What reaches us of tasks with routes of the second kind. */
export const groupBindings = (prefix: string): Binding[] =>
  (['taskDefined', 'taskPending', 'taskCompleted', 'taskFailed', 'taskException'] as const).map(name => ({
    exchange: exchange(name),
    pattern: `route.${prefix}.group.#`,
  }));
