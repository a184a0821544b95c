/** Events as messages, and back: as the original sends them, with the event's id as `messageId`. */
import type { ConsumeMessage, Options } from 'amqplib';
import type { Random } from '../../clock.ts';
import { uuid } from '../../clock.ts';
import type { BusEvent } from '../../events.ts';

/** What RabbitMQ 4 accepts unless told otherwise. */
const MAX_MESSAGE_BYTES = 16 * 1024 * 1024;
const OWN_EXCHANGES = 'exchange/taskcluster-';

export interface OutgoingMessage {
  readonly content: Buffer;
  readonly options: Options.Publish;
}

/** Throws for an event that no broker takes. */
export const toMessage = (event: BusEvent): OutgoingMessage => {
  const content = Buffer.from(JSON.stringify(event.payload));
  if (content.length > MAX_MESSAGE_BYTES) {
    throw new RangeError(`The message has ${content.length} bytes; the broker takes ${MAX_MESSAGE_BYTES}`);
  }
  return {
    content,
    options: {
      persistent: true,
      contentType: 'application/json',
      contentEncoding: 'utf-8',
      messageId: event.id,
      CC: [...event.cc],
    },
  };
};

/**
 * A message as an event. Its id tells repeats: our own messages carry it; those of others count by exchange, so that nobody can take one of our ids;
 * without an id each delivery is an event of its own. Throws when the content is not JSON.
 */
export const toEvent = ({ content, fields, properties }: ConsumeMessage, random: Random): BusEvent => {
  const { exchange, routingKey } = fields;
  const messageId: unknown = properties.messageId;
  const cc: unknown = properties.headers?.['CC'];
  const ownId = typeof messageId === 'string' && messageId !== '' ? messageId : uuid(random);
  return {
    id: exchange.startsWith(OWN_EXCHANGES) ? ownId : `${exchange}#${ownId}`,
    exchange,
    routingKey,
    cc: Array.isArray(cc) ? cc.filter(key => typeof key === 'string') : [],
    payload: JSON.parse(content.toString()) as unknown,
  };
};
