/** Texts that a task brings along in `extra.notify`: JSON-e templates. A mistake in one never loses the message. */
import type { TaskContext } from './subjects.ts';

const render = async ({ task, status, taskId, rootUrl }: TaskContext, template: unknown): Promise<unknown> => {
  const { default: jsone } = await import('json-e');
  return jsone(template as object, { task, status, taskId, rootUrl });
};

const asText = (value: unknown): string => (typeof value === 'string' ? value : JSON.stringify(value));

/** A text from a template; `otherwise` when there is none or it renders to nothing; what is wrong with it when it has a mistake. */
export const customText = async (context: TaskContext, template: unknown, otherwise: string): Promise<string> => {
  if (!template) {
    return otherwise;
  }
  try {
    const rendered = await render(context, template);
    return rendered ? asText(rendered) : otherwise;
  } catch (error) {
    return `Error parsing custom message: ${(error as Error).message}`;
  }
};

/** A value from a template that `check` accepts; `otherwise` when there is none, or it has a mistake, or is something else. */
export const customValue = async <T>(
  context: TaskContext,
  template: unknown,
  otherwise: T,
  check: (value: unknown) => T | undefined,
): Promise<T> => {
  if (!template) {
    return otherwise;
  }
  try {
    return check(await render(context, template)) ?? otherwise;
  } catch {
    return otherwise;
  }
};
