/** The table of artifacts, by task, run and name. */
import type { StorageType } from '@tscluster/api/queue/artifacts.ts';
import { intArray, textArray } from '../../db/arrays.ts';
import { json, type Query, sql, type Tx } from '../../db/sql.ts';
import type { Artifact, ArtifactDetails } from './artifacts.ts';

type Stored = Omit<Artifact, 'details'> & { readonly details: string };
const toArtifact = (stored: Stored): Artifact => ({ ...stored, details: JSON.parse(stored.details) as ArtifactDetails });

/** One artifact. Primary key. */
export const getArtifact = async (db: Query, taskId: string, runId: number, name: string): Promise<Artifact | undefined> => {
  const [row] = await db<Stored>`
    select name, storage_type, content_type, content_length, details, present, expires from queue.artifacts
    where task_id = ${taskId} and run_id = ${runId} and name = ${name}`;
  return row && toArtifact(row);
};

/** One artifact, which nobody else changes until the transaction ends. */
export const lockArtifact = async (tx: Tx, taskId: string, runId: number, name: string): Promise<Artifact | undefined> => {
  const [row] = await tx<Stored>`
    select name, storage_type, content_type, content_length, details, present, expires from queue.artifacts
    where task_id = ${taskId} and run_id = ${runId} and name = ${name} for update`;
  return row && toArtifact(row);
};

/** Adds an artifact; false when there is one of that name. */
export const insertArtifact = async (tx: Tx, taskId: string, runId: number, artifact: Artifact): Promise<boolean> => {
  const rows = await tx`
    insert into queue.artifacts (task_id, run_id, name, storage_type, content_type, content_length, details, present, expires)
    values (${taskId}, ${runId}, ${artifact.name}, ${artifact.storageType}, ${artifact.contentType}, ${artifact.contentLength},
            ${json(artifact.details)}, ${artifact.present}, ${artifact.expires})
    on conflict do nothing returning name`;
  return rows.length > 0;
};

/** What a repeated creation changes: the rest stays as it was first. */
export const replaceArtifact = async (tx: Tx, taskId: string, runId: number, artifact: Artifact): Promise<void> => {
  await tx`
    update queue.artifacts set storage_type = ${artifact.storageType}, details = ${json(artifact.details)}, expires = ${artifact.expires}
    where task_id = ${taskId} and run_id = ${runId} and name = ${artifact.name}`;
};

/** From now on the artifact can be read; its upload id is forgotten. */
export const finishArtifactRow = async (tx: Tx, taskId: string, runId: number, name: string): Promise<void> => {
  await tx`
    update queue.artifacts set present = true, details = '{}'
    where task_id = ${taskId} and run_id = ${runId} and name = ${name}`;
};

/** Takes back an artifact whose upload did not begin. */
export const deleteUnfinishedObject = async (tx: Tx, taskId: string, runId: number, name: string, uploadId: string): Promise<void> => {
  await tx`
    delete from queue.artifacts
    where task_id = ${taskId} and run_id = ${runId} and name = ${name} and not present and storage_type = 'object'
      and details::jsonb ->> 'uploadId' = ${uploadId}`;
};

/** Artifacts of a run by name, unfinished and expired ones included. Primary key. */
export const listArtifactRows = async (
  db: Query,
  taskId: string,
  runId: number,
  after: string | undefined,
  limit: number,
): Promise<Artifact[]> => {
  const rows = await db<Stored>`
    select name, storage_type, content_type, content_length, details, present, expires from queue.artifacts
    where task_id = ${taskId} and run_id = ${runId} ${after === undefined ? sql`` : sql`and name > ${after}`}
    order by task_id, run_id, name limit ${limit}`;
  return rows.map(toArtifact);
};

export interface ExpiredArtifact {
  readonly taskId: string;
  readonly runId: number;
  readonly name: string;
  readonly storageType: StorageType;
  readonly details: ArtifactDetails;
  readonly expires: Date;
}

/**
 * Artifacts that expired before a time, the oldest first, those behind another if it is given; nobody else takes or changes them until the transaction
 * ends. Index on expires: those of a task mostly have the same.
 */
export const takeExpiredArtifacts = async (
  tx: Tx,
  before: Date,
  after: ExpiredArtifact | undefined,
  limit: number,
): Promise<ExpiredArtifact[]> => {
  const isBehind =
    after === undefined
      ? sql``
      : sql`and (expires, task_id, run_id, name) > (${after.expires}, ${after.taskId}, ${after.runId}, ${after.name})`;
  const rows = await tx<Omit<ExpiredArtifact, 'details'> & { details: string }>`
    select task_id, run_id, name, storage_type, details, expires from queue.artifacts
    where expires < ${before} ${isBehind} order by expires, task_id, run_id, name limit ${limit} for update skip locked`;
  return rows.map(row => ({ ...row, details: JSON.parse(row.details) as ArtifactDetails }));
};

export const deleteArtifacts = async (tx: Tx, artifacts: readonly ExpiredArtifact[]): Promise<void> => {
  await tx`
    delete from queue.artifacts a
    using unnest(${textArray(artifacts.map(a => a.taskId))}::text[], ${intArray(artifacts.map(a => a.runId))}::int4[],
                 ${textArray(artifacts.map(a => a.name))}::text[]) as x(task_id, run_id, name)
    where a.task_id = x.task_id and a.run_id = x.run_id and a.name = x.name`;
};
