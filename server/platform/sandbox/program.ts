/** The sandbox's process: does one job after the other, and answers each. Ends with its parent. */
import vm from 'node:vm';
import { Ajv, type AnySchemaObject, type ErrorObject, type Options, type ValidateFunction } from 'ajv';
import { Ajv2019 } from 'ajv/dist/2019.js';
import { Ajv2020 } from 'ajv/dist/2020.js';
import draft6 from 'ajv/dist/refs/json-schema-draft-06.json' with { type: 'json' };
import formatsPlugin from 'ajv-formats';
import jsone from 'json-e';

export type Job =
  | { readonly kind: 'render'; readonly template: string; readonly context: string; readonly maxOutputBytes: number }
  | { readonly kind: 'check'; readonly schema: string }
  | { readonly kind: 'validate'; readonly schema: string; readonly data: string };
export type Reply = { readonly text: string } | { readonly problem: string };
export interface Request {
  readonly job: Job;
  readonly limitMs: number;
}

const tooSlow = (limitMs: number): string => `It took longer than ${limitMs / 1000} s`;

/** Schemas that were used lately, compiled. */
const MAX_COMPILED = 100;
const compiled = new Map<string, ValidateFunction>();
/** One message lists no more. */
const MAX_PROBLEMS = 100;

const OPTIONS: Options = { allErrors: true, strict: false, logger: false, unicodeRegExp: true };

/** A validator for one schema alone, so that the ids in one never meet those in another. `$schema` chooses the draft. */
const makeAjv = (schema: AnySchemaObject): Ajv => {
  const { $schema } = schema as { $schema?: unknown };
  const draft = typeof $schema === 'string' ? $schema : '';
  const ajv = draft.includes('/2020-12/') ? new Ajv2020(OPTIONS) : draft.includes('/2019-09/') ? new Ajv2019(OPTIONS) : new Ajv(OPTIONS);
  if (ajv instanceof Ajv) {
    ajv.addMetaSchema(draft6);
  }
  formatsPlugin.default(ajv);
  return ajv;
};

const describe = (error: ErrorObject): string => {
  const extra = error.keyword === 'additionalProperties' ? `: ${JSON.stringify(error.params['additionalProperty'])}` : '';
  return `data${error.instancePath} ${error.message ?? 'is invalid'}${extra}`;
};

const limited = (lines: readonly string[]): readonly string[] =>
  lines.length > MAX_PROBLEMS ? [...lines.slice(0, MAX_PROBLEMS), `and ${lines.length - MAX_PROBLEMS} more`] : lines;

const checkSchema = (text: string): readonly string[] => {
  const schema = JSON.parse(text) as AnySchemaObject;
  try {
    const ajv = makeAjv(schema);
    if (!ajv.validateSchema(schema)) {
      return limited((ajv.errors ?? []).map(error => ` * Property ${error.instancePath || '/'} ${error.message ?? 'is invalid'}`));
    }
    ajv.compile(schema);
    return [];
  } catch (error) {
    return [` * ${(error as Error).message}`];
  }
};

const compile = (text: string): ValidateFunction => {
  const known = compiled.get(text);
  const check = known ?? ((schema: AnySchemaObject) => makeAjv(schema).compile(schema))(JSON.parse(text) as AnySchemaObject);
  // the one used last stands last
  compiled.delete(text);
  compiled.set(text, check);
  if (compiled.size > MAX_COMPILED) {
    compiled.delete(compiled.keys().next().value as string);
  }
  return check;
};

const validate = (schema: string, data: string): readonly string[] => {
  const check = compile(schema);
  return check(JSON.parse(data)) ? [] : limited((check.errors ?? []).map(describe));
};

const render = (template: string, context: string): string =>
  JSON.stringify(jsone(JSON.parse(template), JSON.parse(context) as Record<string, unknown>)) ?? 'null';

const perform = (job: Job): Reply => {
  switch (job.kind) {
    case 'render': {
      const text = render(job.template, job.context);
      return Buffer.byteLength(text) > job.maxOutputBytes
        ? { problem: `The template makes ${Buffer.byteLength(text)} bytes, and may make ${job.maxOutputBytes}` }
        : { text };
    }
    case 'check':
      return { text: JSON.stringify(checkSchema(job.schema)) };
    case 'validate':
      return { text: JSON.stringify(validate(job.schema, job.data)) };
  }
};

// only what runs inside a script of `vm` can be interrupted
const script = new vm.Script('globalThis.sandboxJob()');

const answer = ({ job, limitMs }: Request): Reply => {
  Object.assign(globalThis, { sandboxJob: () => perform(job) });
  try {
    return script.runInThisContext({ timeout: limitMs }) as Reply;
  } catch (error) {
    return { problem: (error as { code?: string }).code === 'ERR_SCRIPT_EXECUTION_TIMEOUT' ? tooSlow(limitMs) : String(error) };
  }
};

process.on('message', (request: Request) => process.send?.(answer(request)));
process.on('disconnect', () => process.exit());
process.send?.('ready');
