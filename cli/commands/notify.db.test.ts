/** The commands for secrets and notifications, on a server without a socket. */
import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { notifyService } from '@tscluster/server/services/notify/service.ts';
import { queueService } from '@tscluster/server/services/queue/service.ts';
import { secretsService } from '@tscluster/server/services/secrets/service.ts';
import { openMailServer } from '@tscluster/server/testing/mail.ts';
import { type TestServer, withServer } from '@tscluster/server/testing/server.ts';
import { EXIT_ERROR } from '../problem.ts';
import { type TestCli, openCli } from './testing.ts';

const mail = await openMailServer();
let server: TestServer;
let cli: TestCli;
beforeAll(async () => {
  server = await withServer([queueService, secretsService, notifyService], {
    environment: { SMTP_URL: mail.url, EMAIL_SOURCE_ADDRESS: 'tc@example.com' },
  });
  server.setAnonymousScopes(['*']);
  cli = await openCli(server);
});

const taskcluster: TestCli['run'] = (args, input, env) => cli.run(args, input, env);

describe('secret', () => {
  test('is stored from standard input or a file, read, listed and deleted', async () => {
    expect(await taskcluster(['secret', 'set', 'p/a', '--expires', '1 day'], '{"token": "hunter2", "n": [1]}')).toMatchObject({
      out: '',
      err: expect.stringMatching(/^Secret p\/a stored until \d{4}-.*Z\.\n$/),
      status: 0,
    });
    expect(JSON.parse((await taskcluster(['secret', 'get', 'p/a'])).out)).toEqual({ token: 'hunter2', n: [1] });
    expect((await taskcluster(['secret', 'get', 'p/a', 'token'])).out).toBe('hunter2\n');
    expect(JSON.parse((await taskcluster(['secret', 'get', 'p/a', 'n'])).out)).toEqual([1]);
    expect(JSON.parse((await taskcluster(['secret', 'get', 'p/a', '--json'])).out)).toMatchObject({ secret: { token: 'hunter2' } });
    await writeFile(path.join(cli.folder, 'value.json'), '{"from": "file"}');
    await taskcluster(['secret', 'set', 'q/b', '--file', 'value.json']);
    expect((await taskcluster(['secret', 'list'])).out).toBe('p/a\nq/b\n');
    expect((await taskcluster(['secret', 'list', 'q/'])).out).toBe('q/b\n');
    expect(JSON.parse((await taskcluster(['secret', 'list', '--json'])).out)).toEqual(['p/a', 'q/b']);
    expect((await taskcluster(['secret', 'rm', 'q/b'])).err).toBe('There is no secret q/b any more.\n');
    expect(await taskcluster(['secret', 'get', 'q/b'])).toMatchObject({
      out: '',
      err: expect.stringContaining('Secret not found'),
      status: EXIT_ERROR,
    });
  });

  test.each([
    ['no JSON', '{"token": hunter2}', 'is not JSON'],
    ['a list', '["hunter2"]', 'not an object'],
    ['nothing', '', 'is not JSON'],
  ])('that is %s is refused, and not repeated', async (_what, input, problem) => {
    const { err, status } = await taskcluster(['secret', 'set', 'p/x'], input);
    expect(status).toBe(EXIT_ERROR);
    expect(err).toContain(problem);
    expect(err).not.toContain('hunter2');
  });

  test('without a key that is asked for names those it has', async () => {
    expect(await taskcluster(['secret', 'get', 'p/a', 'toString'])).toMatchObject({
      err: expect.stringContaining('has no toString; it has token, n'),
      status: EXIT_ERROR,
    });
  });
});

describe('notify', () => {
  test('email is sent, and its delivery told', async () => {
    const args = ['notify', 'email', 'dev@example.com', 'Hello', '--link', 'https://example.com', '--reply-to', 'me@example.com'];
    expect(await taskcluster(args, 'It *works*.\n')).toMatchObject({
      out: '',
      err: expect.stringMatching(/^Taken for dev@example.com\./),
      status: 0,
    });
    const [message] = await mail.taken();
    expect(message).toMatchObject({ subject: 'Hello', replyTo: [{ address: 'me@example.com' }] });
    expect(message?.text).toContain('It *works*.\n\nOpen: https://example.com\n');
    expect((await taskcluster(['notify', 'deliveries', '--address', 'email:dev@example.com'])).out).toMatch(
      /^\d{4}-\S+Z +sent +email dev@example\.com +Hello/,
    );
    expect(JSON.parse((await taskcluster(['notify', 'deliveries', '--address', 'email:dev@example.com', '--json'])).out)).toMatchObject([
      { state: 'sent', subject: 'Hello' },
    ]);
  });

  test('pulse, slack, matrix and irc are asked for', async () => {
    expect(await taskcluster(['notify', 'pulse', 'a.b', '{"x": 1}'])).toMatchObject({ status: 0 });
    expect(await taskcluster(['notify', 'pulse', 'a.b', '[1]'])).toMatchObject({
      err: expect.stringContaining('not an object'),
      status: EXIT_ERROR,
    });
    for (const args of [
      ['slack', 'C1', 'hi'],
      ['matrix', '!a:b', 'hi'],
      ['irc', '#builds', 'hi'],
      ['irc', 'someone', 'hi'],
    ]) {
      expect(await taskcluster(['notify', ...args])).toMatchObject({ status: 0 });
    }
    const { out } = await taskcluster(['notify', 'deliveries', '--address', 'irc-channel:#builds']);
    expect(out).toMatch(/skipped +irc-channel #builds +hi +The operator has not configured this channel\./);
  });

  test('the denylist is kept', async () => {
    expect((await taskcluster(['notify', 'denylist', 'add', 'email', 'no@example.com'])).err).toBe(
      'email no@example.com gets nothing any more.\n',
    );
    expect((await taskcluster(['notify', 'denylist', 'list'])).out).toMatch(/^email +no@example\.com\n$/);
    expect(await taskcluster(['notify', 'email', 'no@example.com', 's', 'c'])).toMatchObject({
      err: expect.stringContaining('denylist'),
      status: EXIT_ERROR,
    });
    await taskcluster(['notify', 'denylist', 'rm', 'email', 'no@example.com']);
    expect((await taskcluster(['notify', 'denylist', 'list', '--json'])).out).toBe('[]\n');
    expect(await taskcluster(['notify', 'denylist', 'add', 'pigeon', 'x'])).toMatchObject({
      err: expect.stringContaining('must be one of'),
      status: EXIT_ERROR,
    });
  });

  test.each([
    [['deliveries'], 'Say which'],
    [['deliveries', '--address', 'dev@example.com'], 'is not TYPE:ADDRESS'],
    [['deliveries', '--address', 'pigeon:x'], 'is not TYPE:ADDRESS'],
    [['deliveries', '--task', 'x'], 'must be an id'],
    [['email', 'a@example.com', 's', ' '], 'The message is empty'],
  ])('%j says what is wrong', async (args, problem) => {
    expect(await taskcluster(['notify', ...args])).toMatchObject({ err: expect.stringContaining(problem), status: EXIT_ERROR });
  });

  test('a task without messages has no record', async () => {
    expect(await taskcluster(['notify', 'deliveries', '--task', 'fN1SbArXTPSVFNUvaOlinQ'])).toMatchObject({
      out: '',
      err: 'There is no record of a message.\n',
      status: 0,
    });
  });
});
