/** The worker's own log: one JSON line per change of state on standard output. Facts stand in fields; credentials never do. */
import type { Clock } from '@tscluster/client/clock.ts';
import { messageOf } from './errors.ts';

export type Fields = Readonly<Record<string, string | number | boolean | undefined>>;

export interface Monitor {
  info(fields: Fields, message: string): void;
  warn(fields: Fields, message: string): void;
  error(fields: Fields, message: string, error?: unknown): void;
}

/** A monitor that writes through the given function, one line per call. */
export const jsonMonitor = (clock: Clock, writeLine: (line: string) => void): Monitor => {
  const write = (level: string, fields: Fields, message: string): void =>
    writeLine(JSON.stringify({ time: clock.now().toISOString(), level, name: 'worker', ...fields, message }));
  return {
    info: (fields, message) => write('info', fields, message),
    warn: (fields, message) => write('warn', fields, message),
    error: (fields, message, error) =>
      write(
        'error',
        error === undefined ? fields : { ...fields, error: messageOf(error), stack: error instanceof Error ? error.stack : undefined },
        message,
      ),
  };
};

export const silentMonitor: Monitor = { info: () => {}, warn: () => {}, error: () => {} };
