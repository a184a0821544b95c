/** The denylist. */
import type { notifyApi } from '@tscluster/api/notify/api.ts';
import { inputError } from '../../../platform/errors.ts';
import { makePage, readPage } from '../../../platform/page.ts';
import type { Handlers } from '../../../platform/service.ts';
import type { NotifyCtx } from '../context.ts';
import { addDenied, listDenied, removeDenied } from '../denylist.db.ts';
import { ok } from './messages.ts';

/** Addresses stand in an index, whose entries are limited. */
const MAX_BYTES = 2_000;

type DenylistHandlers = Pick<Handlers<typeof notifyApi, NotifyCtx>, 'addDenylistAddress' | 'deleteDenylistAddress' | 'listDenylist'>;

export const denylistHandlers: DenylistHandlers = {
  async addDenylistAddress({ ctx, body }) {
    const bytes = Buffer.byteLength(body.notificationAddress);
    if (bytes > MAX_BYTES) {
      inputError('notificationAddress has {{bytes}} bytes; at most {{max}} are allowed.', { bytes, max: MAX_BYTES });
    }
    await addDenied(ctx.db, body);
    return ok();
  },

  async deleteDenylistAddress({ ctx, body }) {
    await removeDenied(ctx.db, body);
    return ok();
  },

  async listDenylist({ ctx, query }) {
    const { limit, after } = readPage(query, ['string', 'string']);
    const { rows, ...next } = makePage(await listDenied(ctx.db, after, limit + 1), limit, row => [
      row.notificationType,
      row.notificationAddress,
    ]);
    return { addresses: rows, ...next };
  },
};
