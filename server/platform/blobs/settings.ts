/** Settings of blobs, for those who hand out their URLs and those who serve them. */
import { flag, integer, secret, text, type SettingValues } from '../config.ts';
import { MAX_PUT_BYTES, readS3Settings, type S3Settings } from './s3/s3-settings.ts';

export const blobUrlSettings = {
  objectsOrigin: text(
    'OBJECTS_ORIGIN',
    'where the bytes of objects and artifacts are served, a URL without path; one of their own keeps them apart from the user interface (default: the root URL)',
    { fallback: undefined },
  ),
  signPublicArtifactUrls: flag(
    'SIGN_PUBLIC_ARTIFACT_URLS',
    'URLs of public artifacts end after 30 minutes, like those of private ones, instead of working for everybody who knows them',
    { fallback: false },
  ),
};

const GIB = 1024 ** 3;

export const blobFolderSettings = {
  objectsFolder: text('OBJECTS_FOLDER', 'folder for the bytes of objects and artifacts', { fallback: undefined }),
  maxBytes: integer('OBJECTS_MAX_BYTES', 'the largest object or artifact that is accepted, in bytes', { fallback: 100 * GIB, min: 1 }),
};

/** Where the bytes of artifacts of type s3 are, if not in the local folder. */
export const artifactBucketSettings = {
  publicArtifactBucket: text('PUBLIC_ARTIFACT_BUCKET', 'S3 bucket of artifacts named public/…, instead of the local folder', {
    fallback: undefined,
  }),
  privateArtifactBucket: text('PRIVATE_ARTIFACT_BUCKET', 'S3 bucket of all other artifacts; both are given or neither', {
    fallback: undefined,
  }),
  artifactRegion: text('ARTIFACT_REGION', 'region of both buckets (default: looked up)', { fallback: undefined }),
  awsAccessKeyId: secret(text('AWS_ACCESS_KEY_ID', 'access key for the buckets of artifacts', { fallback: undefined })),
  awsSecretAccessKey: secret(text('AWS_SECRET_ACCESS_KEY', 'secret of that key', { fallback: undefined })),
  awsEndpoint: text('AWS_ENDPOINT', "URL of a server that speaks S3's protocol (default: Amazon's S3)", { fallback: undefined }),
  awsForcePathStyle: flag('AWS_FORCE_PATH_STYLE', 'URLs name the bucket in their path instead of their host', { fallback: false }),
  awsSkipCorsConfiguration: flag('AWS_SKIP_CORS_CONFIGURATION', 'leaves the buckets without a rule for requests from browsers', {
    fallback: false,
  }),
  awsUseBulkDelete: flag('AWS_USE_BULK_DELETE', 'removes up to 1,000 expired artifacts with one request', { fallback: true }),
  awsMaxPutBytes: integer(
    'AWS_MAX_PUT_BYTES',
    'artifacts announced as larger are sent through the object service, in parts; the largest that the bucket takes in one request',
    { fallback: MAX_PUT_BYTES, min: 1 },
  ),
};

/** The buckets of artifacts, `public/…` and others; undefined: the local folder. Throws an Error that says what is missing. */
export const readArtifactBuckets = (
  config: SettingValues<typeof artifactBucketSettings>,
): { readonly public: S3Settings; readonly private: S3Settings } | undefined => {
  const { publicArtifactBucket, privateArtifactBucket } = config;
  if (publicArtifactBucket === undefined && privateArtifactBucket === undefined) {
    return undefined;
  }
  if (publicArtifactBucket === undefined || privateArtifactBucket === undefined) {
    throw new Error('PUBLIC_ARTIFACT_BUCKET and PRIVATE_ARTIFACT_BUCKET belong together: set both, or neither for the local folder.');
  }
  if (publicArtifactBucket === privateArtifactBucket) {
    throw new Error('PUBLIC_ARTIFACT_BUCKET and PRIVATE_ARTIFACT_BUCKET are the same: what is public would not be apart from what is not.');
  }
  if (config.awsAccessKeyId === undefined || config.awsSecretAccessKey === undefined) {
    throw new Error('The buckets of artifacts need an access key: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.');
  }
  const settingsOf = (bucket: string): S3Settings => {
    try {
      return readS3Settings({
        bucket,
        accessKeyId: config.awsAccessKeyId,
        secretAccessKey: config.awsSecretAccessKey,
        region: config.artifactRegion,
        endpoint: config.awsEndpoint,
        s3ForcePathStyle: config.awsForcePathStyle,
        useBulkDelete: config.awsUseBulkDelete,
        skipCorsConfiguration: config.awsSkipCorsConfiguration,
        maxPutBytes: config.awsMaxPutBytes,
      });
    } catch (error) {
      throw new Error(`The bucket ${bucket} of artifacts ${(error as Error).message}`, { cause: error });
    }
  };
  return { public: settingsOf(publicArtifactBucket), private: settingsOf(privateArtifactBucket) };
};
