/** Making artifacts: what is stored, announced, repeated, refused, and removed. */
import zlib from 'node:zlib';
import { objectApi } from '@tscluster/api/object/api.ts';
import { queueApi } from '@tscluster/api/queue/api.ts';
import { downloadArtifact, uploadArtifact } from '@tscluster/client/artifacts.ts';
import { slugid } from '@tscluster/client/clock.ts';
import { expect, test } from 'vitest';
import { artifactExpiry } from './artifacts-expiry.ts';
import { refused, withArtifacts } from './testing/artifacts.ts';
import type { Ctx } from './ctx.ts';

const { server, queue, random, overSocket, inMinutes, inDay, aTask, aReference, anError, create, artifactEvents } = await withArtifacts(9);

test('s3: put at the URL, read at another; put again, the last wins', async () => {
  const taskId = await aTask();
  await server.drain();
  const request = { storageType: 's3', expires: inDay(), contentType: 'text/plain', contentLength: 5 };
  const created = await create(taskId, 'public/a b.txt', request);
  expect(created).toEqual({
    storageType: 's3',
    contentType: 'text/plain',
    expires: inMinutes(45),
    putUrl: expect.stringContaining(`${server.rootUrl}/objects/v1/public-artifacts/${taskId}/0/public/a%20b.txt?`),
  });
  const put = (body: string, headers: Record<string, string> = {}) =>
    overSocket(created['putUrl'] as string, { method: 'PUT', headers: { 'content-type': 'text/plain', ...headers }, body });
  const content = (await queue.artifact({ taskId, runId: '0', name: 'public/a b.txt' })) as { url: string };
  expect(content).toEqual({ storageType: 's3', url: `${server.rootUrl}/objects/v1/public-artifacts/${taskId}/0/public/a%20b.txt` });
  expect((await overSocket(content.url)).status).toBe(404);
  for (const body of ['first', 'second one']) {
    expect((await put(body)).status).toBe(200);
    const reply = await overSocket(content.url);
    expect([reply.status, reply.headers.get('content-type'), await reply.text()]).toEqual([200, 'text/plain', body]);
  }
  expect((await put('x', { 'content-type': 'text/html' })).status).toBe(403);
  expect(await artifactEvents()).toEqual([]);
  expect(await queue.artifactInfo({ taskId, runId: '0', name: 'public/a b.txt' })).toEqual({
    storageType: 's3',
    name: 'public/a b.txt',
    expires: request.expires,
    contentType: 'text/plain',
    contentLength: 5,
  });
});

test('s3: gzip is kept, HTML is shown in a sandbox', async () => {
  const taskId = await aTask();
  const { putUrl } = await create(taskId, 'public/report.html', { storageType: 's3', expires: inDay(), contentType: 'text/html' });
  await overSocket(putUrl as string, {
    method: 'PUT',
    headers: { 'content-type': 'text/html', 'content-encoding': 'gzip' },
    body: zlib.gzipSync('<p>hello'),
  });
  const { url } = (await queue.artifact({ taskId, runId: '0', name: 'public/report.html' })) as { url: string };
  const reply = await overSocket(url);
  expect(Object.fromEntries(reply.headers)).toMatchObject({
    'content-type': 'text/html',
    'content-encoding': 'gzip',
    'content-security-policy': 'sandbox',
    'x-content-type-options': 'nosniff',
  });
  expect(reply.headers.get('content-disposition')).toBeNull();
  expect(await reply.text()).toBe('<p>hello');
});

test('s3: what is not public has a signed URL that ends after 30 minutes', async () => {
  const taskId = await aTask();
  const { putUrl } = await create(taskId, 'private/x', { storageType: 's3', expires: inDay(), contentType: 'text/plain' });
  await overSocket(putUrl as string, { method: 'PUT', headers: { 'content-type': 'text/plain' }, body: 'secret' });
  const { url } = (await queue.artifact({ taskId, runId: '0', name: 'private/x' })) as { url: string };
  expect(url).toContain('/objects/v1/private-artifacts/');
  expect(await (await overSocket(url)).text()).toBe('secret');
  expect((await overSocket(url.replace(/\?.*/, ''))).status).toBe(403);
  expect((await overSocket(url.replace('private-artifacts', 'public-artifacts'))).status).toBe(403);
  server.clock.advance({ minutes: 30, ms: 1 });
  expect((await overSocket(url)).status).toBe(403);
});

test('s3: the URL to put to ends, and a repeat gives another', async () => {
  const taskId = await aTask();
  const request = { storageType: 's3', expires: inDay(), contentType: 'text/plain' };
  const first = (await create(taskId, 'public/x', request))['putUrl'] as string;
  const put = (url: string) => overSocket(url, { method: 'PUT', headers: { 'content-type': 'text/plain' }, body: 'x' });
  server.clock.advance({ minutes: 45, seconds: 10 });
  expect((await put(first)).status).toBe(200);
  server.clock.advance({ ms: 1 });
  expect((await put(first)).status).toBe(403);
  const second = (await create(taskId, 'public/x', request))['putUrl'] as string;
  expect((await put(second)).status).toBe(200);
});

test('reference, link and error: stored and announced at once', async () => {
  const taskId = await aTask({ routes: ['r1'] });
  await server.drain();
  expect(await create(taskId, 'public/ref', aReference())).toEqual({ storageType: 'reference' });
  expect(await create(taskId, 'public/link', { storageType: 'link', expires: inDay(), artifact: 'public/ref' })).toEqual({
    storageType: 'link',
  });
  expect(await create(taskId, 'public/err', anError())).toEqual({ storageType: 'error' });
  const events = await artifactEvents();
  expect(events.map(event => (event.payload as { artifact: object }).artifact)).toEqual([
    { storageType: 'reference', name: 'public/ref', expires: inDay(), contentType: 'text/plain' },
    { storageType: 'link', name: 'public/link', expires: inDay(), contentType: 'application/binary' },
    { storageType: 'error', name: 'public/err', expires: inDay(), contentType: 'application/binary' },
  ]);
  expect(events[0]).toMatchObject({
    exchange: 'exchange/taskcluster-queue/v1/artifact-created',
    cc: ['route.r1'],
    payload: { version: 1, runId: 0, workerGroup: 'wg', workerId: 'w', status: { taskId, state: 'running' } },
  });
  expect(Object.keys(events[0]?.payload as object).sort()).toEqual(['artifact', 'runId', 'status', 'version', 'workerGroup', 'workerId']);
  expect(events[0]?.routingKey).toMatch(new RegExp(`^primary\\.${taskId}\\.0\\.wg\\.w\\.prov\\.q\\d+\\.-\\.${taskId}\\._$`));
});

test('what a repeat may change, and that it is announced again', async () => {
  const taskId = await aTask();
  const name = 'public/x';
  await create(taskId, name, aReference());
  await server.drain();
  await create(taskId, name, aReference({ url: 'https://x.example/2', expires: inMinutes(25 * 60) }));
  expect(await artifactEvents()).toHaveLength(1);
  for (const body of [
    aReference({ contentType: 'text/html', expires: inMinutes(25 * 60) }),
    aReference(),
    anError({ expires: inMinutes(25 * 60) }),
    { storageType: 's3', expires: inMinutes(25 * 60), contentType: 'text/plain' },
  ]) {
    await expect(create(taskId, name, body)).rejects.toEqual(refused('RequestConflict', 409));
  }
  expect(await queue.artifact({ taskId, runId: '0', name })).toEqual({ storageType: 'reference', url: 'https://x.example/2' });
  const link = { storageType: 'link', expires: inMinutes(25 * 60), artifact: 'public/y' };
  await create(taskId, name, link);
  await expect(create(taskId, name, { ...link, artifact: 'public/z' })).rejects.toEqual(refused('RequestConflict', 409));
  await expect(create(taskId, name, aReference({ expires: inMinutes(25 * 60) }))).rejects.toEqual(refused('RequestConflict', 409));
  expect(await queue.artifactInfo({ taskId, runId: '0', name })).toEqual({
    storageType: 'link',
    name,
    expires: inMinutes(25 * 60),
    contentType: 'text/plain',
  });
  expect(await artifactEvents()).toHaveLength(1);
});

test('who creates the same artifact at the same moment', async () => {
  const taskId = await aTask();
  await server.drain();
  const outcomes = await Promise.allSettled(
    Array.from({ length: 10 }, (_, i) => create(taskId, 'public/race', anError({ message: i < 5 ? 'one' : 'two' }))),
  );
  const won = outcomes.filter(outcome => outcome.status === 'fulfilled').length;
  expect(won).toBe(5);
  expect(await artifactEvents()).toHaveLength(5);
});

test('the checks of a creation', async () => {
  const claimed = await aTask();
  const pending = await aTask({}, false);
  const missing = slugid(random);
  const cases: [string, string, object, string, string, number][] = [
    [pending, '0', aReference(), 'public/x', 'InputError', 400],
    [claimed, '1', aReference(), 'public/x', 'InputError', 400],
    [claimed, '0', { ...aReference(), storageType: 's3', url: undefined, contentLength: 1e30 }, 'public/x', 'InputError', 400],
    [claimed, '99999999999', aReference(), 'public/x', 'InputError', 400],
    [missing, '0', aReference(), 'public/x', 'InputError', 400],
    [claimed, '0', aReference({ expires: inMinutes(-16) }), 'public/x', 'InputError', 400],
    [claimed, '0', aReference({ expires: inMinutes(3 * 24 * 60 + 1) }), 'public/x', 'InputError', 400],
    [claimed, '0', aReference(), 'x'.repeat(1025), 'InputError', 400],
    [claimed, '0', { storageType: 'azure', expires: inDay() }, 'public/x', 'InputValidationError', 400],
    [claimed, '0', { ...aReference(), contentLength: 5 }, 'public/x', 'InputValidationError', 400],
    [claimed, '0', anError({ reason: 'because' }), 'public/x', 'InputValidationError', 400],
    [claimed, '0', anError({ message: 'x'.repeat(4097) }), 'public/x', 'InputValidationError', 400],
    [claimed, 'x', aReference(), 'public/x', 'InvalidRequestArguments', 400],
  ];
  for (const [taskId, runId, body, name, code, status] of cases) {
    await expect(create(taskId, name, body, runId)).rejects.toEqual(refused(code, status));
  }
  const stranger = server.client(queueApi, { scopes: [`queue:create-artifact:${claimed}/1`] });
  await expect(stranger.createArtifact({ taskId: missing, runId: '0', name: 'x' }, { storageType: 'nonsense' } as never)).rejects.toEqual(
    refused('InsufficientScopes', 403),
  );
  expect((await queue.listArtifacts({ taskId: claimed, runId: '0' })).artifacts).toEqual([]);
  // the edges are inside
  await create(claimed, 'x'.repeat(1024), aReference({ expires: inMinutes(3 * 24 * 60) }));
  await create(claimed, 'public/past', aReference({ expires: inMinutes(-15) }));
  await create(claimed, 'public/zeros', aReference(), '00');
  await expect(create(claimed, 'public/zeros', anError(), '0')).rejects.toEqual(refused('RequestConflict', 409));
});

test('runs that are over take no artifacts, except a while after they were given up', async () => {
  const [completed, failed, given] = [await aTask(), await aTask(), await aTask()];
  await queue.reportCompleted({ taskId: completed, runId: '0' });
  await queue.reportFailed({ taskId: failed, runId: '0' });
  await queue.reportException({ taskId: given, runId: '0' }, { reason: 'worker-shutdown' });
  await expect(create(completed, 'public/a', anError())).rejects.toEqual(refused('RequestConflict', 409));
  await expect(create(failed, 'public/a', anError())).rejects.toEqual(refused('RequestConflict', 409));
  await create(given, 'public/a', anError());
  expect(await queue.listLatestArtifacts({ taskId: given })).toEqual({ artifacts: [] });
  await expect(queue.latestArtifact({ taskId: given, name: 'public/a' })).rejects.toEqual(refused('ResourceNotFound', 404));
  await expect(queue.latestArtifactInfo({ taskId: given, name: 'public/a' })).rejects.toEqual(refused('ResourceNotFound', 404));
  expect(await queue.artifactInfo({ taskId: given, runId: '0', name: 'public/a' })).toMatchObject({ name: 'public/a' });
  server.clock.advance({ minutes: 25 });
  await expect(create(given, 'public/b', anError())).rejects.toEqual(refused('RequestConflict', 409));
});

test('expired artifacts are removed in batches, their bytes with them', async () => {
  const taskId = await aTask();
  const ctx = server.server.services.get('queue')?.apis?.[0]?.ctx as Ctx;
  await server.db`delete from queue.artifacts`;
  const { putUrl } = await create(taskId, 'public/s3', { storageType: 's3', expires: inMinutes(10), contentType: 'text/plain' });
  await overSocket(putUrl as string, { method: 'PUT', headers: { 'content-type': 'text/plain' }, body: 'bytes' });
  await create(taskId, 'public/ref', aReference({ expires: inMinutes(10) }));
  await create(taskId, 'public/kept', aReference());
  const key = `${taskId}/0/public/s3`;
  server.clock.advance({ minutes: 40 });
  expect(await artifactExpiry.run(ctx, 100)).toBe(0);
  server.clock.advance({ ms: 1 });
  expect(await server.db`select 1 from platform.blobs where key = ${key}`).toHaveLength(1);
  expect(await artifactExpiry.run(ctx, 1)).toBe(1);
  expect(await artifactExpiry.run(ctx, 100)).toBe(1);
  expect(await server.db`select 1 from platform.blobs where key = ${key}`).toEqual([]);
  expect((await queue.listArtifacts({ taskId, runId: '0' })).artifacts.map(artifact => artifact.name)).toEqual(['public/kept']);
});

test.each(['s3', 'object'] as const)('the client library takes an artifact of type %s there and back', async storageType => {
  const taskId = await aTask();
  const bytes = Buffer.from(random.bytes(20_000));
  const common = { queue, objectClient: () => server.client(objectApi), taskId, runId: '0', name: 'public/lib', fetch: overSocket };
  await uploadArtifact({
    ...common,
    storageType,
    expires: new Date(inDay()),
    contentType: 'application/octet-stream',
    contentLength: bytes.length,
    openSource: () => new Response(new Uint8Array(bytes)).body as ReadableStream<Uint8Array>,
  });
  const chunks: Uint8Array[] = [];
  const received = await downloadArtifact({
    ...common,
    openSink: () => new WritableStream({ write: chunk => void chunks.push(chunk) }),
  });
  expect(received).toMatchObject({ storageType, sizeBytes: 20_000, contentType: 'application/octet-stream' });
  expect(Buffer.concat(chunks).equals(bytes)).toBe(true);
});
