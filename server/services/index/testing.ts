/** What the tests of the index share. */
import { indexApi } from '@tscluster/api/index/api.ts';
import type { Client } from '@tscluster/client/client.ts';
import { slugid } from '@tscluster/client/clock.ts';
import { seededRandom, type TestServer, withServer, type WithServerOptions } from '../../testing/server.ts';
import { indexService } from './service.ts';

export interface IndexServer extends TestServer {
  readonly index: Client<typeof indexApi>;
  readonly newId: () => string;
  /** Some time from now, as text. */
  inHours(hours: number): string;
  /** Inserts a task and answers with its id; it expires in an hour, with rank 0, unless said otherwise. */
  insert(path: string, fields?: { taskId?: string; rank?: number; data?: Record<string, unknown>; expires?: string }): Promise<string>;
}

let seed = 500;

/** The index alone. */
export const withIndex = async (options: WithServerOptions = {}): Promise<IndexServer> => {
  const server = await withServer([indexService], options);
  const index = server.client(indexApi);
  const random = seededRandom(seed++);
  const newId = (): string => slugid(random);
  const inHours = (hours: number): string => new Date(server.clock.nowMs() + hours * 3_600_000).toISOString();
  return {
    ...server,
    index,
    newId,
    inHours,
    insert: async (path, fields = {}) => {
      const taskId = fields.taskId ?? newId();
      await index.insertTask({ namespace: path }, { rank: 0, data: {}, expires: inHours(1), ...fields, taskId });
      return taskId;
    },
  };
};
