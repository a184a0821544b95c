/** A log that tests read. */
import { Writable } from 'node:stream';
import { type Log, makeLog } from '../platform/log.ts';

export interface ReadableLog {
  readonly log: Log;
  /** All that was written. */
  text(): string;
  /** The lines with a message, in order. */
  lines(message: string): Record<string, unknown>[];
}

export const openLog = (level = 'info'): ReadableLog => {
  let text = '';
  const destination = new Writable({
    write: (chunk: Buffer, _encoding, done) => {
      text += chunk.toString();
      done();
    },
  });
  const all = (): Record<string, unknown>[] =>
    text
      .split('\n')
      .filter(Boolean)
      .map(line => JSON.parse(line) as Record<string, unknown>);
  return {
    log: makeLog({ level, destination }),
    text: () => text,
    lines: message => all().filter(line => line['msg'] === message),
  };
};
