/** Every plugin, in the order of the way up; the way down is the reverse. */
import { absentFeatures } from './absent-features.ts';
import { artifacts } from './artifacts.ts';
import { backingLog } from './backing-log.ts';
import { env } from './env.ts';
import { exitStatus } from './exit-status.ts';
import { liveLog } from './live-log.ts';
import { maxRunTime } from './max-run-time.ts';
import { mounts } from './mounts.ts';
import type { PluginDefinition } from './plugin.ts';
import { resourceMonitor } from './resource-monitor.ts';
import { taskclusterProxy } from './taskcluster-proxy.ts';

export const plugins: readonly PluginDefinition[] = [
  backingLog,
  liveLog,
  absentFeatures,
  // before plugins that set variables of their own, which the task may not override
  env,
  mounts,
  taskclusterProxy,
  resourceMonitor,
  exitStatus,
  // after everything that fetches content: a file may be published from a cache only before the cache is given back
  artifacts,
  // last, so that the time of the commands alone is counted
  maxRunTime,
];
