import { expect, test } from 'vitest';
import { type MirrorGrant, signMirrorUrl, verifyMirrorUrl } from './mirror-url.ts';

const SECRET = Buffer.alloc(32, 1);
const grant: MirrorGrant = { region: 'us-west-1', store: 's3:bucket', key: 'a/../b c/%2F?x=1&y', untilMs: 1_000, expiresMs: 5_000 };
const verify = (url: string, nowMs = 0, secret = SECRET) => verifyMirrorUrl(secret, url.replace('https://tc.example', ''), nowMs);

test('a URL gives what was signed, until it ends', () => {
  const url = signMirrorUrl('https://tc.example/', SECRET, grant);
  expect(url).toMatch(/^https:\/\/tc\.example\/mirror\/v1\/us-west-1\?/);
  expect(verify(url, 1_000)).toEqual({ grant });
  expect(verify(url, 1_001)).toEqual({ refused: 'expired' });
});

test('nothing of it can be changed', () => {
  const url = signMirrorUrl('https://tc.example', SECRET, grant);
  for (const name of ['store', 'key', 'until', 'expires', 'signature']) {
    const [changed, without] = [new URL(url), new URL(url)];
    changed.searchParams.set(name, '9999');
    without.searchParams.delete(name);
    expect([verify(changed.href), verify(without.href)], name).toEqual([{ refused: 'forged' }, { refused: 'forged' }]);
  }
  expect(verify(url.replace('us-west-1', 'us-west-2'))).toEqual({ refused: 'forged' });
  expect(verify(url, 0, Buffer.alloc(32, 2))).toEqual({ refused: 'forged' });
  for (const bad of ['/mirror/v1/', '/mirror/v1/%zz?x', '/mirror/v1/a?signature=%%', '//']) {
    expect(verify(bad)).toEqual({ refused: 'forged' });
  }
});
