/**
 * Array parameters in Postgres' binary format: `pg` sends a Buffer as binary, so that nothing is escaped or parsed. Cast in the statement:
 * `unnest($1::text[], $2::int4[])`. Format (array_recv): dimensions, has-nulls flag, element type, length, lower bound; then per element its
 * length (−1 for null) and bytes.
 */

const TEXT = 25;
const INT4 = 23;
const INT8 = 20;
const TIMESTAMPTZ = 1184;
const BOOL = 16;

const header = (elementType: number, count: number, bytes: number): Buffer => {
  const buffer = Buffer.allocUnsafe(20 + bytes);
  buffer.writeInt32BE(1, 0);
  buffer.writeInt32BE(0, 4);
  buffer.writeInt32BE(elementType, 8);
  buffer.writeInt32BE(count, 12);
  buffer.writeInt32BE(1, 16);
  return buffer;
};

const empty = (elementType: number): Buffer => {
  const buffer = Buffer.alloc(12);
  buffer.writeInt32BE(elementType, 8);
  return buffer;
};

/** `text[]`; null and undefined become SQL nulls. */
export const textArray = (values: readonly (string | null | undefined)[]): Buffer => {
  if (values.length === 0) {
    return empty(TEXT);
  }
  let bytes = 0;
  for (const value of values) {
    bytes += 4 + (value === null || value === undefined ? 0 : Buffer.byteLength(value));
  }
  const buffer = header(TEXT, values.length, bytes);
  let at = 20;
  for (const value of values) {
    if (value === null || value === undefined) {
      buffer.writeInt32BE(-1, at);
      at += 4;
    } else {
      const written = buffer.write(value, at + 4);
      buffer.writeInt32BE(written, at);
      at += 4 + written;
    }
  }
  return buffer;
};

const fixed = <T>(
  elementType: number,
  size: number,
  values: readonly (T | null | undefined)[],
  write: (buffer: Buffer, value: T, at: number) => void,
): Buffer => {
  if (values.length === 0) {
    return empty(elementType);
  }
  let bytes = 0;
  for (const value of values) {
    bytes += value === null || value === undefined ? 4 : 4 + size;
  }
  const buffer = header(elementType, values.length, bytes);
  let at = 20;
  for (const value of values) {
    if (value === null || value === undefined) {
      buffer.writeInt32BE(-1, at);
      at += 4;
    } else {
      buffer.writeInt32BE(size, at);
      write(buffer, value, at + 4);
      at += 4 + size;
    }
  }
  return buffer;
};

/** `int4[]`. */
export const intArray = (values: readonly (number | null | undefined)[]): Buffer =>
  fixed(INT4, 4, values, (buffer, value, at) => buffer.writeInt32BE(value, at));

/** `int8[]`; integers below 2^53. */
export const bigintArray = (values: readonly (number | null | undefined)[]): Buffer =>
  fixed(INT8, 8, values, (buffer, value, at) => buffer.writeBigInt64BE(BigInt(value), at));

/** `bool[]`. */
export const boolArray = (values: readonly (boolean | null | undefined)[]): Buffer =>
  fixed(BOOL, 1, values, (buffer, value, at) => buffer.writeUInt8(value ? 1 : 0, at));

// Postgres counts microseconds from 2000-01-01
const EPOCH_2000_MS = Date.UTC(2000, 0, 1);

/** `timestamptz[]` from milliseconds since 1970 (the precision of the protocol). */
export const timestampArray = (valuesMs: readonly (number | null | undefined)[]): Buffer =>
  fixed(TIMESTAMPTZ, 8, valuesMs, (buffer, value, at) => buffer.writeBigInt64BE(BigInt(value - EPOCH_2000_MS) * 1000n, at));
