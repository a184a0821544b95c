/** The published JavaScript client, unmodified, pointed at an installation. */
import { Readable, Writable } from 'node:stream';
import taskcluster, { type ClientCredentials, type ServiceClient } from 'taskcluster-client';
import { expect } from 'vitest';
import type { Installation } from './installation.ts';

export interface OfficialClients {
  readonly auth: ServiceClient;
  readonly queue: ServiceClient;
  readonly object: ServiceClient;
}

/** Its clients for the services; without credentials they call as nobody. */
export const officialClients = (
  { rootUrl }: Pick<Installation, 'rootUrl'>,
  credentials?: ClientCredentials,
  authorizedScopes?: readonly string[],
): OfficialClients => {
  const options = { rootUrl, credentials: credentials ?? {}, retries: 0, ...(authorizedScopes && { authorizedScopes }) };
  return { auth: new taskcluster.Auth(options), queue: new taskcluster.Queue(options), object: new taskcluster.Object(options) };
};

/** The client's error: status, code and text of the answer. */
export const refusal = async (call: Promise<unknown>): Promise<{ statusCode: number; code: string; message: string }> => {
  const outcome = await call.then(
    value => ({ value }),
    (error: { statusCode: number; code: string; message: string }) => ({ error }),
  );
  if ('value' in outcome) {
    expect.fail(`The call should have been refused, but answered ${JSON.stringify(outcome.value)}`);
  }
  const { statusCode, code, message } = outcome.error;
  return { statusCode, code, message };
};

export const expectRefusal = async (
  call: Promise<unknown>,
  statusCode: number,
  code: string,
  text: RegExp | string = '',
): Promise<void> => {
  const { message, ...rest } = await refusal(call);
  expect({ ...rest, message }, message).toMatchObject({ statusCode, code });
  expect(message).toMatch(text);
};

/** A sink for the client's downloads, and what arrived in it. */
export const collector = (): { streamFactory: () => Promise<Writable>; text: () => string } => {
  let chunks: Buffer[] = [];
  return {
    streamFactory: async () => {
      chunks = [];
      return new Writable({
        write: (chunk: Buffer, _encoding, done) => {
          chunks.push(chunk);
          done();
        },
      });
    },
    text: () => Buffer.concat(chunks).toString(),
  };
};

/** A source for the client's uploads. */
export const source = (text: string) => async () => Readable.from([Buffer.from(text)]);

/** Text of an artifact, fetched as the client fetches it. */
export const readArtifact = async (queue: ServiceClient, taskId: string, name: string, runId?: number): Promise<string> => {
  const { streamFactory, text } = collector();
  await taskcluster.downloadArtifact({ taskId, name, queue, streamFactory, ...(runId !== undefined && { runId }) });
  return text();
};
