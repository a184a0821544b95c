/** `signin`: tells how to get credentials, what the present ones are worth, or makes a link that signs a browser in. */
import { join } from 'node:path';
import type { Command } from 'commander';
import { authApi } from '@tscluster/api/auth/api.ts';
import { loginApi } from '@tscluster/api/login/api.ts';
import { createSignInLink } from '@tscluster/server/local/sign-in-link.ts';
import { leaf } from '../command.ts';
import { findConnection, findEnvFile } from '../connection.ts';
import { Problem } from '../problem.ts';
import { connect, print, printJson, type Context } from '../context.ts';

/** A path as a shell takes it for one word. */
const quote = (path: string): string => (/^[\w@%+=:,./-]+$/.test(path) ? path : `'${path.replaceAll("'", `'\\''`)}'`);

export const signinCommand = (context: Context): Command =>
  leaf('signin', 'tell how to get credentials into this shell')
    .option('--check', 'show who the present credentials are, and what they may do')
    .option('--link', 'make a link that signs a browser in with these credentials, once, within ten minutes')
    .option('--scope <scope...>', 'with --link: give the browser these scopes only')
    .action(async (options: { check?: boolean; link?: boolean; scope?: string[]; json?: boolean }) => {
      if (options.link) {
        await makeLink(context, options);
        return;
      }
      if (options.check) {
        await check(context, options.json ?? false);
        return;
      }
      const file = findEnvFile(context.cwd);
      const connection = findConnection(context.env, [context.cwd]);
      if (options.json) {
        await printJson(context, {
          rootUrl: connection.rootUrl ?? null,
          clientId: connection.credentials?.clientId ?? null,
          source: connection.source,
          file: file ?? null,
        });
        return;
      }
      const lines: string[] = [];
      if (file) {
        lines.push(
          'A local installation wrote its credentials here. This gives them to any Taskcluster client in this shell',
          '(the taskcluster command in this folder finds them by itself):',
          '',
          `    . ${quote(file)}`,
        );
      } else {
        lines.push(
          'A local installation writes its credentials into .taskcluster/env of the folder in which it runs:',
          '',
          '    . /path/to/.taskcluster/env',
        );
      }
      lines.push('', 'For any other installation, set what you were given there:', '');
      lines.push(
        `    export TASKCLUSTER_ROOT_URL=${connection.source === 'environment' ? connection.rootUrl : 'https://tc.example.org'}`,
        '    export TASKCLUSTER_CLIENT_ID=...',
        '    export TASKCLUSTER_ACCESS_TOKEN=...',
        '    export TASKCLUSTER_CERTIFICATE=...      # for temporary credentials only',
        '',
        '`taskcluster signin --check` then shows who you are and what you may do.',
      );
      await print(context, lines.join('\n'));
    });

const makeLink = async (context: Context, { scope, json }: { scope?: string[]; json?: boolean }): Promise<void> => {
  const installation = connect(context);
  const { credentials } = installation;
  if (!credentials) {
    throw new Problem('There are no credentials to hand to a browser. `taskcluster signin` tells how to get some.');
  }
  if (scope && credentials.certificate !== undefined) {
    throw new Problem('Temporary credentials cannot be narrowed: leave --scope out, or use permanent credentials.');
  }
  const link = await createSignInLink(
    { login: installation.client(loginApi), auth: installation.client(authApi), clock: context.clock, random: context.random },
    credentials,
    scope,
  );
  await (json ? printJson(context, link) : print(context, link.url));
};

const check = async (context: Context, json: boolean): Promise<void> => {
  const installation = connect(context);
  const { scopes } = await installation.client(authApi).currentScopes();
  const { rootUrl, credentials, connection } = installation;
  if (json) {
    await printJson(context, { rootUrl, clientId: credentials?.clientId ?? null, scopes });
    return;
  }
  const from = connection.source === 'file' ? join(connection.file ?? '') : 'the environment';
  await print(
    context,
    [
      `Installation: ${rootUrl}`,
      `Client:       ${credentials ? `${credentials.clientId}${credentials.certificate ? ' (temporary)' : ''}` : 'none: what anybody may do'}`,
      `From:         ${from}`,
      'Scopes:',
      ...scopes.map(scope => `  ${scope}`),
    ].join('\n'),
  );
};
