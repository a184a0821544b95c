/** Cleans the local folder. */
import { type Loop, loop } from '../loop.ts';
import type { BlobFolder } from './blob-folder.ts';

/** Removes files that nobody needs any more. */
export const blobGarbage: Loop<{ readonly folder: BlobFolder }> = loop({
  name: 'blobs/garbage',
  everyMs: 600_000,
  batch: 100,
  run: ({ folder }, limit) => folder.collect(limit),
});

/** Removes what interrupted uploads left. */
export const blobLeftovers: Loop<{ readonly folder: BlobFolder }> = loop({
  name: 'blobs/leftovers',
  everyMs: 3_600_000,
  batch: 1_000,
  run: ({ folder }, limit) => folder.removeLeftovers(limit),
});
