/** What a listener wants, checked. Every refusal is `InvalidRequestArguments` and says what is wrong and what would be right. */
import { exchanges } from '@tscluster/api/all.ts';
import { exchangeName } from '@tscluster/api/define.ts';
import { queueEvents } from '@tscluster/api/queue/events.ts';
import { MAX_ROUTING_KEY_BYTES, routingKeyPattern } from '@tscluster/api/routing-key.ts';
import { param } from '@tscluster/api/types.ts';
import type { Binding } from '../../platform/bus/bus.ts';
import { apiError } from '../../platform/errors.ts';

const EXCHANGES: ReadonlySet<string> = new Set(
  exchanges.flatMap(declared => Object.values(declared.exchanges).map(({ exchange }) => exchangeName(declared, exchange))),
);

const refuse = (message: string): never => apiError('InvalidRequestArguments', message);

/** Bindings to every exchange of the queue whose keys name the field. */
const queueBindings = (field: 'taskId' | 'taskGroupId', value: string): Binding[] =>
  Object.values(queueEvents.exchanges)
    .filter(({ routingKey }) => routingKey.some(({ name }) => name === field))
    .map(exchange => ({
      exchange: exchangeName(queueEvents, exchange.exchange),
      pattern: routingKeyPattern(exchange, { [field]: value }),
    }));

/** Several `#` in a row mean the same as one. */
const normalise = (pattern: string): string => pattern.replace(/(^|\.)#(?:\.#)+(?=\.|$)/g, '$1#');

const checkBinding = (given: unknown, index: number): Binding => {
  const where = `bindings[${index}]`;
  if (typeof given !== 'object' || given === null || Array.isArray(given)) {
    return refuse(`${where} must be an object with exchange and routingKeyPattern`);
  }
  const { exchange, routingKey, routingKeyPattern: pattern = routingKey } = given as Record<string, unknown>;
  if (typeof exchange !== 'string') {
    return refuse(`${where}.exchange must be the full name of an exchange, such as exchange/taskcluster-queue/v1/task-completed`);
  }
  if (!EXCHANGES.has(exchange)) {
    return refuse(`${where}.exchange: there is no exchange '${exchange}'; there are ${[...EXCHANGES].join(', ')}`);
  }
  if (typeof pattern !== 'string' || pattern === '') {
    return refuse(`${where}.routingKeyPattern must be a pattern, such as primary.# (# is any number of words, * is one)`);
  }
  if (routingKey !== undefined && routingKey !== pattern) {
    return refuse(`${where} has a routingKey and a different routingKeyPattern; give one of them`);
  }
  const bytes = Buffer.byteLength(pattern);
  if (bytes > MAX_ROUTING_KEY_BYTES) {
    return refuse(`${where}.routingKeyPattern has ${bytes} bytes and may have ${MAX_ROUTING_KEY_BYTES}`);
  }
  return { exchange, pattern: normalise(pattern) };
};

interface Wanted {
  readonly bindings: readonly unknown[];
  readonly taskGroupId: string | undefined;
  readonly taskId: string | undefined;
}

const checkWanted = ({ bindings, taskGroupId, taskId }: Wanted, maxBindings: number): readonly Binding[] => {
  if (bindings.length > maxBindings) {
    return refuse(`There are ${bindings.length} bindings, and a connection may have ${maxBindings}`);
  }
  const all = [
    ...bindings.map(checkBinding),
    ...(taskGroupId === undefined ? [] : queueBindings('taskGroupId', taskGroupId)),
    ...(taskId === undefined ? [] : queueBindings('taskId', taskId)),
  ];
  const distinct = new Map(all.map(binding => [`${binding.exchange} ${binding.pattern}`, binding]));
  return [...distinct.values()];
};

const parseObject = (text: string, what: string, shape: string): Record<string, unknown> => {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    return refuse(`${what} is not valid, error: ${(error as Error).message}`);
  }
  return typeof value === 'object' && value !== null && !Array.isArray(value)
    ? (value as Record<string, unknown>)
    : refuse(`${what} is not valid, error: it must be ${shape}`);
};

export interface WantedQuery {
  readonly bindings?: string | undefined;
  /** Checked against its pattern before. */
  readonly taskGroupId?: string | undefined;
  readonly taskId?: string | undefined;
}

/** Bindings from the query of `connect`; none when it asks for nothing. */
export const bindingsOfQuery = ({ bindings: text, taskGroupId, taskId }: WantedQuery, maxBindings: number): readonly Binding[] => {
  let bindings: unknown = [];
  if (text !== undefined) {
    const what = `Query-string parameter: bindings="${text}"`;
    const shape = '{"bindings": [...]}';
    ({ bindings } = parseObject(text, what, shape));
    if (!Array.isArray(bindings)) {
      return refuse(`${what} is not valid, error: it must be ${shape}`);
    }
  }
  return checkWanted({ bindings: bindings as unknown[], taskGroupId, taskId }, maxBindings);
};

const optionalSlugid = (value: unknown, name: string): string | undefined =>
  value === undefined || (typeof value === 'string' && param.slugid.test(value)) ? value : refuse(`${name} must be a slugid`);

/** Bindings from a message over the WebSocket, which has the same fields as the query. */
export const bindingsOfMessage = (text: string, maxBindings: number): readonly Binding[] => {
  const { bindings = [], taskGroupId, taskId } = parseObject(text, 'The message', 'an object with bindings, taskGroupId or taskId');
  if (!Array.isArray(bindings)) {
    return refuse('bindings must be a list');
  }
  return checkWanted(
    {
      bindings,
      taskGroupId: optionalSlugid(taskGroupId, 'taskGroupId'),
      taskId: optionalSlugid(taskId, 'taskId'),
    },
    maxBindings,
  );
};

/** Throws unless something is wanted. */
export const requireSome = (bindings: readonly Binding[]): void => {
  if (bindings.length === 0) {
    refuse('Say which events are wanted: give bindings={"bindings":[{"exchange","routingKeyPattern"}]}, taskGroupId or taskId.');
  }
};
