/** Settings of the pulse service, and what they mean together. */
import { busSettings, parseBrokerUrl } from '../../platform/bus/open.ts';
import { integer, secret, type SettingValues, text } from '../../platform/config.ts';

const parseManagementUrl = (value: string): string => {
  const url = URL.parse(value);
  if (!url || !['http:', 'https:'].includes(url.protocol) || url.username === '' || url.search !== '') {
    throw new Error('must be http:// or https://user:password@host:port');
  }
  return value;
};

/** Exchanges of services, whether this installation has them or only listens to them, are `exchange/taskcluster-…`: nobody else may publish there. */
export const OWN_PREFIX = 'taskcluster-';

const parsePrefix = (value: string): string => {
  if (!/^[A-Za-z0-9_-]{0,60}$/.test(value) || value.startsWith(OWN_PREFIX)) {
    throw new Error(`must be at most 60 letters, digits, _ and -, and not begin with ${OWN_PREFIX}`);
  }
  return value;
};

export const pulseSettings = {
  pulseUrl: busSettings.pulseUrl,
  managementUrl: secret({
    ...text(
      'PULSE_MANAGEMENT_URL',
      'the management interface of the message broker, with an administrator: https://user:password@host:port; absent: no accounts are given out',
      { fallback: undefined },
    ),
    parse: parseManagementUrl as (value: string) => string | undefined,
  }),
  publicUrl: {
    ...text(
      'PULSE_PUBLIC_URL',
      'where those who have an account reach the broker: amqps://host:port/vhost (default: PULSE_URL, without its user)',
      { fallback: undefined },
    ),
    parse: parseBrokerUrl as (value: string) => string | undefined,
  },
  namespacePrefix: {
    ...text('PULSE_NAMESPACE_PREFIX', 'what every namespace has to begin with', { fallback: '' }),
    parse: parsePrefix,
  },
  rotationMinutes: integer('PULSE_ROTATION_MINUTES', 'minutes after which the passwords of a namespace change', { fallback: 60, min: 1 }),
  connectionMinutes: integer('PULSE_CONNECTION_MAX_MINUTES', 'minutes after which connections of these accounts are closed', {
    fallback: 720,
    min: 1,
  }),
  alertMessages: integer('PULSE_QUEUE_ALERT_MESSAGES', 'messages in a queue of a namespace above which its contact is told', {
    fallback: 8_000,
    min: 1,
  }),
  deleteMessages: integer('PULSE_QUEUE_DELETE_MESSAGES', 'messages in a queue of a namespace above which it is deleted', {
    fallback: 20_000,
    min: 1,
  }),
};

/** A broker on which accounts can be made. */
export interface BrokerAddress {
  readonly managementUrl: string;
  /** Without a user. */
  readonly publicUrl: URL;
  readonly vhost: string;
  /** The user of the bus, whose queues lie beside those of the namespaces. */
  readonly ownUser: string | undefined;
}

/** Undefined where accounts are not given out. Throws when the settings do not fit together. */
export const brokerAddress = ({
  managementUrl,
  publicUrl,
  pulseUrl,
}: Pick<SettingValues<typeof pulseSettings>, 'managementUrl' | 'publicUrl' | 'pulseUrl'>): BrokerAddress | undefined => {
  if (managementUrl === undefined) {
    return undefined;
  }
  const given = publicUrl ?? pulseUrl;
  if (given === undefined) {
    throw new Error('PULSE_MANAGEMENT_URL is set, but neither PULSE_PUBLIC_URL nor PULSE_URL says where the broker is');
  }
  const url = new URL(given);
  url.username = '';
  url.password = '';
  url.search = '';
  const ownUser = pulseUrl === undefined ? undefined : decodeURIComponent(new URL(pulseUrl).username);
  return { managementUrl, publicUrl: url, vhost: decodeURIComponent(url.pathname.slice(1)) || '/', ownUser };
};
