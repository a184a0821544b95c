/**
 * Artifacts: from the queue's word on where one is, or should go, to its bytes. Object artifacts travel with credentials of their own,
 * which the queue hands out per artifact; hence `objectClient` makes a client from credentials.
 */
import type { Credentials } from './client.ts';
import { downloadObject, uploadObject, type ObjectClient } from './objects.ts';
import { getBytes, putBytes, TransferError, type OpenSink, type OpenSource, type Received, type TransferOptions } from './transfer.ts';

/** What `artifact` and `latestArtifact` of the queue answer. */
export type ArtifactContent =
  | { readonly storageType: 's3' | 'reference'; readonly url: string }
  | { readonly storageType: 'object'; readonly name: string; readonly credentials: Credentials }
  | { readonly storageType: 'error'; readonly reason: string; readonly message: string };

interface RunParams {
  readonly taskId: string;
  readonly runId: string;
  readonly name: string;
}

/** An artifact that its task reported as impossible to provide. */
export class ArtifactError extends Error {
  readonly code = 'ArtifactError';
  readonly reason: string;
  constructor(name: string, reason: string, message: string) {
    super(`The artifact ${name} has no content (${reason}): ${message}`);
    this.name = 'ArtifactError';
    this.reason = reason;
  }
}

export interface ArtifactDownload extends TransferOptions {
  readonly queue: {
    artifact(params: RunParams): Promise<unknown>;
    latestArtifact(params: Omit<RunParams, 'runId'>): Promise<unknown>;
  };
  readonly objectClient: (credentials: Credentials) => Pick<ObjectClient, 'startDownload'>;
  readonly taskId: string;
  /** Default: the latest run. */
  readonly runId?: string | undefined;
  readonly name: string;
  readonly openSink: OpenSink;
  /** Refuses an artifact whose URL was chosen by its task. Default false. */
  readonly managedOnly?: boolean;
}

/**
 * Downloads one artifact of any storage type; links have been followed by the queue. Object artifacts are verified by their hashes.
 * @throws {ArtifactError} for an artifact of type error; {TransferError} when the bytes cannot be had; `ApiCallError` (404, 403) from the queue
 */
export const downloadArtifact = async (
  download: ArtifactDownload,
): Promise<Received & { readonly storageType: ArtifactContent['storageType'] }> => {
  const { queue, taskId, runId, name, openSink } = download;
  const content = (await (runId === undefined
    ? queue.latestArtifact({ taskId, name })
    : queue.artifact({ taskId, runId, name }))) as ArtifactContent;
  const { storageType } = content;
  switch (content.storageType) {
    case 'error':
      throw new ArtifactError(name, content.reason, content.message);
    case 'object':
      return {
        storageType,
        ...(await downloadObject({ ...download, object: download.objectClient(content.credentials), name: content.name })),
      };
    case 'reference':
    case 's3': {
      if (download.managedOnly && storageType === 'reference') {
        throw new TransferError(
          `The artifact ${name} is a reference to a URL that its task chose; only artifacts stored by the installation are accepted here.`,
        );
      }
      const { url } = content;
      return { storageType, ...(await getBytes(async () => url, openSink, download)) };
    }
    default:
      throw new TransferError(`The artifact ${name} has the storage type ${storageType}, which this client does not know.`);
  }
};

/** What `createArtifact` of the queue answers for bytes. */
type CreatedArtifact =
  | { readonly storageType: 's3'; readonly putUrl: string; readonly expires: string; readonly contentType: string }
  | {
      readonly storageType: 'object';
      readonly name: string;
      readonly projectId: string;
      readonly uploadId: string;
      readonly credentials: Credentials;
      readonly expires: string;
    };

export interface ArtifactUpload extends TransferOptions {
  readonly queue: {
    createArtifact(
      params: RunParams,
      body: { storageType: 's3' | 'object'; expires: string; contentType: string; contentLength?: number },
    ): Promise<unknown>;
    finishArtifact(params: RunParams, body: { uploadId: string }): Promise<unknown>;
  };
  readonly objectClient: (credentials: Credentials) => ObjectClient;
  readonly taskId: string;
  readonly runId: string;
  readonly name: string;
  readonly storageType: 's3' | 'object';
  readonly expires: Date;
  readonly contentType: string;
  /** Of the bytes as they are sent, that is after an encoding. */
  readonly contentLength: number;
  /** `gzip` when the source is compressed. Object artifacts are stored as they are: not for them. */
  readonly contentEncoding?: string | undefined;
  readonly openSource: OpenSource;
}

/**
 * Declares an artifact and uploads its bytes; when this returns, others can read it. May be repeated.
 * @throws {TransferError} when the bytes were refused or are not `contentLength`; `ApiCallError` when queue or object service refuse
 */
export const uploadArtifact = async (upload: ArtifactUpload): Promise<{ readonly sizeBytes: number; readonly sha256: string }> => {
  const { queue, taskId, runId, name, storageType, contentType, contentLength, contentEncoding, openSource } = upload;
  if (contentEncoding !== undefined && storageType === 'object') {
    throw new TypeError(`The artifact ${name} cannot be stored with the encoding ${contentEncoding}: objects are stored as they are.`);
  }
  const params = { taskId, runId, name };
  const create = async () =>
    (await queue.createArtifact(params, {
      storageType,
      expires: upload.expires.toISOString(),
      contentType,
      contentLength,
    })) as CreatedArtifact;
  const created = await create();
  if (created.storageType === 'object') {
    const { projectId, uploadId, credentials } = created;
    const object = upload.objectClient(credentials);
    // the queue's answer, not the request, says what the object service was told
    const sent = await uploadObject({ ...upload, object, name: created.name, projectId, uploadId, expires: new Date(created.expires) });
    await queue.finishArtifact(params, { uploadId });
    return sent;
  }
  let target = created;
  const getTarget = async (attempt: number) => {
    // an expired URL is told by a repeat of the same declaration; a repeat is cheap, so each further try asks for one
    if (attempt > 0) {
      const renewed = await create();
      target = renewed.storageType === 's3' ? renewed : target;
    }
    return {
      url: target.putUrl,
      headers: {
        'content-type': contentType,
        'content-length': String(contentLength),
        ...(contentEncoding === undefined ? {} : { 'content-encoding': contentEncoding }),
      },
    };
  };
  return putBytes(getTarget, contentLength, openSource, upload);
};
