// The published client comes without types. Its methods follow from its own data, so they are as open as that; what the tests rely on is named.
declare module 'taskcluster-client' {
  export interface ClientCredentials {
    readonly clientId: string;
    readonly accessToken: string;
    readonly certificate?: string;
  }
  export interface ClientOptions {
    readonly rootUrl: string;
    readonly credentials?: ClientCredentials | Record<string, never>;
    readonly authorizedScopes?: readonly string[];
    readonly retries?: number;
  }
  export interface EntryReference {
    readonly type: 'function' | 'topic-exchange';
    readonly name: string;
    readonly method: string;
    readonly args: readonly string[];
    readonly query?: readonly string[];
  }
  export type Call = ((...args: unknown[]) => Promise<any>) & { readonly entryReference: EntryReference };
  export type ServiceClient = { readonly [method: string]: Call } & {
    buildUrl(method: Call, ...args: unknown[]): string;
    buildSignedUrl(method: Call, ...args: unknown[]): string;
  };
  export type ServiceClass = new (options: ClientOptions) => ServiceClient;

  interface Transfer {
    readonly streamFactory: () => Promise<unknown>;
  }
  const taskcluster: {
    readonly Auth: ServiceClass;
    readonly Queue: ServiceClass;
    readonly QueueEvents: ServiceClass;
    readonly Object: ServiceClass;
    createTemporaryCredentials(options: {
      readonly clientId?: string;
      readonly start?: Date;
      readonly expiry: Date;
      readonly scopes: readonly string[];
      readonly credentials: ClientCredentials;
    }): Required<ClientCredentials>;
    credentialInformation(
      rootUrl: string,
      credentials: ClientCredentials,
    ): Promise<{ clientId: string; type: string; active: boolean; expiry: Date; scopes: string[] }>;
    slugid(): string;
    fromNow(offset: string): Date;
    fromNowJSON(offset: string): string;
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
  export default taskcluster;
}
