/**
 * Digests that work everywhere: WebCrypto hashes only whole buffers and only in secure contexts, and neither suits a 2 GiB artifact or an
 * installation that is reached over plain HTTP. Under Node its own implementation is used, which is ten times as fast as the portable one.
 */
import { hmac } from '@noble/hashes/hmac.js';
import { sha256, sha512 } from '@noble/hashes/sha2.js';

const encoder = new TextEncoder();

export type DigestAlgorithm = 'sha256' | 'sha512';

/** Takes bytes as they come; `hex()` ends it. */
export interface Digest {
  update(bytes: Uint8Array): void;
  hex(): string;
}

const hexOf = (bytes: Uint8Array): string => Array.from(bytes, byte => byte.toString(16).padStart(2, '0')).join('');

/** Standard base64 with padding. */
export const base64 = (bytes: Uint8Array): string => {
  let text = '';
  // in pieces: an argument list has a maximum length
  for (let at = 0; at < bytes.length; at += 8192) {
    text += String.fromCharCode(...bytes.subarray(at, at + 8192));
  }
  return btoa(text);
};

/** Base64 for URLs, without padding. */
export const base64url = (bytes: Uint8Array): string => base64(bytes).replaceAll('+', '-').replaceAll('/', '_').replace(/=+$/, '');

/** UTF-8 bytes of a text. */
export const utf8 = (text: string): Uint8Array => encoder.encode(text);

/** SHA-256 over a text in UTF-8. */
export const sha256Of = (text: string): Uint8Array => sha256(utf8(text));

/** A digest in pure JavaScript. */
export const createPortableDigest = (algorithm: DigestAlgorithm): Digest => {
  const state = (algorithm === 'sha256' ? sha256 : sha512).create();
  return {
    update: bytes => {
      state.update(bytes);
    },
    hex: () => hexOf(state.digest()),
  };
};

interface NodeCrypto {
  createHash(algorithm: string): { update(bytes: Uint8Array): unknown; digest(encoding: 'hex'): string };
  createHmac(algorithm: string, key: string): { update(text: string): { digest(): Uint8Array } };
}

// a browser has no such function; an import would keep this file out of browsers
const nodeCrypto = (globalThis as { process?: { getBuiltinModule?: (name: string) => unknown } }).process?.getBuiltinModule?.(
  'node:crypto',
) as NodeCrypto | undefined;

/** HMAC-SHA256 in pure JavaScript. */
export const portableHmacSha256 = (key: string, text: string): Uint8Array => hmac(sha256, utf8(key), utf8(text));

/** HMAC-SHA256 over a text in UTF-8. */
export const hmacSha256 = (key: string, text: string): Uint8Array =>
  nodeCrypto ? nodeCrypto.createHmac('sha256', key).update(text).digest() : portableHmacSha256(key, text);

/** The fastest digest this platform has. */
export const createDigest = (algorithm: DigestAlgorithm): Digest => {
  if (!nodeCrypto) {
    return createPortableDigest(algorithm);
  }
  const hash = nodeCrypto.createHash(algorithm);
  return {
    update: bytes => {
      hash.update(bytes);
    },
    hex: () => hash.digest('hex'),
  };
};
