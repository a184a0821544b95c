/** What every server process is made of, be it a whole installation or a part of one: database, metrics, bus and services, in this order. */
import type pg from 'pg';
import { migrate } from '../db/migrate.ts';
import { type Db, openDb } from '../db/sql.ts';
import { explainPortProblem } from '../local/front-door.ts';
import { type RunningServer, type ServerOptions, startServer } from '../main.ts';
import { openBus } from '../platform/bus/open.ts';
import { systemClock as clock, systemRandom as random } from '../platform/clock.ts';
import { type Key, openKeyring } from '../platform/keyring.ts';
import { makeMetrics, serveMetrics } from '../platform/metrics.ts';

export interface ProcessOptions extends Omit<ServerOptions, 'db' | 'bus' | 'clock' | 'random' | 'metrics' | 'keyring'> {
  readonly connection: pg.ClientConfig;
  readonly poolSize: number;
  /** Makes the database ready to be used. Default: brings it to the newest schema. */
  readonly prepare?: (db: Db) => Promise<void>;
  /** The last one encrypts. */
  readonly keys: readonly Key[];
  /** Absent: metrics are not served. Port 0: any free one. */
  readonly metrics?: { readonly port: number; readonly host?: string | undefined } | undefined;
  /** How another metrics port is chosen, to say so where it is taken: `npm start -- --metrics-port`. */
  readonly metricsOption: string;
}

export interface RunningProcess {
  readonly server: RunningServer;
  readonly metricsPort: number | undefined;
}

/**
 * Starts the parts of a process; the caller listens on `server.app`, then calls `server.ready`. What was started is added to `parts`, which stops it in
 * the reverse order.
 */
export const startProcess = async (parts: AsyncDisposableStack, options: ProcessOptions): Promise<RunningProcess> => {
  const { connection, poolSize, prepare, keys, metrics: where, metricsOption, ...rest } = options;
  const { log } = rest;
  const metrics = makeMetrics({ processMetrics: true });
  const metricsServer =
    where &&
    (await serveMetrics(metrics, where.port, where.host).catch(async (error: NodeJS.ErrnoException) => {
      throw error.code ? await explainPortProblem(error, where.port, metricsOption) : error;
    }));
  parts.defer(() => metricsServer?.close());
  const db = openDb({ connection, poolSize, onError: error => log.info({ err: error }, 'idle connection lost') });
  parts.defer(() => db.close());
  await (prepare ?? migrate)(db);
  const keyring = openKeyring(keys, random);
  const bus = openBus({ db, clock, random, log, metrics, environment: rest.environment });
  const server = await startServer({ ...rest, db, bus, clock, random, metrics, keyring });
  parts.defer(() => server.close());
  return { server, metricsPort: metricsServer?.port };
};
