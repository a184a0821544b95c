import { expect, test } from 'vitest';
import { findRegion, readRegions } from './regions.ts';

const regions = readRegions({
  west: ['10.1.0.0/16', '2001:db8:1::/48', '192.0.2.7'],
  east: ['10.0.0.0/8', '2001:db8::/32'],
  header: [],
});

test.each([
  ['10.1.2.3', 'west'],
  ['10.2.2.3', 'east'],
  ['::ffff:10.1.2.3', 'west'],
  ['192.0.2.7', 'west'],
  ['192.0.2.8', undefined],
  ['2001:db8:1::5', 'west'],
  ['2001:DB8:0:0:0:0:0:1', 'east'],
  ['2001:db9::1', undefined],
  ['fe80::1%eth0', undefined],
  ['nonsense', undefined],
  ['', undefined],
  [undefined, undefined],
])('the address %s is in %s', (sourceIp, region) => {
  expect(findRegion(regions, { headers: {}, sourceIp })).toBe(region);
});

test('the header wins, unless it names no region', () => {
  const find = (header: string | string[], sourceIp?: string) =>
    findRegion(regions, { headers: { 'x-taskcluster-region': header as string }, sourceIp });
  expect(find('header', '10.1.2.3')).toBe('header');
  expect(find('east')).toBe('east');
  expect(find('mars', '10.1.2.3')).toBe('west');
  expect(find('mars')).toBeUndefined();
  expect(find('', '10.1.2.3')).toBe('west');
  expect(find('__proto__')).toBeUndefined();
  expect(findRegion([], { headers: { 'x-taskcluster-region': 'west' }, sourceIp: '10.1.2.3' })).toBeUndefined();
});

test.each([
  [[], 'must be an object'],
  [null, 'must be an object'],
  [{ 'a b': [] }, 'has the region "a b"'],
  [{ a: '10.0.0.0/8' }, 'must have for a a list'],
  [{ a: ['10.0.0.0/33'] }, 'the address range "10.0.0.0/33"'],
  [{ a: ['10.0.0/8'] }, 'the address range "10.0.0/8"'],
  [{ a: ['10.0.0.0/'] }, 'the address range "10.0.0.0/"'],
  [{ a: ['::/129'] }, 'the address range "::/129"'],
  [{ a: [7] }, 'the address range 7'],
])('the regions %j are refused', (value, message) => {
  expect(() => readRegions(value)).toThrow(message);
});
