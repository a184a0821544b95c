/** The queue's artifact methods. The order of their checks is the protocol's. */
import type { IncomingHttpHeaders } from 'node:http';
import type { queueApi } from '@tscluster/api/queue/api.ts';
import type { CreateArtifactRequest } from '@tscluster/api/queue/artifacts.ts';
import type { TaskStatus } from '@tscluster/api/queue/tasks.ts';
import type { Query, Tx } from '../../../db/sql.ts';
import { plainSlugid } from '../../../platform/clock.ts';
import { conflict, expired, inputError, notFound } from '../../../platform/errors.ts';
import { makePage, type PageQuery, readPage } from '../../../platform/page.ts';
import { type Handlers, HttpReply } from '../../../platform/service.ts';
import { parseDateTime } from '../../../platform/validate.ts';
import { announce, taskEvent } from '../announce.ts';
import {
  acceptsArtifacts,
  type Artifact,
  artifactView,
  type ClaimedRun,
  CLOCK_DRIFT_MS,
  MAX_NAME_LENGTH,
  newArtifact,
  objectNameOf,
  refuseReplacement,
} from '../artifacts.ts';
import { finishArtifactRow, getArtifact, insertArtifact, listArtifactRows, lockArtifact, replaceArtifact } from '../artifacts.db.ts';
import { startObject } from '../artifacts-object.ts';
import { type ArtifactCtx, type BlobAddress, isRefusal, type ReadOptions } from '../artifacts-storage.ts';
import { getTask, shareTask, type TaskRow } from '../tasks.db.ts';

type Names =
  | 'createArtifact'
  | 'finishArtifact'
  | 'getArtifact'
  | 'getLatestArtifact'
  | 'listArtifacts'
  | 'listLatestArtifacts'
  | 'artifactInfo'
  | 'latestArtifactInfo'
  | 'artifact'
  | 'latestArtifact';

const HOUR_MS = 3_600_000;
/** A chain of links that is longer is a mistake. */
const MAX_LINKS = 1_000;
const STORAGE_TYPE_HEADER = 'x-taskcluster-artifact-storage-type';

// `00` is 0; what no run can have finds nothing
const readRunId = (text: string): number => Math.min(Number(text), 2 ** 31 - 1);

const statusOf = (task: TaskRow): TaskStatus => JSON.parse(task.status) as TaskStatus;

/** Announces that an artifact can be read; never for s3, where nobody knows. */
const announceArtifact = async (tx: Tx, task: TaskRow, status: TaskStatus, run: ClaimedRun, artifact: Artifact): Promise<void> => {
  const { storageType, name, contentType } = artifact;
  const { runId, workerGroup, workerId } = run;
  await announce(tx, [
    taskEvent(
      'artifactCreated',
      task,
      status,
      { runId, workerGroup, workerId },
      {
        artifact: { storageType, name, expires: artifact.expires.toISOString(), contentType },
      },
    ),
  ]);
};

/** Stores what is wanted, as a new artifact or in place of the old one; 409 when that cannot be. Returns what is stored. */
const storeArtifact = async (tx: Tx, taskId: string, runId: number, wanted: Artifact): Promise<Artifact> => {
  for (;;) {
    if (await insertArtifact(tx, taskId, runId, wanted)) {
      return wanted;
    }
    const old = await lockArtifact(tx, taskId, runId, wanted.name);
    if (!old) {
      continue; // it expired in between
    }
    const problem = refuseReplacement(old, wanted);
    if (problem !== undefined) {
      conflict('The artifact {{name}} exists already: {{problem}}.', { name: wanted.name, problem });
    }
    if (old.storageType === 'object') {
      return old; // the upload goes on
    }
    const details = old.storageType === 's3' && wanted.storageType === 's3' ? old.details : wanted.details;
    const stored = { ...wanted, details, contentType: old.contentType, contentLength: old.contentLength };
    await replaceArtifact(tx, taskId, runId, stored);
    return stored;
  }
};

/** The task and the run that an artifact is for; 400 when there are none, 409 when the run takes no artifacts. */
const checkCreation = (
  task: TaskRow | undefined,
  runId: number,
  request: CreateArtifactRequest,
  nowMs: number,
): { status: TaskStatus; run: ClaimedRun } => {
  if (!task) {
    return inputError('There is no such task.');
  }
  const status = statusOf(task);
  const run = status.runs[runId];
  if (!run) {
    return inputError('The task has no run {{runId}}.', { runId });
  }
  if (run.workerGroup === undefined || run.workerId === undefined) {
    return inputError('The run {{runId}} was never claimed by a worker, so there is nobody to have made an artifact.', { runId });
  }
  if (parseDateTime(request.expires) > task.expires.getTime()) {
    return inputError('The artifact expires {{expires}}, after its task, which expires {{taskExpires}}.', {
      expires: request.expires,
      taskExpires: task.expires.toISOString(),
    });
  }
  if (!acceptsArtifacts(run, nowMs)) {
    return conflict(
      'Artifacts can be created while a run is running, and until 25 minutes after it ended as exception; this one is {{state}} since {{resolved}}.',
      { state: run.state, resolved: run.resolved ?? run.scheduled },
    );
  }
  return { status, run: run as ClaimedRun };
};

const missingArtifact = (name: string): never => notFound('Artifact {{name}} not found', { name });

/** The last run of a task; 404 when there is none. */
const requireLastRun = async (db: Query, taskId: string): Promise<number> => {
  const task = (await getTask(db, taskId)) ?? notFound('Task {{taskId}} not found', { taskId });
  return task.runId >= 0 ? task.runId : notFound('The task {{taskId}} has no runs yet', { taskId });
};

/** Follows links to an artifact with content. `authorize` is asked before each name is looked up, with all names so far. */
const resolveArtifact = async (
  ctx: ArtifactCtx,
  taskId: string,
  runId: number,
  first: string,
  authorize: (params: { names: readonly string[] }) => Promise<void>,
): Promise<Artifact> => {
  const names = [first];
  await authorize({ names });
  for (;;) {
    const name = names.at(-1) as string;
    const artifact = await getArtifact(ctx.platform.db, taskId, runId, name);
    if (!artifact?.present) {
      return missingArtifact(name);
    }
    if (artifact.expires < ctx.platform.clock.now()) {
      return expired('Artifact {{name}} has expired {{expires}}', { name, expires: artifact.expires.toISOString() });
    }
    if (artifact.storageType !== 'link') {
      return artifact;
    }
    const target = (artifact.details as { artifact: string }).artifact;
    if (names.includes(target)) {
      return inputError('The artifact {{name}} is a link that leads back to itself: {{chain}}.', {
        name: first,
        chain: [...names, target].join(' → '),
      });
    }
    if (names.length >= MAX_LINKS) {
      return inputError('The artifact {{name}} is a link over more than {{max}} links.', { name: first, max: MAX_LINKS });
    }
    names.push(target);
    await authorize({ names });
  }
};

const redirect = (storageType: string, url: string): HttpReply =>
  new HttpReply(303, { location: url, [STORAGE_TYPE_HEADER]: storageType }, { storageType, url });

/** A redirect to the content, or 424 for an artifact that has none. */
const replyWithContent = async (
  ctx: ArtifactCtx,
  taskId: string,
  runId: number,
  artifact: Artifact,
  { skipCdn, region }: Pick<ReadOptions, 'skipCdn' | 'region'>,
): Promise<HttpReply> => {
  const { details, name } = artifact;
  switch (artifact.storageType) {
    case 's3':
      return redirect('s3', await ctx.artifacts.getUrl(details as BlobAddress, { skipCdn, region, expires: artifact.expires }));
    case 'reference':
      return redirect('reference', (details as { url: string }).url);
    case 'error':
      return new HttpReply(424, { [STORAGE_TYPE_HEADER]: 'error' }, details);
    case 'object': {
      const objectName = objectNameOf(taskId, runId, name);
      try {
        const download = await ctx.artifacts
          .objects([`object:download:${objectName}`], skipCdn ? undefined : region)
          .startDownload({ name: objectName }, { acceptDownloadMethods: { simple: true } });
        return redirect('object', download.url);
      } catch (error) {
        if (isRefusal(error, 400, 404, 406)) {
          return missingArtifact(name); // gone, without a plain URL, or on a backend that is not configured any more
        }
        throw error;
      }
    }
    default:
      throw new Error('A link is not content');
  }
};

/** How a program gets the content. */
const describeContent = async (
  ctx: ArtifactCtx,
  taskId: string,
  runId: number,
  artifact: Artifact,
  { region }: Pick<ReadOptions, 'region'>,
) => {
  const { details, name } = artifact;
  switch (artifact.storageType) {
    case 's3':
      return {
        storageType: 's3' as const,
        url: await ctx.artifacts.getUrl(details as BlobAddress, { skipCdn: false, region, expires: artifact.expires }),
      };
    case 'reference':
      return { storageType: 'reference' as const, url: (details as { url: string }).url };
    case 'error':
      return { storageType: 'error' as const, ...(details as { reason: string; message: string }) };
    case 'object': {
      const objectName = objectNameOf(taskId, runId, name);
      const until = new Date(ctx.platform.clock.nowMs() + HOUR_MS);
      const credentials = ctx.artifacts.objectCredentials(
        `artifact-download/${taskId}/${runId}/${name}`,
        `object:download:${objectName}`,
        until,
      );
      return { storageType: 'object' as const, name: objectName, credentials };
    }
    default:
      throw new Error('A link is not content');
  }
};

/** What a request says of who reads. */
const readerOf = (ctx: ArtifactCtx, request: { headers: IncomingHttpHeaders; sourceIp: string | undefined }) => {
  const value = request.headers['x-taskcluster-skip-cdn'];
  return { skipCdn: value === 'true' || value === '1', region: ctx.artifacts.regionOf(request) };
};

const listPage = async (db: Query, taskId: string, runId: number, query: PageQuery) => {
  const { limit, after } = readPage(query, ['string'], { foreignToken: 'restart' });
  const rows = limit === 0 ? [] : await listArtifactRows(db, taskId, runId, after?.[0], limit + 1);
  const { rows: page, continuationToken } = makePage(rows, limit, artifact => [artifact.name]);
  return { artifacts: page.map(artifactView), ...(continuationToken === undefined ? {} : { continuationToken }) };
};

const describeArtifact = async (db: Query, taskId: string, runId: number, name: string) => {
  const artifact = await getArtifact(db, taskId, runId, name);
  return artifact?.present ? artifactView(artifact) : missingArtifact(name);
};

export const artifactHandlers: Pick<Handlers<typeof queueApi, ArtifactCtx>, Names> = {
  async createArtifact({ ctx, params: { taskId, runId: runText, name }, body }) {
    const { db, clock, random } = ctx.platform;
    const runId = readRunId(runText);
    if (name.length > MAX_NAME_LENGTH) {
      inputError('An artifact name has at most {{max}} characters; this one has {{length}}.', {
        max: MAX_NAME_LENGTH,
        length: name.length,
      });
    }
    if ('contentLength' in body && !Number.isSafeInteger(body.contentLength ?? 0)) {
      inputError('The contentLength {{contentLength}} is more than can be stored.', { contentLength: body.contentLength });
    }
    if (parseDateTime(body.expires) < clock.nowMs() - CLOCK_DRIFT_MS) {
      inputError('The artifact expires {{expires}}, which is in the past.', { expires: body.expires });
    }
    const wanted = newArtifact(name, body, {
      blob: () => ctx.artifacts.locate(taskId, runId, name),
      uploadId: () => plainSlugid(random),
    });
    const { task, run, artifact } = await db.tx(async tx => {
      // the event tells the state in which the task is when the artifact comes
      const found = await shareTask(tx, taskId);
      const checked = checkCreation(found, runId, body, clock.nowMs());
      const stored = await storeArtifact(tx, taskId, runId, wanted);
      if (stored.storageType !== 's3' && stored.storageType !== 'object') {
        await announceArtifact(tx, found as TaskRow, checked.status, checked.run, stored);
      }
      return { task: found as TaskRow, run: checked.run, artifact: stored };
    });
    switch (body.storageType) {
      case 's3': {
        const { url, expires } = await ctx.artifacts.signPut(artifact.details as BlobAddress, artifact.contentType, wanted.contentLength);
        return { storageType: 's3' as const, contentType: artifact.contentType, expires: expires.toISOString(), putUrl: url };
      }
      case 'object':
        return startObject(ctx, task, run, artifact, artifact === wanted);
      default:
        return { storageType: body.storageType };
    }
  },

  async finishArtifact({ ctx, params: { taskId, runId: runText, name }, body }) {
    const { db } = ctx.platform;
    const runId = readRunId(runText);
    const before = (await getArtifact(db, taskId, runId, name)) ?? missingArtifact(name);
    if (before.storageType !== 'object') {
      inputError('Only artifacts of type `object` are finished; {{name}} is of type `{{storageType}}`.', {
        name,
        storageType: before.storageType,
      });
    }
    if (!before.present) {
      if ((before.details as { uploadId?: string }).uploadId !== body.uploadId) {
        inputError('The artifact {{name}} has another uploadId.', { name });
      }
      const objectName = objectNameOf(taskId, runId, name);
      try {
        await ctx.artifacts.objects([`object:download:${objectName}`]).object({ name: objectName });
      } catch (error) {
        if (isRefusal(error, 404)) {
          inputError('The object service has no finished object {{objectName}}: upload the data and call finishUpload first.', {
            objectName,
          });
        }
        throw error;
      }
    }
    await db.tx(async tx => {
      const task = (await shareTask(tx, taskId)) ?? notFound('Task {{taskId}} not found', { taskId });
      const status = statusOf(task);
      const run = status.runs[runId] ?? notFound('The task {{taskId}} has no run {{runId}}', { taskId, runId });
      const artifact = (await lockArtifact(tx, taskId, runId, name)) ?? missingArtifact(name);
      if (!artifact.present) {
        await finishArtifactRow(tx, taskId, runId, name);
      }
      await announceArtifact(tx, task, status, run as ClaimedRun, artifact);
    });
  },

  async getArtifact({ ctx, params: { taskId, runId: runText, name }, headers, sourceIp, authorize }) {
    const runId = readRunId(runText);
    const artifact = await resolveArtifact(ctx, taskId, runId, name, authorize);
    return replyWithContent(ctx, taskId, runId, artifact, readerOf(ctx, { headers, sourceIp }));
  },

  async getLatestArtifact({ ctx, params: { taskId, name }, headers, sourceIp, authorize }) {
    await authorize({ names: [name] });
    const runId = await requireLastRun(ctx.platform.db, taskId);
    const artifact = await resolveArtifact(ctx, taskId, runId, name, authorize);
    return replyWithContent(ctx, taskId, runId, artifact, readerOf(ctx, { headers, sourceIp }));
  },

  async listArtifacts({ ctx, params: { taskId, runId: runText }, query }) {
    const { db } = ctx.platform;
    const runId = readRunId(runText);
    const task = (await getTask(db, taskId)) ?? notFound('Task {{taskId}} not found', { taskId });
    if (runId > task.runId) {
      notFound('The task {{taskId}} has no run {{runId}}', { taskId, runId });
    }
    return listPage(db, taskId, runId, query);
  },

  async listLatestArtifacts({ ctx, params: { taskId }, query }) {
    const { db } = ctx.platform;
    return listPage(db, taskId, await requireLastRun(db, taskId), query);
  },

  async artifactInfo({ ctx, params: { taskId, runId, name } }) {
    return describeArtifact(ctx.platform.db, taskId, readRunId(runId), name);
  },

  async latestArtifactInfo({ ctx, params: { taskId, name } }) {
    const { db } = ctx.platform;
    return describeArtifact(db, taskId, await requireLastRun(db, taskId), name);
  },

  async artifact({ ctx, params: { taskId, runId: runText, name }, headers, sourceIp, authorize }) {
    const runId = readRunId(runText);
    const artifact = await resolveArtifact(ctx, taskId, runId, name, authorize);
    return describeContent(ctx, taskId, runId, artifact, readerOf(ctx, { headers, sourceIp }));
  },

  async latestArtifact({ ctx, params: { taskId, name }, headers, sourceIp, authorize }) {
    const runId = await requireLastRun(ctx.platform.db, taskId);
    const artifact = await resolveArtifact(ctx, taskId, runId, name, authorize);
    return describeContent(ctx, taskId, runId, artifact, readerOf(ctx, { headers, sourceIp }));
  },
};
