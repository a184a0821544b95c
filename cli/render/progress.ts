/** A group's progress as lines: those of a table that is drawn again in place, and those that say one change each. Pure. */
import type { Ansis } from 'ansis';
import { formatDuration } from '../durations.ts';
import { isResolved, lastRunTimes, reasonOf, type GroupSummary, type GroupTask } from '../watch/group.ts';
import { fit, plain, widthOf } from './table.ts';

export type Style = Ansis;

/** A sign for each state. */
export const SYMBOLS = { unscheduled: '·', pending: '○', running: '▶', completed: '✔', failed: '✘', exception: '!' } as const;

/** The colour of each state. */
export const paint = (style: Style, state: GroupTask['state']): Style =>
  ({
    unscheduled: style.dim,
    pending: style.yellow,
    running: style.cyan,
    completed: style.green,
    failed: style.red,
    exception: style.magenta,
  })[state];

// what is under way first, then what went wrong, then the rest as it ended, then what is still to come
const RANK = { running: 0, failed: 1, exception: 1, completed: 2, pending: 3, unscheduled: 4 } as const;

const inDisplayOrder = (tasks: readonly GroupTask[]): GroupTask[] =>
  [...tasks].sort((a, b) => {
    const byStart = (lastRunTimes(a).startedMs ?? Infinity) - (lastRunTimes(b).startedMs ?? Infinity);
    return Number.isNaN(byStart) || byStart === 0 ? a.name.localeCompare(b.name) : byStart;
  });

/** How long the last run has taken, or took. */
const elapsed = (task: GroupTask, nowMs: number): string => {
  const { startedMs, resolvedMs } = lastRunTimes(task);
  return startedMs === undefined ? '' : formatDuration((resolvedMs ?? nowMs) - startedMs);
};

/** `3 completed, 1 running, 2 pending`. */
export const countsLine = (summary: GroupSummary, style: Style): string =>
  (['completed', 'failed', 'exception', 'running', 'pending', 'unscheduled'] as const)
    .filter(state => summary.counts[state] > 0)
    .map(state => paint(style, state)(`${summary.counts[state]} ${state}`))
    .join(', ');

export interface View {
  readonly columns: number;
  readonly rows: number;
  readonly nowMs: number;
  readonly style: Style;
}

/** The table: one line per task as far as there is room, the most telling ones first kept, and a line of counts. */
export const renderProgress = (summary: GroupSummary, { columns, rows, nowMs, style }: View): string[] => {
  const ordered = inDisplayOrder(summary.tasks);
  const room = Math.max(1, rows - 3);
  const kept = new Set(
    ordered.length <= room
      ? ordered
      : [...ordered].sort((a, b) => RANK[a.state] - RANK[b.state] || latest(b) - latest(a)).slice(0, room - 1),
  );
  const shown = ordered.filter(task => kept.has(task));
  const nameWidth = Math.min(Math.max(0, ...shown.map(task => widthOf(plain(task.name)))), Math.max(20, Math.floor(columns / 2)));
  const lines = shown.map(task => {
    const name = fit(plain(task.name), nameWidth);
    const state = `${SYMBOLS[task.state]} ${task.state.padEnd(11)}`;
    const run = task.runs.length > 1 ? ` run ${task.runs.length - 1}` : '';
    const tail = [elapsed(task, nowMs), run.trim(), plain(reasonOf(task) ?? '')].filter(Boolean).join('  ');
    const used = 2 + nameWidth + 2 + 13 + 2;
    return `  ${name}${' '.repeat(nameWidth - widthOf(name))}  ${paint(style, task.state)(state)}  ${fit(tail, Math.max(0, columns - used - 1))}`.trimEnd();
  });
  if (shown.length < ordered.length) {
    lines.push(style.dim(`  … and ${ordered.length - shown.length} more`));
  }
  return [...lines, '', `  ${countsLine(summary, style)}`];
};

const latest = (task: GroupTask): number => {
  const { startedMs, resolvedMs } = lastRunTimes(task);
  return resolvedMs ?? startedMs ?? 0;
};

/** A key that changes when there is something to tell about a task. */
const changeKey = (task: GroupTask): string => `${task.state}/${task.runs.length}/${task.blockedBy ?? ''}`;

/** One line per task whose state changed since the previous summary. */
export const renderChanges = (
  previous: GroupSummary | undefined,
  current: GroupSummary,
  { nowMs, style }: Pick<View, 'nowMs' | 'style'>,
): string[] => {
  const before = new Map(previous?.tasks.map(task => [task.taskId, changeKey(task)]) ?? []);
  return inDisplayOrder(current.tasks)
    .filter(task => before.get(task.taskId) !== changeKey(task))
    .map(task => {
      const took = isResolved(task.state) ? elapsed(task, nowMs) : '';
      const run = task.runs.length > 1 ? `run ${task.runs.length - 1}` : '';
      const details = [took, run, plain(reasonOf(task) ?? '')].filter(Boolean).join(', ');
      return `${paint(style, task.state)(`${SYMBOLS[task.state]} ${task.state.padEnd(11)}`)} ${plain(task.name)}${details ? ` (${details})` : ''}`;
    });
};
