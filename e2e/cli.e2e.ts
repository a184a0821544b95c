/** The command line on a real installation, each command for real: tasks run on the local worker. */
import { execFileSync, spawn } from 'node:child_process';
import fs from 'node:fs/promises';
import path from 'node:path';
import { describe, expect, test } from 'vitest';
import { makeFolder, ROOT, startInstallation } from './support/installation.ts';

interface Result {
  readonly out: string;
  readonly err: string;
  readonly status: number | null;
}

/** The program in a folder, as a shell without any of our variables starts it. */
const taskclusterIn =
  (cwd: string) =>
  (args: readonly string[], input = ''): Promise<Result> =>
    new Promise((resolve, reject) => {
      const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith('TASKCLUSTER_')));
      const child = spawn(process.execPath, [path.join(ROOT, 'cli', 'main.ts'), ...args], { cwd, env, stdio: ['pipe', 'pipe', 'pipe'] });
      let [out, err] = ['', ''];
      child.stdout.on('data', (chunk: Buffer) => (out += chunk.toString()));
      child.stderr.on('data', (chunk: Buffer) => (err += chunk.toString()));
      child.on('error', reject);
      child.on('close', status => resolve({ out, err, status }));
      child.stdin.end(input);
    });

/** An installation whose data folder lies where the program looks for it. */
const start = async () => {
  const folder = await makeFolder();
  const installation = await startInstallation({ dataDir: path.join(folder, '.taskcluster') });
  return { folder, installation, taskcluster: taskclusterIn(folder) };
};

const idIn = (text: string): string => /[A-Za-f][\w-]{21}/.exec(text)?.[0] ?? expect.unreachable(`no id in: ${text}`);

describe('tasks', () => {
  test('are created, watched, read and changed', async () => {
    const { installation, taskcluster } = await start();
    const { rootUrl } = installation;

    expect(await taskcluster(['signin', '--check'])).toMatchObject({
      status: 0,
      out: expect.stringContaining(`Installation: ${rootUrl}`) as string,
    });

    // run, with its log on standard output, and its result as exit status
    const ran = await taskcluster(['task', 'run', '--follow', '--env', 'WORD=hello', '--', 'sh', '-c', 'echo $WORD world; echo done >&2']);
    expect(ran.err).toContain('is completed');
    expect(ran.status).toBe(0);
    expect(ran.out).toContain('hello world\ndone\n');
    const completed = idIn(ran.err);
    const failed = await taskcluster(['task', 'run', '--wait', '--json', '--', 'sh', '-c', 'exit 3']);
    expect(failed.status).toBe(1);
    expect(JSON.parse(failed.out)).toMatchObject({ status: { state: 'failed', runs: [{ reasonResolved: 'failed' }] } });
    const failedId = (JSON.parse(failed.out) as { taskId: string }).taskId;

    // reading
    expect((await taskcluster(['task', 'explain', failedId])).out).toMatch(/^✘ failed {2}sh -c exit 3 [^]*It failed .* \(run 0 on /);
    expect((await taskcluster(['task', 'status', completed])).out).toBe("completed 'completed'\n");
    expect((await taskcluster(['task', 'status', '--all-runs', failedId])).out).toBe("Run #0: failed 'failed'\n");
    expect(JSON.parse((await taskcluster(['task', 'def', completed])).out)).toMatchObject({
      taskQueueId: 'local/process',
      schedulerId: 'taskcluster-cli',
    });
    expect((await taskcluster(['task', 'log', `${rootUrl}/tasks/${completed}`])).out).toContain('hello world');
    expect((await taskcluster(['task', 'artifacts', completed])).out.split('\n')).toContain('public/logs/live_backing.log');
    const artifact = await taskcluster(['task', 'artifacts', completed, '--download', 'public/logs/live_backing.log']);
    expect(artifact.out).toContain('hello world');
    expect(await taskcluster(['task', 'status', '-r', '7', completed])).toMatchObject({
      status: 2,
      err: expect.stringContaining('There is no run #7') as string,
    });

    // creating from a definition, twice with the same id
    const definition = JSON.stringify({
      taskQueueId: 'nobody/claims-this',
      created: '2030-01-01T00:00:00.000Z',
      deadline: { $fromNow: '2 hours' },
      payload: {},
      metadata: { name: 'Waiting', description: 'd', owner: 'o@example.com', source: 'https://example.com' },
    });
    const id = (await taskcluster(['slugid', 'generate'])).out.trim();
    const refused = await taskcluster(['task', 'create', '--task-id', id], definition);
    expect(refused).toMatchObject({ status: 2, err: expect.stringMatching(/^Error: InputError: .*created/) as string });
    const withoutCreated = JSON.stringify({ ...(JSON.parse(definition) as object), created: undefined });
    expect(await taskcluster(['task', 'create', '--task-id', id], withoutCreated)).toMatchObject({ status: 0, err: '' });
    expect(await taskcluster(['task', 'rerun', id])).toMatchObject({ status: 2, err: expect.stringContaining('is pending') as string });
    expect((await taskcluster(['task', 'cancel', '--noop', id])).err).toContain(`Would cancel Waiting taskid: ${id} (state: pending)`);
    expect((await taskcluster(['task', 'cancel', id])).out).toBe("exception 'canceled'\n");
    expect((await taskcluster(['task', 'rerun', id])).out).toBe('pending\n');

    // its group
    expect((await taskcluster(['group', 'list', id])).out).toContain(`${id}  Waiting  pending`);
    expect((await taskcluster(['group', 'list', '--failed', id])).out).toBe('');
    expect(await taskcluster(['group', 'cancel', id])).toMatchObject({ status: 2, err: expect.stringContaining('Use --force') as string });
    expect(await taskcluster(['group', 'cancel', '--force', id])).toMatchObject({ status: 0 });
    expect((await taskcluster(['group', 'status', id])).out).toBe('exception: 1\n');
    expect(await taskcluster(['group', 'status', '--watch', id])).toMatchObject({
      status: 1,
      err: expect.stringContaining('Not green: 1 exception') as string,
    });

    // any method of any service
    expect(JSON.parse((await taskcluster(['api', 'queue', 'status', id])).out)).toMatchObject({
      status: { taskId: id, state: 'exception' },
    });
    expect(JSON.parse((await taskcluster(['api', 'auth', 'expandScopes'], '{"scopes":["a"]}')).out)).toMatchObject({ scopes: ['a'] });
    expect(JSON.parse((await taskcluster(['api', 'queue', 'listTaskGroup', id, '--limit', '1'])).out)).toMatchObject({ taskGroupId: id });
    expect(await taskcluster(['api', 'queue', 'task', 'fN1SbArXTPSVFNUvaOlinQ'])).toMatchObject({
      status: 2,
      err: expect.stringContaining('ResourceNotFound') as string,
    });

    // nobody at home
    await installation.stop();
    expect(await taskcluster(['task', 'status', id])).toMatchObject({
      status: 2,
      err: expect.stringContaining('Is the installation running?') as string,
    });
  });
});

const YML = (childScript: string) => `
version: 1
tasks:
  - taskId: \${ownTaskId}
    taskQueueId: local/process
    deadline: { $fromNow: 1 hour }
    scopes: ['queue:create-task:lowest:local/process', 'queue:create-task:project:none', 'queue:scheduler-id:taskcluster-github', 'queue:get-task:*']
    metadata: { name: decision, description: d, owner: o@example.com, source: "\${event.repository.url}" }
    payload:
      maxRunTime: 60
      features: { taskclusterProxy: true }
      mounts: [ { file: source.bundle, content: { url: "\${event.repository.bundle_url}" } } ]
      env: { CHILD: { $eval: 'as_slugid("child")' }, REVISION: "\${event.after}" }
      command:
        - [ /bin/sh, -exc, 'git clone -q source.bundle source && test "$(git -C source rev-parse HEAD)" = "$REVISION" && cat source/word' ]
        - - node
          - -e
          - |
            const { TASKCLUSTER_PROXY_URL: root, TASK_ID, TASK_GROUP_ID, CHILD } = process.env;
            const now = Date.now();
            const at = ms => new Date(now + ms).toISOString();
            const body = {
              taskQueueId: 'local/process', schedulerId: 'taskcluster-github', taskGroupId: TASK_GROUP_ID, dependencies: [TASK_ID],
              created: at(0), deadline: at(3600000), payload: { command: [['/bin/sh', '-c', ${JSON.stringify(childScript)}]], maxRunTime: 60 },
              metadata: { name: 'child', description: 'd', owner: 'o@example.com', source: 'https://example.com' },
            };
            fetch(root + '/api/queue/v1/task/' + CHILD, { method: 'PUT', headers: { 'content-type': 'application/json' }, body: JSON.stringify(body) })
              .then(async reply => { console.log(reply.status, await reply.text()); process.exit(reply.ok ? 0 : 1); });
`;

describe('a push', () => {
  const makeTree = async (folder: string, childScript: string) => {
    const tree = path.join(folder, 'widgets');
    await fs.mkdir(tree);
    const git = (...args: string[]): string =>
      execFileSync('git', ['-C', tree, '-c', 'user.name=Ada', '-c', 'user.email=ada@example.com', ...args], { encoding: 'utf8' }).trim();
    execFileSync('git', ['init', '-q', '-b', 'main', tree]);
    await fs.writeFile(path.join(tree, '.taskcluster.yml'), YML(childScript));
    await fs.writeFile(path.join(tree, 'word'), 'committed');
    git('add', '.');
    git('commit', '-q', '-m', 'All');
    return { tree, git };
  };

  test('brings the source to the tasks, and follows what they create', async () => {
    const { folder, taskcluster } = await start();
    const { tree } = await makeTree(folder, 'echo child; sleep 0.1');
    await fs.writeFile(path.join(tree, 'word'), 'changed');

    const pushed = await taskcluster(['push', 'widgets']);
    expect(pushed.err).toContain('Not included: 1 uncommitted change');
    expect(pushed.err).toMatch(/✔ completed {3}decision[^]*✔ completed {3}child[^]*Green: 2 completed/);
    expect(pushed.status).toBe(0);

    const followed = await taskcluster(['push', '--uncommitted', 'include', '--follow', tree]);
    expect(followed.err).toMatch(/\[decision\] .*changed[^]*\[child\] .*child/);
    expect(followed.status).toBe(0);

    const json = await taskcluster(['push', '--json', tree]);
    expect(JSON.parse(json.out)).toMatchObject({
      branch: 'main',
      isGreen: true,
      counts: { completed: 2 },
      tasks: [{ state: 'completed' }, { state: 'completed' }],
    });

    expect(await taskcluster(['push', '--uncommitted', 'refuse', tree])).toMatchObject({
      status: 2,
      err: expect.stringContaining('M word') as string,
    });
  });

  test('tells what failed, with the end of its log', async () => {
    const { folder, taskcluster } = await start();
    await makeTree(folder, 'echo the reason; exit 1');
    const pushed = await taskcluster(['push', 'widgets']);
    expect(pushed.err).toMatch(/✘ child failed: http[^]*the reason[^]*Not green: 1 completed, 1 failed/);
    expect(pushed.status).toBe(1);
  });

  test('is refused where there is nothing to push', async () => {
    const { folder, taskcluster } = await start();
    const { tree, git } = await makeTree(folder, 'true');
    expect(await taskcluster(['push', folder])).toMatchObject({
      status: 2,
      err: expect.stringContaining('is not inside a git work tree') as string,
    });
    git('rm', '-q', '.taskcluster.yml');
    git('commit', '-q', '-m', 'Nothing');
    expect(await taskcluster(['push', tree])).toMatchObject({
      status: 2,
      err: expect.stringContaining('There is no .taskcluster.yml') as string,
    });
    await fs.writeFile(path.join(tree, '.taskcluster.yml'), 'version: 1\ntasks: [ { $eval: nothing } ]\n');
    expect(await taskcluster(['push', '--uncommitted', 'include', tree])).toMatchObject({
      status: 2,
      err: expect.stringContaining('.taskcluster.yml cannot be rendered') as string,
    });
  });
});

describe('a graph', () => {
  test('is created whole or not at all, and run again from a task on', async () => {
    const { installation, taskcluster } = await start();
    const [first, second] = ['fN1SbArXTPSVFNUvaOlinQ', 'VQfSjo3vQZCTAhaOLKN6rA'];
    const task = (name: string, more: object = {}) => ({
      taskQueueId: 'local/process',
      created: { $fromNow: '0 seconds' },
      deadline: { $fromNow: '1 hour' },
      payload: { command: [['true']], maxRunTime: 60 },
      metadata: { name, description: '', owner: 'o@example.com', source: 'https://example.com' },
      ...more,
    });
    const graph = (change: object = {}) =>
      JSON.stringify({
        tasks: [
          { taskId: second, task: task('second', { dependencies: [first] }) },
          { taskId: first, task: task('first', change) },
        ],
      });
    const group = ['--group', first];
    const refused = await taskcluster(['graph', 'submit', ...group], graph({ dependencies: [second], retries: 99 }));
    expect(refused.status).toBe(2);
    expect(refused.err).toContain('The tasks were refused, and none was created:');
    expect(refused.err).toContain('(/tasks/1/task/retries)');
    expect((await taskcluster(['task', 'status', first])).status).toBe(2);
    expect(await taskcluster(['graph', 'submit', '--dry-run', ...group], graph())).toMatchObject({
      status: 0,
      out: 'Nothing is wrong with these 2 tasks.\n',
    });
    expect((await taskcluster(['task', 'status', first])).status).toBe(2);
    expect(await taskcluster(['graph', 'submit', ...group], graph())).toMatchObject({
      status: 0,
      out: `Task group ${first}: 2 tasks created.\n`,
    });
    expect((await taskcluster(['group', 'status', '--watch', first])).status).toBe(0);
    const rerun = await taskcluster(['task', 'rerun', '--force', '--downstream', first]);
    expect(rerun).toMatchObject({ status: 0, err: expect.stringContaining('1 tasks downstream wait for it again.') as string });
    expect((await taskcluster(['group', 'status', '--watch', first])).status).toBe(0);
    const { rootUrl } = installation;
    const status = (await (await fetch(`${rootUrl}/api/queue/v1/task/${second}/status`)).json()) as { status: { runs: unknown[] } };
    expect(status.status.runs.length).toBe(2);
  });
});

describe('the index and caches', () => {
  test('tasks are found by path, with what ran there; caches are purged', async () => {
    const { taskcluster } = await start();
    const run = async (script: string, more: object = {}) => {
      const definition = JSON.stringify({
        taskQueueId: 'local/process',
        created: { $fromNow: '0 seconds' },
        deadline: { $fromNow: '1 hour' },
        routes: ['index.cli.build'],
        metadata: { name: 'n', description: 'd', owner: 'o@example.com', source: 'https://example.com' },
        payload: { command: [['sh', '-c', script]], maxRunTime: 60, ...more },
      });
      return idIn((await taskcluster(['task', 'create', '--wait', '-'], definition)).err);
    };
    const failed = await run('exit 1');
    const taskId = await run('echo built > out', { artifacts: [{ type: 'file', path: 'out', name: 'private/out' }] });
    for (let tries = 0; tries < 200 && (await taskcluster(['index', 'find', 'cli.build'])).status !== 0; tries++) {
      // until the event has arrived
    }
    expect((await taskcluster(['index', 'find', 'cli.build'])).out).toBe(`${taskId}\n`);
    expect((await taskcluster(['index', 'artifact', 'cli.build', 'private/out'])).out).toBe('built\n');
    const history = await taskcluster(['index', 'history', 'cli.build']);
    expect(history.out.trim().split('\n')).toEqual([
      expect.stringMatching(new RegExp(`^\\S+Z +completed +\\d+s +${taskId}/0$`)),
      expect.stringMatching(new RegExp(`^\\S+Z +failed +\\d+s +${failed}/0$`)),
    ]);
    expect(JSON.parse((await taskcluster(['index', 'history', '-n', '1', '--json', 'cli.build'])).out)).toMatchObject([{ taskId }]);

    expect(
      (await taskcluster(['index', 'insert', 'cli.by.hand', failed, '--rank', '5', '--data', '{"a":1}', '--expires', '1 day'])).status,
    ).toBe(0);
    expect(JSON.parse((await taskcluster(['index', 'find', '--json', 'cli.by.hand'])).out)).toMatchObject({
      taskId: failed,
      rank: 5,
      data: { a: 1 },
    });
    expect(await taskcluster(['index', 'insert', 'cli.by.hand', taskId, '--rank', '-1'])).toMatchObject({
      status: 2,
      err: expect.stringContaining(`cli.by.hand stays task ${failed}, which has the higher rank 5`) as string,
    });
    expect((await taskcluster(['index', 'list'])).out).toMatch(/^cli\. +until /);
    expect((await taskcluster(['index', 'list', 'cli.'])).out).toMatch(
      new RegExp(`^cli\\.by\\. +until \\S+\ncli\\.build +${taskId} +until \\S+\n$`),
    );
    expect((await taskcluster(['index', 'delete', 'cli.by.hand'])).status).toBe(0);
    expect(await taskcluster(['index', 'find', 'cli.by.hand'])).toMatchObject({
      status: 2,
      err: expect.stringContaining('Indexed task not found') as string,
    });

    expect(await taskcluster(['purge-cache', 'local/process', 'checkouts'])).toMatchObject({ status: 0, out: '' });
    expect((await taskcluster(['purge-cache', 'list'])).out).toMatch(/^local\/process +\S+Z +checkouts\n$/);
    expect(JSON.parse((await taskcluster(['purge-cache', 'list', 'local/process', '--json'])).out)).toMatchObject([
      { cacheName: 'checkouts' },
    ]);
    expect((await taskcluster(['purge-cache', 'list', 'local/other'])).out).toBe('');
    expect(await taskcluster(['purge-cache', 'local', 'checkouts'])).toMatchObject({ status: 2 });
  });
});
