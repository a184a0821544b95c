/** The pulse service's methods. */
import type { pulseApi } from '@tscluster/api/pulse/api.ts';
import { inputError, notFound } from '../../platform/errors.ts';
import { makePage, readPage } from '../../platform/page.ts';
import type { Handlers } from '../../platform/service.ts';
import { parseDateTime } from '../../platform/validate.ts';
import { checkName, claim } from './accounts.ts';
import { type PulseCtx, requireBroker } from './ctx.ts';
import { type NamespaceRow, getNamespace, listNamespaces } from './namespaces.db.ts';

const view = ({ namespace, contact, created, expires }: NamespaceRow) => ({
  namespace,
  ...(contact !== null && { contact }),
  created: created.toISOString(),
  expires: expires.toISOString(),
});

export const pulseHandlers: Handlers<typeof pulseApi, PulseCtx> = {
  async overview({ ctx }) {
    const found = await requireBroker(ctx).management.overview();
    return {
      rabbitVersion: found.rabbitmq_version,
      clusterName: found.cluster_name,
      managementVersion: found.management_version,
    };
  },

  async exchanges({ ctx, query }) {
    const { limit, after } = readPage(query, ['string']);
    const found = (await requireBroker(ctx).management.listExchanges())
      .filter(({ name }) => name.startsWith('exchange/') && (after === undefined || name > after[0]))
      .toSorted((a, b) => (a.name < b.name ? -1 : 1));
    const { rows, ...next } = makePage(found.slice(0, limit + 1), limit, ({ name }) => [name]);
    return {
      exchanges: rows.map(({ name, vhost, type, durable, auto_delete: autoDelete, internal, arguments: more }) => ({
        name,
        vhost,
        type,
        durable,
        autoDelete,
        internal,
        arguments: more,
      })),
      ...next,
    };
  },

  async listNamespaces({ ctx, query }) {
    requireBroker(ctx);
    const { limit, after } = readPage(query, ['string']);
    const found = await listNamespaces(ctx.platform.db, ctx.platform.clock.now(), after?.[0], limit + 1);
    const { rows, ...next } = makePage(found, limit, ({ namespace }) => [namespace]);
    return { namespaces: rows.map(view), ...next };
  },

  async namespace({ ctx, params: { namespace } }) {
    requireBroker(ctx);
    const row = await getNamespace(ctx.platform.db, namespace);
    return row && !row.removing && row.expires > ctx.platform.clock.now()
      ? view(row)
      : notFound('Namespace `{{namespace}}` not found', { namespace });
  },

  async claimNamespace({ ctx, params: { namespace }, body }) {
    requireBroker(ctx);
    checkName(ctx, namespace);
    const expires = new Date(parseDateTime(body.expires));
    if (expires.getTime() <= ctx.platform.clock.nowMs()) {
      inputError('`expires` is over already: {{expires}}', { expires: body.expires });
    }
    const { row, connectionString, reclaimAt } = await claim(ctx, namespace, expires, body.contact);
    return { ...view(row), connectionString, reclaimAt: reclaimAt.toISOString() };
  },
};
