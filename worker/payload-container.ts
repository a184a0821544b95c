/** The container form of a payload, as the protocol publishes it beside the native one. */
import type { JsonSchema } from './payload.ts';

const closed = (properties: Record<string, JsonSchema>, required: readonly string[] = []): JsonSchema => ({
  type: 'object',
  properties,
  required,
  additionalProperties: false,
});
const string = { type: 'string' };
const boolean = { type: 'boolean' };
const switchedOff = { type: 'boolean', default: false };
const switchedOn = { type: 'boolean', default: true };
const integers = { type: 'array', items: { type: 'integer' } };
const only = (value: string): JsonSchema => ({ type: 'string', enum: [value] });

export const containerPayload: JsonSchema = closed(
  {
    image: {
      oneOf: [
        string,
        closed({ type: only('docker-image'), name: string }, ['type', 'name']),
        closed({ type: only('indexed-image'), namespace: string, path: string }, ['type', 'namespace', 'path']),
        closed({ type: only('task-image'), taskId: string, path: string }, ['type', 'taskId', 'path']),
      ],
    },
    command: { type: 'array', items: string, default: [] },
    maxRunTime: { type: 'integer', minimum: 1, multipleOf: 1 },
    env: { type: 'object', additionalProperties: string },
    cache: { type: 'object', additionalProperties: string },
    artifacts: {
      type: 'object',
      additionalProperties: closed(
        { type: { type: 'string', enum: ['file', 'directory', 'volume'] }, path: string, expires: { type: 'string', format: 'date-time' } },
        ['type', 'path'],
      ),
    },
    capabilities: closed({
      privileged: switchedOff,
      disableSeccomp: switchedOff,
      devices: closed({ loopbackVideo: boolean, loopbackAudio: boolean, hostSharedMemory: boolean, kvm: boolean }),
    }),
    features: closed({
      localLiveLog: switchedOn,
      bulkLog: switchedOn,
      taskclusterProxy: switchedOff,
      artifacts: switchedOn,
      interactive: switchedOff,
      allowPtrace: switchedOff,
      chainOfTrust: switchedOff,
    }),
    log: { type: 'string', default: 'public/logs/live.log' },
    onExitStatus: closed({ retry: integers, purgeCaches: integers }),
    supersederUrl: string,
  },
  ['image', 'maxRunTime'],
);
