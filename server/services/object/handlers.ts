/** The object service's methods. The order of their checks is the protocol's. */
import type { objectApi } from '@tscluster/api/object/api.ts';
import type { Db } from '../../db/sql.ts';
import type { Clock } from '../../platform/clock.ts';
import { apiError, conflict, inputError, notFound } from '../../platform/errors.ts';
import { type Handlers, HttpReply } from '../../platform/service.ts';
import { parseDateTime } from '../../platform/validate.ts';
import { objectStore } from '../../platform/blobs/blob-store.ts';
import { findRegion, type Region } from '../../platform/mirror/regions.ts';
import type { Backend, Download, DownloadMethod, ProposedUpload } from './backends/backend.ts';
import { lifeOf } from './backends/common.ts';
import type { BackendRule, CdnRule } from './configuration.ts';
import { addHashes, type Hashes, hasHashes, readHashes } from './hashes.ts';
import type { Mirrors } from './mirror/mirror.ts';
import { finishObject, getObject, insertObject, lockObject, type ObjectRow, setHashes } from './objects.db.ts';

export interface ObjectCtx {
  readonly db: Db;
  readonly clock: Clock;
  readonly backends: ReadonlyMap<string, Backend>;
  readonly rules: readonly BackendRule[];
  readonly middleware: readonly CdnRule[];
  readonly mirrors: Mirrors;
  readonly regions: readonly Region[];
}

const UPLOAD_MS = 24 * 3_600_000;
/** What the service likes best stands first. */
const PREFERENCE: readonly DownloadMethod[] = ['getUrl', 'simple'];
const MEDIA_TYPE = /^[!#$%&'*+.^_`|~0-9A-Za-z-]+\/[!#$%&'*+.^_`|~0-9A-Za-z-]+\s*(;[\t\x20-\x7e]*)?$/;

const chooseBackend = (ctx: ObjectCtx, object: { name: string; projectId: string }): Backend => {
  const rule = ctx.rules.find(each => each.matches(object));
  return (
    (rule && ctx.backends.get(rule.backendId)) ??
    apiError(
      'NoMatchingBackend',
      'No backend takes the object {{name}} of the project {{projectId}}: an operator has to add a rule for it.',
      object,
    )
  );
};

const requireBackend = (ctx: ObjectCtx, object: ObjectRow): Backend =>
  ctx.backends.get(object.backendId) ??
  inputError('The backend {{backendId}}, which has the object {{name}}, is not configured any more.', {
    backendId: object.backendId,
    name: object.name,
  });

/** An object whose upload is finished. */
const requireObject = async (ctx: ObjectCtx, name: string): Promise<ObjectRow> => {
  const object = await getObject(ctx.db, name);
  return object && object.uploadId === null && object.removing === null ? object : notFound('Object {{name}} not found', { name });
};

const checkProposals = (proposed: {
  dataInline?: { contentType: string; objectData: string } | undefined;
  putUrl?: { contentType: string; contentLength: number } | undefined;
}): ProposedUpload => {
  const { dataInline, putUrl } = proposed;
  for (const each of [dataInline, putUrl]) {
    if (each && !MEDIA_TYPE.test(each.contentType)) {
      inputError('`{{contentType}}` is not a content type: it must look like `text/plain` or `text/plain; charset=utf-8`.', {
        contentType: each.contentType,
      });
    }
  }
  if (putUrl && putUrl.contentLength < 0) {
    inputError('A contentLength cannot be negative, got {{contentLength}}.', { contentLength: putUrl.contentLength });
  }
  return {
    // Buffer ignores what is not base64, as the protocol does
    ...(dataInline && { dataInline: { contentType: dataInline.contentType, bytes: Buffer.from(dataInline.objectData, 'base64') } }),
    ...(putUrl && { putUrl }),
  };
};

/** The row of an upload, new or the same as before; throws 409 for anything else under its name or upload id. */
const beginUpload = async (ctx: ObjectCtx, wanted: Omit<ObjectRow, 'removing'>): Promise<ObjectRow> =>
  ctx.db.tx(async tx => {
    if (await insertObject(tx, wanted)) {
      return { ...wanted, removing: null };
    }
    const { name } = wanted;
    const stored =
      (await lockObject(tx, name)) ?? conflict('The uploadId is in use for another object; every upload needs an id of its own.');
    if (stored.removing !== null) {
      conflict('An object {{name}} has expired and is being removed: the name is free again soon.', { name });
    }
    if (stored.uploadId === null) {
      conflict('The object {{name}} exists already and its upload is finished: it cannot be changed.', { name });
    }
    const same =
      stored.uploadId === wanted.uploadId &&
      stored.projectId === wanted.projectId &&
      stored.backendId === wanted.backendId &&
      stored.expires.getTime() === wanted.expires.getTime();
    if (!same) {
      conflict('An upload of {{name}} is under way with another uploadId, projectId or expires, or to another backend.', { name });
    }
    const hashes = addHashes(stored.hashes, wanted.hashes);
    if (Object.keys(hashes).length !== Object.keys(stored.hashes).length) {
      await setHashes(tx, name, hashes);
    }
    return { ...stored, hashes };
  });

/** What is needed to finish an upload; undefined when it is finished already, with these hashes. Throws for everything that is in the way. */
const checkFinish = (
  ctx: ObjectCtx,
  name: string,
  found: ObjectRow | undefined,
  { projectId, uploadId }: { projectId: string; uploadId: string },
  given: Hashes,
): { object: ObjectRow; backend: Backend; hashes: Hashes } | undefined => {
  const object = found?.removing === null ? found : notFound('Object {{name}} not found', { name });
  if (object.projectId !== projectId) {
    inputError('The object {{name}} belongs to another project than {{projectId}}.', { name, projectId });
  }
  if (object.uploadId === null) {
    if (!hasHashes(object.hashes, given)) {
      conflict('The object {{name}} is finished, with other hashes.', { name });
    }
    return undefined;
  }
  if (object.uploadId !== uploadId) {
    conflict('The upload of {{name}} that is under way has another uploadId.', { name });
  }
  return { object, backend: requireBackend(ctx, object), hashes: addHashes(object.hashes, given) };
};

/** A download, from the copy in the reader's region if there is one. */
const download = async (
  ctx: ObjectCtx,
  backend: Backend,
  object: ObjectRow,
  method: DownloadMethod,
  reader: Parameters<typeof findRegion>[1],
): Promise<Download> => {
  const original = { store: objectStore(backend.backendId), key: backend.keyOf(object), expires: object.expires };
  const [found, copyUrl] = await Promise.all([
    backend.download(object, method),
    ctx.mirrors.find(findRegion(ctx.regions, reader), original, new Date(ctx.clock.nowMs() + lifeOf(method))),
  ]);
  return copyUrl === undefined ? found : { ...found, url: copyUrl };
};

export const objectHandlers: Handlers<typeof objectApi, ObjectCtx> = {
  async createUpload({ ctx, params: { name }, body, authorize }) {
    const { projectId, uploadId, expires, hashes, proposedUploadMethods } = body;
    await authorize({ projectId, name });
    const backend = chooseBackend(ctx, { name, projectId });
    const proposed = checkProposals(proposedUploadMethods);
    const object = await beginUpload(ctx, {
      name,
      projectId,
      backendId: backend.backendId,
      uploadId,
      uploadExpires: new Date(ctx.clock.nowMs() + UPLOAD_MS),
      data: backend.startUpload(name, uploadId, proposed),
      hashes: readHashes(hashes),
      expires: new Date(parseDateTime(expires)),
    });
    return { projectId, uploadId, expires, uploadMethod: await backend.upload(object, proposed) };
  },

  async finishUpload({ ctx, params: { name }, body, authorize }) {
    await authorize({ projectId: body.projectId, name });
    const given = readHashes(body.hashes);
    // looking at the data may take a while, which no transaction should
    const before = checkFinish(ctx, name, await getObject(ctx.db, name), body, given);
    if (!before) {
      return {};
    }
    const data = await before.backend.checkUpload(before.object);
    await ctx.db.tx(async tx => {
      const checked = checkFinish(ctx, name, await lockObject(tx, name), body, given);
      if (checked) {
        await checked.backend.finish(tx, checked.object);
        await finishObject(tx, name, checked.hashes, data);
      }
    });
    return {};
  },

  async startDownload({ ctx, params: { name }, body, headers, sourceIp }) {
    const object = await requireObject(ctx, name);
    const backend = requireBackend(ctx, object);
    const accepted = body.acceptDownloadMethods;
    const method =
      PREFERENCE.find(each => accepted[each] !== undefined && backend.downloadMethods.includes(each)) ??
      apiError('NoMatchingMethod', 'The object {{name}} can be downloaded by {{possible}}; the request accepts {{accepted}}.', {
        name,
        possible: backend.downloadMethods.join(', '),
        accepted: Object.keys(accepted).join(', ') || 'no method',
      });
    return download(ctx, backend, object, method, { headers, sourceIp });
  },

  async object({ ctx, params: { name } }) {
    const { projectId, expires, hashes } = await requireObject(ctx, name);
    return { projectId, expires: expires.toISOString(), hashes };
  },

  async download({ ctx, params: { name }, headers, sourceIp }) {
    const object = await requireObject(ctx, name);
    const backend = requireBackend(ctx, object);
    if (!backend.downloadMethods.includes('simple')) {
      apiError('NoMatchingMethod', 'The object {{name}} has no plain URL: use startDownload.', { name });
    }
    const cdn = ctx.middleware.find(rule => rule.regexp.test(name));
    const url = cdn ? cdn.baseUrl + name : (await download(ctx, backend, object, 'simple', { headers, sourceIp })).url;
    return new HttpReply(303, { location: url });
  },
};
