import fs from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { describe, expect, test } from 'vitest';
import { StartProblem } from '../local/problem.ts';
import { readAllSettings } from '../platform/config.ts';
import { BUILT_IN_CLIENTS } from '../services/auth/static-clients.ts';
import { readEnvironment } from './environment.ts';
import { chooseLoops, chooseServices, readServeOptions } from './options.ts';
import { processSettings, requireDatabaseUrl } from './settings.ts';
import { checkTokens, findTokens } from './tokens.ts';

describe('options', () => {
  test('have defaults', () => {
    expect(readServeOptions([])).toEqual({
      services: undefined,
      loops: 'all',
      relay: true,
      envFiles: [],
      environment: {},
      printProcesses: false,
    });
  });

  test('are taken', () => {
    const args = ['--services', 'queue, auth', '--loops=queue/deadline', '--no-relay', '--port', '0', '--metrics-port', '9'];
    expect(readServeOptions([...args, '--env-file', 'a', '--env-file', 'b'])).toEqual({
      services: ['queue', 'auth'],
      loops: ['queue/deadline'],
      relay: false,
      envFiles: ['a', 'b'],
      environment: { PORT: '0', METRICS_PORT: '9' },
      printProcesses: false,
    });
    expect(readServeOptions(['--loops', 'none']).valueOf()).toMatchObject({ loops: 'none' });
    expect(readServeOptions(['--help'])).toBe('help');
  });

  test.each([
    [['--servces', 'queue'], /^Unknown option '--servces'/],
    [['queue'], /^Unexpected argument 'queue'/],
    [['--services', ','], /^--services must name at least one service/],
  ])('%j is refused', (args, message) => {
    expect(() => readServeOptions(args)).toThrow(message);
    expect(() => readServeOptions(args)).toThrow(StartProblem);
  });

  const all = [{ name: 'auth' }, { name: 'object' }, { name: 'queue' }];
  test('services start in their order, whatever the order of their names', () => {
    expect(chooseServices(all, ['queue', 'auth'])).toEqual([{ name: 'auth' }, { name: 'queue' }]);
    expect(chooseServices(all, undefined)).toBe(all);
    expect(() => chooseServices(all, ['queue', 'qeue'])).toThrow(
      'There is no service qeue. --services takes some of: auth, object, queue.',
    );
  });

  test('loops are chosen by name or by service', () => {
    const known = [
      { service: 'object', loops: ['object/expire', 'blobs/garbage'] },
      { service: 'queue', loops: ['queue/deadline', 'queue/expire'] },
    ];
    const chosen = (wanted: Parameters<typeof chooseLoops>[0]): string[] =>
      known.flatMap(({ loops }) => loops).filter(chooseLoops(wanted, known).isWanted);
    expect(chosen('all')).toEqual(['object/expire', 'blobs/garbage', 'queue/deadline', 'queue/expire']);
    expect(chosen('none')).toEqual([]);
    expect(chosen(['object', 'queue/expire'])).toEqual(['object/expire', 'blobs/garbage', 'queue/expire']);
    expect(chooseLoops(['queue', 'queue/dedline', 'auth'], known).unknown).toEqual(['queue/dedline', 'auth']);
  });
});

describe('settings', () => {
  const key = Buffer.alloc(32, 1).toString('base64');
  const good = {
    TASKCLUSTER_ROOT_URL: 'https://tc.example.com/',
    DATABASE_URL: 'postgres://u:p@db/tc',
    DB_CRYPTO_KEYS: JSON.stringify([
      { id: 'old', algo: 'aes-256', key: Buffer.alloc(32, 2).toString('base64') },
      { id: 'new', key },
    ]),
    SIGNING_SECRET: key,
  };
  const read = (more: Record<string, string> = {}) =>
    readAllSettings([processSettings] as const, { ...good, ...more }, ([found]) => requireDatabaseUrl(found))[0];

  test('are read', () => {
    expect(
      read({
        INTERNAL_URLS: '{"auth":"http://auth:8080","*":"http://all/"}',
        LEVEL: 'NOTICE',
        METRICS_PORT: '0',
        SERVICE_TOKENS: '{"queue":"0123456789012345678901"}',
      }),
    ).toMatchObject({
      rootUrl: 'https://tc.example.com',
      keys: [{ id: 'old' }, { id: 'new', key: Buffer.alloc(32, 1) }],
      signingSecret: Buffer.alloc(32, 1),
      internalUrls: { auth: 'http://auth:8080', '*': 'http://all' },
      level: 'info',
      port: 8080,
      metricsPort: 0,
      trustProxy: false,
      forceTls: false,
      migrate: true,
      serviceTokens: { queue: '0123456789012345678901' },
    });
  });

  test('all mistakes are told at once, and no secret', () => {
    const environment = {
      TASKCLUSTER_ROOT_URL: 'tc.example.com',
      DB_CRYPTO_KEYS: '[{"id":"a","algo":"aes-128","key":"c2VjcmV0"}]',
      SIGNING_SECRET: 'c2VjcmV0',
      PORT: '70000',
      TRUST_PROXY: '1',
      LEVEL: 'loud',
      SERVICE_TOKENS: '{"queue":"secret"}',
      INTERNAL_URLS: '{"auth":"http://auth/path"}',
    };
    const message = ((): string => {
      try {
        readAllSettings([processSettings] as const, environment, ([found]) => requireDatabaseUrl(found));
      } catch (error) {
        return (error as Error).message;
      }
      return '';
    })();
    for (const name of Object.keys(environment)) {
      expect(message).toContain(`  * ${name}`);
    }
    expect(message).toContain('9 mistakes');
    expect(message).toContain('DATABASE_URL is not set');
    expect(message).not.toContain('c2VjcmV0');
    expect(message).not.toContain('secret"');
  });

  test.each([
    ['DB_CRYPTO_KEYS', '[]', 'must be a list of at least one {id, algo, key}'],
    ['DB_CRYPTO_KEYS', JSON.stringify([{ id: 'a b', key }]), 'must give key 1 an id of its own'],
    [
      'DB_CRYPTO_KEYS',
      JSON.stringify([
        { id: 'a', key },
        { id: 'a', key },
      ]),
      'must give key 2 an id of its own',
    ],
    ['DB_CRYPTO_KEYS', JSON.stringify([{ id: 'a', key: 'AAAA' }]), "must give key 'a' 32 bytes in base64"],
    ['DB_CRYPTO_KEYS', 'null', 'must be a list'],
    ['SERVICE_TOKENS', '[]', 'must be an object'],
    ['SERVICE_TOKENS', '{"que":"0123456789012345678901"}', 'names que, which is none of'],
    ['SERVICE_TOKENS', '{"toString":"0123456789012345678901"}', 'names toString, which is none of'],
    ['INTERNAL_URLS', '{"auth":"ftp://x"}', 'must give auth a URL'],
    ['TASKCLUSTER_ROOT_URL', 'https://x/y', 'must be a URL'],
  ])('%s=%s is refused', (name, value, message) => {
    expect(() => read({ [name]: value })).toThrow(message);
  });
});

describe('tokens', () => {
  const token = (n: number): string => `${n}`.repeat(22);
  test('come from SERVICE_TOKENS, STATIC_CLIENTS, or the pair for one service', () => {
    const environment = { STATIC_CLIENTS: JSON.stringify([{ clientId: 'static/taskcluster/object', accessToken: token(2) }]) };
    const settings = { serviceTokens: { queue: token(1) }, clientId: 'static/taskcluster/index', accessToken: token(3) };
    const tokenOf = findTokens(settings, environment);
    expect(['queue', 'object', 'index', 'hooks', 'toString'].map(tokenOf)).toEqual([token(1), token(2), token(3), undefined, undefined]);
    expect(checkTokens(settings, environment, ['queue', 'object', 'index'])).toEqual([]);
    expect(checkTokens(settings, environment, ['queue', 'hooks', 'built-in-workers'])).toEqual([
      'SERVICE_TOKENS lacks the access tokens of these services: built-in-workers, hooks',
    ]);
  });

  test('auth needs those of all services', () => {
    const serviceTokens = Object.fromEntries(Object.keys(BUILT_IN_CLIENTS).map(name => [name, token(1)]));
    expect(checkTokens({ serviceTokens }, {}, ['auth'])).toEqual([]);
    const { hooks: _, ...rest } = serviceTokens;
    expect(checkTokens({ serviceTokens: rest }, {}, ['auth'])).toEqual(['SERVICE_TOKENS lacks the access tokens of these services: hooks']);
  });
});

test('settings come from options, then the environment, then files, of which the last counts', async () => {
  const folder = await fs.mkdtemp(path.join(os.tmpdir(), 'taskcluster-serve-'));
  try {
    const [one, two] = [path.join(folder, 'one'), path.join(folder, 'two')];
    await fs.writeFile(one, '# comment\nA=1\nB="1"\nC=1\nD=1\n');
    await fs.writeFile(two, "export B='2 3'\nC=2\n");
    expect(await readEnvironment({ envFiles: [one, two], environment: { D: '4' } }, { C: '3', D: '3' })).toEqual({
      A: '1',
      B: '2 3',
      C: '3',
      D: '4',
    });
    const missing = readEnvironment({ envFiles: [path.join(folder, 'three')], environment: {} }, {});
    await expect(missing).rejects.toThrow(/three, given as --env-file, cannot be read: ENOENT/);
    await expect(missing).rejects.toThrow(StartProblem);
  } finally {
    await fs.rm(folder, { recursive: true, force: true });
  }
});
