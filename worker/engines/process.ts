/** Runs commands as processes of this machine, each task in a box of its own and in a folder of its own (protocol: worker, "Native payload"). */
import type { RequestListener } from 'node:http';
import { homedir, userInfo } from 'node:os';
import { runName, type TaskContext, type WorkerEnvironment } from '../context.ts';
import { malformedPayload } from '../errors.ts';
import type { PayloadPart, TaskPayload } from '../payload.ts';
import { quoteCommand, type Box } from './box.ts';
import { BoxSupply } from './box-supply.ts';
import type { AttachedFolder, EngineDefinition, Sandbox, SandboxBuilder, SandboxResult } from './engine.ts';
import { openLocalProxy, type LocalProxy } from './local-proxy.ts';
import { TaskFolder } from './task-folder.ts';

const TASK_PATH = '/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin';
/** What a task gets from the worker's own environment; nothing else, because the rest may hold secrets. */
const INHERITED = ['HOME', 'USER', 'LANG', 'LC_ALL', 'TZ', 'SHELL', 'LOGNAME'];
/** How this machine reaches others: proxies and the certificates that it trusts. Paths and addresses, without which no download works. */
const INHERITED_NETWORK =
  /^(?:https?_proxy|no_proxy|all_proxy|ssl_cert_(?:file|dir)|curl_ca_bundle|git_ssl_cainfo|requests_ca_bundle|pip_cert|node_extra_ca_certs)$/i;

const payload: PayloadPart = {
  properties: {
    command: {
      type: 'array',
      items: { type: 'array', items: { type: 'string' }, minItems: 1, uniqueItems: false },
      minItems: 1,
      uniqueItems: false,
    },
    osGroups: { type: 'array', items: { type: 'string' }, uniqueItems: true },
    supersederUrl: { type: 'string' },
  },
  required: ['command'],
};

export const processEngine: EngineDefinition = {
  name: 'process',
  payload,
  runsContainers: false,
  open: async worker => {
    const supply = await BoxSupply.open(worker);
    return {
      notices: supply.notices,
      newSandbox: async (task, taskPayload) => {
        checkPayload(taskPayload);
        const folder = await TaskFolder.create(supply.tasksDir, runName(task));
        return new ProcessBuilder(worker, supply, task, taskPayload, folder);
      },
      dispose: () => supply.close(),
    };
  },
};

const checkPayload = ({ osGroups = [], command }: TaskPayload): void => {
  if (osGroups.length > 0) {
    throw malformedPayload(
      `payload.osGroups is not supported by this worker, whose tasks have no user of their own: ${osGroups.join(', ')}.`,
    );
  }
  if (command.flat().some(word => word.includes('\0'))) {
    throw malformedPayload('payload.command holds a NUL character, which no process can be given.');
  }
};

/** The account's name; in a container it may have none, which the system reports as an error. */
const userName = (): string => {
  try {
    return userInfo().username;
  } catch {
    return String(process.getuid?.() ?? 'unknown');
  }
};

/** The search path without what npm puts in front of it for the programs it starts: a task is to find the machine's own programs. */
const taskPath = (): string => {
  const folders = (process.env['PATH'] ?? '').split(':').filter(folder => folder !== '' && !folder.includes('/node_modules/'));
  return folders.length > 0 ? folders.join(':') : TASK_PATH;
};

const inheritedEnvironment = (): Record<string, string> => {
  const inherited = Object.fromEntries(
    Object.entries(process.env).flatMap(([name, value]) =>
      value && (INHERITED.includes(name) || INHERITED_NETWORK.test(name)) ? [[name, value]] : [],
    ),
  );
  return { PATH: taskPath(), HOME: homedir(), USER: userName(), ...inherited };
};

class ProcessBuilder implements SandboxBuilder {
  readonly #worker: WorkerEnvironment;
  readonly #supply: BoxSupply;
  readonly #task: TaskContext;
  readonly #payload: TaskPayload;
  readonly #folder: TaskFolder;
  readonly #environment: Record<string, string> = inheritedEnvironment();
  readonly #proxies: LocalProxy[] = [];
  readonly #box: Promise<Box>;

  constructor(worker: WorkerEnvironment, supply: BoxSupply, task: TaskContext, taskPayload: TaskPayload, folder: TaskFolder) {
    this.#worker = worker;
    this.#supply = supply;
    this.#task = task;
    this.#payload = taskPayload;
    this.#folder = folder;
    // while plugins still fetch what the task needs
    this.#box = enterBox(supply, runName(task));
    this.#box.catch(() => {});
  }

  setEnv(name: string, value: string): void {
    if (name === '' || name.includes('=') || name.includes('\0') || value.includes('\0')) {
      throw malformedPayload(`payload.env: ${JSON.stringify(name)} cannot be an environment variable with that value.`);
    }
    this.#environment[name] = value;
  }

  putFile(at: string, source: string): Promise<void> {
    return this.#folder.putFile(at, source);
  }

  fillFolder(at: string, fill: (folder: string) => Promise<void>): Promise<void> {
    return this.#folder.fillFolder(at, fill);
  }

  attachFolder(at: string, folder: string): Promise<AttachedFolder> {
    return this.#folder.attachFolder(at, folder);
  }

  async attachProxy(handler: RequestListener): Promise<string> {
    const proxy = await openLocalProxy(handler, async () => (await this.#box).listProcesses());
    this.#proxies.push(proxy);
    return proxy.url;
  }

  async start(): Promise<Sandbox> {
    this.#environment['TASK_WORKDIR'] = this.#folder.path;
    const sandbox = new ProcessSandbox(this.#worker, this.#task, this.#payload.command, this.#environment, this.#folder, await this.#box);
    this.#supply.replenish();
    return sandbox;
  }

  async dispose(): Promise<void> {
    const box = await this.#box.catch(() => undefined);
    await box?.kill();
    for (const proxy of this.#proxies.splice(0)) {
      await proxy.close();
    }
    await this.#folder.remove();
  }
}

const enterBox = async (supply: BoxSupply, name: string): Promise<Box> => {
  const box = await supply.take();
  try {
    await box.enter(name);
    return box;
  } catch (error) {
    await box.kill();
    throw error;
  }
};

const seconds = (ms: number): string => `${(ms / 1000).toFixed(3)}s`;

class ProcessSandbox implements Sandbox {
  readonly #worker: WorkerEnvironment;
  readonly #task: TaskContext;
  readonly #folder: TaskFolder;
  readonly #box: Box;
  readonly #result: Promise<SandboxResult>;
  #isKilled = false;

  constructor(
    worker: WorkerEnvironment,
    task: TaskContext,
    commands: TaskPayload['command'],
    environment: Readonly<Record<string, string>>,
    folder: TaskFolder,
    box: Box,
  ) {
    this.#worker = worker;
    this.#task = task;
    this.#folder = folder;
    this.#box = box;
    this.#result = this.#run(commands, environment);
    // whoever waits for the result learns of it; nobody may be waiting yet
    this.#result.catch(() => {});
  }

  result(): Promise<SandboxResult> {
    return this.#result;
  }

  async kill(): Promise<void> {
    this.#isKilled = true;
    await this.#box.kill();
  }

  async #run(commands: TaskPayload['command'], environment: Readonly<Record<string, string>>): Promise<SandboxResult> {
    this.#box.copyOutputTo(this.#task.log);
    let failure: string | undefined;
    let exitCode: number | undefined;
    for (const [index, command] of commands.entries()) {
      this.#task.log.info(`Executing command ${index}: ${quoteCommand(command)}`);
      const startMs = this.#worker.clock.monotonicMs();
      const end = await this.#box.run(command, environment);
      const wallMs = this.#worker.clock.monotonicMs() - startMs;
      exitCode = end?.exitCode;
      const isLast = index === commands.length - 1 || exitCode !== 0;
      if (isLast) {
        // what the commands left running ends here, and with it their output
        await this.#box.kill();
      } else {
        await this.#box.outputCopied();
      }
      this.#logEnd(end, wallMs);
      if (exitCode !== 0) {
        failure = end ? `Command ${index} ended with exit code ${end.exitCode}.` : `Command ${index} was ended before it could finish.`;
        break;
      }
    }
    return {
      success: failure === undefined && !this.#isKilled,
      exitCode: this.#isKilled ? undefined : exitCode,
      ...(failure === undefined ? {} : { message: failure }),
      openFile: path => this.#folder.openFile(path),
      listFolder: path => this.#folder.listFolder(path),
    };
  }

  #logEnd(end: Awaited<ReturnType<Box['run']>>, wallMs: number): void {
    const { log } = this.#task;
    if (!end) {
      log.info(`     Result: ABORTED\n  Wall Time: ${seconds(wallMs)}`);
      return;
    }
    log.info(
      [
        `  Exit Code: ${end.exitCode}`,
        `  User Time: ${seconds(end.userMs)}`,
        `Kernel Time: ${seconds(end.kernelMs)}`,
        `  Wall Time: ${seconds(wallMs)}`,
        `     Result: ${end.exitCode === 0 ? 'SUCCEEDED' : 'FAILED'}`,
      ].join('\n'),
    );
  }
}
