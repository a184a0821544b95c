/** The secrets service: JSON objects, encrypted at rest, readable until they expire. See README.md. */
import { secretsApi } from '@tscluster/api/secrets/api.ts';
import { makeBatcher } from '../../db/batcher.ts';
import type { Tx } from '../../db/sql.ts';
import { type AuditAction, audit } from '../../platform/audit.ts';
import { inputError, notFound } from '../../platform/errors.ts';
import { loop, run } from '../../platform/loop.ts';
import { makePage, readPage } from '../../platform/page.ts';
import { defineService, type Handlers, type Platform, RawJson, serve } from '../../platform/service.ts';
import { parseDateTime } from '../../platform/validate.ts';
import { deleteExpiredSecrets, deleteSecret, listSecretNames, putSecret, readSecrets, type SecretRow } from './secrets.db.ts';

/** Names stand in indexes, whose entries are limited; far below, a person can still read them. */
const MAX_NAME_BYTES = 2_000;

export interface SecretsCtx extends Pick<Platform, 'db' | 'clock' | 'keyring' | 'log'> {
  readonly read: (name: string) => Promise<SecretRow | undefined>;
}

/** Binds an encrypted value to its name. */
export const secretContext = (name: string): string => `secrets/${name}`;

const isTooLong = (name: string): boolean => Buffer.byteLength(name) > MAX_NAME_BYTES;

const note = (tx: Tx, ctx: SecretsCtx, name: string, action: AuditAction, clientId: string): Promise<void> =>
  audit(tx, ctx, 'secrets', { entityType: 'secret', entityId: name, clientId, action });

export const secretsHandlers: Handlers<typeof secretsApi, SecretsCtx> = {
  async set({ ctx, params: { name }, body, caller }) {
    if (isTooLong(name)) {
      inputError('The name of the secret has more than {{max}} bytes.', { max: MAX_NAME_BYTES });
    }
    const { clientId } = await caller();
    const encrypted = ctx.keyring.encrypt(JSON.stringify(body.secret), secretContext(name));
    const expires = new Date(parseDateTime(body.expires));
    await ctx.db.tx(async tx => {
      const wasLive = await putSecret(tx, { name, encrypted, expires }, ctx.clock.now());
      await note(tx, ctx, name, wasLive ? 'updated' : 'created', clientId);
    });
    return {};
  },

  async remove({ ctx, params: { name }, caller }) {
    const { clientId } = await caller();
    if (isTooLong(name)) {
      return {}; // there is none
    }
    await ctx.db.tx(async tx => {
      await deleteSecret(tx, name);
      await note(tx, ctx, name, 'deleted', clientId);
    });
    return {};
  },

  async get({ ctx, params: { name } }) {
    const row = await ctx.read(name);
    if (!row || row.expires.getTime() < ctx.clock.nowMs()) {
      return notFound('Secret not found');
    }
    // stored as the text that it is
    const text = ctx.keyring.decrypt(row.encrypted, secretContext(name));
    return new RawJson(`{"secret":${text},"expires":"${row.expires.toISOString()}"}`);
  },

  async list({ ctx, query }) {
    const { limit, after } = readPage(query, ['string']);
    const names = await listSecretNames(ctx.db, ctx.clock.now(), after?.[0], limit + 1);
    const { rows, ...next } = makePage(names, limit, name => [name]);
    return { secrets: rows, ...next };
  },
};

export const expireSecrets = loop<SecretsCtx>({
  name: 'secrets/expire',
  everyMs: 3_600_000,
  batch: 100,
  run: (ctx, limit) =>
    ctx.db.tx(async tx => {
      const names = await deleteExpiredSecrets(tx, ctx.clock.now(), limit);
      for (const name of names) {
        await note(tx, ctx, name, 'expired', 'static/taskcluster/secrets');
      }
      return names.length;
    }),
});

export const secretsService = defineService({
  name: 'secrets',
  encrypted: [{ table: 'secrets.secrets', column: 'encrypted', key: ['name'], context: ({ name = '' }) => secretContext(name) }],
  settings: {},
  start: platform => {
    const { db, clock, keyring, log } = platform;
    const lane = platform.openLane('secrets');
    const reads = makeBatcher<string, SecretRow | undefined>({
      flush: async names => {
        const rows = new Map((await readSecrets(lane, [...new Set(names)])).map(row => [row.name, row]));
        return names.map(name => rows.get(name));
      },
    });
    const ctx: SecretsCtx = { db, clock, keyring, log, read: name => reads.add(name) };
    return {
      apis: [serve(secretsApi, secretsHandlers, ctx)],
      loops: [run(expireSecrets, ctx)],
      close: () => reads.drain(),
    };
  },
});
