/** Pulse: accounts on the message broker for programs that listen to this installation, or publish through it. */
import { defineApi, methods } from '../define.ts';
import { heartbeatMethods, pingMethods } from '../operational.ts';
import { anyObject, array, boolean, dateTime, object, optional, schema, string } from '../schema.ts';
import { continuationToken, expires, paging } from '../types.ts';

const NAMESPACE = 'At most 64 letters, digits, `_` and `-`.';
const contact = () =>
  string({ format: 'email', maxLength: 1024, description: 'Who is told when a queue of the namespace grows too long. Absent: nobody.' });

export const overview = schema(
  'pulse',
  'rabbit-overview',
  { title: 'Overview of the Broker' },
  object({
    rabbitVersion: string({ description: 'Version of RabbitMQ.' }),
    clusterName: string({ description: 'Name of the cluster.' }),
    managementVersion: string({ description: 'Version of its management plugin.' }),
  }),
);

export const exchangeList = schema(
  'pulse',
  'list-exchanges-response',
  { title: 'Exchanges of the Broker' },
  object({
    exchanges: array(
      object({
        name: string({ description: 'Full name.' }),
        vhost: string({ description: 'The virtual host it is in.' }),
        type: string({ description: '`topic`, for those of Taskcluster.' }),
        durable: boolean({ description: 'Whether it survives a restart of the broker.' }),
        autoDelete: boolean({ description: 'Whether it goes with its last binding.' }),
        internal: boolean({ description: 'Whether only other exchanges publish to it.' }),
        arguments: anyObject({ description: 'What else it was declared with.' }),
      }),
    ),
    continuationToken: optional(continuationToken()),
  }),
);

const namespaceProperties = {
  namespace: string({ description: NAMESPACE }),
  contact: optional(contact()),
  created: dateTime({ description: 'When it was claimed first.' }),
  expires: expires('When it ends, with its accounts, queues and exchanges, unless it is claimed again.'),
};

export const namespaceResponse = schema('pulse', 'namespace', { title: 'Namespace' }, object(namespaceProperties));

export const namespaceList = schema(
  'pulse',
  'list-namespaces-response',
  { title: 'Namespaces' },
  object({ namespaces: array(object(namespaceProperties)), continuationToken: optional(continuationToken()) }),
);

export const claimRequest = schema(
  'pulse',
  'namespace-request',
  { title: 'Claim of a Namespace' },
  object({
    expires: expires('When the namespace ends unless it is claimed again.'),
    contact: optional(contact()),
  }),
);

export const claimResponse = schema(
  'pulse',
  'namespace-response',
  { title: 'Claimed Namespace' },
  object({
    ...namespaceProperties,
    connectionString: string({ description: 'Where to connect, with name and password: `amqps://user:password@host:port/vhost`.' }),
    reclaimAt: dateTime({ description: 'Claim again, and connect anew with what that returns, at this time.' }),
  }),
);

const common = { category: 'Pulse Service', stability: 'experimental' } as const;

const pulseMethods = methods({
  overview: {
    ...common,
    method: 'get',
    route: '/overview',
    title: 'Broker Overview',
    description: 'What the message broker is.',
    scopes: 'pulse:overview',
    output: overview,
  },
  exchanges: {
    ...common,
    method: 'get',
    route: '/exchanges',
    query: paging,
    title: 'List Exchanges',
    description: 'The exchanges that may be bound to, by name. Paged.',
    scopes: 'pulse:list-exchanges',
    output: exchangeList,
  },
  listNamespaces: {
    ...common,
    method: 'get',
    route: '/namespaces',
    query: paging,
    title: 'List Namespaces',
    description: 'All namespaces that have not ended, by name. Paged.',
    scopes: 'pulse:list-namespaces',
    output: namespaceList,
  },
  namespace: {
    ...common,
    method: 'get',
    route: '/namespace/<namespace>',
    title: 'Get Namespace',
    description: 'A namespace, without its password.',
    scopes: 'pulse:get-namespace:<namespace>',
    output: namespaceResponse,
  },
  claimNamespace: {
    ...common,
    method: 'post',
    route: '/namespace/<namespace>',
    title: 'Claim a Namespace',
    description: [
      'Makes the namespace, or extends it, and returns an account for it. The account may make, use and delete queues `queue/<namespace>/…` and exchanges `exchange/<namespace>/…`, and bind its queues to any exchange `exchange/…`.',
      '',
      'Passwords change all the time. What this returns works until well after `reclaimAt`; then claim again. Connections do not live for ever: when one is closed, connect again.',
      '',
      'A queue with too many messages is reported to `contact`; one with far too many is deleted. Claiming again without `contact` keeps the one there is.',
    ].join('\n'),
    scopes: 'pulse:namespace:<namespace>',
    input: claimRequest,
    output: claimResponse,
  },
});

export const pulseApi = defineApi({
  service: 'pulse',
  version: 'v1',
  title: 'Pulse Service',
  description:
    'Accounts on the message broker: each namespace has its own queues and exchanges, and may listen to everything that this installation tells.',
  errorCodes: { InvalidNamespace: 400 },
  methods: { ...pingMethods, ...pulseMethods, ...heartbeatMethods },
});
