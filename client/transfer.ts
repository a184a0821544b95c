/**
 * Bytes over plain HTTP, in streams: whatever the size, no more than some buffers are in memory. A failed try is repeated from the start
 * with a fresh source or sink, because half a body cannot be taken back; waits are those of API calls (protocol: "What client libraries do").
 *
 * A transfer has no time limit of its own, for nobody knows how long 2 GiB take. It fails when nothing moves for a while.
 */
import { systemClock, systemRandom, type Clock, type Random } from './clock.ts';
import { createDigest, type Digest } from './digest.ts';
import { isTransient, MAX_RETRIES, retryDelayMs } from './retry.ts';

export interface TransferOptions {
  readonly fetch?: typeof fetch;
  readonly signal?: AbortSignal | undefined;
  /** Tries after the first one. Default 5. */
  readonly retries?: number;
  /** A try fails when nothing moves for this long. Default 120 000. */
  readonly stallTimeoutMs?: number;
  readonly clock?: Clock;
  readonly random?: Random;
}

/** Opens the bytes to send, from their beginning, once per try. */
export type OpenSource = () => ReadableStream<Uint8Array> | Promise<ReadableStream<Uint8Array>>;
/** Opens an empty place for the received bytes, once per try. It is closed after the last byte, and aborted when the try fails. */
export type OpenSink = () => WritableStream<Uint8Array> | Promise<WritableStream<Uint8Array>>;

export interface Hashes {
  readonly sha256: string;
  readonly sha512: string;
}

export interface Sent extends Hashes {
  readonly sizeBytes: number;
}

export interface Received {
  readonly sizeBytes: number;
  readonly sha256: string;
  /** Only where it is there to be verified: it costs twice as much as the other. */
  readonly sha512?: string;
  /** As the server named it, else `application/binary`. */
  readonly contentType: string;
}

/** A transfer that failed for good. `statusCode` is absent when there was no answer, or when the bytes were not the right ones. */
export class TransferError extends Error {
  readonly statusCode: number | undefined;
  constructor(message: string, statusCode?: number, cause?: unknown) {
    super(message, { cause });
    this.name = 'TransferError';
    this.statusCode = statusCode;
  }
}

const DEFAULT_STALL_TIMEOUT_MS = 120_000;
const MAX_QUOTED_BODY = 300;

/** A try's outcome that more tries do not change. */
class Fatal extends Error {}

/** URLs of stored bytes are signed: what is shown of them ends before the signature. */
const shown = (url: string): string => url.replace(/[?#].*$/, '');

const refused = async (verb: string, url: string, response: Response): Promise<Error> => {
  const text = await response.text().catch(() => '');
  const said = text === '' ? '' : `: ${text.slice(0, MAX_QUOTED_BODY)}`;
  const error = new TransferError(`${verb} ${shown(url)} was refused with status ${response.status}${said}`, response.status);
  return isTransient(response.status) || isIdleTimeout(response.status, text) ? error : new Fatal('', { cause: error });
};

// S3 answers so when it has closed a connection that stood still; the same request is good in the next try
const isIdleTimeout = (statusCode: number, text: string): boolean => statusCode === 400 && text.includes('RequestTimeout');

/** Repeats a try until it succeeds, fails for good, or has been repeated often enough. */
const withRetries = async <T>(
  options: TransferOptions,
  attempt: (number: number, signal: AbortSignal, moved: () => void) => Promise<T>,
): Promise<T> => {
  const { clock = systemClock, random = systemRandom, retries = MAX_RETRIES, stallTimeoutMs = DEFAULT_STALL_TIMEOUT_MS } = options;
  for (let number = 0; ; number += 1) {
    options.signal?.throwIfAborted();
    const abort = new AbortController();
    const onAbort = (): void => abort.abort(options.signal?.reason);
    options.signal?.addEventListener('abort', onAbort, { once: true });
    let movedAtMs = clock.monotonicMs();
    const watch = (waitMs: number): ReturnType<Clock['setTimer']> =>
      clock.setTimer(waitMs, () => {
        const stillMs = clock.monotonicMs() - movedAtMs;
        if (stillMs >= stallTimeoutMs) {
          abort.abort(new DOMException(`nothing moved for ${stallTimeoutMs} ms`, 'TimeoutError'));
        } else {
          timer = watch(stallTimeoutMs - stillMs);
        }
      });
    let timer = watch(stallTimeoutMs);
    try {
      return await attempt(number, abort.signal, () => {
        movedAtMs = clock.monotonicMs();
      });
    } catch (error) {
      if (options.signal?.aborted) {
        throw options.signal.reason;
      }
      if (error instanceof Fatal) {
        throw error.cause;
      }
      if (number >= retries) {
        throw error instanceof TransferError ? error : new TransferError(`The transfer failed: ${reasonOf(error)}`, undefined, error);
      }
    } finally {
      timer.cancel();
      options.signal?.removeEventListener('abort', onAbort);
    }
    await clock.sleep(retryDelayMs(number + 1, random), options.signal);
  }
};

const reasonOf = (error: unknown): string => {
  let inner = error;
  while (inner instanceof Error && inner.cause instanceof Error) {
    inner = inner.cause;
  }
  return inner instanceof Error ? inner.message || inner.name : String(inner);
};

interface Counted {
  sizeBytes: number;
  readonly sha256: Digest;
  readonly sha512: Digest | undefined;
}

const startCount = (withSha512: boolean): Counted => ({
  sizeBytes: 0,
  sha256: createDigest('sha256'),
  sha512: withSha512 ? createDigest('sha512') : undefined,
});

const count = (into: Counted, chunk: Uint8Array): void => {
  into.sizeBytes += chunk.byteLength;
  into.sha256.update(chunk);
  into.sha512?.update(chunk);
};

/** The source as it is sent: counted, and failing when it is longer than promised. */
const watched = (source: ReadableStream<Uint8Array>, into: Counted, maxBytes: number, moved: () => void): ReadableStream<Uint8Array> => {
  const reader = source.getReader();
  return new ReadableStream<Uint8Array>(
    {
      pull: async controller => {
        const { done, value } = await reader.read();
        moved();
        if (done) {
          controller.close();
          return;
        }
        count(into, value);
        if (into.sizeBytes > maxBytes) {
          const error = wrongLength(into.sizeBytes, maxBytes);
          await reader.cancel(error);
          controller.error(error);
          return;
        }
        controller.enqueue(value);
      },
      cancel: reason => reader.cancel(reason),
    },
    { highWaterMark: 0 },
  );
};

/**
 * Sends bytes with PUT and exactly the headers given (`content-length` among them).
 * @param getTarget is asked before each try, so that an expired URL can be renewed
 * @throws {TransferError} when refused (4xx at once), when retries are used up, or when the source is not `contentLength` bytes long
 */
export const putBytes = async (
  getTarget: (attempt: number) => Promise<{ url: string; headers: Readonly<Record<string, string>> }>,
  contentLength: number,
  openSource: OpenSource,
  options: TransferOptions = {},
): Promise<Sent> =>
  withRetries(options, async (attempt, signal, moved) => {
    const { url, headers } = await getTarget(attempt);
    const into = startCount(true);
    const source = await openSource();
    const body = watched(source, into, contentLength, moved);
    let response: Response;
    try {
      response = await (options.fetch ?? fetch)(url, {
        method: 'PUT',
        headers,
        // an empty stream would be sent in chunks, which S3 refuses
        body: contentLength === 0 ? '' : body,
        redirect: 'error',
        signal,
        duplex: 'half',
      } as RequestInit);
    } catch (error) {
      await body.cancel(error).catch(() => undefined);
      // the transport says only that the length is wrong: the same source will be wrong again
      if (into.sizeBytes !== contentLength && isLengthMismatch(error)) {
        throw new Fatal('', { cause: wrongLength(into.sizeBytes, contentLength, error) });
      }
      throw error;
    }
    if (contentLength === 0) {
      await body.cancel();
    }
    if (!response.ok) {
      await body.cancel().catch(() => undefined);
      throw await refused('PUT', url, response);
    }
    await response.body?.cancel();
    if (into.sizeBytes !== contentLength) {
      throw new Fatal('', { cause: wrongLength(into.sizeBytes, contentLength) });
    }
    return { sizeBytes: into.sizeBytes, sha256: into.sha256.hex(), sha512: into.sha512?.hex() ?? '' };
  });

const wrongLength = (sizeBytes: number, contentLength: number, cause?: unknown): TransferError => {
  const had = sizeBytes > contentLength ? 'more than' : `${sizeBytes} bytes instead of`;
  return new TransferError(
    `The source had ${had} the ${contentLength} bytes that were announced: it changed while it was sent.`,
    undefined,
    cause,
  );
};

/** Whether the transport refused the body for its length, or we did. */
const isLengthMismatch = (error: unknown): boolean => {
  for (let inner = error; inner instanceof Error; inner = inner.cause) {
    if ((inner as { code?: unknown }).code === 'UND_ERR_REQ_CONTENT_LENGTH_MISMATCH' || inner instanceof TransferError) {
      return true;
    }
  }
  return false;
};

/**
 * Gets bytes, decoded (an encoding such as gzip is undone), following redirects.
 * @param getUrl is asked before each try, so that an expired URL can be renewed
 * @param verify sees what was received before the sink is closed; what its `check` throws is final
 * @throws {TransferError} when refused (4xx at once) or when retries are used up
 */
export const getBytes = async (
  getUrl: (attempt: number) => Promise<string>,
  openSink: OpenSink,
  options: TransferOptions = {},
  verify?: { readonly sha512: boolean; check(received: Received): void },
): Promise<Received> =>
  withRetries(options, async (attempt, signal, moved) => {
    const url = await getUrl(attempt);
    const response = await (options.fetch ?? fetch)(url, { signal });
    moved();
    if (!response.ok) {
      throw await refused('GET', url, response);
    }
    const into = startCount(verify?.sha512 ?? false);
    const writer = (await openSink()).getWriter();
    try {
      const reader = response.body?.getReader();
      for (let part = await reader?.read(); part?.value; part = await reader?.read()) {
        count(into, part.value);
        await writer.write(part.value).catch(sinkFailed);
        moved();
      }
      const received = {
        sizeBytes: into.sizeBytes,
        sha256: into.sha256.hex(),
        ...(into.sha512 ? { sha512: into.sha512.hex() } : {}),
        contentType: response.headers.get('content-type') ?? 'application/binary',
      };
      try {
        verify?.check(received);
      } catch (error) {
        throw new Fatal('', { cause: error });
      }
      await writer.close().catch(sinkFailed);
      return received;
    } catch (error) {
      await response.body?.cancel().catch(() => undefined);
      await writer.abort(error).catch(() => undefined);
      throw error;
    }
  });

// a full disk does not get better by asking the server again
const sinkFailed = (error: unknown): never => {
  throw new Fatal('', { cause: error });
};
