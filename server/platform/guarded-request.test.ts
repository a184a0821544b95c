import { describe, expect, test } from 'vitest';
import { openReceiver } from '../testing/receiver.ts';
import { guardedRequest, isPrivateAddress, PrivateAddress } from './guarded-request.ts';

test.each([
  '127.0.0.1',
  '127.255.255.254',
  '0.0.0.0',
  '10.1.2.3',
  '172.16.0.1',
  '172.31.255.255',
  '192.168.1.1',
  '169.254.169.254',
  '100.64.0.1',
  '224.0.0.1',
  '255.255.255.255',
  '::',
  '::1',
  '::ffff:127.0.0.1',
  '::ffff:7f00:1',
  '::127.0.0.1',
  '64:ff9b::7f00:1',
  'fe80::1',
  'fc00::1',
  'fd12:3456::1',
  'ff02::1',
  '2002:7f00:1::',
  'localhost',
  '',
])('%j is private', address => {
  expect(isPrivateAddress(address)).toBe(true);
});

test.each(['8.8.8.8', '172.32.0.1', '100.128.0.1', '2606:4700::1111', '::ffff:8.8.8.8', '::ffff:808:808'])('%s is public', address => {
  expect(isPrivateAddress(address)).toBe(false);
});

describe('a guarded request', async () => {
  const receiver = await openReceiver();
  const { port } = new URL(receiver.url);
  const request = (url: string, allowPrivate = false): Promise<number> =>
    guardedRequest({ url, method: 'POST', headers: { 'x-a': 'b' }, body: 'ü', allowPrivate, signal: AbortSignal.timeout(20_000) });

  test.each([
    `http://127.0.0.1:${port}/`,
    `http://localhost:${port}/`,
    `http://[::1]:${port}/`,
    `http://[::ffff:127.0.0.1]:${port}/`,
    `http://2130706433:${port}/`,
    `http://0x7f.1:${port}/`,
    `http://0177.0.0.1:${port}/`,
    `http://0:${port}/`,
    'http://169.254.169.254/latest/meta-data/',
    `https://127.0.0.1:${port}/`,
  ])('does not go to %s', async url => {
    await expect(request(url)).rejects.toThrow(PrivateAddress);
    expect(receiver.taken()).toEqual([]);
  });

  test('goes there where the operator allows it', async () => {
    receiver.answer({ status: 204 });
    expect(await request(`http://localhost:${port}/a?b=c`, true)).toBe(204);
    expect(receiver.taken()).toMatchObject([{ method: 'POST', url: '/a?b=c', body: 'ü', headers: { 'x-a': 'b', 'content-length': '2' } }]);
  });

  test('does not follow redirects', async () => {
    receiver.answer({ status: 302, headers: { location: `http://127.0.0.1:${port}/elsewhere` } });
    expect(await request(`http://127.0.0.1:${port}/`, true)).toBe(302);
    expect(receiver.taken()).toHaveLength(1);
  });

  test('ends with its signal', async () => {
    receiver.answer({ hang: true });
    const call = guardedRequest({
      url: receiver.url,
      method: 'GET',
      headers: {},
      body: '',
      allowPrivate: true,
      signal: AbortSignal.timeout(100),
    });
    await expect(call).rejects.toThrow(/abort|timeout/i);
  });
});
