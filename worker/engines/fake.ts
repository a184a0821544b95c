/**
 * An engine that does what its payload says, without running anything: for tests of everything around engines, and the file to copy for a new one.
 * `fake`: `output` is printed, then `sleepMs` pass, then the files of `files` exist, then the task ends with `exitCode`; `fail` makes the engine itself fail.
 */
import { mkdir, realpath, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { runName, type TaskContext, type WorkerEnvironment } from '../context.ts';
import { TaskError, type ExceptionReason } from '../errors.ts';
import type { TaskPayload } from '../payload.ts';
import type { EngineDefinition, Sandbox, SandboxBuilder, SandboxResult } from './engine.ts';
import { TaskFolder } from './task-folder.ts';

interface FakePayload {
  readonly exitCode?: number;
  readonly sleepMs?: number;
  readonly output?: string;
  readonly files?: Readonly<Record<string, string>>;
  /** `start` and `result` fail unexpectedly; a reason fails with that resolution. */
  readonly fail?: 'start' | 'result' | ExceptionReason;
}

export const fakeEngine: EngineDefinition = {
  name: 'fake',
  payload: {
    properties: {
      fake: {
        type: 'object',
        additionalProperties: false,
        properties: {
          exitCode: { type: 'integer', minimum: 0, maximum: 255 },
          sleepMs: { type: 'integer', minimum: 0, maximum: 86_400_000 },
          output: { type: 'string' },
          files: { type: 'object', additionalProperties: { type: 'string' } },
          fail: {
            type: 'string',
            enum: [
              'start',
              'result',
              'worker-shutdown',
              'malformed-payload',
              'resource-unavailable',
              'internal-error',
              'intermittent-task',
            ],
          },
        },
      },
    },
  },
  runsContainers: false,
  open: async worker => {
    await mkdir(worker.config.tasksDir, { recursive: true, mode: 0o700 });
    const tasksDir = await realpath(worker.config.tasksDir);
    return {
      notices: [],
      newSandbox: async (task, payload) => makeBuilder(worker, task, fakePart(payload), await TaskFolder.create(tasksDir, runName(task))),
      dispose: async () => {},
    };
  },
};

const fakePart = (payload: TaskPayload): FakePayload => (payload as { fake?: FakePayload }).fake ?? {};

const makeBuilder = (worker: WorkerEnvironment, task: TaskContext, payload: FakePayload, folder: TaskFolder): SandboxBuilder => {
  const killed = new AbortController();
  return {
    setEnv: () => {},
    putFile: (at, source) => folder.putFile(at, source),
    fillFolder: (at, fill) => folder.fillFolder(at, fill),
    attachFolder: (at, source) => folder.attachFolder(at, source),
    start: async (): Promise<Sandbox> => {
      if (payload.fail === 'start') {
        throw new Error('The fake engine was told to fail at its start.');
      }
      const result = pretend(worker, task, payload, folder, killed.signal);
      result.catch(() => {});
      return {
        result: () => result,
        kill: async () => {
          killed.abort();
          await result.catch(() => {});
        },
      };
    },
    dispose: async () => {
      killed.abort();
      await folder.remove();
    },
  };
};

const pretend = async (
  worker: WorkerEnvironment,
  task: TaskContext,
  { output, sleepMs = 0, files = {}, fail, exitCode = 0 }: FakePayload,
  folder: TaskFolder,
  killed: AbortSignal,
): Promise<SandboxResult> => {
  if (output !== undefined) {
    task.log.write(Buffer.from(output));
  }
  if (sleepMs > 0) {
    await worker.clock.sleep(sleepMs, killed).catch(() => {});
  }
  for (const [path, content] of Object.entries(files)) {
    await mkdir(dirname(join(folder.path, path)), { recursive: true });
    await writeFile(join(folder.path, path), content);
  }
  if (fail === 'result') {
    throw new Error('The fake engine was told to fail.');
  }
  if (fail !== undefined && fail !== 'start') {
    throw new TaskError(fail, `The fake engine was told to end with ${fail}.`);
  }
  const success = exitCode === 0 && !killed.aborted;
  return {
    success,
    exitCode: killed.aborted ? undefined : exitCode,
    ...(success ? {} : { message: killed.aborted ? 'The task was ended before it could finish.' : `It ended with exit code ${exitCode}.` }),
    openFile: path => folder.openFile(path),
    listFolder: path => folder.listFolder(path),
  };
};
