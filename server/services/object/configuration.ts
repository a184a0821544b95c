/**
 * Which backends there are, which objects go where, and what is put in front of downloads. Mistakes stop the start: an object that went to the wrong
 * place cannot be moved.
 */
import { jsonSetting, secret } from '../../platform/config.ts';
import { backendTypes } from './backends/all.ts';
import type { BackendType } from './backends/backend.ts';

export interface BackendConfig {
  readonly backendId: string;
  readonly type: BackendType;
  readonly config: unknown;
}

type Test = (value: string) => boolean;
export interface BackendRule {
  readonly backendId: string;
  readonly matches: (object: { readonly name: string; readonly projectId: string }) => boolean;
}

export interface CdnRule {
  readonly regexp: RegExp;
  readonly baseUrl: string;
}

const isObject = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

const onlyKeys = (where: string, value: Readonly<Record<string, unknown>>, allowed: readonly string[]): void => {
  const unknown = Object.keys(value).filter(key => !allowed.includes(key));
  if (unknown.length > 0) {
    throw new Error(`${where} has unknown keys: ${unknown.join(', ')}; it may have: ${allowed.join(', ')}`);
  }
};

const readRegexp = (where: string, value: unknown): RegExp => {
  if (typeof value !== 'string') {
    throw new Error(`${where} must be a regular expression in a string`);
  }
  try {
    return new RegExp(value);
  } catch (error) {
    throw new Error(`${where} is not a regular expression: ${(error as Error).message}`, { cause: error });
  }
};

/** `{ "<backendId>": { "backendType": "…", … } }` */
export const readBackends = (value: unknown): BackendConfig[] => {
  if (!isObject(value)) {
    throw new Error('must be an object from backend id to its settings');
  }
  return Object.entries(value).map(([backendId, settings]) => {
    if (!isObject(settings) || typeof settings['backendType'] !== 'string') {
      throw new Error(`the backend "${backendId}" needs a backendType`);
    }
    const type = backendTypes.find(each => each.type === settings['backendType']);
    if (!type) {
      const known = backendTypes.map(each => each.type).join(', ');
      throw new Error(
        `the backend "${backendId}" has the type "${settings['backendType']}", which does not exist here; there are: ${known}`,
      );
    }
    try {
      return { backendId, type, config: type.read(settings) };
    } catch (error) {
      throw new Error(`the backend "${backendId}" ${(error as Error).message}`, { cause: error });
    }
  });
};

/** A string or `{ is }` is equality, `{ regexp }` a search. */
const readPattern = (where: string, value: unknown): Test => {
  if (typeof value === 'string') {
    return text => text === value;
  }
  if (isObject(value) && Object.keys(value).length === 1) {
    const { is } = value;
    if (typeof is === 'string') {
      return text => text === is;
    }
    if ('regexp' in value) {
      const regexp = readRegexp(`${where}.regexp`, value['regexp']);
      return text => regexp.test(text);
    }
  }
  throw new Error(`${where} must be a string, {"is": string} or {"regexp": string}`);
};

/** `[{ "backendId": "…", "when": "all" | { "name"?: pattern, "projectId"?: pattern } }]`; the first that matches is taken. */
export const readBackendMap = (value: unknown): BackendRule[] => {
  if (!Array.isArray(value)) {
    throw new Error('must be a list of rules');
  }
  return value.map((rule: unknown, i) => {
    const where = `rule ${i + 1}`;
    if (!isObject(rule) || typeof rule['backendId'] !== 'string' || rule['when'] === undefined) {
      throw new Error(`${where} needs a backendId and a "when"`);
    }
    onlyKeys(where, rule, ['backendId', 'when']);
    const { backendId, when } = rule;
    if (when === 'all') {
      return { backendId, matches: () => true };
    }
    if (!isObject(when)) {
      throw new Error(`${where}: "when" must be "all" or an object with patterns for name and projectId`);
    }
    onlyKeys(`${where}: "when"`, when, ['name', 'projectId']);
    const tests = (['name', 'projectId'] as const)
      .filter(key => when[key] !== undefined)
      .map(key => ({ key, test: readPattern(`${where}: "when".${key}`, when[key]) }));
    return { backendId, matches: object => tests.every(({ key, test }) => test(object[key])) };
  });
};

/** `[{ "middlewareType": "cdn", "regexp": "…", "baseUrl": "…" }]` */
export const readMiddleware = (value: unknown): CdnRule[] => {
  if (!Array.isArray(value)) {
    throw new Error('must be a list');
  }
  return value.map((entry: unknown, i) => {
    const where = `entry ${i + 1}`;
    if (!isObject(entry) || entry['middlewareType'] !== 'cdn') {
      throw new Error(`${where} needs the middlewareType "cdn", the only one there is`);
    }
    onlyKeys(where, entry, ['middlewareType', 'regexp', 'baseUrl']);
    const { baseUrl } = entry;
    if (typeof baseUrl !== 'string' || !URL.canParse(baseUrl)) {
      throw new Error(`${where} needs a baseUrl`);
    }
    return { regexp: readRegexp(`${where}: "regexp"`, entry['regexp']), baseUrl };
  });
};

/** A rule for a backend that does not exist stops the start. */
export const checkBackendMap = (rules: readonly BackendRule[], backends: readonly BackendConfig[]): void => {
  for (const { backendId } of rules) {
    if (!backends.some(backend => backend.backendId === backendId)) {
      throw new Error(`BACKEND_MAP sends objects to the backend "${backendId}", which BACKENDS does not have.`);
    }
  }
};

export const backendSettings = {
  backends: secret(
    jsonSetting(
      'BACKENDS',
      'where objects are kept: JSON from backend id to its settings (default: one backend `local`, the local folder)',
      {
        fallback: readBackends({ local: { backendType: 'local' } }),
      },
      readBackends,
    ),
  ),
  backendMap: jsonSetting(
    'BACKEND_MAP',
    'which objects go to which backend: a JSON list of rules, the first that matches is taken',
    {
      fallback: readBackendMap([{ backendId: 'local', when: 'all' }]),
    },
    readBackendMap,
  ),
  middleware: jsonSetting(
    'MIDDLEWARE',
    'what answers downloads before the backend does: a JSON list',
    {
      fallback: readMiddleware([]),
    },
    readMiddleware,
  ),
};
