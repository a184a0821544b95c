/**
 * Secrets and notifications on a running installation: a group is announced once, whatever is killed; encryption keys are replaced while everything goes
 * on; and nothing that the processes have written holds a secret.
 */
import { execFile } from 'node:child_process';
import fs from 'node:fs/promises';
import path from 'node:path';
import { promisify } from 'node:util';
import { queueApi } from '@tscluster/api/queue/api.ts';
import { secretsApi } from '@tscluster/api/secrets/api.ts';
import { type Client, createClient } from '@tscluster/client/client.ts';
import { beforeAll, expect, test } from 'vitest';
import { openMailServer } from '../server/testing/mail.ts';
import { type Installation, startInstallation } from './support/installation.ts';
import { waitFor } from './support/processes.ts';
import { aScript, aTask, newId } from './support/tasks.ts';

const ROOT = path.join(import.meta.dirname, '..');
const VALUE = 'hunter2-never-written-down';
const mail = await openMailServer();
let installation: Installation;

let secrets: Client<typeof secretsApi>;
let queue: Client<typeof queueApi>;
const inAnHour = (): string => new Date(Date.now() + 3_600_000).toISOString();

beforeAll(async () => {
  installation = await startInstallation({
    env: { SMTP_URL: mail.url, EMAIL_SOURCE_ADDRESS: 'tc@example.com', NOTIFY_GROUP_SETTLE_SECONDS: '1' },
  });
  const { rootUrl, credentials } = installation;
  secrets = createClient(secretsApi, { rootUrl, credentials });
  queue = createClient(queueApi, { rootUrl, credentials, retries: 0 });
});

test('values are kept, and values in calls that are refused are not told', async () => {
  const name = 'e2e/a secret/ü';
  const expires = inAnHour();
  await secrets.set({ name }, { secret: { password: VALUE }, expires });
  expect(await secrets.get({ name })).toEqual({ secret: { password: VALUE }, expires });
  const wrong = { secret: VALUE as never, expires };
  await expect(secrets.set({ name }, wrong)).rejects.toMatchObject({ statusCode: 400, code: 'InputValidationError' });
  const nobody = createClient(secretsApi, { rootUrl: installation.rootUrl });
  await expect(nobody.set({ name }, { secret: { password: VALUE }, expires })).rejects.toMatchObject({ statusCode: 403 });
  await secrets.remove({ name });
  await expect(secrets.get({ name })).rejects.toMatchObject({ statusCode: 404 });
});

test('a task and its group are announced once each, whatever is killed meanwhile', async () => {
  const taskGroupId = newId();
  const routes = ['notify.email.task@example.com.on-completed', 'notify.group.email.group@example.com.on-resolved'];
  const ids = [taskGroupId, newId(), newId()];
  for (const [i, taskId] of ids.entries()) {
    await queue.createTask({ taskId }, { ...aTask(), taskGroupId, payload: aScript('true'), routes: i === 0 ? routes : [] });
    await installation.kill(i === 1 ? 'postgres' : 'server');
    if (i !== 1) {
      await installation.restart();
    }
    await waitFor('the installation to answer', 60_000, async () => {
      try {
        await queue.status({ taskId });
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
    await secrets.set({ name: `e2e/key/${i}` }, { secret: { value: `${VALUE}-${i}` }, expires });
  }
  const [before] = await keys('status');
  expect(before).toMatchObject({ isNewest: true });
  const { id } = await keys('rotate');
  await waitFor('everything under the new key', 60_000, async () => {
    await secrets.set({ name: 'e2e/key/0' }, { secret: { value: `${VALUE}-0` }, expires });
    const uses: { id: string; values: number }[] = await keys('status');
    return uses.every(use => use.id === id || use.values === 0) ? true : undefined;
  });
  expect(await keys('prune')).toEqual({ removed: [before.id] });
  expect(await keys('prune')).toEqual({ removed: [] });
  await installation.restart();
  for (let i = 0; i < 20; i++) {
    expect((await secrets.get({ name: `e2e/key/${i}` })).secret).toEqual({ value: `${VALUE}-${i}` });
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
