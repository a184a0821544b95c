/** Objects in the local folder, served by this installation itself under signed URLs. */
import { createHash } from 'node:crypto';
import { Readable } from 'node:stream';
import { ApiError, inputError } from '../../../platform/errors.ts';
import { MAX_KEY_LENGTH, objectStore } from '../../../platform/blobs/blob-store.ts';
import { sealBlob } from '../../../platform/blobs/blobs.db.ts';
import { makeFolderSource, makeLocalStore } from '../../../platform/blobs/local-store.ts';
import { BlobError } from '../../../platform/blobs/arriving.ts';
import { checkLength, lifeOf, noData, GET_URL_MS, PUT_GRACE_MS, PUT_URL_MS, refuseUnknownKeys } from './common.ts';
import { defineBackend, type Backend, type StoredObject } from './backend.ts';

/** What is kept with an object: the key of its bytes. Each upload has its own, so that a URL of an earlier upload of the name writes nothing here. */
interface Notes {
  readonly key: string;
}
const keyOf = (object: StoredObject): string => (object.data as Notes).key;

/** The upload may have been finished meanwhile, or the disk is full. */
const toApiError = ({ status, message }: BlobError): ApiError =>
  new ApiError(status === 409 ? 'RequestConflict' : 'ServiceUnavailable', message);

export const local = defineBackend<object>({
  type: 'local',
  read: config => {
    refuseUnknownKeys('local', config, []);
    return {};
  },
  open: (backendId, _config, context): Backend => {
    const { clock } = context;
    const folder = context.folder();
    const store = makeLocalStore({ ...context, name: objectStore(backendId) });
    const after = (ms: number): Date => new Date(clock.nowMs() + ms);
    return {
      backendId,
      startUpload: (name, uploadId, proposed): Notes => {
        checkLength(proposed, folder.maxBytes);
        // the upload id is a secret, and the key is seen in URLs
        const key = `${createHash('sha256').update(uploadId).digest('base64url').slice(0, 16)}/${name}`;
        if (key.length > MAX_KEY_LENGTH) {
          inputError('The name is {{length}} characters long; {{max}} are possible.', {
            length: name.length,
            max: MAX_KEY_LENGTH - (key.length - name.length),
          });
        }
        return { key };
      },
      upload: async (object, proposed) => {
        const key = keyOf(object);
        if (proposed.dataInline) {
          const { contentType, bytes } = proposed.dataInline;
          try {
            await folder.write({ store: store.name, key, contentType, contentEncoding: undefined }, Readable.from([bytes]));
          } catch (error) {
            throw error instanceof BlobError ? toApiError(error) : error;
          }
          return { dataInline: true };
        }
        if (proposed.putUrl) {
          const { contentType, contentLength } = proposed.putUrl;
          return {
            putUrl: {
              url: await store.signPut({ key, contentType, contentLength, expires: after(PUT_URL_MS + PUT_GRACE_MS) }),
              expires: after(PUT_URL_MS).toISOString(),
              headers: { 'Content-Type': contentType, 'Content-Length': String(contentLength), 'Content-Encoding': 'identity' },
            },
          };
        }
        return {};
      },
      checkUpload: async object => object.data,
      finish: async (tx, object) => {
        if (!(await sealBlob(tx, store.name, keyOf(object)))) {
          noData(object.name);
        }
      },
      downloadMethods: ['getUrl', 'simple'],
      download: async (object, method) => {
        const key = keyOf(object);
        if (method === 'simple') {
          return { method, url: await store.signGet({ key, expires: after(lifeOf(method)), attachment: true }) };
        }
        return {
          method,
          url: await store.signGet({ key, expires: after(lifeOf(method)), attachment: true }),
          expires: after(GET_URL_MS).toISOString(),
          hashes: object.hashes,
        };
      },
      remove: objects => store.remove(objects.map(keyOf)),
      keyOf,
      source: makeFolderSource(store.name, context.db, folder),
    };
  },
});
