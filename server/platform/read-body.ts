/**
 * Reads a request's body. What is too large is still read to its end, and thrown away: a server that answers and closes while the client is sending
 * resets the connection, and the client never sees why.
 */
import type { Readable } from 'node:stream';

/** The body was larger than allowed. */
export const TOO_LARGE = Symbol('too large');

/** Beyond this many times the limit nobody is listened to. */
const PATIENCE = 10;

/** The body as text (UTF-8), or `TOO_LARGE`. */
export const readText = (body: Readable, maxBytes: number): Promise<string | typeof TOO_LARGE> =>
  new Promise((resolve, reject) => {
    const refuse = (): void => reject(Object.assign(new Error('The connection was closed before the body had ended'), { statusCode: 400 }));
    if (body.destroyed && !body.readableEnded) {
      refuse();
      return;
    }
    let chunks: Buffer[] = [];
    let sizeBytes = 0;
    body.on('data', (chunk: Buffer) => {
      sizeBytes += chunk.length;
      if (sizeBytes <= maxBytes) {
        chunks.push(chunk);
        return;
      }
      chunks = [];
      if (sizeBytes > maxBytes * PATIENCE) {
        body.removeAllListeners('data');
        body.pause();
        resolve(TOO_LARGE);
      }
    });
    body.once('end', () =>
      resolve(sizeBytes > maxBytes ? TOO_LARGE : (chunks.length === 1 ? (chunks[0] as Buffer) : Buffer.concat(chunks)).toString('utf8')),
    );
    body.once('error', error => reject(Object.assign(error, { statusCode: 400 })));
    body.once('close', () => {
      if (!body.readableEnded) {
        refuse();
      }
    });
  });
