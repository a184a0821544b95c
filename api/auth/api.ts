import { defineApi } from '../define.ts';
import { heartbeatMethods, pingMethods } from '../operational.ts';
import { clientMethods } from './clients.ts';
import { credentialMethods } from './credentials.ts';
import { roleMethods } from './roles.ts';
import { authenticationMethods, scopeMethods } from './scopes.ts';

export const authApi = defineApi({
  service: 'auth',
  version: 'v1',
  title: 'Auth Service',
  description: [
    'Who may do what. Clients sign their requests with an access token; what they may do follows from their scopes and from the roles they assume. The other services ask here whether a request is signed correctly.',
    '',
    'Credentials for other systems are handed out here too.',
  ].join('\n'),
  errorCodes: { TooManyRequests: 429 },
  methods: {
    ...pingMethods,
    ...clientMethods,
    ...roleMethods,
    ...scopeMethods,
    ...credentialMethods,
    ...authenticationMethods,
    ...heartbeatMethods,
  },
});
