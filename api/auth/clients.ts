/** Clients: who may sign requests, and with which scopes. */
import { methods } from '../define.ts';
import { array, boolean, dateTime, defaulted, object, optional, ref, schema, set, string, type TypeOf } from '../schema.ts';
import { ACCESS_TOKEN_PATTERN, CLIENT_ID_PATTERN, continuationToken, paging, param, scopeSet } from '../types.ts';

const clientId = string({ pattern: CLIENT_ID_PATTERN, description: 'The client.' });
const description = string({ maxLength: 10_240, description: 'What the client is for and who uses it, in Markdown.' });
const expires = dateTime({ description: 'From then on the client cannot be used.' });

export const createClientRequest = schema(
  'auth',
  'create-client-request',
  { title: 'Create Client Request' },
  object({
    expires,
    description,
    deleteOnExpiration: defaulted(boolean({ description: 'Delete the client some time after it has expired.' }), false),
    scopes: optional(
      scopeSet({
        description: 'What the client may do. None when a new client is created without; unchanged when an update leaves them out.',
      }),
    ),
  }),
);

const client = {
  clientId,
  expires,
  description,
  created: dateTime({ description: 'When the client was created.' }),
  lastModified: dateTime({ description: 'When anything but the access token was last changed.' }),
  lastDateUsed: dateTime({ description: 'When the client was last used, within some hours.' }),
  lastRotated: dateTime({ description: 'When the access token was last replaced.' }),
  scopes: scopeSet({ default: [], description: 'The scopes the client was given.' }),
  expandedScopes: scopeSet({ description: 'All it can do, with the scopes of the roles it assumes.' }),
  disabled: boolean({ description: 'A disabled client cannot be used until it is enabled again.' }),
  deleteOnExpiration: boolean({ description: 'Whether it is deleted some time after it has expired.' }),
};

export const getClientResponse = schema('auth', 'get-client-response', { title: 'Get Client Response' }, object(client));
export type ClientInfo = TypeOf<typeof getClientResponse>;

export const createClientResponse = schema(
  'auth',
  'create-client-response',
  { title: 'Create Client Response', description: 'The client with its access token, which is not shown again.' },
  object({
    ...client,
    accessToken: string({ pattern: ACCESS_TOKEN_PATTERN, description: 'The secret. Keep it: nobody can read it later.' }),
  }),
);

export const listClientsResponse = schema(
  'auth',
  'list-clients-response',
  { title: 'List Clients Response' },
  object({ clients: set(ref(getClientResponse)), continuationToken: optional(continuationToken()) }),
);

export const getEntityHistoryResponse = schema(
  'auth',
  'get-entity-history-response',
  { title: 'Audit History Response' },
  object({
    auditHistory: array(
      object({
        clientId: string({ description: 'Who did it.' }),
        actionType: string({ description: 'What was done.' }),
        created: dateTime({ description: 'When.' }),
        entityId: string({ description: 'To which one.' }),
        entityType: string({ description: 'To what kind of thing.' }),
      }),
    ),
    continuationToken: optional(continuationToken()),
  }),
);
export type AuditEntry = TypeOf<typeof getEntityHistoryResponse>['auditHistory'][number];

const common = { category: 'Clients', stability: 'stable' } as const;
const ofClient = { params: { clientId: param.clientId } } as const;

export const ENTITY_TYPES = ['client', 'role', 'secret', 'hook', 'worker-pool'] as const;
export type EntityType = (typeof ENTITY_TYPES)[number];

export const clientMethods = methods({
  listClients: {
    ...common,
    method: 'get',
    route: '/clients/',
    query: { prefix: param.clientId, ...paging },
    title: 'List Clients',
    description:
      'All clients, or those whose id begins with `prefix`, ordered by id. Access tokens are not shown. Paged: a page can be short and still not be the last.',
    scopes: 'auth:list-clients',
    output: listClientsResponse,
  },
  client: {
    ...common,
    ...ofClient,
    method: 'get',
    route: '/clients/<clientId>',
    title: 'Get Client',
    description: 'One client, without its access token.',
    scopes: 'auth:get-client:<clientId>',
    output: getClientResponse,
  },
  createClient: {
    ...common,
    ...ofClient,
    method: 'put',
    route: '/clients/<clientId>',
    title: 'Create Client',
    description: [
      'Creates a client and answers with its access token, the only time it is shown.',
      '',
      'The caller needs every scope that it gives to the client. Ids beginning with `static/` belong to the configuration of the deployment and are refused.',
      '',
      'Repeating the call with the same values within 15 minutes gives the same client and token again, so that a lost answer does no harm. Otherwise an existing id is refused as `RequestConflict`.',
    ].join('\n'),
    scopes: { AllOf: ['auth:create-client:<clientId>', { for: 'scope', in: 'scopes', each: '<scope>' }] },
    input: createClientRequest,
    output: createClientResponse,
  },
  getEntityHistory: {
    ...common,
    category: 'Audit',
    method: 'get',
    route: '/audit/<entityType>/<entityId>',
    params: { entityType: /^(client|role|secret|hook|worker-pool)$/ },
    query: paging,
    title: 'History of an Entity',
    description:
      'What was done to one client, role, secret, hook or worker pool, and by whom, the oldest first. Empty for what never existed. Paged.',
    scopes: 'auth:audit-history:<entityType>',
    output: getEntityHistoryResponse,
  },
  listAuditHistory: {
    ...common,
    ...ofClient,
    category: 'Audit',
    method: 'get',
    route: '/clients/<clientId>/audit',
    query: paging,
    title: 'History of What a Client Did',
    description: 'What one client did, the oldest first. Paged.',
    scopes: 'auth:client-audit-history:<clientId>',
    output: getEntityHistoryResponse,
  },
  resetAccessToken: {
    ...common,
    ...ofClient,
    method: 'post',
    route: '/clients/<clientId>/reset',
    title: 'Replace Access Token',
    description:
      'Gives the client a new access token and ends the old one at once, together with all temporary credentials made from it. Repeating the call makes yet another token.',
    scopes: 'auth:reset-access-token:<clientId>',
    output: createClientResponse,
  },
  updateClient: {
    ...common,
    ...ofClient,
    method: 'post',
    route: '/clients/<clientId>',
    title: 'Update Client',
    description:
      'Replaces description, expiry and, where given, the scopes of a client. The caller needs the scopes that are added; removing needs none. The access token stays.',
    scopes: { AllOf: ['auth:update-client:<clientId>', { for: 'scope', in: 'scopesAdded', each: '<scope>' }] },
    input: createClientRequest,
    output: getClientResponse,
  },
  enableClient: {
    ...common,
    ...ofClient,
    method: 'post',
    route: '/clients/<clientId>/enable',
    title: 'Enable Client',
    description: 'Ends what `disableClient` began. Repeating it is harmless.',
    scopes: 'auth:enable-client:<clientId>',
    output: getClientResponse,
  },
  disableClient: {
    ...common,
    ...ofClient,
    method: 'post',
    route: '/clients/<clientId>/disable',
    title: 'Disable Client',
    description:
      'Makes the client, and all temporary credentials made from it, unusable until it is enabled again. Repeating it is harmless.',
    scopes: 'auth:disable-client:<clientId>',
    output: getClientResponse,
  },
  deleteClient: {
    ...common,
    ...ofClient,
    method: 'delete',
    route: '/clients/<clientId>',
    title: 'Delete Client',
    description: 'Deletes a client. Succeeds also when there is none.',
    scopes: 'auth:delete-client:<clientId>',
  },
});
