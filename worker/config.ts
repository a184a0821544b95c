/**
 * What a worker is told: from a JSON file (`--config FILE`, or `-` for the first line of standard input), or from the environment. Each setting is
 * declared once, with its variable, type, default and meaning. An unknown key in the file is an error, because a typo in a limit must not go unnoticed.
 */
import { cpus } from 'node:os';
import { resolve } from 'node:path';
import type { Credentials } from '@tscluster/client/client.ts';

interface Setting<T> {
  readonly env: string;
  readonly meaning: string;
  readonly fallback?: T;
  readonly secret?: true;
  parse(value: unknown): T | undefined;
  readonly wants: string;
}

const text = (env: string, meaning: string, fallback?: string): Setting<string> => ({
  env,
  meaning,
  ...(fallback === undefined ? {} : { fallback }),
  wants: 'a text that is not empty',
  parse: value => (typeof value === 'string' && value !== '' ? value : undefined),
});
const secret = (env: string, meaning: string, fallback?: string): Setting<string> => ({ ...text(env, meaning, fallback), secret: true });
const identifier = (env: string, meaning: string, fallback?: string): Setting<string> => ({
  ...text(env, meaning, fallback),
  wants: '1 to 38 letters, digits, "-" or "_"',
  parse: value => (typeof value === 'string' && /^[a-zA-Z0-9_-]{1,38}$/.test(value) ? value : undefined),
});
const integer = (env: string, meaning: string, fallback: number, [least, most]: readonly [number, number]): Setting<number> => ({
  env,
  meaning,
  fallback,
  wants: `a whole number from ${least} to ${most}`,
  parse: value => {
    const number = typeof value === 'string' && /^\d+$/.test(value) ? Number(value) : value;
    return typeof number === 'number' && Number.isInteger(number) && number >= least && number <= most ? number : undefined;
  },
});
const flag = (env: string, meaning: string, fallback: boolean): Setting<boolean> => ({
  env,
  meaning,
  fallback,
  wants: 'true or false',
  parse: value => (value === true || value === 'true' ? true : value === false || value === 'false' ? false : undefined),
});
const list = (env: string, meaning: string): Setting<readonly string[]> => ({
  env,
  meaning,
  fallback: [],
  wants: 'a list of texts (in the environment: separated by ":")',
  parse: value => {
    const items: unknown = typeof value === 'string' ? value.split(':').filter(item => item !== '') : value;
    return Array.isArray(items) && items.every(item => typeof item === 'string') ? items : undefined;
  },
});
const object = (env: string, meaning: string): Setting<Readonly<Record<string, unknown>>> => ({
  env,
  meaning,
  fallback: {},
  wants: 'a JSON object',
  parse: value => {
    let parsed = value;
    if (typeof value === 'string') {
      try {
        parsed = JSON.parse(value);
      } catch {
        return undefined;
      }
    }
    return typeof parsed === 'object' && parsed !== null && !Array.isArray(parsed) ? (parsed as Record<string, unknown>) : undefined;
  },
});

const GIB = 1024 ** 3;
const DAY_SECONDS = 86_400;

export const settings = {
  rootUrl: text('TASKCLUSTER_ROOT_URL', 'root URL of the installation'),
  clientId: text('TASKCLUSTER_CLIENT_ID', 'client that may claim from the task queue as this worker'),
  accessToken: secret('TASKCLUSTER_ACCESS_TOKEN', 'its access token'),
  certificate: secret('TASKCLUSTER_CERTIFICATE', 'its certificate, when the credentials are temporary', ''),
  provisionerId: identifier('WORKER_PROVISIONER_ID', 'first half of the task queue id', 'local'),
  workerType: identifier('WORKER_TYPE', 'second half of the task queue id', 'process'),
  workerGroup: identifier('WORKER_GROUP', 'group of workers this one belongs to', 'local'),
  workerId: identifier('WORKER_ID', 'name of this worker in its group', 'local-1'),
  engine: text('WORKER_ENGINE', 'what runs the tasks: process or fake', 'process'),
  capacity: integer('WORKER_CAPACITY', 'tasks at the same time', Math.max(1, cpus().length), [1, 255]),
  dataDir: text('WORKER_DATA_DIR', "the worker's own folder: state and logs; hidden from tasks"),
  tasksDir: text('WORKER_TASKS_DIR', "folder of the tasks' working folders; default: tasks in the data folder", ''),
  cachesDir: text('WORKER_CACHES_DIR', 'folder of the writable caches; default: caches in the data folder', ''),
  downloadsDir: text('WORKER_DOWNLOADS_DIR', 'folder of downloaded content; default: downloads in the data folder', ''),
  hiddenPaths: list('WORKER_HIDDEN_PATHS', 'further folders that tasks find empty: those of the database, the objects, the env file'),
  maxTaskRunTimeSeconds: integer('WORKER_MAX_TASK_RUN_TIME_SECONDS', 'longest maxRunTime that a task may ask for', DAY_SECONDS, [
    1,
    31 * DAY_SECONDS,
  ]),
  requiredDiskSpaceMegabytes: integer('WORKER_REQUIRED_DISK_SPACE_MEGABYTES', 'free space needed before a task is claimed', 1024, [0, 1e9]),
  maxLogBytes: integer('WORKER_MAX_LOG_BYTES', 'longest task log; what exceeds it is dropped', GIB, [1024, 1024 * GIB]),
  maxDownloadsBytes: integer('WORKER_MAX_DOWNLOADS_BYTES', 'most that the folder of downloads holds', 10 * GIB, [0, 1e6 * GIB]),
  maxArtifactFiles: integer('WORKER_MAX_ARTIFACT_FILES', 'most files that the artifacts of one task may have', 20_000, [1, 1e6]),
  maxMemoryUsagePercent: integer(
    'WORKER_MAX_MEMORY_USAGE_PERCENT',
    'memory use of the machine above which a task is in danger',
    90,
    [1, 100],
  ),
  minAvailableMemoryBytes: integer('WORKER_MIN_AVAILABLE_MEMORY_BYTES', 'available memory below which it is', 524_288_000, [0, 1e15]),
  allowedHighMemorySeconds: integer('WORKER_ALLOWED_HIGH_MEMORY_SECONDS', 'how long both may last before the task is failed', 5, [
    0,
    DAY_SECONDS,
  ]),
  disableOOMProtection: flag('WORKER_DISABLE_OOM_PROTECTION', 'only warn when memory runs out', false),
  createObjectArtifacts: flag('WORKER_CREATE_OBJECT_ARTIFACTS', 'upload artifacts through the object service instead of as type s3', false),
  liveLogHost: text('WORKER_LIVE_LOG_HOST', 'address that live logs are served on', '127.0.0.1'),
  liveLogPort: integer('WORKER_LIVE_LOG_PORT', 'and the port; 0: any free one', 0, [0, 65_535]),
  liveLogPublicUrl: text('WORKER_LIVE_LOG_PUBLIC_URL', 'URL under which readers reach that port; default: its address', ''),
  taskclusterProxyAllowsOtherHosts: flag(
    'WORKER_PROXY_ALLOWS_OTHER_HOSTS',
    "whether the in-task proxy signs requests to hosts other than the installation's",
    false,
  ),
  isolation: text('WORKER_ISOLATION', 'auto, or none to run tasks without namespaces', 'auto'),
  metadata: object('WORKER_METADATA', 'facts shown at the top of every task log'),
  workerLocation: object('WORKER_LOCATION', 'where the machine is; given to tasks as TASKCLUSTER_WORKER_LOCATION'),
  instanceType: text('WORKER_INSTANCE_TYPE', 'kind of machine; given to tasks as TASKCLUSTER_INSTANCE_TYPE', ''),
  stopOnStdinEnd: flag('WORKER_STOP_ON_STDIN_END', 'stop when standard input ends, that is when the parent process does', false),
} as const;

type Settings = typeof settings;
type ValueOf<S> = S extends Setting<infer T> ? T : never;
export type WorkerConfig = { readonly [K in keyof Settings]: ValueOf<Settings[K]> };

/**
 * The configuration from an object (a parsed JSON file) and the environment; the object wins.
 * @throws one error that tells every mistake
 */
export const readConfig = (given: unknown, env: Readonly<Record<string, string | undefined>>): WorkerConfig => {
  if (typeof given !== 'object' || given === null || Array.isArray(given)) {
    throw new Error('The worker configuration must be a JSON object.');
  }
  const values: Record<string, unknown> = { ...given };
  const mistakes = Object.keys(values)
    .filter(key => !(key in settings))
    .map(key => `${key}: there is no such setting`);
  const config: Record<string, unknown> = {};
  for (const [key, setting] of Object.entries<Setting<unknown>>(settings)) {
    const value = values[key] ?? (env[setting.env] === '' ? undefined : env[setting.env]);
    const parsed = value === undefined || (value === '' && setting.fallback === '') ? setting.fallback : setting.parse(value);
    if (parsed === undefined) {
      const found = value === undefined ? 'is missing' : `is ${setting.secret ? 'malformed' : JSON.stringify(value)}`;
      mistakes.push(`${key} (${setting.env}) ${found}: it must be ${setting.wants}; it is the ${setting.meaning}`);
    }
    config[key] = parsed;
  }
  if (mistakes.length > 0) {
    throw new Error(`The worker configuration has mistakes:\n${mistakes.map(mistake => `  ${mistake}`).join('\n')}`);
  }
  const complete = config as unknown as WorkerConfig;
  const dataDir = resolve(complete.dataDir);
  const folder = (value: string, name: string): string => (value === '' ? resolve(dataDir, name) : resolve(value));
  return {
    ...complete,
    rootUrl: complete.rootUrl.replace(/\/+$/, ''),
    dataDir,
    tasksDir: folder(complete.tasksDir, 'tasks'),
    cachesDir: folder(complete.cachesDir, 'caches'),
    downloadsDir: folder(complete.downloadsDir, 'downloads'),
    hiddenPaths: complete.hiddenPaths.map(path => resolve(path)),
  };
};

export const taskQueueIdOf = (config: Pick<WorkerConfig, 'provisionerId' | 'workerType'>): string =>
  `${config.provisionerId}/${config.workerType}`;

/** The worker's own credentials: only for claiming and for asking about caches to purge, never for a task's affairs. */
export const credentialsOf = (config: Pick<WorkerConfig, 'clientId' | 'accessToken' | 'certificate'>): Credentials => ({
  clientId: config.clientId,
  accessToken: config.accessToken,
  ...(config.certificate === '' ? {} : { certificate: config.certificate }),
});
