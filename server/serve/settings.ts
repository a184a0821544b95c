/** Settings of a server process that is started by `taskcluster serve`; those of the services it runs come on top. */
import { flag, integer, jsonSetting, secret, text, type Setting, type SettingValues } from '../platform/config.ts';
import type { Key } from '../platform/keyring.ts';
import type { InternalUrls } from '../platform/service-fetch.ts';
import { BUILT_IN_CLIENTS } from '../services/auth/static-clients.ts';

const isObject = (value: unknown): value is Record<string, unknown> => typeof value === 'object' && value !== null && !Array.isArray(value);

const checkKeys = (value: unknown): readonly Key[] => {
  if (!Array.isArray(value) || value.length === 0) {
    throw new Error('must be a list of at least one {id, algo, key}');
  }
  const ids = new Set<string>();
  return value.map((each: unknown, index) => {
    const { id, algo, key } = isObject(each) ? each : {};
    if (typeof id !== 'string' || !/^[A-Za-z0-9_-]+$/.test(id) || ids.has(id)) {
      throw new Error(`must give key ${index + 1} an id of its own, of letters, digits, - and _`);
    }
    ids.add(id);
    if (algo !== undefined && algo !== 'aes-256') {
      throw new Error(`names the algorithm of key '${id}' as ${JSON.stringify(algo)}; there is only aes-256`);
    }
    const bytes = typeof key === 'string' ? Buffer.from(key, 'base64') : Buffer.alloc(0);
    if (bytes.length !== 32) {
      throw new Error(`must give key '${id}' 32 bytes in base64`);
    }
    return { id, key: bytes };
  });
};

const ACCESS_TOKEN = /^[a-zA-Z0-9_-]{22,66}$/;

const checkTokens = (value: unknown): Readonly<Record<string, string>> => {
  if (!isObject(value)) {
    throw new TypeError('must be an object from service to access token');
  }
  for (const [service, token] of Object.entries(value)) {
    if (!Object.hasOwn(BUILT_IN_CLIENTS, service)) {
      throw new Error(`names ${service}, which is none of ${Object.keys(BUILT_IN_CLIENTS).join(', ')}`);
    }
    if (typeof token !== 'string' || !ACCESS_TOKEN.test(token)) {
      throw new Error(`must give ${service} a token of 22 to 66 letters, digits, - and _`);
    }
  }
  return value as Record<string, string>;
};

const checkUrl = (value: unknown, what: string): string => {
  const url = typeof value === 'string' && URL.canParse(value) ? new URL(value) : undefined;
  if (!url || !['http:', 'https:'].includes(url.protocol) || url.pathname !== '/' || url.search !== '' || url.hash !== '' || url.username) {
    throw new Error(`must ${what} a URL such as https://tc.example.com, without a path`);
  }
  return url.origin;
};

const checkUrls = (value: unknown): InternalUrls => {
  if (!isObject(value)) {
    throw new TypeError('must be an object from service to URL');
  }
  return Object.fromEntries(Object.entries(value).map(([service, url]) => [service, checkUrl(url, `give ${service}`)]));
};

const as = <T>(setting: Setting<string>, parse: (value: string) => T): Setting<T> => ({
  ...setting,
  fallback: setting.fallback === undefined ? undefined : parse(setting.fallback),
  parse,
});

// what other programs call the levels of syslog
const LEVELS: Readonly<Record<string, string>> = {
  debug: 'debug',
  info: 'info',
  notice: 'info',
  warning: 'warn',
  warn: 'warn',
  err: 'error',
  error: 'error',
};

export const databaseSettings = {
  databaseUrl: secret(
    text(
      'DATABASE_URL',
      'the database, Postgres 15 or later, whose user may make temporary objects (the default): postgres://USER:PASSWORD@HOST:PORT/DATABASE',
      { fallback: undefined },
    ),
  ),
  writeDbUrl: secret(text('WRITE_DB_URL', 'another name of DATABASE_URL', { fallback: undefined })),
};

/** The database has two names, one of which must be given. */
export const requireDatabaseUrl = (found: Partial<SettingValues<typeof databaseSettings>>): string[] =>
  found.databaseUrl === undefined && found.writeDbUrl === undefined
    ? [`${databaseSettings.databaseUrl.name} is not set: ${databaseSettings.databaseUrl.meaning}`]
    : [];

export const processSettings = {
  rootUrl: as(text('TASKCLUSTER_ROOT_URL', 'root URL of the installation, as its users write it', {}), value => checkUrl(value, 'be')),
  ...databaseSettings,
  poolSize: integer('DB_POOL_SIZE', 'connections to the database that requests and loops share; a process opens up to ten more', {
    fallback: 20,
    min: 2,
    max: 500,
  }),
  migrate: flag(
    'DB_MIGRATE',
    'whether a starting process brings the database to the newest schema; if not, `taskcluster db migrate` must have done so',
    { fallback: true },
  ),
  keys: secret(
    jsonSetting(
      'DB_CRYPTO_KEYS',
      'keys of encrypted columns, a JSON list of {id, algo: "aes-256", key: 32 bytes in base64}; the last one encrypts, all decrypt',
      {},
      checkKeys,
    ),
  ),
  signingSecret: secret(
    as(text('SIGNING_SECRET', 'signs URLs of objects, at least 32 bytes in base64; the same in every process', {}), value => {
      const bytes = Buffer.from(value, 'base64');
      if (bytes.length < 32) {
        throw new Error('must be at least 32 bytes in base64');
      }
      return bytes;
    }),
  ),
  serviceTokens: secret(
    jsonSetting(
      'SERVICE_TOKENS',
      'access tokens of static/taskcluster/SERVICE, a JSON object by service: those of the services that run here; for auth, all of them, unless STATIC_CLIENTS has them',
      { fallback: {} },
      checkTokens,
    ),
  ),
  clientId: text('TASKCLUSTER_CLIENT_ID', 'static/taskcluster/SERVICE, where SERVICE_TOKENS is not given and one service runs here', {
    fallback: undefined,
  }),
  accessToken: secret(text('TASKCLUSTER_ACCESS_TOKEN', 'its access token', { fallback: undefined })),
  internalUrls: jsonSetting(
    'INTERNAL_URLS',
    'where services reach each other, a JSON object from service, or * for all others, to URL (default: the root URL)',
    { fallback: {} },
    checkUrls,
  ),
  port: integer('PORT', 'where it answers; 0: any free port', { fallback: 8080, max: 65_535 }),
  host: text('HOST', 'the address it listens on (default: all)', { fallback: undefined }),
  metricsPort: integer('METRICS_PORT', 'where Prometheus metrics are served, at /metrics; 0: any free port (default: nowhere)', {
    fallback: undefined,
    max: 65_535,
  }),
  trustProxy: flag('TRUST_PROXY', 'whether a proxy in front says where requests come from, in X-Forwarded-For', { fallback: false }),
  forceTls: flag('FORCE_SSL', 'whether requests that did not come over https are sent there; TRUST_PROXY, if a proxy in front ends TLS', {
    fallback: false,
  }),
  keepAliveSeconds: integer(
    'KEEP_ALIVE_TIMEOUT_SECONDS',
    'for so long idle connections are kept; longer than a proxy in front keeps them',
    {
      fallback: 90,
      min: 1,
      max: 3_600,
    },
  ),
  leaveSeconds: integer(
    'LEAVE_SECONDS',
    'for so long a process that was told to stop goes on answering, while /__lbheartbeat__ tells load balancers to send nothing more',
    { fallback: 0, max: 600 },
  ),
  level: as(text('LEVEL', 'what is logged: debug, info (or notice), warning, error', { fallback: 'info' }), value => {
    const level = LEVELS[value.toLowerCase()];
    if (level === undefined) {
      throw new Error(`must be one of ${Object.keys(LEVELS).join(', ')}`);
    }
    return level;
  }),
};

export type ProcessSettings = SettingValues<typeof processSettings>;
