/** Which bus carries the events of this installation: its settings, and the choice. */
import type { Db } from '../../db/sql.ts';
import type { Clock, Random } from '../clock.ts';
import { integer, readSettings, secret, text } from '../config.ts';
import type { Log } from '../log.ts';
import type { Metrics } from '../metrics.ts';
import { openAmqpBus } from './amqp/amqp.ts';
import type { Bus } from './bus.ts';
import { openPostgresBus } from './postgres.ts';

const DAY_MS = 24 * 3_600_000;

/** The address of a broker as it is; throws what is wrong with it. */
export const parseBrokerUrl = (value: string): string => {
  const url = URL.parse(value);
  if (!url || !['amqp:', 'amqps:'].includes(url.protocol) || url.hostname === '') {
    throw new Error('must be amqp:// or amqps://user:password@host:port/vhost');
  }
  return value;
};

export const busSettings = {
  pulseUrl: secret({
    ...text(
      'PULSE_URL',
      'the message broker (RabbitMQ) that carries events: amqps://user:password@host:port/vhost, the vhost percent-encoded; absent: Postgres does',
      { fallback: undefined },
    ),
    parse: parseBrokerUrl as (value: string) => string | undefined,
  }),
  abandonedDays: integer(
    'PULSE_ABANDONED_DAYS',
    'days after which a subscription that no process serves is removed, with the events that wait for it',
    { fallback: 7, min: 1, max: 3_650 },
  ),
};

export interface OpenBusOptions {
  readonly db: Db;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  readonly metrics: Metrics;
  /** Settings by environment variable. */
  readonly environment: Readonly<Record<string, string | undefined>>;
}

/** The bus of a process: RabbitMQ where `PULSE_URL` is given, else Postgres. Throws when a setting is wrong; a broker that is away is waited for. */
export const openBus = (options: OpenBusOptions): Bus => {
  const { pulseUrl, abandonedDays } = readSettings(busSettings, options.environment);
  const abandonedMs = abandonedDays * DAY_MS;
  return pulseUrl === undefined ? openPostgresBus({ ...options, abandonedMs }) : openAmqpBus({ ...options, url: pulseUrl, abandonedMs });
};
