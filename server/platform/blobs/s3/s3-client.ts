/** The AWS SDK, loaded when a bucket is first used: an installation without S3 spends neither time nor memory on it. */
import { createHash } from 'node:crypto';
import type { S3Client } from '@aws-sdk/client-s3';
import type { S3Settings } from './s3-settings.ts';

const CONNECT_MS = 5_000;
/** Without a byte. */
const SILENCE_MS = 30_000;
const ATTEMPTS = 3;

const load = async () => {
  const [s3, presigner, storage] = await Promise.all([
    import('@aws-sdk/client-s3'),
    import('@aws-sdk/s3-request-presigner'),
    import('@aws-sdk/lib-storage'),
  ]);
  return { s3, getSignedUrl: presigner.getSignedUrl, Upload: storage.Upload };
};

type Sdk = Awaited<ReturnType<typeof load>>;
let loading: Promise<Sdk> | undefined;

/** The SDK; the same each time. */
export const loadSdk = (): Promise<Sdk> => (loading ??= load());

const makeClient = ({ s3 }: Sdk, settings: S3Settings, region: string): S3Client => {
  const { accessKeyId, secretAccessKey, endpoint, forcePathStyle } = settings;
  const client = new s3.S3Client({
    region,
    forcePathStyle,
    credentials: { accessKeyId, secretAccessKey },
    ...(endpoint === undefined ? {} : { endpoint }),
    maxAttempts: ATTEMPTS,
    // newer checksums are not understood everywhere, and cannot be part of a URL for bytes that are not known yet
    requestChecksumCalculation: 'WHEN_REQUIRED',
    responseChecksumValidation: 'WHEN_REQUIRED',
    requestHandler: { connectionTimeout: CONNECT_MS, socketTimeout: SILENCE_MS },
  });
  if (endpoint !== undefined) {
    addMd5(client);
  }
  return client;
};

/** Others than Amazon want the MD5 of a list of keys to delete, as S3 did until 2024. */
const addMd5 = (client: S3Client): void => {
  client.middlewareStack.add(
    (next, context) => async args => {
      const request = args.request as { headers?: Record<string, string>; body?: unknown };
      if (context.commandName === 'DeleteObjectsCommand' && request.headers && typeof request.body === 'string') {
        request.headers['content-md5'] = createHash('md5').update(request.body).digest('base64');
      }
      return next(args);
    },
    { step: 'build', name: 'addMd5', priority: 'low' },
  );
};

/** Where the bucket is, as it says itself. The oldest region has no name there, and Ireland an old one. */
const findRegion = async (sdk: Sdk, settings: S3Settings): Promise<string> => {
  const client = makeClient(sdk, settings, 'us-east-1');
  try {
    const { LocationConstraint: location } = await client.send(new sdk.s3.GetBucketLocationCommand({ Bucket: settings.bucket }));
    return location === undefined || (location as string) === '' ? 'us-east-1' : location === 'EU' ? 'eu-west-1' : location;
  } finally {
    client.destroy();
  }
};

/** A client for a bucket, in its region. */
export const openClient = async (settings: S3Settings): Promise<{ sdk: Sdk; client: S3Client }> => {
  const sdk = await loadSdk();
  const region = settings.region ?? (settings.endpoint === undefined ? await findRegion(sdk, settings) : 'us-east-1');
  return { sdk, client: makeClient(sdk, settings, region) };
};
