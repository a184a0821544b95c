import { expect, test } from 'vitest';
import { connectionFromEnvironment } from './credentials.ts';

test('a connection comes from the environment', () => {
  expect(connectionFromEnvironment({})).toEqual({ rootUrl: undefined, credentials: undefined });
  expect(
    connectionFromEnvironment({
      TASKCLUSTER_ROOT_URL: 'https://tc.example.net',
      TASKCLUSTER_CLIENT_ID: 'me',
      TASKCLUSTER_ACCESS_TOKEN: 'no-secret',
      TASKCLUSTER_CERTIFICATE: '{}',
    }),
  ).toEqual({ rootUrl: 'https://tc.example.net', credentials: { clientId: 'me', accessToken: 'no-secret', certificate: '{}' } });
});

test('inside a task the proxy signs', () => {
  expect(connectionFromEnvironment({ TASKCLUSTER_PROXY_URL: 'http://taskcluster', TASKCLUSTER_CLIENT_ID: 'me' })).toEqual({
    rootUrl: 'http://taskcluster',
    credentials: undefined,
  });
});

test('half a pair of credentials is refused', () => {
  expect(() => connectionFromEnvironment({ TASKCLUSTER_CLIENT_ID: 'me' })).toThrow(
    'TASKCLUSTER_CLIENT_ID is set, but TASKCLUSTER_ACCESS_TOKEN is not. Set both, or neither.',
  );
});
