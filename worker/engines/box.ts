/**
 * A box holds everything that one task runs, so that it can be ended as a whole. Its first process is a shell that takes commands from the worker and
 * tells how each ended; it never runs the task's own code, and the task's environment is set only for the commands themselves: a task's `LD_PRELOAD` must
 * not reach the programs that build the walls.
 *
 * On Linux the box is a user, mount and PID namespace. The shell is its process 1: when that is killed, the kernel ends the rest, daemons that called
 * `setsid` included, and a task cannot kill or trace it. Each command then enters a user namespace of its own, where it has its usual user id and no
 * power over the mounts that hide folders from it. `setpriv --pdeathsig` ends the box when the worker is killed. A box is made before the task is known,
 * because making one costs some ten milliseconds that no task has to wait for.
 *
 * Where the kernel refuses namespaces the box is a process group, and what leaves the group is found by a marker in its environment.
 *
 * Output goes through a named pipe: Node would give the commands a socket, which cannot be opened again as `/dev/stdout`.
 */
import { systemClock } from '@tscluster/client/clock.ts';
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, constants, openSync } from 'node:fs';
import { unlink } from 'node:fs/promises';
import { Socket } from 'node:net';
import { join } from 'node:path';
import type { Readable, Writable } from 'node:stream';
import { listChildren, listDescendants, listMarkedProcesses } from './processes.ts';

/** Stands in the environment of every process that a worker starts for a task. */
export const MARKER_VARIABLE = 'TASKCLUSTER_TASK_MARKER';

/** The programs a box is made with, by their full paths: the task's own PATH must not choose them. */
export interface Tools {
  readonly sh: string;
  readonly env: string;
  readonly mount?: string;
  readonly unshare?: string;
  readonly setpriv?: string;
}

export interface BoxOptions {
  readonly tools: Tools;
  /** Without namespaces when false. */
  readonly isolated: boolean;
  /** Folder of the tasks' folders. It is hidden, save for the task's own. */
  readonly tasksDir: string;
  /** Folders that the task finds empty, and files that it finds empty. */
  readonly hidden: { readonly folders: readonly string[]; readonly files: readonly string[] };
  readonly marker: string;
  /** A path for the box's named pipe; the folder must exist. */
  readonly pipePath: string;
}

/** Takes output: false from `write` means to wait for `drained`. */
export interface OutputSink {
  write(bytes: Uint8Array): boolean;
  drained(): Promise<void>;
}

export interface CommandEnd {
  /** 0 to 255; 128 + n when signal n ended it, 127 when it was not found, 126 when it could not be executed. */
  readonly exitCode: number;
  readonly userMs: number;
  readonly kernelMs: number;
}

export const quote = (text: string): string => `'${text.replaceAll("'", `'\\''`)}'`;

/** A command as a person would type it. */
export const quoteCommand = (command: readonly string[]): string =>
  command.map(word => (/^[\w@%+=:,./-]+$/.test(word) ? word : quote(word))).join(' ');

const minimalEnvironment = (marker: string): Record<string, string> => ({
  PATH: '/usr/sbin:/usr/bin:/sbin:/bin',
  [MARKER_VARIABLE]: marker,
});

const setupScript = ({ isolated, tools, tasksDir, hidden, pipePath }: BoxOptions): string => {
  const fail = (what: string): string => `|| { echo "failed ${what}" >&3; exit 1; }`;
  const lines = [
    `mkfifo -m 600 ${quote(pipePath)} ${fail('pipe')}`,
    'echo pipe >&3',
    // waits until the worker has opened it, and comes before the folder it lies in is hidden
    `exec >${quote(pipePath)}`,
    `cd ${quote(tasksDir)} ${fail('folder')}`,
  ];
  if (isolated) {
    const mount = quote(tools.mount ?? 'mount');
    for (const folder of hidden.folders) {
      lines.push(`${mount} -n -t tmpfs -o size=1m,nr_inodes=1k,mode=755 tmpfs ${quote(folder)} ${fail('hide')}`);
    }
    for (const file of hidden.files) {
      lines.push(`${mount} -n --bind /dev/null ${quote(file)} ${fail('hide')}`);
    }
  }
  lines.push('exec 2>&1', 'echo ready >&3', '');
  return lines.join('\n');
};

/** Splits what a box says into lines. */
const readLines = (stream: Readable, onLine: (line: string) => void): void => {
  let rest = '';
  stream.setEncoding('utf8');
  stream.on('data', (chunk: string) => {
    const lines = (rest + chunk).split('\n');
    rest = lines.pop() ?? '';
    lines.forEach(onLine);
  });
  stream.on('error', () => {});
};

export class Box {
  readonly #options: BoxOptions;
  readonly #child: ChildProcess;
  readonly #input: Writable;
  readonly #exited: Promise<void>;
  readonly #waiting: ((line: string | undefined) => void)[] = [];
  readonly #lines: string[] = [];
  #diagnosis = '';
  #over = false;
  #rootPid: number | undefined;
  #output: Socket | undefined;
  #chunks = 0;
  #times = { userMs: 0, kernelMs: 0 };

  private constructor(options: BoxOptions) {
    this.#options = options;
    const { tools, isolated, marker } = options;
    const shell = [tools.sh, '-s'];
    const wall = isolated ? [tools.unshare ?? 'unshare', '-r', '-m', '-p', '-f', '--kill-child', '--mount-proc', ...shell] : shell;
    const [program = tools.sh, ...args] = tools.setpriv ? [tools.setpriv, '--pdeathsig', 'KILL', ...wall] : wall;
    // in its own session: a terminal's Ctrl-C is for the worker to handle
    this.#child = spawn(program, args, {
      stdio: ['pipe', 'ignore', 'pipe', 'pipe'],
      detached: true,
      env: minimalEnvironment(marker),
      cwd: '/',
    });
    const [input, , errors, status] = this.#child.stdio as unknown as [Writable, null, Readable, Readable];
    this.#input = input;
    input.on('error', () => {});
    readLines(errors, line => {
      this.#diagnosis = line;
    });
    readLines(status, line => {
      const next = this.#waiting.shift();
      if (next) {
        next(line);
      } else {
        this.#lines.push(line);
      }
    });
    this.#exited = new Promise(resolve => {
      const end = (): void => {
        this.#over = true;
        for (const next of this.#waiting.splice(0)) {
          next(undefined);
        }
        resolve();
      };
      // 'close' follows 'exit' when the last words have been read
      this.#child.once('close', end);
      this.#child.once('error', error => {
        this.#diagnosis = error.message;
        end();
      });
    });
  }

  /**
   * Makes an empty box.
   * @throws when the machine refuses; the message tells which step
   */
  static async open(options: BoxOptions): Promise<Box> {
    const box = new Box(options);
    try {
      await box.#setUp();
      return box;
    } catch (error) {
      await box.kill();
      throw error;
    } finally {
      await unlink(options.pipePath).catch(() => {});
    }
  }

  async #setUp(): Promise<void> {
    this.#input.write(setupScript(this.#options));
    await this.#expect('pipe');
    // does not wait for a writer; read before there is one, a pipe seems to have ended
    const fd = openSync(this.#options.pipePath, constants.O_RDONLY | constants.O_NONBLOCK);
    try {
      await this.#expect('ready');
    } catch (error) {
      closeSync(fd);
      throw error;
    }
    const output = new Socket({ fd, readable: true, writable: false });
    output.on('error', () => {});
    // it has no other half whose end it could wait for
    output.once('end', () => output.destroy());
    this.#output = output;
    this.#rootPid = this.#options.isolated ? (await listChildren(this.#child.pid ?? 0))[0] : this.#child.pid;
  }

  /** Whether commands can still be run. */
  get isOpen(): boolean {
    return !this.#over;
  }

  /** Copies everything that the commands print, both streams in the order in which it was printed, no faster than it is taken. */
  copyOutputTo(sink: OutputSink): void {
    const output = this.#requireOutput();
    output.on('data', (chunk: Uint8Array) => {
      this.#chunks++;
      if (!sink.write(chunk)) {
        output.pause();
        void sink.drained().then(() => output.resume());
      }
    });
  }

  /**
   * Resolves when what the ended commands printed has been copied. While the box lives, processes that go on may still print: what was printed by now is in
   * the pipe, and it is read when two turns of the event loop bring nothing more.
   */
  async outputCopied(): Promise<void> {
    const output = this.#requireOutput();
    let quietTurns = 0;
    while (quietTurns < 2 && !output.destroyed) {
      const seen = this.#chunks;
      await new Promise(resolve => setImmediate(resolve));
      quietTurns = seen === this.#chunks && !output.isPaused() ? quietTurns + 1 : 0;
    }
  }

  #requireOutput(): Socket {
    if (!this.#output) {
      throw new Error('The box was not set up.');
    }
    return this.#output;
  }

  /** Makes a folder below the folder of tasks the place where commands run, visible under its own path. */
  async enter(name: string): Promise<void> {
    const { isolated, tools, tasksDir } = this.#options;
    const folder = quote(join(tasksDir, name));
    const show = isolated ? `mkdir -p ${folder} && ${quote(tools.mount ?? 'mount')} -n -c --bind ./${quote(name)} ${folder} && ` : '';
    this.#input.write(`${show}cd ${folder} && echo entered >&3 || echo "failed enter" >&3\n`);
    await this.#expect('entered');
  }

  /** Runs a command to its end. Nothing, when the box ended before it did. */
  async run(command: readonly string[], environment: Readonly<Record<string, string>>): Promise<CommandEnd | undefined> {
    const { tools, isolated, marker } = this.#options;
    const identity = [`--map-user=${process.getuid?.() ?? 0}`, `--map-group=${process.getgid?.() ?? 0}`];
    const wall = isolated ? [tools.unshare ?? 'unshare', '-U', ...identity] : [];
    const variables = Object.entries({ ...environment, [MARKER_VARIABLE]: marker }).map(([name, value]) => `${name}=${value}`);
    // `env` would take a program with "=" in its name for a variable
    const program = command[0]?.includes('=') ? [tools.sh, '-c', 'exec "$@"', 'sh', ...command] : command;
    const words = [...wall, tools.env, '-i', ...variables, ...program].map(quote).join(' ');
    if (this.#over) {
      return undefined;
    }
    this.#input.write(`${words} </dev/null 3>&-\necho "exit $?" >&3; times >&3\n`);
    const said = await this.#next();
    const shellTimes = await this.#next();
    const times = parseTimes((await this.#next()) ?? '');
    const exitCode = /^exit (\d+)$/.exec(said ?? '')?.[1];
    if (exitCode === undefined || shellTimes === undefined) {
      return undefined;
    }
    const before = this.#times;
    this.#times = times;
    return { exitCode: Number(exitCode), userMs: times.userMs - before.userMs, kernelMs: times.kernelMs - before.kernelMs };
  }

  /** The processes of the task, and the box's own. */
  async listProcesses(): Promise<number[]> {
    const { isolated, marker } = this.#options;
    const root = this.#rootPid;
    const tree = root === undefined ? [] : await listDescendants(root);
    return isolated ? tree : [...tree, ...(await listMarkedProcesses(MARKER_VARIABLE, value => value === marker))];
  }

  /** Ends everything in the box. Resolves when nothing of it lives and its output has been copied. */
  async kill(): Promise<void> {
    const pid = this.#child.pid;
    if (!this.#over && pid !== undefined) {
      if (this.#options.isolated) {
        // `unshare` ends after process 1, and that after everything else in its namespace
        signal(this.#rootPid ?? pid);
      } else {
        signal(-pid);
      }
    }
    if (!this.#options.isolated) {
      await killMarked(value => value === this.#options.marker);
    }
    await this.#exited;
    if (this.#output && !this.#output.destroyed) {
      if (!this.#options.isolated) {
        // who survived this holds the pipe open, and is not listened to any more
        await this.outputCopied();
        this.#output.destroy();
      } else if (!this.#output.closed) {
        this.#output.resume();
        await once(this.#output, 'close');
      }
    }
  }

  async #expect(word: string): Promise<void> {
    const line = await this.#next();
    if (line !== word) {
      throw new Error(`No sandbox for the task: ${line ?? 'it ended'}${this.#diagnosis ? ` (${this.#diagnosis})` : ''}`);
    }
  }

  #next(): Promise<string | undefined> {
    const line = this.#lines.shift();
    if (line !== undefined || this.#over) {
      return Promise.resolve(line);
    }
    return new Promise(resolve => this.#waiting.push(resolve));
  }
}

/** What the shell's `times` says of its children: `0m0.01s 1m2.50s`. */
const parseTimes = (line: string): { userMs: number; kernelMs: number } => {
  const [userMs = 0, kernelMs = 0] = [...line.matchAll(/(\d+)m(\d+(?:\.\d+)?)s/g)].map(([, minutes, seconds]) =>
    Math.round((Number(minutes) * 60 + Number(seconds)) * 1000),
  );
  return { userMs, kernelMs };
};

const signal = (pid: number): void => {
  try {
    process.kill(pid, 'SIGKILL');
  } catch {
    // it is gone already
  }
};

// a process that forks faster than it is killed is not chased for ever
const MAX_SWEEPS = 50;
/** While a process changes into another program its environment cannot be read: only after so many sweeps without any is none left. */
const QUIET_SWEEPS = 3;
const SWEEP_MS = 10;

/** Kills the processes whose marker matches, until none is left. Resolves to how many there were in the first place. */
export const killMarked = async (matches: (value: string) => boolean): Promise<number> => {
  let first: number | undefined;
  for (let sweep = 0, quiet = 0; sweep < MAX_SWEEPS && quiet < QUIET_SWEEPS; sweep++) {
    const pids = await listMarkedProcesses(MARKER_VARIABLE, matches);
    first ??= pids.length;
    quiet = pids.length === 0 ? quiet + 1 : 0;
    pids.forEach(signal);
    await systemClock.sleep(SWEEP_MS);
  }
  return first ?? 0;
};
