/** Which mirrors there are, and how much each may hold. */
import { jsonSetting, secret, type SettingValues } from '../../../platform/config.ts';
import { readS3Settings, S3_KEYS, type S3Settings } from '../../../platform/blobs/s3/s3-settings.ts';
import type { regionSettings } from '../../../platform/mirror/regions.ts';

export interface MirrorConfig {
  /** Its region. */
  readonly name: string;
  readonly s3: S3Settings;
  /** Larger originals are never copied. */
  readonly maxObjectBytes: number;
  /** What was not read for longest goes when there is more. */
  readonly maxBytes: number;
  /** Copies that nobody reads for so long go. */
  readonly keepSeconds: number;
  /** So long a copy is believed to be there, and to be the same as the original, without looking. */
  readonly checkSeconds: number;
}

const GIB = 1024 ** 3;
const LIMITS = { maxObjectBytes: 5 * GIB, maxBytes: 1024 * GIB, keepSeconds: 7 * 86_400, checkSeconds: 60 } as const;

const readMirror = (name: string, value: unknown): MirrorConfig => {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new TypeError('needs to be an object');
  }
  const config = value as Readonly<Record<string, unknown>>;
  const unknown = Object.keys(config).filter(key => !S3_KEYS.includes(key) && !Object.hasOwn(LIMITS, key));
  if (unknown.length > 0) {
    throw new Error(`has options that do not exist: ${unknown.join(', ')}`);
  }
  const limit = (key: keyof typeof LIMITS): number => {
    const given = config[key] ?? LIMITS[key];
    if (!Number.isSafeInteger(given) || (given as number) < 1) {
      throw new Error(`needs a whole number from 1 as its ${key}`);
    }
    return given as number;
  };
  return {
    name,
    s3: readS3Settings(config),
    maxObjectBytes: limit('maxObjectBytes'),
    maxBytes: limit('maxBytes'),
    keepSeconds: limit('keepSeconds'),
    checkSeconds: limit('checkSeconds'),
  };
};

/** `{ "<region>": { "bucket": "…", … } }` */
export const readMirrors = (value: unknown): MirrorConfig[] => {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new TypeError('must be an object from region to the settings of its mirror');
  }
  return Object.entries(value).map(([name, mirror]) => {
    try {
      return readMirror(name, mirror);
    } catch (error) {
      throw new Error(`the mirror of "${name}" ${(error as Error).message}`, { cause: error });
    }
  });
};

export const mirrorSettings = {
  mirrors: secret(
    jsonSetting(
      'MIRRORS',
      'buckets with copies of what is read in their region: JSON from region (each of MIRROR_REGIONS) to the settings of its bucket (default: none)',
      { fallback: readMirrors({}) },
      readMirrors,
    ),
  ),
};

/** Every region has a mirror, and every mirror a region. */
export const checkMirrors = ({ mirrors, mirrorRegions }: SettingValues<typeof mirrorSettings & typeof regionSettings>): void => {
  const lonely = mirrorRegions.find(({ name }) => !mirrors.some(mirror => mirror.name === name));
  if (lonely) {
    throw new Error(`MIRROR_REGIONS has the region "${lonely.name}", for which MIRRORS has no bucket.`);
  }
  const unknown = mirrors.find(({ name }) => !mirrorRegions.some(region => region.name === name));
  if (unknown) {
    throw new Error(
      `MIRRORS has a bucket for "${unknown.name}", which is not in MIRROR_REGIONS: give it a list of address ranges there, or an empty one.`,
    );
  }
};
