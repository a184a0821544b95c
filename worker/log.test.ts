import fs from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { systemClock } from '@tscluster/client/clock.ts';
import { afterAll, expect, test } from 'vitest';
import { TaskLog } from './log.ts';

const folder = await fs.mkdtemp(path.join(os.tmpdir(), 'taskcluster-log-'));
afterAll(() => fs.rm(folder, { recursive: true, force: true }));
const openLog = (name: string): TaskLog => new TaskLog({ path: path.join(folder, name), clock: systemClock, maxBytes: 1_000 });

const readAll = async (log: TaskLog, signal?: AbortSignal): Promise<string> => {
  let text = '';
  for await (const bytes of log.follow(signal)) {
    text += Buffer.from(bytes).toString();
  }
  return text;
};

test('a reader gets everything, to the end', async () => {
  const log = openLog('whole');
  const text = readAll(log);
  log.write(Buffer.from('one\n'));
  log.write(Buffer.from('two\n'));
  await log.close();
  expect(await text).toBe('one\ntwo\n');
});

test('a reader who has gone is not waited for, whether the log has begun or not', async () => {
  const log = openLog('gone');
  expect(await readAll(log, AbortSignal.abort())).toBe('');
  const begins = new AbortController();
  const early = readAll(log, begins.signal);
  begins.abort();
  expect(await early).toBe('');
  log.write(Buffer.from('one\n'));
  const leaves = new AbortController();
  for await (const bytes of log.follow(leaves.signal)) {
    expect(Buffer.from(bytes).toString()).toBe('one\n');
    leaves.abort();
  }
  await log.close();
});
