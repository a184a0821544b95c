/** Scopes and authentication: what a set of scopes amounts to, and whether a request is signed by whom it says. */
import { methods } from '../define.ts';
import {
  array,
  dateTime,
  defaulted,
  integer,
  object,
  oneOf,
  optional,
  raw,
  schema,
  string,
  stringEnum,
  word,
  type TypeOf,
} from '../schema.ts';
import { CLIENT_ID_PATTERN, HTTP_VERBS, scopeSet } from '../types.ts';

export const scopeSetDocument = schema(
  'auth',
  'scopeset',
  { title: 'Scope Set' },
  object({ scopes: scopeSet({ description: 'The scopes.' }) }),
);

export const authenticateHawkRequest = schema(
  'auth',
  'authenticate-hawk-request',
  { title: 'Authenticate a Request', description: 'A request as another service received it.' },
  object({
    method: stringEnum([...HTTP_VERBS, 'connect'], { description: 'The verb, in lower case.' }),
    resource: string({ description: 'Path and query, exactly as on the request line.' }),
    host: string({ format: 'hostname', description: 'The host that the caller has addressed.' }),
    port: integer({ minimum: 0, maximum: 65_535, description: 'The port that the caller has addressed.' }),
    authorization: optional(string({ description: 'The `Authorization` header, if there was one.' })),
    sourceIp: optional(
      raw<string>({
        type: 'string',
        oneOf: [{ format: 'ipv6' }, { format: 'ipv4' }],
        description: 'Where the request came from, for the log.',
      }),
    ),
  }),
);
export type AuthenticateHawkRequest = TypeOf<typeof authenticateHawkRequest>;

const clientId = string({ pattern: CLIENT_ID_PATTERN, description: 'The client, or the name in its temporary credentials.' });

export const authenticateHawkResponse = schema(
  'auth',
  'authenticate-hawk-response',
  { title: 'Authenticate Hawk Response' },
  oneOf([
    object(
      {
        status: word('auth-success'),
        scopes: scopeSet({ description: 'All that the caller may do.' }),
        scheme: word('hawk'),
        hash: optional(
          raw<unknown>({ description: 'Hash of the body, if the signature covers it. The service that received the body compares.' }),
        ),
        clientId,
        expires: dateTime({ description: 'Until when this holds.' }),
      },
      { title: 'Authentication Successful Response' },
    ),
    object(
      { status: word('auth-failed'), message: string({ description: 'Why, for the caller to read.' }) },
      { title: 'Authentication Failed Response' },
    ),
    object(
      {
        status: word('no-auth'),
        scheme: word('none'),
        scopes: scopeSet({ description: 'What anybody may do.' }),
        expires: dateTime({ description: 'Until when this holds.' }),
      },
      { title: 'No Authentication Response' },
    ),
  ]),
);
export type AuthenticateHawkResponse = TypeOf<typeof authenticateHawkResponse>;

/** How many requests one `authenticateHawkBatch` may hold. */
export const MAX_AUTHENTICATE_BATCH = 500;

export const authenticateHawkBatchRequest = schema(
  'auth',
  'authenticate-hawk-batch-request',
  { title: 'Authenticate Requests', description: 'Requests as another service received them.' },
  object({
    requests: array(
      // whatever a caller has put into its request must not spoil the answers to the others
      object({
        method: string({ description: 'The verb, in lower case.' }),
        resource: string({ description: 'Path and query, exactly as on the request line.' }),
        host: string({ description: 'The host that the caller has addressed.' }),
        port: integer({ description: 'The port that the caller has addressed.' }),
        authorization: optional(string({ description: 'The `Authorization` header, if there was one.' })),
        sourceIp: optional(string({ description: 'Where the request came from, for the log.' })),
      }),
      { minItems: 1, maxItems: MAX_AUTHENTICATE_BATCH },
    ),
  }),
);

export const authenticateHawkBatchResponse = schema(
  'auth',
  'authenticate-hawk-batch-response',
  { title: 'Authenticate Requests Response' },
  object({
    results: array(raw<AuthenticateHawkResponse>({ type: 'object', description: 'What `authenticateHawk` answers.' }), {
      description: 'In the order of the requests.',
    }),
    freshForMs: integer({ minimum: 0, description: 'For so many milliseconds the answers without credentials may be given to others.' }),
  }),
);

export const testAuthenticateRequest = schema(
  'auth',
  'test-authenticate-request',
  { title: 'Test Authenticate Request' },
  object({
    clientScopes: defaulted(scopeSet({ description: 'The scopes that the client `tester` has in this call.' }), [], { listed: true }),
    requiredScopes: defaulted(scopeSet({ description: 'The scopes that this call requires.' }), [], { listed: true }),
  }),
);

export const testAuthenticateResponse = schema(
  'auth',
  'test-authenticate-response',
  { title: 'Test Authenticate Response' },
  object({ clientId, scopes: scopeSet({ default: [], description: 'The scopes of the caller, without those of roles.' }) }),
);

const common = { category: 'Scopes and Auth', stability: 'stable' } as const;

export const scopeMethods = methods({
  expandScopes: {
    ...common,
    method: 'post',
    route: '/scopes/expand',
    title: 'What Scopes Amount to',
    description:
      'All that a set of scopes amounts to, with the scopes of the roles it assumes; nothing that is covered by another is listed.',
    scopes: 'auth:expand-scopes',
    input: scopeSetDocument,
    output: scopeSetDocument,
  },
  currentScopes: {
    ...common,
    method: 'get',
    route: '/scopes/current',
    title: 'Scopes of the Caller',
    description: 'All that the caller may do, after certificate, `authorizedScopes` and roles.',
    scopes: 'auth:current-scopes',
    output: scopeSetDocument,
  },
});

export const authenticationMethods = methods({
  authenticateHawk: {
    ...common,
    method: 'post',
    route: '/authenticate-hawk',
    title: 'Authenticate a Request',
    description:
      'Tells a service whether a request it received is signed correctly, by whom, and what the caller may do. Meant for services; the answer is 200 in every case and `status` says how it went.',
    input: authenticateHawkRequest,
    output: authenticateHawkResponse,
  },
  authenticateHawkBatch: {
    ...common,
    method: 'post',
    route: '/authenticate-hawk-batch',
    title: 'Authenticate Requests',
    description: 'The same for several requests at once. Meant for the services of this installation.',
    stability: 'experimental',
    published: false,
    input: authenticateHawkBatchRequest,
    output: authenticateHawkBatchResponse,
  },
  testAuthenticate: {
    ...common,
    method: 'post',
    route: '/test-authenticate',
    title: 'Test Authentication with a Body',
    description:
      'For authors of client libraries: sign a request as client `tester` with access token `no-secret`, and see whether it is understood. The body says which scopes the client has and which the call requires.',
    input: testAuthenticateRequest,
    output: testAuthenticateResponse,
  },
  testAuthenticateGet: {
    ...common,
    method: 'get',
    route: '/test-authenticate-get/',
    title: 'Test Authentication with GET',
    description:
      'The same for GET and signed URLs. The client `tester` has `test:*` and `auth:create-client:test:*` here, and the call requires `test:authenticate-get`.',
    output: testAuthenticateResponse,
  },
});
