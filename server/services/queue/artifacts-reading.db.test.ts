/** Reading artifacts: redirects, links, scopes, lists. */
import { queueApi } from '@tscluster/api/queue/api.ts';
import { slugid } from '@tscluster/client/clock.ts';
import type { Client } from '@tscluster/client/client.ts';
import { expect, test } from 'vitest';
import { withServer } from '../../testing/server.ts';
import { objectService } from '../object/service.ts';
import { refused, withArtifacts } from './testing/artifacts.ts';
import { queueService } from './service.ts';

const { server, queue, dir, random, inMinutes, inDay, aTask, aReference, anError, create, get } = await withArtifacts(12);

test('getArtifact redirects, or tells why there is nothing', async () => {
  server.setAnonymousScopes(['queue:get-artifact:public/*']);
  const taskId = await aTask();
  await create(taskId, 'public/ref', aReference());
  await create(taskId, 'public/err', anError());
  await create(taskId, 'public/s3', { storageType: 's3', expires: inDay(), contentType: 'text/plain' });
  await create(taskId, 'public/link', { storageType: 'link', expires: inDay(), artifact: 'public/ref' });
  const redirects = await Promise.all(
    ['ref', 'link', 's3'].map(async name => {
      const reply = await get(taskId, `public/${name}`);
      const storageType = reply.headers.get('x-taskcluster-artifact-storage-type');
      return [reply.status, storageType, reply.headers.get('location'), await reply.json()];
    }),
  );
  const s3 = `${server.rootUrl}/objects/v1/public-artifacts/${taskId}/0/public/s3`;
  expect(redirects).toEqual([
    [303, 'reference', 'https://x.example/1', { storageType: 'reference', url: 'https://x.example/1' }],
    [303, 'reference', 'https://x.example/1', { storageType: 'reference', url: 'https://x.example/1' }],
    [303, 's3', s3, { storageType: 's3', url: s3 }],
  ]);
  const error = await get(taskId, 'public/err');
  expect([error.status, error.headers.get('x-taskcluster-artifact-storage-type'), await error.json()]).toEqual([
    424,
    'error',
    { reason: 'file-missing-on-worker', message: 'gone' },
  ]);
  expect(await queue.artifact({ taskId, runId: '0', name: 'public/err' })).toEqual({
    storageType: 'error',
    reason: 'file-missing-on-worker',
    message: 'gone',
  });
  const latest = await server.fetch(`${server.rootUrl}/api/queue/v1/task/${taskId}/artifacts/public/ref`);
  expect([latest.status, latest.headers.get('location')]).toEqual([303, 'https://x.example/1']);
  expect(await queue.latestArtifact({ taskId, name: 'public/link' })).toEqual({ storageType: 'reference', url: 'https://x.example/1' });
  expect((await get(taskId, 'public/none')).status).toBe(404);
  expect((await get(slugid(random), 'public/none')).status).toBe(404);
  server.setAnonymousScopes([]);
});

test('links: each name needs its scope before it is looked up, and a circle is told', async () => {
  const taskId = await aTask();
  const link = (name: string, artifact: string) => create(taskId, name, { storageType: 'link', expires: inDay(), artifact });
  await link('public/a', 'private/b');
  await link('private/b', 'private/c');
  await create(taskId, 'private/c', aReference());
  await link('public/dangling', 'public/none');
  await link('public/loop1', 'public/loop2');
  await link('public/loop2', 'public/loop1');
  await link('public/self', 'public/self');
  const read = (client: Client<typeof queueApi>, name: string) => client.artifact({ taskId, runId: '0', name });
  expect(await read(queue, 'public/a')).toEqual({ storageType: 'reference', url: 'https://x.example/1' });
  const some = server.client(queueApi, { scopes: ['queue:get-artifact:public/*', 'queue:get-artifact:private/b'] });
  await expect(read(some, 'public/a')).rejects.toMatchObject({
    statusCode: 403,
    message: expect.stringContaining('queue:get-artifact:private/c'),
  });
  await expect(read(some, 'private/none')).rejects.toEqual(refused('InsufficientScopes', 403));
  await expect(read(some, 'public/dangling')).rejects.toEqual(refused('ResourceNotFound', 404));
  for (const name of ['public/loop1', 'public/self']) {
    await expect(read(some, name)).rejects.toEqual(refused('InputError', 400));
  }
  expect(await queue.artifactInfo({ taskId, runId: '0', name: 'public/dangling' })).toMatchObject({ storageType: 'link' });
});

test('which is checked first: the scope or the task', async () => {
  const stranger = server.client(queueApi, { scopes: [] });
  const missing = { taskId: slugid(random), name: 'public/x' };
  await expect(stranger.getLatestArtifact(missing)).rejects.toEqual(refused('InsufficientScopes', 403));
  await expect(stranger.latestArtifact(missing)).rejects.toEqual(refused('ResourceNotFound', 404));
  const unscheduled = await aTask({ dependencies: [await aTask()] }, false);
  await expect(queue.latestArtifact({ taskId: unscheduled, name: 'x' })).rejects.toEqual(refused('ResourceNotFound', 404));
  await expect(queue.getLatestArtifact({ taskId: unscheduled, name: 'x' })).rejects.toEqual(refused('ResourceNotFound', 404));
  await expect(queue.listLatestArtifacts({ taskId: unscheduled })).rejects.toEqual(refused('ResourceNotFound', 404));
});

test('what has expired is told, and listed until it is removed', async () => {
  const taskId = await aTask();
  await create(taskId, 'public/x', aReference({ expires: inMinutes(1) }));
  await create(taskId, 'public/link', { storageType: 'link', expires: inDay(), artifact: 'public/x' });
  server.clock.advance({ minutes: 2 });
  for (const name of ['public/x', 'public/link']) {
    await expect(queue.artifact({ taskId, runId: '0', name })).rejects.toEqual(refused('ResourceExpired', 410));
    await expect(queue.getLatestArtifact({ taskId, name })).rejects.toEqual(refused('ResourceExpired', 410));
  }
  expect(await queue.artifactInfo({ taskId, runId: '0', name: 'public/x' })).toMatchObject({ name: 'public/x' });
  expect((await queue.listArtifacts({ taskId, runId: '0' })).artifacts).toHaveLength(2);
});

test.each([
  ['2040-01-01 05:00:00.1234567', '2040-01-01T05:00:00.123Z'],
  ['2040-01-01t05:00:00z', '2040-01-01T05:00:00.000Z'],
  ['2040-01-01T05:00:00-05', '2040-01-01T10:00:00.000Z'],
  ['2040-01-01T05:00:00+0130', '2040-01-01T03:30:00.000Z'],
])('an artifact expires %s', async (expires, read) => {
  const taskId = await aTask({ expires: '2041-01-01T00:00:00Z' });
  await create(taskId, 'public/x', { ...aReference(), expires });
  expect(await queue.artifactInfo({ taskId, runId: '0', name: 'public/x' })).toMatchObject({ expires: read });
});

test('lists are ordered as the protocol has it and paged by name', async () => {
  const taskId = await aTask();
  const names = ['private/z', 'public/a', 'public/A', 'public/a-b', 'public/aa', 'public/b', 'public/0', 'public/_'];
  for (const name of names) {
    await create(taskId, name, aReference());
  }
  const all = (await queue.listArtifacts({ taskId, runId: '0' })).artifacts.map(artifact => artifact.name);
  expect(all).toEqual(['private/z', 'public/_', 'public/0', 'public/a', 'public/A', 'public/aa', 'public/a-b', 'public/b']);
  const walked: string[] = [];
  let continuationToken: string | undefined;
  let pages = 0;
  do {
    const page = await queue.listLatestArtifacts(
      { taskId },
      { limit: '3', ...(continuationToken === undefined ? {} : { continuationToken }) },
    );
    walked.push(...page.artifacts.map(artifact => artifact.name));
    continuationToken = page.continuationToken;
    pages += 1;
  } while (continuationToken !== undefined);
  expect([walked, pages]).toEqual([all, 3]);
  expect(await queue.listArtifacts({ taskId, runId: '0' }, { limit: '0' })).toEqual({ artifacts: [] });
  for (const foreign of ['!!', 'abc']) {
    const { artifacts } = await queue.listArtifacts({ taskId, runId: '0' }, { continuationToken: foreign });
    expect(artifacts.map(artifact => artifact.name)).toEqual(all);
  }
  await expect(queue.listArtifacts({ taskId, runId: '1' })).rejects.toEqual(refused('ResourceNotFound', 404));
  await expect(queue.listArtifacts({ taskId: slugid(random), runId: '0' })).rejects.toEqual(refused('ResourceNotFound', 404));
  await expect(queue.artifactInfo({ taskId, runId: '0', name: 'public/none' })).rejects.toEqual(refused('ResourceNotFound', 404));
});

test('a cache in front of public artifacts', async () => {
  const own = await withServer([objectService, queueService], {
    db: server.db,
    clock: server.clock,
    environment: { OBJECTS_FOLDER: dir, PUBLIC_ARTIFACT_CDN: 'https://cdn.example/' },
  });
  const taskId = await aTask();
  for (const name of ['public/a b', 'private/x']) {
    await create(taskId, name, { storageType: 's3', expires: inDay(), contentType: 'text/plain' });
  }
  own.setAnonymousScopes(['queue:get-artifact:*']);
  const locationOf = async (name: string, headers: Record<string, string> = {}): Promise<string | null> =>
    (await own.fetch(`${own.rootUrl}/api/queue/v1/task/${taskId}/runs/0/artifacts/${name}`, { headers })).headers.get('location');
  expect(await locationOf('public/a%20b')).toBe(`https://cdn.example/${taskId}/0/public/a%20b`);
  expect(await locationOf('public/a%20b', { 'x-taskcluster-skip-cdn': '1' })).toContain('/objects/v1/public-artifacts/');
  expect(await locationOf('private/x')).toContain('/objects/v1/private-artifacts/');
});

test('public artifacts are signed where the installation wants it', async () => {
  const own = await withServer([objectService, queueService], {
    db: server.db,
    clock: server.clock,
    environment: { OBJECTS_FOLDER: dir, SIGN_PUBLIC_ARTIFACT_URLS: 'true', OBJECTS_ORIGIN: 'https://bytes.example' },
  });
  const taskId = await aTask();
  await create(taskId, 'public/x', { storageType: 's3', expires: inDay(), contentType: 'text/plain' });
  const { url } = (await own.client(queueApi).artifact({ taskId, runId: '0', name: 'public/x' })) as { url: string };
  expect(url).toMatch(/^https:\/\/bytes\.example\/objects\/v1\/public-artifacts\/.*&signature=/);
  const plain = await own.fetch(`${own.rootUrl}/objects/v1/public-artifacts/${taskId}/0/public/x`);
  expect([plain.status, await plain.json()]).toEqual([403, expect.objectContaining({ code: 'SignatureMissing' })]);
});
