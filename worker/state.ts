/**
 * What this worker has in hand, in a file, so that its next life can give it back: a worker that was killed restarts under its id, finds the runs it left
 * behind with their credentials, and resolves them as `worker-shutdown`. That costs seconds; otherwise the queue would wait for the claims to end.
 */
import { renameSync, writeFileSync } from 'node:fs';
import { mkdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Credentials } from '@tscluster/client/client.ts';
import { uuid, type Random } from '@tscluster/client/clock.ts';
import { codeOf } from './errors.ts';
import { getStartTicks } from './engines/processes.ts';

export interface RunInHand {
  readonly taskId: string;
  readonly runId: number;
  readonly takenUntil: string;
  readonly credentials: Credentials;
}

interface Content {
  /** Stands in the environment of every process that this worker starts, in all its lives. */
  readonly marker: string;
  readonly process?: { readonly pid: number; readonly startTicks: string | undefined };
  readonly runs: readonly RunInHand[];
}

const keyOf = (run: Pick<RunInHand, 'taskId' | 'runId'>): string => `${run.taskId}/${run.runId}`;

export class WorkerState {
  readonly marker: string;
  /** What the previous life left behind. */
  readonly leftBehind: readonly RunInHand[];
  readonly #path: string;
  readonly #runs: Map<string, RunInHand>;
  readonly #process: Content['process'];

  private constructor(path: string, content: Content, self: Content['process']) {
    this.#path = path;
    this.marker = content.marker;
    this.leftBehind = content.runs;
    this.#runs = new Map(content.runs.map(run => [keyOf(run), run]));
    this.#process = self;
  }

  /** Reads the state in a folder, which is made if it is not there. A predecessor that still lives under the same state is ended. */
  static async open(dataDir: string, random: Random): Promise<WorkerState> {
    await mkdir(dataDir, { recursive: true, mode: 0o700 });
    const path = join(dataDir, 'state.json');
    const content = (await readState(path)) ?? { marker: uuid(random), runs: [] };
    const { pid, startTicks } = content.process ?? {};
    if (pid !== undefined && pid !== process.pid && startTicks !== undefined && (await getStartTicks(pid)) === startTicks) {
      process.kill(pid, 'SIGKILL');
    }
    const state = new WorkerState(path, content, { pid: process.pid, startTicks: await getStartTicks(process.pid) });
    state.#write();
    return state;
  }

  /** Notes a run, or its new credentials. */
  add(run: RunInHand): void {
    this.#runs.set(keyOf(run), run);
    this.#write();
  }

  /** Forgets a run that is resolved, or that is not this worker's any more. */
  remove(run: Pick<RunInHand, 'taskId' | 'runId'>): void {
    this.#runs.delete(keyOf(run));
    this.#write();
  }

  /** Synchronously: a worker that is killed between its claim and this line loses the run until the claim ends. Takes some tenths of a millisecond. */
  #write(): void {
    const content: Content = { marker: this.marker, ...(this.#process ? { process: this.#process } : {}), runs: [...this.#runs.values()] };
    const temporary = `${this.#path}.new`;
    writeFileSync(temporary, JSON.stringify(content), { mode: 0o600 });
    renameSync(temporary, this.#path);
  }
}

/** The runs that a worker, which is not running now, has noted in a folder. */
export const listRunsInHand = async (dataDir: string): Promise<readonly RunInHand[]> =>
  (await readState(join(dataDir, 'state.json')))?.runs ?? [];

const readState = async (path: string): Promise<Content | undefined> => {
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch (error) {
    if (codeOf(error) === 'ENOENT') {
      return undefined;
    }
    throw error;
  }
  try {
    const content = JSON.parse(text) as Content;
    return typeof content.marker === 'string' && Array.isArray(content.runs) ? content : undefined;
  } catch {
    // the machine went down while it was written: the claims will expire
    return undefined;
  }
};
