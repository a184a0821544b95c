/** Templates and schemas as people write them, and as somebody would write them who means harm. */
import { readdir, readFile } from 'node:fs/promises';
import { afterAll, expect, test } from 'vitest';
import { type Checked, openSandbox } from './sandbox.ts';

const sandbox = openSandbox();
const strict = openSandbox({ limitMs: 300, maxHeapMib: 64, maxOutputBytes: 1_000 });
afterAll(() => Promise.all([sandbox.close(), strict.close()]));

const json = JSON.stringify;
const problemsOf = async (check: Promise<Checked>): Promise<readonly string[]> => (await check).problems;

test('templates are rendered', async () => {
  const template = json({ a: '${x}', when: { $fromNow: '1 day' }, ref: { $eval: 'y' } });
  const context = json({ x: 1, y: [2], now: '2030-01-15T12:00:00.000Z' });
  expect(await sandbox.render('me', template, context)).toEqual({
    ok: true,
    text: '{"a":"1","when":"2030-01-16T12:00:00.000Z","ref":[2]}',
  });
  expect(await sandbox.render('me', json({ $if: 'false', then: 1 }), '{}')).toEqual({ ok: true, text: 'null' });
});

test('errors of templates are told', async () => {
  expect(await sandbox.render('me', json({ $eval: 'nothing' }), '{}')).toEqual({
    ok: false,
    error: expect.stringContaining('unknown context value nothing'),
    tooSlow: false,
  });
  const deep = '{"a":'.repeat(20_000) + '1' + '}'.repeat(20_000);
  expect(await sandbox.render('me', deep, '{}')).toEqual({
    ok: false,
    error: expect.stringContaining('Maximum call stack'),
    tooSlow: false,
  });
});

test('data is checked, all of it', async () => {
  const schema = json({ type: 'object', required: ['x'], properties: { x: {}, y: { type: 'string' } }, additionalProperties: false });
  expect(await problemsOf(sandbox.validate('me', schema, json({ y: 1, z: 2 })))).toEqual([
    "data must have required property 'x'",
    'data must NOT have additional properties: "z"',
    'data/y must be string',
  ]);
  expect(await problemsOf(sandbox.validate('me', schema, json({ x: 1 })))).toEqual([]);
});

test('schemas of the drafts are known, formats too', async () => {
  for (const draft of [
    'http://json-schema.org/draft-06/schema#',
    'http://json-schema.org/draft-07/schema#',
    'https://json-schema.org/draft/2019-09/schema',
    'https://json-schema.org/draft/2020-12/schema',
  ]) {
    const schema = json({ $schema: draft, type: 'object', properties: { a: { format: 'email' } } });
    expect(await problemsOf(sandbox.checkSchema('me', schema))).toEqual([]);
    expect(await problemsOf(sandbox.validate('me', schema, json({ a: 'b' })))).toEqual(['data/a must match format "email"']);
  }
});

test('what is no schema is told', async () => {
  expect(await problemsOf(sandbox.checkSchema('me', json({ type: 'thing', properties: [] })))).toEqual([
    ' * Property /properties must be object',
    ' * Property /type must be equal to one of the allowed values',
    ' * Property /type must be array',
    ' * Property /type must match a schema in anyOf',
  ]);
  expect(await problemsOf(sandbox.checkSchema('me', json({ $ref: '#/definitions/none' })))).toEqual([
    " * can't resolve reference #/definitions/none from id #",
  ]);
  expect(await problemsOf(sandbox.checkSchema('me', json({ $ref: 'http://127.0.0.1:1/schema.json' })))).toEqual([
    " * can't resolve reference http://127.0.0.1:1/schema.json from id #",
  ]);
  expect(await problemsOf(sandbox.checkSchema('me', json({ $async: true, type: 'string' })))).toEqual([' * $async is not supported']);
  expect(await problemsOf(sandbox.checkSchema('me', json({ properties: { a: { $async: true, type: 'string' } } })))).toEqual([
    ' * async schema in sync schema',
  ]);
  expect(await problemsOf(sandbox.checkSchema('me', json({ $schema: 'http://example.com/own' })))).toEqual([
    ' * no schema with key or ref "http://example.com/own"',
  ]);
  expect(await problemsOf(sandbox.checkSchema('me', json({ pattern: '(' })))).toEqual([
    ' * Invalid regular expression: /(/u: Unterminated group',
  ]);
});

test('a schema may be that of schemas', async () => {
  const schema = json({ type: 'object', properties: { a: { $ref: 'http://json-schema.org/draft-07/schema#' } } });
  expect(await problemsOf(sandbox.checkSchema('me', schema))).toEqual([]);
  expect(await problemsOf(sandbox.validate('me', schema, json({ a: { type: 'thing' } })))).toContain('data/a/type must be array');
});

test('two schemas with the same id do not meet', async () => {
  const [a, b] = ['string', 'number'].map(type => json({ $id: 'http://example.com/same', type })) as [string, string];
  expect(await problemsOf(sandbox.validate('me', a, '"x"'))).toEqual([]);
  expect(await problemsOf(sandbox.validate('me', b, '"x"'))).toEqual(['data must be number']);
});

test('recursive schemas check nested data', async () => {
  const schema = json({ type: 'object', properties: { next: { $ref: '#' }, n: { type: 'integer' } } });
  expect(await problemsOf(sandbox.validate('me', schema, json({ next: { next: { n: 'x' } } })))).toEqual([
    'data/next/next/n must be integer',
  ]);
});

test('what takes too long is ended, and what waits behind it is done', async () => {
  const slow = json({ type: 'string', pattern: '^(a+)+$' });
  const [hostile, after] = await Promise.all([
    strict.validate('me', slow, json(`${'a'.repeat(40)}!`)),
    strict.render('me', json({ a: 1 }), '{}'),
  ]);
  expect(hostile).toEqual({ problems: ['It took longer than 0.3 s.'], tooSlow: true });
  expect(after).toEqual({ ok: true, text: '{"a":1}' });
});

test('one owner cannot hold up the others', async () => {
  const pool = openSandbox({ limitMs: 2_000, maxProcesses: 2 });
  const order: string[] = [];
  const note = async (name: string, job: Promise<unknown>): Promise<void> => {
    await job;
    order.push(name);
  };
  const slow = json({ type: 'string', pattern: '^(a+)+$' });
  await pool.render('other', '1', '{}');
  const hostile = [1, 2].map(n => note(`hostile ${n}`, pool.validate('hostile', slow, json(`${'a'.repeat(60)}!`))));
  await note('other', pool.render('other', '2', '{}'));
  await note('third', pool.render('third', '3', '{}'));
  await Promise.all(hostile);
  expect(order).toEqual(['other', 'third', 'hostile 1', 'hostile 2']);
  await pool.close();
}, 30_000);

test('what waits is told when it closes', async () => {
  const closing = openSandbox({ maxProcesses: 1 });
  const jobs = [1, 2, 3].map(n => closing.render('me', String(n), '{}'));
  await closing.close();
  for (const job of jobs) {
    expect(await job).toEqual({ ok: false, error: 'The server is shutting down', tooSlow: false });
  }
});

test('what takes too much memory, or makes too much, is ended', async () => {
  const large = json({ $eval: 'range(0, 100000000)' });
  const patient = openSandbox({ limitMs: 60_000, maxHeapMib: 64 });
  expect(await patient.render('me', large, '{}')).toEqual({ ok: false, error: 'It took more than 64 MiB of memory', tooSlow: false });
  expect(await patient.render('me', '{}', '{}')).toEqual({ ok: true, text: '{}' });
  await patient.close();
  expect(await strict.render('me', json({ a: 'x'.repeat(2_000) }), '{}')).toEqual({
    ok: false,
    error: 'The template makes 2008 bytes, and may make 1000',
    tooSlow: false,
  });
});

test.skipIf(process.platform !== 'linux')('a process that somebody kills is replaced, and what it was asked is done', async () => {
  const pool = openSandbox({ maxProcesses: 1 });
  const children = async (): Promise<number[]> => {
    const pids = (await readdir('/proc')).filter(name => /^[0-9]+$/.test(name));
    const parents = await Promise.all(pids.map(pid => readFile(`/proc/${pid}/stat`, 'utf8').catch(() => '')));
    return pids.filter((_, i) => parents[i]?.split(') ').at(-1)?.split(' ')[1] === String(process.pid)).map(Number);
  };
  const others = new Set(await children());
  expect(await pool.render('me', '1', '{}')).toEqual({ ok: true, text: '1' });
  const started = (await children()).filter(pid => !others.has(pid));
  expect(started).toHaveLength(1);
  process.kill(started[0] as number, 'SIGKILL');
  expect(await pool.render('me', '2', '{}')).toEqual({ ok: true, text: '2' });
  await pool.close();
});

test('an idle process ends, and another one starts', async () => {
  const brief = openSandbox({ idleMs: 1 });
  expect(await brief.render('me', '1', '{}')).toEqual({ ok: true, text: '1' });
  await new Promise(resolve => setTimeout(resolve, 50));
  expect(await brief.render('me', '2', '{}')).toEqual({ ok: true, text: '2' });
  await brief.close();
  await expect(brief.render('me', '3', '{}')).rejects.toThrow('The sandbox is closed');
});
