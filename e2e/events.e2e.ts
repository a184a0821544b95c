/** Live events of a whole installation: through plain clients, and across restarts and kills. */
import { spawn } from 'node:child_process';
import path from 'node:path';
import { queueApi } from '@tscluster/api/queue/api.ts';
import { createClient } from '@tscluster/client/client.ts';
import { slugid, systemRandom } from '@tscluster/client/clock.ts';
import { listen } from '@tscluster/client/events.ts';
import { describe, expect, test } from 'vitest';
import { type Installation, makeFolder, ROOT, startInstallation } from './support/installation.ts';

const EXCHANGES = ['task-defined', 'task-pending', 'task-running', 'task-completed'];
const bindings = EXCHANGES.map(name => ({ exchange: `exchange/taskcluster-queue/v1/${name}`, routingKeyPattern: '#' }));

/** Creates tasks that succeed by themselves; answers with the ids of those that were accepted. */
const createTasks = async ({ rootUrl, credentials }: Pick<Installation, 'rootUrl' | 'credentials'>, count: number): Promise<string[]> => {
  const queue = createClient(queueApi, { rootUrl, credentials });
  const created: string[] = [];
  for (let i = 0; i < count; i++) {
    const taskId = slugid(systemRandom);
    await queue.createTask(
      { taskId },
      {
        provisionerId: 'built-in',
        workerType: 'succeed',
        created: new Date().toISOString(),
        deadline: new Date(Date.now() + 3_600_000).toISOString(),
        payload: {},
        metadata: { name: 'live', description: 'live', owner: 'somebody@example.com', source: 'https://example.com' },
      },
    );
    created.push(taskId);
  }
  return created;
};

describe('a listener', () => {
  test.each(['SIGTERM', 'SIGKILL'] as const)('misses nothing and sees nothing twice when the server ends by %s', async signal => {
    const installation = await startInstallation();
    const { rootUrl, credentials } = installation;
    const seen = new Map<string, string[]>();
    const positions: string[] = [];
    const stop = new AbortController();
    let tellReady = (): void => undefined;
    const ready = new Promise<void>(resolve => (tellReady = resolve));
    let changed = (): void => undefined;
    const reading = (async () => {
      for await (const { id, message } of listen({ rootUrl, credentials, bindings, signal: stop.signal, onReady: tellReady })) {
        const { status } = message.payload as { status: { taskId: string } };
        const name = message.exchange.slice(message.exchange.lastIndexOf('/') + 1);
        seen.set(status.taskId, [...(seen.get(status.taskId) ?? []), name]);
        positions.push(id);
        changed();
      }
    })().catch((error: unknown) => {
      if (!stop.signal.aborted) {
        throw error;
      }
    });
    await ready;
    const tasks = await createTasks(installation, 20);
    await (signal === 'SIGKILL' ? installation.kill('server') : installation.stop());
    await installation.restart();
    tasks.push(...(await createTasks(installation, 20)));
    const isDone = (): boolean => tasks.every(taskId => seen.get(taskId)?.includes('task-completed'));
    while (!isDone()) {
      await new Promise<void>(resolve => (changed = resolve));
    }
    stop.abort(new Error('seen all'));
    await reading;
    for (const taskId of tasks) {
      expect(seen.get(taskId), taskId).toEqual(EXCHANGES);
    }
    expect(new Set(positions).size).toBe(positions.length);
  });
});

test('curl and the command line print what happens', async () => {
  const folder = await makeFolder();
  const installation = await startInstallation({ dataDir: path.join(folder, '.taskcluster') });
  const collect = (program: string, args: readonly string[], until: RegExp): { ready: Promise<void>; text: Promise<string> } => {
    const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith('TASKCLUSTER_')));
    const child = spawn(program, args, { cwd: folder, env, stdio: ['ignore', 'pipe', 'inherit'] });
    let output = '';
    let tellReady = (): void => undefined;
    const ready = new Promise<void>(resolve => (tellReady = resolve));
    const text = new Promise<string>((resolve, reject) => {
      child.once('error', reject);
      child.stdout.on('data', (chunk: Buffer) => {
        output += chunk.toString();
        if (output.includes('event: ready')) {
          tellReady();
        }
        if (until.test(output)) {
          child.kill('SIGTERM');
        }
      });
      child.once('close', () => resolve(output));
    });
    return { ready, text };
  };
  const query = `bindings=${encodeURIComponent(JSON.stringify({ bindings }))}`;
  const curl = collect('curl', ['-sN', `${installation.rootUrl}/api/events/v1/connect?${query}`], /task-completed[^\n]*\n\n/);
  await curl.ready;
  const [taskId = ''] = await createTasks(installation, 1);
  const events = await curl.text;
  expect([...events.matchAll(/^event: (.*)$/gm)].map(match => match[1])).toEqual(['ready', 'message', 'message', 'message', 'message']);
  const id = /^id: (.*)$/m.exec(events)?.[1] as string;
  const tail = collect(
    process.execPath,
    [path.join(ROOT, 'cli', 'main.ts'), 'events', 'tail', '--task', taskId, '--after', id, '--count', '4'],
    /^$a/,
  );
  const lines = (await tail.text).trim().split('\n');
  expect(lines.map(line => line.replace(/^\S+ +/, '').split('  '))).toEqual([
    ['task-defined', taskId, expect.any(String)],
    ['task-pending', `${taskId}/0`, 'pending'],
    ['task-running', `${taskId}/0`, 'running'],
    ['task-completed', `${taskId}/0`, 'completed'],
  ]);
});
