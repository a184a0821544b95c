/** Objects of the object service, up and down in streams (protocol: object service, "What client libraries do"). */
import { slugid, systemClock, systemRandom } from './clock.ts';
import { base64, createDigest } from './digest.ts';
import {
  getBytes,
  putBytes,
  TransferError,
  type OpenSink,
  type OpenSource,
  type Received,
  type Sent,
  type TransferOptions,
} from './transfer.ts';

/** What is needed of a client of the object service. */
export interface ObjectClient {
  createUpload(
    params: { name: string },
    body: {
      projectId: string;
      uploadId: string;
      expires: string;
      proposedUploadMethods: {
        dataInline?: { contentType: string; objectData: string };
        putUrl?: { contentType: string; contentLength: number };
      };
    },
  ): Promise<{
    uploadMethod: {
      dataInline?: boolean | undefined;
      putUrl?: { url: string; expires: string; headers: Record<string, string> } | undefined;
    };
  }>;
  finishUpload(
    params: { name: string },
    body: { projectId: string; uploadId: string; hashes: { sha256: string; sha512: string } },
  ): Promise<unknown>;
  startDownload(params: { name: string }, body: { acceptDownloadMethods: { getUrl: true } }): Promise<unknown>;
}

/** Below this size the bytes travel within the API call. */
const MAX_INLINE_BYTES = 8192;

export interface ObjectUpload extends TransferOptions {
  readonly object: ObjectClient;
  readonly name: string;
  readonly projectId: string;
  /** Default: a new one. */
  readonly uploadId?: string;
  readonly expires: Date;
  readonly contentType: string;
  readonly contentLength: number;
  readonly openSource: OpenSource;
}

const readAll = async (source: ReadableStream<Uint8Array>): Promise<Uint8Array> =>
  new Uint8Array(await new Response(source as ReadableStream<Uint8Array<ArrayBuffer>>).arrayBuffer());

const streamOf = (bytes: Uint8Array): ReadableStream<Uint8Array> =>
  new ReadableStream({
    start: controller => {
      controller.enqueue(bytes);
      controller.close();
    },
  });

/**
 * Uploads one object and finishes it, small ones within the API call.
 * @throws {TransferError} when the bytes were refused or are not `contentLength`, `ApiCallError` when the service refuses
 */
export const uploadObject = async (upload: ObjectUpload): Promise<Sent & { readonly uploadId: string }> => {
  const { object, name, projectId, contentType, contentLength, clock = systemClock, random = systemRandom } = upload;
  const uploadId = upload.uploadId ?? slugid(random);
  let { openSource } = upload;
  let inline: Uint8Array | undefined;
  if (contentLength < MAX_INLINE_BYTES) {
    const bytes = await readAll(await openSource());
    if (bytes.byteLength !== contentLength) {
      throw new TransferError(`The source had ${bytes.byteLength} bytes instead of the ${contentLength} that were announced.`);
    }
    inline = bytes;
    openSource = () => streamOf(bytes);
  }
  const createUpload = () =>
    object.createUpload(
      { name },
      {
        projectId,
        uploadId,
        expires: upload.expires.toISOString(),
        proposedUploadMethods: {
          ...(inline ? { dataInline: { contentType, objectData: base64(inline) } } : {}),
          putUrl: { contentType, contentLength },
        },
      },
    );
  const first = (await createUpload()).uploadMethod;
  let sent: Sent;
  if (first.dataInline && inline) {
    sent = hashesOf(inline);
  } else if (first.putUrl) {
    let target = first.putUrl;
    const getTarget = async () => {
      if (Date.parse(target.expires) <= clock.nowMs()) {
        target = (await createUpload()).uploadMethod.putUrl ?? target;
      }
      return target;
    };
    sent = await putBytes(getTarget, contentLength, openSource, upload);
  } else {
    throw new TransferError(`The object service offers no way to upload ${name} that this client knows (putUrl, dataInline).`);
  }
  await object.finishUpload({ name }, { projectId, uploadId, hashes: { sha256: sent.sha256, sha512: sent.sha512 } });
  return { ...sent, uploadId };
};

const hashesOf = (bytes: Uint8Array): Sent => {
  const [sha256, sha512] = [createDigest('sha256'), createDigest('sha512')];
  sha256.update(bytes);
  sha512.update(bytes);
  return { sizeBytes: bytes.byteLength, sha256: sha256.hex(), sha512: sha512.hex() };
};

export interface ObjectDownload extends TransferOptions {
  readonly object: Pick<ObjectClient, 'startDownload'>;
  readonly name: string;
  readonly openSink: OpenSink;
}

interface GetUrl {
  readonly url: string;
  readonly expires: string;
  readonly hashes: Readonly<Record<string, string>>;
}

/**
 * Downloads one object and verifies it against every hash that was stored for it.
 * @throws {TransferError} when a hash differs or none that can be verified is known, or when the bytes cannot be had
 */
export const downloadObject = async (download: ObjectDownload): Promise<Received> => {
  const { object, name, clock = systemClock } = download;
  const start = async () => (await object.startDownload({ name }, { acceptDownloadMethods: { getUrl: true } })) as GetUrl;
  let source = await start();
  const getUrl = async (attempt: number): Promise<string> => {
    if (attempt > 0 && Date.parse(source.expires) <= clock.nowMs()) {
      source = await start();
    }
    return source.url;
  };
  return getBytes(getUrl, download.openSink, download, {
    sha512: source.hashes['sha512'] !== undefined,
    check: received => verifyHashes(name, source.hashes, received),
  });
};

/** @throws {TransferError} when the received bytes are not what was stored */
const verifyHashes = (name: string, hashes: Readonly<Record<string, string>>, received: Received): void => {
  const known = (['sha256', 'sha512'] as const).filter(algorithm => hashes[algorithm] !== undefined);
  if (known.length === 0) {
    throw new TransferError(`The object ${name} was stored without a sha256 or sha512: what was received cannot be verified.`);
  }
  for (const algorithm of known) {
    if (hashes[algorithm] !== received[algorithm]) {
      throw new TransferError(
        `The object ${name} arrived damaged: its ${algorithm} is ${received[algorithm]} instead of ${hashes[algorithm]}.`,
      );
    }
  }
};
