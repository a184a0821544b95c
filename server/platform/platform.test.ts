import type { TSchema } from 'typebox';
import { describe, expect, it } from 'vitest';
import vectors from '../testing/vectors/auth.json' with { type: 'json' };
import { integer, jsonSetting, readSettings, secret, text } from './config.ts';
import { errorBody, fillMessage } from './errors.ts';
import { openKeyring } from './keyring.ts';
import { makePage, pageToken, readPage } from './page.ts';
import { systemRandom } from './clock.ts';
import { findNul, isDateTime, makeValidator, parseDateTime } from './validate.ts';

describe('error bodies', () => {
  it.each(vectors.errorMessage)('are laid out like $code', ({ template, details, method, code, status, time, message }) => {
    const body = errorBody(code, status, fillMessage(template, details), { method, params: {}, payload: {}, time: new Date(time) });
    expect(body).toMatchObject({ code, message });
  });
});

describe('pages', () => {
  it('continue from a key', () => {
    const { rows, continuationToken } = makePage([{ id: 'a' }, { id: 'b' }, { id: 'c' }], 2, row => [row.id]);
    expect(rows).toEqual([{ id: 'a' }, { id: 'b' }]);
    expect(readPage({ continuationToken, limit: '7' }, ['string'])).toEqual({ limit: 7, after: ['b'] });
    expect(makePage([{ id: 'a' }], 1, row => [row.id])).toEqual({ rows: [{ id: 'a' }] });
    expect(readPage({ limit: '5000' }, ['string'])).toEqual({ limit: 1000, after: undefined });
    expect(makePage([{ id: 'a' }], 0, row => [row.id])).toEqual({ rows: [] });
  });
  const read = (continuationToken: string, foreignToken?: 'letters' | 'refuse' | 'restart'): unknown =>
    readPage({ continuationToken }, ['string'], foreignToken ? { foreignToken } : {}).after;
  const token = (value: unknown): string => Buffer.from(JSON.stringify(value)).toString('base64url');
  const refused = expect.objectContaining({ code: 'InputError' }) as Error;

  it.each(['nonsense!', token(['??>', 'b']), token({ a_b: '??>' })])('refuse the token %s', foreign => {
    expect(() => read(foreign)).toThrow(refused);
    expect(() => read(foreign, 'refuse')).toThrow(refused);
    expect(read(foreign, 'restart')).toBeUndefined();
  });
  it.each(['abcdefghij', pageToken([1]), pageToken(['\0'])])('start from the beginning at the foreign token %s', foreign => {
    expect(read(foreign)).toBeUndefined();
    expect(() => read(foreign, 'refuse')).toThrow(refused);
    expect(read(foreign, 'restart')).toBeUndefined();
  });
  it.each([
    ['number', 2 ** 53 - 1, [1.5, 2 ** 53, null, '1']],
    ['int', -(2 ** 31), [1.5, 2 ** 31, -(2 ** 31) - 1, null, '1']],
    // later and earlier ones are no dates, or none that Postgres knows
    ['time', Date.parse('9999-12-31T23:59:59.999Z'), [1.5, 253_402_300_800_000, -62_167_219_200_001, null, '1']],
  ] as const)('take for a %s only what the database can compare with', (type, good, bad) => {
    const readAs = (value: unknown): unknown => readPage({ continuationToken: token([value]) }, [type], { foreignToken: 'restart' }).after;
    expect(readAs(good)).toEqual([good]);
    expect(bad.map(readAs)).toEqual(bad.map(() => undefined));
  });
});

describe('the keyring', () => {
  const old = { id: 'old', key: Buffer.alloc(32, 1) };
  const fresh = { id: 'new', key: Buffer.alloc(32, 2) };
  it('rotates: the newest key encrypts, all decrypt', () => {
    const stored = openKeyring([old], systemRandom).encrypt('hunter2', 'clients/a');
    const ring = openKeyring([old, fresh], systemRandom);
    expect(ring.decrypt(stored, 'clients/a')).toBe('hunter2');
    expect(ring.isStale(stored)).toBe(true);
    expect(ring.isStale(ring.encrypt('x', ''))).toBe(false);
    expect(() => openKeyring([fresh], systemRandom).decrypt(stored, 'clients/a')).toThrow("Encrypted under key 'old'");
  });
  it('notices values that were altered or moved', () => {
    const ring = openKeyring([fresh], systemRandom);
    const stored = ring.encrypt('hunter2', 'clients/a');
    expect(() => ring.decrypt(stored, 'clients/b')).toThrow();
    expect(() => ring.decrypt(`${stored.slice(0, -2)}AA`, 'clients/a')).toThrow();
  });
});

describe('settings', () => {
  const settings = {
    port: integer('PORT', 'where to listen', { fallback: 8080, min: 1, max: 65_535 }),
    url: text('ROOT_URL', 'the root URL', {}),
    keys: secret(jsonSetting('KEYS', 'the keys', { fallback: [] as string[] }, value => value as string[])),
  };
  it('have defaults and types', () => {
    expect(readSettings(settings, { ROOT_URL: 'http://x' })).toEqual({ port: 8080, url: 'http://x', keys: [] });
  });
  it('report all mistakes together, secrets without their value', () => {
    expect(() => readSettings(settings, { PORT: '99999', KEYS: '{"hunter2' })).toThrow(
      /3 mistakes:\n {2}\* PORT=99999 must be a whole number from 1 to 65535 .*\n {2}\* ROOT_URL is not set: the root URL\n {2}\* KEYS must be JSON/,
    );
  });
});

describe('date-times', () => {
  it.each([
    ['2030-01-15T12:00:00Z', '2030-01-15T12:00:00.000Z'],
    ['2030-01-15t12:00:00.123456z', '2030-01-15T12:00:00.123Z'],
    ['2030-01-15 12:00:00+02', '2030-01-15T10:00:00.000Z'],
    ['2030-01-15T12:00:00-0330', '2030-01-15T15:30:00.000Z'],
    ['2030-01-15T12:00:00.5', '2030-01-15T12:00:00.500Z'],
    ['2030-01-15T12:00:00-23:59', '2030-01-16T11:59:00.000Z'],
    ['9999-12-31T23:59:59.9999Z', '9999-12-31T23:59:59.999Z'],
    ['0000-01-01T00:00:00Z', '0000-01-01T00:00:00.000Z'],
  ])('%s is %s', (given, expected) => {
    expect(new Date(parseDateTime(given)).toISOString()).toBe(expected);
  });
  it.each([
    '2030-02-29T00:00:00Z',
    '2030-01-15',
    '2030-13-01T00:00:00Z',
    'tomorrow',
    '2030-01-15T24:00:00Z',
    '2030-01-15T12:00:00+24:00',
    '2030-01-15T12:00:00-00:60',
    '2030-01-15T12:00:00+9900',
    '9999-12-31T23:59:59-00:01',
    '0000-01-01T00:00:00+00:01',
  ])('%s is refused', given => {
    expect(isDateTime(given)).toBe(false);
    expect(parseDateTime(given)).toBeNaN();
  });
});

describe('arrays without repetitions', () => {
  const problems = (items: readonly unknown[]): unknown =>
    makeValidator([]).validate({ type: 'array', uniqueItems: true } as TSchema, items);
  it.each([
    [['a', 'b', 'a'], 2, 0],
    [[1, '1', true, 'true', null, 'null', [], {}, '{}', '[]', -0, 0], 11, 10],
    [[{ a: 1, b: [{ c: 2, d: 3 }] }, { a: 1 }, { b: [{ d: 3, c: 2 }], a: 1 }], 2, 0],
    [[[1, 2], [2, 1], ['1,2'], [1, 2]], 3, 0],
  ])('%j', (items, i, j) => {
    expect(problems(items)).toEqual([`data must NOT have duplicate items (items ## ${i} and ${j} are identical)`]);
    expect(problems(items.slice(0, -1))).toBeUndefined();
  });
  it('are checked however many they are', () => {
    const many = Array.from({ length: 200_000 }, (_, n) => ({ n }));
    expect(problems(many)).toBeUndefined();
    expect(problems([...many, { n: 7 }])).toEqual(['data must NOT have duplicate items (items ## 200000 and 7 are identical)']);
  });
});

it('names the place of a NUL', () => {
  expect(findNul({ a: [{ b: 'x\0' }] })).toBe('data/a/0/b');
  expect(findNul({ a: 'x' })).toBeUndefined();
});
