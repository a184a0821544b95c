/**
 * How the source of a push reaches its tasks, on this machine or another: a git bundle, stored as an object, at a URL whose signature
 * allows exactly this download. It lives as long as any task of the push can.
 *
 * Whoever may read the tasks' definitions sees the URL, and so can read the source. For a public installation and a private source, let
 * the tasks download the object with their own scopes (`object:download:<name>`) instead.
 */
import { open, stat } from 'node:fs/promises';
import { Readable } from 'node:stream';
import { objectApi } from '@tscluster/api/object/api.ts';
import { slugid } from '@tscluster/client/clock.ts';
import { uploadObject } from '@tscluster/client/objects.ts';
import type { Context, Installation } from '../context.ts';
import { Problem } from '../problem.ts';

/** Tasks may have deadlines up to five days after their creation, and decision tasks create theirs a little later. */
const SOURCE_LIFETIME_MS = (5 * 24 + 12) * 3_600_000;

export interface Source {
  readonly objectName: string;
  readonly url: string;
  readonly expires: Date;
}

const dropUnprintable = (text: string): string => text.replace(/[^\x21-\x7e]+/g, '-');

/** The place of a push's source, and the URL that will serve it once it is uploaded. */
export const planSource = async (
  context: Context,
  installation: Installation,
  of: { repository: string; sha: string },
): Promise<Source> => {
  const objectName = `source/${dropUnprintable(of.repository)}/${of.sha}/${slugid(context.random)}.bundle`;
  const expires = new Date(Math.min(context.clock.nowMs() + SOURCE_LIFETIME_MS, certificateExpiryMs(installation)));
  // the signature may do nothing but this download, whatever its maker may do
  const signer = installation.client(objectApi, { authorizedScopes: [`object:download:${objectName}`] });
  const expirySeconds = Math.floor((expires.getTime() - context.clock.nowMs()) / 1000);
  return { objectName, url: await signer.buildSignedUrl('download', { name: objectName }, { expirySeconds }), expires };
};

const certificateExpiryMs = (installation: Installation): number => {
  const { certificate } = installation.credentials ?? {};
  if (certificate === undefined) {
    return Number.POSITIVE_INFINITY;
  }
  try {
    const { expiry } = JSON.parse(certificate) as { expiry?: unknown };
    return typeof expiry === 'number' ? expiry : Number.POSITIVE_INFINITY;
  } catch (error) {
    throw new Problem('TASKCLUSTER_CERTIFICATE is not the JSON text of a certificate.', 'Set it exactly as it was issued.', error);
  }
};

/** Uploads the bundle. @returns its size */
export const uploadSource = async (
  context: Context,
  installation: Installation,
  source: Source,
  bundlePath: string,
  projectId: string,
): Promise<number> => {
  const { size } = await stat(bundlePath);
  await uploadObject({
    object: installation.object,
    name: source.objectName,
    projectId,
    expires: source.expires,
    contentType: 'application/x-git-bundle',
    contentLength: size,
    openSource: async () => Readable.toWeb((await open(bundlePath)).createReadStream()) as ReadableStream<Uint8Array>,
    fetch: context.fetch,
    signal: context.signal,
    clock: context.clock,
    random: context.random,
  });
  return size;
};
