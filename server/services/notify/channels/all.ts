/** Every channel, one line each. */
import type { Channel } from './channel.ts';
import { emailChannel } from './email.ts';
import { matrixChannel } from './matrix.ts';
import { pulseChannel } from './pulse.ts';
import { slackChannel } from './slack.ts';

export const channels = [emailChannel, pulseChannel, matrixChannel, slackChannel] as unknown as readonly Channel[];
