/** Why a task is in its state, laid out for a person: the reasons first, then what they rest on, then what to do. Pure. */
import type { TaskExplanation } from '@tscluster/api/queue/explain.ts';
import { paint, SYMBOLS, type Style } from './progress.ts';
import { plain, widthOf } from './table.ts';

type Blocker = NonNullable<TaskExplanation['waitsFor']>['blockers'][number];
type Shown = Blocker['state'];

export interface ExplanationView {
  readonly columns: number;
  readonly style: Style;
}

/** Breaks a text into lines of at most so many cells, at blanks; what has none is not broken. */
export const wrap = (text: string, width: number): string[] => {
  const lines: string[] = [];
  let line = '';
  for (const word of text.split(' ')) {
    if (line !== '' && widthOf(line) + 1 + widthOf(word) > width) {
      lines.push(line);
      line = word;
    } else {
      line = line === '' ? word : `${line} ${word}`;
    }
  }
  return [...lines, line];
};

const symbol = (style: Style, state: Shown): string => (state === 'missing' ? style.red('?') : paint(style, state)(SYMBOLS[state]));

/** The explanation as lines. */
export const renderExplanation = (told: TaskExplanation, { columns, style }: ExplanationView): string[] => {
  const width = Math.max(40, columns);
  const lines: string[] = [];
  /** A text behind a mark, its further lines below its beginning. */
  const item = (mark: string, text: string, dim = false): void => {
    const indent = 2 + widthOf(mark) + 1;
    wrap(plain(text), width - indent).forEach((line, i) => {
      lines.push(`${i === 0 ? `  ${mark} ` : ' '.repeat(indent)}${dim ? style.dim(line) : line}`);
    });
  };
  const section = (title: string): void => {
    lines.push('', style.bold(title));
  };

  const { task, state, waitsFor } = told;
  const name = task.name === undefined ? told.taskId : `${plain(task.name)} ${style.dim(told.taskId)}`;
  lines.push(`${paint(style, state)(`${SYMBOLS[state]} ${state}`)}  ${style.bold(name)}${told.isPast ? `  at ${told.at}` : ''}`);
  for (const { message } of told.reasons) {
    wrap(plain(message), width - 2).forEach(line => lines.push(`  ${line}`));
  }

  if (waitsFor && waitsFor.blockers.length > 0) {
    section('Waits for');
    for (const { state: of, message, isCause } of waitsFor.blockers) {
      item(symbol(style, of), message, !isCause);
    }
    const shownCauses = waitsFor.blockers.filter(({ isCause }) => isCause).length;
    if (shownCauses < waitsFor.causes || !waitsFor.isComplete) {
      item('…', waitsFor.isComplete ? `and ${waitsFor.causes - shownCauses} more` : 'and others that were not looked at');
    }
  }
  if (told.taskQueues.length > 0) {
    section('Workers');
    for (const { message, workers } of told.taskQueues) {
      item('·', message);
      for (const { workerGroup, workerId, lastDateActive, quarantineUntil } of workers?.some ?? []) {
        const until = quarantineUntil === undefined ? '' : `, quarantined until ${quarantineUntil}`;
        item('   ', `${workerGroup}/${workerId}, last seen ${lastDateActive}${until}`, true);
      }
    }
  }
  if (told.changes.length > 0) {
    section('Done by hand');
    for (const { message } of told.changes) {
      item('·', message);
    }
  }
  section('Limits');
  item(
    '·',
    `Task queue ${task.taskQueueId}, priority ${task.priority}, ${task.runs} ${task.runs === 1 ? 'run' : 'runs'} so far, ${task.retriesLeft} ${task.retriesLeft === 1 ? 'retry' : 'retries'} left.`,
  );
  item('·', `Deadline ${task.deadline}, expires ${task.expires}.`);
  item('·', `Group ${task.taskGroupId}${told.group ? (told.group.sealed ? `, sealed since ${told.group.sealed}` : ', not sealed') : ''}.`);
  if (told.actions.length > 0) {
    section('What would change it');
    for (const { message, action, missingScopes = [] } of told.actions) {
      const how = [...(action === 'worker' ? [] : [action]), ...(missingScopes.length > 0 ? [`needs ${missingScopes.join(', ')}`] : [])];
      item('→', `${message}${how.length > 0 ? ` (${how.join('; ')})` : ''}`, missingScopes.length > 0);
    }
  }
  if (told.unknown.length > 0) {
    section('Not known any more');
    told.unknown.forEach(what => item('·', what));
  }
  if (told.notShown.length > 0) {
    section('Not shown');
    for (const { what, missingScopes } of told.notShown) {
      item('·', `${what}: needs ${missingScopes.join(', ')}`, true);
    }
  }
  return lines;
};
