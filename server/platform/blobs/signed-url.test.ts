import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { type BlobAddress, blobUrl, type Grant, parseBlobUrl, signBlobUrl, verifyBlobUrl } from './signed-url.ts';

const SECRET = Buffer.alloc(32, 1);
const ORIGIN = 'https://tc.example';
const put: Grant = { method: 'PUT', store: 's', key: 'a/b', expiresMs: 1000, contentType: 'text/plain', contentLength: 5 };
const get: Grant = { method: 'GET', store: 's', key: 'a/b', expiresMs: 1000, attachment: false };

const addressOf = (url: string): BlobAddress => {
  const { pathname, search } = new URL(url);
  return parseBlobUrl(pathname + search) as BlobAddress;
};

test('a URL gives what was signed, until it expires', () => {
  for (const grant of [put, get, { ...get, attachment: true }, { ...put, contentLength: undefined }]) {
    const address = addressOf(signBlobUrl(ORIGIN, SECRET, grant));
    expect(verifyBlobUrl(SECRET, grant.method, address, 1000)).toEqual({ grant });
    expect(verifyBlobUrl(SECRET, grant.method, address, 1001)).toEqual({ refused: 'expired' });
  }
});

test('nothing of it can be changed', () => {
  const url = signBlobUrl(ORIGIN, SECRET, put);
  const changes: ((url: URL) => void)[] = [
    u => u.searchParams.set('expires', '2000'),
    u => u.searchParams.set('type', 'text/html'),
    u => u.searchParams.set('length', '6'),
    u => u.searchParams.delete('length'),
    u => u.searchParams.set('key', 'a/c'),
    u => u.searchParams.set('signature', 'AAAA'),
    u => (u.pathname = u.pathname.replace('/s/', '/t/')),
    u => (u.pathname += 'x'),
  ];
  for (const change of changes) {
    const changed = new URL(url);
    change(changed);
    expect(verifyBlobUrl(SECRET, 'PUT', addressOf(changed.href), 0), changed.href).toEqual({ refused: 'forged' });
  }
  expect(verifyBlobUrl(SECRET, 'GET', addressOf(url), 0)).toEqual({ refused: 'forged' });
  expect(verifyBlobUrl(Buffer.alloc(32, 2), 'PUT', addressOf(url), 0)).toEqual({ refused: 'forged' });
  expect(verifyBlobUrl(SECRET, 'GET', addressOf(blobUrl(ORIGIN, 's', 'a/b').href), 0)).toEqual({ refused: 'unsigned' });
});

test('every name travels unchanged', () => {
  const name = fc.oneof(
    fc.string({ unit: fc.integer({ min: 0x20, max: 0x7e }).map(code => String.fromCharCode(code)), minLength: 1 }),
    fc.array(fc.constantFrom('.', '..', '', 'a', '%2e%2e', 'x?y', '#', '\\'), { minLength: 2 }).map(parts => parts.join('/')),
  );
  fc.assert(
    fc.property(name, key => {
      const grant: Grant = { ...get, key };
      const address = addressOf(signBlobUrl(ORIGIN, SECRET, grant));
      expect(address.key).toBe(key);
      expect(verifyBlobUrl(SECRET, 'GET', address, 0)).toEqual({ grant });
      expect(addressOf(blobUrl(ORIGIN, 'public', key).href)).toMatchObject({ store: 'public', key });
    }),
  );
});

test.each(['/objects/v1/', '/objects/v1/store', '/objects/v1/store/', '/objects/v1/store/%zz', '/other/store/key'])(
  '%s names no blob',
  url => {
    expect(parseBlobUrl(url)).toBeUndefined();
  },
);
