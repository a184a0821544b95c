/** The commands for hooks, on a server without a socket. */
import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { publishAll } from '@tscluster/server/platform/events.ts';
import { type HooksServer, ROOT, aHook, aTemplate, withHooks } from '@tscluster/server/services/hooks/testing.ts';
import { readCodeBlocks } from '@tscluster/server/testing/docs.ts';
import { parseHook } from './hooks.ts';
import { type TestCli, openCli } from './testing.ts';

let server: HooksServer;
let cli: TestCli;
beforeAll(async () => {
  server = await withHooks();
  cli = await openCli(server, { TASKCLUSTER_CLIENT_ID: ROOT.clientId, TASKCLUSTER_ACCESS_TOKEN: ROOT.accessToken });
});

const taskcluster: TestCli['run'] = (args, input, env) => cli.run(['hooks', ...args], input, env);

const file = async (name: string, text: string): Promise<string> => {
  const at = path.join(cli.folder, name);
  await writeFile(at, text);
  return at;
};

const YAML = `
metadata: { name: nightly, description: Builds every night., owner: me@example.com }
schedule: ["CRON_TZ=Europe/Berlin 0 3 * * *"]
triggerSchema: { type: object }
task:
  taskQueueId: prov/wt
  payload: { why: { $eval: "payload.why" } }
  metadata: { name: build, description: d, owner: o@example.com, source: "https://src.example" }
`;

describe('a hook', () => {
  test('is created, read, fired, changed and removed', async () => {
    expect(await taskcluster(['create', 'g/nightly', await file('nightly.yml', YAML)])).toEqual({
      out: '',
      err: 'Hook g/nightly created.\n',
      status: 0,
    });
    expect((await taskcluster(['list'])).out).toBe('g\n');
    expect((await taskcluster(['list', 'g'])).out).toMatch(/^nightly {2}next \d{4}-.*T0[12]:00:00.000Z\n$/);

    const shown = await taskcluster(['show', 'g/nightly']);
    expect(shown.out).toContain('  - CRON_TZ=Europe/Berlin 0 3 * * *\n');
    const json = JSON.parse((await taskcluster(['show', '--json', `${server.rootUrl}/hooks/g/nightly`])).out) as object;
    expect(json).toEqual(await server.hooks.hook({ hookGroupId: 'g', hookId: 'nightly' }));

    const fired = await taskcluster(['fire', 'g/nightly', '-', '--json'], 'why: because');
    const { taskId, url } = JSON.parse(fired.out) as { taskId: string; url: string };
    expect(url).toBe(`${server.rootUrl}/tasks/${taskId}`);
    expect(await server.definition(taskId)).toMatchObject({ payload: { why: 'because' } });
    expect(await taskcluster(['fire', 'g/nightly', await file('payload.json', '{"why": 2}')])).toMatchObject({
      out: expect.stringMatching(/^Task [\w-]{22} created: http/),
      status: 0,
    });

    // what is shown can be stored again
    expect(await taskcluster(['update', 'g/nightly'], shown.out.replace('prov/wt', 'prov/other'))).toMatchObject({
      err: 'Hook g/nightly updated.\n',
      status: 0,
    });
    expect(await taskcluster(['fire', 'g/nightly'])).toMatchObject({
      status: 2,
      err: expect.stringMatching(/^Error: InputError: While firing hook:\n\n.*why/s),
    });
    const fires = (await taskcluster(['last-fires', 'g/nightly'])).out.trim().split('\n');
    expect(fires).toHaveLength(3);
    expect(fires[0]).toMatch(/triggerHook {2}[\w-]{22} {2}not created {2}.*why/);
    expect(fires[2]).toMatch(/triggerHook {2}[\w-]{22} {2}pending$/);
    expect((await taskcluster(['list', 'g'])).out).toMatch(/failed {2}\d{4}-.*why/);
    expect(JSON.parse((await taskcluster(['last-fires', '-n', '1', '--json', 'g/nightly'])).out)).toHaveLength(1);

    expect(await taskcluster(['delete', 'g/nightly', '--force'])).toMatchObject({ err: 'Hook g/nightly removed.\n', status: 0 });
    expect(await taskcluster(['show', 'g/nightly'])).toMatchObject({ status: 2, err: expect.stringContaining('ResourceNotFound') });
  });

  test('is fired with its token, by who has nothing else', async () => {
    await server.create('door');
    const { out } = await taskcluster(['token', 'g/door']);
    const nothing = { TASKCLUSTER_CLIENT_ID: '', TASKCLUSTER_ACCESS_TOKEN: '' };
    expect(await taskcluster(['fire', 'g/door', '--token', out.trim()], '', nothing)).toMatchObject({ status: 0 });
    expect(await taskcluster(['fire', 'g/door'], '', nothing)).toMatchObject({
      status: 2,
      err: expect.stringContaining('InsufficientScopes'),
    });
    const fresh = JSON.parse((await taskcluster(['token', 'g/door', '--reset', '--json'])).out) as { token: string };
    expect(fresh.token).not.toBe(out.trim());
    expect(await taskcluster(['fire', 'g/door', '--token', out.trim()], '', nothing)).toMatchObject({
      status: 2,
      err: expect.stringContaining('invalid hook token'),
    });
  });

  test('that declines says so', async () => {
    await server.create('declines', { task: { $if: 'false', then: aTemplate() } });
    expect(await taskcluster(['fire', 'g/declines'])).toEqual({
      out: '',
      err: 'Hook g/declines made no task: its template declined.\n',
      status: 0,
    });
    expect((await taskcluster(['fire', 'g/declines', '--json'])).out).toBe('{}\n');
  });
});

test('the examples of the documentation work', async () => {
  const examples = readCodeBlocks('docs/users/hooks.md')
    .filter(({ language }) => language === 'yaml')
    .map(({ text }) => text.replaceAll('prov/type', 'prov/wt'));
  expect(examples).toHaveLength(3);
  for (const [i, example] of examples.entries()) {
    expect(await taskcluster(['create', `g/example-${i}`], example)).toMatchObject({ err: `Hook g/example-${i} created.\n` });
  }
  const deployed = await taskcluster(['fire', 'g/example-1', '-', '--json'], '{"version": "1.2", "dryRun": true}');
  const { taskId } = JSON.parse(deployed.out) as { taskId: string };
  expect(await server.definition(taskId)).toMatchObject({
    metadata: { name: 'deploy 1.2' },
    payload: { command: [['./deploy', '1.2', '--dry-run']], env: { ASKED_BY: ROOT.clientId } },
  });
  expect((await taskcluster(['fire', 'g/example-1', '-'], '{"version": "latest"}')).err).toContain('must match pattern');
  await server.db.tx(tx =>
    publishAll(tx, [
      {
        exchange: 'exchange/taskcluster-queue/v1/task-completed',
        routingKey: 'primary.x',
        cc: ['route.index.project-x.nightly.1'],
        payload: { status: { state: 'completed', taskId } },
      },
    ]),
  );
  await server.drain();
  server.clock.advance({ days: 31 });
  await server.work();
  const followed = (await server.lastFires('example-2'))[0];
  expect(await server.definition(followed?.taskId ?? '')).toMatchObject({ payload: { command: [['./look-at', taskId]] } });
  const nightly = (await server.lastFires('example-0'))[0];
  const command = (await server.definition(nightly?.taskId ?? ''))['payload'];
  expect(command).toMatchObject({ command: [['/bin/sh', '-c', expect.stringMatching(/^make nightly DATE=\d{4}-\d\d-\d\d$/)]] });
});

describe('mistakes', () => {
  test.each([
    [['show', 'nightly'], '', 'It must be GROUP/ID'],
    [['create', 'g/x'], '- a', 'The definition in standard input must be an object.'],
    [['create', 'g/x'], '{', 'The definition in standard input is neither JSON nor YAML'],
    [['create', 'g/x', '/does/not/exist'], '', 'The definition /does/not/exist cannot be read'],
    [['create', 'g/x'], '{}', "must have required property 'metadata'"],
    [['update', 'g/none'], JSON.stringify(aHook()), 'ResourceNotFound'],
    [['list', 'g', 'h'], '', 'too many arguments'],
    [['last-fires', 'g/none'], '', 'ResourceNotFound'],
    [['delete', 'g/x'], '', 'Use --force'],
  ])('%j', async (args, input, problem) => {
    expect(await taskcluster(args, input)).toMatchObject({ out: '', status: 2, err: expect.stringContaining(problem) });
  });
});

test('names of hooks', () => {
  expect(parseHook('a/b/c')).toEqual({ hookGroupId: 'a', hookId: 'b/c' });
  expect(parseHook('https://tc.example.com/hooks/a/b%2Fc?x=1')).toEqual({ hookGroupId: 'a', hookId: 'b/c' });
  for (const name of ['a', 'a/', '/a', 'a b/c', 'a/b.c', 'https://tc.example.com/hooks/a', 'https://tc.example.com/hooks/a/%zz']) {
    expect(() => parseHook(name)).toThrow('GROUP/ID');
  }
});
