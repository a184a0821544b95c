/** How a bucket is reached: Amazon's S3, or with an endpoint whatever speaks its protocol. */

/** The largest object that S3 takes in one request. */
export const MAX_PUT_BYTES = 5 * 1024 ** 3;

export interface S3Settings {
  readonly bucket: string;
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  /** undefined: Amazon's S3. */
  readonly endpoint: string | undefined;
  /** undefined: with an endpoint `us-east-1`, else the one that the bucket says. */
  readonly region: string | undefined;
  /** `https://endpoint/bucket/key` instead of `https://bucket.endpoint/key`. */
  readonly forcePathStyle: boolean;
  /** Removes up to 1,000 keys with one request. */
  readonly useBulkDelete: boolean;
  /** Gives the bucket a rule for requests from browsers where it has none. */
  readonly configureCors: boolean;
  /** What is larger is sent through this installation, in parts. */
  readonly maxPutBytes: number;
}

const isText = (value: unknown): value is string => typeof value === 'string' && value.trim() !== '';

const readFlag = (config: Readonly<Record<string, unknown>>, key: string, fallback: boolean): boolean => {
  const value = config[key] ?? fallback;
  if (typeof value !== 'boolean') {
    throw new TypeError(`needs true or false as its ${key}`);
  }
  return value;
};

/** The origin and path of an endpoint; throws an Error that says what is wrong with it. */
export const readEndpoint = (value: string): string => {
  const url = URL.canParse(value) ? new URL(value) : undefined;
  if (!url || !['http:', 'https:'].includes(url.protocol) || url.search !== '' || url.hash !== '' || url.username !== '') {
    throw new Error('needs a URL such as https://s3.example.com as its endpoint');
  }
  return value.replace(/\/+$/, '');
};

/** The keys of a configuration that describe a bucket. */
export const S3_KEYS: readonly string[] = [
  'accessKeyId',
  'secretAccessKey',
  'bucket',
  'region',
  'endpoint',
  's3ForcePathStyle',
  'useBulkDelete',
  'skipCorsConfiguration',
  'maxPutBytes',
];

/** Reads those keys. Throws an Error that says what is missing or wrong, and shows no value. */
export const readS3Settings = (config: Readonly<Record<string, unknown>>): S3Settings => {
  const required = (key: string, what: string): string => {
    const value = config[key];
    if (!isText(value)) {
      throw new Error(`needs ${what}: ${key}`);
    }
    return value;
  };
  const { region, endpoint, maxPutBytes = MAX_PUT_BYTES } = config;
  if (region !== undefined && !isText(region)) {
    throw new Error('needs text as its region, such as us-west-2');
  }
  if (endpoint !== undefined && typeof endpoint !== 'string') {
    throw new Error('needs a URL such as https://s3.example.com as its endpoint');
  }
  if (!Number.isSafeInteger(maxPutBytes) || (maxPutBytes as number) < 1) {
    throw new Error('needs a number of bytes as its maxPutBytes');
  }
  return {
    bucket: required('bucket', 'the name of a bucket'),
    accessKeyId: required('accessKeyId', 'the id of an access key'),
    secretAccessKey: required('secretAccessKey', 'the secret of the access key'),
    endpoint: endpoint === undefined || endpoint === '' ? undefined : readEndpoint(endpoint),
    region,
    forcePathStyle: readFlag(config, 's3ForcePathStyle', false),
    useBulkDelete: readFlag(config, 'useBulkDelete', true),
    configureCors: !readFlag(config, 'skipCorsConfiguration', false),
    maxPutBytes: maxPutBytes as number,
  };
};
