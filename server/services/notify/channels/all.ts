/** Every channel, one line each. */
import type { Channel } from './channel.ts';
import { emailChannel } from './email.ts';
import { ircChannel } from './irc.ts';
import { matrixChannel } from './matrix.ts';
import { pulseChannel } from './pulse.ts';
import { slackChannel } from './slack.ts';
import { webhookChannel } from './webhook.ts';

export const channels = [
  emailChannel,
  pulseChannel,
  matrixChannel,
  slackChannel,
  ircChannel,
  webhookChannel,
] as unknown as readonly Channel[];
