/**
 * Requests to URLs that are not ours, which must not lead into the installation's own network (SSRF): what counts is the address that is connected to,
 * checked when the connection is made, so that no name can mean one thing when it is checked and another when it is used. Redirects are not followed.
 */
import dns from 'node:dns';
import http from 'node:http';
import https from 'node:https';
import net from 'node:net';

const PRIVATE = new net.BlockList();
for (const [address, prefix] of [
  ['0.0.0.0', 8], // this host
  ['10.0.0.0', 8],
  ['100.64.0.0', 10], // carriers' own
  ['127.0.0.0', 8],
  ['169.254.0.0', 16], // link-local: the metadata services of clouds
  ['172.16.0.0', 12],
  ['192.0.0.0', 24],
  ['192.0.2.0', 24], // documentation
  ['192.88.99.0', 24], // relays
  ['192.168.0.0', 16],
  ['198.18.0.0', 15], // benchmarks
  ['198.51.100.0', 24],
  ['203.0.113.0', 24],
  ['224.0.0.0', 4], // multicast
  ['240.0.0.0', 4],
] as const) {
  PRIVATE.addSubnet(address, prefix, 'ipv4');
}
for (const [address, prefix] of [
  ['::', 96], // this host, loopback, and IPv4 in disguise
  ['64:ff9b::', 96], // IPv4 behind translators
  ['64:ff9b:1::', 48],
  ['100::', 64],
  ['2001::', 23],
  ['2001:db8::', 32],
  ['2002::', 16], // 6to4
  ['fc00::', 7], // unique local
  ['fe80::', 10],
  ['fec0::', 10],
  ['ff00::', 8],
] as const) {
  PRIVATE.addSubnet(address, prefix, 'ipv6');
}

/** Whether an address is not one of the public Internet. */
export const isPrivateAddress = (address: string): boolean => {
  const mapped = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(address)?.[1];
  if (mapped !== undefined) {
    return PRIVATE.check(mapped, 'ipv4');
  }
  const family = net.isIP(address);
  return family === 0 || PRIVATE.check(address, family === 4 ? 'ipv4' : 'ipv6');
};

/** The address is one of the installation's own network. */
export class PrivateAddress extends Error {
  override readonly name = 'PrivateAddress';
}

type Found = string | readonly dns.LookupAddress[];

/** `dns.lookup` that refuses names which lead to private addresses, all of them if only one does. */
const guardedLookup = (
  hostname: string,
  options: dns.LookupOptions,
  callback: (error: NodeJS.ErrnoException | null, address: Found, family?: number) => void,
): void => {
  dns.lookup(hostname, options as dns.LookupAllOptions, (error, found: Found, family?: number) => {
    const addresses = typeof found === 'string' ? [found] : (found ?? []).map(({ address }) => address);
    const bad = error ? undefined : addresses.find(isPrivateAddress);
    callback(bad === undefined ? error : new PrivateAddress(`${hostname} is ${bad}, an address of a private network`), found, family);
  });
};

export interface GuardedRequest {
  readonly url: string;
  readonly method: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
  /** Skips the check. */
  readonly allowPrivate: boolean;
  readonly signal: AbortSignal;
}

/**
 * Sends a request; answers with the status. The body of the answer is thrown away.
 *
 * @throws {PrivateAddress} when the URL leads into a private network
 */
export const guardedRequest = ({ url, method, headers, body, allowPrivate, signal }: GuardedRequest): Promise<number> =>
  new Promise((resolve, reject) => {
    const { protocol, hostname } = new URL(url);
    const host = hostname.replace(/^\[|\]$/g, '');
    // addresses are not looked up
    if (!allowPrivate && net.isIP(host) !== 0 && isPrivateAddress(host)) {
      reject(new PrivateAddress(`${host} is an address of a private network`));
      return;
    }
    const request = (protocol === 'https:' ? https : http).request(
      url,
      {
        method,
        headers: { ...headers, 'content-length': Buffer.byteLength(body) },
        // no agent: a kept connection would not be looked up again
        agent: false,
        signal,
        ...(allowPrivate ? {} : { lookup: guardedLookup as net.LookupFunction }),
      },
      response => {
        response.resume();
        response.on('error', () => undefined);
        resolve(response.statusCode ?? 0);
        response.destroy();
      },
    );
    request.on('error', reject);
    request.end(body);
  });
