/**
 * Objects in a bucket of S3, or of something that speaks its protocol. The key is the object's name, so that a cache in front of the bucket finds it.
 *
 * On Amazon's own S3 objects are tagged with their project, and HTML is stored as something to save, because it would be shown in the bucket's origin;
 * others get no tags, and only signed URLs say so there.
 */
import { inputError } from '../../../platform/errors.ts';
import { BlobError, uploadFinished } from '../../../platform/blobs/arriving.ts';
import { objectStore } from '../../../platform/blobs/blob-store.ts';
import { isHtml } from '../../../platform/blobs/html.ts';
import { openS3Bucket } from '../../../platform/blobs/s3/s3-bucket.ts';
import { refuseS3Key } from '../../../platform/blobs/s3/s3-key.ts';
import { readS3Settings, S3_KEYS, type S3Settings } from '../../../platform/blobs/s3/s3-settings.ts';
import { makeS3Source, makeS3Writer, signS3Put } from '../../../platform/blobs/s3/s3-store.ts';
import { getObject } from '../objects.db.ts';
import { type Backend, defineBackend, type StoredObject } from './backend.ts';
import { checkLength, GET_URL_MS, lifeOf, noData, PUT_GRACE_MS, PUT_URL_MS, refuseUnknownKeys } from './common.ts';

interface AwsConfig {
  readonly s3: S3Settings;
  /** Otherwise the bucket is public, and URLs work for everybody who knows them. */
  readonly signGetUrls: boolean;
  readonly tags: Readonly<Record<string, string>>;
}

/** What is kept with a finished object. */
interface Notes {
  readonly contentType?: string;
  readonly sizeBytes?: number;
}

/** S3 takes ten tags; one is the project's. */
const MAX_TAGS = 9;
const PROJECT_TAG = 'ProjectId';

const readTags = (value: unknown, hasEndpoint: boolean): Readonly<Record<string, string>> => {
  if (value === undefined) {
    return {};
  }
  if (hasEndpoint) {
    throw new Error('has tags and an endpoint: only on Amazon S3 itself are objects tagged');
  }
  const isRecord = typeof value === 'object' && value !== null && !Array.isArray(value);
  const entries = isRecord ? Object.entries(value as Record<string, unknown>) : [];
  const isFine = ([key, tag]: [string, unknown]): boolean =>
    key.length > 0 && key.length <= 128 && key !== PROJECT_TAG && typeof tag === 'string' && tag.length <= 256;
  if (!isRecord || entries.length > MAX_TAGS || !entries.every(isFine)) {
    throw new Error(`needs as its tags an object of up to ${MAX_TAGS} texts, none of them named ${PROJECT_TAG}`);
  }
  return value as Record<string, string>;
};

const readConfig = (config: Readonly<Record<string, unknown>>): AwsConfig => {
  refuseUnknownKeys('aws', config, [...S3_KEYS, 'signGetUrls', 'tags']);
  const { signGetUrls } = config;
  const s3 = readS3Settings(config);
  if (typeof signGetUrls !== 'boolean') {
    throw new TypeError('needs true or false as its signGetUrls: whether URLs of downloads are signed, or the bucket is public');
  }
  return { s3, signGetUrls, tags: readTags(config['tags'], s3.endpoint !== undefined) };
};

export const aws = defineBackend<AwsConfig>({
  type: 'aws',
  read: readConfig,
  open: (backendId, { s3, signGetUrls, tags }, context): Backend => {
    const { clock, log, db, maxBytes, signingSecret, origin } = context;
    const bucket = openS3Bucket({ settings: s3, clock, log });
    const store = { name: objectStore(backendId), bucket, signingSecret, origin };
    const isAmazon = s3.endpoint === undefined;
    const after = (ms: number): Date => new Date(clock.nowMs() + ms);
    const disposition = (contentType: string | undefined): { contentDisposition?: string } =>
      isHtml(contentType ?? '') ? { contentDisposition: 'attachment' } : {};
    const storedWith = (contentType: string): { contentType: string; contentDisposition?: string } => ({
      contentType,
      ...(isAmazon ? disposition(contentType) : {}),
    });
    const getUrl = (object: StoredObject, lifeMs: number): Promise<string> =>
      signGetUrls
        ? bucket.signGet(object.name, after(lifeMs), isAmazon ? {} : disposition((object.data as Notes).contentType))
        : bucket.plainUrl(object.name);
    return {
      backendId,
      startUpload: (name, _uploadId, proposed): Notes => {
        checkLength(proposed, maxBytes);
        const problem = refuseS3Key(name);
        if (problem !== undefined) {
          inputError('The name cannot be used for an object of the backend {{backendId}}: {{problem}}.', { backendId, problem });
        }
        return {};
      },
      upload: async ({ name }, proposed) => {
        if (proposed.dataInline) {
          const { contentType, bytes } = proposed.dataInline;
          await bucket.put(name, bytes, storedWith(contentType));
          return { dataInline: true };
        }
        if (!proposed.putUrl) {
          return {};
        }
        const { contentType, contentLength } = proposed.putUrl;
        const expires = after(PUT_URL_MS + PUT_GRACE_MS);
        const stored = storedWith(contentType);
        return {
          putUrl: {
            url: await signS3Put(store, { key: name, ...stored, contentLength, expires }),
            expires: after(PUT_URL_MS).toISOString(),
            headers: {
              'Content-Type': contentType,
              'Content-Length': String(contentLength),
              'Content-Encoding': 'identity',
              ...(stored.contentDisposition === undefined ? {} : { 'Content-Disposition': stored.contentDisposition }),
            },
          },
        };
      },
      checkUpload: async ({ name, projectId }): Promise<Notes> => {
        const found = (await bucket.head(name)) ?? noData(name);
        if (isAmazon) {
          await bucket.setTags(name, { ...tags, [PROJECT_TAG]: projectId });
        }
        return { contentType: found.contentType, sizeBytes: found.sizeBytes };
      },
      finish: async () => undefined,
      downloadMethods: ['getUrl', 'simple'],
      download: async (object, method) =>
        method === 'simple'
          ? { method, url: await getUrl(object, lifeOf(method)) }
          : {
              method,
              url: await getUrl(object, lifeOf(method)),
              expires: after(GET_URL_MS).toISOString(),
              hashes: object.hashes,
            },
      remove: objects => bucket.remove(objects.map(object => object.name)),
      prepare: bucket.prepare,
      keyOf: object => object.name,
      source: makeS3Source(bucket),
      writer: makeS3Writer({
        bucket,
        clock,
        maxBytes,
        headersFor: storedWith,
        check: async name => {
          const object = await getObject(db, name);
          if (object?.backendId !== backendId || object.removing !== null) {
            throw new BlobError(404, 'NotFound', 'The upload that this URL is for is not there any more.');
          }
          if (object.uploadId === null) {
            throw uploadFinished();
          }
        },
      }),
    };
  },
});
