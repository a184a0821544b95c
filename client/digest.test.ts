import { expect, test } from 'vitest';
import { base64, base64url, createDigest, createPortableDigest, hmacSha256, portableHmacSha256, utf8 } from './digest.ts';

test.each(['sha256', 'sha512'] as const)('both %s digests agree', algorithm => {
  const [native, portable] = [createDigest(algorithm), createPortableDigest(algorithm)];
  for (const piece of ['a', '', 'bc'.repeat(1000)]) {
    native.update(utf8(piece));
    portable.update(utf8(piece));
  }
  expect(portable.hex()).toBe(native.hex());
});

test('both HMACs agree', () => {
  expect(base64(portableHmacSha256('key ü', 'text é'))).toBe(base64(hmacSha256('key ü', 'text é')));
});

test('base64 of many bytes', () => {
  const bytes = Uint8Array.from({ length: 20_000 }, (_, index) => index % 256);
  expect(base64(bytes)).toBe(Buffer.from(bytes).toString('base64'));
  expect(base64url(bytes.subarray(0, 1000))).toBe(Buffer.from(bytes.subarray(0, 1000)).toString('base64url'));
});
