/** Sign-in for people: one-time links, and the sessions of browsers. */
import { loginApi } from '@tscluster/api/login/api.ts';
import type { Db } from '../../db/sql.ts';
import type { Clock } from '../../platform/clock.ts';
import { inputError } from '../../platform/errors.ts';
import { loop, run } from '../../platform/loop.ts';
import { type Handlers, defineService, serve } from '../../platform/service.ts';
import { makeLoginRoute } from './routes.ts';
import { type Sessions, makeSessions, placeOf } from './session.ts';
import { deleteExpired } from './sessions.db.ts';

interface LoginCtx {
  readonly sessions: Sessions;
  readonly rootUrl: string;
  readonly clock: Clock;
}

const expire = loop<{ db: Db; clock: Clock }>({
  name: 'login/expire',
  everyMs: 3_600_000,
  batch: 1_000,
  run: ({ db, clock }, limit) => deleteExpired(db, clock.now(), limit),
});

/** The end of a certificate, in milliseconds; undefined when it is none. */
const readExpiry = (certificate: string): number | undefined => {
  try {
    const { expiry } = JSON.parse(certificate) as { expiry?: unknown };
    return typeof expiry === 'number' && Math.abs(expiry) <= 8.64e15 ? expiry : undefined;
  } catch {
    return undefined;
  }
};

const handlers: Handlers<typeof loginApi, LoginCtx> = {
  async createSignInLink({ ctx: { sessions, rootUrl, clock }, body: { credentials } }) {
    const expiry = readExpiry(credentials.certificate);
    if (expiry === undefined || expiry <= clock.nowMs()) {
      return inputError('credentials.certificate must be the certificate of temporary credentials, as JSON text, and not be over yet.');
    }
    const { token, expires } = await sessions.createLink(credentials, new Date(expiry));
    return { url: `${rootUrl}/login/link#${token}`, expires: expires.toJSON() };
  },
};

export const login = defineService({
  name: 'login',
  encrypted: [
    { table: 'login.links', column: 'credentials', key: ['token_hash'], context: ({ tokenHash = '' }) => placeOf('links', tokenHash) },
    { table: 'login.sessions', column: 'credentials', key: ['id_hash'], context: ({ idHash = '' }) => placeOf('sessions', idHash) },
  ],
  settings: {},
  start: ({ db, clock, random, keyring, log, rootUrl }) => {
    const sessions = makeSessions({ db, clock, random, keyring, log });
    return {
      apis: [serve(loginApi, handlers, { sessions, rootUrl, clock })],
      routes: [makeLoginRoute(sessions, rootUrl)],
      loops: [run(expire, { db, clock })],
    };
  },
});
