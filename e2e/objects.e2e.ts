/** What was acknowledged is there, whatever happens to the server; what was not leaves nothing. */
import fs from 'node:fs/promises';
import http from 'node:http';
import path from 'node:path';
import { objectApi } from '@tscluster/api/object/api.ts';
import { type Client, createClient } from '@tscluster/client/client.ts';
import { slugid, systemRandom } from '@tscluster/client/clock.ts';
import { expect, test } from 'vitest';
import { type Installation, startInstallation } from './support/installation.ts';
import { until } from './support/processes.ts';

interface Upload {
  readonly name: string;
  readonly uploadId: string;
  readonly url: string;
  readonly headers: Record<string, string>;
}

const clientOf = ({ rootUrl, credentials }: Installation): Client<typeof objectApi> => createClient(objectApi, { rootUrl, credentials });

const startUpload = async (objects: Client<typeof objectApi>, name: string, contentLength: number): Promise<Upload> => {
  const uploadId = slugid(systemRandom);
  const { uploadMethod } = await objects.createUpload(
    { name },
    {
      projectId: 'none',
      uploadId,
      expires: new Date(Date.now() + 3_600_000).toISOString(),
      proposedUploadMethods: { putUrl: { contentType: 'text/plain', contentLength } },
    },
  );
  return { name, uploadId, ...(uploadMethod.putUrl as { url: string; headers: Record<string, string> }) };
};

test('kill -9 of the server between and during uploads', async () => {
  const installation = await startInstallation();
  const objects = clientOf(installation);
  const stored = await startUpload(objects, 'stored', 5);
  const cut = await startUpload(objects, 'cut', 1_000_000);
  const request = http.request(cut.url, { method: 'PUT', headers: cut.headers });
  const broken = new Promise<void>(resolve => request.once('error', () => resolve()));
  request.write(Buffer.alloc(300_000, 'x'));
  const temporary = path.join(installation.dataDir, 'objects', 'tmp');
  await until(async () => (await fs.readdir(temporary)).length > 0);
  expect((await fetch(stored.url, { method: 'PUT', headers: stored.headers, body: 'hello' })).status).toBe(200);
  await installation.kill('server');
  await broken;
  await installation.restart();

  const again = clientOf(installation);
  const finish = ({ name, uploadId }: Upload) => again.finishUpload({ name }, { projectId: 'none', uploadId });
  await finish(stored);
  const download = (await again.startDownload({ name: 'stored' }, { acceptDownloadMethods: { simple: true } })) as { url: string };
  expect(await (await fetch(download.url)).text()).toBe('hello');
  await expect(finish(cut)).rejects.toMatchObject({ code: 'InputError', statusCode: 400 });
  // the URL is still good, and the upload goes on
  expect((await fetch(cut.url, { method: 'PUT', headers: cut.headers, body: Buffer.alloc(1_000_000, 'y') })).status).toBe(200);
  await finish(cut);
});
