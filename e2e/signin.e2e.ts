/** Signing in with a one-time link: printed on a terminal and only there, made again by the command line, good for credentials that work. */
import { spawnSync } from 'node:child_process';
import { expect, test } from 'vitest';
import { authApi } from '@tscluster/api/auth/api.ts';
import { createClient } from '@tscluster/client/client.ts';
import { ROOT, makeFolder, startInstallation } from './support/installation.ts';
import { startOnTerminal } from './support/terminal.ts';

const LINK = /http:\/\/localhost:\d+\/login\/link#([A-Za-z0-9_-]{43})/;

/** Does what the page of a link does. */
const signIn = async (rootUrl: string, token: string): Promise<{ status: number; cookie: string }> => {
  const response = await fetch(`${rootUrl}/login/link`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', origin: rootUrl },
    body: JSON.stringify({ token }),
  });
  await response.text();
  return { status: response.status, cookie: (response.headers.get('set-cookie') ?? '').split(';')[0] as string };
};

const requireAllScopes = async (rootUrl: string, cookie: string): Promise<void> => {
  const response = await fetch(`${rootUrl}/login/credentials`, { headers: { cookie, 'x-requested-with': 'test' } });
  const { credentials } = (await response.json()) as { credentials: { clientId: string; accessToken: string; certificate: string } };
  expect(credentials.clientId).toBe('static/taskcluster/root');
  expect((await createClient(authApi, { rootUrl, credentials }).currentScopes()).scopes).toEqual(['*']);
};

test('the command line makes a link; nothing is printed where no terminal is', async () => {
  const installation = await startInstallation();
  const { rootUrl, credentials } = installation;
  expect(installation.output()).not.toContain('/login/link');
  const { stdout, status } = spawnSync('node', ['cli/bin/taskcluster.mjs', 'signin', '--link'], {
    cwd: ROOT,
    encoding: 'utf8',
    env: {
      ...process.env,
      TASKCLUSTER_ROOT_URL: rootUrl,
      TASKCLUSTER_CLIENT_ID: credentials.clientId,
      TASKCLUSTER_ACCESS_TOKEN: credentials.accessToken,
    },
  });
  expect(status).toBe(0);
  const token = LINK.exec(stdout)?.[1] as string;
  const { status: first, cookie } = await signIn(rootUrl, token);
  expect(first).toBe(200);
  expect((await signIn(rootUrl, token)).status).toBe(400);
  await requireAllScopes(rootUrl, cookie);
});

test('on a terminal the start prints a link', async () => {
  await using terminal = startOnTerminal(['node', 'scripts/start.mjs', '--port', '0', '--data-dir', await makeFolder()], ROOT);
  const [, token] = await terminal.waitFor(LINK);
  const rootUrl = /Taskcluster is ready at (\S+)/.exec(terminal.output())?.[1] as string;
  const { status, cookie } = await signIn(rootUrl, token as string);
  expect(status).toBe(200);
  await requireAllScopes(rootUrl, cookie);
  terminal.interrupt();
  expect(await terminal.ended).toBe(0);
  expect(terminal.output()).toContain('Stopped.');
});
