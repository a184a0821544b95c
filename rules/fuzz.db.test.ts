/**
 * Whatever is sent to any method of any API is answered, and never with a 5xx: hostile paths, queries, headers and bodies, sent with every right there
 * is, so that they get as far as they can. The methods come from the declarations. `FUZZ_RUNS` and `FUZZ_SEED` change how many per method, and which.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { apis, exchanges, payloadSchemas } from '@tscluster/api/all.ts';
import { collectSchemas } from '@tscluster/api/references.ts';
import { signRequest } from '@tscluster/client/hawk.ts';
import { systemClock } from '@tscluster/client/clock.ts';
import { allServices } from '@tscluster/server/services/all.ts';
import { type TestServer, withServer } from '@tscluster/server/testing/server.ts';
import fc from 'fast-check';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { makeResolver, sampleOf } from './sample.ts';

const RUNS = Number(process.env['FUZZ_RUNS'] ?? 12);
const SEED = Number(process.env['FUZZ_SEED'] ?? 20_261_121);
/** Who waits that long waits for work or for events, which is an answer. */
const HELD_MS = 1_500;
const ROOT = { clientId: 'static/taskcluster/root', accessToken: 'token-of-root-0123456789abcdef' };

const objects = mkdtempSync(join(tmpdir(), 'taskcluster-fuzz-'));
let server: TestServer;
beforeAll(async () => {
  server = await withServer(allServices, { environment: { STATIC_CLIENTS: '[]', OBJECTS_FOLDER: objects } });
}, 120_000);
afterAll(() => rmSync(objects, { recursive: true, force: true }));

const NASTY_TEXT = [
  '',
  ' ',
  '\0',
  '\u{d800}',
  '../../etc/passwd',
  "'; drop table queue.tasks; --",
  '{{x}}',
  '$(id)',
  '*',
  '**',
  'x'.repeat(300),
  'x'.repeat(70_000),
  '\u202e\u{1f9ff}é',
  '9999-99-99T99:99:99Z',
  '-000001-01-01T00:00:00.000Z',
  '+275760-09-13T00:00:00.001Z',
  '0000-01-01T00:00:00Z',
  '9999-12-31T23:59:59.999Z',
  '^(a+)+$',
  'http://[::1]:1/',
  'AAAAAAAAQACAAAAAAAAAAA',
];
const nastyText = fc.oneof(fc.constantFrom(...NASTY_TEXT), fc.string({ maxLength: 30, unit: 'binary' }));
const nasty = fc.oneof(
  nastyText,
  fc.constantFrom<unknown>(null, true, 0, -1, -0.5, 1e308, -1e308, 2 ** 31, 2 ** 53, [], {}, [[]], [null], {
    __proto__: null,
    constructor: 1,
  }),
  fc.jsonValue({ maxDepth: 3 }),
);

const resolve = makeResolver(collectSchemas(apis, exchanges, payloadSchemas));
const inAnHour = new Date(systemClock.nowMs() + 3_600_000).toISOString();

/** A valid body with one to three of its places replaced, removed or added. */
const damage = (body: unknown): fc.Arbitrary<unknown> =>
  fc.array(fc.tuple(fc.nat(), nasty, fc.constantFrom('replace', 'remove', 'add')), { minLength: 0, maxLength: 3 }).map(changes => {
    const copy = structuredClone({ body });
    for (const [at, shared, how] of changes) {
      const value = structuredClone(shared);
      const places: [Record<string, unknown>, string][] = [];
      const walk = (node: unknown): void => {
        if (typeof node === 'object' && node !== null) {
          for (const key of Object.keys(node)) {
            places.push([node as Record<string, unknown>, key]);
            walk((node as Record<string, unknown>)[key]);
          }
        }
      };
      walk(copy);
      const place = places[at % places.length];
      if (!place) {
        break; // the whole body was removed
      }
      const [parent, key] = place;
      if (how === 'replace') {
        parent[key] = value;
      } else if (how === 'remove') {
        delete parent[key];
      } else if (typeof parent[key] === 'object' && parent[key] !== null) {
        (parent[key] as Record<string, unknown>)['unexpected'] = value;
      }
    }
    return copy.body;
  });

const encodings = [
  encodeURIComponent,
  (text: string) => encodeURIComponent(text).replaceAll('%2F', '/'),
  (text: string) => text.replace(/[^!-~]/g, '%'),
];
const safely = (encode: (text: string) => string, text: string): string => {
  try {
    return encode(text);
  } catch {
    return '%ED%A0%80'; // half a character
  }
};

const DEEP = `${'['.repeat(20_000)}${']'.repeat(20_000)}`;
const DEEP_INSIDE = `{"payload":${'{"a":'.repeat(3_000)}1${'}'.repeat(3_000)}}`;
const request = (route: string, body: unknown) =>
  fc.record({
    path: fc
      .array(
        fc.tuple(fc.oneof(nastyText, fc.constantFrom('x', 'a/b', 'AAAAAAAAQACAAAAAAAAAAA', '0', 'prov/wt')), fc.constantFrom(...encodings)),
        {
          minLength: 6,
          maxLength: 6,
        },
      )
      .map(values => {
        let i = 0;
        return route.replace(/<[^>]+>/g, () => {
          const [text, encode] = values[i++ % values.length] as (typeof values)[number];
          return safely(encode, text);
        });
      }),
    query: fc.oneof(
      { weight: 3, arbitrary: fc.constant('') },
      fc
        .array(fc.tuple(fc.constantFrom('limit', 'continuationToken', 'since', 'at', 'bindings', 'prefix', 'x'), nastyText), {
          maxLength: 3,
        })
        .map(pairs => `?${pairs.map(([key, value]) => `${key}=${safely(encodeURIComponent, value)}`).join('&')}`),
      fc.constantFrom('?', '?%', '?limit=1&limit=2', '?limit=1e9', '?continuationToken=%00'),
    ),
    body: fc.oneof(
      { weight: 4, arbitrary: damage(body).map(value => JSON.stringify(value) ?? '') },
      nasty.map(value => JSON.stringify(value) ?? ''),
      fc.constantFrom('', '{', '{"a":', '\u{feff}{}', DEEP, DEEP_INSIDE, '{"__proto__":{"a":1}}', '1e400', '{"a":1}{"b":2}'),
    ),
    headers: fc.constantFrom<Record<string, string>>(
      {},
      {},
      {},
      { 'content-type': 'application/json; charset=utf-16' },
      { 'content-type': 'text/plain' },
      { 'content-type': 'nonsense' },
      { authorization: 'Hawk nonsense' },
      { authorization: `Hawk id="${'x'.repeat(5_000)}", ts="1", nonce="a", mac="b"` },
      { 'x-taskcluster-trace-id': 'x'.repeat(5_000) },
      { accept: 'text/event-stream', 'last-event-id': '../x' },
      { range: 'bytes=9-1,-,999999999999999999999-' },
    ),
  });

const statusOf = async (method: string, path: string, headers: Record<string, string>, body: string): Promise<number> => {
  const url = new URL(server.rootUrl + path);
  const authorization = await signRequest({ credentials: ROOT, method, url, nonce: 'fuzz', nowMs: server.clock.nowMs() });
  const controller = new AbortController();
  const answer = server.fetch(url, {
    method,
    headers: { 'content-type': 'application/json', authorization, ...headers },
    signal: controller.signal,
    redirect: 'manual',
    ...(method === 'GET' || method === 'HEAD' ? {} : { body }),
  });
  const held = systemClock.sleep(HELD_MS).then(() => undefined);
  const response = await Promise.race([answer.catch((error: unknown) => error), held]);
  controller.abort();
  if (response === undefined) {
    return 200;
  }
  return response instanceof Response ? response.status : Promise.reject(response as Error);
};

for (const api of apis) {
  test(`${api.service} answers everything, and never with a 5xx`, { timeout: 300_000 }, async () => {
    for (const [name, method] of Object.entries(api.methods)) {
      const input = method.input as unknown as Record<string, unknown> | undefined;
      const sample = input ? sampleOf(input, resolve, inAnHour) : {};
      await fc.assert(
        fc.asyncProperty(request(`/api/${api.service}/${api.version}${method.route}`, sample), async ({ path, query, headers, body }) => {
          const status = await statusOf(method.method.toUpperCase(), path + query, headers, body);
          expect(status, `${name}: ${path.slice(0, 200)}${query} ${body.slice(0, 500)}`).toBeLessThan(500);
        }),
        { numRuns: RUNS, seed: SEED, endOnFailure: false },
      );
    }
  });
}
