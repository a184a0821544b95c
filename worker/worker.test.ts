import { expect, test } from 'vitest';
import { withWorker } from './testing/with-worker.ts';

test('a task runs, its log is published, and it is reported', async () => {
  await using t = await withWorker();
  const task = t.queue.addTask({
    command: [
      ['/bin/sh', '-c', 'echo hello; echo oops >&2'],
      ['/bin/sh', '-c', 'echo second'],
    ],
    maxRunTime: 60,
  });
  await t.queue.resolved(task);
  expect(task.state).toBe('completed');
  const log = t.queue.log(task);
  expect(log).toContain('hello\noops\n');
});
