import { createHash } from 'node:crypto';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { gzipSync } from 'node:zlib';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { ArtifactError, downloadArtifact, uploadArtifact } from './artifacts.ts';
import { makeClock, type Random } from './clock.ts';
import { downloadObject, uploadObject, type ObjectClient } from './objects.ts';
import { getBytes, putBytes, TransferError } from './transfer.ts';

// A store of bytes on a real socket: how a body travels (content length or chunks) is part of what is tested.
let server: Server;
let url: string;
let answers: ((request: IncomingMessage, response: ServerResponse, body: Buffer) => void)[];
let requests: { method: string | undefined; path: string | undefined; headers: IncomingMessage['headers']; body: Buffer }[];

beforeEach(async () => {
  [answers, requests] = [[], []];
  server = createServer((request, response) => {
    const parts: Buffer[] = [];
    request.on('data', (part: Buffer) => parts.push(part));
    request.on('end', () => {
      const body = Buffer.concat(parts);
      requests.push({ method: request.method, path: request.url, headers: request.headers, body });
      const answer = answers.shift() ?? ((_request, reply) => reply.end());
      answer(request, response, body);
    });
  });
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve));
  url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
});
afterEach(async () => {
  server.closeAllConnections();
  await new Promise(resolve => server.close(resolve));
});

const sleeps: number[] = [];
let nowMs = 1_894_708_800_000;
const clock = makeClock(
  () => nowMs,
  (ms, callback) => {
    // stall timers (120 s) are never due here; sleeps between tries end at once
    if (ms < 100_000) {
      sleeps.push(ms);
      queueMicrotask(callback);
    }
    return { cancel: () => undefined };
  },
);
const random: Random = { bytes: count => new Uint8Array(count), float: () => 0.5 };
const options = { clock, random };
beforeEach(() => {
  sleeps.length = 0;
  nowMs = 1_894_708_800_000;
});

const source =
  (...pieces: (string | Uint8Array)[]) =>
  () =>
    new ReadableStream<Uint8Array>({
      start: controller => {
        pieces.forEach(piece => controller.enqueue(typeof piece === 'string' ? Buffer.from(piece) : piece));
        controller.close();
      },
    });

/** A place for bytes; what a failed try has written is thrown away. */
const sink = () => {
  const state = { text: undefined as string | undefined, opened: 0, aborted: 0 };
  const open = () => {
    state.opened += 1;
    const parts: Uint8Array[] = [];
    return new WritableStream<Uint8Array>({
      write: part => {
        parts.push(part);
      },
      close: () => {
        state.text = Buffer.concat(parts).toString();
      },
      abort: () => {
        state.aborted += 1;
      },
    });
  };
  return { state, open };
};

const reply =
  (statusCode: number, body: string | Buffer = '', headers: Record<string, string> = {}) =>
  (_: IncomingMessage, response: ServerResponse): void => {
    response.writeHead(statusCode, headers).end(body);
  };

const hash = (algorithm: string, text: string): string => createHash(algorithm).update(text).digest('hex');
const target = async () => ({ url: `${url}/x?signature=1`, headers: { 'content-type': 'text/plain', 'content-length': '6' } });

describe('putBytes', () => {
  test('sends a stream with its length and says what was sent', async () => {
    const sent = await putBytes(target, 6, source('abc', 'def'), options);
    expect(sent).toEqual({ sizeBytes: 6, sha256: hash('sha256', 'abcdef'), sha512: hash('sha512', 'abcdef') });
    expect(requests[0]).toMatchObject({ method: 'PUT', path: '/x?signature=1' });
    expect(requests[0]?.headers).toMatchObject({ 'content-type': 'text/plain', 'content-length': '6' });
    expect(requests[0]?.headers['transfer-encoding']).toBeUndefined();
    expect(requests[0]?.body.toString()).toBe('abcdef');
  });

  test('sends nothing with length 0', async () => {
    const headers = { 'content-length': '0' };
    expect(await putBytes(async () => ({ url, headers }), 0, source(), options)).toMatchObject({
      sizeBytes: 0,
      sha256: hash('sha256', ''),
    });
    expect(requests[0]?.headers).toMatchObject({ 'content-length': '0' });
  });

  test('starts again after a 5xx and after S3 closed an idle connection', async () => {
    answers = [reply(503), reply(400, '<Code>RequestTimeout</Code>'), reply(200)];
    expect(await putBytes(target, 6, source('abcdef'), options)).toMatchObject({ sizeBytes: 6 });
    expect(requests.map(({ body }) => body.toString())).toEqual(['abcdef', 'abcdef', 'abcdef']);
    expect(sleeps).toEqual([200, 400]);
  });

  test('gives up on a 4xx and hides the signature', async () => {
    answers = [reply(403, 'expired')];
    const error = await putBytes(target, 6, source('abcdef'), options).catch((caught: unknown) => caught);
    expect(error).toBeInstanceOf(TransferError);
    expect(error).toMatchObject({ statusCode: 403, message: `PUT ${url}/x was refused with status 403: expired` });
    expect(requests).toHaveLength(1);
  });

  test('refuses a source of another length', async () => {
    await expect(putBytes(target, 6, source('abc'), options)).rejects.toThrow('The source had 3 bytes instead of the 6');
    await expect(putBytes(target, 6, source('abcdefg'), options)).rejects.toThrow(
      'The source had more than the 6 bytes that were announced',
    );
  });
});

describe('getBytes', () => {
  test('decodes, follows redirects, and starts again with an empty sink', async () => {
    answers = [
      (_, response) => {
        response.writeHead(200, { 'content-length': '100' }).write('abc');
        setImmediate(() => response.destroy());
      },
      reply(302, '', { location: '/there' }),
      reply(200, gzipSync('content'), { 'content-encoding': 'gzip', 'content-type': 'text/plain' }),
    ];
    const { state, open } = sink();
    const received = await getBytes(async () => url, open, options);
    expect(received).toEqual({ sizeBytes: 7, sha256: hash('sha256', 'content'), contentType: 'text/plain' });
    expect(state).toEqual({ text: 'content', opened: 2, aborted: 1 });
  });

  test('gives up on a 4xx', async () => {
    answers = [reply(404, 'none')];
    const { state, open } = sink();
    await expect(getBytes(async () => url, open, options)).rejects.toMatchObject({ statusCode: 404 });
    expect(state.opened).toBe(0);
  });

  test('gives up when the sink fails', async () => {
    answers = [reply(200, 'abc'), reply(200, 'abc')];
    const open = () =>
      new WritableStream<Uint8Array>({
        write: () => {
          throw new Error('disk full');
        },
      });
    await expect(getBytes(async () => url, open, options)).rejects.toThrow('disk full');
    expect(requests).toHaveLength(1);
  });

  test('gives up when nothing moves', async () => {
    answers = [() => undefined];
    const stuck = makeClock(
      () => (nowMs += 50_000),
      (_, callback) => {
        const handle = setImmediate(callback);
        return { cancel: () => clearImmediate(handle) };
      },
    );
    await expect(getBytes(async () => url, sink().open, { ...options, clock: stuck, retries: 0 })).rejects.toThrow(
      'nothing moved for 120000 ms',
    );
  });
});

/** An object service that records its calls and offers the given upload methods. */
const objectService = (uploadMethod: 'dataInline' | 'putUrl' | 'none', hashes: Record<string, string> = {}) => {
  const calls: [string, unknown, unknown][] = [];
  const expires = () => new Date(nowMs + 60_000).toISOString();
  const object: ObjectClient = {
    createUpload: async (params, body) => {
      calls.push(['createUpload', params, body]);
      const headers = { 'Content-Type': 'text/plain', 'Content-Length': String(body.proposedUploadMethods.putUrl?.contentLength) };
      return {
        uploadMethod:
          uploadMethod === 'dataInline'
            ? { dataInline: true }
            : uploadMethod === 'putUrl'
              ? { putUrl: { url, expires: expires(), headers } }
              : {},
      };
    },
    finishUpload: async (params, body) => {
      calls.push(['finishUpload', params, body]);
    },
    startDownload: async (params, body) => {
      calls.push(['startDownload', params, body]);
      return { method: 'getUrl', url, expires: expires(), hashes };
    },
  };
  return { object, calls };
};

const upload = { ...options, name: 'o', projectId: 'p', uploadId: 'u', expires: new Date(0), contentType: 'text/plain' };

describe('objects', () => {
  test('small ones travel within the call', async () => {
    const { object, calls } = objectService('dataInline');
    await uploadObject({ ...upload, object, contentLength: 3, openSource: source('abc') });
    expect(calls).toEqual([
      [
        'createUpload',
        { name: 'o' },
        {
          projectId: 'p',
          uploadId: 'u',
          expires: '1970-01-01T00:00:00.000Z',
          proposedUploadMethods: {
            dataInline: { contentType: 'text/plain', objectData: 'YWJj' },
            putUrl: { contentType: 'text/plain', contentLength: 3 },
          },
        },
      ],
      [
        'finishUpload',
        { name: 'o' },
        { projectId: 'p', uploadId: 'u', hashes: { sha256: hash('sha256', 'abc'), sha512: hash('sha512', 'abc') } },
      ],
    ]);
    expect(requests).toHaveLength(0);
  });

  test('large ones are put, and an expired URL is renewed', async () => {
    const { object, calls } = objectService('putUrl');
    const text = 'x'.repeat(8192);
    answers = [
      (_, response) => {
        nowMs += 120_000;
        response.writeHead(500).end();
      },
    ];
    await uploadObject({ ...upload, object, contentLength: 8192, openSource: source(text) });
    expect(calls.map(([name]) => name)).toEqual(['createUpload', 'createUpload', 'finishUpload']);
    expect(calls[0]?.[2]).toMatchObject({ proposedUploadMethods: { putUrl: { contentType: 'text/plain', contentLength: 8192 } } });
    expect(calls[0]?.[2]).not.toHaveProperty('proposedUploadMethods.dataInline');
    expect(requests.map(({ body }) => body.length)).toEqual([8192, 8192]);
  });

  test('an upload without a known method fails', async () => {
    const { object } = objectService('none');
    await expect(uploadObject({ ...upload, object, contentLength: 1, openSource: source('a') })).rejects.toThrow('no way to upload o');
    await expect(uploadObject({ ...upload, object, contentLength: 2, openSource: source('a') })).rejects.toThrow(
      '1 bytes instead of the 2',
    );
  });

  test('downloads are verified', async () => {
    const good = { sha256: hash('sha256', 'abc'), sha512: hash('sha512', 'abc') };
    const attempt = (hashes: Record<string, string>) => {
      answers = [reply(200, 'abc')];
      return downloadObject({ ...options, object: objectService('none', hashes).object, name: 'o', openSink: sink().open });
    };
    expect(await attempt(good)).toMatchObject({ sizeBytes: 3, sha512: good.sha512 });
    await expect(attempt({ ...good, sha512: 'other' })).rejects.toThrow('The object o arrived damaged: its sha512 is');
    await expect(attempt({ md5: 'x' })).rejects.toThrow('stored without a sha256 or sha512');
    expect(requests).toHaveLength(3);
  });
});

describe('artifacts', () => {
  const download = (content: unknown, more: object = {}) => {
    const asked: unknown[] = [];
    const { state, open } = sink();
    const queue = {
      artifact: async (params: unknown) => (asked.push(params), content),
      latestArtifact: async (params: unknown) => (asked.push(params), content),
    };
    const { object } = objectService('none', { sha256: hash('sha256', 'abc') });
    const objectClient = (credentials: unknown) => (asked.push(credentials), object);
    const done = downloadArtifact({ ...options, queue, objectClient, taskId: 't', name: 'public/x', openSink: open, ...more });
    return { done, state, asked };
  };

  test('of every type are downloaded', async () => {
    answers = [reply(200, 'abc'), reply(200, 'abc')];
    const s3 = download({ storageType: 's3', url });
    expect(await s3.done).toMatchObject({ storageType: 's3', sizeBytes: 3 });
    expect(s3.state.text).toBe('abc');
    expect(s3.asked).toEqual([{ taskId: 't', name: 'public/x' }]);

    const credentials = { clientId: 'c', accessToken: 'a', certificate: '{}' };
    const object = download({ storageType: 'object', name: 'o', credentials }, { runId: '1' });
    expect(await object.done).toMatchObject({ storageType: 'object', sizeBytes: 3 });
    expect(object.asked).toEqual([{ taskId: 't', runId: '1', name: 'public/x' }, credentials]);

    const error = await download({ storageType: 'error', reason: 'file-missing-on-worker', message: 'no such file' }).done.catch(
      (e: unknown) => e,
    );
    expect(error).toBeInstanceOf(ArtifactError);
    expect(error).toMatchObject({ code: 'ArtifactError', reason: 'file-missing-on-worker' });

    await expect(download({ storageType: 'reference', url }, { managedOnly: true }).done).rejects.toThrow('a URL that its task chose');
    await expect(download({ storageType: 'tape' }).done).rejects.toThrow('storage type tape');
  });

  test('are uploaded to S3 on a URL that is renewed with each try', async () => {
    answers = [reply(500)];
    const created: unknown[] = [];
    const queue = {
      createArtifact: async (params: unknown, body: unknown) => {
        created.push(params, body);
        return { storageType: 's3', putUrl: `${url}/${created.length / 2}`, expires: '', contentType: 'text/plain' };
      },
      finishArtifact: async () => expect.unreachable(),
    };
    const sent = await uploadArtifact({
      ...options,
      queue,
      objectClient: () => expect.unreachable(),
      taskId: 't',
      runId: '0',
      name: 'public/x',
      storageType: 's3',
      expires: new Date(0),
      contentType: 'text/plain',
      contentLength: 3,
      contentEncoding: 'gzip',
      openSource: source('abc'),
    });
    expect(sent).toMatchObject({ sizeBytes: 3, sha256: hash('sha256', 'abc') });
    expect(requests.map(({ path }) => path)).toEqual(['/1', '/2']);
    expect(requests[1]?.headers).toMatchObject({ 'content-type': 'text/plain', 'content-encoding': 'gzip', 'content-length': '3' });
    expect(created[1]).toEqual({ storageType: 's3', expires: '1970-01-01T00:00:00.000Z', contentType: 'text/plain', contentLength: 3 });
  });

  test('are uploaded as objects with the credentials of the answer, and finished', async () => {
    const { object, calls } = objectService('dataInline');
    const finished: unknown[] = [];
    const queue = {
      createArtifact: async () => ({
        storageType: 'object',
        name: 't/t/0/x',
        projectId: 'p',
        uploadId: 'u',
        expires: '2030-01-01T00:00:00.000Z',
        credentials: { clientId: 'c' },
      }),
      finishArtifact: async (params: unknown, body: unknown) => finished.push(params, body),
    };
    const given: unknown[] = [];
    await uploadArtifact({
      ...options,
      queue,
      objectClient: credentials => (given.push(credentials), object),
      taskId: 't',
      runId: '0',
      name: 'x',
      storageType: 'object',
      expires: new Date(0),
      contentType: 'text/plain',
      contentLength: 3,
      openSource: source('abc'),
    });
    expect(given).toEqual([{ clientId: 'c' }]);
    expect(calls[0]).toMatchObject(['createUpload', { name: 't/t/0/x' }, { uploadId: 'u', expires: '2030-01-01T00:00:00.000Z' }]);
    expect(finished).toEqual([{ taskId: 't', runId: '0', name: 'x' }, { uploadId: 'u' }]);
  });
});
