/** `task create` and `task run`: new tasks from a definition, or from a command line. */
import { Option, type Command } from 'commander';
import type { MethodInput } from '@tscluster/api/define.ts';
import type { queueApi } from '@tscluster/api/queue/api.ts';
import { slugid } from '@tscluster/client/clock.ts';
import { collect, EXAMPLE_ID, leaf, parseCount, parseId, parsePairs } from '../command.ts';
import { connect, type Context, type Installation } from '../context.ts';
import { readDocument } from '../document.ts';
import { fromNow } from '../durations.ts';
import { Problem } from '../problem.ts';
import { type Outcome, showOutcome, withOutcome } from '../watch/outcome.ts';

type TaskRequest = MethodInput<(typeof queueApi)['methods']['createTask']>;

/** Replaces every `{"$fromNow": "1 day"}` in a definition by the time it means. */
export const fillTimes = (value: unknown, now: Date): unknown => {
  if (Array.isArray(value)) {
    return value.map(item => fillTimes(item, now));
  }
  if (typeof value === 'object' && value !== null) {
    const entries = Object.entries(value);
    const [key, duration] = entries[0] ?? [];
    if (entries.length === 1 && key === '$fromNow' && typeof duration === 'string') {
      return fromNow(duration, now).toISOString();
    }
    return Object.fromEntries(entries.map(([name, item]) => [name, fillTimes(item, now)]));
  }
  return value;
};

const submit = async (
  context: Context,
  installation: Installation,
  taskId: string,
  definition: TaskRequest,
  options: Outcome,
): Promise<void> => {
  const { status } = await installation.queue.createTask({ taskId }, definition);
  await showOutcome(context, installation, taskId, options, { status });
};

export const createCommand = (context: Context): Command =>
  withOutcome(
    leaf('create', 'create a task from its definition')
      .argument('[file]', 'the definition as JSON or YAML; default: standard input')
      .option('--task-id <id>', 'the id of the task; a repeat with the same id and definition changes nothing', parseId),
  )
    .addHelpText(
      'after',
      '\nTimes may be written as {"$fromNow": "1 day"}. A missing "created" is now, a missing "deadline" a day later.\n',
    )
    .action(async (file: string | undefined, options: Outcome & { taskId?: string }) => {
      const given = await readDocument(context, file, 'definition', 'It needs at least taskQueueId, payload and metadata.');
      const definition = completeDefinition(given, context.clock.now());
      await submit(context, connect(context), options.taskId ?? slugid(context.random), definition, options);
    });

const completeDefinition = (given: Record<string, unknown>, now: Date): TaskRequest => {
  const filled = fillTimes(given, now) as Record<string, unknown>;
  return { created: now.toISOString(), deadline: fromNow('1 day', now).toISOString(), ...filled } as TaskRequest;
};

interface RunOptions extends Outcome {
  readonly image?: string;
  readonly taskQueue?: string;
  readonly provisioner?: string;
  readonly workerType?: string;
  readonly env?: string[];
  readonly name?: string;
  readonly description: string;
  readonly owner: string;
  readonly source: string;
  readonly dependency?: string[];
  readonly scope?: string[];
  readonly retries: number;
  readonly maxRunTime: number;
}

export const LOCAL_TASK_QUEUE = 'local/process';

/** The definition of a task that runs one command, in an image or in the worker's own system. */
export const makeRunTask = (words: readonly string[], options: RunOptions, taskGroupId: string, now: Date): TaskRequest => {
  const { provisioner, workerType } = options;
  if (!provisioner !== !workerType) {
    throw new Problem(
      '--provisioner and --worker-type go together.',
      `Or give both as --task-queue ${provisioner ?? 'PROVISIONER'}/${workerType ?? 'TYPE'}.`,
    );
  }
  // with the pair of options, as the command always had it, the first word is an image
  const hasImageWord = provisioner !== undefined && options.image === undefined;
  const [image, command] = hasImageWord ? [words[0], words.slice(1)] : [options.image, words];
  const taskQueueId =
    options.taskQueue ?? (provisioner ? `${provisioner}/${workerType}` : image === undefined ? LOCAL_TASK_QUEUE : undefined);
  if (taskQueueId === undefined) {
    throw new Problem('A task with an image needs workers that run containers.', 'Name them with --task-queue PROVISIONER/TYPE.');
  }
  if (command.length === 0) {
    throw new Problem('There is no command to run.', 'Give it after the options: taskcluster task run -- make check');
  }
  const env = parsePairs(options.env ?? [], '--env');
  const shown = command.join(' ');
  return {
    taskQueueId,
    schedulerId: 'taskcluster-cli',
    taskGroupId,
    dependencies: options.dependency ?? [],
    retries: options.retries,
    scopes: options.scope ?? [],
    created: now.toISOString(),
    deadline: fromNow('1 day', now).toISOString(),
    expires: fromNow('1 year 1 day', now).toISOString(),
    payload:
      image === undefined
        ? { command: [command], env, maxRunTime: options.maxRunTime }
        : { image, command, env, maxRunTime: options.maxRunTime },
    metadata: {
      name: options.name ?? (shown.length > 80 ? `${shown.slice(0, 79)}…` : shown),
      description: options.description,
      owner: options.owner,
      source: options.source,
    },
  };
};

export const runCommand = (context: Context): Command =>
  withOutcome(
    leaf('run', `run a command as a task, on ${LOCAL_TASK_QUEUE} unless told otherwise`)
      .argument('<command...>', 'the command and its arguments; with --provisioner and --worker-type the image comes first')
      .option('-i, --image <image>', 'run it in this container image')
      .option('-q, --task-queue <id>', 'the task queue, as PROVISIONER/TYPE')
      .addOption(new Option('--provisioner <id>', 'first half of the task queue').conflicts('taskQueue'))
      .addOption(new Option('--worker-type <id>', 'second half of the task queue').conflicts('taskQueue'))
      .option('-e, --env <NAME=value>', 'set a variable; may be repeated', collect)
      .option('--name <name>', 'name of the task; default: the command')
      .option('--description <text>', 'what it is for', 'Created by `taskcluster task run`.')
      .option('--owner <email>', 'who answers for it', 'name@example.com')
      .option('--source <url>', 'where its definition comes from', 'https://example.com/taskcluster-cli')
      .option('--dependency <taskId>', 'wait for this task; may be repeated', (text: string, before: string[] | undefined) =>
        collect(parseId(text), before),
      )
      .option('--scope <scope>', 'let it do this; may be repeated', collect)
      .option('--retries <number>', 'how often it is tried again when its worker is lost', parseCount, 5)
      .option('--max-run-time <seconds>', 'how long it may run', parseCount, 7200),
  )
    .passThroughOptions()
    .addHelpText(
      'after',
      `\nExample: taskcluster task run --follow -- make check\n         taskcluster task run --dependency ${EXAMPLE_ID} -- ls -l\n`,
    )
    .action(async (words: string[], options: RunOptions) => {
      const taskId = slugid(context.random);
      const installation = connect(context);
      await submit(context, installation, taskId, makeRunTask(words, options, taskId, context.clock.now()), options);
    });
