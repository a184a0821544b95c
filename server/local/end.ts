/** When a server program is to end: a signal, or the end of the program that started it. */
import fs from 'node:fs';
import net from 'node:net';
import { systemClock as clock } from '@tscluster/client/clock.ts';

const SIGNAL_STATUS: Readonly<Record<string, number>> = { SIGHUP: 129, SIGINT: 130, SIGTERM: 143 };

/** Calls `stop` once, at the first reason to; a signal more than a second later ends the process at once. */
export const onEnd = (stop: (reason: string) => void, tell: (line: string) => void): void => {
  let firstMs: number | undefined;
  const handle = (reason: string): void => {
    if (firstMs === undefined) {
      firstMs = clock.monotonicMs();
      stop(reason);
    } else if (clock.monotonicMs() - firstMs > 1_000) {
      // a terminal's Ctrl-C arrives twice within a moment: from the terminal, and passed on by the program that started this one
      tell('Stopping at once. Nothing that was confirmed is lost; the next start recovers.');
      process.exit(SIGNAL_STATUS[reason] ?? 1);
    }
  };
  for (const signal of Object.keys(SIGNAL_STATUS)) {
    process.on(signal, () => handle(signal));
  }
  const parent = process.env['TASKCLUSTER_PARENT_FD'];
  if (parent !== undefined) {
    delete process.env['TASKCLUSTER_PARENT_FD'];
    // the program that started this one holds the other end
    const stat = fs.fstatSync(Number(parent));
    if (stat.isSocket() || stat.isFIFO()) {
      const pipe = new net.Socket({ fd: Number(parent), readable: true, writable: false });
      pipe.on('error', () => undefined);
      pipe.on('close', () => handle('the program that started this one has ended'));
      pipe.resume();
      pipe.unref();
    }
  }
};
