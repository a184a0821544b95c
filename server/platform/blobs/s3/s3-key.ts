/** Which names can be keys of a bucket. */

/** S3's limit, in bytes. */
const MAX_KEY_BYTES = 1_024;

/** Why nothing can be stored under a key; undefined when it can. Every URL parser resolves `.` and `..`, however they are escaped. */
export const refuseS3Key = (key: string): string | undefined => {
  const bytes = Buffer.byteLength(key);
  if (bytes > MAX_KEY_BYTES) {
    return `it has ${bytes} bytes where it is stored, and S3 takes ${MAX_KEY_BYTES}`;
  }
  const segment = key.split('/').find(each => each === '.' || each === '..');
  return segment === undefined ? undefined : `one of its parts is "${segment}", which no URL can carry`;
};
