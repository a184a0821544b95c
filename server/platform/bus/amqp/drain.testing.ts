/** A process with little memory that drains the outbox into a broker; leaves in `mostBytes` how much its buffers took. */
import { workerData } from 'node:worker_threads';
import type { ClientConfig } from 'pg';
import { openDb } from '../../../db/sql.ts';
import { systemClock, systemRandom } from '../../clock.ts';
import { silentLog } from '../../log.ts';
import { makeMetrics } from '../../metrics.ts';
import { startRelay } from '../../relay.ts';
import { openAmqpBus } from './amqp.ts';

const { connection, url, mostBytes } = workerData as { connection: ClientConfig; url: string; mostBytes: Float64Array };
const db = openDb({ connection });
const shared = { db, clock: systemClock, log: silentLog, metrics: makeMetrics() };
const bus = openAmqpBus({ ...shared, url, random: systemRandom, abandonedMs: 1e9 });
const relay = startRelay({ ...shared, bus, keep: { keepSeconds: 1, keepRows: 10 } });
const sampling = setInterval(() => {
  mostBytes[0] = Math.max(mostBytes[0] ?? 0, process.memoryUsage().arrayBuffers);
}, 20);
await relay.drain();
clearInterval(sampling);
await relay.stop();
await bus.close();
await db.close();
