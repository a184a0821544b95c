import { indexApi } from '@tscluster/api/index/api.ts';
import { beforeAll, describe, expect, test } from 'vitest';
import { findScans } from '../../testing/plans.ts';
import { findStatement, insertStatement } from './entries.db.ts';
import { entryExpiry, namespaceExpiry } from './expiry.ts';
import { type IndexServer, withIndex } from './testing.ts';

let server: IndexServer;
beforeAll(async () => {
  server = await withIndex();
});

const refused = (code: string, statusCode: number, text = '') =>
  expect.objectContaining({ code, statusCode, message: expect.stringContaining(text) as unknown }) as unknown;
const withScopes = (...scopes: string[]) => server.client(indexApi, { scopes });
/** A plain request by somebody who may do everything. */
const request = async (method: string, path: string, body?: unknown): Promise<{ status: number; body: any }> => {
  const caller = 'static/taskcluster/index';
  const response = await server.fetch(`${server.rootUrl}/api/index/v1${path}`, {
    method,
    headers: { authorization: `Hawk id="${caller}"`, ...(body !== undefined && { 'content-type': 'application/json' }) },
    ...(body !== undefined && { body: JSON.stringify(body) }),
  });
  return { status: response.status, body: await response.json() };
};
const body = (fields: object = {}) => ({ taskId: server.newId(), rank: 0, data: {}, expires: server.inHours(1), ...fields });
const ODD = "-_!~*'()%20.%2F.%";
const LONG = `${'a'.repeat(126)}.${'b'.repeat(128)}`;

describe('inserting and finding', () => {
  test.each(['root', 'one.two', 'a.b.c.d.e', ODD, LONG, "'.'", '%00.%E2%82%AC'])('%s', async path => {
    const entry = body({ rank: -5, data: { text: '"\\\u2028€😀\ud800', list: [1, null] } });
    const expected = {
      namespace: path,
      taskId: entry.taskId,
      rank: -5,
      data: { text: '"\\\u2028€😀\ud800', list: [1, null] },
      expires: entry.expires,
    };
    expect(await server.index.insertTask({ namespace: path }, entry)).toEqual(expected);
    expect(await server.index.findTask({ indexPath: path })).toEqual(expected);
  });

  test('a path can be a task and a namespace at once', async () => {
    const [upper, lower] = [await server.insert('both'), await server.insert('both.below')];
    expect(await server.index.findTask({ indexPath: 'both' })).toMatchObject({ taskId: upper });
    expect(await server.index.findTask({ indexPath: 'both.below' })).toMatchObject({ taskId: lower });
  });

  test('what is not there, or no more, is not found', async () => {
    await expect(server.index.findTask({ indexPath: 'not.there' })).rejects.toEqual(
      refused('ResourceNotFound', 404, 'Indexed task not found'),
    );
    const own = await withIndex();
    await own.insert('x', { expires: own.inHours(1) });
    own.clock.advance({ hours: 1, ms: -1 });
    await own.index.findTask({ indexPath: 'x' });
    own.clock.advance({ ms: 1 });
    await expect(own.index.findTask({ indexPath: 'x' })).rejects.toEqual(refused('ResourceNotFound', 404));
  });

  test.each(['a b', 'a..b', '.a', 'a.', 'a/b', '', 'ä', 'a"b', 'a\\b', `${LONG}c`, 'a\nb', 'a\0b'])('%j is no path', async path => {
    const encoded = encodeURIComponent(path);
    for (const [method, input] of [['GET'], ['PUT', body()], ['DELETE']] as const) {
      const reply = await request(method, `/task/${encoded}`, input);
      expect([reply.status, reply.body.code ?? reply.body.error]).toEqual(
        path === '' ? [404, 'Not found'] : [400, 'InvalidRequestArguments'],
      );
    }
    if (path !== '') {
      expect(await request('GET', `/tasks/${encoded}`)).toMatchObject({ status: 400, body: { code: 'InvalidRequestArguments' } });
      expect(await request('GET', `/namespaces/${encoded}`)).toMatchObject({ status: 400, body: { code: 'InvalidRequestArguments' } });
      expect(await request('GET', `/history/${encoded}`)).toMatchObject({ status: 400, body: { code: 'InvalidRequestArguments' } });
      expect(await request('GET', `/task/${encoded}/artifacts/x`)).toMatchObject({ status: 400 });
    }
  });

  test.each([
    ['a fraction as rank', { rank: 0.5 }, 'InputError'],
    ['a rank of 33 bits', { rank: 2 ** 31 }, 'InputError'],
    ['the same below zero', { rank: -(2 ** 31) }, 'InputError'],
    ['a rank without end', { rank: 1e308 }, 'InputError'],
    ['a text as rank', { rank: '1' }, 'InputValidationError'],
    ['no rank', { rank: undefined }, 'InputValidationError'],
    ['no data', { data: undefined }, 'InputValidationError'],
    ['a list as data', { data: [] }, 'InputValidationError'],
    ['null as data', { data: null }, 'InputValidationError'],
    ['no expiry', { expires: undefined }, 'InputValidationError'],
    ['a day as expiry', { expires: '2040-01-01' }, 'InputValidationError'],
    ['a leap second', { expires: '2040-12-31T23:59:60Z' }, 'InputValidationError'],
    ['an expiry after the last year', { expires: '9999-12-31T23:59:59-23:00' }, 'InputValidationError'],
    ['no task', { taskId: 'task' }, 'InputValidationError'],
    ['more', { more: 1 }, 'InputValidationError'],
    ['a NUL character', { data: { a: { 'b\0': 1 } } }, 'InputError'],
  ])('%s is refused', async (_, fields, code) => {
    expect(await request('PUT', '/task/refused.here', body(fields))).toMatchObject({ status: 400, body: { code } });
    expect(await request('GET', '/task/refused.here')).toMatchObject({ status: 404 });
    expect((await server.index.listNamespaces({})).namespaces.map(each => each.name)).not.toContain('refused');
  });

  test.each([
    ['2040-01-01 05:00:00', '2040-01-01T05:00:00.000Z'],
    ['2040-01-01T05:00:00.123999-05', '2040-01-01T10:00:00.123Z'],
    ['9999-12-31T23:59:59.999Z', '9999-12-31T23:59:59.999Z'],
    ['0000-01-01T00:00:00Z', '0000-01-01T00:00:00.000Z'],
    ['1969-12-31T23:59:59.999Z', '1969-12-31T23:59:59.999Z'],
  ])('an entry that expires %s', async (expires, read) => {
    const path = `times.t${Date.parse(read)}`;
    expect(await server.index.insertTask({ namespace: path }, body({ expires }))).toMatchObject({ expires: read });
    await server.index.listNamespaces({});
  });

  test('scopes', async () => {
    const path = 'scoped.path';
    await server.insert(path);
    await expect(withScopes('index:find-task:scoped.pat').findTask({ indexPath: path })).rejects.toEqual(
      refused('InsufficientScopes', 403, `index:find-task:${path}`),
    );
    await withScopes('index:find-task:scoped.*').findTask({ indexPath: path });
    await expect(withScopes('index:find-task:*').insertTask({ namespace: path }, body())).rejects.toEqual(
      refused('InsufficientScopes', 403, `index:insert-task:${path}`),
    );
    await withScopes(`index:insert-task:${path}`).insertTask({ namespace: path }, body());
    await expect(withScopes('index:insert-task:*').deleteTask({ namespace: path })).rejects.toEqual(
      refused('InsufficientScopes', 403, `index:delete-task:${path}`),
    );
    expect(await withScopes(`index:delete-task:${path}`).deleteTask({ namespace: path })).toEqual({});
    // who may not ask does not learn that the question is wrong
    await expect(withScopes().findTask({ indexPath: 'not a path' })).rejects.toEqual(refused('InsufficientScopes', 403));
    await expect(server.client(indexApi, { scopes: null }).listTasks({})).rejects.toEqual(
      refused('InsufficientScopes', 403, 'index:list-tasks:\n'),
    );
    await withScopes('index:list-tasks:').listTasks({});
    await expect(withScopes('index:list-tasks:').listTasks({ namespace: 'a' })).rejects.toEqual(refused('InsufficientScopes', 403));
    await expect(withScopes('index:list-tasks:*').listNamespaces({ namespace: 'a' })).rejects.toEqual(
      refused('InsufficientScopes', 403, 'index:list-namespaces:a'),
    );
    await withScopes('index:list-namespaces:a').listNamespaces({ namespace: 'a' });
    await expect(withScopes('index:list-tasks:*').listHistory({ indexPath: path })).rejects.toEqual(
      refused('InsufficientScopes', 403, `index:find-task:${path}`),
    );
    await expect(withScopes('index:*').findArtifactFromTask({ indexPath: path, name: 'private/x' })).rejects.toEqual(
      refused('InsufficientScopes', 403, 'queue:get-artifact:private/x'),
    );
    await expect(withScopes('index:find-task:a').findTasksAtIndex({ indexes: ['a', 'b'] })).rejects.toEqual(
      refused('InsufficientScopes', 403, 'index:find-task:b'),
    );
  });
});

describe('ranks', () => {
  test('the higher one stays, of equal ones the newest; the answer is what is there', async () => {
    const put = (fields: object) => server.index.insertTask({ namespace: 'ranks.a' }, body(fields));
    const first = await put({ rank: 5, data: { n: 1 } });
    expect(await put({ rank: 4, data: { n: 2 }, expires: server.inHours(9) })).toEqual(first);
    const second = await put({ rank: 5, data: { n: 3 }, expires: server.inHours(0.5) });
    expect(second).toMatchObject({ data: { n: 3 }, expires: server.inHours(0.5) });
    const third = await put({ rank: 6 });
    expect(await server.index.findTask({ indexPath: 'ranks.a' })).toEqual(third);
    expect(await put({ ...third, namespace: undefined })).toEqual(third);
  });

  test('an expired entry is in nobody’s way', async () => {
    const own = await withIndex();
    await own.insert('a', { rank: 10, expires: own.inHours(1) });
    own.clock.advance({ hours: 1 });
    const taskId = await own.insert('a', { rank: 1, expires: own.inHours(1) });
    expect(await own.index.findTask({ indexPath: 'a' })).toMatchObject({ taskId, rank: 1 });
  });

  test('at once, in any order, the highest wins, in one process and in two', async () => {
    const own = await withIndex();
    const other = await withIndex({ db: own.db, clock: own.clock });
    const ranks = Array.from({ length: 60 }, (_, i) => (i * 37) % 60);
    const best = new Map<string, string>();
    const inserted: { path: string; taskId: string; rank: number }[] = [];
    for (const rank of ranks) {
      for (const path of ['race.a', 'race.b.c', 'race.b']) {
        const taskId = own.newId();
        inserted.push({ path, taskId, rank });
        if (rank === 59) {
          best.set(path, taskId);
        }
      }
    }
    const answers = await Promise.all(
      inserted.map(({ path, ...fields }, i) =>
        (i % 2 === 0 ? own : other).index.insertTask({ namespace: path }, { ...body(), ...fields }).then(answer => ({ answer, fields })),
      ),
    );
    expect(answers.filter(({ answer, fields }) => answer.rank < fields.rank)).toEqual([]);
    for (const [path, taskId] of best) {
      expect(await own.index.findTask({ indexPath: path })).toMatchObject({ taskId, rank: 59 });
    }
  });

  test('an insertion and a removal at once leave one or the other', async () => {
    for (let i = 0; i < 20; i++) {
      await server.insert('going', { rank: 5 });
      const [answer] = await Promise.all([
        server.index.insertTask({ namespace: 'going' }, body({ rank: 1 })),
        server.index.deleteTask({ namespace: 'going' }),
      ]);
      expect([1, 5]).toContain(answer.rank);
    }
    await server.index.deleteTask({ namespace: 'going' });
  });
});

describe('removing', () => {
  test('succeeds also when nothing is there; the namespaces stay', async () => {
    await server.insert('removed.deep.x');
    expect(await server.index.deleteTask({ namespace: 'removed.deep.x' })).toEqual({});
    expect(await server.index.deleteTask({ namespace: 'removed.deep.x' })).toEqual({});
    await expect(server.index.findTask({ indexPath: 'removed.deep.x' })).rejects.toEqual(refused('ResourceNotFound', 404));
    expect((await server.index.listNamespaces({ namespace: 'removed' })).namespaces).toMatchObject([
      { namespace: 'removed.deep', name: 'deep' },
    ]);
    expect(await server.index.listTasks({ namespace: 'removed.deep' })).toEqual({ tasks: [] });
  });
});

describe('many at once', () => {
  test('those that are there, each once, by path', async () => {
    const ids = { 'many.b': await server.insert('many.b'), many: await server.insert('many'), 'many.a': await server.insert('many.a') };
    await server.insert('many.expired', { expires: server.inHours(-1) });
    const { tasks, ...rest } = await server.index.findTasksAtIndex({
      indexes: ['many.b', 'many.none', 'many', 'many.b', 'many.a', 'many.expired'],
    });
    expect(rest).toEqual({});
    expect(tasks.map(({ namespace, taskId }) => [namespace, taskId])).toEqual([
      ['many', ids.many],
      ['many.a', ids['many.a']],
      ['many.b', ids['many.b']],
    ]);
    expect(await server.index.findTasksAtIndex({})).toEqual({ tasks: [] });
  });

  test('page by page', async () => {
    const indexes = Array.from({ length: 7 }, (_, i) => `paged.n${i}`);
    for (const path of indexes.filter((_, i) => i !== 2)) {
      await server.insert(path);
    }
    const seen: string[] = [];
    let query: { limit: string; continuationToken?: string } = { limit: '2' };
    for (;;) {
      const page = await server.index.findTasksAtIndex({ indexes }, query);
      seen.push(...page.tasks.map(task => task.namespace));
      if (page.continuationToken === undefined) {
        break;
      }
      query = { limit: '2', continuationToken: page.continuationToken };
    }
    expect(seen).toEqual(indexes.filter((_, i) => i !== 2));
    expect(await server.index.findTasksAtIndex({ indexes }, { limit: '0' })).toEqual({ tasks: [] });
  });

  test('refusals', async () => {
    await expect(server.index.findTasksAtIndex({ indexes: ['a', 'not a path'] })).rejects.toEqual(refused('InputError', 400, 'not a path'));
    await expect(server.index.findTasksAtIndex({ indexes: [1] as never })).rejects.toEqual(refused('InputValidationError', 400));
    await expect(server.index.findTasksAtIndex({}, { continuationToken: 'no-token' })).rejects.toEqual(refused('InputError', 400));
    await expect(server.index.findTasksAtIndex({ indexes: Array.from({ length: 100_001 }, () => 'a') })).rejects.toEqual(
      refused('InputError', 400, 'At most 100000'),
    );
    await expect(server.index.findTasksAtIndex({}, { limit: 'x' })).rejects.toEqual(refused('InvalidRequestArguments', 400));
  });
});

describe('expiry', () => {
  test('namespaces last until midnight after the last entry, and are not shortened', async () => {
    const own = await withIndex();
    const midnight = (text: string): string => new Date((Math.floor(Date.parse(text) / 86_400_000) + 1) * 86_400_000).toISOString();
    const expiry = async (): Promise<string[]> => [
      ...(await own.index.listNamespaces({})).namespaces.map(each => each.expires),
      ...(await own.index.listNamespaces({ namespace: 'n' })).namespaces.map(each => each.expires),
    ];
    await own.insert('n.m.x', { rank: 5, expires: own.inHours(30) });
    const first = midnight(own.inHours(30));
    expect(await expiry()).toEqual([first, first]);
    await own.insert('n.m.x', { rank: 1, expires: own.inHours(100) }); // does not get in
    await own.insert('n.m.x', { rank: 6, expires: own.inHours(1) });
    expect(await expiry()).toEqual([first, first]);
    await own.insert('n.y', { expires: own.inHours(300) });
    expect(await expiry()).toEqual([midnight(own.inHours(300)), first]);
    await own.insert('n.m.z', { expires: '2101-01-01T00:00:00.000Z' });
    expect(await expiry()).toEqual(['2101-01-02T00:00:00.000Z', '2101-01-02T00:00:00.000Z']);
    await own.insert('n.m.z', { expires: '9999-12-31T00:00:00.000Z' });
    expect(await expiry()).toEqual(['9999-12-31T23:59:59.999Z', '9999-12-31T23:59:59.999Z']);
  });

  test('what has expired is not listed, and removed in batches', async () => {
    const own = await withIndex();
    for (let i = 0; i < 5; i++) {
      await own.insert(`short.n${i}`, { expires: own.inHours(1) });
    }
    await own.insert('long.x', { expires: own.inHours(1000) });
    own.clock.advance({ hours: 2 });
    expect(await own.index.listTasks({ namespace: 'short' })).toEqual({ tasks: [] });
    expect((await own.index.listNamespaces({})).namespaces).toHaveLength(2);
    const ctx = { db: own.db, clock: own.clock };
    expect([await entryExpiry.run(ctx, 3), await entryExpiry.run(ctx, 3), await entryExpiry.run(ctx, 3)]).toEqual([3, 2, 0]);
    expect(await namespaceExpiry.run(ctx, 10)).toBe(0);
    own.clock.advance({ hours: 24 });
    expect((await own.index.listNamespaces({})).namespaces.map(each => each.name)).toEqual(['long']);
    expect(await namespaceExpiry.run(ctx, 10)).toBe(1);
    expect(await own.db`select namespace, name from index.tasks`).toEqual([{ namespace: 'long', name: 'x' }]);
    expect(await own.db`select parent, name from index.namespaces`).toEqual([{ parent: '', name: 'long' }]);
  });
});

test('the hot statements look things up by index only', async () => {
  const entry = { namespace: '', name: '', rank: 0, taskId: '', data: '{}', expires: new Date(0), insertedMs: 0 };
  expect(await findScans(server.db, findStatement([entry], 0))).toEqual([]);
  expect(await findScans(server.db, insertStatement([entry], 'call', 0))).toEqual([]);
  expect(await findScans(server.db, insertStatement([entry], 'event', 0))).toEqual([]);
});
