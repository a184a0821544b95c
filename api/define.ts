/**
 * One declaration, many uses: an API method or an exchange is one typed value. The server's routes, validation and authorisation, the published
 * references and schemas, the typed client and the docs all derive from it.
 *
 * Angle brackets are the one placeholder syntax, in routes, scopes and routing keys alike.
 */
import type { Static, TSchema } from 'typebox';

/**
 * A scope expression template: what a caller must satisfy, with `<param>` placeholders (protocol: "Scopes and scope expressions"). Alternatives stand
 * with the weakest first, but those that a `for` makes with the strongest first: which to propose to a caller without any follows from that.
 */
export type ScopeTemplate =
  | string
  | { AllOf: readonly ScopeTemplateItem[] }
  | { AnyOf: readonly ScopeTemplateItem[] }
  | { if: string; then: ScopeTemplate; else?: ScopeTemplate };
export type ScopeTemplateItem = ScopeTemplate | { for: string; in: string; each: string };

export type Stability = 'stable' | 'experimental' | 'deprecated';
export type HttpMethod = 'get' | 'post' | 'put' | 'delete' | 'head';

/** What a parameter's value must look like: a regular expression (unanchored unless it says so). */
export type Pattern = RegExp;
/** A check of a query value that no pattern expresses: answers with what is wrong, or undefined. */
export type QueryCheck = (value: string) => string | undefined;

export interface Method {
  readonly method: HttpMethod;
  /** `/task/<taskId>/status`; `<name>` is one non-empty path segment, unless the name stands in `splat` (the rest of the path, possibly followed by a fixed suffix). */
  readonly route: string;
  readonly splat?: readonly string[];
  /** Parameters whose whole segment may be missing at the end of the route. */
  readonly optional?: readonly string[];
  readonly params?: Readonly<Record<string, Pattern>>;
  readonly query?: Readonly<Record<string, Pattern | QueryCheck>>;
  readonly title: string;
  readonly description: string;
  readonly category: string;
  readonly stability: Stability;
  /** Absent: public, credentials are not even looked at. */
  readonly scopes?: ScopeTemplate;
  readonly input?: TSchema;
  /** `blob`: bytes or a redirect, not validated. Absent: whatever the handler returns, nothing being 204. */
  readonly output?: TSchema | 'blob';
  /** Answers with JSON although no schema is published for it. */
  readonly bodyWithoutSchema?: true;
  /** false: served, but not in the references. */
  readonly published?: false;
  /** `by handler`: the body reaches the handler as text, which reads and checks it piece by piece. The schema is published all the same. */
  readonly inputIsChecked?: 'by handler';
  /** The largest body, for callers with credentials. Default: 10 MiB, and that for all others. */
  readonly maxBodyBytes?: number;
  /** Cleans a request body before it is echoed in an error or a log. */
  readonly redact?: (payload: unknown) => unknown;
}

export interface Api<M extends Record<string, Method> = Record<string, Method>> {
  readonly service: string;
  readonly version: 'v1';
  readonly title: string;
  readonly description: string;
  /** Error codes beyond the common ones, with their HTTP status. */
  readonly errorCodes?: Readonly<Record<string, number>>;
  readonly methods: M;
  /** Schemas that are published although no method or exchange names them directly. */
  readonly schemas?: readonly TSchema[];
}

/** Declares some methods of an API, to be spread into it. */
export const methods = <const M extends Record<string, Method>>(some: M): M => some;

/** Declares an API. Entries stand in matching order: where two routes match, the first wins. */
export const defineApi = <const M extends Record<string, Method>>(api: Api<M>): Api<M> => api;

// ---- types that follow from a declaration ----

type Names<S extends string> = S extends `${string}<${infer P}>${infer Rest}` ? P | Names<Rest> : never;
type Strings<T> = T extends string
  ? Names<T>
  : T extends { AllOf: infer L } | { AnyOf: infer L }
    ? L extends readonly unknown[]
      ? StringsOf<L[number]>
      : never
    : T extends { for: infer V; in: string; each: infer E }
      ? Exclude<E extends string ? Names<E> : never, V>
      : T extends { if: string; then: infer A; else?: infer B }
        ? Strings<A> | Strings<B>
        : never;
type StringsOf<T> = T extends unknown ? Strings<T> : never;
type Arrays<T> = T extends { in: infer A extends string }
  ? A
  : T extends { AllOf: infer L } | { AnyOf: infer L }
    ? L extends readonly unknown[]
      ? ArraysOf<L[number]>
      : never
    : T extends { then: infer A; else?: infer B }
      ? Arrays<A> | Arrays<B>
      : never;
type ArraysOf<T> = T extends unknown ? Arrays<T> : never;
type Flags<T> = T extends { if: infer F extends string; then: infer A; else?: infer B }
  ? F | Flags<A> | Flags<B>
  : T extends { AllOf: infer L } | { AnyOf: infer L }
    ? L extends readonly unknown[]
      ? FlagsOf<L[number]>
      : never
    : never;
type FlagsOf<T> = T extends unknown ? Flags<T> : never;

/** The values a scope template needs: strings for `<x>`, arrays for `in`, booleans for `if`. */
export type ScopeParams<T> = { [K in Strings<T>]: string | number } & { [K in ArraysOf<T>]: readonly string[] } & {
  [K in FlagsOf<T>]: boolean;
};

export type MethodScopes<M> = M extends { scopes: infer S } ? S : undefined;
export type OptionalNames<M> = M extends { optional: readonly (infer O extends string)[] } ? O : never;
export type MethodParams<M extends Method> = Flat<
  { [K in Exclude<Names<M['route']>, OptionalNames<M>>]: string } & { [K in OptionalNames<M>]?: string | undefined }
>;
export type MethodQuery<M extends Method> = M extends { query: infer Q }
  ? { -readonly [K in keyof Q]?: string | undefined }
  : { [K in never]?: string };
type Flat<T> = T extends infer O ? { [K in keyof O]: O[K] } : never;
/** What a caller sends. */
export type MethodInput<M extends Method> = M extends { input: infer I extends TSchema } ? StaticOf<I> : undefined;
/** What a handler receives: the input after its defaults were filled in. */
export type MethodBody<M extends Method> = M extends { input: infer I extends TSchema }
  ? I extends { '~filled': infer F }
    ? F
    : StaticOf<I>
  : undefined;
export type MethodOutput<M extends Method> = M extends { output: infer O }
  ? O extends 'blob'
    ? unknown
    : O extends TSchema
      ? StaticOf<O>
      : undefined
  : M extends { bodyWithoutSchema: true }
    ? unknown
    : undefined;
/** What a message of the exchange holds. */
export type MessageOf<E extends Exchange> = StaticOf<E['schema']>;
/** Our own schemas carry their type; anything else of TypeBox is computed. */
type StaticOf<S extends TSchema> = S extends { '~unsafe': infer T } ? T : Static<S>;

// ---- exchanges ----

export interface RoutingKeyField {
  readonly name: string;
  readonly summary: string;
  readonly constant?: string;
  readonly multipleWords?: true;
  readonly required: boolean;
}

export interface Exchange<S extends TSchema = TSchema> {
  readonly exchange: string;
  readonly title: string;
  readonly description: string;
  readonly routingKey: readonly RoutingKeyField[];
  readonly schema: S;
}

export interface Exchanges<E extends Record<string, Exchange> = Record<string, Exchange>> {
  readonly service: string;
  readonly version: 'v1';
  readonly title: string;
  readonly description: string;
  readonly exchanges: E;
}

export const defineExchanges = <const E extends Record<string, Exchange>>(exchanges: Exchanges<E>): Exchanges<E> => exchanges;

/** The exchange's full name on the bus: `exchange/taskcluster-<service>/v1/<name>`. */
export const exchangeName = (exchanges: Pick<Exchanges, 'service' | 'version'>, exchange: string): string =>
  `exchange/taskcluster-${exchanges.service}/${exchanges.version}/${exchange}`;
