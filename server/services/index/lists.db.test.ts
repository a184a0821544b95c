import { indexApi } from '@tscluster/api/index/api.ts';
import { beforeAll, describe, expect, test } from 'vitest';
import { seededRandom } from '../../testing/server.ts';
import { countRowsRead } from '../../testing/plans.ts';
import { insertStatement, listStatement } from './entries.db.ts';
import { pathOf } from './paths.ts';
import { type IndexServer, withIndex } from './testing.ts';

let server: IndexServer;
beforeAll(async () => {
  server = await withIndex();
});

interface Page {
  readonly continuationToken?: string | undefined;
}
/** All pages, one after another. */
const walk = async <P extends Page>(read: (query: Page) => Promise<P>, between: (page: P) => unknown = () => undefined): Promise<P[]> => {
  const pages = [await read({})];
  for (let token = pages[0]?.continuationToken; token !== undefined; token = pages.at(-1)?.continuationToken) {
    await between(pages.at(-1) as P);
    pages.push(await read({ continuationToken: token }));
  }
  return pages;
};
const namesIn = (tasks: readonly { namespace: string }[]): string[] => tasks.map(task => task.namespace.replace(/^.*\./, ''));
const refused = (code: string, statusCode: number) => expect.objectContaining({ code, statusCode }) as unknown;

/** Puts entries into the table, many with one statement. */
const fill = async (namespace: string, names: readonly string[], data = '{}'): Promise<void> => {
  for (let at = 0; at < names.length; at += 1_000) {
    const entries = names.slice(at, at + 1_000).map(name => ({
      namespace,
      name,
      rank: 0,
      taskId: server.newId(),
      data,
      expires: new Date(server.inHours(1)),
      insertedMs: 0,
    }));
    await server.db.tx(tx => tx.run(insertStatement(entries, 'event', server.clock.nowMs())));
  }
};

describe('lists', () => {
  test('of tasks and namespaces are ordered as the protocol orders ids, and go one level deep', async () => {
    const names = ['o-b', 'a', 'A', 'b', '0', 'o_b', 'ob', 'obc', 'Obc', 'Z', '%20', '~'];
    for (const name of names) {
      await server.insert(`order.${name}`);
      await server.insert(`order.${name}.below`);
    }
    const { tasks } = await server.index.listTasks({ namespace: 'order' });
    const { namespaces } = await server.index.listNamespaces({ namespace: 'order' });
    expect(namesIn(tasks).filter(name => /^\w+$/.test(name))).toEqual(['0', 'a', 'A', 'b', 'o_b', 'ob', 'obc', 'Obc', 'Z']);
    expect(namespaces.map(each => each.name)).toEqual(namesIn(tasks));
    expect(namesIn(tasks).toSorted()).toEqual(names.toSorted());
    expect(namespaces[0]).toEqual({ namespace: `order.${namespaces[0]?.name}`, name: namespaces[0]?.name, expires: expect.any(String) });
  });

  test('of the root', async () => {
    const own = await withIndex();
    const taskId = await own.insert('top');
    await own.insert('deep.down');
    expect((await own.index.listTasks({})).tasks).toMatchObject([{ namespace: 'top', taskId, rank: 0, data: {}, expires: own.inHours(1) }]);
    expect((await own.index.listNamespaces({})).namespaces).toMatchObject([{ namespace: 'deep', name: 'deep' }]);
    const trailing = await own.fetch(`${own.rootUrl}/api/index/v1/tasks/`, {
      headers: { authorization: 'Hawk id="static/taskcluster/x"' },
    });
    expect([trailing.status, namesIn(((await trailing.json()) as { tasks: { namespace: string }[] }).tasks)]).toEqual([200, ['top']]);
  });

  test('of what nobody has used are empty', async () => {
    expect(await server.index.listTasks({ namespace: 'unknown.namespace' })).toEqual({ tasks: [] });
    expect(await server.index.listNamespaces({ namespace: 'unknown.namespace' })).toEqual({ namespaces: [] });
  });

  test('are cut into pages of the size asked for, 1,000 at most', async () => {
    const names = Array.from({ length: 1_003 }, (_, i) => `n${String(i).padStart(5, '0')}`);
    await fill('pages', names);
    const sizes = async (limit?: string): Promise<number[]> =>
      (await walk(query => server.index.listTasks({ namespace: 'pages' }, { ...query, ...(limit && { limit }) }))).map(
        page => page.tasks.length,
      );
    expect(await sizes('400')).toEqual([400, 400, 203]);
    expect(await sizes('1003')).toEqual([1_000, 3]);
    expect(await sizes()).toEqual([1_000, 3]);
    expect(await server.index.listTasks({ namespace: 'pages' }, { limit: '0' })).toEqual({ tasks: [] });
    expect(await server.index.listNamespaces({}, { limit: '0' })).toEqual({ namespaces: [] });
  });

  test('refuse queries that are none', async () => {
    await expect(server.index.listTasks({}, { limit: '-1' })).rejects.toEqual(refused('InvalidRequestArguments', 400));
    await expect(server.index.listTasks({}, { continuationToken: '' })).rejects.toEqual(refused('InvalidRequestArguments', 400));
    await expect(server.index.listTasks({}, { continuationToken: '!' })).rejects.toEqual(refused('InputError', 400));
    await expect(server.index.listNamespaces({}, { continuationToken: '!' })).rejects.toEqual(refused('InputError', 400));
  });

  test('show everything that stays exactly once, while others come and go', async () => {
    const random = seededRandom(12);
    const staying = Array.from({ length: 200 }, (_, i) => `stay${String(i * 7).padStart(5, '0')}`);
    await fill('busy', staying);
    const coming = new Set<string>();
    const disturb = async (): Promise<void> => {
      for (let i = 0; i < 6; i++) {
        const name = `stay${String(Math.floor(random.float() * 1_400)).padStart(5, '0')}x`;
        await (coming.delete(name) ? server.index.deleteTask({ namespace: `busy.${name}` }) : server.insert(`busy.${name}`));
        coming.add(name);
      }
    };
    const pages = await walk(query => server.index.listTasks({ namespace: 'busy' }, { ...query, limit: '17' }), disturb);
    const seen = pages.flatMap(page => namesIn(page.tasks));
    expect(new Set(seen).size).toBe(seen.length);
    expect(seen.filter(name => !name.endsWith('x'))).toEqual(staying);
  });

  test('of 100,000 tasks read no more than a page of them', async () => {
    const names = Array.from({ length: 100_000 }, (_, i) => `n${String(i).padStart(6, '0')}`);
    await fill('wide.and.deep', names);
    const pages = await walk(query => server.index.listTasks({ namespace: 'wide.and.deep' }, query));
    expect(pages.map(page => page.tasks.length)).toEqual(Array.from({ length: 100 }, () => 1_000));
    expect(pages.flatMap(page => namesIn(page.tasks))).toEqual(names);
    await server.db`analyze index.tasks`;
    for (const after of [undefined, 'n050000', 'n099990']) {
      const statement = listStatement('wide.and.deep', after, server.clock.now(), 1_001);
      expect(await countRowsRead(server.db, statement)).toBe(after === 'n099990' ? 9 : 1_001);
    }
  }, 120_000);

  test('are cut earlier when what they show is large, and miss nothing', async () => {
    const data = JSON.stringify({ text: 'x'.repeat(3 * 1024 * 1024) });
    const names = ['a', 'b', 'c', 'd', 'e'];
    await fill('large', names, data);
    const pages = await walk(query => server.index.listTasks({ namespace: 'large' }, query));
    expect(pages.map(page => namesIn(page.tasks))).toEqual([['a', 'b'], ['c', 'd'], ['e']]);
    const indexes = names.map(name => `large.${name}`);
    const many = await walk(query => server.index.findTasksAtIndex({ indexes }, query));
    expect(many.map(page => namesIn(page.tasks))).toEqual([['a', 'b'], ['c', 'd'], ['e']]);
    await server.index.insertTask(
      { namespace: 'huge.x' },
      { taskId: server.newId(), rank: 0, data: { text: 'y'.repeat(9 * 1024 * 1024) }, expires: server.inHours(1) },
    );
    expect((await server.index.listTasks({ namespace: 'huge' })).tasks).toHaveLength(1);
  });
});

describe('the old lists by POST', () => {
  const post = async (path: string, body?: unknown, contentType = 'application/json'): Promise<{ status: number; body: any }> => {
    const response = await server.fetch(`${server.rootUrl}/api/index/v1${path}`, {
      method: 'POST',
      headers: { authorization: 'Hawk id="static/taskcluster/x"', ...(body !== undefined && { 'content-type': contentType }) },
      ...(body !== undefined && { body: typeof body === 'string' ? body : JSON.stringify(body) }),
    });
    return { status: response.status, body: await response.json() };
  };

  test('give the first page, whatever the body says', async () => {
    for (const name of ['a', 'b', 'c']) {
      await server.insert(`old.${name}`);
      await server.insert(`old.${name}.x`);
    }
    const { continuationToken } = await server.index.listTasks({ namespace: 'old' }, { limit: '1' });
    const whole = await server.index.listTasks({ namespace: 'old' });
    for (const body of [
      {},
      { limit: 1 },
      { limit: 'x', more: 1 },
      { continuationToken },
      { continuationToken: 'nonsense' },
      [],
      undefined,
    ]) {
      expect(await post('/tasks/old', body)).toEqual({ status: 200, body: whole });
    }
    const namespaces = await server.index.listNamespaces({ namespace: 'old' });
    for (const body of [{}, { limit: 1 }, { continuationToken }]) {
      expect(await post('/namespaces/old', body)).toEqual({ status: 200, body: namespaces });
    }
    expect((await post('/tasks')).status).toBe(200);
    expect((await post('/namespaces/', {})).status).toBe(200);
  });

  test('go on from their own token, as old callers do', async () => {
    await fill(
      'old.long',
      Array.from({ length: 1_002 }, (_, i) => `n${String(i).padStart(4, '0')}`),
    );
    const first = (await post('/tasks/old.long', {})).body;
    expect(first.tasks).toHaveLength(1_000);
    const second = (await post('/tasks/old.long', { continuationToken: first.continuationToken })).body;
    expect(namesIn(second.tasks)).toEqual(['n1000', 'n1001']);
    expect(second).not.toHaveProperty('continuationToken');
  });

  test('refuse what is refused', async () => {
    expect(await post('/tasks/old?limit=1')).toMatchObject({ status: 400, body: { code: 'InvalidRequestArguments' } });
    expect(await post('/namespaces/old?continuationToken=x', {})).toMatchObject({ status: 400, body: { code: 'InvalidRequestArguments' } });
    expect(await post('/namespaces/old', { limit: 0 })).toMatchObject({ status: 400, body: { code: 'InputValidationError' } });
    expect(await post('/namespaces/old', { limit: 1001 })).toMatchObject({ status: 400, body: { code: 'InputValidationError' } });
    expect(await post('/namespaces/old')).toMatchObject({ status: 400, body: { code: 'MalformedPayload' } });
    expect(await post('/tasks/old', '{')).toMatchObject({ status: 400, body: { code: 'MalformedPayload' } });
    expect(await post('/tasks/a..b', {})).toMatchObject({ status: 400, body: { code: 'InvalidRequestArguments' } });
    const stranger = server.client(indexApi, { scopes: ['index:list-namespaces:*'] });
    await expect(stranger.listTasksPost({ namespace: 'old' })).rejects.toEqual(refused('InsufficientScopes', 403));
    await expect(server.client(indexApi, { scopes: [] }).listNamespacesPost({ namespace: 'old' }, {})).rejects.toEqual(
      refused('InsufficientScopes', 403),
    );
  });
});

test('paths are put together as they were taken apart', () => {
  expect(pathOf({ namespace: '', name: 'a' })).toBe('a');
  expect(pathOf({ namespace: 'a.b', name: 'c' })).toBe('a.b.c');
});
