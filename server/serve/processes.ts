/** What an installation can be split into, for compose files and charts: services, their APIs, loops and subscriptions. */
import fs from 'node:fs/promises';
import path from 'node:path';
import type { RunningService } from '../platform/service.ts';

export interface ServiceProcesses {
  readonly service: string;
  /** Paths below which it answers. */
  readonly paths: readonly string[];
  readonly loops: readonly string[];
  /** Events that it handles, by the names of its subscriptions. */
  readonly subscriptions: readonly string[];
}

/** As `npm run gen` writes it, from services that run. */
export const PROCESSES_FILE = path.join(import.meta.dirname, 'processes.json');

/** The services with what they run, in the order in which they start. */
export const describeProcesses = (services: ReadonlyMap<string, RunningService>): readonly ServiceProcesses[] =>
  [...services].map(([service, running]) => ({
    service,
    paths: [
      ...(running.apis ?? []).map(({ api }) => `/api/${api.service}/${api.version}/`),
      ...(running.routes ?? []).map(({ prefix }) => prefix),
    ],
    loops: (running.loops ?? []).filter(({ everywhere }) => !everywhere).map(({ name }) => name),
    subscriptions: (running.subscriptions ?? []).map(({ name }) => name),
  }));

export const readProcesses = async (): Promise<readonly ServiceProcesses[]> =>
  JSON.parse(await fs.readFile(PROCESSES_FILE, 'utf8')) as readonly ServiceProcesses[];
