/**
 * Secrets and notifications on a running installation. Every method that the published JavaScript client knows is called through it, with success and
 * refused for a documented reason. A group is announced once, whatever is killed; encryption keys are replaced while everything goes on; and nothing that
 * the processes have written holds a secret.
 */
import { execFile } from 'node:child_process';
import fs from 'node:fs/promises';
import path from 'node:path';
import { promisify } from 'node:util';
import { beforeAll, expect, test } from 'vitest';
import { openMailServer } from '../server/testing/mail.ts';
import { type Installation, startInstallation } from './support/installation.ts';
import { expectRefusal, type ServiceClient, type ServiceMethod, taskcluster } from './support/official.ts';
import { waitFor } from './support/processes.ts';
import { aScript, aTask, newId } from './support/tasks.ts';

const ROOT = path.join(import.meta.dirname, '..');
const VALUE = 'hunter2-never-written-down';
const mail = await openMailServer();
let installation: Installation;

const clients = (credentials: { clientId: string; accessToken: string } | Record<string, never>) => {
  const options = { rootUrl: installation.rootUrl, credentials, retries: 0 };
  return { secrets: new taskcluster.Secrets(options), notify: new taskcluster.Notify(options), queue: new taskcluster.Queue(options) };
};
let root: ReturnType<typeof clients>;
let nobody: ReturnType<typeof clients>;
const called = new Set<string>();
const call = (service: 'secrets' | 'notify', client: ServiceClient, name: string, ...args: unknown[]): Promise<any> => {
  called.add(`${service}.${name}`);
  return (client[name] as ServiceMethod)(...args);
};
const inAnHour = (): string => new Date(Date.now() + 3_600_000).toISOString();

beforeAll(async () => {
  installation = await startInstallation({
    env: { SMTP_URL: mail.url, EMAIL_SOURCE_ADDRESS: 'tc@example.com', NOTIFY_GROUP_SETTLE_SECONDS: '1' },
  });
  root = clients(installation.credentials);
  nobody = clients({});
});

test.each(['secrets', 'notify'] as const)('operational methods of %s answer', async service => {
  const client = root[service];
  expect(await call(service, client, 'ping')).toMatchObject({ alive: true });
  expect(await call(service, client, 'lbheartbeat')).toEqual({});
  expect(await call(service, client, 'heartbeat')).toEqual({});
  expect(await call(service, client, 'version')).toHaveProperty('version');
});

test('every method of secrets', async () => {
  const name = 'e2e/a secret/ü';
  const secrets = (client: ServiceClient, method: string, ...args: unknown[]) => call('secrets', client, method, ...args);
  const expires = inAnHour();
  expect(await secrets(root.secrets, 'set', name, { secret: { password: VALUE }, expires })).toEqual({});
  await expectRefusal(secrets(nobody.secrets, 'set', name, { secret: {}, expires }), 403, 'InsufficientScopes', `secrets:set:${name}`);
  await expectRefusal(secrets(root.secrets, 'set', name, { secret: VALUE, expires }), 400, 'InputValidationError', 'data/secret');
  expect(await secrets(root.secrets, 'get', name)).toEqual({ secret: { password: VALUE }, expires });
  await expectRefusal(secrets(nobody.secrets, 'get', name), 403, 'InsufficientScopes', `secrets:get:${name}`);
  await expectRefusal(secrets(root.secrets, 'get', 'e2e/none'), 404, 'ResourceNotFound', 'Secret not found');
  expect((await secrets(nobody.secrets, 'list')).secrets).toContain(name);
  await expectRefusal(secrets(root.secrets, 'list', { limit: 'many' }), 400, 'InvalidRequestArguments', 'limit');
  await expectRefusal(secrets(nobody.secrets, 'remove', name), 403, 'InsufficientScopes', `secrets:set:${name}`);
  expect(await secrets(root.secrets, 'remove', name)).toEqual({});
  await expectRefusal(secrets(root.secrets, 'get', name), 404, 'ResourceNotFound');
});

test('every method of notify', async () => {
  const notify = (client: ServiceClient, method: string, ...args: unknown[]) => call('notify', client, method, ...args);
  const email = { address: 'dev@example.com', subject: 'Hello', content: 'It *works*.' };
  await notify(root.notify, 'email', email);
  await notify(root.notify, 'email', email);
  expect((await mail.taken()).map(({ subject }) => subject)).toEqual(['Hello']);
  await expectRefusal(notify(nobody.notify, 'email', email), 403, 'InsufficientScopes', 'notify:email:dev@example.com');
  await notify(root.notify, 'pulse', { routingKey: 'a.b', message: { x: 1 } });
  await expectRefusal(notify(root.notify, 'pulse', { routingKey: 'a.b' }), 400, 'InputValidationError', 'data');
  await notify(root.notify, 'matrix', { roomId: '!a:b', body: 'not configured' });
  await expectRefusal(notify(nobody.notify, 'matrix', { roomId: '!a:b', body: 'x' }), 403, 'InsufficientScopes', 'notify:matrix-room:!a:b');
  await notify(root.notify, 'slack', { channelId: 'C1', text: 'not configured' });
  await expectRefusal(notify(nobody.notify, 'slack', { channelId: 'C1', text: 'x' }), 403, 'InsufficientScopes', 'notify:slack-channel:C1');
  const denied = { notificationType: 'email', notificationAddress: 'no@example.com' };
  await notify(root.notify, 'addDenylistAddress', denied);
  await expectRefusal(notify(nobody.notify, 'addDenylistAddress', denied), 403, 'InsufficientScopes', 'notify:manage-denylist');
  await expectRefusal(notify(root.notify, 'email', { ...email, address: 'no@example.com' }), 400, 'DenylistedAddress', 'no@example.com');
  expect(await notify(root.notify, 'listDenylist')).toEqual({ addresses: [denied] });
  await expectRefusal(notify(nobody.notify, 'listDenylist'), 403, 'InsufficientScopes', 'notify:manage-denylist');
  await notify(root.notify, 'deleteDenylistAddress', denied);
  await expectRefusal(notify(nobody.notify, 'deleteDenylistAddress', denied), 403, 'InsufficientScopes', 'notify:manage-denylist');
  expect(await notify(root.notify, 'listDenylist')).toEqual({ addresses: [] });
});

test('no method was forgotten', () => {
  const known = (['secrets', 'notify'] as const).flatMap(service =>
    Object.values(Object.getPrototypeOf(root[service]) as Record<string, ServiceMethod>)
      .concat(Object.values(root[service] as Record<string, ServiceMethod>))
      .flatMap(method => (method?.entryReference?.type === 'function' ? [`${service}.${method.entryReference.name}`] : [])),
  );
  expect(known.length).toBeGreaterThan(15);
  expect([...new Set(known)].filter(name => !called.has(name))).toEqual([]);
});

test('a task and its group are announced once each, whatever is killed meanwhile', async () => {
  const taskGroupId = newId();
  const routes = ['notify.email.task@example.com.on-completed', 'notify.group.email.group@example.com.on-resolved'];
  const ids = [taskGroupId, newId(), newId()];
  for (const [i, taskId] of ids.entries()) {
    await root.queue['createTask']?.(taskId, { ...aTask(), taskGroupId, payload: aScript('true'), routes: i === 0 ? routes : [] });
    await installation.kill(i === 1 ? 'postgres' : 'server');
    if (i !== 1) {
      await installation.restart();
    }
    await waitFor('the installation to answer', 60_000, async () => {
      try {
        await root.queue['status']?.(taskId);
        return true;
      } catch {
        return undefined;
      }
    });
  }
  const subjects: string[] = [];
  await waitFor('both messages', 120_000, async () => {
    subjects.push(...(await mail.taken()).map(({ subject = '' }) => subject.replace(/: .*/, '')));
    return subjects.length >= 2 ? true : undefined;
  });
  await installation.restart();
  await new Promise(resolve => setTimeout(resolve, 5_000));
  subjects.push(...(await mail.taken()).map(({ subject = '' }) => subject.replace(/: .*/, '')));
  expect(subjects.toSorted((a, b) => (a < b ? -1 : 1))).toEqual(['Task completed', 'Task group completed']);
});

test('keys are replaced while secrets are read and written', async () => {
  const keys = async (...args: string[]): Promise<any> => {
    const file = path.join(ROOT, 'cli', 'main.ts');
    const { stdout } = await promisify(execFile)(process.execPath, [file, 'keys', ...args, '--data-dir', installation.dataDir, '--json']);
    return JSON.parse(stdout);
  };
  const expires = inAnHour();
  for (let i = 0; i < 20; i++) {
    await call('secrets', root.secrets, 'set', `e2e/key/${i}`, { secret: { value: `${VALUE}-${i}` }, expires });
  }
  const [before] = await keys('status');
  expect(before).toMatchObject({ isNewest: true });
  const { id } = await keys('rotate');
  await waitFor('everything under the new key', 60_000, async () => {
    await call('secrets', root.secrets, 'set', 'e2e/key/0', { secret: { value: `${VALUE}-0` }, expires });
    const uses: { id: string; values: number }[] = await keys('status');
    return uses.every(use => use.id === id || use.values === 0) ? true : undefined;
  });
  expect(await keys('prune')).toEqual({ removed: [before.id] });
  expect(await keys('prune')).toEqual({ removed: [] });
  await installation.restart();
  for (let i = 0; i < 20; i++) {
    expect((await call('secrets', root.secrets, 'get', `e2e/key/${i}`)).secret).toEqual({ value: `${VALUE}-${i}` });
  }
});

test('no secret value is in anything that was written', async () => {
  const metrics = await (await fetch(installation.metricsUrl)).text();
  const files = ['server.log', 'postgres.log', 'worker/worker.log'].map(name => path.join(installation.dataDir, name));
  const texts = await Promise.all(files.map(file => fs.readFile(file, 'utf8').catch(() => '')));
  expect(texts[0]).toContain('audit-event');
  for (const text of [metrics, installation.output(), ...texts]) {
    expect(text.includes(VALUE)).toBe(false);
  }
  const database = await installation.connectDatabase();
  try {
    const tables = await database.query<{ name: string }>(
      `select format('%I.%I', table_schema, table_name) as name from information_schema.tables
       where table_type = 'BASE TABLE' and table_schema not in ('pg_catalog', 'information_schema')`,
    );
    for (const { name } of tables.rows) {
      const { rows } = await database.query<{ found: boolean }>(`select exists (select from ${name} t where t::text like $1) as found`, [
        `%${VALUE}%`,
      ]);
      expect({ name, found: rows[0]?.found }).toEqual({ name, found: false });
    }
  } finally {
    await database.end();
  }
});
