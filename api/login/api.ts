/** Sign-in for people: one-time links. What a browser then asks is below `/login/`, outside the APIs, because it lives on cookies. */
import { defineApi } from '../define.ts';
import { heartbeatMethods, pingMethods } from '../operational.ts';
import { dateTime, object, schema, string, uri } from '../schema.ts';

export const createSignInLinkRequest = schema(
  'login',
  'create-sign-in-link-request',
  { title: 'Create Sign-In Link Request', description: 'What the link gives to whoever opens it first.' },
  object({
    credentials: object(
      {
        clientId: string({ description: 'The client that the browser acts as.' }),
        accessToken: string({ description: 'The access token that belongs to the certificate.' }),
        certificate: string({ maxLength: 100_000, description: 'The certificate as JSON text. Its expiry ends the session.' }),
      },
      { description: 'Temporary credentials, made by the caller from its own: the link can give no more than the caller has.' },
    ),
  }),
);

export const createSignInLinkResponse = schema(
  'login',
  'create-sign-in-link-response',
  { title: 'Create Sign-In Link Response', description: 'A link for one browser, once. Whoever has it can use it.' },
  object({
    url: uri({ description: 'To be opened in a browser. The token is in the fragment, which browsers send to nobody.' }),
    expires: dateTime({ description: 'When the link stops working, used or not.' }),
  }),
);

/** Credentials are never repeated, neither in errors nor in logs. */
const redact = (): unknown => ({ credentials: '(hidden)' });

export const loginApi = defineApi({
  service: 'login',
  version: 'v1',
  title: 'Login Service',
  description: 'Signs people in to this installation. A one-time link is the way in where no identity provider is configured.',
  methods: {
    ...pingMethods,
    createSignInLink: {
      method: 'post',
      route: '/sign-in-link',
      title: 'Create Sign-In Link',
      description:
        'Makes a link that hands temporary credentials to one browser, once, within ten minutes. The browser is signed in for a week at most, and no longer than the credentials last.',
      category: 'Sign-in',
      stability: 'experimental',
      scopes: 'login:create-sign-in-link',
      redact,
      input: createSignInLinkRequest,
      output: createSignInLinkResponse,
    },
    ...heartbeatMethods,
  },
});
