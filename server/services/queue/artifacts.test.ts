import type { CreateArtifactRequest } from '@tscluster/api/queue/artifacts.ts';
import { expect, test } from 'vitest';
import { acceptsArtifacts, type Artifact, artifactView, newArtifact, refuseReplacement } from './artifacts.ts';

const T = 'fN1SbArXTPSVFNUvaOlinQ';
const expires = '2030-01-02T00:00:00.000Z';
const make = (request: object, uploadId = 'U1'): Artifact =>
  newArtifact('public/x', { expires, ...request } as CreateArtifactRequest, {
    blob: () => ({ bucket: 'b', key: `${T}/0/public/x` }),
    uploadId: () => uploadId,
  });

const reference = make({ storageType: 'reference', contentType: 'text/plain', url: 'https://x/1' });
const link = make({ storageType: 'link', artifact: 'public/y' });
const s3 = make({ storageType: 's3', contentType: 'text/plain', contentLength: 5 });
const object = make({ storageType: 'object', contentType: 'text/plain' });
const error = make({ storageType: 'error', reason: 'file-missing-on-worker', message: 'gone' });
const later = { expires: new Date('2030-01-03T00:00:00.000Z') };
const earlier = { expires: new Date('2030-01-01T00:00:00.000Z') };

test.each<[string, Artifact, Artifact, string | undefined]>([
  ['the same reference', reference, reference, undefined],
  ['another url', reference, { ...reference, details: { url: 'https://x/2' } }, undefined],
  ['a later expiry', reference, { ...reference, ...later }, undefined],
  ['an earlier expiry', reference, { ...reference, ...earlier }, 'expires 2030-01-02'],
  ['another content type', reference, { ...reference, contentType: 'text/html' }, 'contentType is `text/plain`'],
  ['a reference that becomes a link', reference, link, undefined],
  ['a reference that becomes an error', reference, { ...error, contentType: 'text/plain' }, 'storageType is `reference`'],
  ['a link that becomes a reference', { ...link, contentType: 'text/plain' }, reference, 'storageType is `link`'],
  ['the same link', { ...link, contentType: 'text/plain' }, link, undefined],
  ['a link to something else', link, { ...link, details: { artifact: 'public/z' } }, 'other content'],
  ['the same s3', s3, { ...s3, contentLength: 7, ...later }, undefined],
  ['s3 after the bucket of new ones has changed', s3, { ...s3, details: { bucket: 'new', key: `${T}/0/public/x` } }, undefined],
  ['s3 that becomes an object', s3, object, 'storageType is `s3`'],
  ['the same error', error, error, undefined],
  ['an error with other words', error, { ...error, details: { reason: 'file-missing-on-worker', message: 'lost' } }, 'other content'],
  ['an object under way', object, make({ storageType: 'object', contentType: 'text/plain' }, 'U2'), undefined],
  ['an object under way, to last longer', object, { ...object, ...later }, undefined],
  ['an object that is finished', { ...object, present: true, details: {} }, object, 'upload is finished'],
])('%s', (_what, old, wanted, problem) => {
  if (problem === undefined) {
    expect(refuseReplacement(old, wanted)).toBeUndefined();
  } else {
    expect(refuseReplacement(old, wanted)).toContain(problem);
  }
});

test('what each storage type keeps', () => {
  expect(s3).toMatchObject({ details: { bucket: 'b', key: `${T}/0/public/x` }, present: true, contentLength: 5 });
  expect(object).toMatchObject({ details: { uploadId: 'U1' }, present: false, contentLength: null });
  expect(link).toMatchObject({ contentType: 'application/binary', details: { artifact: 'public/y' }, present: true });
  expect(error).toMatchObject({ contentType: 'application/binary', present: true });
  expect(artifactView(s3)).toEqual({ storageType: 's3', name: 'public/x', expires, contentType: 'text/plain', contentLength: 5 });
  expect(artifactView(reference)).toEqual({ storageType: 'reference', name: 'public/x', expires, contentType: 'text/plain' });
});

test('runs take artifacts while they run, and 25 minutes after they were given up', () => {
  const at = Date.parse(expires);
  const run = (state: string, agoMs?: number) =>
    acceptsArtifacts(
      {
        runId: 0,
        state,
        reasonCreated: 'scheduled',
        scheduled: expires,
        ...(agoMs === undefined ? {} : { resolved: new Date(at - agoMs).toISOString() }),
      } as never,
      at,
    );
  expect(run('running')).toBe(true);
  expect(run('pending')).toBe(false);
  expect(run('completed', 0)).toBe(false);
  expect(run('failed', 0)).toBe(false);
  expect(run('exception', 25 * 60_000 - 1)).toBe(true);
  expect(run('exception', 25 * 60_000)).toBe(false);
});
