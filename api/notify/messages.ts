/** Messages to be sent now, by channel. */
import { methods } from '../define.ts';
import {
  anyObject,
  boolean,
  defaulted,
  object,
  oneOf,
  optional,
  raw,
  schema,
  string,
  stringEnum,
  type FilledOf,
  type Schema,
} from '../schema.ts';

const email = (description: string): Schema<string> => string({ format: 'email', description });
const anyArray = (description: string): Schema<unknown[]> => raw({ type: 'array', description });

export const emailRequest = schema(
  'notify',
  'email-request',
  { title: 'Email Request' },
  object({
    address: email('Who gets it.'),
    subject: string({ minLength: 1, maxLength: 255, description: 'The subject.' }),
    content: string({ minLength: 1, maxLength: 102_400, description: 'The text, in Markdown.' }),
    link: optional(
      object(
        {
          text: string({ minLength: 1, maxLength: 40, description: 'What is written on the button.' }),
          href: string({ format: 'uri', minLength: 1, maxLength: 1024, description: 'Where it leads.' }),
        },
        { description: 'A button below the text.' },
      ),
    ),
    replyTo: optional(email('Who gets the answers.')),
    template: defaulted(stringEnum(['simple', 'fullscreen'], { description: 'A column, or the whole width.' }), 'simple'),
  }),
);
export type EmailMessage = FilledOf<typeof emailRequest>;

export const pulseRequest = schema(
  'notify',
  'pulse-request',
  { title: 'Pulse Request' },
  object({
    routingKey: string({ maxLength: 255, description: 'The topic to publish under.' }),
    message: anyObject({ description: 'What to publish.' }),
  }),
);
export type PulseMessage = FilledOf<typeof pulseRequest>;

export const matrixRequest = schema(
  'notify',
  'matrix-request',
  { title: 'Matrix Request' },
  object({
    roomId: string({ description: 'The room, by its full id such as `!whDRjjSmICCgrhFHsQ:mozilla.org`.' }),
    body: string({ description: 'The plain text.' }),
    format: optional(string({ description: 'Format of the formatted text; `org.matrix.custom.html` is the one clients know.' })),
    formattedBody: optional(string({ description: 'The formatted text.' })),
    msgtype: defaulted(stringEnum(['m.notice', 'm.text', 'm.emote'], { description: 'Kind of message.' }), 'm.notice'),
  }),
);
export type MatrixMessage = FilledOf<typeof matrixRequest>;

export const slackRequest = schema(
  'notify',
  'slack-request',
  { title: 'Slack Request' },
  object({
    channelId: string({ description: 'The channel, by its id such as `C123456GZ`.' }),
    text: string({ description: 'The text; only a fallback when there are blocks.' }),
    blocks: optional(anyArray('Layout blocks.')),
    attachments: optional(anyArray('Attachments of the older kind.')),
    unfurlLinks: defaulted(boolean({ description: 'Show previews of links to text.' }), false),
    unfurlMedia: defaulted(boolean({ description: 'Show previews of links to media.' }), false),
  }),
);
export type SlackMessage = FilledOf<typeof slackRequest>;

const ircText = string({ minLength: 1, maxLength: 2048, description: 'The text. Long texts are sent as several messages.' });
export const ircRequest = schema(
  'notify',
  'irc-request',
  { title: 'IRC Request', description: 'A message for a channel or for a person.' },
  oneOf([
    object({
      channel: string({ pattern: '^[#&+!][^ ,:\\u0007\\r\\n]{1,199}$', description: 'The channel, with its `#`.' }),
      message: ircText,
    }),
    object({
      user: string({ pattern: '^[A-Za-z\\[\\]\\\\`_^{|}][A-Za-z0-9\\[\\]\\\\`_^{|}-]{0,63}$', description: 'The nick.' }),
      message: ircText,
    }),
  ]),
);
export type IrcMessage = FilledOf<typeof ircRequest>;

export const webhookRequest = schema(
  'notify',
  'webhook-request',
  { title: 'Webhook Request' },
  object({
    name: string({ pattern: '^[a-zA-Z0-9_-]{1,64}$', description: 'The destination, as the operator named it.' }),
    payload: anyObject({ description: 'What to send.' }),
  }),
);
export type WebhookMessage = FilledOf<typeof webhookRequest>;

const common = { category: 'Notifications', stability: 'experimental', method: 'post', bodyWithoutSchema: true } as const;
/** What all of them answer. */
const ANSWERS =
  'Answers 200 when the message was sent, or when it will be tried again because the other side does not answer now; 204 when it was not sent because the same message was sent shortly before';

export const messageMethods = methods({
  email: {
    ...common,
    route: '/email',
    title: 'Send an Email',
    description: `Sends an email, as text and as HTML made from the Markdown. Not more than a number of messages goes to one address within some minutes. ${ANSWERS}, or because that number is reached. An address on the denylist is refused as \`DenylistedAddress\`.`,
    scopes: 'notify:email:<address>',
    input: emailRequest,
  },
  pulse: {
    ...common,
    route: '/pulse',
    title: 'Publish a Pulse Message',
    description: `Publishes a message on the exchange of this service, under the routing key and under \`route.<routingKey>\`. ${ANSWERS}. A routing key on the denylist is refused as \`DenylistedAddress\`.`,
    scopes: 'notify:pulse:<routingKey>',
    input: pulseRequest,
  },
  matrix: {
    ...common,
    route: '/matrix',
    title: 'Post a Matrix Message',
    description: `Posts a message to a Matrix room. The installation's bot has to be invited to the room before; it accepts by itself. ${ANSWERS}, or because no Matrix server is configured. A room on the denylist is refused as \`DenylistedAddress\`.`,
    scopes: 'notify:matrix-room:<roomId>',
    input: matrixRequest,
  },
  slack: {
    ...common,
    route: '/slack',
    title: 'Post a Slack Message',
    description: `Posts a message to a Slack channel. The installation's bot has to be a member of the channel, unless it may write to all public ones. ${ANSWERS}, or because Slack is not configured. A channel on the denylist is refused as \`DenylistedAddress\`.`,
    scopes: 'notify:slack-channel:<channelId>',
    input: slackRequest,
  },
});

export const newMessageMethods = methods({
  irc: {
    ...common,
    route: '/irc',
    title: 'Post an IRC Message',
    description: `Posts a message to an IRC channel or to a person. ${ANSWERS}, or because no IRC server is configured.`,
    scopes: { if: 'isChannel', then: 'notify:irc-channel:<channel>', else: 'notify:irc-user:<user>' },
    input: ircRequest,
  },
  webhook: {
    ...common,
    route: '/webhook',
    title: 'Call a Webhook',
    description: `Sends a JSON document to one of the destinations that the operator has configured, signed with the secret of that destination. ${ANSWERS}. A name that is not configured is refused as \`InputError\`.`,
    scopes: 'notify:webhook:<name>',
    input: webhookRequest,
  },
});
