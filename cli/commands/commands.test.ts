import { Ansis } from 'ansis';
import { describe, expect, test } from 'vitest';
import { ApiCallError, ConnectionError } from '@tscluster/client/client.ts';
import { systemClock, systemRandom } from '@tscluster/client/clock.ts';
import { parseId, parsePairs } from '../command.ts';
import type { Context, Output } from '../context.ts';
import { explain, Problem } from '../problem.ts';
import { run } from '../program.ts';
import { parseArguments } from './api.ts';
import { decodeSlugid, encodeSlugid } from './basics.ts';
import { fillTimes, makeRunTask } from './task-create.ts';

/** The program with some arguments, and what it printed. Nothing answers: these commands need no installation. */
const taskcluster = async (...args: string[]) => {
  let [out, err, status] = ['', '', 0];
  const output = (take: (text: string) => void): Output => ({
    write: async text => take(String(text)),
    isTerminal: false,
    columns: 100,
    rows: 40,
    style: new Ansis(0),
  });
  const context: Context = {
    env: {},
    cwd: '/',
    out: output(text => (out += text)),
    err: output(text => (err += text)),
    readInput: async () => '',
    clock: { ...systemClock, now: () => new Date('2030-01-15T12:00:00.000Z') },
    random: systemRandom,
    signal: new AbortController().signal,
    fetch: async () => expect.unreachable(),
    setExitStatus: code => {
      status = code;
    },
  };
  await run(context, args);
  return { out, err, status };
};

describe('the program', () => {
  test('prints times, ids and its version', async () => {
    expect(await taskcluster('from-now', '2', 'days')).toEqual({ out: '2030-01-17T12:00:00.000Z\n', err: '', status: 0 });
    expect(await taskcluster('from-now', '-1h')).toMatchObject({ out: '2030-01-15T11:00:00.000Z\n' });
    expect((await taskcluster('slugid', 'generate', '--nice')).out).toMatch(/^[A-Za-f][\w-]{21}\n$/);
    expect((await taskcluster('slugid', '--count', '3')).out.trim().split('\n')).toHaveLength(3);
    expect((await taskcluster('version', '-s')).out).toMatch(/^\d+\.\d+\.\d+\n$/);
    expect(JSON.parse((await taskcluster('version', '--json')).out)).toHaveProperty('version');
  });

  test('tells what is wrong, and ends with 2', async () => {
    expect(await taskcluster('task', 'status', 'xyz')).toMatchObject({
      status: 2,
      err: expect.stringContaining('an id of 22 characters') as string,
    });
    expect(await taskcluster('taks')).toMatchObject({ status: 2, err: expect.stringContaining('Did you mean task?') as string });
    expect(await taskcluster('task', 'log', 'fN1SbArXTPSVFNUvaOlinQ')).toMatchObject({
      status: 2,
      err: expect.stringMatching(/^Error: No Taskcluster installation is known[^]*taskcluster up/) as string,
    });
    expect(await taskcluster('--help')).toMatchObject({ status: 0, out: expect.stringContaining('Usage: taskcluster') as string });
    expect(await taskcluster('task', 'run')).toMatchObject({ status: 2 });
    expect(await taskcluster('index', 'insert', 'a.b', 'no-id')).toMatchObject({
      status: 2,
      err: expect.stringContaining('22 characters') as string,
    });
    expect(await taskcluster('index', 'insert', 'a.b', 'fN1SbArXTPSVFNUvaOlinQ', '--rank', '1.5')).toMatchObject({
      status: 2,
      err: expect.stringContaining('not a whole number') as string,
    });
    expect(await taskcluster('purge-cache', 'local/process')).toMatchObject({
      status: 2,
      err: expect.stringContaining('cacheName') as string,
    });
  });

  test('knows the methods of every service', async () => {
    expect((await taskcluster('api')).out).toContain('queue');
    expect((await taskcluster('api', 'queue')).out).toContain('  createTask <taskId>');
    expect((await taskcluster('api', 'queue', 'createTask', '--help')).out).toContain('JSON Input: yes');
    expect(await taskcluster('api', 'queue', 'nothing')).toMatchObject({
      status: 2,
      err: expect.stringContaining('no method "nothing"') as string,
    });
  });
});

test('slugids are UUIDs', () => {
  const uuid = '7cdd526c-0ad7-4cf4-9514-d52f68e9629d';
  expect(decodeSlugid('fN1SbArXTPSVFNUvaOlinQ')).toBe(uuid);
  expect(encodeSlugid(uuid)).toBe('fN1SbArXTPSVFNUvaOlinQ');
  expect(() => decodeSlugid('fN1SbArXTPSVFNUvaOlin')).toThrow('is not a slugid');
  expect(() => encodeSlugid('7cdd')).toThrow('is not a UUID');
});

test('ids are taken from links', () => {
  for (const text of [
    'fN1SbArXTPSVFNUvaOlinQ',
    'http://localhost:8080/tasks/fN1SbArXTPSVFNUvaOlinQ/runs/0',
    'https://x/tasks/groups/fN1SbArXTPSVFNUvaOlinQ',
  ]) {
    expect(parseId(text)).toBe('fN1SbArXTPSVFNUvaOlinQ');
  }
});

test('pairs are split at the first sign of equality', () => {
  expect(parsePairs(['A=1=2', 'B='], '--env')).toEqual({ A: '1=2', B: '' });
  expect(() => parsePairs(['A'], '--env')).toThrow('--env A is not NAME=value');
});

test('arguments of an API call are split', () => {
  expect(parseArguments(['a', '--limit', '5', '--continuationToken=x=', '-o', 'f', '--', '--b'])).toEqual({
    positional: ['a', '--b'],
    options: { limit: '5', continuationToken: 'x=', output: 'f' },
    help: false,
  });
  expect(() => parseArguments(['--limit'])).toThrow('--limit needs a value');
});

test('times of a definition are filled in', () => {
  const now = new Date('2030-01-15T12:00:00.000Z');
  expect(fillTimes({ a: [{ $fromNow: '1 day' }], b: { $fromNow: '1 day', c: 1 }, d: null }, now)).toEqual({
    a: ['2030-01-16T12:00:00.000Z'],
    b: { $fromNow: '1 day', c: 1 },
    d: null,
  });
});

describe('task run', () => {
  const now = new Date('2030-01-15T12:00:00.000Z');
  const options = { description: 'd', owner: 'o', source: 's', retries: 5, maxRunTime: 60 };
  const make = (words: string[], more: object = {}) => makeRunTask(words, { ...options, ...more }, 'g', now);

  test('goes to the local worker without an image', () => {
    expect(make(['make', 'check'], { env: ['A=1'] })).toMatchObject({
      taskQueueId: 'local/process',
      taskGroupId: 'g',
      schedulerId: 'taskcluster-cli',
      deadline: '2030-01-16T12:00:00.000Z',
      expires: '2031-01-16T12:00:00.000Z',
      payload: { command: [['make', 'check']], env: { A: '1' }, maxRunTime: 60 },
      metadata: { name: 'make check' },
    });
  });

  test('takes the first word as image with the pair of options it always had', () => {
    expect(make(['ubuntu', 'ls'], { provisioner: 'p', workerType: 'w' })).toMatchObject({
      taskQueueId: 'p/w',
      payload: { image: 'ubuntu', command: ['ls'] },
    });
    expect(make(['ls'], { image: 'ubuntu', taskQueue: 'p/w' })).toMatchObject({ payload: { image: 'ubuntu', command: ['ls'] } });
  });

  test('says what is missing', () => {
    expect(() => make(['ls'], { provisioner: 'p' })).toThrow('--provisioner and --worker-type go together');
    expect(() => make(['ls'], { image: 'ubuntu' })).toThrow('needs workers that run containers');
    expect(() => make(['ubuntu'], { provisioner: 'p', workerType: 'w' })).toThrow('no command to run');
  });
});

describe('errors', () => {
  test('are explained without the trailer of the server', () => {
    const error = new ApiCallError('Task not found\n\n---\n\n* method: task', 'ResourceNotFound', 404, {});
    expect(explain(error, false)).toBe('Error: ResourceNotFound: Task not found');
    expect(explain(new ConnectionError('no answer', 'ECONNREFUSED', undefined), false)).toMatch(
      /^Error: no answer\n\nIs the installation running\?/,
    );
    expect(explain(new Problem('what', 'do'), false)).toBe('Error: what\n\ndo');
  });

  test('have a stack only when asked for', () => {
    const error = new TypeError('oops', { cause: new Error('deep') });
    expect(explain(error, false)).toBe('Error: oops\n\nThis should not have happened. Set DEBUG=1 to see where.');
    expect(explain(error, true)).toMatch(/TypeError: oops\n {4}at [^]*Caused by: Error: deep/);
  });
});
