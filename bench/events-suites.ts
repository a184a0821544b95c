/** Live events: how late they arrive when many listen, and what a listener costs that only waits. */
import net from 'node:net';
import { Connection } from './connection.ts';
import { type Percentiles, percentiles, residentMiB } from './measure.ts';
import type { Target } from './suites.ts';
import { aTask, slugid } from './tasks.ts';

const PATH = '/api/events/v1/connect';
const binding = (name: string): object => ({ exchange: `exchange/taskcluster-queue/v1/${name}`, routingKeyPattern: 'primary.#' });
const EVERYTHING = `${PATH}?bindings=${encodeURIComponent(JSON.stringify({ bindings: [binding('task-defined'), binding('task-pending')] }))}`;

const wait = (ms: number): Promise<void> => new Promise(resolve => setTimeout(resolve, ms));

/** A listener without credentials; returns when it is ready. */
const openListener = async ({ rootUrl }: Target, path: string, onData: (chunk: Buffer) => void): Promise<net.Socket> => {
  const { hostname, port } = new URL(rootUrl);
  const socket = net.connect({ host: hostname, port: Number(port), autoSelectFamily: true });
  await new Promise<void>((resolve, reject) => {
    socket.once('error', reject);
    let head = '';
    const begin = (chunk: Buffer): void => {
      head += chunk.toString('latin1');
      if (head.includes('event: ready')) {
        socket.off('data', begin);
        socket.on('data', onData);
        resolve();
      } else if (head !== '' && !head.startsWith('HTTP/1.1 200')) {
        reject(new Error(head));
      }
    };
    socket.on('data', begin);
    socket.write(`GET ${path} HTTP/1.1\r\nhost: ${hostname}:${port}\r\n\r\n`);
  });
  return socket;
};

export interface FanOut {
  /** From sending a create to its event being read, over the listeners that look. */
  readonly latencyMs: Percentiles;
  readonly eventsPerSecond: number;
  readonly listeners: number;
}

const LOOKING = 10;
const TICK_MS = 10;

/**
 * `perSecond` events by creating half as many tasks, each of which is defined and pending; every listener gets all of them. Most only count bytes: looking
 * into 200 copies of each event would be most of the load.
 */
export const fanOut = async (target: Target, seconds: number, perSecond = 1_000, listeners = 200): Promise<FanOut> => {
  const sentMs = new Map<string, number>();
  const times: number[] = [];
  const bytes: number[] = Array.from({ length: listeners }, () => 0);
  const counts: number[] = Array.from({ length: LOOKING }, () => 0);
  const sockets = await Promise.all(
    bytes.map((_, i) => {
      let rest = '';
      return openListener(target, EVERYTHING, chunk => {
        bytes[i] = (bytes[i] as number) + chunk.length;
        if (i < LOOKING) {
          const nowMs = performance.now();
          const text = rest + chunk.toString('latin1');
          const end = text.lastIndexOf('\n\n');
          rest = text.slice(end + 1);
          for (const [, taskId] of text.slice(0, end + 1).matchAll(/"routingKey":"primary\.([\w-]{22})\./g)) {
            const startedMs = sentMs.get(taskId as string);
            if (startedMs !== undefined) {
              counts[i] = (counts[i] as number) + 1;
              times.push(nowMs - startedMs);
            }
          }
        }
      });
    }),
  );
  const creators = await Promise.all(Array.from({ length: 16 }, () => Connection.open(target.rootUrl)));
  const idle = [...creators];
  const underWay: Promise<void>[] = [];
  const startedMs = performance.now();
  let created = 0;
  try {
    while (performance.now() - startedMs < seconds * 1_000) {
      const due = Math.floor(((performance.now() - startedMs) / 1_000) * (perSecond / 2));
      while (created < due && idle.length > 0) {
        const connection = idle.pop() as Connection;
        const taskId = slugid();
        created += 1;
        sentMs.set(taskId, performance.now());
        underWay.push(
          connection
            .call('PUT', `/api/queue/v1/task/${taskId}`, target.credentials, aTask('bench/fan-out'))
            .then(() => void idle.push(connection)),
        );
      }
      await wait(TICK_MS);
    }
    await Promise.all(underWay);
    const tookSeconds = (performance.now() - startedMs) / 1_000;
    const isComplete = (): boolean => counts.every(count => count >= 2 * created) && new Set(bytes.slice(LOOKING)).size === 1;
    for (let waitedMs = 0; !isComplete(); waitedMs += 50) {
      if (waitedMs > 30_000) {
        throw new Error(`Of ${2 * created} events the listeners got ${counts.join(', ')}`);
      }
      await wait(50);
    }
    return { latencyMs: percentiles(times), eventsPerSecond: (2 * created) / tookSeconds, listeners };
  } finally {
    creators.forEach(connection => connection.close());
    sockets.forEach(socket => socket.destroy());
  }
};

/** Resident memory that `count` waiting listeners add, in MiB. */
export const idleListeners = async (target: Target, count: number): Promise<number> => {
  const path = `${PATH}?taskGroupId=`;
  // the first ones make room that later ones use
  const warm = await Promise.all(Array.from({ length: 20 }, () => openListener(target, path + slugid(), () => undefined)));
  await wait(1_000);
  const before = residentMiB(target.pids.server);
  const sockets: net.Socket[] = [];
  while (sockets.length < count) {
    sockets.push(...(await Promise.all(Array.from({ length: 50 }, () => openListener(target, path + slugid(), () => undefined)))));
  }
  await wait(5_000);
  const after = residentMiB(target.pids.server);
  [...warm, ...sockets].forEach(socket => socket.destroy());
  return after - before;
};
