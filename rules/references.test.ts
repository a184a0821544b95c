/**
 * What we publish agrees with what existing clients were generated from: every method and exchange in the API data of the public
 * `taskcluster-client` package (pinned, see package.json) that we declare too. Prose is our own and not compared.
 */
import { apis, exchanges } from '@tscluster/api/all.ts';
import { absolute, collectReferences, routeParams, type Document } from '@tscluster/api/references.ts';
import { makeValidator } from '@tscluster/server/platform/validate.ts';
import { describe, expect, test } from 'vitest';
// @ts-expect-error the package has no types
import clientData from '../node_modules/taskcluster-client/src/apis.js';

interface Entry {
  readonly name: string;
  readonly [key: string]: unknown;
}
interface Reference {
  readonly serviceName: string;
  readonly apiVersion: string;
  readonly exchangePrefix?: string;
  readonly entries: readonly Entry[];
}

const known = Object.values(clientData as Record<string, { reference: Reference }>).map(({ reference }) => reference);
const documents = collectReferences();

const METHOD_KEYS = ['type', 'name', 'method', 'route', 'args', 'query', 'scopes', 'input', 'output', 'stability'] as const;
const EXCHANGE_KEYS = ['type', 'name', 'exchange', 'schema'] as const;

const pick = (entry: Entry, keys: readonly string[]): Record<string, unknown> =>
  Object.fromEntries(keys.filter(key => entry[key] !== undefined).map(key => [key, entry[key]]));
const keyShape = (entry: Entry): unknown =>
  (entry['routingKey'] as Entry[]).map(({ name, constant, multipleWords, required }) => ({ name, constant, multipleWords, required }));
/** The order of alternatives means nothing. */
const sortExpression = (value: unknown): unknown => {
  if (Array.isArray(value)) {
    return value.map(sortExpression).toSorted((a, b) => (JSON.stringify(a) < JSON.stringify(b) ? -1 : 1));
  }
  return value !== null && typeof value === 'object'
    ? Object.fromEntries(
        Object.entries(value)
          .toSorted(([a], [b]) => (a < b ? -1 : 1))
          .map(([key, part]) => [key, sortExpression(part)]),
      )
    : value;
};

/** Services that clients were generated from; the others are our own. */
const PROTOCOL = new Set(known.map(({ serviceName }) => serviceName));

describe.each([
  ...apis.filter(({ service }) => PROTOCOL.has(service)).map(({ service }) => ({ service, kind: 'api' as const })),
  ...exchanges.filter(({ service }) => PROTOCOL.has(service)).map(({ service }) => ({ service, kind: 'exchanges' as const })),
])('$kind of $service', ({ service, kind }) => {
  const ours = documents.get(`/references/${service}/v1/${kind}.json`) as unknown as Reference;
  const theirs = known.find(reference => reference.serviceName === service && 'exchangePrefix' in reference === (kind === 'exchanges'));

  test('is known to clients in the same form', () => {
    expect(theirs).toMatchObject({ apiVersion: ours.apiVersion, ...(kind === 'exchanges' ? { exchangePrefix: ours.exchangePrefix } : {}) });
  });

  const byName = new Map(ours.entries.map(entry => [entry.name, entry]));
  const shared = (theirs?.entries ?? []).flatMap(their => {
    const our = byName.get(their.name);
    return our ? [{ name: their.name, their, our }] : [];
  });

  test('has most of what clients know', () => {
    expect(shared.length).toBeGreaterThan((theirs?.entries.length ?? 0) * 0.9);
  });

  test.each(shared)('$name', ({ their, our }) => {
    if (kind === 'api') {
      expect({ ...pick(our, METHOD_KEYS), scopes: sortExpression(our['scopes']) }).toEqual({
        ...pick(their, METHOD_KEYS),
        scopes: sortExpression(their['scopes']),
      });
    } else {
      expect(pick(our, EXCHANGE_KEYS)).toEqual(pick(their, EXCHANGE_KEYS));
      expect(keyShape(our)).toEqual(keyShape(their));
    }
  });
});

describe('documents', () => {
  const schemas = [...documents].filter(([path]) => path.startsWith('/schemas/')) as [string, Document][];

  test('every schema is found under its id', () => {
    expect(schemas.map(([path, schema]) => [`${path}#`, schema['$id']]).filter(([path, id]) => path !== id)).toEqual([]);
  });

  test('every reference inside a schema leads somewhere, within the same service', () => {
    const broken: string[] = [];
    const visit = (path: string, node: unknown): void => {
      if (Array.isArray(node)) {
        node.forEach(part => visit(path, part));
      } else if (node !== null && typeof node === 'object') {
        const ref = (node as { $ref?: unknown }).$ref;
        if (typeof ref === 'string' && !ref.startsWith('http://json-schema.org/') && !leadsSomewhere(path, ref)) {
          broken.push(`${path}: ${ref}`);
        }
        Object.values(node).forEach(part => visit(path, part));
      }
    };
    const leadsSomewhere = (path: string, ref: string): boolean => {
      const [file = '', pointer = ''] = ref.split('#');
      const target = file === '' ? path : new URL(file, `http://x${path}`).pathname;
      const inside = target.slice(0, target.lastIndexOf('/')) === path.slice(0, path.lastIndexOf('/'));
      const found = pointer
        .split('/')
        .filter(Boolean)
        .reduce<unknown>((at, part) => (at as Record<string, unknown> | undefined)?.[part], documents.get(target));
      return inside && found !== undefined;
    };
    for (const [path, schema] of schemas) {
      visit(path, schema);
    }
    expect(broken).toEqual([]);
  });

  test('every object schema says what it does with unknown keys', () => {
    const open: string[] = [];
    const visit = (path: string, node: unknown): void => {
      if (Array.isArray(node)) {
        node.forEach(part => visit(path, part));
      } else if (node !== null && typeof node === 'object') {
        const it = node as Record<string, unknown>;
        if (
          it['properties'] &&
          typeof it['properties'] === 'object' &&
          it['type'] === 'object' &&
          it['additionalProperties'] === undefined
        ) {
          open.push(path);
        }
        Object.values(it).forEach(part => visit(path, part));
      }
    };
    for (const [path, schema] of schemas) {
      visit(path, schema);
    }
    expect(open).toEqual([]);
  });

  test('every schema compiles, and refuses what is not even an object', () => {
    const validator = makeValidator(schemas.map(([, schema]) => schema));
    // The schemas of schemas refer to draft 6, which is not ours; those that hold only definitions accept anything.
    const compiled = schemas.filter(([path, schema]) => !path.endsWith('metaschema.json') && ('type' in schema || 'oneOf' in schema));
    expect(compiled.filter(([, schema]) => validator.validate(schema, 5) === undefined).map(([path]) => path)).toEqual([]);
    expect(compiled.length).toBeGreaterThan(90);
  });

  test('every reference and the manifest are what their schemas say', () => {
    const validator = makeValidator(schemas.map(([, schema]) => schema));
    const invalid: unknown[] = [];
    for (const [path, document] of documents) {
      if (path.startsWith('/references/') && '$schema' in document) {
        const schema = documents.get(String(document['$schema']).replace(/#$/, '')) as Document;
        const { $schema: _, ...manifest } = document;
        // The schema of manifests does not know the key by which it is found.
        const problems = validator.validate(
          schema,
          path.endsWith('manifest.json') ? manifest : absolute(document, 'https://tc.example.com'),
        );
        if (problems) {
          invalid.push([path, problems]);
        }
      }
    }
    expect(invalid).toEqual([]);
  });

  test('every schema that a reference names is published', () => {
    const missing: string[] = [];
    for (const [path, document] of documents) {
      if (/\/(api|exchanges)\.json$/.test(path) && path.startsWith('/references/')) {
        const { serviceName, entries } = document as unknown as Reference;
        for (const entry of entries) {
          for (const name of [entry['input'], entry['output'], entry['schema']]) {
            if (typeof name === 'string' && name !== 'blob' && !documents.has(`/schemas/${serviceName}/${name.replace(/#$/, '')}`)) {
              missing.push(`${path}: ${name}`);
            }
          }
        }
      }
    }
    expect(missing).toEqual([]);
  });
});

describe.each(apis.map(api => ({ service: api.service, api })))('declarations of $service', ({ api }) => {
  test.each(Object.entries(api.methods))('%s', (_name, method) => {
    const params = routeParams(method.route);
    expect(Object.keys(method.params ?? {}).filter(name => !params.includes(name))).toEqual([]);
    expect([...(method.splat ?? []), ...(method.optional ?? [])].filter(name => !params.includes(name))).toEqual([]);
    expect(method.title.length).toBeGreaterThan(2);
    expect(method.description.length).toBeGreaterThan(20);
  });
});
