/** RabbitMQ's management interface, as far as accounts and their queues need it. */
import { ApiError } from '../../platform/errors.ts';
import type { Clock } from '../../platform/clock.ts';

const TIMEOUT_MS = 20_000;
const PAGE = 200;

export interface Overview {
  readonly rabbitmq_version: string;
  readonly management_version: string;
  readonly cluster_name: string;
}
export interface BrokerExchange {
  readonly name: string;
  readonly vhost: string;
  readonly type: string;
  readonly durable: boolean;
  readonly auto_delete: boolean;
  readonly internal: boolean;
  readonly arguments: Record<string, unknown>;
}
export interface BrokerQueue {
  readonly name: string;
  /** Absent while the broker does not know. */
  readonly messages?: number;
}
export interface BrokerConnection {
  readonly name: string;
  readonly vhost: string;
  readonly user: string;
  /** Milliseconds since the epoch. */
  readonly connected_at: number;
}
export interface BrokerUser {
  readonly name: string;
  readonly tags: string | readonly string[];
}
export interface Permissions {
  readonly configure: string;
  readonly write: string;
  readonly read: string;
}

export interface Management {
  overview(): Promise<Overview>;
  listExchanges(): Promise<BrokerExchange[]>;
  /** Undefined when there is none. */
  getUser(name: string): Promise<BrokerUser | undefined>;
  /** Makes it, or gives it another password. */
  putUser(name: string, password: string, tags: string): Promise<void>;
  /** In the vhost of the service, like all below. */
  permit(user: string, permissions: Permissions): Promise<void>;
  deleteUser(name: string): Promise<void>;
  /** Queues whose names match a regular expression, page by page. */
  listQueues(pattern: string): AsyncIterable<readonly BrokerQueue[]>;
  deleteQueue(name: string): Promise<void>;
  deleteExchange(name: string): Promise<void>;
  /** Page by page. */
  listConnections(): AsyncIterable<readonly BrokerConnection[]>;
  closeConnection(name: string, reason: string): Promise<void>;
}

/** The broker does not do what it was asked for. */
export class BrokerError extends ApiError {
  /** Of its answer; undefined when it gave none. */
  readonly status: number | undefined;
  constructor(problem: string, { status, cause }: { status?: number; cause?: unknown } = {}) {
    super('ServiceUnavailable', 'The message broker cannot be managed at present: {{problem}}. Try again later.', { problem });
    this.status = status;
    this.cause = cause;
  }
}

const escape = encodeURIComponent;

/** @param url `https://user:password@host:port` */
export const openManagement = (url: string, vhost: string, clock: Clock): Management => {
  const { origin, pathname, username, password } = new URL(url);
  const base = `${origin}${pathname.replace(/\/+$/, '')}/api`;
  const authorization = `Basic ${Buffer.from(`${decodeURIComponent(username)}:${decodeURIComponent(password)}`).toString('base64')}`;
  const inVhost = escape(vhost);

  /** The body of the answer; undefined for what is not there, which nothing can be put into. */
  const call = async <T>(method: string, route: string, body?: unknown, headers: Record<string, string> = {}): Promise<T | undefined> => {
    const giveUp = new AbortController();
    const timer = clock.setTimer(TIMEOUT_MS, () => giveUp.abort(new Error(`no answer within ${TIMEOUT_MS / 1000} seconds`)));
    try {
      const response = await fetch(base + route, {
        method,
        headers: { authorization, 'content-type': 'application/json', ...headers },
        signal: giveUp.signal,
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      });
      const text = await response.text();
      if (response.status === 404 && method !== 'PUT') {
        return undefined;
      }
      if (!response.ok) {
        throw new BrokerError(`it answers ${response.status} to ${method} ${route.split('?')[0]}`, { status: response.status });
      }
      return (text === '' ? undefined : JSON.parse(text)) as T;
    } catch (error) {
      throw error instanceof BrokerError ? error : new BrokerError('it cannot be reached', { cause: error });
    } finally {
      timer.cancel();
    }
  };
  const need = async <T>(route: string): Promise<T> => {
    const found = await call<T>('GET', route);
    if (found === undefined) {
      throw new BrokerError(`it does not know ${route.split('?')[0]}`);
    }
    return found;
  };

  async function* pages<T>(route: string, query: string): AsyncIterable<readonly T[]> {
    for (let page = 1; ; page++) {
      const { items, page_count: count } = await need<{ items: T[]; page_count: number }>(
        `${route}?page=${page}&page_size=${PAGE}&pagination=true${query}`,
      );
      yield items;
      if (page >= count) {
        return;
      }
    }
  }

  const getUser = (name: string): Promise<BrokerUser | undefined> => call('GET', `/users/${escape(name)}`);

  return {
    overview: () => need('/overview'),
    listExchanges: () => need(`/exchanges/${inVhost}?disable_stats=true`),
    getUser,
    putUser: async (name, secret, tags) => {
      const put = (): Promise<unknown> => call('PUT', `/users/${escape(name)}`, { password: secret, tags });
      await put().catch(async (error: unknown) => {
        // of two who make the same user at once it refuses one, for the user is there already
        if (!(error instanceof BrokerError && error.status === 400 && (await getUser(name)))) {
          throw error;
        }
        await put();
      });
    },
    permit: async (user, permissions) => void (await call('PUT', `/permissions/${inVhost}/${escape(user)}`, permissions)),
    deleteUser: async name => void (await call('DELETE', `/users/${escape(name)}`)),
    listQueues: pattern =>
      pages(`/queues/${inVhost}`, `&name=${escape(pattern)}&use_regex=true&disable_stats=true&enable_queue_totals=true`),
    deleteQueue: async name => void (await call('DELETE', `/queues/${inVhost}/${escape(name)}`)),
    deleteExchange: async name => void (await call('DELETE', `/exchanges/${inVhost}/${escape(name)}`)),
    listConnections: async function* () {
      // those that are being opened have not told everything yet
      for await (const page of pages<Partial<BrokerConnection>>('/connections', '&columns=name,vhost,user,connected_at')) {
        yield page.filter(
          (each): each is BrokerConnection => each.vhost === vhost && each.user !== undefined && each.connected_at !== undefined,
        );
      }
    },
    closeConnection: async (name, reason) => void (await call('DELETE', `/connections/${escape(name)}`, undefined, { 'x-reason': reason })),
  };
};
