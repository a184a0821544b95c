/** Task definitions for tests: what a test does not care about is filled in. */
import { slugid, systemRandom } from '@tscluster/client/clock.ts';

export const newId = (): string => slugid(systemRandom);

export interface TaskOptions {
  readonly taskQueueId?: string;
  readonly taskGroupId?: string;
  readonly schedulerId?: string;
  readonly dependencies?: string[];
  readonly requires?: 'all-completed' | 'all-resolved';
  readonly retries?: number;
  readonly payload?: Record<string, unknown>;
  readonly scopes?: string[];
  readonly routes?: string[];
  readonly name?: string;
}

/** A valid definition: made now, an hour to do it. */
export const aTask = ({ name = 'e2e', ...rest }: TaskOptions = {}) => {
  const nowMs = Date.now();
  return {
    taskQueueId: 'local/process',
    payload: {},
    created: new Date(nowMs).toISOString(),
    deadline: new Date(nowMs + 3_600_000).toISOString(),
    expires: new Date(nowMs + 86_400_000).toISOString(),
    metadata: { name, description: 'made by a test', owner: 'tests@example.com', source: 'https://example.com/tests' },
    ...rest,
  };
};

/** A payload for the local worker: one shell script. */
export const aScript = (script: string, more: object = {}) => ({
  command: [['/bin/sh', '-c', script]],
  maxRunTime: 120,
  ...more,
});
