/**
 * Encodings of stored bytes. They are served as they were stored to whoever accepts that, which a client without an `Accept-Encoding` header does
 * (RFC 9110 §12.5.3, and what S3 does); one that lists others only, such as `identity`, gets them decoded on the way.
 */
import type { Transform } from 'node:stream';
import zlib from 'node:zlib';

const DECODERS: Readonly<Record<string, () => Transform>> = {
  gzip: () => zlib.createGunzip(),
  'x-gzip': () => zlib.createGunzip(),
  deflate: () => zlib.createInflate(),
  br: () => zlib.createBrotliDecompress(),
  zstd: () => zlib.createZstdDecompress(),
};

/** Whether an `Accept-Encoding` header admits an encoding. */
export const acceptsEncoding = (header: string | undefined, encoding: string): boolean => {
  if (header === undefined) {
    return true;
  }
  let wildcard = false;
  for (const entry of header.toLowerCase().split(',')) {
    const [name = '', ...parameters] = entry.split(';').map(part => part.trim());
    const refused = parameters.some(parameter => /^q\s*=\s*0(\.0*)?$/.test(parameter));
    if (name === encoding.toLowerCase()) {
      return !refused;
    }
    wildcard ||= name === '*' && !refused;
  }
  return wildcard;
};

/** A stream that undoes an encoding; undefined for one that is not known here. */
export const makeDecoder = (encoding: string): Transform | undefined => DECODERS[encoding.toLowerCase()]?.();
