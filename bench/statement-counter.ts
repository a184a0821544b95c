/** Loaded into a server before it starts (`--import`): counts statements and round trips to Postgres, on the wire, into a file. */
import fs from 'node:fs';
import pg from 'pg';

const file = process.env['BENCH_STATEMENTS_FILE'];
const counts = { statements: 0, roundTrips: 0 };

const [EXECUTE, QUERY, SYNC] = ['E', 'Q', 'S'].map(letter => letter.charCodeAt(0));

/** Messages are a letter, and a length that counts itself but not the letter. What is written holds whole messages. */
const count = (bytes: Buffer): void => {
  for (let at = 0; at + 5 <= bytes.length; at += 1 + bytes.readInt32BE(at + 1)) {
    const letter = bytes[at];
    counts.statements += letter === EXECUTE || letter === QUERY ? 1 : 0;
    counts.roundTrips += letter === SYNC || letter === QUERY ? 1 : 0;
  }
};

if (file !== undefined) {
  const { prototype } = pg.Connection as unknown as {
    prototype: { connect(...args: unknown[]): void; stream: { write(bytes: Buffer): boolean } };
  };
  const connect = prototype.connect;
  prototype.connect = function (this: typeof prototype, ...args) {
    connect.apply(this, args);
    const { stream } = this;
    const write = stream.write.bind(stream) as (bytes: Buffer, ...more: unknown[]) => boolean;
    let isReady = false; // the first message, which greets, has no letter
    (stream as { write: unknown }).write = (bytes: Buffer, ...more: unknown[]) => {
      if (isReady) {
        count(bytes);
      }
      isReady = true;
      return write(bytes, ...more);
    };
  };
  const save = (): void => fs.writeFileSync(file, JSON.stringify(counts));
  save();
  setInterval(save, 100).unref();
}
