/**
 * Texts that a task brings along in `extra.notify`: JSON-e templates, which run in the sandbox, because anybody who may create tasks may write them. A
 * mistake in one never loses the message.
 */
import type { Sandbox } from '../../platform/sandbox/sandbox.ts';
import type { TaskContext } from './subjects.ts';

export type Rendered = { readonly value: unknown } | { readonly problem: string };
export type Render = (template: unknown) => Promise<Rendered>;

/** Without the kind of the error and its place. */
const messageOf = (error: string): string => error.replace(/^\w*Error(?: at template\S*)?: /, '');

/** Renders templates of one task. */
export const makeRender = (
  sandbox: Pick<Sandbox, 'render'>,
  context: Pick<TaskContext, 'task' | 'status' | 'taskId' | 'rootUrl'>,
): Render => {
  const { task, status, taskId, rootUrl } = context;
  const contextText = JSON.stringify({ task, status, taskId, rootUrl });
  return async template => {
    if (typeof template === 'string' && !template.includes('${')) {
      return { value: template };
    }
    const rendered = await sandbox.render(status.taskGroupId, JSON.stringify(template), contextText);
    return rendered.ok ? { value: JSON.parse(rendered.text) as unknown } : { problem: messageOf(rendered.error) };
  };
};

const asText = (value: unknown): string => (typeof value === 'string' ? value : JSON.stringify(value));

/** A text from a template; `otherwise` when there is none or it renders to nothing; what is wrong with it when it has a mistake. */
export const customText = async ({ render }: TaskContext, template: unknown, otherwise: string): Promise<string> => {
  if (!template) {
    return otherwise;
  }
  const rendered = await render(template);
  if ('problem' in rendered) {
    return `Error parsing custom message: ${rendered.problem}`;
  }
  return rendered.value ? asText(rendered.value) : otherwise;
};

/** A value from a template that `check` accepts; `otherwise` when there is none, or it has a mistake, or is something else. */
export const customValue = async <T>(
  { render }: TaskContext,
  template: unknown,
  otherwise: T,
  check: (value: unknown) => T | undefined,
): Promise<T> => {
  const rendered = template ? await render(template) : undefined;
  return rendered && 'value' in rendered ? (check(rendered.value) ?? otherwise) : otherwise;
};
