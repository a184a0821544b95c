/** Whole installations whose bytes are on S3: what the published client and the local worker do is the same, and a storage that goes away loses nothing. */
import { createHash, randomBytes } from 'node:crypto';
import { Readable, Writable } from 'node:stream';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { artifactSettings, bucketSettings, S3_ACCESS_KEY, startS3, type TestS3 } from '../server/testing/s3.ts';
import { type Installation, startInstallation } from './support/installation.ts';
import { expectRefusal, officialClients, type OfficialClients, readArtifact, taskcluster } from './support/official.ts';
import { waitFor } from './support/processes.ts';
import { aScript, aTask, newId } from './support/tasks.ts';

const [PUBLIC, PRIVATE, OBJECTS] = ['public-artifacts', 'private-artifacts', 'all-objects'] as const;
let s3: TestS3;
const settings = (): Record<string, string> => ({
  ...artifactSettings(s3, PUBLIC, PRIVATE),
  BACKENDS: JSON.stringify({
    local: { backendType: 'local' },
    s3: { backendType: 'aws', ...bucketSettings(s3, OBJECTS), signGetUrls: true, maxPutBytes: 6_000_000 },
  }),
  BACKEND_MAP: '[{"backendId":"local","when":{"projectId":"in-folder"}},{"backendId":"s3","when":"all"}]',
});

beforeAll(async () => {
  s3 = await startS3([PUBLIC, PRIVATE, OBJECTS]);
});
afterAll(() => s3.close());

const inAnHour = (): string => new Date(Date.now() + 3_600_000).toISOString();

const upload = (object: OfficialClients['object'], projectId: string, name: string, bytes: Buffer): Promise<void> =>
  taskcluster.upload({
    projectId,
    name,
    object,
    contentType: 'application/octet-stream',
    contentLength: bytes.length,
    expires: inAnHour(),
    streamFactory: async () => Readable.from([bytes]),
  });
const download = async (object: OfficialClients['object'], name: string): Promise<string> => {
  const { streamFactory, bytes } = collectBytes();
  expect(await taskcluster.download({ name, object, streamFactory })).toBe('application/octet-stream');
  return digest(bytes());
};
const digest = (bytes: Buffer): string => createHash('sha256').update(bytes).digest('hex');
const collectBytes = () => {
  let chunks: Buffer[] = [];
  const streamFactory = async (): Promise<Writable> => {
    chunks = [];
    return new Writable({
      write: (chunk: Buffer, _encoding, done) => {
        chunks.push(chunk);
        done();
      },
    });
  };
  return { streamFactory, bytes: () => Buffer.concat(chunks) };
};

const finished = async (queue: OfficialClients['queue'], taskId: string): Promise<string> =>
  waitFor(`the task ${taskId}`, 120_000, async () => {
    const { state } = (await queue['status']!(taskId)).status as { state: string };
    return ['completed', 'failed', 'exception'].includes(state) && state;
  });

describe.each(['s3', 'object'] as const)('artifacts of type %s', storageType => {
  let installation: Installation;
  let root: OfficialClients;
  beforeAll(async () => {
    installation = await startInstallation({
      env: { ...settings(), WORKER_CREATE_OBJECT_ARTIFACTS: String(storageType === 'object') },
    });
    root = officialClients(installation, installation.credentials);
  });

  test('the local worker puts them into the buckets, and readers follow', async () => {
    const { queue } = root;
    const [first, second] = [newId(), newId()];
    const artifacts = [
      { type: 'file', path: 'out.txt', name: 'public/out.txt', expires: inAnHour() },
      { type: 'file', path: 'out.bin', name: 'private/out.bin', expires: inAnHour() },
    ];
    const script = 'env; echo one > out.txt; head -c 9000000 /dev/zero > out.bin';
    await queue['createTask']!(first, aTask({ payload: aScript(script, { artifacts }) }));
    expect(await finished(queue, first)).toBe('completed');
    await queue['createTask']!(
      second,
      aTask({
        dependencies: [first],
        scopes: ['queue:get-artifact:private/*'],
        payload: aScript('cat in.txt; wc -c < in.bin', {
          mounts: [
            { file: 'in.txt', content: { taskId: first, artifact: 'public/out.txt' } },
            { file: 'in.bin', content: { taskId: first, artifact: 'private/out.bin' } },
          ],
        }),
      }),
    );
    expect(await finished(queue, second)).toBe('completed');
    expect(await readArtifact(queue, second, 'public/logs/live.log')).toMatch(/one\r?\n.*9000000/s);
    expect(await readArtifact(officialClients(installation).queue, first, 'public/out.txt')).toBe('one\n');
    const places =
      storageType === 's3'
        ? [s3.read(PUBLIC, `${first}/0/public/out.txt`), s3.read(PRIVATE, `${first}/0/private/out.bin`)]
        : [s3.read(OBJECTS, `t/${first}/0/public/out.txt`), s3.read(OBJECTS, `t/${first}/0/private/out.bin`)];
    expect((await Promise.all(places)).map(bytes => bytes !== undefined)).toEqual([true, true]);
    const log = await readArtifact(queue, first, 'public/logs/live_backing.log');
    expect(log).toContain('TASK_ID=');
    expect(log).not.toContain(S3_ACCESS_KEY);
    // as browsers and curl do
    const redirected = await fetch(`${installation.rootUrl}/api/queue/v1/task/${first}/artifacts/public/out.txt`);
    expect([redirected.url.startsWith(s3.endpoint), await redirected.text()]).toEqual([true, 'one\n']);
  });

  if (storageType === 's3') {
    test.each([0, 10, 8_191, 8_192, 5_000_000, 7_000_000])(
      'the published client takes %i bytes there and back, on both backends',
      async size => {
        const { object } = root;
        const bytes = randomBytes(size);
        for (const projectId of ['in-folder', 'in-bucket']) {
          const name = `${projectId}/${size}/a b.bin`;
          await upload(object, projectId, name, bytes);
          expect(await download(object, name)).toBe(digest(bytes));
        }
        expect((await s3.read(OBJECTS, `in-bucket/${size}/a b.bin`))?.equals(bytes)).toBe(true);
        expect(await s3.read(OBJECTS, `in-folder/${size}/a b.bin`)).toBeUndefined();
      },
    );

    test('a storage that goes away while a task runs: the task completes when it is back', async () => {
      const { queue, object } = root;
      const taskId = newId();
      await s3.stop();
      await expectRefusal(
        object['createUpload']!('away', {
          projectId: 'p',
          uploadId: newId(),
          expires: inAnHour(),
          proposedUploadMethods: { dataInline: { contentType: 'text/plain', objectData: 'aGVsbG8=' } },
        }),
        503,
        'ServiceUnavailable',
        /all-objects cannot be reached now \(ECONNREFUSED\)/,
      );
      const artifacts = [{ type: 'file', path: 'out.txt', name: 'public/out.txt', expires: inAnHour() }];
      await queue['createTask']!(taskId, aTask({ payload: aScript('echo kept > out.txt', { artifacts }) }));
      await waitFor('the artifact', 60_000, async () => {
        const { artifacts: listed } = (await queue['listLatestArtifacts']!(taskId).catch(() => ({ artifacts: [] }))) as {
          artifacts: { name: string }[];
        };
        return listed.some(({ name }) => name === 'public/out.txt');
      });
      await s3.start();
      expect(await finished(queue, taskId)).toBe('completed');
      expect(await readArtifact(queue, taskId, 'public/out.txt')).toBe('kept\n');
    });

    test('no key is printed', () => {
      expect(installation.output()).not.toContain(S3_ACCESS_KEY);
    });
  }
});
