/** Routing keys of messages, made from the declaration of an exchange, and the patterns by which consumers bind to it. */
import type { Exchange, RoutingKeyField } from './define.ts';

/** The bus takes no more bytes than this. */
export const MAX_ROUTING_KEY_BYTES = 255;

/** Values for the parts of a key, by name. Numbers are written out; parts that are absent or undefined become `_`, where that is allowed. */
export type RoutingKeyValues = Readonly<Record<string, string | number | undefined>>;

function wordFor(exchange: Exchange, field: RoutingKeyField, values: RoutingKeyValues): string {
  const where = `routing key of exchange ${exchange.exchange}`;
  if (field.constant !== undefined) {
    return field.constant;
  }
  const value = values[field.name];
  if (value === undefined || value === '') {
    if (field.required) {
      throw new Error(`${where}: \`${field.name}\` is missing`);
    }
    return '_';
  }
  const word = String(value);
  if (!field.multipleWords && word.includes('.')) {
    throw new Error(`${where}: \`${field.name}\` is a single word and must not have a dot in it: ${word}`);
  }
  return word;
}

/** The routing key of one message. Throws for values that cannot be published: missing, with dots in them, or too long together. */
export function buildRoutingKey(exchange: Exchange, values: RoutingKeyValues): string {
  const key = exchange.routingKey.map(field => wordFor(exchange, field, values)).join('.');
  requireShort(key, exchange.exchange);
  return key;
}

/** Checks the length of a key that was not built from a declaration, such as `route.<route>`. */
export function requireShort(key: string, exchange: string): void {
  const bytes = utf8Bytes(key);
  if (bytes > MAX_ROUTING_KEY_BYTES) {
    throw new Error(`routing key of exchange ${exchange} has ${bytes} bytes and may have ${MAX_ROUTING_KEY_BYTES}: ${key}`);
  }
}

const encoder = new TextEncoder();
const utf8Bytes = (text: string): number => encoder.encode(text).length;

/** What consumers bind with: given parts and constants as they are, `*` for any one word, `#` for any number of words. */
export function routingKeyPattern(exchange: Exchange, values: RoutingKeyValues = {}): string {
  const names = new Set(exchange.routingKey.map(field => field.name));
  for (const name of Object.keys(values)) {
    if (!names.has(name)) {
      throw new Error(`exchange ${exchange.exchange} has no routing key part \`${name}\`; it has ${[...names].join(', ')}`);
    }
  }
  return exchange.routingKey
    .map(field => {
      const value = values[field.name];
      if (value === undefined) {
        return field.constant ?? (field.multipleWords ? '#' : '*');
      }
      const word = String(value);
      if (!field.multipleWords && word.includes('.')) {
        throw new Error(`\`${field.name}\` of exchange ${exchange.exchange} is a single word and must not have a dot in it: ${word}`);
      }
      return word;
    })
    .join('.');
}

/** The same match that a topic exchange makes: `*` is one word, `#` any number of words, none included. */
export function routingKeyMatches(pattern: string, key: string): boolean {
  const [patterns, words] = [pattern.split('.'), key.split('.')];
  // After n parts of the pattern: which numbers of words they can have taken.
  let reachable = new Set([0]);
  for (const part of patterns) {
    const next = new Set<number>();
    for (const at of reachable) {
      if (part === '#') {
        for (let to = at; to <= words.length; to++) {
          next.add(to);
        }
      } else if (at < words.length && (part === '*' || part === words[at])) {
        next.add(at + 1);
      }
    }
    reachable = next;
  }
  return reachable.has(words.length);
}
