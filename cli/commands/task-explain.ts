/** `task explain`: why a task is, or was, in its state. */
import type { Command } from 'commander';
import { leaf, parseId } from '../command.ts';
import { connect, print, printJson, type Context } from '../context.ts';
import { fromNow } from '../durations.ts';
import { Problem } from '../problem.ts';
import { renderExplanation } from '../render/explanation.ts';

const DATE = /^\d{4}-\d\d-\d\d/;

/** A moment that a person gave: a date and time, or how long ago. @throws {Problem} when it is neither */
export const parseMoment = (text: string, now: Date): string => {
  if (DATE.test(text)) {
    return /^\S+T\S+$/i.test(text) ? text : `${text.trim().replace(/\s+/, 'T')}${/\d\s+\d/.test(text) ? '' : 'T00:00:00Z'}`;
  }
  const ago = text
    .trim()
    .replace(/^-\s*/, '')
    .replace(/\s*ago$/i, '');
  if (ago === '') {
    throw new Problem('--at needs a moment, such as 2030-01-15T12:00:00Z or "10 minutes ago".');
  }
  return fromNow(`-${ago}`, now).toISOString();
};

export const explainCommand = (context: Context): Command =>
  leaf('explain', 'say why a task is in its state, and what would change it')
    .argument('<taskId>', 'the task, or a link to it', parseId)
    .option('--at <moment>', 'why it was so then: a date and time, or how long ago ("10 minutes ago")')
    .action(async (taskId: string, options: { at?: string; json?: boolean }) => {
      const query = options.at === undefined ? {} : { at: parseMoment(options.at, context.clock.now()) };
      const told = await connect(context).queue.explainTask({ taskId }, query);
      if (options.json) {
        await printJson(context, told);
      } else {
        await print(context, renderExplanation(told, context.out).join('\n'));
      }
    });
