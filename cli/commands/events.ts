/** `events …`: what happens, as it happens. */
import { Command } from 'commander';
import { exchanges } from '@tscluster/api/all.ts';
import { exchangeName } from '@tscluster/api/define.ts';
import type { EventMessage } from '@tscluster/api/events/api.ts';
import { listen } from '@tscluster/client/events.ts';
import { collect, leaf, parseCount, parseId } from '../command.ts';
import { connect, note, print, type Context } from '../context.ts';
import { Problem } from '../problem.ts';
import { plain } from '../render/table.ts';

const EXCHANGES: readonly string[] = exchanges.flatMap(declared =>
  Object.values(declared.exchanges).map(({ exchange }) => exchangeName(declared, exchange)),
);

const shortName = (exchange: string): string => exchange.slice(exchange.lastIndexOf('/') + 1);

/** The full name of an exchange that may be given by its last part. @throws {Problem} when there is none, or more than one */
export const findExchange = (name: string): string => {
  const found = EXCHANGES.filter(exchange => exchange === name || shortName(exchange) === name);
  if (found.length !== 1) {
    const names = found.length === 0 ? EXCHANGES.map(shortName) : found;
    throw new Problem(`--exchange ${name} names ${found.length === 0 ? 'no exchange' : 'several'}; choose from ${names.join(', ')}.`);
  }
  return found[0] as string;
};

/** One line for a person; everything in it came from others. */
const describe = ({ exchange, routingKey, payload }: EventMessage): string => {
  const { status, runId } = (payload ?? {}) as { status?: { taskId?: unknown; state?: unknown }; runId?: unknown };
  const about = status?.taskId === undefined ? routingKey : `${String(status.taskId)}${runId === undefined ? '' : `/${String(runId)}`}`;
  const parts = [shortName(exchange), about, ...(status?.state === undefined ? [] : [String(status.state)])];
  return parts.map(plain).join('  ');
};

interface TailOptions {
  readonly exchange?: readonly string[];
  readonly pattern?: string;
  readonly taskGroup?: string;
  readonly task?: string;
  readonly after?: string;
  readonly count?: number;
  readonly json?: boolean;
}

const bindingsOf = ({ exchange, pattern, taskGroup, task }: TailOptions) => {
  if (exchange === undefined && (taskGroup !== undefined || task !== undefined)) {
    if (pattern !== undefined) {
      throw new Problem('--pattern goes with --exchange, or with neither --task nor --task-group.');
    }
    return undefined;
  }
  return (exchange?.map(findExchange) ?? EXCHANGES).map(name => ({ exchange: name, routingKeyPattern: pattern ?? '#' }));
};

const tailCommand = (context: Context): Command =>
  leaf('tail', 'print events as they happen, until interrupted; without options all of them')
    .option('--exchange <name>', 'those of an exchange, such as task-completed; may be repeated', collect)
    .option('--pattern <pattern>', 'those whose routing key matches: * is one word, # any number of words')
    .option('--task-group <id>', 'those about a task group and its tasks', parseId)
    .option('--task <id>', 'those about a task', parseId)
    .option('--after <id>', 'begin after an event, by its lastEventId as --json prints it')
    .option('-n, --count <number>', 'end after so many', parseCount)
    .action(async (options: TailOptions) => {
      const { rootUrl, credentials } = connect(context);
      const bindings = bindingsOf(options);
      let left = options.count ?? Number.POSITIVE_INFINITY;
      if (left === 0) {
        return;
      }
      const events = listen({
        rootUrl,
        credentials,
        bindings,
        taskGroupId: options.taskGroup,
        taskId: options.task,
        lastEventId: options.after,
        clock: context.clock,
        random: context.random,
        signal: context.signal,
        fetch: context.fetch,
        onInterrupted: why => void note(context, `Interrupted (${plain(why)}); connecting again.`),
      });
      for await (const { id, message } of events) {
        await print(
          context,
          options.json
            ? JSON.stringify({ lastEventId: id, ...message })
            : `${context.clock.now().toISOString().slice(11, 19)}  ${describe(message)}`,
        );
        left -= 1;
        if (left === 0) {
          return;
        }
      }
    });

export const eventsCommand = (context: Context): Command =>
  new Command('events').description('follow what happens').addCommand(tailCommand(context));
