/**
 * Makes the copies that were ordered. One attempt at a time per copy, over all processes: a row is taken for some minutes, which go on while bytes move. Who
 * dies in the middle is followed by another when they are over. Bytes are streamed; each attempt has a key of its own, so that one that was given up
 * touches nothing of the next.
 */
import { Readable } from 'node:stream';
import { loop } from '../../../platform/loop.ts';
import { arriving, STALL_TIMEOUT_MS } from '../../../platform/blobs/arriving.ts';
import { isHtml } from '../../../platform/blobs/html.ts';
import { type CopyRow, extendLease, finishCopy, forgetCopy, postponeCopy, takeWantedCopy } from './copies.db.ts';
import { copyKeyOf, type MirrorCtx, type OpenMirror } from './mirror.ts';

const LEASE_MS = 600_000;
const EXTEND_MS = 120_000;
/** Copies that a process makes at the same time. */
const AT_ONCE = 4;
const MAX_FAILURES = 8;
const FIRST_RETRY_MS = 10_000;
const MAX_RETRY_MS = 3_600_000;
/** What is too large, or failed too often, is not tried again for so long. */
const REFUSAL_MS = 86_400_000;

type Outcome =
  | { readonly kind: 'copied'; readonly sizeBytes: number; readonly sourceEtag: string }
  | { readonly kind: 'gone' }
  | { readonly kind: 'refused' };

/** Streams the original to the mirror. */
const transfer = async (
  ctx: MirrorCtx,
  { bucket, config }: OpenMirror,
  row: CopyRow,
  attempt: string,
  onBody: (body: Readable) => void,
): Promise<Outcome> => {
  const source = ctx.sources.get(row.store);
  const found = await source?.look(row.key);
  if (!source || !found) {
    return { kind: 'gone' };
  }
  if (found.sizeBytes > Math.min(config.maxObjectBytes, config.maxBytes)) {
    return { kind: 'refused' };
  }
  const original = await source.open(row.key);
  if (!original) {
    return { kind: 'gone' };
  }
  const { body, contentType, contentEncoding, sizeBytes, etag } = original;
  // objects are saved by browsers, not shown: they would be shown as part of the mirror
  const asSaved = row.store.startsWith('object-') && isHtml(contentType) ? 'attachment' : undefined;
  onBody(body);
  try {
    const chunks = arriving(body, { contentLength: sizeBytes, maxBytes: sizeBytes, stallTimeoutMs: STALL_TIMEOUT_MS, clock: ctx.clock });
    await bucket.upload(
      copyKeyOf(row, attempt),
      Readable.from(chunks, { objectMode: false }),
      { contentType, contentEncoding, contentDisposition: original.contentDisposition ?? asSaved },
      sizeBytes,
    );
  } finally {
    body.destroy();
  }
  return { kind: 'copied', sizeBytes, sourceEtag: etag };
};

/** Makes one copy, or notes why not. */
const makeCopy = async (ctx: MirrorCtx, mirror: OpenMirror, row: CopyRow, attempt: string): Promise<void> => {
  const { db, clock, log, metrics } = ctx;
  const { name } = mirror.config;
  let current: Readable | undefined;
  const extend = async (): Promise<void> => {
    if (await extendLease(db, row, attempt, new Date(clock.nowMs() + LEASE_MS))) {
      timer = watch();
    } else {
      current?.destroy(new Error('The copy is not wanted any more'));
    }
  };
  const watch = () =>
    clock.setTimer(EXTEND_MS, () => void extend().catch((error: unknown) => current?.destroy(error as Error)), { unref: true });
  let timer = watch();
  try {
    if (row.attempt !== null) {
      // an attempt that nobody finished, or a copy that is to be made anew
      await mirror.bucket.remove([copyKeyOf(row, row.attempt)]);
    }
    const outcome = await transfer(ctx, mirror, row, attempt, body => (current = body));
    metrics.copied(name, outcome.kind, outcome.kind === 'copied' ? outcome.sizeBytes : 0);
    if (outcome.kind === 'gone') {
      await forgetCopy(db, row, attempt);
    } else if (outcome.kind === 'refused') {
      await postponeCopy(db, row, attempt, 'refused', new Date(clock.nowMs() + REFUSAL_MS));
    } else if (!(await finishCopy(db, row, attempt, { ...outcome, now: clock.now() }))) {
      await mirror.bucket.remove([copyKeyOf(row, attempt)]);
    }
  } catch (error) {
    const isLast = row.failures + 1 >= MAX_FAILURES;
    const waitMs = isLast ? REFUSAL_MS : Math.min(MAX_RETRY_MS, FIRST_RETRY_MS * 2 ** row.failures);
    metrics.copied(name, 'failed');
    log.warn({ err: error, mirror: name, store: row.store, key: row.key, waitMs }, 'a copy could not be made');
    await mirror.bucket.remove([copyKeyOf(row, attempt)]);
    await postponeCopy(db, row, attempt, isLast ? 'refused' : 'wanted', new Date(clock.nowMs() + waitMs));
  } finally {
    timer.cancel();
  }
};

export const mirrorCopier = loop<MirrorCtx>({
  name: 'object/mirror-copies',
  everyMs: 30_000,
  batch: 100,
  run: async (ctx, limit) => {
    const { db, clock, mirrors } = ctx;
    let taken = 0;
    const work = async (): Promise<void> => {
      while (taken < limit) {
        taken += 1;
        const attempt = ctx.newAttempt();
        const now = clock.now();
        const row = await takeWantedCopy(db, [...mirrors.keys()], attempt, now, new Date(now.getTime() + LEASE_MS));
        const mirror = row && mirrors.get(row.mirror);
        if (!mirror) {
          taken -= 1;
          return;
        }
        await makeCopy(ctx, mirror, row, attempt);
      }
    };
    if (mirrors.size > 0) {
      await Promise.all(Array.from({ length: AT_ONCE }, work));
    }
    return taken;
  },
});
