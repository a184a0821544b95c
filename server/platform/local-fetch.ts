/** `fetch` without a socket: one service calls another that the same process serves, through the same pipeline. */
import type { FastifyInstance, InjectOptions } from 'fastify';

export const makeLocalFetch =
  (app: () => FastifyInstance): typeof fetch =>
  async (input: string | URL | Request, init?: RequestInit) => {
    const url = new URL(input instanceof Request ? input.url : input);
    const headers = Object.fromEntries(new Headers(init?.headers).entries());
    const options: InjectOptions = {
      method: (init?.method ?? 'GET').toUpperCase(),
      url: `${url.pathname}${url.search}`,
      headers: { ...headers, host: url.host, ...(url.protocol === 'https:' ? { 'x-forwarded-proto': 'https' } : {}) },
    };
    if (init?.body !== undefined && init.body !== null) {
      if (typeof init.body !== 'string') {
        throw new TypeError('A local call takes its body as text');
      }
      options.payload = init.body;
    }
    const response = await untilAborted(app().inject(options), init?.signal);
    const answered = new Headers();
    for (const [name, value] of Object.entries(response.headers)) {
      if (value !== undefined) {
        answered.set(name, Array.isArray(value) ? value.join(', ') : String(value));
      }
    }
    const body = response.statusCode === 204 || response.statusCode === 304 ? null : response.payload;
    return new Response(body, { status: response.statusCode, headers: answered });
  };

/** Waits no longer than the caller wants to: a request that comes while the server closes may never be answered. */
const untilAborted = async <T>(answer: Promise<T>, signal: AbortSignal | null | undefined): Promise<T> => {
  if (!signal) {
    return answer;
  }
  signal.throwIfAborted();
  const { promise: aborted, reject } = Promise.withResolvers<never>();
  const onAbort = (): void => reject(signal.reason as Error);
  signal.addEventListener('abort', onAbort, { once: true });
  try {
    return await Promise.race([answer, aborted]);
  } finally {
    signal.removeEventListener('abort', onAbort);
  }
};
