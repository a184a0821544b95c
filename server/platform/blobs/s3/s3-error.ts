/**
 * What S3 refused, or that it could not be reached, as an error for callers and logs. The SDK's own errors are left behind: they carry key ids and what
 * was signed.
 */
import { ApiError } from '../../errors.ts';

export class S3Error extends ApiError {
  /** S3's code, such as `SlowDown`, or the system's, such as `ECONNREFUSED`. */
  readonly reason: string;
  /** HTTP's; undefined when nothing answered. */
  readonly status: number | undefined;
  constructor(bucket: string, reason: string, status: number | undefined) {
    const isRefusal = status !== undefined && status < 500 && status !== 429;
    super(
      'ServiceUnavailable',
      isRefusal
        ? 'The storage refuses to work on the bucket {{bucket}} ({{reason}}): an operator has to look at its configuration. Nothing was changed.'
        : 'The storage with the bucket {{bucket}} cannot be reached now ({{reason}}). Nothing is lost: try again later.',
      { bucket, reason },
    );
    this.reason = reason;
    this.status = status;
  }
}

interface SdkError {
  readonly name?: string;
  readonly code?: unknown;
  readonly Code?: unknown;
  readonly $metadata?: { readonly httpStatusCode?: number };
}

const WORD = /^[A-Za-z0-9_.-]{1,64}$/;

/** HTTP's status in an error of the SDK. */
export const statusOf = (error: unknown): number | undefined => (error as SdkError).$metadata?.httpStatusCode;

/** A word for what happened. */
export const reasonOf = (error: unknown): string => {
  const { Code, code, name } = error as SdkError;
  return [Code, code, name].find((each): each is string => typeof each === 'string' && WORD.test(each) && each !== 'Error') ?? 'unknown';
};
