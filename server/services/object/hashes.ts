/** Hashes of an object: algorithm to value. Until the upload is finished algorithms may be added; a value never changes. */
import { conflict } from '../../platform/errors.ts';

export type Hashes = Readonly<Record<string, string>>;

/** Values of unknown algorithms may be anything; they are kept as text, objects and lists as JSON. */
export const readHashes = (given: Readonly<Record<string, unknown>> | undefined): Hashes =>
  Object.fromEntries(
    Object.entries(given ?? {})
      .filter(([, value]) => value !== undefined)
      .map(([algorithm, value]) => [algorithm, typeof value === 'string' ? value : JSON.stringify(value)]),
  );

/** What is stored together with what is given; 409 when they differ. */
export const addHashes = (stored: Hashes, given: Hashes): Hashes => {
  for (const [algorithm, value] of Object.entries(given)) {
    if (Object.hasOwn(stored, algorithm) && stored[algorithm] !== value) {
      conflict('The {{algorithm}} hash of this object was given as {{stored}} before; it cannot become {{value}}.', {
        algorithm,
        stored: stored[algorithm],
        value,
      });
    }
  }
  return { ...stored, ...given };
};

/** Whether every given hash is stored with the same value. */
export const hasHashes = (stored: Hashes, given: Hashes): boolean =>
  Object.entries(given).every(([algorithm, value]) => Object.hasOwn(stored, algorithm) && stored[algorithm] === value);
