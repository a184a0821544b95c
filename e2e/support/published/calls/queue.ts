/** Every method of the queue. */
import { describe, expect, test } from 'vitest';
import { expectRefusal } from '../../official.ts';
import { aTask, newId } from '../../tasks.ts';
import { type Under, call, has, inAnHour } from '../library.ts';

export const queueCalls = (under: Under): void => {
  describe('queue', () => {
    const taskQueueId = 'e2e/methods';
    const worker = { workerGroup: 'e2e', workerId: 'methods' };
    const create = async (more: object = {}): Promise<string> => {
      const taskId = newId();
      await call(under.root.queue, 'createTask', taskId, { ...aTask({ taskQueueId }), ...more });
      return taskId;
    };
    const claim = async (): Promise<string> => {
      const { tasks } = await call(under.root.queue, 'claimWork', taskQueueId, worker);
      return tasks[0].status.taskId;
    };

    test('tasks', async () => {
      const { queue } = under.root;
      const taskId = newId();
      const definition = aTask({ taskQueueId });
      expect((await call(queue, 'createTask', taskId, definition)).status).toMatchObject({ taskId, state: 'pending' });
      await expectRefusal(call(queue, 'createTask', taskId, { ...definition, retries: 1 }), 409, 'RequestConflict', taskId);
      expect(await call(queue, 'task', taskId)).toMatchObject({ taskQueueId, retries: 5, priority: 'lowest' });
      await expectRefusal(call(queue, 'task', newId()), 404, 'ResourceNotFound');
      expect((await call(queue, 'status', taskId)).status).toMatchObject({ taskId, state: 'pending' });
      await expectRefusal(call(queue, 'status', newId()), 404, 'ResourceNotFound');
      await expectRefusal(call(queue, 'status', 'no-slugid'), 400, 'InvalidRequestArguments', 'taskId');
      expect((await call(queue, 'tasks', { taskIds: [taskId, newId()] })).tasks).toMatchObject([{ taskId, task: { taskQueueId } }]);
      await expectRefusal(call(queue, 'tasks', { taskIds: taskId }), 400, 'InputValidationError', 'data/taskIds');
      expect((await call(queue, 'statuses', { taskIds: [taskId] })).statuses).toMatchObject([{ taskId, status: { state: 'pending' } }]);
      await expectRefusal(call(queue, 'statuses', {}, { limit: 'all' }), 400, 'InvalidRequestArguments', 'limit');
      const dependent = await create({ dependencies: [taskId] });
      expect((await call(queue, 'listDependentTasks', taskId)).tasks).toMatchObject([
        { status: { taskId: dependent, state: 'unscheduled' } },
      ]);
      await expectRefusal(call(queue, 'listDependentTasks', newId()), 404, 'ResourceNotFound');
      expect((await call(queue, 'scheduleTask', dependent)).status).toMatchObject({ state: 'pending' });
      await expectRefusal(call(queue, 'scheduleTask', newId()), 404, 'ResourceNotFound');
      await expectRefusal(
        call(under.nobody.queue, 'cancelTask', taskId),
        403,
        'InsufficientScopes',
        `queue:cancel-task:-/${taskId}/${taskId}`,
      );
      expect((await call(queue, 'cancelTask', taskId)).status).toMatchObject({
        state: 'exception',
        runs: [{ reasonResolved: 'canceled' }],
      });
      expect((await call(queue, 'rerunTask', taskId)).status).toMatchObject({ state: 'pending', runs: [{}, { reasonCreated: 'rerun' }] });
      await expectRefusal(
        call(under.nobody.queue, 'rerunTask', taskId),
        403,
        'InsufficientScopes',
        `queue:rerun-task:-/${taskId}/${taskId}`,
      );
      await Promise.all([taskId, dependent].map(each => call(queue, 'cancelTask', each)));
    });

    test('groups', async () => {
      const { queue } = under.root;
      const taskGroupId = newId();
      const taskId = await create({ taskGroupId });
      expect(await call(queue, 'getTaskGroup', taskGroupId)).toMatchObject({ taskGroupId, schedulerId: '-' });
      await expectRefusal(call(queue, 'getTaskGroup', newId()), 404, 'ResourceNotFound');
      expect((await call(queue, 'listTaskGroup', taskGroupId)).tasks).toMatchObject([{ status: { taskId } }]);
      await expectRefusal(call(queue, 'listTaskGroup', newId()), 404, 'ResourceNotFound');
      await expectRefusal(call(queue, 'cancelTaskGroup', taskGroupId), 409, 'RequestConflict', 'seal');
      await expectRefusal(
        call(under.nobody.queue, 'sealTaskGroup', taskGroupId),
        403,
        'InsufficientScopes',
        `queue:seal-task-group:-/${taskGroupId}`,
      );
      expect(await call(queue, 'sealTaskGroup', taskGroupId)).toMatchObject({ taskGroupId, sealed: expect.any(String) });
      await expectRefusal(create({ taskGroupId }), 409, 'RequestConflict', taskGroupId);
      expect(await call(queue, 'cancelTaskGroup', taskGroupId)).toMatchObject({ taskGroupSize: 1, cancelledCount: 1, taskIds: [taskId] });
    });

    test('priorities', async () => {
      const { queue } = under.root;
      const taskGroupId = newId();
      const taskId = await create({ taskGroupId });
      const higher = { newPriority: 'high' };
      if (has(queue, 'changeTaskPriority')) {
        expect((await call(queue, 'changeTaskPriority', taskId, { newPriority: 'low' })).status).toMatchObject({ taskId, priority: 'low' });
        await expectRefusal(call(queue, 'changeTaskPriority', newId(), higher), 404, 'ResourceNotFound');
        await expectRefusal(
          call(queue, 'changeTaskPriority', taskId, { newPriority: 'now' }),
          400,
          'InputValidationError',
          'data/newPriority',
        );
        await expectRefusal(
          call(under.nobody.queue, 'changeTaskPriority', taskId, higher),
          403,
          'InsufficientScopes',
          'change-task-priority',
        );
      }
      if (has(queue, 'changeTaskGroupPriority')) {
        expect(await call(queue, 'changeTaskGroupPriority', taskGroupId, higher)).toMatchObject({ taskGroupId, tasksAffected: 1 });
        await expectRefusal(call(queue, 'changeTaskGroupPriority', newId(), higher), 404, 'ResourceNotFound');
        await expectRefusal(
          call(under.nobody.queue, 'changeTaskGroupPriority', taskGroupId, higher),
          403,
          'InsufficientScopes',
          'change-task-group-priority',
        );
      }
      await call(queue, 'cancelTask', taskId);
    });

    test('claims and reports', async () => {
      const { queue } = under.root;
      const first = await create();
      await expectRefusal(
        call(under.nobody.queue, 'claimWork', taskQueueId, worker),
        403,
        'InsufficientScopes',
        `queue:claim-work:${taskQueueId}`,
      );
      await expectRefusal(call(queue, 'claimWork', taskQueueId, { ...worker, tasks: 33 }), 400, 'InputValidationError', 'data/tasks');
      expect(await claim()).toBe(first);
      expect(await call(queue, 'reclaimTask', first, 0)).toMatchObject({ runId: 0, takenUntil: expect.any(String), credentials: {} });
      await expectRefusal(call(queue, 'reclaimTask', first, 1), 404, 'ResourceNotFound');
      expect((await call(queue, 'reportCompleted', first, 0)).status).toMatchObject({ state: 'completed' });
      await expectRefusal(call(queue, 'reportFailed', first, 0), 409, 'RequestConflict', 'completed');
      await expectRefusal(call(queue, 'reclaimTask', first, 0), 409, 'RequestConflict');

      const second = await create();
      await expectRefusal(call(queue, 'reportCompleted', second, 0), 409, 'RequestConflict', 'pending');
      expect(await call(queue, 'claimTask', second, 0, worker)).toMatchObject({ runId: 0, status: { taskId: second, state: 'running' } });
      await expectRefusal(call(queue, 'claimTask', second, 0, { ...worker, workerId: 'other' }), 409, 'RequestConflict');
      expect((await call(queue, 'reportFailed', second, 0)).status).toMatchObject({ state: 'failed' });

      const third = await create();
      expect(await claim()).toBe(third);
      await expectRefusal(call(queue, 'reportException', third, 0, { reason: 'canceled' }), 400, 'InputValidationError', 'data/reason');
      expect((await call(queue, 'reportException', third, 0, { reason: 'worker-shutdown' })).status).toMatchObject({
        state: 'pending',
        retriesLeft: 4,
        runs: [{ reasonResolved: 'worker-shutdown' }, { reasonCreated: 'retry' }],
      });
      await call(queue, 'cancelTask', third);
    });

    test('artifacts', async () => {
      const { queue } = under.root;
      const taskId = await create({ extra: { about: 'artifacts' } });
      const expires = inAnHour().toISOString();
      const make = (name: string, words: object): Promise<any> => call(queue, 'createArtifact', taskId, 0, name, { expires, ...words });
      await expectRefusal(make('public/early', { storageType: 'link', artifact: 'x' }), 400, 'InputError');
      expect(await claim()).toBe(taskId);

      const bytes = 'a text for everybody\n';
      const { putUrl } = await make('public/s3.txt', { storageType: 's3', contentType: 'text/plain' });
      expect((await fetch(putUrl, { method: 'PUT', headers: { 'content-type': 'text/plain' }, body: bytes })).status).toBe(200);
      expect(await make('public/elsewhere', { storageType: 'reference', contentType: 'text/html', url: 'https://example.com/' })).toEqual({
        storageType: 'reference',
      });
      expect(await make('public/link', { storageType: 'link', artifact: 'public/s3.txt' })).toEqual({ storageType: 'link' });
      expect(await make('public/error', { storageType: 'error', reason: 'file-missing-on-worker', message: 'it was not there' })).toEqual({
        storageType: 'error',
      });
      await expectRefusal(make('public/link', { storageType: 'link', artifact: 'public/other' }), 409, 'RequestConflict');

      const {
        name,
        projectId,
        uploadId,
        credentials,
        expires: until,
      } = await make('public/object.txt', { storageType: 'object', contentType: 'text/plain' });
      const own = under.connect(credentials).object;
      await expectRefusal(call(queue, 'finishArtifact', taskId, 0, 'public/object.txt', { uploadId: newId() }), 400, 'InputError');
      const upload = { projectId, uploadId, name, contentType: 'text/plain', contentLength: bytes.length, expires: until };
      await under.library.upload(own, upload, bytes);
      expect(await call(queue, 'finishArtifact', taskId, 0, 'public/object.txt', { uploadId })).toBeUndefined();

      const s3 = { storageType: 's3', url: expect.stringMatching(/^http/) };
      expect(await call(queue, 'artifact', taskId, 0, 'public/s3.txt')).toEqual(s3);
      expect(await call(queue, 'latestArtifact', taskId, 'public/link')).toEqual(s3);
      expect(await call(queue, 'getArtifact', taskId, 0, 'public/s3.txt')).toEqual(s3);
      expect(await call(queue, 'getLatestArtifact', taskId, 'public/elsewhere')).toEqual({
        storageType: 'reference',
        url: 'https://example.com/',
      });
      expect(await call(queue, 'latestArtifact', taskId, 'public/error')).toMatchObject({
        storageType: 'error',
        reason: 'file-missing-on-worker',
      });
      await expectRefusal(call(queue, 'getLatestArtifact', taskId, 'public/error'), 424, 'UnknownError', 'it was not there');
      await expectRefusal(
        call(under.nobody.queue, 'getArtifact', taskId, 0, 'private/x'),
        403,
        'InsufficientScopes',
        'queue:get-artifact:private/x',
      );
      await expectRefusal(call(queue, 'artifact', taskId, 0, 'public/none'), 404, 'ResourceNotFound');
      await expectRefusal(call(queue, 'latestArtifact', newId(), 'public/none'), 404, 'ResourceNotFound');

      const names = ['public/elsewhere', 'public/error', 'public/link', 'public/object.txt', 'public/s3.txt'];
      for (const list of [call(queue, 'listArtifacts', taskId, 0), call(queue, 'listLatestArtifacts', taskId)]) {
        expect((await list).artifacts.map((artifact: { name: string }) => artifact.name)).toEqual(names);
      }
      await expectRefusal(call(queue, 'listArtifacts', taskId, 7), 404, 'ResourceNotFound');
      await expectRefusal(call(queue, 'listLatestArtifacts', newId()), 404, 'ResourceNotFound');
      const info = { storageType: 'object', name: 'public/object.txt', contentType: 'text/plain' };
      expect(await call(queue, 'artifactInfo', taskId, 0, 'public/object.txt')).toMatchObject(info);
      expect(await call(queue, 'latestArtifactInfo', taskId, 'public/object.txt')).toMatchObject(info);
      await expectRefusal(call(queue, 'artifactInfo', taskId, 0, 'public/none'), 404, 'ResourceNotFound');
      await expectRefusal(call(queue, 'latestArtifactInfo', taskId, 'public/none'), 404, 'ResourceNotFound');

      for (const each of ['public/s3.txt', 'public/link', 'public/object.txt']) {
        const { text, contentType } = await under.library.downloadArtifact(under.nobody.queue, taskId, each);
        expect([text, contentType]).toEqual([bytes, expect.stringMatching(/^text\/plain/)]);
      }
      await call(queue, 'reportCompleted', taskId, 0);
    });

    test('task queues and workers', async () => {
      const { queue } = under.root;
      const [provisionerId, workerType] = taskQueueId.split('/');
      const { workerGroup, workerId } = worker;
      const names = [provisionerId, workerType, workerGroup, workerId];
      const unknown = [provisionerId, workerType, workerGroup, 'nobody'];
      const expires = inAnHour().toISOString();
      const pending = await create();

      expect(await call(queue, 'pendingTasks', taskQueueId)).toMatchObject({ taskQueueId, pendingTasks: 1 });
      await expectRefusal(call(queue, 'pendingTasks', 'no-queue'), 400, 'InvalidRequestArguments', 'taskQueueId');
      expect(await call(queue, 'taskQueueCounts', taskQueueId)).toMatchObject({ pendingTasks: 1, claimedTasks: expect.any(Number) });
      await expectRefusal(
        call(under.nobody.queue, 'taskQueueCounts', taskQueueId),
        403,
        'InsufficientScopes',
        `queue:claimed-count:${taskQueueId}`,
      );
      expect((await call(queue, 'listPendingTasks', taskQueueId)).tasks).toMatchObject([{ taskId: pending, runId: 0 }]);
      await expectRefusal(
        call(under.nobody.queue, 'listPendingTasks', taskQueueId),
        403,
        'InsufficientScopes',
        `queue:pending-list:${taskQueueId}`,
      );
      expect(await claim()).toBe(pending);
      expect((await call(queue, 'listClaimedTasks', taskQueueId)).tasks).toContainEqual(
        expect.objectContaining({ taskId: pending, ...worker }),
      );
      await expectRefusal(
        call(under.nobody.queue, 'listClaimedTasks', taskQueueId),
        403,
        'InsufficientScopes',
        `queue:claimed-list:${taskQueueId}`,
      );
      await call(queue, 'reportCompleted', pending, 0);

      expect((await call(queue, 'listTaskQueues')).taskQueues).toContainEqual(expect.objectContaining({ taskQueueId }));
      await expectRefusal(call(under.nobody.queue, 'listTaskQueues'), 403, 'InsufficientScopes', 'queue:list-task-queues');
      expect(await call(queue, 'getTaskQueue', taskQueueId)).toMatchObject({ taskQueueId });
      await expectRefusal(call(queue, 'getTaskQueue', 'e2e/none'), 404, 'ResourceNotFound');
      expect((await call(queue, 'listProvisioners')).provisioners).toContainEqual(expect.objectContaining({ provisionerId }));
      await expectRefusal(call(queue, 'listProvisioners', { limit: 'all' }), 400, 'InvalidRequestArguments', 'limit');
      expect(await call(queue, 'getProvisioner', provisionerId)).toMatchObject({ provisionerId });
      await expectRefusal(call(queue, 'getProvisioner', 'none'), 404, 'ResourceNotFound');
      expect((await call(queue, 'listWorkerTypes', provisionerId)).workerTypes).toContainEqual(expect.objectContaining({ workerType }));
      await expectRefusal(call(queue, 'listWorkerTypes', 'has space'), 400, 'InvalidRequestArguments', 'provisionerId');
      expect(await call(queue, 'getWorkerType', provisionerId, workerType)).toMatchObject({ provisionerId, workerType });
      await expectRefusal(call(queue, 'getWorkerType', provisionerId, 'none'), 404, 'ResourceNotFound');

      await call(queue, 'declareWorker', provisionerId, workerType, workerGroup, 'declared', { expires });
      await expectRefusal(
        call(under.nobody.queue, 'declareWorker', ...names, { expires }),
        403,
        'InsufficientScopes',
        `queue:declare-worker:${names.join('/')}#expires`,
      );
      expect(
        (await call(queue, 'listWorkers', provisionerId, workerType)).workers.map((each: { workerId: string }) => each.workerId),
      ).toEqual(['declared', workerId]);
      await expectRefusal(
        call(queue, 'listWorkers', provisionerId, workerType, { quarantined: 'perhaps' }),
        400,
        'InvalidRequestArguments',
        'quarantined',
      );
      expect(await call(queue, 'getWorker', ...names)).toMatchObject({ workerGroup, workerId, recentTasks: expect.any(Array) });
      await expectRefusal(call(queue, 'getWorker', ...unknown), 404, 'ResourceNotFound');
      expect(await call(queue, 'quarantineWorker', ...names, { quarantineUntil: expires, quarantineInfo: 'by a test' })).toMatchObject({
        quarantineUntil: expires,
      });
      await expectRefusal(call(queue, 'quarantineWorker', ...unknown, { quarantineUntil: expires }), 404, 'ResourceNotFound');
      const { workers } = await call(queue, 'listWorkers', provisionerId, workerType, { quarantined: 'true' });
      expect(workers).toMatchObject([{ workerId, quarantineUntil: expires }]);
    });
  });
};
