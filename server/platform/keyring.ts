/**
 * Encrypted columns: AES-256-GCM under a ring of keys. The last key encrypts; every key decrypts, by the id written with the value, so that keys
 * rotate while serving. The column's place is authenticated too (`context`), so that a value moved to another row does not decrypt.
 * Format: `v1:<keyId>:<base64url of 12-byte nonce, ciphertext, 16-byte tag>`.
 */
import crypto from 'node:crypto';
import type { Random } from './clock.ts';

export interface Key {
  readonly id: string;
  /** 32 bytes. */
  readonly key: Uint8Array;
}

export interface Keyring {
  encrypt(text: string, context: string): string;
  /** Throws when the key is unknown or the value was altered. */
  decrypt(stored: string, context: string): string;
  /** Whether the value is not under the newest key. */
  isStale(stored: string): boolean;
  /** How everything begins that is encrypted now. */
  readonly newestPrefix: string;
  /** Takes another ring from now on. Throws as `openKeyring` does, and keeps the one it has. */
  replaceKeys(keys: readonly Key[]): void;
  /** Told after the ring was replaced. */
  onChange(callback: () => void): void;
}

/** With key objects: to see in every call that bytes are a key takes Node 16 µs, twice as long as to decrypt with it. */
interface Ring {
  readonly newest: { readonly id: string; readonly key: crypto.KeyObject };
  readonly byId: ReadonlyMap<string, crypto.KeyObject>;
}

const checkRing = (keys: readonly Key[]): Ring => {
  for (const { id, key } of keys) {
    if (key.length !== 32 || !/^[A-Za-z0-9_-]+$/.test(id)) {
      throw new Error(`Key '${id}' must have 32 bytes and an id of letters, digits, - and _`);
    }
  }
  const opened = keys.map(({ id, key }) => ({ id, key: crypto.createSecretKey(key) }));
  const newest = opened.at(-1);
  if (!newest) {
    throw new Error('The keyring is empty: give at least one key');
  }
  const byId = new Map(opened.map(({ id, key }) => [id, key]));
  if (byId.size !== keys.length) {
    throw new Error('The keyring has two keys with the same id');
  }
  return { newest, byId };
};

/** Throws on an empty ring, a key of the wrong length, or a repeated id. */
export const openKeyring = (keys: readonly Key[], random: Random): Keyring => {
  let ring = checkRing(keys);
  const callbacks: (() => void)[] = [];
  const prefix = (): string => `v1:${ring.newest.id}:`;
  return {
    encrypt: (text, context) => {
      const nonce = random.bytes(12);
      const cipher = crypto.createCipheriv('aes-256-gcm', ring.newest.key, nonce);
      cipher.setAAD(Buffer.from(context));
      const sealed = Buffer.concat([nonce, cipher.update(text, 'utf8'), cipher.final(), cipher.getAuthTag()]);
      return prefix() + sealed.toString('base64url');
    },
    decrypt: (stored, context) => {
      const [version, id, text] = stored.split(':');
      const key = id === undefined ? undefined : ring.byId.get(id);
      if (version !== 'v1' || text === undefined) {
        throw new Error('Not an encrypted value');
      }
      if (!key) {
        throw new Error(`Encrypted under key '${id}', which is not in the keyring`);
      }
      const sealed = Buffer.from(text, 'base64url');
      const decipher = crypto.createDecipheriv('aes-256-gcm', key, sealed.subarray(0, 12));
      decipher.setAAD(Buffer.from(context));
      decipher.setAuthTag(sealed.subarray(-16));
      return decipher.update(sealed.subarray(12, -16), undefined, 'utf8') + decipher.final('utf8');
    },
    isStale: stored => !stored.startsWith(prefix()),
    get newestPrefix() {
      return prefix();
    },
    replaceKeys: next => {
      ring = checkRing(next);
      callbacks.forEach(callback => callback());
    },
    onChange: callback => void callbacks.push(callback),
  };
};
