/**
 * Where the server's log goes: a file in the data folder, of bounded size, so that a terminal shows what a person must know and nothing else. Warnings
 * and errors are told there too, in one line.
 */
import fs from 'node:fs';
import { type Log, makeLog } from '../platform/log.ts';

const MAX_BYTES = 50_000_000;
const WARN = 40;

interface Line {
  readonly level?: string;
  readonly msg?: string;
  readonly err?: { readonly message?: string };
}

/** A line for people from a line for machines. */
export const summarize = (line: string): string => {
  const { level, msg, err } = JSON.parse(line) as Line;
  return `${level ?? 'warning'}: ${msg ?? ''}${err?.message ? ` (${err.message})` : ''}`;
};

/**
 * Opens the log. The file is renamed to `FILE.1` when it is full, replacing the one before.
 *
 * @param tell shows a line to the person at the terminal
 */
export const openLogFile = (file: string, tell: (line: string) => void, maxBytes = MAX_BYTES): { log: Log; close: () => void } => {
  let descriptor = fs.openSync(file, 'a', 0o600);
  let sizeBytes = fs.fstatSync(descriptor).size;
  let lastTold = '';
  const write = (text: string): void => {
    try {
      if (sizeBytes > maxBytes) {
        fs.renameSync(file, `${file}.1`);
        fs.closeSync(descriptor);
        descriptor = fs.openSync(file, 'a', 0o600);
        sizeBytes = 0;
      }
      sizeBytes += fs.writeSync(descriptor, text);
    } catch {
      // a full disk must not stop what still works without it
    }
  };
  const destination = {
    lastLevel: 0, // pino sets it for a destination with this symbol
    [Symbol.for('pino.metadata')]: true,
    write(text: string): void {
      write(text);
      if (this.lastLevel >= WARN) {
        const line = summarize(text);
        // the same trouble repeated, as of a loop that retries, is told once
        if (line !== lastTold) {
          lastTold = line;
          tell(line);
        }
      }
    },
  };
  return {
    log: makeLog({ destination }),
    close: () => {
      fs.closeSync(descriptor);
    },
  };
};
