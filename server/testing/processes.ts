/** What the services of an installation run, found out by starting all of them. */
import path from 'node:path';
import type { Db } from '../db/sql.ts';
import { startServer } from '../main.ts';
import { openMemoryBus } from '../platform/bus/memory.ts';
import { systemClock, systemRandom } from '../platform/clock.ts';
import { openKeyring } from '../platform/keyring.ts';
import { silentLog } from '../platform/log.ts';
import { makeMetrics } from '../platform/metrics.ts';
import { describeProcesses } from '../serve/processes.ts';
import { allServices } from '../services/all.ts';

/** The content of `server/serve/processes.json`. Uses a database that holds nothing, and a folder. */
export const describeProcessesOn = async (db: Db, folder: string): Promise<string> => {
  const server = await startServer({
    db,
    bus: openMemoryBus(db),
    clock: systemClock,
    random: systemRandom,
    log: silentLog,
    metrics: makeMetrics(),
    keyring: openKeyring([{ id: 'any', key: Buffer.alloc(32) }], systemRandom),
    rootUrl: 'http://localhost',
    version: { version: '', commit: '', source: '', build: '' },
    services: allServices,
    environment: { OBJECTS_FOLDER: path.join(folder, 'objects') },
    serviceToken: service => `token-of-${service}-0123456789abcdef`,
    signingSecret: Buffer.alloc(32),
    loops: false,
    relay: false,
    alone: true,
  });
  try {
    return `${JSON.stringify(describeProcesses(server.services), null, 2)}\n`;
  } finally {
    await server.close();
  }
};
