/** Bytes on their way from a client: as many as were announced, no more than are accepted, and not for ever. */
import type { Readable } from 'node:stream';
import type { Clock } from '../clock.ts';

/** A body of which nothing arrives for so long is given up. */
export const STALL_TIMEOUT_MS = 120_000;

/** Bytes were refused. `status` is HTTP's. */
export class BlobError extends Error {
  readonly status: number;
  readonly code: string;
  constructor(status: number, code: string, message: string) {
    super(message);
    this.name = 'BlobError';
    this.status = status;
    this.code = code;
  }
}

export const uploadFinished = (): BlobError =>
  new BlobError(409, 'UploadFinished', 'This upload is finished: what was stored cannot be replaced any more.');

export interface ArrivalLimits {
  /** Any other number of bytes is refused. */
  readonly contentLength: number | undefined;
  /** More bytes are refused. */
  readonly maxBytes: number;
  readonly stallTimeoutMs: number;
  readonly clock: Clock;
}

const wrongLength = (actual: number, expected: number): BlobError =>
  new BlobError(
    400,
    'WrongLength',
    `${actual > expected ? `More than ${expected}` : actual} bytes arrived, but the URL is for ${expected}. Send exactly the length that was announced, or ask for another URL.`,
  );

/**
 * The chunks of a body, which is read no faster than they are taken. Throws `BlobError` when too much, too little or nothing more arrives. A refused
 * body is not destroyed: its sender is still to be answered.
 */
export async function* arriving(body: Readable, limits: ArrivalLimits): AsyncGenerator<Buffer, void, undefined> {
  const { contentLength, maxBytes, stallTimeoutMs, clock } = limits;
  const limit = Math.min(maxBytes, contentLength ?? maxBytes);
  body.on('error', () => undefined); // reading it reports the error, if it gets that far
  let sizeBytes = 0;
  let movedAtMs = clock.monotonicMs();
  let stalled = false;
  // whoever takes the bytes may be slow, which is not the sender's fault
  let taking = false;
  const watch = (waitMs: number): ReturnType<Clock['setTimer']> =>
    clock.setTimer(
      waitMs,
      () => {
        const stillMs = taking ? 0 : clock.monotonicMs() - movedAtMs;
        if (stillMs >= stallTimeoutMs) {
          stalled = true;
          body.destroy(new Error('nothing arrives any more'));
        } else {
          timer = watch(stallTimeoutMs - stillMs);
        }
      },
      { unref: true },
    );
  let timer = watch(stallTimeoutMs);
  try {
    for await (const chunk of body.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>) {
      sizeBytes += chunk.length;
      movedAtMs = clock.monotonicMs();
      if (sizeBytes > limit) {
        throw limit === maxBytes
          ? new BlobError(413, 'TooLarge', `More than ${maxBytes} bytes arrived, the most that is accepted here.`)
          : wrongLength(sizeBytes, limit);
      }
      taking = true;
      yield chunk;
      taking = false;
      movedAtMs = clock.monotonicMs();
    }
    if (contentLength !== undefined && sizeBytes !== contentLength) {
      throw wrongLength(sizeBytes, contentLength);
    }
  } catch (error) {
    throw explain(error, stalled, stallTimeoutMs);
  } finally {
    timer.cancel();
  }
}

const explain = (error: unknown, stalled: boolean, stallTimeoutMs: number): unknown => {
  const code = (error as NodeJS.ErrnoException).code;
  if (error instanceof BlobError) {
    return error;
  }
  if (stalled) {
    return new BlobError(408, 'Stalled', `Nothing arrived for ${stallTimeoutMs / 1000} seconds. Try again.`);
  }
  if (code === 'ECONNRESET' || code === 'ERR_STREAM_PREMATURE_CLOSE') {
    return new BlobError(400, 'Aborted', 'The connection was closed before all bytes had arrived. Try again.');
  }
  return error;
};
