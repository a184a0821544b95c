/**
 * What may become of an artifact, without I/O: which details each storage type keeps, when one may be created, and what a repeated creation may change
 * (protocol: "Artifacts").
 */
import { isDeepStrictEqual } from 'node:util';
import type { CreateArtifactRequest, StorageType } from '@tscluster/api/queue/artifacts.ts';
import type { TaskStatus } from '@tscluster/api/queue/tasks.ts';
import { parseDateTime } from '../../platform/validate.ts';

/** As long as the answers of the API promise. */
export const MAX_NAME_LENGTH = 1024;
/** A worker that lost its run may still say what it has for so long. */
export const LATE_ARTIFACTS_MS = 25 * 60_000;
/** `expires` may be so far in the past: clocks differ. */
export const CLOCK_DRIFT_MS = 15 * 60_000;
const NO_CONTENT_TYPE = 'application/binary';

export type ArtifactDetails =
  | { readonly bucket: string; readonly key: string }
  /** Without the upload id once the upload is finished. */
  | { readonly uploadId?: string }
  | { readonly url: string }
  | { readonly artifact: string }
  | { readonly reason: string; readonly message: string };

export interface Artifact {
  readonly name: string;
  readonly storageType: StorageType;
  readonly contentType: string;
  readonly contentLength: number | null;
  readonly details: ArtifactDetails;
  /** Whether it can be read. */
  readonly present: boolean;
  readonly expires: Date;
}

/** The object of an artifact of type object. */
export const objectNameOf = (taskId: string, runId: number, name: string): string => `t/${taskId}/${runId}/${name}`;

/** What a request makes of an artifact that does not exist yet. `blob` says where the bytes of type s3 go; `uploadId` is used for objects only. */
export const newArtifact = (
  name: string,
  request: CreateArtifactRequest,
  { blob, uploadId }: { blob: () => { bucket: string; key: string }; uploadId: () => string },
): Artifact => {
  const common = { name, storageType: request.storageType, expires: new Date(parseDateTime(request.expires)), present: true };
  switch (request.storageType) {
    case 's3':
      return {
        ...common,
        contentType: request.contentType,
        contentLength: request.contentLength ?? null,
        details: blob(),
      };
    case 'object':
      return {
        ...common,
        contentType: request.contentType,
        contentLength: request.contentLength ?? null,
        details: { uploadId: uploadId() },
        present: false,
      };
    case 'reference':
      return { ...common, contentType: request.contentType, contentLength: null, details: { url: request.url } };
    case 'link':
      return {
        ...common,
        contentType: request.contentType ?? NO_CONTENT_TYPE,
        contentLength: null,
        details: { artifact: request.artifact },
      };
    case 'error':
      return {
        ...common,
        contentType: NO_CONTENT_TYPE,
        contentLength: null,
        details: { reason: request.reason, message: request.message },
      };
    default:
      throw new Error('The schema admits no other storage type');
  }
};

/** Why an artifact cannot become another one; undefined when it can. */
export const refuseReplacement = (old: Artifact, wanted: Artifact): string | undefined => {
  if (wanted.storageType !== 'link' && wanted.contentType !== old.contentType) {
    return `its contentType is \`${old.contentType}\` and cannot become \`${wanted.contentType}\``;
  }
  if (wanted.expires < old.expires) {
    return `it expires ${old.expires.toISOString()}; that cannot be brought forward`;
  }
  if (old.storageType === 'reference' && (wanted.storageType === 'reference' || wanted.storageType === 'link')) {
    return undefined;
  }
  if (old.storageType !== wanted.storageType) {
    return `its storageType is \`${old.storageType}\` and cannot become \`${wanted.storageType}\``;
  }
  if (old.storageType === 'object') {
    // goes on as it began, with the old expiry: the object service was told that one
    return old.present ? 'its upload is finished' : undefined;
  }
  if (old.storageType === 's3') {
    return undefined; // the bytes stay where they were first, whatever is configured now
  }
  return isDeepStrictEqual(old.details, wanted.details) ? undefined : 'it has other content';
};

type Run = TaskStatus['runs'][number];
/** A run that a worker has, or had. */
export type ClaimedRun = Run & { readonly workerGroup: string; readonly workerId: string };

/** Whether a run may be given artifacts now: while it is running, and a while after it was given up. */
export const acceptsArtifacts = (run: Run, nowMs: number): boolean =>
  run.state === 'running' ||
  (run.state === 'exception' && run.resolved !== undefined && Date.parse(run.resolved) > nowMs - LATE_ARTIFACTS_MS);

/** An artifact as lists show it. */
export const artifactView = ({ storageType, name, expires, contentType, contentLength }: Artifact) => ({
  storageType,
  name,
  expires: expires.toISOString(),
  contentType,
  ...(contentLength === null ? {} : { contentLength }),
});
