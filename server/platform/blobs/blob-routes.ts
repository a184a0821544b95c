/**
 * Serves the local folder over HTTP, as S3 would: PUT, GET, HEAD and preflight requests under `/objects/v1/`; and takes PUTs for other stores. Whoever
 * has a signed URL may use it; nothing here knows of clients and scopes. Bytes stream through: memory does not grow with their number.
 *
 * What tasks have made is never trusted by a browser: it is sandboxed, and its type is never guessed.
 */
import type { IncomingHttpHeaders } from 'node:http';
import { pipeline, type Readable } from 'node:stream';
import type { Db } from '../../db/sql.ts';
import type { Clock } from '../clock.ts';
import { ApiError } from '../errors.ts';
import type { Log } from '../log.ts';
import type { Metrics } from '../metrics.ts';
import { HttpReply, type RawRequest, type RawRoute } from '../service.ts';
import { BlobError, uploadFinished } from './arriving.ts';
import type { BlobFolder } from './blob-folder.ts';
import type { BlobWriter } from './blob-store.ts';
import { type BlobRow, getBlob } from './blobs.db.ts';
import { acceptsEncoding, makeDecoder } from './encoding.ts';
import { isHtml } from './html.ts';
import { chooseRange } from './range.ts';
import { BLOB_PREFIX, type BlobAddress, type Grant, parseBlobUrl, verifyBlobUrl } from './signed-url.ts';

export interface BlobRouteOptions {
  readonly db: Db;
  readonly clock: Clock;
  readonly log: Log;
  readonly metrics: Metrics;
  /** Default: none, and there is nothing to get here. */
  readonly folder?: BlobFolder | undefined;
  /** Stores that are elsewhere, and take through here what clients cannot send them. */
  readonly writers?: ReadonlyMap<string, BlobWriter>;
  /** More bytes are refused. */
  readonly maxBytes: number;
  readonly signingSecret: Uint8Array;
  /** Stores whose blobs may be read without a signature. */
  readonly publicStores: readonly string[];
}

const CORS = {
  'access-control-allow-origin': '*',
  'access-control-expose-headers': '*',
  'x-content-type-options': 'nosniff',
};
const READ_BYTES = 256 * 1024;
const ENCODINGS = /^[a-zA-Z0-9-]{1,32}(\s*,\s*[a-zA-Z0-9-]{1,32}){0,3}$/;

const refuse = (status: number, code: string, message: string, headers: Readonly<Record<string, string>> = {}): HttpReply =>
  new HttpReply(
    status,
    { ...CORS, 'content-type': 'application/json; charset=utf-8', 'cache-control': 'no-store', ...headers },
    JSON.stringify({ code, message }),
  );

/** The route that serves the folder. */
export const makeBlobRoute = (options: BlobRouteOptions): RawRoute => {
  const { db, clock, log, folder, writers, maxBytes, signingSecret } = options;
  const publicStores = new Set(options.publicStores);
  const transfers = options.metrics.counter('blob_requests_total', 'Requests for bytes of objects and artifacts', ['method', 'status']);

  const put = async (request: RawRequest, address: BlobAddress): Promise<HttpReply> => {
    const verdict = verifyBlobUrl(signingSecret, 'PUT', address, clock.nowMs());
    if ('refused' in verdict) {
      return refuseUrl(verdict.refused, 'createUpload or createArtifact');
    }
    const grant = verdict.grant as Extract<Grant, { method: 'PUT' }>;
    const problem = checkPutHeaders(grant, request.headers);
    if (problem) {
      return problem;
    }
    const encoding = (request.headers['content-encoding'] ?? '').trim();
    if (encoding !== '' && !ENCODINGS.test(encoding)) {
      return refuse(400, 'InvalidHeader', `The header Content-Encoding is "${encoding}", which is no encoding.`);
    }
    if (Number(request.headers['content-length'] ?? 0) > maxBytes) {
      return refuse(
        413,
        'TooLarge',
        `The header Content-Length is ${request.headers['content-length']}; ${maxBytes} bytes are accepted here.`,
      );
    }
    const incoming = {
      key: grant.key,
      contentType: grant.contentType,
      contentEncoding: encoding === '' || encoding.toLowerCase() === 'identity' ? undefined : encoding.toLowerCase(),
      contentLength: grant.contentLength,
    };
    const writer = writers?.get(grant.store);
    if (writer) {
      return new HttpReply(200, { ...CORS, etag: (await writer.write(incoming, request.body)).etag });
    }
    if (!folder) {
      return refuse(404, 'NotFound', 'What this URL is for is not configured here any more.');
    }
    if ((await getBlob(db, grant.store, grant.key))?.sealed) {
      throw uploadFinished();
    }
    const { digest } = await folder.write({ store: grant.store, ...incoming }, request.body);
    return new HttpReply(200, { ...CORS, etag: `"${digest}"` });
  };

  const get = async (request: RawRequest, address: BlobAddress): Promise<HttpReply> => {
    const verdict = verifyBlobUrl(signingSecret, 'GET', address, clock.nowMs());
    const isPublic = 'refused' in verdict && verdict.refused === 'unsigned' && publicStores.has(address.store);
    if ('refused' in verdict && !isPublic) {
      return refuseUrl(verdict.refused, 'startDownload, getArtifact or the like');
    }
    const attachment = 'grant' in verdict && verdict.grant.method === 'GET' && verdict.grant.attachment;
    // a file may be replaced between looking it up and opening it; what replaced it is there then
    for (let attempt = 1; attempt <= 2; attempt++) {
      const blob = await getBlob(db, address.store, address.key);
      if (!blob) {
        break;
      }
      const reply = await sendBlob(request, blob, attachment);
      if (reply) {
        return reply;
      }
      if (attempt === 2) {
        log.error({ store: address.store, digest: blob.digest }, 'a stored file is missing');
      }
    }
    return refuse(404, 'NotFound', 'Nothing is stored here: it was not uploaded yet, or has expired.');
  };

  const sendBlob = async (request: RawRequest, blob: BlobRow, attachment: boolean): Promise<HttpReply | undefined> => {
    const decoder =
      blob.contentEncoding !== undefined && !acceptsEncoding(single(request.headers['accept-encoding']), blob.contentEncoding)
        ? makeDecoder(blob.contentEncoding)
        : undefined;
    const etag = decoder ? `"${blob.digest}-decoded"` : `"${blob.digest}"`;
    const headers: Record<string, string> = {
      ...CORS,
      'content-security-policy': 'sandbox',
      'cache-control': 'no-cache',
      'content-type': blob.contentType === '' ? 'application/octet-stream' : blob.contentType,
      etag,
      'accept-ranges': decoder ? 'none' : 'bytes',
      ...(blob.contentEncoding === undefined ? {} : { vary: 'Accept-Encoding' }),
      ...(blob.contentEncoding === undefined || decoder ? {} : { 'content-encoding': blob.contentEncoding }),
      ...(attachment && isHtml(blob.contentType) ? { 'content-disposition': 'attachment' } : {}),
    };
    const known = single(request.headers['if-none-match']);
    if (known !== undefined && known.split(',').some(each => each.trim().replace(/^W\//, '') === etag || each.trim() === '*')) {
      return new HttpReply(304, headers);
    }
    const ifRange = single(request.headers['if-range']);
    const rangeHeader = ifRange === undefined || ifRange.trim() === etag ? single(request.headers.range) : undefined;
    const range = decoder ? ({ kind: 'all' } as const) : chooseRange(rangeHeader, blob.sizeBytes);
    if (range.kind === 'none') {
      return refuse(416, 'RangeNotSatisfiable', `There are ${blob.sizeBytes} bytes here; the header Range asks for none of them.`, {
        'content-range': `bytes */${blob.sizeBytes}`,
      });
    }
    const [start, end] = range.kind === 'part' ? [range.start, range.end] : [0, blob.sizeBytes - 1];
    const status = range.kind === 'part' ? 206 : 200;
    if (range.kind === 'part') {
      headers['content-range'] = `bytes ${start}-${end}/${blob.sizeBytes}`;
    }
    if (!decoder) {
      headers['content-length'] = String(end - start + 1);
    }
    if (request.method === 'HEAD') {
      return new HttpReply(status, headers);
    }
    const handle = await folder?.open(blob.digest);
    if (!handle) {
      return undefined;
    }
    if (blob.sizeBytes === 0) {
      await handle.close();
      return new HttpReply(status, headers, decoder ? undefined : Buffer.alloc(0));
    }
    const bytes = handle.createReadStream({ start, end, highWaterMark: READ_BYTES });
    if (!decoder) {
      return new HttpReply(status, headers, bytes);
    }
    const decoded: Readable = pipeline(bytes, decoder, error => {
      if (error && error.code !== 'ERR_STREAM_PREMATURE_CLOSE') {
        log.warn({ err: error, digest: blob.digest }, 'stored bytes could not be decoded');
      }
    });
    return new HttpReply(status, headers, decoded);
  };

  const answer = async (request: RawRequest): Promise<HttpReply> => {
    if (request.method === 'OPTIONS') {
      return new HttpReply(204, {
        ...CORS,
        'access-control-allow-methods': 'GET, HEAD, PUT',
        'access-control-allow-headers': single(request.headers['access-control-request-headers']) ?? '*',
        'access-control-max-age': '3600',
      });
    }
    const address = parseBlobUrl(request.url);
    if (!address) {
      return refuse(404, 'NotFound', 'This URL names no object.');
    }
    switch (request.method) {
      case 'PUT':
        return put(request, address);
      case 'GET':
      case 'HEAD':
        return get(request, address);
      default:
        return refuse(405, 'MethodNotAllowed', `${request.method} is not possible here; GET, HEAD and PUT are.`, {
          allow: 'GET, HEAD, PUT',
        });
    }
  };

  return {
    prefix: BLOB_PREFIX,
    handle: async request => {
      let reply: HttpReply;
      try {
        reply = await answer(request);
      } catch (error) {
        if (error instanceof BlobError) {
          reply = refuse(error.status, error.code, error.message);
        } else if (error instanceof ApiError && error.code === 'ServiceUnavailable') {
          reply = refuse(503, error.code, error.message);
        } else {
          throw error;
        }
      }
      transfers.inc({ method: request.method, status: reply.status });
      return reply;
    },
  };
};

const single = (value: string | string[] | undefined): string | undefined => (Array.isArray(value) ? value.join(',') : value);

const refuseUrl = (reason: 'unsigned' | 'forged' | 'expired', source: string): HttpReply => {
  const [code, message] = {
    unsigned: ['SignatureMissing', `This URL needs a signature. Ask ${source} for one.`],
    forged: ['SignatureDoesNotMatch', `The signature is not the one of this URL and method. Use the URL as ${source} gave it.`],
    expired: ['UrlExpired', `This URL has expired. Ask ${source} for another.`],
  }[reason] as [string, string];
  return refuse(403, code, message);
};

/** The headers that the URL's signature covers. */
const checkPutHeaders = (grant: Extract<Grant, { method: 'PUT' }>, headers: IncomingHttpHeaders): HttpReply | undefined => {
  const contentType = headers['content-type'] ?? '';
  if (contentType.trim() !== grant.contentType.trim()) {
    const message = `The header Content-Type is "${contentType}", but the URL was made for "${grant.contentType}". Send exactly that.`;
    return refuse(403, 'SignatureDoesNotMatch', message);
  }
  const length = headers['content-length'];
  if (grant.contentLength !== undefined && length !== undefined && Number(length) !== grant.contentLength) {
    const message = `The header Content-Length is ${length}, but the URL was made for ${grant.contentLength}. Send exactly that many bytes.`;
    return refuse(403, 'SignatureDoesNotMatch', message);
  }
  return undefined;
};
