/** One process of the sandbox, as seen from the server: does one job at a time, and is replaced by a new process when a job ends it. */
import { type ChildProcess, fork } from 'node:child_process';
import path from 'node:path';
import type { Clock, Timer } from '../clock.ts';
import type { Job, Reply, Request } from './program.ts';

export interface Helper {
  /** Whether it can be given a job. */
  readonly isIdle: boolean;
  /** Never throws: what goes wrong is the answer. */
  perform(job: Job): Promise<Reply>;
  /** Ends the process at once; a job under way is answered with this. */
  end(reply: Reply): Promise<void>;
}

export interface HelperOptions {
  readonly limitMs: number;
  readonly maxHeapMib: number;
  /** After so long without a job it ends. */
  readonly idleMs: number;
  readonly clock: Clock;
  /** It can be given no more jobs. */
  readonly onEnd: () => void;
}

const PROGRAM = path.join(import.meta.dirname, 'program.ts');
const GRACE_MS = 1_000;
/** On a machine that has much else to do. */
const START_MS = 60_000;
/** Of what it says when it ends, for the error. */
const MAX_SAID = 4_000;
const OUT_OF_MEMORY = /heap out of memory|invalid table size|Allocation failed/i;

export const startHelper = ({ limitMs, maxHeapMib, idleMs, clock, onEnd }: HelperOptions): Helper => {
  const child: ChildProcess = fork(PROGRAM, {
    execArgv: [`--max-old-space-size=${maxHeapMib}`],
    env: {}, // no secrets
    stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
  });
  child.unref();
  child.channel?.unref();
  (child.stderr as { unref?: () => void } | null)?.unref?.();
  let said = '';
  child.stderr?.on('data', (chunk: Buffer) => (said = (said + chunk.toString()).slice(-MAX_SAID)));

  let isReady = false;
  let hasEnded = false;
  let current: { readonly job: Job; readonly settle: (reply: Reply) => void } | undefined;
  let timer: Timer | undefined;

  const closed = new Promise<void>(resolve => void child.once('close', () => resolve()));
  const finish = (reply: Reply): void => {
    timer?.cancel();
    const done = current;
    current = undefined;
    if (!hasEnded) {
      timer = clock.setTimer(idleMs, () => end({ problem: 'It was idle' }), { unref: true });
    }
    done?.settle(reply);
  };
  const end = (reply: Reply): void => {
    if (!hasEnded) {
      hasEnded = true;
      child.kill('SIGKILL');
      onEnd();
      finish(reply);
    }
  };
  const send = (): void => {
    timer?.cancel();
    if (current) {
      // it ends a job by itself and stays usable; this is for when it cannot
      timer = clock.setTimer(2 * limitMs + GRACE_MS, () => end(tooSlow(limitMs)), { unref: true });
      child.send({ job: current.job, limitMs } satisfies Request);
    }
  };

  child.on('message', (message: Reply | 'ready') => {
    if (message === 'ready') {
      isReady = true;
      send();
    } else if (!hasEnded) {
      finish(message);
    }
  });
  child.on('error', error => end({ problem: `The sandbox does not work: ${error.message}`, lost: true }));
  child.on('close', (code, signal) =>
    end(
      OUT_OF_MEMORY.test(said)
        ? { problem: `It took more than ${maxHeapMib} MiB of memory` }
        : { problem: `The sandbox has ended (${signal ?? `status ${code}`}): ${said}`, lost: true },
    ),
  );

  return {
    get isIdle() {
      return current === undefined && !hasEnded;
    },
    perform: job =>
      new Promise(settle => {
        timer?.cancel();
        current = { job, settle };
        if (isReady) {
          send();
        } else {
          timer = clock.setTimer(START_MS, () => end({ problem: 'The sandbox does not start' }), { unref: true });
        }
      }),
    end: async reply => {
      end(reply);
      await closed;
    },
  };
};

const tooSlow = (limitMs: number): Reply => ({ problem: `It took longer than ${limitMs / 1000} s`, tooSlow: true });
