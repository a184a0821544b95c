/** Every method of the object service. */
import { describe, expect, test } from 'vitest';
import { expectRefusal } from '../../official.ts';
import { newId } from '../../tasks.ts';
import { type Under, call, inAnHour, method } from '../library.ts';

export const objectCalls = (under: Under): void => {
  describe('object', () => {
    test('uploads and downloads', async () => {
      const { object } = under.root;
      const name = 'e2e/methods/file.bin';
      const text = 'x'.repeat(20_000); // too long to be sent with the declaration
      const words = {
        projectId: 'e2e',
        expires: inAnHour().toISOString(),
        contentType: 'application/octet-stream',
        contentLength: text.length,
      };
      const uploadId = newId();
      await under.library.upload(object, { ...words, name, uploadId }, text);
      const small = { projectId: 'e2e', uploadId: newId() };
      const dataInline = { contentType: 'text/plain', objectData: Buffer.from('small').toString('base64') };
      const declared = await call(object, 'createUpload', 'e2e/methods/small', {
        ...small,
        expires: words.expires,
        proposedUploadMethods: { dataInline },
      });
      expect(declared).toMatchObject({ ...small, uploadMethod: { dataInline: true } });
      expect(await call(object, 'finishUpload', 'e2e/methods/small', small)).toEqual({});
      await expectRefusal(
        call(object, 'createUpload', name, { projectId: 'e2e', uploadId: newId(), expires: words.expires, proposedUploadMethods: {} }),
        409,
        'RequestConflict',
      );
      await expectRefusal(call(object, 'finishUpload', 'e2e/none', { projectId: 'e2e', uploadId }), 404, 'ResourceNotFound');
      expect(await call(object, 'object', name)).toMatchObject({
        projectId: 'e2e',
        hashes: { sha256: expect.stringMatching(/^[0-9a-f]{64}$/) },
      });
      await expectRefusal(call(object, 'object', 'e2e/none'), 404, 'ResourceNotFound');
      expect(await under.library.download(object, name)).toBe(text);
      await expectRefusal(call(object, 'startDownload', name, { acceptDownloadMethods: {} }), 406, 'NoMatchingMethod');
      const { url } = await call(object, 'startDownload', name, { acceptDownloadMethods: { simple: true } });
      expect(await (await fetch(url)).text()).toBe(text);
      await call(object, 'download', name);
      expect(await (await fetch(await object.buildSignedUrl(method(object, 'download'), name))).text()).toBe(text);
      await expectRefusal(call(under.nobody.object, 'download', name), 403, 'InsufficientScopes', `object:download:${name}`);
    });
  });
};
