/** In which region a caller is, for those who send it to copies near it: the header says so, or the address. */
import net from 'node:net';
import type { IncomingHttpHeaders } from 'node:http';
import { jsonSetting } from '../config.ts';

/** Names a region, where the address does not tell. */
export const REGION_HEADER = 'x-taskcluster-region';

export interface Region {
  readonly name: string;
  readonly addresses: net.BlockList;
}

const NAME = /^[a-zA-Z0-9._-]{1,64}$/;

const addRange = (addresses: net.BlockList, region: string, range: unknown): void => {
  const [address = '', bits] = typeof range === 'string' ? range.split('/') : [];
  const family = net.isIP(address);
  const most = family === 4 ? 32 : 128;
  const prefix = bits === undefined ? most : /^\d{1,3}$/.test(bits) ? Number(bits) : Infinity;
  if (family === 0 || prefix > most) {
    throw new Error(`has for ${region} the address range ${JSON.stringify(range)}; one looks like 10.1.0.0/16 or 2001:db8::/32`);
  }
  addresses.addSubnet(address, prefix, family === 4 ? 'ipv4' : 'ipv6');
};

/** `{ "<region>": ["10.1.0.0/16", …] }`; of ranges that overlap the first region's holds. */
export const readRegions = (value: unknown): Region[] => {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new TypeError('must be an object from region to a list of address ranges');
  }
  return Object.entries(value).map(([name, ranges]) => {
    if (!NAME.test(name)) {
      throw new Error(`has the region ${JSON.stringify(name)}; a name has up to 64 letters, digits and . _ -`);
    }
    if (!Array.isArray(ranges)) {
      throw new TypeError(`must have for ${name} a list of address ranges, which may be empty`);
    }
    const addresses = new net.BlockList();
    ranges.forEach(range => addRange(addresses, name, range));
    return { name, addresses };
  });
};

export const regionSettings = {
  mirrorRegions: jsonSetting(
    'MIRROR_REGIONS',
    'regions that have a mirror: JSON from region to the address ranges of those who are in it; others say so by the header x-taskcluster-region',
    { fallback: readRegions({}) },
    readRegions,
  ),
};

/**
 * The region of a caller; undefined when it is in none. A header that names an unknown one is as good as none.
 *
 * @param sourceIp as the server understands it: with a trusted proxy, what that says
 */
export const findRegion = (
  regions: readonly Region[],
  { headers, sourceIp }: { readonly headers: IncomingHttpHeaders; readonly sourceIp: string | undefined },
): string | undefined => {
  const given = headers[REGION_HEADER];
  const named = regions.find(({ name }) => name === given);
  if (named || sourceIp === undefined || regions.length === 0) {
    return named?.name;
  }
  const address = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(sourceIp)?.[1] ?? sourceIp.replace(/%.*$/, '');
  const family = net.isIP(address);
  return family === 0 ? undefined : regions.find(({ addresses }) => addresses.check(address, family === 4 ? 'ipv4' : 'ipv6'))?.name;
};
