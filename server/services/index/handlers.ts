/** The index's methods. */
import type { indexApi, IndexedRun } from '@tscluster/api/index/api.ts';
import type { Db } from '../../db/sql.ts';
import type { Clock } from '../../platform/clock.ts';
import { inputError, notFound } from '../../platform/errors.ts';
import { makePage, type PageQuery, pageToken, readPage } from '../../platform/page.ts';
import { type Handlers, HttpReply, RawJson } from '../../platform/service.ts';
import { parseDateTime } from '../../platform/validate.ts';
import { type ArtifactUrlCtx, findArtifactUrl } from './artifact-url.ts';
import {
  deleteEntry,
  type Entry,
  findEntries,
  type ListedEntry,
  listNamespacesStatement,
  listStatement,
  type NamespaceRow,
} from './entries.db.ts';
import { historyStatement, type RunRow } from './history.db.ts';
import { isRank } from './options.ts';
import { isPath, pathOf, placeOf } from './paths.ts';
import type { IndexStore } from './store.ts';

export interface IndexCtx extends ArtifactUrlCtx {
  readonly db: Db;
  readonly clock: Clock;
  readonly store: IndexStore;
}

// paths and ids were matched by patterns without quotes and backslashes
const entryText = (entry: Entry): string =>
  `{"namespace":"${pathOf(entry)}","taskId":"${entry.taskId}","rank":${entry.rank},"data":${entry.data},"expires":"${entry.expires.toISOString()}"}`;

const tasksText = (entries: readonly Entry[], continuationToken: string | undefined): RawJson =>
  new RawJson(
    `{"tasks":[${entries.map(entryText).join(',')}]${continuationToken === undefined ? '' : `,"continuationToken":"${continuationToken}"`}}`,
  );

const runView = (row: RunRow): IndexedRun => ({
  taskId: row.taskId,
  runId: row.runId,
  taskGroupId: row.taskGroupId,
  state: row.state,
  reasonResolved: row.reason,
  scheduled: row.scheduled.toISOString(),
  ...(row.started && { started: row.started.toISOString() }),
  resolved: row.resolved.toISOString(),
  ...(row.workerGroup !== null && { workerGroup: row.workerGroup }),
  ...(row.workerId !== null && { workerId: row.workerId }),
  expires: row.expires.toISOString(),
});

/** A page of the tasks in a namespace. `kind` is a mark of the tokens: those of one method mean nothing to another. */
const tasksPage = async ({ db, clock }: IndexCtx, namespace: string, limit: number, after: string | undefined, kind: readonly string[]) => {
  const { rows } = await db.run<ListedEntry>(listStatement(namespace, after, clock.now(), limit + 1));
  const page = rows.slice(0, limit);
  const last = page.at(-1);
  return tasksText(page, last && last.total > page.length ? pageToken([...kind, last.name]) : undefined);
};

const namespacesPage = async (
  { db, clock }: IndexCtx,
  namespace: string,
  limit: number,
  after: string | undefined,
  kind: readonly string[],
) => {
  const { rows: found } = await db.run<NamespaceRow>(listNamespacesStatement(namespace, after, clock.now(), limit + 1));
  const { rows, continuationToken } = makePage(found, limit, row => [...kind, row.name]);
  const namespaces = rows.map(({ name, expires }) => ({ namespace: pathOf({ namespace, name }), name, expires: expires.toISOString() }));
  return { namespaces, ...(continuationToken !== undefined && { continuationToken }) };
};

/** Looking at this many takes some tenths of a second, in which nobody else is served. */
const MAX_INDEXES = 100_000;

const POST = 'post';
/**
 * Old callers of the POST lists send the token of an answer back in the body. Only such a token is looked at, nothing else that a body may say; without
 * that, they would get the first page for ever.
 */
const readPostPage = (body: unknown) => {
  const token = (body as { continuationToken?: unknown }).continuationToken;
  const query: PageQuery = typeof token === 'string' ? { continuationToken: token } : {};
  const { limit, after } = readPage(query, ['string', 'string'], { foreignToken: 'restart' });
  return { limit, after: after?.[0] === POST ? after[1] : undefined };
};

export const indexHandlers: Handlers<typeof indexApi, IndexCtx> = {
  async findTask({ ctx, params: { indexPath } }) {
    return new RawJson(entryText((await ctx.store.find(placeOf(indexPath))) ?? notFound('Indexed task not found')));
  },

  async findTasksAtIndex({ ctx, body: { indexes }, query, authorize }) {
    if (indexes.length > MAX_INDEXES) {
      inputError('At most {{max}} paths can be asked for at once; these are {{count}}.', { max: MAX_INDEXES, count: indexes.length });
    }
    await authorize({ indexPaths: indexes });
    const wrong = indexes.find(path => !isPath(path));
    if (wrong !== undefined) {
      inputError("{{path}} is not a path of the index: names of letters, digits and _!~*'()%- joined by dots, 255 characters at most.", {
        path: wrong,
      });
    }
    const { limit, after } = readPage(query, ['string']);
    const paths = [...new Set(indexes)].sort();
    const rest = after === undefined ? paths : paths.filter(path => path > after[0]);
    const asked = rest.slice(0, limit);
    const found = asked.length === 0 ? [] : await findEntries(ctx.db, asked.map(placeOf), ctx.clock.now());
    const last = found.at(-1);
    const isCut = last !== undefined && last.total > found.length;
    const end = isCut ? pathOf(last) : asked.length > 0 && rest.length > asked.length ? asked.at(-1) : undefined;
    return tasksText(found, end === undefined ? undefined : pageToken([end]));
  },

  async listNamespaces({ ctx, params: { namespace = '' }, query, authorize }) {
    await authorize({ namespace });
    const { limit, after } = readPage(query, ['string']);
    return namespacesPage(ctx, namespace, limit, after?.[0], []);
  },

  async listNamespacesPost({ ctx, params: { namespace = '' }, body, authorize }) {
    await authorize({ namespace });
    const { limit, after } = readPostPage(body);
    return namespacesPage(ctx, namespace, limit, after, [POST]);
  },

  async listTasks({ ctx, params: { namespace = '' }, query, authorize }) {
    await authorize({ namespace });
    const { limit, after } = readPage(query, ['string']);
    return tasksPage(ctx, namespace, limit, after?.[0], []);
  },

  async listTasksPost({ ctx, params: { namespace = '' }, anyBody, authorize }) {
    await authorize({ namespace });
    const { limit, after } = readPostPage(anyBody);
    return tasksPage(ctx, namespace, limit, after, [POST]);
  },

  async insertTask({ ctx, params: { namespace: path }, body: { taskId, rank, data, expires } }) {
    if (!isRank(rank)) {
      inputError('A rank is a whole number from -2147483647 to 2147483647, got {{rank}}.', { rank });
    }
    const stored = await ctx.store.insert({
      ...placeOf(path),
      rank,
      taskId,
      data: JSON.stringify(data),
      expires: new Date(parseDateTime(expires)),
      insertedMs: ctx.clock.nowMs(),
    });
    return new RawJson(entryText(stored));
  },

  async deleteTask({ ctx, params: { namespace: path } }) {
    await deleteEntry(ctx.db, placeOf(path));
    return {};
  },

  async findArtifactFromTask({ ctx, params: { indexPath, name } }) {
    const { taskId } = (await ctx.store.find(placeOf(indexPath))) ?? notFound('Indexed task not found');
    if (['', '.', '..'].includes(name)) {
      inputError('`{{name}}` is not the name of an artifact.', { name });
    }
    const url = await findArtifactUrl(ctx, taskId, name);
    return new HttpReply(303, { location: url }, { url });
  },

  async listHistory({ ctx: { db, clock }, params: { indexPath }, query }) {
    const { limit, after } = readPage(query, ['time', 'string', 'int']);
    const { rows: found } = await db.run<RunRow>(historyStatement(indexPath, after, clock.now(), limit + 1));
    const { rows, continuationToken } = makePage(found, limit, row => [row.resolved.getTime(), row.taskId, row.runId]);
    return { runs: rows.map(runView), ...(continuationToken !== undefined && { continuationToken }) };
  },
};
