/**
 * What a browser asks below `/login/`: the page that a one-time link opens, the session it gets, and temporary credentials for as long as it lasts.
 * Cookies are sent by browsers whoever asks, so everything here that matters refuses requests that another site has caused.
 */
import type { IncomingHttpHeaders } from 'node:http';
import { TOO_LARGE, readText } from '../../platform/read-body.ts';
import { HttpReply, type RawRequest, type RawRoute } from '../../platform/service.ts';
import { page } from './page.ts';
import { type Session, type Sessions, refreshAt } from './session.ts';

const MAX_BODY_BYTES = 4_096;

const HEADERS = {
  'content-type': 'application/json; charset=utf-8',
  'cache-control': 'no-store',
  'x-content-type-options': 'nosniff',
  'x-frame-options': 'SAMEORIGIN',
  'cross-origin-opener-policy': 'same-origin-allow-popups',
  'referrer-policy': 'no-referrer',
};

const refuse = (status: number, code: string, message: string): HttpReply => new HttpReply(status, HEADERS, { code, message });

/** Whether a page of this installation asked, as far as the browser tells. */
const isOwnSite = (headers: IncomingHttpHeaders, rootUrl: string): boolean => {
  const site = headers['sec-fetch-site'];
  if (site !== undefined && site !== 'same-origin' && site !== 'none') {
    return false;
  }
  const { origin } = headers;
  return (
    origin === undefined ||
    origin === new URL(rootUrl).origin ||
    origin === `http://${headers.host}` ||
    origin === `https://${headers.host}`
  );
};

const OTHER_SITE = refuse(403, 'Forbidden', 'This is only answered to pages of this installation.');

/** What a page may know of a session. */
const describe = ({ credentials: { clientId }, expires }: Session): object => ({ clientId, expires: expires.toJSON() });

/** The routes of sign-in. */
export const makeLoginRoute = (sessions: Sessions, rootUrl: string): RawRoute => {
  const isSecure = rootUrl.startsWith('https:');
  const { port } = new URL(rootUrl);
  // browsers share cookies between the ports of a host
  const cookieName = `taskcluster-session${port === '' ? '' : `-${port}`}`;
  const setCookie = (value: string, maxAgeSeconds: number): string =>
    `${cookieName}=${value}; Path=/; HttpOnly; SameSite=Lax; Max-Age=${maxAgeSeconds}${isSecure ? '; Secure' : ''}`;
  const sessionOf = ({ cookie = '' }: IncomingHttpHeaders): string | undefined =>
    cookie
      .split(';')
      .map(each => each.trim().split('='))
      .find(([name]) => name === cookieName)?.[1];

  const consumeLink = async (request: RawRequest): Promise<HttpReply> => {
    const text = await readText(request.body, MAX_BODY_BYTES);
    let token: unknown;
    try {
      token = text === TOO_LARGE ? undefined : (JSON.parse(text) as { token?: unknown } | null)?.token;
    } catch {
      // told below
    }
    if (typeof token !== 'string' || !/^application\/json\b/i.test(request.headers['content-type'] ?? '')) {
      return refuse(400, 'InputError', 'The body must be JSON with the link\'s token: {"token": "..."}.');
    }
    const started = await sessions.start(token);
    if (!started) {
      return refuse(
        400,
        'InputError',
        'This link was used already, or is older than ten minutes. `taskcluster signin --link` makes another.',
      );
    }
    return new HttpReply(200, { ...HEADERS, 'set-cookie': setCookie(started.id, started.maxAgeSeconds) }, describe(started));
  };

  const signOut = async (request: RawRequest): Promise<HttpReply> => {
    request.body.resume();
    await sessions.end(sessionOf(request.headers));
    return new HttpReply(200, { ...HEADERS, 'set-cookie': setCookie('', 0) }, {});
  };

  const withSession = async (request: RawRequest, answer: (session: Session) => object): Promise<HttpReply> => {
    const id = sessionOf(request.headers);
    const session = id === undefined ? undefined : await sessions.find(id);
    return session ? new HttpReply(200, HEADERS, answer(session)) : refuse(401, 'AuthenticationFailed', 'Not signed in.');
  };

  const routes: Readonly<Record<string, (request: RawRequest) => Promise<HttpReply> | HttpReply>> = {
    'GET /login/link': () => page(),
    'POST /login/link': consumeLink,
    'POST /login/logout': signOut,
    'GET /login/me': request => withSession(request, describe),
    'GET /login/credentials': request =>
      request.headers['x-requested-with'] === undefined
        ? refuse(400, 'InputError', 'Send the header X-Requested-With, which other sites cannot: credentials are not given to them.')
        : withSession(request, session => ({ expires: refreshAt(session).toJSON(), credentials: session.credentials })),
  };

  return {
    prefix: '/login/',
    handle: async request => {
      const path = request.url.split('?')[0] ?? '';
      const method = request.method === 'HEAD' ? 'GET' : request.method;
      const route = routes[`${method} ${path}`];
      if (!route) {
        request.body.resume();
        const allowed = Object.keys(routes).flatMap(each => (each.endsWith(` ${path}`) ? [each.split(' ')[0] as string] : []));
        return allowed.length > 0
          ? new HttpReply(
              405,
              { ...HEADERS, allow: allowed.join(', ') },
              { code: 'MethodNotAllowed', message: `Use ${allowed.join(' or ')}.` },
            )
          : refuse(404, 'ResourceNotFound', 'Not found');
      }
      if (path !== '/login/link' || method !== 'GET') {
        if (!isOwnSite(request.headers, rootUrl)) {
          request.body.resume();
          return OTHER_SITE;
        }
      }
      return route(request);
    },
  };
};
