/** Compression of answers. Here and not by a plugin: hooks cost every request, and few answers are large. */
import { promisify } from 'node:util';
import zlib from 'node:zlib';
import { negotiate } from '@fastify/accept-negotiator';

const MIN_BYTES = 1024;
const FAST = { level: 1 }; // answers are for now, not for keeping

const METHODS: Readonly<Record<string, (text: string) => Promise<Buffer>>> = {
  gzip: text => promisify<string, zlib.ZlibOptions, Buffer>(zlib.gzip)(text, FAST),
  br: text =>
    promisify<string, zlib.BrotliOptions, Buffer>(zlib.brotliCompress)(text, { params: { [zlib.constants.BROTLI_PARAM_QUALITY]: 1 } }),
  deflate: text => promisify<string, zlib.ZlibOptions, Buffer>(zlib.deflate)(text, FAST),
};
const ENCODINGS = Object.keys(METHODS);

/** The text as a client that sent this `Accept-Encoding` wants it; undefined when it is to be sent as it is. */
export const compressFor = async (
  acceptEncoding: string | string[] | undefined,
  text: string,
): Promise<{ encoding: string; bytes: Buffer } | undefined> => {
  // most answers are small; a text has at least as many bytes as characters
  if (acceptEncoding === undefined || (text.length < MIN_BYTES && Buffer.byteLength(text) < MIN_BYTES)) {
    return undefined;
  }
  const encoding = negotiate(String(acceptEncoding).toLowerCase(), [...ENCODINGS, 'identity']);
  const method = encoding === null ? undefined : METHODS[encoding];
  return encoding !== null && method ? { encoding, bytes: await method(text) } : undefined;
};
