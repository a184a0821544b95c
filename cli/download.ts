/** Downloads an artifact into a file or onto standard output. */
import { createWriteStream } from 'node:fs';
import { Writable } from 'node:stream';
import { objectApi } from '@tscluster/api/object/api.ts';
import { downloadArtifact } from '@tscluster/client/artifacts.ts';
import { connect, note, type Context } from './context.ts';

/** Of the latest run unless one is named; without a file, or with `-`, it is printed. */
export const download = async (
  context: Context,
  of: { taskId: string; runId: string | undefined; name: string; file: string | undefined },
): Promise<void> => {
  const installation = connect(context);
  const toFile = of.file !== undefined && of.file !== '-';
  let written = 0;
  const openSink = (): WritableStream<Uint8Array> => {
    if (toFile) {
      return Writable.toWeb(createWriteStream(of.file ?? '')) as WritableStream<Uint8Array>;
    }
    // what is printed cannot be taken back: another try must not repeat it
    let skip = written;
    return new WritableStream({
      write: async chunk => {
        const fresh = chunk.subarray(Math.min(skip, chunk.byteLength));
        skip -= chunk.byteLength - fresh.byteLength;
        written += fresh.byteLength;
        await context.out.write(fresh);
      },
    });
  };
  const { sizeBytes, contentType } = await downloadArtifact({
    queue: installation.queue,
    objectClient: credentials => installation.client(objectApi, { credentials }),
    ...of,
    openSink,
    fetch: context.fetch,
    signal: context.signal,
    clock: context.clock,
    random: context.random,
  });
  if (toFile) {
    await note(context, `Downloaded ${sizeBytes} bytes of type ${contentType} into ${of.file}.`);
  }
};
