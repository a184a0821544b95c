/**
 * `features.resourceMonitor`: how much of the machine's memory was used while the commands ran. When it runs out for too long the task is failed, before
 * the kernel chooses a victim of its own (protocol: worker, "Resource monitor").
 */
import { totalmem } from 'node:os';
import type { Timer } from '@tscluster/client/clock.ts';
import { taskFailed } from '../errors.ts';
import { definePlugin } from './plugin.ts';

const SAMPLE_MS = 500;

/** Memory of the machine, or of the container the worker lives in. */
export interface Memory {
  readonly totalBytes: number;
  readonly availableBytes: number;
}

const readMemory = (): Memory => ({
  // without a limit the first is 0, or far more than there is
  totalBytes: Math.min(process.constrainedMemory() || Infinity, totalmem()),
  availableBytes: process.availableMemory(),
});

const mebibytes = (bytes: number): string => `${(bytes / 1024 / 1024).toFixed(0)} MiB`;

/** The plugin over a source of readings. */
export const makeResourceMonitor = (read: () => Memory) =>
  definePlugin({
    name: 'resource-monitor',
    payload: { features: { resourceMonitor: { type: 'boolean', default: true } } },
    open: ({ config, clock }) => ({
      newTask: (task, payload) => {
        if (payload.features?.['resourceMonitor'] === false) {
          return undefined;
        }
        let timer: Timer | undefined;
        let samples = 0;
        let availableSum = 0;
        let usedSum = 0;
        let peakBytes = 0;
        let highSinceMs: number | undefined;
        const isHigh = ({ totalBytes, availableBytes }: Memory): boolean =>
          ((totalBytes - availableBytes) / totalBytes) * 100 > config.maxMemoryUsagePercent &&
          availableBytes < config.minAvailableMemoryBytes;
        return {
          started: sandbox => {
            const sample = (): void => {
              const memory = read();
              const usedBytes = memory.totalBytes - memory.availableBytes;
              samples++;
              availableSum += memory.availableBytes;
              usedSum += usedBytes;
              peakBytes = Math.max(peakBytes, usedBytes);
              if (!isHigh(memory)) {
                highSinceMs = undefined;
              } else if (highSinceMs === undefined) {
                highSinceMs = clock.monotonicMs();
                task.log.warn(
                  `[resource-monitor] Memory is running out: ${mebibytes(memory.availableBytes)} of ${mebibytes(memory.totalBytes)} are available.`,
                );
              }
              const highMs = highSinceMs === undefined ? 0 : clock.monotonicMs() - highSinceMs;
              if (highSinceMs !== undefined && highMs >= config.allowedHighMemorySeconds * 1000 && !config.disableOOMProtection) {
                task.fail(
                  taskFailed(
                    `The task was ended because the machine's memory ran out: ${mebibytes(memory.availableBytes)} were available.`,
                  ),
                );
                void sandbox.kill();
                return;
              }
              timer = clock.setTimer(SAMPLE_MS, sample, { unref: true });
            };
            sample();
          },
          stopped: async () => {
            timer?.cancel();
            if (samples > 0) {
              task.log.info(
                `[resource-monitor] Memory of the machine: ${mebibytes(availableSum / samples)} available and ${mebibytes(usedSum / samples)} used on average, ${mebibytes(peakBytes)} used at most, ${mebibytes(read().totalBytes)} in total`,
              );
            }
          },
          dispose: async () => timer?.cancel(),
        };
      },
    }),
  });

export const resourceMonitor = makeResourceMonitor(readMemory);
