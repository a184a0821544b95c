/**
 * One server per data folder. The lock is a Unix socket that its holder answers on: it is free the moment its holder is dead, whatever killed it and
 * whatever process ids have been reused since, and it says who holds it. Taking it is a hard link, which only one of several can make.
 */
import fs from 'node:fs/promises';
import net from 'node:net';
import path from 'node:path';
import type { Clock } from '@tscluster/client/clock.ts';
import { StartProblem } from './problem.ts';

export interface InstanceLock {
  /** What another start is told: the URL, once it is known. */
  announce(url: string): void;
  /** From now on another start waits for the release instead of being refused. */
  announceEnd(): void;
  release(): Promise<void>;
}

interface Holder {
  readonly pid?: number;
  readonly url?: string;
  readonly isStopping?: boolean;
}

const STOP_MS = 60_000;
/** A holder that answers without a word may be ending at that moment: it is asked again for so long. */
const SILENT_MS = 2_000;

let attempts = 0; // of this process

/** Who answers on a socket; undefined when nobody does. */
const ask = (socketPath: string): Promise<Holder | undefined> =>
  new Promise((resolve, reject) => {
    const socket = net.connect(socketPath);
    let text = '';
    socket.setTimeout(5_000, () => {
      socket.destroy();
      resolve({}); // it lives, but is too busy to say more
    });
    socket.on('data', chunk => (text += chunk.toString()));
    socket.on('error', error => {
      const { code } = error as NodeJS.ErrnoException;
      if (code === 'ECONNREFUSED' || code === 'ENOENT') {
        resolve(undefined);
      } else if (code === 'ECONNRESET' || code === 'EPIPE') {
        resolve({});
      } else {
        reject(error);
      }
    });
    socket.on('end', () => {
      socket.end();
      try {
        resolve(JSON.parse(text) as Holder);
      } catch {
        resolve({});
      }
    });
  });

/**
 * Takes the lock, or throws a `StartProblem` that names its holder.
 *
 * @param runFolder the folder of the sockets; it must exist
 * @param dataDir only for the message
 */
export const takeInstanceLock = async (runFolder: string, dataDir: string, clock: Clock): Promise<InstanceLock> => {
  const lockPath = path.join(runFolder, 'lock');
  attempts += 1;
  const ownPath = path.join(runFolder, `${process.pid}.${attempts}`);
  const state: { pid: number; url?: string; isStopping?: boolean } = { pid: process.pid };
  const giveUpMs = clock.monotonicMs() + STOP_MS;
  const silentUntilMs = clock.monotonicMs() + SILENT_MS;
  const server = net.createServer(socket => {
    socket.on('error', () => undefined);
    socket.end(JSON.stringify(state));
  });
  await fs.rm(ownPath, { force: true });
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(ownPath, resolve);
  });
  server.unref();
  const close = (): Promise<void> => new Promise(resolve => server.close(() => resolve())); // removes ownPath

  const refuse = async (holder: Holder): Promise<never> => {
    await close();
    throw new StartProblem(
      `Another Taskcluster uses ${dataDir} already: process ${holder.pid ?? 'unknown'}${holder.isStopping ? ', which is stopping' : holder.url ? `, at ${holder.url}` : ', which is starting'}. ` +
        'Use that one, or stop it, or choose another folder with --data-dir DIR (and another port with --port N).',
    );
  };

  for (;;) {
    try {
      await fs.link(ownPath, lockPath);
      break;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') {
        await close();
        throw error;
      }
    }
    const holder = await ask(lockPath);
    if (holder?.isStopping && clock.monotonicMs() < giveUpMs) {
      await clock.sleep(50);
      continue;
    }
    if (holder && holder.pid === undefined && clock.monotonicMs() < silentUntilMs) {
      await clock.sleep(50);
      continue;
    }
    if (holder) {
      await refuse(holder);
    }
    // Dead. Moved aside first, so that of several that found it dead none removes the lock that another has taken meanwhile.
    const aside = `${ownPath}.dead`;
    try {
      await fs.rename(lockPath, aside);
    } catch {
      continue;
    }
    const moved = await ask(aside);
    if (moved) {
      await fs.link(aside, lockPath).catch(() => undefined);
      await fs.rm(aside, { force: true });
      await refuse(moved);
    }
    await fs.rm(aside, { force: true });
  }

  return {
    announce: url => {
      state.url = url;
    },
    announceEnd: () => {
      state.isStopping = true;
    },
    release: async () => {
      await fs.rm(lockPath, { force: true });
      await close();
    },
  };
};
