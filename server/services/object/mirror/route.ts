/** Serves `/mirror/v1/`: who comes with a URL that was signed for a region is sent to the copy there, or to the original. */
import type { BlobStore } from '../../../platform/blobs/blob-store.ts';
import type { Clock } from '../../../platform/clock.ts';
import { MIRROR_PREFIX, verifyMirrorUrl } from '../../../platform/mirror/mirror-url.ts';
import { HttpReply, type RawRoute } from '../../../platform/service.ts';
import type { Mirrors } from './mirror.ts';

export interface MirrorRouteOptions {
  readonly clock: Clock;
  readonly signingSecret: Uint8Array;
  readonly mirrors: Mirrors;
  /** Where originals are. */
  readonly stores: ReadonlyMap<string, BlobStore>;
  /** Whether URLs of a store need no signature. */
  readonly isOpen: (store: string) => boolean;
}

const HEADERS = { 'access-control-allow-origin': '*', 'access-control-expose-headers': '*', 'cache-control': 'no-store' };

const refuse = (status: number, code: string, message: string): HttpReply =>
  new HttpReply(status, { ...HEADERS, 'content-type': 'application/json; charset=utf-8' }, JSON.stringify({ code, message }));

export const makeMirrorRoute = ({ clock, signingSecret, mirrors, stores, isOpen }: MirrorRouteOptions): RawRoute => ({
  prefix: MIRROR_PREFIX,
  handle: async request => {
    if (request.method === 'OPTIONS') {
      return new HttpReply(204, {
        ...HEADERS,
        'access-control-allow-methods': 'GET, HEAD',
        'access-control-allow-headers': '*',
        'access-control-max-age': '3600',
      });
    }
    if (request.method !== 'GET' && request.method !== 'HEAD') {
      return refuse(405, 'MethodNotAllowed', `${request.method} is not possible here; GET and HEAD are.`);
    }
    const verdict = verifyMirrorUrl(signingSecret, request.url, clock.nowMs());
    if ('refused' in verdict) {
      return verdict.refused === 'expired'
        ? refuse(403, 'UrlExpired', 'This URL has expired. Ask getArtifact or the like for another.')
        : refuse(403, 'SignatureDoesNotMatch', 'The signature is not the one of this URL. Use the URL as getArtifact or the like gave it.');
    }
    const { region, store: name, key, untilMs, expiresMs } = verdict.grant;
    const store = stores.get(name);
    if (!store) {
      return refuse(404, 'NotFound', 'What this URL is for is not configured here any more.');
    }
    const until = new Date(untilMs);
    const copy = await mirrors.find(region, { store: name, key, expires: new Date(expiresMs) }, until);
    const location = copy ?? (isOpen(name) ? await store.plainUrl(key) : await store.signGet({ key, expires: until }));
    return new HttpReply(303, { ...HEADERS, location });
  },
});
