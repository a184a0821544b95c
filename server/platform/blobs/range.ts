/** The one kind of range requests that clients send: `bytes=from-to`, `bytes=from-`, `bytes=-last`. */

export type RangeChoice =
  /** Send everything: no range, one that is not understood, or several (which a server may ignore). */
  | { readonly kind: 'all' }
  /** Both ends included. */
  | { readonly kind: 'part'; readonly start: number; readonly end: number }
  /** Nothing of it is there: status 416. */
  | { readonly kind: 'none' };

/** What a `Range` header asks of `sizeBytes` bytes (RFC 9110 §14). */
export const chooseRange = (header: string | undefined, sizeBytes: number): RangeChoice => {
  const match = /^bytes\s*=\s*(\d*)\s*-\s*(\d*)$/i.exec(header?.trim() ?? '');
  const [first, last] = [match?.[1] ?? '', match?.[2] ?? ''];
  if (!match || (first === '' && last === '')) {
    return { kind: 'all' };
  }
  if (first === '') {
    const count = Math.min(Number(last), sizeBytes);
    return count === 0 ? { kind: 'none' } : { kind: 'part', start: sizeBytes - count, end: sizeBytes - 1 };
  }
  const start = Number(first);
  if (last !== '' && Number(last) < start) {
    return { kind: 'all' };
  }
  if (start >= sizeBytes) {
    return { kind: 'none' };
  }
  return { kind: 'part', start, end: last === '' ? sizeBytes - 1 : Math.min(Number(last), sizeBytes - 1) };
};
