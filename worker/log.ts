/**
 * The task log: one stream of the worker's lines and the commands' output, in a file from the first byte on, so that memory stays bounded whatever a
 * task prints and however slow a reader is. Readers follow the file live, each at its own pace (protocol: worker, "Task log").
 */
import { createWriteStream, type WriteStream } from 'node:fs';
import { open } from 'node:fs/promises';
import { once } from 'node:events';
import type { Clock } from '@tscluster/client/clock.ts';

const NEWLINE = 10;
const READ_BYTES = 64 * 1024;

export interface TaskLogOptions {
  readonly path: string;
  readonly clock: Clock;
  /** Output beyond this many bytes is dropped; the worker's own lines are still written. */
  readonly maxBytes: number;
}

export class TaskLog {
  readonly path: string;
  readonly #clock: Clock;
  readonly #maxBytes: number;
  readonly #stream: WriteStream;
  #flushedBytes = 0;
  #acceptedBytes = 0;
  #atLineStart = true;
  #truncated = false;
  #ended = false;
  #error: Error | undefined;
  #wake: (() => void)[] = [];

  constructor({ path, clock, maxBytes }: TaskLogOptions) {
    this.path = path;
    this.#clock = clock;
    this.#maxBytes = maxBytes;
    this.#stream = createWriteStream(path, { mode: 0o600, flags: 'w' });
    this.#stream.on('error', error => {
      this.#error = error;
      this.#notify();
    });
  }

  /** Why the log cannot be written any more, if so: the disk is full, for example. */
  get brokenBy(): Error | undefined {
    return this.#error;
  }

  /** Takes output as it is. False: wait for `drained()` before giving more. */
  write(bytes: Uint8Array): boolean {
    if (this.#ended || this.#error || bytes.length === 0) {
      return true;
    }
    if (this.#acceptedBytes + bytes.length > this.#maxBytes) {
      if (!this.#truncated) {
        this.#truncated = true;
        this.warn(`The log has reached its limit of ${this.#maxBytes} bytes: further output is dropped.`);
      }
      return true;
    }
    return this.#append(bytes);
  }

  /** Resolves when output is accepted again. */
  async drained(): Promise<void> {
    if (this.#stream.writableNeedDrain && !this.#error) {
      await Promise.race([once(this.#stream, 'drain'), once(this.#stream, 'close')]);
    }
  }

  /** A line of the worker, with the time. */
  info(text: string): void {
    this.#line(`[taskcluster ${this.#clock.now().toISOString()}] `, text);
  }

  warn(text: string): void {
    this.#line(`[taskcluster:warn ${this.#clock.now().toISOString()}] `, text);
  }

  /** The form that log parsers look for. */
  fail(text: string): void {
    this.#line('[taskcluster:error] ', text);
  }

  /** No more output. Resolves when every byte is in the file. */
  async close(): Promise<void> {
    if (!this.#ended) {
      this.#ended = true;
      if (!this.#error) {
        await new Promise<void>(resolve => {
          this.#stream.once('close', () => resolve());
          this.#stream.end();
        });
      }
      this.#notify();
    }
  }

  /**
   * Everything so far, then what comes, until the log is closed.
   * @throws what made the log break
   */
  async *follow(signal?: AbortSignal): AsyncGenerator<Uint8Array> {
    let position = 0;
    // the stream opens the file on its own time
    while (this.#flushedBytes === 0 && !this.#ended && !this.#error && !signal?.aborted) {
      await this.#changed(signal);
    }
    if (signal?.aborted) {
      return;
    }
    await using file = await open(this.path, 'r');
    for (;;) {
      if (signal?.aborted) {
        return;
      }
      const { bytesRead, buffer } = await file.read(Buffer.allocUnsafe(READ_BYTES), 0, READ_BYTES, position);
      position += bytesRead;
      if (bytesRead > 0) {
        yield buffer.subarray(0, bytesRead);
      } else if (this.#error) {
        throw this.#error;
      } else if (this.#ended && position >= this.#acceptedBytes) {
        return; // not before: what was accepted last may not be in the file yet
      } else if (position >= this.#flushedBytes && !signal?.aborted) {
        await this.#changed(signal);
      }
    }
  }

  #line(prefix: string, text: string): void {
    if (this.#ended || this.#error) {
      return;
    }
    const lines = text.split('\n').map(line => `${prefix}${line}\n`);
    this.#append(Buffer.from((this.#atLineStart ? '' : '\n') + lines.join('')));
  }

  #append(bytes: Uint8Array): boolean {
    this.#acceptedBytes += bytes.length;
    this.#atLineStart = bytes.at(-1) === NEWLINE;
    return this.#stream.write(bytes, () => {
      this.#flushedBytes = this.#stream.bytesWritten;
      this.#notify();
    });
  }

  #changed(signal?: AbortSignal): Promise<void> {
    return new Promise(resolve => {
      const done = (): void => {
        signal?.removeEventListener('abort', done);
        resolve();
      };
      this.#wake.push(done);
      signal?.addEventListener('abort', done, { once: true });
    });
  }

  #notify(): void {
    const waiting = this.#wake;
    this.#wake = [];
    for (const wake of waiting) {
      wake();
    }
  }
}
