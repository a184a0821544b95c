/** What the parts of the notify service share. */
import type { NotificationType } from '@tscluster/api/notify/deliveries.ts';
import type { queueApi } from '@tscluster/api/queue/api.ts';
import type { Client } from '@tscluster/client/client.ts';
import type { Sandbox } from '../../platform/sandbox/sandbox.ts';
import type { Platform } from '../../platform/service.ts';
import type { Channel, Sender } from './channels/channel.ts';

/** A channel, and how it sends; the latter is missing where it is not configured. */
export interface OpenChannel {
  readonly channel: Channel;
  readonly sender: Sender<unknown> | undefined;
}

export interface NotifyCtx extends Pick<Platform, 'db' | 'clock' | 'random' | 'log' | 'rootUrl'> {
  readonly queue: Pick<Client<typeof queueApi>, 'task' | 'listTaskGroup'>;
  readonly channels: readonly OpenChannel[];
  readonly channelOf: (type: NotificationType) => OpenChannel;
  /** Runs the templates that tasks bring along. */
  readonly sandbox: Sandbox;
  /** There may be deliveries to take. */
  readonly wake: () => void;
  /** There may be groups to announce. */
  readonly wakeGroups: () => void;
  readonly counted: (outcome: { type: string; state: string }) => void;
  /** Email addresses to which nothing is sent, besides the denylist. */
  readonly blockedEmails: ReadonlySet<string>;
  readonly emailLimit: { readonly count: number; readonly seconds: number };
  readonly duplicateMs: number;
  readonly retryMs: number;
  /** The first word of our routes. */
  readonly routePrefix: string;
  /** Of exceptions that nobody is to hear of. */
  readonly ignoredReasons: ReadonlySet<string>;
  /** For how long a group must be quiet before it counts as ended. */
  readonly settleMs: number;
}
