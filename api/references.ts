/**
 * The documents that a deployment publishes about itself, made from the declarations: references of APIs and exchanges, their schemas, and the
 * manifest that lists them. Clients, documentation and other implementations read them.
 *
 * In abstract form they say nothing about where they are: every id and link begins with `/`. A deployment serves them in absolute form, with its
 * root URL in front.
 */
import { apis as allApis, exchanges as allExchanges, payloadSchemas } from './all.ts';
import { commonSchemas } from './common-schemas.ts';
import type { Api, Exchange, Exchanges, Method, ScopeTemplate } from './define.ts';

export type Document = Readonly<Record<string, unknown>>;

export interface ApiReferenceEntry {
  readonly type: 'function';
  readonly name: string;
  readonly method: string;
  readonly route: string;
  readonly args: readonly string[];
  readonly query: readonly string[];
  readonly scopes?: ScopeTemplate;
  readonly input?: string;
  readonly output?: string;
  readonly stability: string;
  readonly category: string;
  readonly title: string;
  readonly description: string;
}

interface Published {
  readonly $id: string;
  readonly $schema: string;
}

const API_REFERENCE = '/schemas/common/api-reference-v0.json#';
const EXCHANGES_REFERENCE = '/schemas/common/exchanges-reference-v0.json#';
const MANIFEST = '/schemas/common/manifest-v3.json#';

/** The parameters of a route, in their order. */
export const routeParams = (route: string): string[] => Array.from(route.matchAll(/<([^>]+)>/g), match => match[1] as string);

/** The published schema behind a declaration's `input`, `output` or `schema`; throws where it has no id and so could not be found by anybody. */
function requirePublished(schema: object, where: string): Published {
  if (!('$id' in schema) || !('$schema' in schema)) {
    throw new Error(`${where}: the schema has no id; declare it with schema(service, name, …)`);
  }
  return schema as Published;
}

/** A schema as references name it: relative to `/schemas/<service>/`. */
function schemaName(service: string, schema: object, where: string): string {
  const { $id } = requirePublished(schema, where);
  const folder = `/schemas/${service}/`;
  if (!$id.startsWith(folder)) {
    throw new Error(`${where}: schema ${$id} does not belong to ${folder}`);
  }
  return $id.slice(folder.length);
}

function describeMethod(service: string, name: string, method: Method): ApiReferenceEntry {
  const where = `${service}.${name}`;
  return {
    type: 'function',
    name,
    method: method.method,
    route: method.route,
    args: routeParams(method.route),
    query: Object.keys(method.query ?? {}),
    ...(method.scopes === undefined ? {} : { scopes: method.scopes }),
    ...(method.input ? { input: schemaName(service, method.input, where) } : {}),
    // the published schema of references means to allow `blob`, but a oneOf in it refuses the word
    ...(method.output && method.output !== 'blob' ? { output: schemaName(service, method.output, where) } : {}),
    stability: method.stability,
    category: method.category,
    title: method.title,
    description: method.description,
  };
}

/** The reference of an API, in abstract form. Methods that are served but not published are left out. */
export const describeApi = (api: Api): Document & { entries: readonly ApiReferenceEntry[] } => ({
  $schema: API_REFERENCE,
  title: api.title,
  description: api.description,
  serviceName: api.service,
  apiVersion: api.version,
  entries: Object.entries(api.methods)
    .filter(([, method]) => method.published !== false)
    .map(([name, method]) => describeMethod(api.service, name, method)),
});

const describeExchange = (service: string, name: string, exchange: Exchange): Document => ({
  type: 'topic-exchange',
  name,
  exchange: exchange.exchange,
  title: exchange.title,
  description: exchange.description,
  routingKey: exchange.routingKey.map(field => ({ ...field, multipleWords: field.multipleWords ?? false })),
  schema: schemaName(service, exchange.schema, `${service}.${name}`),
});

/** The reference of a set of exchanges, in abstract form. */
export const describeExchanges = (set: Exchanges): Document => ({
  $schema: EXCHANGES_REFERENCE,
  title: set.title,
  description: set.description,
  serviceName: set.service,
  apiVersion: set.version,
  exchangePrefix: `exchange/taskcluster-${set.service}/${set.version}/`,
  entries: Object.entries(set.exchanges).map(([name, exchange]) => describeExchange(set.service, name, exchange)),
});

/** Every schema that the declarations publish, each once, by id without `#`. Two different schemas of one name are a mistake and throw. */
export function collectSchemas(
  apis: readonly Api[],
  exchanges: readonly Exchanges[],
  others: readonly object[] = [],
): Map<string, Document & Published> {
  const found = new Map<string, Document & Published>();
  const add = (schema: object, where: string) => {
    const published = requirePublished(schema, where) as Document & Published;
    const path = published.$id.replace(/#$/, '');
    const known = found.get(path);
    if (known && known !== published) {
      throw new Error(`${where}: two different schemas are called ${path}`);
    }
    found.set(path, published);
  };
  for (const api of apis) {
    for (const [name, method] of Object.entries(api.methods)) {
      for (const schema of [method.input, method.output]) {
        if (schema && schema !== 'blob') {
          add(schema, `${api.service}.${name}`);
        }
      }
    }
    for (const schema of api.schemas ?? []) {
      add(schema, `${api.service}.schemas`);
    }
  }
  for (const set of exchanges) {
    for (const [name, exchange] of Object.entries(set.exchanges)) {
      add(exchange.schema, `${set.service}.${name}`);
    }
  }
  for (const schema of others) {
    add(schema, 'others');
  }
  return found;
}

/** Where everything is in one file, in abstract form. */
export const REFERENCES_PATH = '/references/references.json';

/** What `references.json` is a list of. */
export interface ReferenceFile {
  readonly filename: string;
  readonly content: Document;
}

/**
 * All documents by path, in abstract form: `/references/…` and `/schemas/…`, the manifest and `references.json` included.
 * The schemas of the document formats are always among them; `otherSchemas` are those that belong to no API, such as task payloads.
 */
export function collectReferences(
  apis: readonly Api[] = allApis,
  exchanges: readonly Exchanges[] = allExchanges,
  otherSchemas: readonly object[] = payloadSchemas,
): Map<string, Document | readonly ReferenceFile[]> {
  const references: [string, Document][] = [
    ...apis.map((api): [string, Document] => [`/references/${api.service}/${api.version}/api.json`, describeApi(api)]),
    ...exchanges.map((set): [string, Document] => [`/references/${set.service}/${set.version}/exchanges.json`, describeExchanges(set)]),
  ];
  const manifest: Document = { $schema: MANIFEST, references: references.map(([path]) => path).toSorted() };
  const all: [string, Document][] = [
    ...references,
    ...collectSchemas(apis, exchanges, [...otherSchemas, ...commonSchemas]),
    ['/references/manifest.json', manifest],
  ];
  all.sort(([a], [b]) => (a < b ? -1 : 1));
  return new Map<string, Document | readonly ReferenceFile[]>([
    ...all,
    [REFERENCES_PATH, all.map(([path, content]) => ({ filename: path.slice(1), content }))],
  ]);
}

/** A document as a deployment serves it: its id, its schema, and the links of a manifest begin with the root URL. Lists stay abstract. */
export function absolute(document: Document | readonly ReferenceFile[], rootUrl: string): Document | readonly ReferenceFile[] {
  return isList(document) ? document : absoluteDocument(document, rootUrl.replace(/\/+$/, ''));
}

const isList = (document: Document | readonly ReferenceFile[]): document is readonly ReferenceFile[] => Array.isArray(document);

function absoluteDocument(document: Document, prefix: string): Document {
  const full = (value: unknown): unknown => (typeof value === 'string' && value.startsWith('/') ? prefix + value : value);
  const { $schema, $id, references } = document;
  return {
    ...document,
    ...($schema === undefined ? {} : { $schema: full($schema) }),
    ...($id === undefined ? {} : { $id: full($id) }),
    ...($schema === MANIFEST && Array.isArray(references) ? { references: references.map(full) } : {}),
  };
}

/** All documents by path as a deployment at this root URL serves them. */
export const collectAbsoluteReferences = (rootUrl: string): Map<string, Document | readonly ReferenceFile[]> =>
  new Map(Array.from(collectReferences(), ([path, document]) => [path, absolute(document, rootUrl)]));
