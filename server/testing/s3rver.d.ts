/** What tests use of the S3 server, which comes without types. */
declare module '@20minutes/s3rver' {
  import type { IncomingMessage, RequestListener } from 'node:http';

  interface Context {
    readonly method: string;
    readonly path: string;
    readonly query: Readonly<Record<string, string | undefined>>;
    readonly headers: Record<string, string | undefined>;
    readonly req: IncomingMessage;
    app: object;
    status: number;
    type: string;
    body: unknown;
  }
  type Middleware = (context: Context, next: () => Promise<void>) => Promise<void>;
  export default class S3rver {
    constructor(options: object);
    readonly middleware: Middleware[];
    configureBuckets(): Promise<unknown>;
    callback(): RequestListener;
  }
}

declare module '@20minutes/s3rver/lib/models/account.js' {
  const account: { readonly DUMMY_ACCOUNT: { createKeyPair(accessKeyId: string, secretAccessKey: string): void } };
  export default account;
}
