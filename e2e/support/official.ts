/** The published JavaScript client, unmodified, pointed at an installation. It comes without types; what the tests rely on of it is named here. */
import { Readable, Writable } from 'node:stream';
import untyped from 'taskcluster-client';
import { expect } from 'vitest';
import type { Installation } from './installation.ts';

export interface ClientCredentials {
  readonly clientId: string;
  readonly accessToken: string;
  /** JSON text. */
  readonly certificate?: string;
}

export interface ServiceMethod {
  // its answers are whatever the server says, which is what is tested
  (...args: unknown[]): Promise<any>;
  readonly entryReference: {
    readonly type: 'function' | 'topic-exchange';
    readonly name: string;
    readonly method: string;
    readonly args: readonly string[];
    /** Its schema. */
    readonly input?: string;
  };
}

export type ServiceClient = { readonly [name: string]: ServiceMethod } & {
  buildUrl(method: ServiceMethod, ...args: unknown[]): string | Promise<string>;
  buildSignedUrl(method: ServiceMethod, ...args: unknown[]): string | Promise<string>;
};

type ServiceClass = new (options: {
  readonly rootUrl: string;
  readonly credentials: ClientCredentials | Record<string, never>;
  readonly authorizedScopes?: readonly string[];
  readonly retries: number;
}) => ServiceClient;

interface Transfer {
  readonly streamFactory: () => Promise<unknown>;
}

export const taskcluster = untyped as unknown as {
  readonly Auth: ServiceClass;
  readonly Queue: ServiceClass;
  readonly Index: ServiceClass;
  readonly Hooks: ServiceClass;
  readonly PurgeCache: ServiceClass;
  readonly Secrets: ServiceClass;
  readonly Notify: ServiceClass;
  readonly Object: ServiceClass;
  createTemporaryCredentials(options: {
    readonly clientId?: string;
    readonly start?: Date;
    readonly expiry: Date;
    readonly scopes: readonly string[];
    readonly credentials: ClientCredentials;
  }): Required<ClientCredentials>;
  credentialInformation(rootUrl: string, credentials: ClientCredentials): Promise<{ clientId: string; type: string; active: boolean }>;
  upload(
    options: Transfer & {
      readonly projectId: string;
      readonly name: string;
      readonly contentType: string;
      readonly contentLength: number;
      readonly expires: Date | string;
      readonly object: ServiceClient;
      readonly uploadId?: string;
    },
  ): Promise<void>;
  download(options: Transfer & { readonly name: string; readonly object: ServiceClient }): Promise<string>;
  downloadArtifact(
    options: Transfer & { readonly taskId: string; readonly runId?: number; readonly name: string; readonly queue: ServiceClient },
  ): Promise<string>;
};

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
