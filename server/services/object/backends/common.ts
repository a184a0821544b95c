/** What the protocol asks of every backend. */
import { inputError, tooLarge } from '../../../platform/errors.ts';
import type { DownloadMethod, ProposedUpload } from './backend.ts';

const MINUTE_MS = 60_000;
export const PUT_URL_MS = 45 * MINUTE_MS;
/** Signatures outlive what is announced, so that a request sent in time arrives in time. */
export const PUT_GRACE_MS = 10_000;
export const GET_URL_MS = MINUTE_MS;
const GET_GRACE_MS = MINUTE_MS;
const SIMPLE_URL_MS = 30 * MINUTE_MS;

/** How long a URL of a download works. */
export const lifeOf = (method: DownloadMethod): number => (method === 'simple' ? SIMPLE_URL_MS : GET_URL_MS + GET_GRACE_MS);

/** Refuses what is too large, or announced as such. */
export const checkLength = ({ dataInline, putUrl }: ProposedUpload, maxBytes: number): void => {
  const contentLength = Math.max(dataInline?.bytes.length ?? 0, putUrl?.contentLength ?? 0);
  if (contentLength > maxBytes) {
    tooLarge('The object has {{contentLength}} bytes; objects of up to {{maxBytes}} bytes are accepted here.', { contentLength, maxBytes });
  }
};

/** An upload without data cannot be finished. */
export const noData = (name: string): never =>
  inputError('No data was uploaded for {{name}}: send it first, by one of the methods that createUpload offers.', { name });

/** A key that a configuration does not know is a mistake. */
export const refuseUnknownKeys = (type: string, config: Readonly<Record<string, unknown>>, known: readonly string[]): void => {
  const unknown = Object.keys(config).filter(key => key !== 'backendType' && !known.includes(key));
  if (unknown.length > 0) {
    throw new Error(`has options that the type ${type} does not know: ${unknown.join(', ')}`);
  }
};
