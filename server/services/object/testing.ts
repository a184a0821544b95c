/** For tests of the object service on any backend. */
import crypto from 'node:crypto';
import type { objectApi } from '@tscluster/api/object/api.ts';
import type { Client } from '@tscluster/client/client.ts';
import { downloadObject, uploadObject } from '@tscluster/client/objects.ts';
import { expect } from 'vitest';

/** Uploads bytes with the client library, downloads them, and compares. `socketFetch` reaches what the server's URLs name. */
export const thereAndBack = async (
  object: Client<typeof objectApi>,
  socketFetch: typeof fetch,
  bytes: Uint8Array,
  expires: string,
): Promise<void> => {
  const name = `library/${bytes.length}`;
  const contentType = 'application/octet-stream';
  await uploadObject({
    fetch: socketFetch,
    object,
    name,
    projectId: 'p',
    expires: new Date(expires),
    contentType,
    contentLength: bytes.length,
    openSource: () => new Response(new Uint8Array(bytes)).body as ReadableStream<Uint8Array>,
  });
  const chunks: Uint8Array[] = [];
  const received = await downloadObject({
    fetch: socketFetch,
    object,
    name,
    openSink: () => new WritableStream({ write: chunk => void chunks.push(chunk) }),
  });
  expect(received).toMatchObject({ sizeBytes: bytes.length, contentType, sha256: crypto.hash('sha256', bytes) });
  expect(Buffer.concat(chunks).equals(bytes)).toBe(true);
};
