/**
 * URLs of blobs: `<origin>/objects/v1/<store>/<key>?…`. What a URL grants stands in its query, and the signature covers all of it, so that a refusal
 * can say what was expected. Nothing is stored per URL.
 */
import { createHmac, timingSafeEqual } from 'node:crypto';

export const BLOB_PREFIX = '/objects/v1/';

/** What a URL allows. GET stands for HEAD as well. */
export type Grant = { readonly store: string; readonly key: string; readonly expiresMs: number } & (
  | { readonly method: 'PUT'; readonly contentType: string; readonly contentLength: number | undefined }
  | { readonly method: 'GET'; readonly attachment: boolean }
);

/** What a URL names and carries, before anybody has looked at the signature. */
export interface BlobAddress {
  readonly store: string;
  readonly key: string;
  readonly query: URLSearchParams;
}

// A key of its own, so that a signature made for another purpose never fits.
const signature = (secret: Uint8Array, grant: Grant): Buffer => {
  const key = createHmac('sha256', secret).update('taskcluster blob url').digest();
  const fields =
    grant.method === 'PUT'
      ? [grant.contentType, grant.contentLength === undefined ? '' : String(grant.contentLength)]
      : [grant.attachment ? 'attachment' : ''];
  // JSON keeps the fields apart whatever they contain
  return createHmac('sha256', key)
    .update(JSON.stringify([grant.method, grant.store, grant.key, grant.expiresMs, ...fields]))
    .digest();
};

/** Every URL parser resolves `.` and `..`, however they are escaped, and some proxies join slashes: such keys travel in the query. */
const fitsPath = (key: string): boolean => key.split('/').every(segment => segment !== '' && segment !== '.' && segment !== '..');

/** The URL without a signature, for a store that is public. */
export const blobUrl = (origin: string, store: string, key: string): URL => {
  const base = `${origin.replace(/\/+$/, '')}${BLOB_PREFIX}${encodeURIComponent(store)}/`;
  if (fitsPath(key)) {
    return new URL(base + key.split('/').map(encodeURIComponent).join('/'));
  }
  const url = new URL(base);
  url.searchParams.set('key', key);
  return url;
};

/** The URL of a grant. */
export const signBlobUrl = (origin: string, secret: Uint8Array, grant: Grant): string => {
  const url = blobUrl(origin, grant.store, grant.key);
  url.searchParams.set('expires', String(grant.expiresMs));
  if (grant.method === 'PUT') {
    url.searchParams.set('type', grant.contentType);
    if (grant.contentLength !== undefined) {
      url.searchParams.set('length', String(grant.contentLength));
    }
  } else if (grant.attachment) {
    url.searchParams.set('attachment', '1');
  }
  url.searchParams.set('signature', signature(secret, grant).toString('base64url'));
  return url.href;
};

/** Takes a request's URL apart; undefined when it names no blob. */
export const parseBlobUrl = (requestUrl: string): BlobAddress | undefined => {
  const at = requestUrl.indexOf('?');
  const path = at === -1 ? requestUrl : requestUrl.slice(0, at);
  const query = new URLSearchParams(at === -1 ? '' : requestUrl.slice(at + 1));
  const rest = path.slice(BLOB_PREFIX.length);
  const slash = rest.indexOf('/');
  if (!path.startsWith(BLOB_PREFIX) || slash < 1) {
    return undefined;
  }
  try {
    const store = decodeURIComponent(rest.slice(0, slash));
    const key =
      query.get('key') ??
      rest
        .slice(slash + 1)
        .split('/')
        .map(decodeURIComponent)
        .join('/');
    // Postgres stores no NUL: nothing has such a key
    return key === '' || `${store}${key}`.includes('\0') ? undefined : { store, key, query };
  } catch {
    return undefined;
  }
};

export type Verdict = { readonly grant: Grant } | { readonly refused: 'unsigned' | 'forged' | 'expired' };

/** What the URL grants to a PUT, or to a GET or HEAD. */
export const verifyBlobUrl = (secret: Uint8Array, method: 'PUT' | 'GET', address: BlobAddress, nowMs: number): Verdict => {
  const { store, key, query } = address;
  const given = query.get('signature');
  if (given === null) {
    return { refused: 'unsigned' };
  }
  const length = query.get('length');
  const common = { store, key, expiresMs: Number(query.get('expires')) };
  const grant: Grant =
    method === 'PUT'
      ? { ...common, method, contentType: query.get('type') ?? '', contentLength: length === null ? undefined : Number(length) }
      : { ...common, method, attachment: query.get('attachment') === '1' };
  const [expected, actual] = [signature(secret, grant), Buffer.from(given, 'base64url')];
  if (expected.length !== actual.length || !timingSafeEqual(expected, actual)) {
    return { refused: 'forged' };
  }
  return grant.expiresMs < nowMs ? { refused: 'expired' } : { grant };
};
