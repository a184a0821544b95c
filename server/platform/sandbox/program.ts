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
/** `lost`: the process ended, which need not be the job's doing. */
export type Reply = { readonly text: string } | { readonly problem: string; readonly tooSlow?: true; readonly lost?: true };
export interface Request {
  readonly job: Job;
  readonly limitMs: number;
}

/** Schemas that were used lately, compiled. */
const MAX_COMPILED = 100;
const compiled = new Map<string, ValidateFunction>();
/** One message lists no more. */
const MAX_PROBLEMS = 100;

const OPTIONS: Options = { allErrors: true, strict: false, logger: false, unicodeRegExp: true };

type Draft = '2020-12' | '2019-09' | '6 and 7';

const draftOf = ({ $schema }: { readonly $schema?: unknown }): Draft =>
  typeof $schema === 'string' && $schema.includes('/2020-12/')
    ? '2020-12'
    : typeof $schema === 'string' && $schema.includes('/2019-09/')
      ? '2019-09'
      : '6 and 7';

const makeAjv = (draft: Draft, options: Options): Ajv => {
  const ajv = draft === '2020-12' ? new Ajv2020(options) : draft === '2019-09' ? new Ajv2019(options) : new Ajv(options);
  if (draft === '6 and 7' && options.meta !== false) {
    ajv.addMetaSchema(draft6);
  }
  formatsPlugin.default(ajv);
  return ajv;
};

/** Knows what schemas look like; it never gets one to keep. One per draft, because they take a while to make. */
const checkers = new Map<Draft, Ajv>();
const checkerOf = (draft: Draft): Ajv => {
  const checker = checkers.get(draft) ?? makeAjv(draft, OPTIONS);
  checkers.set(draft, checker);
  return checker;
};

/** Compiles a schema in a place of its own, so that the ids in one never meet those in another. */
const compileAlone = (schema: AnySchemaObject, text: string): ValidateFunction => {
  const refersToMeta = /"\$ref":"https?:\/\/json-schema\.org\//.test(text);
  const check = makeAjv(draftOf(schema), { ...OPTIONS, validateSchema: false, ...(refersToMeta ? {} : { meta: false }) }).compile(schema);
  if ('$async' in check) {
    throw new Error('$async is not supported'); // its answer is a promise, which says yes to everything
  }
  return check;
};

const describe = (error: ErrorObject): string => {
  const extra = error.keyword === 'additionalProperties' ? `: ${JSON.stringify(error.params['additionalProperty'])}` : '';
  return `data${error.instancePath} ${error.message ?? 'is invalid'}${extra}`;
};

const limited = (lines: readonly string[]): readonly string[] =>
  lines.length > MAX_PROBLEMS ? [...lines.slice(0, MAX_PROBLEMS), `and ${lines.length - MAX_PROBLEMS} more`] : lines;

const remember = (text: string, check: ValidateFunction): void => {
  // the one used last stands last
  compiled.delete(text);
  compiled.set(text, check);
  if (compiled.size > MAX_COMPILED) {
    compiled.delete(compiled.keys().next().value as string);
  }
};

const checkSchema = (text: string): readonly string[] => {
  const schema = JSON.parse(text) as AnySchemaObject;
  try {
    const ajv = checkerOf(draftOf(schema));
    if (!ajv.validateSchema(schema)) {
      return limited((ajv.errors ?? []).map(error => ` * Property ${error.instancePath || '/'} ${error.message ?? 'is invalid'}`));
    }
    remember(text, compiled.get(text) ?? compileAlone(schema, text));
    return [];
  } catch (error) {
    return [` * ${(error as Error).message}`];
  }
};

const validate = (schema: string, data: string): readonly string[] => {
  const check = compiled.get(schema) ?? compileAlone(JSON.parse(schema) as AnySchemaObject, schema);
  remember(schema, check);
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
    return (error as { code?: string }).code === 'ERR_SCRIPT_EXECUTION_TIMEOUT'
      ? { problem: `It took longer than ${limitMs / 1000} s`, tooSlow: true }
      : { problem: String(error) };
  }
};

process.on('message', (request: Request) => process.send?.(answer(request)));
process.on('disconnect', () => process.exit());
process.send?.('ready');
