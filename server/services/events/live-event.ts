/** An event on its way to listeners: serialised once, whoever gets it. */
import type { LogRow } from '../../platform/event-log.ts';
import { parseEvents } from '../../platform/event-log.ts';
import type { BusEvent } from '../../platform/events.ts';
import { type Position, showPosition } from './position.ts';

export class LiveEvent {
  readonly position: Position;
  readonly event: BusEvent;
  #sse: Buffer | undefined;
  #json: Buffer | undefined;

  constructor(position: Position, event: BusEvent) {
    this.position = position;
    this.event = event;
  }

  #data(): string {
    const { payload, exchange, routingKey, cc, id } = this.event;
    return JSON.stringify({ payload, exchange, routingKey, redelivered: false, cc, id });
  }

  /** As a server-sent event. */
  get sse(): Buffer {
    this.#sse ??= Buffer.from(`id: ${showPosition(this.position)}\nevent: message\ndata: ${this.#data()}\n\n`);
    return this.#sse;
  }

  /** As a message of the WebSocket. */
  get json(): Buffer {
    this.#json ??= Buffer.from(`{"event":"message","id":"${showPosition(this.position)}","data":${this.#data()}}`);
    return this.#json;
  }
}

/** A row of the event log; parsed only when somebody wants to look. */
export class LoggedEvents {
  readonly seq: number;
  readonly #row: LogRow;
  #events: readonly LiveEvent[] | undefined;

  constructor(row: LogRow) {
    this.seq = row.seq;
    this.#row = row;
  }

  /** Whether an event of one of these exchanges may be in it; false only when none is. */
  mentions(exchanges: Iterable<string>): boolean {
    for (const exchange of exchanges) {
      if (this.#row.msg.includes(exchange)) {
        return true;
      }
    }
    return false;
  }

  get events(): readonly LiveEvent[] {
    this.#events ??= parseEvents(this.#row.outboxId, this.#row.msg).map((event, index) => new LiveEvent({ seq: this.seq, index }, event));
    return this.#events;
  }
}
