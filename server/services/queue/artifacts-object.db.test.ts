/** Artifacts whose bytes are objects of the object service. */
import { objectApi } from '@tscluster/api/object/api.ts';
import { queueApi } from '@tscluster/api/queue/api.ts';
import { slugid } from '@tscluster/client/clock.ts';
import { expect, test } from 'vitest';
import { withServer } from '../../testing/server.ts';
import { objectService } from '../object/service.ts';
import { refused, withArtifacts } from './testing/artifacts.ts';
import { queueService } from './service.ts';

const { server, queue, dir, random, overSocket, inMinutes, inDay, aTask, aReference, anError, create, artifactEvents, get } =
  await withArtifacts(11);

test('object: reserved, uploaded with own credentials, finished, read', async () => {
  const taskId = await aTask({ projectId: 'proj/x' });
  await server.drain();
  const name = 'public/o b j';
  const objectName = `t/${taskId}/0/${name}`;
  const request = { storageType: 'object', expires: inDay(), contentType: 'text/plain', contentLength: 5 };
  const created = await create(taskId, name, request);
  expect(created).toEqual({
    storageType: 'object',
    name: objectName,
    projectId: 'proj/x',
    uploadId: expect.stringMatching(/^[A-Za-z0-9_-]{22}$/),
    expires: request.expires,
    credentials: { clientId: `artifact-upload/${taskId}/0/on/wg/w`, accessToken: expect.any(String), certificate: expect.any(String) },
  });
  const { uploadId, credentials } = created as {
    uploadId: string;
    credentials: { clientId: string; accessToken: string; certificate: string };
  };
  expect(JSON.parse(credentials.certificate)).toMatchObject({
    scopes: [`object:upload:proj/x:${objectName}`],
    start: server.clock.nowMs(),
    expiry: server.clock.nowMs() + 24 * 3_600_000,
  });
  // a repeat goes on with the same upload
  expect(await create(taskId, name, request)).toMatchObject({ uploadId });
  expect(await create(taskId, name, { ...request, expires: inMinutes(48 * 60) })).toMatchObject({ uploadId, expires: request.expires });
  await expect(create(taskId, name, { ...request, expires: inMinutes(60) })).rejects.toEqual(refused('RequestConflict', 409));

  const finish = (id: string, of = name) => queue.finishArtifact({ taskId, runId: '0', name: of }, { uploadId: id });
  await expect(queue.artifact({ taskId, runId: '0', name })).rejects.toEqual(refused('ResourceNotFound', 404));
  await expect(queue.artifactInfo({ taskId, runId: '0', name })).rejects.toEqual(refused('ResourceNotFound', 404));
  expect((await queue.listArtifacts({ taskId, runId: '0' })).artifacts).toMatchObject([{ name, contentLength: 5 }]);
  await expect(finish(slugid(random))).rejects.toEqual(refused('InputError', 400));
  await expect(finish(uploadId)).rejects.toEqual(refused('InputError', 400));
  await expect(finish(uploadId, 'public/none')).rejects.toEqual(refused('ResourceNotFound', 404));
  expect(await artifactEvents()).toEqual([]);

  const objects = server.client(objectApi, { scopes: [`object:upload:proj/x:${objectName}`] });
  const upload = { projectId: 'proj/x', uploadId, expires: created['expires'] as string };
  const dataInline = { contentType: 'text/plain', objectData: Buffer.from('hello').toString('base64') };
  await objects.createUpload({ name: objectName }, { ...upload, proposedUploadMethods: { dataInline } });
  await objects.finishUpload({ name: objectName }, { projectId: 'proj/x', uploadId });
  for (const id of [uploadId, uploadId, slugid(random)]) {
    expect(await finish(id)).toBeUndefined();
    expect((await artifactEvents()).map(event => (event.payload as { artifact: object }).artifact)).toEqual([
      { storageType: 'object', name, expires: request.expires, contentType: 'text/plain' },
    ]);
  }
  await expect(create(taskId, name, request)).rejects.toEqual(refused('RequestConflict', 409));
  const content = (await queue.artifact({ taskId, runId: '0', name })) as { credentials: { certificate: string } };
  expect(content).toEqual({
    storageType: 'object',
    name: objectName,
    credentials: {
      clientId: `artifact-download/${taskId}/0/public/o_b_j`,
      accessToken: expect.any(String),
      certificate: expect.any(String),
    },
  });
  expect(JSON.parse(content.credentials.certificate)).toMatchObject({
    scopes: [`object:download:${objectName}`],
    expiry: server.clock.nowMs() + 3_600_000,
  });
  server.setAnonymousScopes(['queue:get-artifact:public/*']);
  const reply = await get(taskId, 'public/o%20b%20j');
  expect([reply.status, reply.headers.get('x-taskcluster-artifact-storage-type')]).toEqual([303, 'object']);
  expect(await (await overSocket(reply.headers.get('location') ?? '')).text()).toBe('hello');
  await server.db`delete from object.objects where name = ${objectName}`;
  expect((await get(taskId, 'public/o%20b%20j')).status).toBe(404);
  server.setAnonymousScopes([]);
});

test('object: what the object service refuses leaves no artifact behind', async () => {
  const request = { storageType: 'object', expires: inDay(), contentType: 'text/plain' };
  const homeless = await aTask({ projectId: 'homeless' });
  await expect(create(homeless, 'public/o', request)).rejects.toMatchObject({
    code: 'InputError',
    statusCode: 400,
    message: expect.stringContaining(`takes no object t/${homeless}/0/public/o: No backend takes the object`),
  });
  expect((await queue.listArtifacts({ taskId: homeless, runId: '0' })).artifacts).toEqual([]);
  // the name is free for another type
  await create(homeless, 'public/o', anError());

  const taskId = await aTask();
  const name = `t/${taskId}/0/public/o`;
  const other = { projectId: 'none', uploadId: slugid(random), expires: inDay(), proposedUploadMethods: {} };
  await server.client(objectApi).createUpload({ name }, other);
  await expect(create(taskId, 'public/o', request)).rejects.toEqual(refused('RequestConflict', 409));
  expect((await queue.listArtifacts({ taskId, runId: '0' })).artifacts).toEqual([]);
});

test('object: what was reserved stays when a repeat is refused', async () => {
  const taskId = await aTask();
  const request = { storageType: 'object', expires: inDay(), contentType: 'text/plain' };
  const { uploadId, name, projectId } = (await create(taskId, 'public/o', request)) as {
    uploadId: string;
    name: string;
    projectId: string;
  };
  const objects = server.client(objectApi);
  const proposedUploadMethods = { dataInline: { contentType: 'text/plain', objectData: '' } };
  await objects.createUpload({ name }, { projectId, uploadId, expires: request.expires, proposedUploadMethods });
  await objects.finishUpload({ name }, { projectId, uploadId });
  await expect(create(taskId, 'public/o', request)).rejects.toEqual(refused('RequestConflict', 409));
  await queue.finishArtifact({ taskId, runId: '0', name: 'public/o' }, { uploadId });
  expect(await queue.artifactInfo({ taskId, runId: '0', name: 'public/o' })).toMatchObject({ storageType: 'object' });
});

test('what is where nothing is configured any more is not found', async () => {
  const environment = {
    OBJECTS_FOLDER: dir,
    BACKENDS: '{"old":{"backendType":"local"}}',
    BACKEND_MAP: '[{"backendId":"old","when":"all"}]',
  };
  const own = await withServer([objectService, queueService], { environment, db: server.db, clock: server.clock });
  const taskId = await aTask();
  const run = { taskId, runId: '0' };
  const request = { storageType: 'object' as const, expires: inDay(), contentType: 'text/plain' };
  const { uploadId, name, projectId } = (await own.client(queueApi).createArtifact({ ...run, name: 'public/o' }, request)) as {
    uploadId: string;
    name: string;
    projectId: string;
  };
  const proposedUploadMethods = { dataInline: { contentType: 'text/plain', objectData: '' } };
  await own.client(objectApi).createUpload({ name }, { projectId, uploadId, expires: request.expires, proposedUploadMethods });
  await own.client(objectApi).finishUpload({ name }, { projectId, uploadId });
  await own.client(queueApi).finishArtifact({ ...run, name: 'public/o' }, { uploadId });
  await expect(queue.getArtifact({ ...run, name: 'public/o' })).rejects.toEqual(refused('ResourceNotFound', 404));

  const s3 = { storageType: 's3' as const, expires: inDay(), contentType: 'text/plain' };
  await create(taskId, 'public/s', s3);
  await server.db`update queue.artifacts set details = '{"bucket":"s3:gone","key":"k"}' where task_id = ${taskId} and name = 'public/s'`;
  const gone = { code: 'ResourceNotFound', statusCode: 404, message: expect.stringContaining('s3:gone, which is not configured') };
  await expect(queue.artifact({ ...run, name: 'public/s' })).rejects.toMatchObject(gone);
  await expect(create(taskId, 'public/s', s3)).rejects.toMatchObject(gone);
});

test('only objects are finished', async () => {
  const taskId = await aTask();
  await create(taskId, 'public/ref', aReference());
  const finish = queue.finishArtifact({ taskId, runId: '0', name: 'public/ref' }, { uploadId: slugid(random) });
  await expect(finish).rejects.toEqual(refused('InputError', 400));
  const stranger = server.client(queueApi, { scopes: [] });
  await expect(stranger.finishArtifact({ taskId, runId: '0', name: 'public/ref' }, { uploadId: 'x' })).rejects.toEqual(
    refused('InsufficientScopes', 403),
  );
});
