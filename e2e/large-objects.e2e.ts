/** Bytes stream through the server: two gigabytes up and down do not show in its memory. */
import crypto from 'node:crypto';
import fs from 'node:fs/promises';
import { objectApi } from '@tscluster/api/object/api.ts';
import { createClient } from '@tscluster/client/client.ts';
import { slugid, systemClock, systemRandom } from '@tscluster/client/clock.ts';
import { expect, test } from 'vitest';
import { startInstallation } from './support/installation.ts';

const GIB = 1024 ** 3;
const MIB = 1024 ** 2;
const SIZE = 2 * GIB;
const MAX_GROWTH = 100 * MIB;

const residentBytes = async (pid: number): Promise<number> => {
  const status = await fs.readFile(`/proc/${pid}/status`, 'utf8');
  return Number(/^VmRSS:\s+(\d+) kB$/m.exec(status)?.[1]) * 1024;
};

/** Samples a process's memory while something runs; answers with the most that was seen. */
const peakDuring = async (pid: number, work: Promise<unknown>): Promise<number> => {
  const ended = work.then(() => true);
  for (let peak = 0; ;) {
    peak = Math.max(peak, await residentBytes(pid));
    if (await Promise.race([systemClock.sleep(50), ended])) {
      return peak;
    }
  }
};

/** Pseudo-random bytes that differ in every block, made as fast as they are taken. */
const generate = (size: number, hash: crypto.Hash): ReadableStream<Uint8Array> => {
  const block = crypto.randomBytes(MIB);
  let sent = 0;
  return new ReadableStream(
    {
      pull: controller => {
        if (sent >= size) {
          controller.close();
          return;
        }
        const chunk = Buffer.from(block.subarray(0, Math.min(MIB, size - sent)));
        chunk.writeUInt32BE(sent / MIB, 0);
        hash.update(chunk);
        sent += chunk.length;
        controller.enqueue(chunk);
      },
    },
    { highWaterMark: 0 },
  );
};

test('2 GiB up and down at flat memory', async () => {
  const installation = await startInstallation();
  const pid = await installation.pid('server');
  const { rootUrl, credentials } = installation;
  const objects = createClient(objectApi, { rootUrl, credentials });
  const name = 'large';
  const upload = {
    projectId: 'none',
    uploadId: slugid(systemRandom),
    expires: new Date(Date.now() + 3_600_000).toISOString(),
    proposedUploadMethods: { putUrl: { contentType: 'application/octet-stream', contentLength: SIZE } },
  };
  const { putUrl } = (await objects.createUpload({ name }, upload)).uploadMethod;
  const { url, headers } = putUrl as { url: string; headers: Record<string, string> };

  const before = await residentBytes(pid);
  const sent = crypto.createHash('sha256');
  const put = fetch(url, { method: 'PUT', headers, body: generate(SIZE, sent), duplex: 'half' } as RequestInit);
  const peakUp = await peakDuring(
    pid,
    put.then(async response => expect([response.status, await response.text()]).toEqual([200, ''])),
  );
  const hashes = { sha256: sent.digest('hex') };
  await objects.finishUpload({ name }, { projectId: 'none', uploadId: upload.uploadId, hashes });

  const download = (await objects.startDownload({ name }, { acceptDownloadMethods: { getUrl: true } })) as { url: string };
  const received = crypto.createHash('sha256');
  let size = 0;
  const receive = async (): Promise<void> => {
    const response = await fetch(download.url);
    expect(response.headers.get('content-length')).toBe(String(SIZE));
    for await (const chunk of response.body as AsyncIterable<Uint8Array>) {
      size += chunk.length;
      received.update(chunk);
    }
  };
  const peakDown = await peakDuring(pid, receive());
  expect(size).toBe(SIZE);
  expect(received.digest('hex')).toBe(hashes.sha256);
  expect(peakUp - before).toBeLessThan(MAX_GROWTH);
  expect(peakDown - before).toBeLessThan(MAX_GROWTH);
  console.log(`memory ${Math.round(before / MIB)} MiB, at most ${Math.round(peakUp / MIB)} up and ${Math.round(peakDown / MIB)} down`);
});
