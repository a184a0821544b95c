/**
 * JSON Schemas that are TypeScript types at the same time. The protocol's own language is JSON Schema (draft 6) and its documents are compared
 * word by word by others, so these builders emit exactly the published spelling (`enum` with a type, `additionalProperties` for maps, `required`
 * always present), which general schema libraries do not.
 *
 * A schema is a plain JSON object; its type exists for the compiler only. It is compatible with TypeBox (`Static<typeof x>` works), but computed
 * once per object instead of at every use: with some hundred schemas that is the difference between a fast and a slow type check.
 *
 * A body has two types: what a caller must send (`TypeOf`), and what a handler sees once the defaults were written into it (`FilledOf`).
 */
import type { TUnsafe } from 'typebox';

export interface Schema<T = unknown, F = T> extends TUnsafe<T> {
  readonly '~filled': F;
}

/** A schema that is published at a path of its own and can be referred to. */
export interface NamedSchema<T = unknown, F = T> extends Schema<T, F> {
  readonly $id: string;
}

/** What a sender gives. */
export type TypeOf<S> = S extends { '~unsafe': infer T } ? T : never;
/** What a receiver sees after defaults were filled in. */
export type FilledOf<S> = S extends { '~filled': infer F } ? F : never;

/** Keywords every schema takes. */
export interface Words {
  title?: string;
  description?: string;
  default?: unknown;
}

const make = <T, F = T>(json: object): Schema<T, F> => json as Schema<T, F>;

// ---- single values ----

export interface StringWords extends Words {
  pattern?: string;
  minLength?: number;
  maxLength?: number;
  format?: 'date-time' | 'uri' | 'hostname' | 'email';
}
export const string = (words: StringWords = {}): Schema<string> => make({ type: 'string', ...words });
/** An instant as ISO 8601 text. */
export const dateTime = (words: Words = {}): Schema<string> => string({ format: 'date-time', ...words });
export const uri = (words: Words = {}): Schema<string> => string({ format: 'uri', ...words });
export const boolean = (words: Words = {}): Schema<boolean> => make({ type: 'boolean', ...words });
export const integer = (words: Words & { minimum?: number; maximum?: number; multipleOf?: number } = {}): Schema<number> =>
  make({ type: 'integer', ...words });
/** Any number; where only some are meant, the method says which and refuses the others. */
export const number = (words: Words = {}): Schema<number> => make({ type: 'number', ...words });
/** One of some words. */
export const stringEnum = <const V extends readonly string[]>(values: V, words: Words = {}): Schema<V[number]> =>
  make({ type: 'string', enum: values, ...words });
/** Exactly one word, in the spelling with `enum`. */
export const word = <const V extends string>(value: V, words: Words = {}): Schema<V> => make({ type: 'string', enum: [value], ...words });
/** Exactly one value, in the spelling with `const` and without a type. */
export const constant = <const V extends string>(value: V, words: Words = {}): Schema<V> => make({ const: value, ...words });
/** Any JSON object; what is inside is not the protocol's business. */
export const anyObject = (words: Words = {}): Schema<Record<string, unknown>> => make({ type: 'object', ...words });
/** A schema in the protocol's spelling that no builder covers, with the type it stands for. */
export const raw = <T, F = T>(json: object): Schema<T, F> => make(json);

// ---- composites ----

export interface ArrayWords extends Words {
  minItems?: number;
  maxItems?: number;
  uniqueItems?: boolean;
}
export const array = <T, F>(items: Schema<T, F>, words: ArrayWords = {}): Schema<T[], F[]> => make({ type: 'array', items, ...words });
/** An array without repetitions. */
export const set = <T, F>(items: Schema<T, F>, words: ArrayWords = {}): Schema<T[], F[]> => array(items, { uniqueItems: true, ...words });
/** An object with keys of any name and values of one kind. */
export const map = <T, F>(values: Schema<T, F>, words: Words = {}): Schema<Record<string, T>, Record<string, F>> =>
  make({ type: 'object', additionalProperties: values, ...words });
/** Exactly one of several shapes. */
export const oneOf = <const S extends readonly Schema[]>(shapes: S, words: Words = {}): Schema<TypeOf<S[number]>, FilledOf<S[number]>> =>
  make({ ...words, oneOf: shapes });

/** A property that may be left out. */
export interface OptionalProperty<T = unknown, F = T> {
  readonly '~property': 'optional';
  readonly schema: Schema<T, F>;
}
/** A property that a sender may leave out and a receiver always sees. */
export interface DefaultedProperty<T = unknown, F = T> {
  readonly '~property': 'defaulted';
  readonly schema: Schema<T, F>;
  /** Some published schemas list such a property as required all the same; filling in comes first. */
  readonly listed: boolean;
}
type Property = Schema | OptionalProperty | DefaultedProperty;

export const optional = <T, F>(schema: Schema<T, F>): OptionalProperty<T, F> => ({ '~property': 'optional', schema });
/** Only for what is sent to us: nobody fills defaults into a reply. */
export const defaulted = <T, F>(schema: Schema<T, F>, value: T, options: { listed?: boolean } = {}): DefaultedProperty<T, F> => ({
  '~property': 'defaulted',
  schema: make({ ...schema, default: value }),
  listed: options.listed ?? false,
});

/** One plain object type instead of an intersection: shorter in messages, cheaper to compare. */
type Flat<T> = T extends infer O ? { [K in keyof O]: O[K] } : never;
type Given<P> = P extends { schema: Schema<infer T> } ? T : TypeOf<P>;
type Seen<P> = P extends { schema: Schema<infer _, infer F> } ? F : FilledOf<P>;
/** What may be left out may also be given as `undefined`: JSON drops it. */
type GivenObject<P> = Flat<
  { [K in keyof P as P[K] extends { '~property': string } ? never : K]: Given<P[K]> } & {
    [K in keyof P as P[K] extends { '~property': string } ? K : never]?: Given<P[K]> | undefined;
  }
>;
type SeenObject<P> = Flat<
  { [K in keyof P as P[K] extends { '~property': 'optional' } ? never : K]: Seen<P[K]> } & {
    [K in keyof P as P[K] extends { '~property': 'optional' } ? K : never]?: Seen<P[K]> | undefined;
  }
>;

export interface ObjectWords extends Words {
  minProperties?: number;
  maxProperties?: number;
  /** Unknown keys are allowed. They are refused unless this is said. */
  open?: boolean;
  dependencies?: Record<string, string[]>;
}

/** An object with named properties; all are required that are not `optional` or `defaulted`, unknown ones are refused. */
export function object<P extends Record<string, Property>>(
  properties: P,
  { open = false, ...words }: ObjectWords = {},
): Schema<GivenObject<P>, SeenObject<P>> {
  const schemas: Record<string, Schema> = {};
  const required: string[] = [];
  // By name: published documents are compared as text, and alternatives of one `oneOf` are ordered by theirs.
  for (const [name, property] of Object.entries<Property>(properties).toSorted(([a], [b]) => (a < b ? -1 : 1))) {
    const wrapped = '~property' in property;
    schemas[name] = wrapped ? property.schema : property;
    if (!wrapped || (property['~property'] === 'defaulted' && property.listed)) {
      required.push(name);
    }
  }
  return make({ type: 'object', ...words, properties: schemas, additionalProperties: open, required });
}

// ---- names and references ----

const METASCHEMA = '/schemas/common/metaschema.json#';

/** Publishes a schema as `/schemas/<service>/v1/<name>.json#`. Ids are without a root URL: a deployment prefixes its own. */
export const schema = <T, F>(
  service: string,
  name: string,
  words: { title: string; description?: string },
  body: Schema<T, F>,
): NamedSchema<T, F> => publish(`/schemas/${service}/v1/${name}.json#`, words, body);

/** Publishes a schema under a full path, for those that belong to no API. */
export const publish = <T, F>($id: string, words: { title: string; description?: string }, body: Schema<T, F>): NamedSchema<T, F> =>
  ({ $id, $schema: METASCHEMA, ...words, ...body }) as NamedSchema<T, F>;

/** Schemas that exist only to hold parts which others refer to with `definitionOf`. */
export type Definitions<D extends Record<string, Schema>> = NamedSchema<unknown> & { readonly definitions: D };
export const definitions = <const D extends Record<string, Schema>>(
  service: string,
  name: string,
  words: { title: string; description?: string },
  parts: D,
): Definitions<D> => schema(service, name, words, make({ definitions: parts })) as Definitions<D>;

/** The file's own name: references stay inside one service's folder, so it is enough. */
const fileOf = (target: NamedSchema): string => target.$id.slice(target.$id.lastIndexOf('/') + 1);

/** A reference to a whole published schema of the same service. */
export const ref = <T, F>(target: NamedSchema<T, F>, words: Words = {}): Schema<T, F> => make({ $ref: fileOf(target), ...words });

/** A reference to one property of a published schema. `words` beside it (such as a default) hold at this place only. */
export const propertyOf = <T, F, K extends string & keyof T & keyof F>(
  target: NamedSchema<T, F>,
  name: K,
  words: Words = {},
): Schema<Exclude<T[K], undefined>, Exclude<F[K], undefined>> => make({ $ref: `${fileOf(target)}/properties/${name}`, ...words });

/** A reference to one of the parts that `definitions` holds. */
export const definitionOf = <D extends Record<string, Schema>, K extends string & keyof D>(
  target: Definitions<D>,
  name: K,
): Schema<TypeOf<D[K]>, FilledOf<D[K]>> => make({ $ref: `${fileOf(target)}/definitions/${name}` });
