/**
 * What users wrote and we have to run: JSON-e templates, and JSON schemas, whose patterns can be made to take for ever. They run in a process of
 * their own, one after the other, within limits of time and memory; the server goes on meanwhile. The process starts when it is needed and ends when it
 * was idle for a while. Values pass as JSON text. (A worker thread will not do: a template that asks for a huge array at once ends the whole process,
 * whatever the limits of the thread.)
 */
import { type ChildProcess, fork } from 'node:child_process';
import path from 'node:path';
import { type Clock, type Timer, systemClock } from '../clock.ts';
import type { Job, Reply, Request } from './program.ts';

export type Rendered = { readonly ok: true; readonly text: string } | { readonly ok: false; readonly error: string };

export interface Sandbox {
  /** A JSON-e template, made into JSON text (`null` when it renders to nothing); or why not. */
  render(template: string, context: string): Promise<Rendered>;
  /** What is wrong with a JSON schema, a line each: it is not one, a `$ref` leads nowhere, a pattern does not compile. Nothing is ever fetched. */
  checkSchema(schema: string): Promise<readonly string[]>;
  /** What is wrong with some data, in Ajv's words (`data/x must be string`). */
  validate(schema: string, data: string): Promise<readonly string[]>;
  /** Ends the process. */
  close(): Promise<void>;
}

export interface SandboxOptions {
  /** What one job may take. */
  readonly limitMs?: number;
  /** Of the process's memory. */
  readonly maxHeapMib?: number;
  /** Bytes of a rendered template at most. */
  readonly maxOutputBytes?: number;
  readonly idleMs?: number;
  /** Real time by default, in tests too: it measures work. */
  readonly clock?: Clock;
}

interface Waiting {
  readonly job: Job;
  readonly settle: (reply: Reply) => void;
}

const MIB = 1_048_576;
const PROGRAM = path.join(import.meta.dirname, 'program.ts');
const GRACE_MS = 1_000;
/** Of what it says when it ends, for the error. */
const MAX_SAID = 4_000;

const tooSlow = (limitMs: number): string => `It took longer than ${limitMs / 1000} s`;

export const openSandbox = (options: SandboxOptions = {}): Sandbox => {
  const { limitMs = 5_000, maxHeapMib = 256, maxOutputBytes = 10 * MIB, idleMs = 30_000, clock = systemClock } = options;
  const waiting: Waiting[] = [];
  let running: { readonly child: ChildProcess; ready: boolean } | undefined;
  let current: { readonly of: Waiting; readonly timer: Timer } | undefined;
  let idle: Timer | undefined;
  let closed = false;

  const finish = (reply: Reply): void => {
    const done = current;
    current = undefined;
    done?.timer.cancel();
    done?.of.settle(reply);
  };

  const end = (): void => {
    const child = running?.child;
    running = undefined;
    child?.kill('SIGKILL');
  };

  const start = (): void => {
    const child = fork(PROGRAM, {
      execArgv: [`--max-old-space-size=${maxHeapMib}`, '--disable-warning=ExperimentalWarning'],
      env: {}, // no secrets
      stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
    });
    const started = { child, ready: false };
    running = started;
    child.unref();
    child.channel?.unref();
    let said = '';
    child.stderr?.on('data', (chunk: Buffer) => (said = (said + chunk.toString()).slice(-MAX_SAID)));
    (child.stderr as { unref?: () => void } | null)?.unref?.();
    child.on('message', (reply: Reply | 'ready') => {
      if (running === started) {
        if (reply === 'ready') {
          started.ready = true;
        } else {
          finish(reply);
        }
        next();
      }
    });
    const lost = (reason: string): void => {
      if (running === started) {
        running = undefined;
        if (!started.ready && waiting.length > 0) {
          // it will not start the next time either
          current = { of: waiting.shift() as Waiting, timer: { cancel: () => undefined } };
        }
        finish({
          problem: /heap out of memory|invalid table size|Allocation failed/i.test(said)
            ? `It took more than ${maxHeapMib} MiB of memory`
            : reason,
        });
        next();
      }
    };
    child.on('error', error => lost(`The sandbox does not start: ${error.message}`));
    child.on('close', (code, signal) => lost(`The sandbox has ended (${signal ?? `status ${code}`}): ${said}`));
  };

  const next = (): void => {
    const first = waiting[0];
    if (current || closed) {
      return;
    }
    if (!first) {
      idle ??= clock.setTimer(
        idleMs,
        () => {
          idle = undefined;
          end();
        },
        { unref: true },
      );
      return;
    }
    idle?.cancel();
    idle = undefined;
    if (!running) {
      start();
    }
    if (running?.ready) {
      waiting.shift();
      // it ends a job by itself, which leaves it usable; this is for when it cannot
      const timer = clock.setTimer(
        2 * limitMs + GRACE_MS,
        () => {
          end();
          finish({ problem: tooSlow(limitMs) });
          next();
        },
        { unref: true },
      );
      current = { of: first, timer };
      running.child.send({ job: first.job, limitMs } satisfies Request);
    }
  };

  const run = (job: Job): Promise<Reply> =>
    new Promise((resolve, reject) => {
      if (closed) {
        reject(new Error('The sandbox is closed'));
        return;
      }
      waiting.push({ job, settle: resolve });
      next();
    });

  const problems = async (job: Job): Promise<readonly string[]> => {
    const reply = await run(job);
    return 'problem' in reply ? [`${reply.problem}.`] : (JSON.parse(reply.text) as string[]);
  };

  return {
    render: async (template, context) => {
      const reply = await run({ kind: 'render', template, context, maxOutputBytes });
      return 'problem' in reply ? { ok: false, error: reply.problem } : { ok: true, text: reply.text };
    },
    checkSchema: schema => problems({ kind: 'check', schema }),
    validate: (schema, data) => problems({ kind: 'validate', schema, data }),
    close: async () => {
      closed = true;
      idle?.cancel();
      const child = running?.child;
      const gone = child && new Promise<void>(resolve => void child.once('close', () => resolve()));
      end();
      finish({ problem: 'The server is shutting down' });
      waiting.splice(0).forEach(({ settle }) => settle({ problem: 'The server is shutting down' }));
      await gone;
    },
  };
};
