/** Reads of single tasks, batched: what is asked for while a query is under way goes into the next one together. */
import { makeBatcher } from '../../db/batcher.ts';
import type { Lane } from '../../db/lane.ts';
import { type DefinitionRow, type StatusRow, definitionsStatement, statusesStatement } from './tasks.db.ts';

export interface TaskReader {
  /** The status as JSON text. */
  status(taskId: string): Promise<string | undefined>;
  /** The stored definition and its priority's rank. */
  definition(taskId: string): Promise<DefinitionRow | undefined>;
  drain(): Promise<void>;
}

interface Item {
  readonly kind: 'status' | 'definition';
  readonly taskId: string;
}

export const makeTaskReader = (lane: Lane): TaskReader => {
  const batcher = makeBatcher<Item, StatusRow | DefinitionRow | undefined>({
    flush: async items => {
      const ids = (kind: Item['kind']): string[] => [...new Set(items.filter(item => item.kind === kind).map(item => item.taskId))];
      const [statuses, definitions] = [ids('status'), ids('definition')];
      const results = await lane.run([
        ...(statuses.length > 0 ? [statusesStatement(statuses)] : []),
        ...(definitions.length > 0 ? [definitionsStatement(definitions)] : []),
      ]);
      const byId = <R extends { taskId: string }>(rows: readonly object[] | undefined): Map<string, R> =>
        new Map((rows as R[] | undefined)?.map(row => [row.taskId, row]));
      const foundStatuses = byId<StatusRow>(statuses.length > 0 ? results[0] : undefined);
      const foundDefinitions = byId<DefinitionRow>(definitions.length > 0 ? results.at(-1) : undefined);
      return items.map(item => (item.kind === 'status' ? foundStatuses : foundDefinitions).get(item.taskId));
    },
  });
  return {
    status: async taskId => ((await batcher.add({ kind: 'status', taskId })) as StatusRow | undefined)?.status,
    definition: async taskId => (await batcher.add({ kind: 'definition', taskId })) as DefinitionRow | undefined,
    drain: () => batcher.drain(),
  };
};
