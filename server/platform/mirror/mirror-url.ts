/**
 * URLs of originals for callers in a region: `<origin>/mirror/v1/<region>?…`. Who follows one is sent to the copy there, or to the original.
 * The queue makes them without knowing of copies; the object service serves them.
 */
import { createHmac, timingSafeEqual } from 'node:crypto';

export const MIRROR_PREFIX = '/mirror/v1/';

export interface MirrorGrant {
  readonly region: string;
  readonly store: string;
  readonly key: string;
  /** Until when the URL works. */
  readonly untilMs: number;
  /** When the original expires. */
  readonly expiresMs: number;
}

// a key of its own, so that a signature made for another purpose never fits
const signature = (secret: Uint8Array, { region, store, key, untilMs, expiresMs }: MirrorGrant): Buffer =>
  createHmac('sha256', createHmac('sha256', secret).update('taskcluster mirror url').digest())
    .update(JSON.stringify([region, store, key, untilMs, expiresMs]))
    .digest();

/** The key travels in the query: no URL parser changes anything there. */
export const signMirrorUrl = (origin: string, secret: Uint8Array, grant: MirrorGrant): string => {
  const url = new URL(`${origin.replace(/\/+$/, '')}${MIRROR_PREFIX}${encodeURIComponent(grant.region)}`);
  url.searchParams.set('store', grant.store);
  url.searchParams.set('key', grant.key);
  url.searchParams.set('until', String(grant.untilMs));
  url.searchParams.set('expires', String(grant.expiresMs));
  url.searchParams.set('signature', signature(secret, grant).toString('base64url'));
  return url.href;
};

/** What a request's URL grants. */
export const verifyMirrorUrl = (
  secret: Uint8Array,
  requestUrl: string,
  nowMs: number,
): { readonly grant: MirrorGrant } | { readonly refused: 'forged' | 'expired' } => {
  const url = URL.parse(requestUrl, 'http://any');
  const query = url?.searchParams;
  let region = '';
  try {
    region = decodeURIComponent(url?.pathname.slice(MIRROR_PREFIX.length) ?? '');
  } catch {
    return { refused: 'forged' };
  }
  const grant: MirrorGrant = {
    region,
    store: query?.get('store') ?? '',
    key: query?.get('key') ?? '',
    untilMs: Number(query?.get('until')),
    expiresMs: Number(query?.get('expires')),
  };
  const [expected, actual] = [signature(secret, grant), Buffer.from(query?.get('signature') ?? '', 'base64url')];
  if (expected.length !== actual.length || !timingSafeEqual(expected, actual)) {
    return { refused: 'forged' };
  }
  return grant.untilMs < nowMs ? { refused: 'expired' } : { grant };
};
