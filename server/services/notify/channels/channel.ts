/**
 * A channel brings messages to addresses: one file per channel, and one line in `all.ts`. A message is plain JSON, because it is stored until it was sent.
 *
 * `open` is called once per process; what it returns is called by any number of deliveries at once. A delivery may be sent twice when a process dies
 * between sending and noting it: where the other side can recognise a repeat, give it `deliveryId`.
 */
import type { NotificationType } from '@tscluster/api/notify/deliveries.ts';
import type { Tx } from '../../../db/sql.ts';
import type { Settings, SettingValues } from '../../../platform/config.ts';
import type { Platform } from '../../../platform/service.ts';
import type { GroupContext, TaskContext } from '../subjects.ts';

/** The other side does not want this message and never will: trying again is useless. Everything else that is thrown is tried again. */
export class Refused extends Error {
  override readonly name = 'Refused';
}

export interface Outgoing<M> {
  readonly deliveryId: string;
  readonly type: NotificationType;
  readonly address: string;
  readonly message: M;
  /** How many more messages the address may get within how many seconds; absent where that is not limited. */
  readonly limit?: { readonly remaining: number; readonly seconds: number } | undefined;
}

export type ChannelPlatform = Pick<Platform, 'clock' | 'random' | 'log' | 'rootUrl'>;

/** How a configured channel sends. */
export type Sender<M> = {
  /** Stops what runs in the background. */
  readonly close?: () => Promise<void>;
} & (
  | { readonly send: (outgoing: Outgoing<M>, signal: AbortSignal) => Promise<SendNote | void> }
  /** For channels whose sending is a row in our own database: exactly once. */
  | { readonly sendIn: (tx: Tx, outgoing: Outgoing<M>) => Promise<void> }
);

/** Something to note beside a message that was sent. */
export interface SendNote {
  readonly note: string;
}

export interface Channel<M = unknown, S extends Settings = Settings> {
  readonly name: string;
  /** The types of its addresses, as they stand in routes and in the denylist. */
  readonly types: readonly NotificationType[];
  readonly settings: S;
  /** What is wrong with an address from a route; undefined when nothing is. */
  readonly checkAddress: (address: string, type: NotificationType) => string | undefined;
  /** The parts of a message by which two are the same. */
  readonly identity: (address: string, message: M) => unknown;
  /** A line by which a person recognises the message. */
  readonly subject: (message: M) => string;
  /** The message about a task whose route asks for one. */
  readonly aboutTask: (context: TaskContext, address: string, type: NotificationType) => M | Promise<M>;
  /** The message about a group of which a task has a route that asks for one. */
  readonly aboutGroup: (context: GroupContext, address: string, type: NotificationType) => M | Promise<M>;
  /** undefined when the channel is not configured. */
  readonly open: (platform: ChannelPlatform, config: SettingValues<S>) => Sender<M> | undefined;
}

export const defineChannel = <M, const S extends Settings>(channel: Channel<M, S>): Channel<M, S> => channel;

/** Text of others on one line: what could end a header or a protocol's line is a space. */
export const oneLine = (text: string): string =>
  text
    // eslint-disable-next-line no-control-regex
    .replace(/[\u0000-\u001f\u007f-\u009f\u2028\u2029]+/g, ' ')
    .trim();

/** Reads an answer as JSON, but not more than a bounded part of it. */
export const readReply = async (response: Response, maxBytes = 65_536): Promise<Record<string, unknown>> => {
  const parts: Uint8Array[] = [];
  let bytes = 0;
  for await (const part of (response.body ?? []) as AsyncIterable<Uint8Array>) {
    bytes += part.length;
    parts.push(part);
    if (bytes > maxBytes) {
      break;
    }
  }
  try {
    const value: unknown = JSON.parse(Buffer.concat(parts).toString('utf8'));
    return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {};
  } catch {
    return {};
  }
};
