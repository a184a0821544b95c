import Fastify from 'fastify';
import { expect, test } from 'vitest';
import { makeLocalFetch } from './local-fetch.ts';

test('a call that is never answered ends when its caller has enough', async () => {
  const app = Fastify();
  const { promise: reached, resolve: reach } = Promise.withResolvers<void>();
  app.get('/never', () => {
    reach();
    return new Promise(() => undefined);
  });
  const caller = new AbortController();
  const call = makeLocalFetch(() => app)('http://taskcluster.test/never', { signal: caller.signal });
  await reached;
  caller.abort(new Error('enough'));
  await expect(call).rejects.toThrow('enough');
  await expect(makeLocalFetch(() => app)('http://taskcluster.test/never', { signal: caller.signal })).rejects.toThrow('enough');
});
