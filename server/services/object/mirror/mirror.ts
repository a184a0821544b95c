/**
 * Copies of what is read, near those who read it. The first reader of a region is sent to the original at once, and a copy is ordered: nobody waits for one
 * to be made. Later readers are sent to the copy.
 *
 * Now and then, before a copy is given, it is looked at: whether it is still there, and still the same as the original. For that a reader waits two seconds
 * at most; then the mirror is left alone for a while, and readers are sent to originals.
 */
import type { Db } from '../../../db/sql.ts';
import type { BlobSource } from '../../../platform/blobs/blob-store.ts';
import { openS3Bucket, type S3Bucket } from '../../../platform/blobs/s3/s3-bucket.ts';
import { refuseS3Key } from '../../../platform/blobs/s3/s3-key.ts';
import type { Clock } from '../../../platform/clock.ts';
import type { Log } from '../../../platform/log.ts';
import type { Metrics } from '../../../platform/metrics.ts';
import { confirmCopy, type CopyKey, type CopyRow, getCopy, renewCopy, useCopy, wantCopy } from './copies.db.ts';
import type { MirrorConfig } from './settings.ts';

/** Where bytes are, and how long. */
export interface Original {
  readonly store: string;
  readonly key: string;
  readonly expires: Date;
}

export interface OpenMirror {
  readonly config: MirrorConfig;
  readonly bucket: S3Bucket;
}

export interface MirrorCtx {
  readonly db: Db;
  readonly clock: Clock;
  readonly log: Log;
  readonly mirrors: ReadonlyMap<string, OpenMirror>;
  /** By store. */
  readonly sources: ReadonlyMap<string, BlobSource>;
  /** A new id for an attempt to make a copy. */
  readonly newAttempt: () => string;
  readonly metrics: MirrorMetrics;
  /** Wakes whoever makes copies, in whichever process. */
  readonly wakeCopier: () => void;
}

export interface MirrorMetrics {
  request(mirror: string, outcome: 'hit' | 'miss' | 'pending' | 'refused' | 'lost' | 'unsure', bytes?: number): void;
  copied(mirror: string, outcome: 'copied' | 'failed' | 'refused' | 'gone', bytes?: number): void;
  stored(mirror: string, copies: number, bytes: number): void;
}

export const makeMirrorMetrics = (metrics: Metrics): MirrorMetrics => {
  const requests = metrics.counter('object_mirror_requests_total', 'Downloads asked for in a region with a mirror', ['mirror', 'outcome']);
  const given = metrics.counter('object_mirror_given_bytes_total', 'Size of the copies that readers were sent to', ['mirror']);
  const copies = metrics.counter('object_mirror_copies_total', 'Attempts to make a copy', ['mirror', 'outcome']);
  const copiedBytes = metrics.counter('object_mirror_copied_bytes_total', 'Bytes that were copied to a mirror', ['mirror']);
  const stored = metrics.gauge('object_mirror_stored_copies', 'Copies that a mirror has', ['mirror']);
  const storedBytes = metrics.gauge('object_mirror_stored_bytes', 'Size of the copies that a mirror has', ['mirror']);
  return {
    request: (mirror, outcome, bytes = 0) => {
      requests.inc({ mirror, outcome });
      given.inc({ mirror }, bytes);
    },
    copied: (mirror, outcome, bytes = 0) => {
      copies.inc({ mirror, outcome });
      copiedBytes.inc({ mirror }, bytes);
    },
    stored: (mirror, count, bytes) => {
      stored.set({ mirror }, count);
      storedBytes.set({ mirror }, bytes);
    },
  };
};

/** Opens the buckets of mirrors. */
export const openMirrors = (configs: readonly MirrorConfig[], { clock, log }: { clock: Clock; log: Log }): Map<string, OpenMirror> =>
  new Map(configs.map(config => [config.name, { config, bucket: openS3Bucket({ settings: config.s3, clock, log }) }]));

/** Where a mirror keeps the bytes of an attempt. */
export const copyKeyOf = ({ store, key }: Pick<CopyKey, 'store' | 'key'>, attempt: string): string => `${store}/${attempt}/${key}`;

/** What expires within this time is not copied any more. */
const MIN_LIFE_MS = 60_000;
/** So long a reader waits for a copy to be looked at. */
const LOOK_MS = 2_000;
/** So long a mirror that failed is left alone. */
const AWAY_MS = 30_000;
/** `used` is written no more often than this. */
const USED_MS = 300_000;
/** As long as any attempt's id. */
const ANY_ATTEMPT = 'x'.repeat(22);

/** Whether a mirror may have a copy of something at all. */
const isFit = (original: Original, nowMs: number): boolean =>
  original.expires.getTime() > nowMs + MIN_LIFE_MS && refuseS3Key(copyKeyOf(original, ANY_ATTEMPT)) === undefined;

/** What came of looking at a copy. */
type Look = 'hit' | 'lost' | 'unsure';

export interface Mirrors {
  /** A signed URL of the copy in a region, which ends at `until`; undefined when the original has to do. Orders the copy if there is none. */
  find(region: string | undefined, original: Original, until: Date): Promise<string | undefined>;
}

export const makeMirrors = (ctx: MirrorCtx): Mirrors => {
  const { db, clock, log, metrics } = ctx;
  const awayUntilMs = new Map<string, number>();
  const looking = new Map<string, Promise<Look>>();

  /** Whether a copy is there and like its original. */
  const look = async ({ bucket, config: { name } }: OpenMirror, copy: CopyRow): Promise<Look> => {
    try {
      const [there, original] = await Promise.all([
        bucket.head(copyKeyOf(copy, copy.attempt ?? '')),
        ctx.sources.get(copy.store)?.look(copy.key),
      ]);
      if (there?.sizeBytes === copy.sizeBytes && original?.etag === copy.sourceEtag) {
        await confirmCopy(db, copy, clock.now());
        return 'hit';
      }
      log.warn({ mirror: name, store: copy.store, key: copy.key }, 'a copy is gone, or its original has changed; it is made again');
      await renewCopy(db, copy, clock.now());
      ctx.wakeCopier();
      return 'lost';
    } catch (error) {
      leaveAlone(name, error);
      return 'unsure';
    }
  };

  const leaveAlone = (name: string, error: unknown): void => {
    awayUntilMs.set(name, clock.nowMs() + AWAY_MS);
    log.warn({ mirror: name, err: error }, 'a mirror cannot be looked at; readers are sent to the originals for a while');
  };

  /** Looks once for all who ask at the same time, and no longer than a reader should wait. */
  const lookOnce = async (mirror: OpenMirror, copy: CopyRow): Promise<Look> => {
    const id = JSON.stringify([copy.mirror, copy.store, copy.key]);
    let current = looking.get(id);
    if (!current) {
      current = look(mirror, copy).finally(() => looking.delete(id));
      looking.set(id, current);
    }
    const tooLong = Promise.withResolvers<Look>();
    const timer = clock.setTimer(
      LOOK_MS,
      () => {
        leaveAlone(mirror.config.name, new Error(`No answer within ${LOOK_MS} ms`));
        tooLong.resolve('unsure');
      },
      { unref: true },
    );
    try {
      return await Promise.race([current, tooLong.promise]);
    } finally {
      timer.cancel();
    }
  };

  const find: Mirrors['find'] = async (region, original, until) => {
    const mirror = region === undefined ? undefined : ctx.mirrors.get(region);
    const now = clock.now();
    if (!mirror || region === undefined || !isFit(original, now.getTime()) || !ctx.sources.has(original.store)) {
      return undefined;
    }
    if ((awayUntilMs.get(region) ?? 0) > now.getTime()) {
      metrics.request(region, 'unsure');
      return undefined;
    }
    const wanted: CopyKey = { mirror: region, store: original.store, key: original.key };
    const copy = await getCopy(db, wanted);
    if (copy?.state !== 'ready' || copy.attempt === null) {
      if ((!copy || copy.state === 'refused') && (await wantCopy(db, wanted, original.expires, now))) {
        metrics.request(region, 'miss');
        ctx.wakeCopier();
      } else {
        metrics.request(region, copy?.state === 'refused' ? 'refused' : 'pending');
      }
      return undefined;
    }
    const isFresh = now.getTime() - copy.checked.getTime() < mirror.config.checkSeconds * 1000;
    const found = isFresh ? 'hit' : await lookOnce(mirror, copy);
    if (found !== 'hit') {
      metrics.request(region, found);
      return undefined;
    }
    if (now.getTime() - copy.used.getTime() >= USED_MS || copy.expires.getTime() !== original.expires.getTime()) {
      await useCopy(db, wanted, original.expires, now);
    }
    metrics.request(region, 'hit', copy.sizeBytes);
    return mirror.bucket.signGet(copyKeyOf(copy, copy.attempt), until);
  };

  return {
    find: async (region, original, until) => {
      try {
        return await find(region, original, until);
      } catch (error) {
        log.error({ err: error, mirror: region }, 'a mirror failed; the reader is sent to the original');
        return undefined;
      }
    },
  };
};
