/**
 * A server that speaks S3, for tests: real requests, real signatures, files in a folder of its own. It checks signatures with the system's time.
 *
 * It lacks some of S3, which is added here: a multipart upload can be given up, at most 1,000 keys are deleted at once, and a test may protect keys from that.
 * It computes the signature of requests on a whole bucket differently from S3 and the SDK, so those are let through unchecked.
 */
import fs from 'node:fs/promises';
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import os from 'node:os';
import path from 'node:path';
import S3rver from '@20minutes/s3rver';
import accounts from '@20minutes/s3rver/lib/models/account.js';

export const S3_ACCESS_KEY = 'TESTACCESSKEYID';
/** With all that escaping may break. */
export const S3_SECRET_KEY = 'the/secret+of=the"test%20key';

/** How a bucket of such a server is configured. */
export const bucketSettings = (s3: Pick<TestS3, 'endpoint'>, bucket: string) => ({
  accessKeyId: S3_ACCESS_KEY,
  secretAccessKey: S3_SECRET_KEY,
  bucket,
  endpoint: s3.endpoint,
  s3ForcePathStyle: true,
});

/** The settings that keep artifacts of type s3 there. */
export const artifactSettings = (s3: Pick<TestS3, 'endpoint'>, publicBucket: string, privateBucket: string) => ({
  PUBLIC_ARTIFACT_BUCKET: publicBucket,
  PRIVATE_ARTIFACT_BUCKET: privateBucket,
  AWS_ACCESS_KEY_ID: S3_ACCESS_KEY,
  AWS_SECRET_ACCESS_KEY: S3_SECRET_KEY,
  AWS_ENDPOINT: s3.endpoint,
  AWS_FORCE_PATH_STYLE: 'true',
});

export interface TestS3 {
  readonly endpoint: string;
  /** `METHOD /path?query` of each request that has arrived. */
  readonly requests: readonly string[];
  /** Keys that it will not delete, as if somebody had locked them. */
  readonly locked: Set<string>;
  /** What a bucket has under a key; undefined for nothing. */
  read(bucket: string, key: string): Promise<Buffer | undefined>;
  /** Removes bytes behind everybody's back. */
  lose(bucket: string, key: string): Promise<void>;
  keys(bucket: string): Promise<string[]>;
  /** Multipart uploads that were neither completed nor given up. */
  openUploads(bucket: string): Promise<string[]>;
  /** The tags of an object, as XML. */
  tags(bucket: string, key: string): Promise<string>;
  /** Stops answering: connections are refused. */
  stop(): Promise<void>;
  /** Answers again, on the same port, with the same data. */
  start(): Promise<void>;
  /** Calls back for each request before it is answered. */
  onRequest(callback: (request: http.IncomingMessage) => void | Promise<void>): void;
  close(): Promise<void>;
}

const OBJECT = '._S3rver_object';
const UPLOADS = '._S3rver_uploads';

const readBody = async (request: http.IncomingMessage): Promise<string> => {
  const chunks: Buffer[] = [];
  for await (const chunk of request as AsyncIterable<Buffer>) {
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString();
};

const unescapeXml = (text: string): string =>
  text.replaceAll('&lt;', '<').replaceAll('&gt;', '>').replaceAll('&quot;', '"').replaceAll('&apos;', "'").replaceAll('&amp;', '&');

/** Starts one with these buckets; ready when this returns. */
export const startS3 = async (buckets: readonly string[]): Promise<TestS3> => {
  accounts.DUMMY_ACCOUNT.createKeyPair(S3_ACCESS_KEY, S3_SECRET_KEY);
  const directory = await fs.mkdtemp(path.join(os.tmpdir(), 'taskcluster-s3-'));
  const s3rver = new S3rver({ silent: true, directory, vhostBuckets: false, configureBuckets: buckets.map(name => ({ name })) });
  await s3rver.configureBuckets();
  const locked = new Set<string>();

  const fileOf = (bucket: string, key: string): string => path.join(directory, bucket, `${key}${OBJECT}`);
  const lose = async (bucket: string, key: string): Promise<void> => {
    await Promise.all(
      [OBJECT, `${OBJECT}.md5`, '._S3rver_metadata.json'].map(end => fs.rm(path.join(directory, bucket, key + end), { force: true })),
    );
  };

  s3rver.middleware.unshift(async (context, next) => {
    const [, bucket = '', ...rest] = context.path.split('/');
    const { uploadId } = context.query;
    if (context.method === 'DELETE' && uploadId !== undefined) {
      await fs.rm(path.join(directory, bucket, UPLOADS, path.basename(uploadId)), { recursive: true, force: true });
      context.status = 204;
      return;
    }
    if (context.method === 'POST' && 'delete' in context.query) {
      const keys = [...(await readBody(context.req)).matchAll(/<Key>([^<]*)<\/Key>/g)].map(([, key = '']) => unescapeXml(key));
      context.type = 'application/xml';
      if (keys.length > 1_000) {
        context.status = 400;
        context.body = '<Error><Code>MalformedXML</Code></Error>';
        return;
      }
      await Promise.all(keys.filter(key => !locked.has(key)).map(key => lose(bucket, key)));
      const errors = keys.filter(key => locked.has(key)).map(key => `<Error><Key>${key}</Key><Code>AccessDenied</Code></Error>`);
      context.body = `<DeleteResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">${errors.join('')}</DeleteResult>`;
      return;
    }
    if (rest.join('/') === '') {
      context.app = Object.create(context.app, { allowMismatchedSignatures: { value: true } }) as object;
    }
    await next();
  });

  const requests: string[] = [];
  const watchers: ((request: http.IncomingMessage) => void | Promise<void>)[] = [];
  const handle = s3rver.callback();
  let port = 0;
  let server: http.Server | undefined;
  const start = async (): Promise<void> => {
    const starting = http.createServer((request, response) => {
      requests.push(`${request.method} ${request.url}`);
      const answer = async (): Promise<void> => {
        for (const watcher of watchers) {
          await watcher(request);
        }
        handle(request, response);
      };
      answer().catch((error: unknown) => response.destroy(error as Error));
    });
    await new Promise<void>((resolve, reject) => {
      starting.once('error', reject);
      starting.listen(port, '127.0.0.1', resolve);
    });
    port = (starting.address() as AddressInfo).port;
    server = starting;
  };
  const stop = async (): Promise<void> => {
    const stopping = server;
    server = undefined;
    if (stopping) {
      stopping.closeAllConnections();
      await new Promise(resolve => void stopping.close(resolve));
    }
  };
  await start();

  const filesOf = async (bucket: string): Promise<string[]> =>
    (await fs.readdir(path.join(directory, bucket), { recursive: true })).filter(file => file.endsWith(OBJECT));
  return {
    endpoint: `http://127.0.0.1:${port}`,
    requests,
    locked,
    read: (bucket, key) => fs.readFile(fileOf(bucket, key)).catch(() => undefined),
    lose,
    keys: async bucket => (await filesOf(bucket)).map(file => file.slice(0, -OBJECT.length)).sort(),
    openUploads: bucket => fs.readdir(path.join(directory, bucket, UPLOADS)).catch(() => []),
    tags: (bucket, key) => fs.readFile(path.join(directory, bucket, `${key}._S3rver_tagging.xml`), 'utf8'),
    stop,
    start,
    onRequest: callback => void watchers.push(callback),
    close: async () => {
      await stop();
      await fs.rm(directory, { recursive: true, force: true });
    },
  };
};
