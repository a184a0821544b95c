/**
 * One-time links and sessions. Both hold temporary credentials that somebody has made from their own, so that the service has no power to give: what a
 * session may do ends when those credentials end, or when their issuer is disabled.
 */
import { createHash } from 'node:crypto';
import type { Db } from '../../db/sql.ts';
import type { Clock, Random } from '../../platform/clock.ts';
import type { Keyring } from '../../platform/keyring.ts';
import type { Log } from '../../platform/log.ts';
import { deleteSession, getSession, insertLink, insertSession, takeLink } from './sessions.db.ts';

const MINUTE_MS = 60_000;
const LINK_LIFETIME_MS = 10 * MINUTE_MS;
const SESSION_LIFETIME_MS = 7 * 24 * 60 * MINUTE_MS;
/** Holders of credentials are told to come back this much before their end. */
const REFRESH_EARLY_MS = 30_000;

export interface SessionCredentials {
  readonly clientId: string;
  readonly accessToken: string;
  readonly certificate: string;
}

export interface Session {
  readonly credentials: SessionCredentials;
  readonly expires: Date;
}

export interface Sessions {
  /** Makes a link's token, which is stored nowhere. `credentialsExpire`: the end of the certificate. */
  createLink(credentials: SessionCredentials, credentialsExpire: Date): Promise<{ token: string; expires: Date }>;
  /** Trades a link's token for a session; undefined when the link is no good (any more). */
  start(token: string): Promise<(Session & { readonly id: string; readonly maxAgeSeconds: number }) | undefined>;
  find(id: string): Promise<Session | undefined>;
  end(id: string | undefined): Promise<void>;
}

/** When a session's credentials are to be asked for again. */
export const refreshAt = ({ expires }: Session): Date => new Date(expires.getTime() - REFRESH_EARLY_MS);

const hashOf = (secret: string): string => createHash('sha256').update(secret).digest('base64url');
/** The place of encrypted credentials: neither a link's nor a session's can be moved to another row. */
export const placeOf = (table: 'links' | 'sessions', hash: string): string => `login.${table}/${hash}`;

export const makeSessions = (context: { db: Db; clock: Clock; random: Random; keyring: Keyring; log: Log }): Sessions => {
  const { db, clock, random, keyring, log } = context;
  const makeSecret = (): string => Buffer.from(random.bytes(32)).toString('base64url');
  return {
    createLink: async (credentials, credentialsExpire) => {
      const token = makeSecret();
      const tokenHash = hashOf(token);
      const expires = new Date(clock.nowMs() + LINK_LIFETIME_MS);
      const sealed = keyring.encrypt(JSON.stringify(credentials), placeOf('links', tokenHash));
      await insertLink(db, { tokenHash, credentials: sealed, credentialsExpire, expires });
      return { token, expires };
    },
    start: token =>
      db.tx(async tx => {
        const nowMs = clock.nowMs();
        const link = await takeLink(tx, hashOf(token));
        if (!link || link.expires.getTime() <= nowMs || link.credentialsExpire.getTime() <= nowMs) {
          return undefined;
        }
        const text = keyring.decrypt(link.credentials, placeOf('links', link.tokenHash));
        const credentials = JSON.parse(text) as SessionCredentials;
        const id = makeSecret();
        const idHash = hashOf(id);
        const expires = new Date(Math.min(nowMs + SESSION_LIFETIME_MS, link.credentialsExpire.getTime()));
        await insertSession(tx, { idHash, credentials: keyring.encrypt(text, placeOf('sessions', idHash)), expires });
        log.info({ clientId: credentials.clientId, expires: expires.toJSON() }, 'signed in by a link');
        return { id, credentials, expires, maxAgeSeconds: Math.floor((expires.getTime() - nowMs) / 1000) };
      }),
    find: async id => {
      const session = await getSession(db, hashOf(id), clock.now());
      return (
        session && {
          credentials: JSON.parse(keyring.decrypt(session.credentials, placeOf('sessions', session.idHash))) as SessionCredentials,
          expires: session.expires,
        }
      );
    },
    end: async id => {
      if (id !== undefined) {
        await deleteSession(db, hashOf(id));
      }
    },
  };
};
