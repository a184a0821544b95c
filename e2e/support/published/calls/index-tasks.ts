/** Every method of the index, and what it does with tasks that run. */
import { indexApi } from '@tscluster/api/index/api.ts';
import { createClient } from '@tscluster/client/client.ts';
import { describe, expect, test } from 'vitest';
import { expectRefusal } from '../../official.ts';
import { waitFor } from '../../processes.ts';
import { newId } from '../../tasks.ts';
import { type Under, call, inHours, method } from '../library.ts';
import { run } from '../run.ts';

export const indexCalls = (under: Under): void => {
  describe('the index', () => {
    const entry = () => ({ taskId: newId(), rank: 4, data: { a: 1 }, expires: inHours(10) });

    test('entries', async () => {
      const { index } = under.root;
      const first = entry();
      const stored = { namespace: 'e2e.entries.x', ...first };
      expect(await call(index, 'insertTask', 'e2e.entries.x', first)).toEqual(stored);
      expect(await call(index, 'insertTask', 'e2e.entries.x', { ...entry(), rank: 3 })).toEqual(stored);
      expect(await call(under.nobody.index, 'findTask', 'e2e.entries.x')).toEqual(stored);
      expect(await call(under.nobody.index, 'findTasksAtIndex', { indexes: ['e2e.entries.x', 'e2e.none'] })).toEqual({ tasks: [stored] });
      expect(await call(under.nobody.index, 'listTasks', 'e2e.entries')).toEqual({ tasks: [stored] });
      expect((await call(under.nobody.index, 'listNamespaces', 'e2e')).namespaces).toMatchObject([
        { namespace: 'e2e.entries', name: 'entries' },
      ]);
      expect((await call(under.nobody.index, 'listNamespaces', 'e2e', { limit: '0' })).namespaces).toEqual([]);
      expect(await call(index, 'deleteTask', 'e2e.entries.x')).toEqual({});
      expect(await call(index, 'deleteTask', 'e2e.entries.x')).toEqual({});

      await expectRefusal(call(index, 'findTask', 'e2e.entries.x'), 404, 'ResourceNotFound', 'Indexed task not found');
      await expectRefusal(call(index, 'findTask', 'no path'), 400, 'InvalidRequestArguments', 'indexPath');
      await expectRefusal(call(under.nobody.index, 'insertTask', 'e2e.x', entry()), 403, 'InsufficientScopes', 'index:insert-task:e2e.x');
      await expectRefusal(call(index, 'insertTask', 'e2e.x', { ...entry(), rank: 0.5 }), 400, 'InputError', 'rank');
      await expectRefusal(call(under.nobody.index, 'deleteTask', 'e2e.x'), 403, 'InsufficientScopes', 'index:delete-task:e2e.x');
      await expectRefusal(call(index, 'findTasksAtIndex', { indexes: 'x' }), 400, 'InputValidationError', 'data/indexes');
      await expectRefusal(call(index, 'listTasks', 'e2e', { limit: 'x' }), 400, 'InvalidRequestArguments', 'limit');
      await expectRefusal(call(index, 'listNamespaces', 'e..e'), 400, 'InvalidRequestArguments', 'namespace');
    });

    test('a task that runs is indexed by its routes, its artifacts are found, and failures are remembered', async () => {
      const { index } = under.root;
      const artifacts = ['public', 'private'].map(folder => ({ type: 'file', path: 'out', name: `${folder}/out.txt` }));
      const expires = inHours(5);
      const index1 = { rank: 2, data: { kind: 'build' }, expires };
      const definition = { routes: ['index.e2e.build.latest', 'index.e2e.build.other'], extra: { index: index1 } };
      const failed = await run(under, 'exit 1', definition);
      const taskId = await run(under, 'echo content > out', definition, { artifacts });
      const found = await waitFor('the index entry', 60_000, async () => (await call(index, 'listTasks', 'e2e.build')).tasks.length === 2);
      expect(found).toBe(true);
      expect(await call(under.nobody.index, 'findTask', 'e2e.build.latest')).toEqual({ namespace: 'e2e.build.latest', taskId, ...index1 });

      const find = method(index, 'findArtifactFromTask');
      await call(index, 'findArtifactFromTask', 'e2e.build.latest', 'public/out.txt');
      const open = await fetch(await under.nobody.index.buildUrl(find, 'e2e.build.latest', 'public/out.txt'));
      expect([open.status, await open.text()]).toEqual([200, 'content\n']);
      const closed = await fetch(await index.buildSignedUrl(find, 'e2e.build.latest', 'private/out.txt'));
      expect([closed.status, await closed.text()]).toEqual([200, 'content\n']);
      expect((await fetch(await index.buildUrl(find, 'e2e.build.latest', 'private/out.txt'))).status).toBe(403);
      await expectRefusal(call(index, 'findArtifactFromTask', 'e2e.none', 'public/out.txt'), 404, 'ResourceNotFound');

      // not known to that client
      const own = createClient(indexApi, { rootUrl: under.installation.rootUrl });
      const { runs } = await own.listHistory({ indexPath: 'e2e.build.latest' });
      expect(runs).toMatchObject([
        { taskId, runId: 0, state: 'completed', reasonResolved: 'completed', workerId: 'local-1' },
        { taskId: failed, runId: 0, state: 'failed', reasonResolved: 'failed' },
      ]);
    });
  });
};
