/**
 * What is asked of a published client library, in whatever language, so that the same calls can be made through each: `calls/` holds these,
 * `suite.ts` makes them.
 */
import { expect } from 'vitest';
import type { MailServer } from '../../../server/testing/mail.ts';
import type { Installation } from '../installation.ts';
import type { ClientCredentials, ServiceClient, ServiceMethod } from '../official.ts';

export const SERVICES = ['auth', 'queue', 'object', 'index', 'purgeCache', 'hooks', 'secrets', 'notify'] as const;
export type Service = (typeof SERVICES)[number];
export type Clients = Readonly<Record<Service, ServiceClient>>;

export interface Upload {
  readonly projectId: string;
  readonly name: string;
  readonly uploadId: string;
  readonly contentType: string;
  readonly contentLength: number;
  readonly expires: string;
}

export interface Library {
  /** Its clients for the services; without credentials they call as nobody. */
  connect(installation: Pick<Installation, 'rootUrl'>, credentials?: ClientCredentials): Clients;
  /** The methods that it publishes, as its own classes have them. */
  methods(client: ServiceClient): readonly ServiceMethod['entryReference'][];
  /** What it has for the content of objects and artifacts. */
  upload(object: ServiceClient, upload: Upload, text: string): Promise<void>;
  download(object: ServiceClient, name: string): Promise<string>;
  downloadArtifact(queue: ServiceClient, taskId: string, name: string): Promise<{ text: string; contentType: string }>;
  close(): Promise<void>;
}

/** What the calls are made on. Filled in before the first test. */
export interface Under {
  readonly installation: Installation;
  readonly library: Library;
  readonly mail: MailServer;
  /** May do everything. */
  readonly root: Clients;
  /** Has no credentials. */
  readonly nobody: Clients;
  /** Says it were root, and does not know the token. */
  readonly impostor: Clients;
  connect(credentials: ClientCredentials): Clients;
}

export const method = (client: ServiceClient, name: string): ServiceMethod => {
  const found = client[name];
  if (!found) {
    expect.fail(`The client has no method ${name}`);
  }
  return found;
};

/** Client libraries are of different age. */
export const has = (client: ServiceClient, name: string): boolean => client[name] !== undefined;

export const call = (client: ServiceClient, name: string, ...args: unknown[]): Promise<any> => method(client, name)(...args);

export const inHours = (hours: number): string => new Date(Date.now() + hours * 3_600_000).toISOString();
export const inAnHour = (): Date => new Date(inHours(1));
