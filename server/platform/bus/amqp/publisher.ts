/**
 * Hands events to the broker and waits until it has them: a publisher confirm for each. Events go over one channel, so that their order holds; after a
 * failure the whole batch is sent again, with the same message ids.
 */
import type { ChannelModel } from 'amqplib';
import type { Clock } from '../../clock.ts';
import type { BusEvent } from '../../events.ts';
import { closeConnection } from './link.ts';
import { toMessage } from './message.ts';
import { declareExchanges } from './topology.ts';

/** Without any confirm for so long the connection is given up. */
const CONFIRM_MS = 30_000;
const REFUSED_TRIES = 4;

/** An event that the broker, or one of its queues, does not take. */
export interface RefusedEvent {
  readonly event: BusEvent;
  readonly reason: string;
}

export interface Publisher {
  /**
   * Resolves when every event is confirmed; answers with those that were refused again and again. Throws when the connection fails, and what
   * `requireTurn` throws, which is called before each event.
   */
  publish(events: readonly BusEvent[], requireTurn: () => void): Promise<RefusedEvent[]>;
}

/** Opens a channel with the exchanges in `known` declared on it. */
export const openPublisher = async (connection: ChannelModel, known: readonly string[], clock: Clock): Promise<Publisher> => {
  const channel = await connection.createConfirmChannel();
  const declared = new Set(known);
  let problem: Error | undefined;
  let blocked: string | undefined;
  channel.on('error', (error: Error) => {
    problem = error;
  });
  connection.on('blocked', (reason: string) => {
    blocked = reason;
  });
  connection.on('unblocked', () => {
    blocked = undefined;
  });
  let isOpen = true;
  const closed = new Promise<void>(resolve => {
    channel.once('close', () => {
      isOpen = false;
      resolve();
    });
  });
  const requireOpen = (): void => {
    if (!isOpen) {
      throw problem ?? new Error('The channel to the message broker has closed');
    }
    if (blocked !== undefined) {
      throw new Error(`The message broker takes no messages at present: ${blocked}`);
    }
  };
  await declareExchanges(channel, known);

  /** Sends one event; answers with it when it cannot be sent. Waits while the socket takes no more. */
  const send = async (event: BusEvent, onConfirm: (refused: boolean) => void): Promise<RefusedEvent | undefined> => {
    let accepted: boolean;
    try {
      const { content, options } = toMessage(event);
      accepted = channel.publish(event.exchange, event.routingKey, content, options, error => onConfirm(Boolean(error)));
    } catch (error) {
      if (error instanceof TypeError || error instanceof RangeError) {
        return { event, reason: error.message }; // cannot be written as a message at all
      }
      throw error;
    }
    if (!accepted) {
      await Promise.race([new Promise<void>(resolve => void channel.once('drain', () => resolve())), closed]);
    }
    return undefined;
  };

  /** Sends events in order and waits for their confirms; answers with the refused ones. */
  const sendAll = async (
    events: readonly BusEvent[],
    requireTurn: () => void,
  ): Promise<{ nacked: BusEvent[]; unsendable: RefusedEvent[] }> => {
    const nacked: BusEvent[] = [];
    const unsendable: RefusedEvent[] = [];
    let waiting = events.length;
    let lastMs = clock.monotonicMs();
    let finish: () => void = () => undefined;
    const finished = new Promise<void>(resolve => {
      finish = resolve;
    });
    const onOne = (): void => {
      waiting -= 1;
      lastMs = clock.monotonicMs();
      if (waiting === 0) {
        finish();
      }
    };
    const over = new AbortController();
    const watch = async (): Promise<void> => {
      while (clock.monotonicMs() - lastMs < CONFIRM_MS) {
        await clock.sleep(CONFIRM_MS / 6, over.signal);
      }
      problem ??= new Error(`The message broker has confirmed nothing for ${CONFIRM_MS / 1000} seconds`);
      await closeConnection(connection, clock);
    };
    watch().catch(() => undefined);
    try {
      for (const event of events) {
        requireOpen();
        requireTurn();
        const refused = await send(event, isRefused => {
          if (isRefused) {
            nacked.push(event);
          }
          onOne();
        });
        if (refused) {
          unsendable.push(refused);
          onOne();
        }
      }
      await Promise.race([finished, closed]);
      requireOpen();
      return { nacked, unsendable };
    } finally {
      over.abort();
    }
  };

  return {
    publish: async (events, requireTurn) => {
      requireOpen();
      const unknown = [...new Set(events.map(({ exchange }) => exchange))].filter(exchange => !declared.has(exchange));
      await declareExchanges(channel, unknown);
      unknown.forEach(exchange => declared.add(exchange));
      const { nacked, unsendable } = await sendAll(events, requireTurn);
      let left = nacked;
      for (let tries = 1; left.length > 0 && tries < REFUSED_TRIES; tries++) {
        await clock.sleep(500 * tries);
        left = (await sendAll(left, requireTurn)).nacked;
      }
      return [...unsendable, ...left.map(event => ({ event, reason: 'a queue of the message broker refuses it' }))];
    },
  };
};
