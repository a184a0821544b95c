/**
 * The payload: what a task asks of its worker. Engine and plugins each declare their part; the whole is the protocol's schema of native payloads
 * (`generic-worker/insecure_posix`), beside which the container payload stands as the other form (told by its `image` key). Validating against the one
 * form that was meant gives errors a person can act on, where a `oneOf` would list the violations of both.
 */
import { Ajv, type ErrorObject, type ValidateFunction } from 'ajv';
import formats from 'ajv-formats';
import type { MountContent } from './plugins/mounts-payload.ts';
import { containerPayload } from './payload-container.ts';

export type JsonSchema = Readonly<Record<string, unknown>>;

/** What an engine or plugin adds to the payload's schema. */
export interface PayloadPart {
  readonly properties?: Readonly<Record<string, JsonSchema>>;
  readonly required?: readonly string[];
  /** Switches below `features`. */
  readonly features?: Readonly<Record<string, JsonSchema>>;
  readonly definitions?: Readonly<Record<string, JsonSchema>>;
}

export interface PayloadArtifact {
  readonly type: 'file' | 'directory';
  readonly path: string;
  readonly name?: string;
  readonly expires?: string;
  readonly contentType?: string;
  readonly contentEncoding?: 'identity' | 'gzip';
  readonly optional?: boolean;
}

export type PayloadMount =
  | { readonly file: string; readonly content: MountContent; readonly format?: string }
  | { readonly directory: string; readonly cacheName: string; readonly content?: MountContent; readonly format?: string }
  | { readonly directory: string; readonly content: MountContent; readonly format: string };

/** A valid native payload. */
export interface TaskPayload {
  readonly command: readonly (readonly string[])[];
  readonly maxRunTime: number;
  readonly env?: Readonly<Record<string, string>>;
  readonly artifacts?: readonly PayloadArtifact[];
  readonly mounts?: readonly PayloadMount[];
  readonly features?: Readonly<Record<string, boolean | undefined>>;
  readonly osGroups?: readonly string[];
  readonly onExitStatus?: { readonly retry?: readonly number[]; readonly purgeCaches?: readonly number[] };
  readonly logs?: { readonly live?: string; readonly backing?: string };
  readonly taskclusterProxyInterface?: 'localhost' | 'docker-bridge';
}

/**
 * The native form as one schema.
 * @throws when two parts declare the same property
 */
export const nativePayload = (parts: readonly PayloadPart[]): JsonSchema => {
  const merge = (maps: readonly (Readonly<Record<string, JsonSchema>> | undefined)[]): Record<string, JsonSchema> => {
    const merged: Record<string, JsonSchema> = {};
    for (const [name, schema] of maps.flatMap(map => Object.entries(map ?? {}))) {
      if (name in merged) {
        throw new Error(`The payload property "${name}" is declared twice.`);
      }
      merged[name] = schema;
    }
    return merged;
  };
  return {
    type: 'object',
    properties: {
      ...merge(parts.map(part => part.properties)),
      features: { type: 'object', properties: merge(parts.map(part => part.features)), required: [], additionalProperties: false },
    },
    required: parts.flatMap(part => part.required ?? []),
    additionalProperties: false,
    definitions: merge(parts.map(part => part.definitions)),
  };
};

export type PayloadVerdict =
  | { readonly valid: true; readonly form: 'native' | 'container'; readonly payload: TaskPayload }
  | { readonly valid: false; readonly problems: readonly string[] };

/** A function that tells which form a payload has, and whether it is valid. */
export const payloadValidator = (parts: readonly PayloadPart[]): ((payload: unknown) => PayloadVerdict) => {
  const ajv = new Ajv({ allErrors: true, strict: false, useDefaults: false });
  formats.default(ajv, ['date-time', 'uri']);
  const native = ajv.compile(nativePayload(parts));
  let container: ValidateFunction | undefined;
  return payload => {
    const form = typeof payload === 'object' && payload !== null && 'image' in payload ? 'container' : 'native';
    const validate = form === 'native' ? native : (container ??= ajv.compile(containerPayload));
    return validate(payload)
      ? { valid: true, form, payload: payload as TaskPayload }
      : { valid: false, problems: describeProblems(validate.errors ?? []) };
  };
};

const MAX_PROBLEMS = 50;

const describeProblems = (errors: readonly ErrorObject[]): string[] => {
  const problems = errors
    // says only that the branches before it failed
    .filter(error => error.keyword !== 'oneOf' || errors.length === 1)
    .map(({ instancePath, message, params }) => {
      const where = `payload${instancePath.replaceAll('/', '.')}`;
      const { additionalProperty, allowedValues } = params as { additionalProperty?: string; allowedValues?: unknown[] };
      if (additionalProperty !== undefined) {
        return `${where} must not have a property "${additionalProperty}"`;
      }
      return `${where} ${message ?? 'is invalid'}${allowedValues ? `: ${allowedValues.join(', ')}` : ''}`;
    });
  const unique = [...new Set(problems)];
  return unique.length > MAX_PROBLEMS ? [...unique.slice(0, MAX_PROBLEMS), `and ${unique.length - MAX_PROBLEMS} more`] : unique;
};
