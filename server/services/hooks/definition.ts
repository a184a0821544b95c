/** What must be true of a hook beyond its schema, checked before it is stored. */
import { inputError } from '../../platform/errors.ts';
import type { Ctx } from './ctx.ts';
import type { HookBinding, HookDefinition, HookKey, HookRequest } from './hooks.db.ts';
import { ScheduleError } from './schedule.ts';

const MAX_ROUTING_BYTES = 255;
/** Each pattern is looked at whenever the hook fires, each binding for every message. */
const MAX_PATTERNS = 1_000;
const MAX_BINDINGS = 1_000;
const MAX_SCHEMA_PROBLEMS_LENGTH = 20_000;

/** 400 unless ids in the body are those of the URL. */
export const checkIds = (key: HookKey, body: HookRequest): void => {
  for (const name of ['hookGroupId', 'hookId'] as const) {
    const given = body[name];
    if (given !== undefined && given !== key[name]) {
      inputError('The {{name}} in the body (`{{given}}`) and in the URL (`{{wanted}}`) do not match.', { name, given, wanted: key[name] });
    }
  }
};

export const checkSchedule = async (ctx: Ctx, patterns: readonly string[]): Promise<void> => {
  if (patterns.length === 0) {
    return;
  }
  if (patterns.length > MAX_PATTERNS) {
    inputError('A schedule has at most {{max}} patterns, and this one has {{count}}.', { max: MAX_PATTERNS, count: patterns.length });
  }
  const schedules = await ctx.schedules();
  for (const pattern of patterns) {
    try {
      schedules.check(pattern);
    } catch (error) {
      if (error instanceof ScheduleError) {
        inputError('{{problem}} in {{pattern}}', { problem: error.message, pattern });
      }
      throw error;
    }
  }
};

export const checkTriggerSchema = async (ctx: Ctx, { hookGroupId }: HookKey, schema: unknown): Promise<void> => {
  const { problems } = await ctx.sandbox.checkSchema(hookGroupId, JSON.stringify(schema));
  if (problems.length > 0) {
    const list = problems.map(problem => (problem.startsWith(' * ') ? problem : ` * ${problem}`)).join('\n');
    inputError('triggerSchema is not a valid JSON schema:\n{{list}}', { list: list.slice(0, MAX_SCHEMA_PROBLEMS_LENGTH) });
  }
};

export const checkBindings = (ctx: Ctx, bindings: readonly HookBinding[]): void => {
  if (bindings.length > MAX_BINDINGS) {
    inputError('A hook has at most {{max}} bindings, and this one has {{count}}.', { max: MAX_BINDINGS, count: bindings.length });
  }
  const denied = bindings.filter(({ exchange }) => ctx.deniedExchanges.some(pattern => pattern.test(exchange)));
  if (denied.length > 0) {
    inputError('Hooks may not be bound to these, because they could fire themselves without end: {{denied}}', { denied });
  }
  const refuse = (isWrong: (text: string) => boolean, message: string): void => {
    const wrong = bindings.filter(binding => Object.values(binding).some(isWrong));
    if (wrong.length > 0) {
      inputError(`${message}: {{wrong}}`, { wrong });
    }
  };
  refuse(
    text => Buffer.byteLength(text) > MAX_ROUTING_BYTES,
    `The exchange and the pattern of a binding have at most ${MAX_ROUTING_BYTES} bytes`,
  );
  // half a character has no UTF-8: the database would keep another text, which may be there already
  refuse(text => !text.isWellFormed(), 'The exchange and the pattern of a binding must be well-formed Unicode');
};

/** The hook that a request asks for. */
export const toHook = (key: HookKey, body: HookRequest, bindings: HookBinding[]): HookDefinition => ({
  hookGroupId: key.hookGroupId,
  hookId: key.hookId,
  metadata: body.metadata,
  task: body.task,
  bindings: body.bindings ?? bindings,
  schedule: body.schedule,
  triggerSchema: body.triggerSchema,
});
