/** IRC: messages to channels and to people, by a client that stays connected once it was needed. */
import type { IrcMessage } from '@tscluster/api/notify/messages.ts';
import { flag, integer, secret, text } from '../../../platform/config.ts';
import { customText } from '../customise.ts';
import { groupLine } from '../subjects.ts';
import { defineChannel, oneLine } from './channel.ts';
import { openIrc } from './irc-connection.ts';

const CHANNEL = /^[#&+!][^ ,:\u0007\r\n\0]{1,199}$/;
const NICK = /^[A-Za-z[\]\\`_^{|}][A-Za-z0-9[\]\\`_^{|}-]{0,63}$/;

type Message = Pick<IrcMessage, 'message'>;

export const ircChannel = defineChannel({
  name: 'irc',
  types: ['irc-user', 'irc-channel'],
  settings: {
    host: text('IRC_SERVER', 'the IRC server; absent: nothing is sent to IRC', { fallback: undefined }),
    port: integer('IRC_PORT', 'its port', { fallback: 6697, min: 1, max: 65_535 }),
    tls: flag('IRC_TLS', 'whether the connection is encrypted', { fallback: true }),
    nick: text('IRC_NICK', 'the nick to use', { fallback: 'taskcluster' }),
    realName: text('IRC_REAL_NAME', 'the name that people see beside it', { fallback: 'Taskcluster notifications' }),
    password: secret(text('IRC_PASSWORD', "the server's password, or of the account when one is given", { fallback: undefined })),
    account: text('IRC_ACCOUNT', 'the account to sign in to (SASL)', { fallback: undefined }),
  },
  checkAddress: (address, type) => {
    if (type === 'irc-channel') {
      return CHANNEL.test(address) ? undefined : `${JSON.stringify(address)} is not an IRC channel such as #builds`;
    }
    return NICK.test(address) ? undefined : `${JSON.stringify(address)} is not an IRC nick`;
  },
  identity: (address, { message }: Message) => [address, message],
  subject: ({ message }) => oneLine(message).slice(0, 200),

  aboutTask: async (context, _address, type) => {
    const { custom, task, status, href } = context;
    const template = custom[type === 'irc-channel' ? 'ircChannelMessage' : 'ircUserMessage'];
    const words = `Task "${task.metadata.name}" complete with status '${status.state}'. Inspect: ${href}`;
    return { message: await customText(context, template, words) };
  },
  aboutGroup: context => ({ message: groupLine(context) }),

  open: ({ clock, log }, { host, ...settings }) => {
    if (host === undefined) {
      return undefined;
    }
    const irc = openIrc({ ...settings, host }, clock, log);
    return {
      send: async ({ address, message }, signal) => {
        await irc.say(address, message.message, signal);
        log.info({ dest: address }, 'irc');
      },
      close: () => irc.close(),
    };
  },
});
