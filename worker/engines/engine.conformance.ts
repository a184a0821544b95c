/** What every engine must do, whatever it runs tasks in. An engine's own test gives the payloads that make it do so. */
import { mkdtemp, readFile, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { slugid, systemClock, systemRandom } from '@tscluster/client/clock.ts';
import type { TaskContext, WorkerEnvironment } from '../context.ts';
import { NotFound, WrongKind } from '../errors.ts';
import { TaskLog } from '../log.ts';
import { silentMonitor } from '../monitor.ts';
import type { TaskPayload } from '../payload.ts';
import { aConfig } from '../testing/with-worker.ts';
import type { Engine, EngineDefinition, ExtractedFile, SandboxBuilder } from './engine.ts';
import { removeTree } from './task-folder.ts';

export interface ConformanceOptions {
  readonly definition: EngineDefinition;
  readonly config?: Record<string, unknown>;
  /** Ends with an exit code. */
  readonly exits: (exitCode: number) => Record<string, unknown>;
  readonly prints: (text: string) => Record<string, unknown>;
  /** Writes a file below the task's folder. */
  readonly writes: (path: string, content: string) => Record<string, unknown>;
  /** Runs much longer than a test. */
  readonly runsForEver: Record<string, unknown>;
}

const textOf = async ({ handle }: ExtractedFile): Promise<string> => {
  await using file = handle;
  return file.readFile('utf8');
};

export const exercise = (options: ConformanceOptions): void => {
  const { definition } = options;
  let folder: string;
  let worker: WorkerEnvironment;
  let engine: Engine;

  const aTask = (): TaskContext => ({
    taskId: slugid(systemRandom),
    runId: 0,
    definition: {} as TaskContext['definition'],
    log: new TaskLog({ path: join(folder, `${slugid(systemRandom)}.log`), clock: systemClock, maxBytes: 1e6 }),
    signal: new AbortController().signal,
    lostSignal: new AbortController().signal,
    queue: {} as TaskContext['queue'],
    credentials: () => ({ clientId: 'c', accessToken: 'a' }),
    fail: () => {},
  });
  const build = (task: TaskContext, payload: Record<string, unknown>): Promise<SandboxBuilder> =>
    engine.newSandbox(task, { maxRunTime: 60, ...payload } as unknown as TaskPayload);

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'tscluster-engine-'));
    const config = aConfig(folder, 'http://127.0.0.1:1', { engine: definition.name, ...options.config });
    worker = { config, clock: systemClock, random: systemRandom, monitor: silentMonitor, fetch, marker: slugid(systemRandom) };
    engine = await definition.open(worker);
  });
  afterAll(async () => {
    await engine.dispose();
    await removeTree(folder);
  });

  describe(`the ${definition.name} engine`, () => {
    test.each([0, 1, 42, 255])('tells exit code %i', async exitCode => {
      const builder = await build(aTask(), options.exits(exitCode));
      const result = await (await builder.start()).result();
      expect({ success: result.success, exitCode: result.exitCode }).toEqual({ success: exitCode === 0, exitCode });
      await builder.dispose();
    });

    test('writes what is printed into the task log before the result is there', async () => {
      const task = aTask();
      const builder = await build(task, options.prints('printed ✓'));
      await (await builder.start()).result();
      await task.log.close();
      expect(await readFile(task.log.path, 'utf8')).toContain('printed ✓\n');
      await builder.dispose();
    });

    test('gives the same result each time, and ends when it is killed, any number of times', async () => {
      const builder = await build(aTask(), options.runsForEver);
      const sandbox = await builder.start();
      const results = [sandbox.result(), sandbox.result()];
      await Promise.all([sandbox.kill(), sandbox.kill()]);
      const [first, second] = await Promise.all(results);
      expect(first).toBe(second);
      expect({ success: first?.success, exitCode: first?.exitCode }).toEqual({ success: false, exitCode: undefined });
      await sandbox.kill();
      await builder.dispose();
      await builder.dispose();
    });

    test('is disposed of without having been started, and while it runs', async () => {
      const idle = await build(aTask(), options.exits(0));
      await idle.dispose();
      const running = await build(aTask(), options.runsForEver);
      const sandbox = await running.start();
      await running.dispose();
      expect(await sandbox.result()).toMatchObject({ success: false });
    });

    test('extracts files and lists folders', async () => {
      const builder = await build(aTask(), options.writes('out/deep/a.txt', 'content'));
      const result = await (await builder.start()).result();
      expect(await textOf(await result.openFile('out/deep/a.txt'))).toBe('content');
      const entries = await result.listFolder('out');
      expect(entries.map(entry => entry.path)).toEqual(['deep/a.txt']);
      await expect(result.openFile('out/absent')).rejects.toThrow(NotFound);
      await expect(result.listFolder('absent')).rejects.toThrow(NotFound);
      await expect(result.openFile('out')).rejects.toThrow(WrongKind);
      await expect(result.listFolder('out/deep/a.txt')).rejects.toThrow(WrongKind);
      await expect(result.openFile('../outside')).rejects.toThrow();
      await builder.dispose();
    });

    test('takes files and folders in, and gives an attached folder back', async () => {
      const builder = await build(aTask(), options.writes('kept/new.txt', 'new'));
      const source = join(folder, 'source');
      await writeFile(source, 'from outside');
      await builder.putFile('a/b.txt', source);
      await builder.fillFolder('filled', path => writeFile(join(path, 'c.txt'), 'filled'));
      const cache = await mkdtemp(join(folder, 'cache-'));
      await writeFile(join(cache, 'old.txt'), 'old');
      const attached = await builder.attachFolder('kept', cache);
      const result = await (await builder.start()).result();
      expect(await textOf(await result.openFile('a/b.txt'))).toBe('from outside');
      expect(await textOf(await result.openFile('filled/c.txt'))).toBe('filled');
      expect(await textOf(await result.openFile('kept/old.txt'))).toBe('old');
      await attached.release();
      expect(await readFile(join(cache, 'new.txt'), 'utf8')).toBe('new');
      await builder.dispose();
      expect(await readFile(join(cache, 'old.txt'), 'utf8')).toBe('old');
    });

    test('runs several tasks at once, each in a place of its own', async () => {
      const builders = await Promise.all(['1', '2', '3'].map(content => build(aTask(), options.writes('same.txt', content))));
      const contents = await Promise.all(
        builders.map(async builder => textOf(await (await (await builder.start()).result()).openFile('same.txt'))),
      );
      expect(contents).toEqual(['1', '2', '3']);
      await Promise.all(builders.map(builder => builder.dispose()));
    });
  });
};
