// The public client library comes without types. Its methods are made at run time from references.
declare module 'taskcluster-client' {
  interface PublicCredentials {
    clientId: string;
    accessToken: string;
    certificate?: string | object;
  }
  type PublicMethod = (...args: unknown[]) => Promise<unknown>;
  /** `M`: the names of its methods. */
  type PublicClient<M extends string> = Readonly<Record<M, PublicMethod>> & {
    buildUrl(method: PublicMethod, ...args: unknown[]): string;
    buildSignedUrl(method: PublicMethod, ...args: unknown[]): string;
  };
  type PublicClientClass = new <M extends string>(options: {
    rootUrl: string;
    credentials?: PublicCredentials;
    authorizedScopes?: readonly string[];
    retries?: number;
  }) => PublicClient<M>;
  export type { PublicClient };
  const taskcluster: {
    Auth: PublicClientClass;
    Queue: PublicClientClass;
    Object: PublicClientClass;
    createTemporaryCredentials(options: {
      clientId?: string;
      credentials: PublicCredentials;
      scopes: readonly string[];
      start: Date;
      expiry: Date;
    }): PublicCredentials;
    slugid(): string;
  };
  export default taskcluster;
}
