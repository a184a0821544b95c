/** Writes the files that are derived from others: server/db/schema.sql, server/serve/processes.json, docs/operators/settings.md and docs/reference/*. Tests compare them. */
import fs from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { apis, exchanges } from '@tscluster/api/all.ts';
import { systemClock } from '@tscluster/client/clock.ts';
import { describeSchema } from '../server/db/describe-schema.ts';
import { migrate } from '../server/db/migrate.ts';
import { openDb } from '../server/db/sql.ts';
import { NOT_DURABLE, startPostgres } from '../server/local/postgres.ts';
import { processSettings } from '../server/serve/settings.ts';
import { allServices } from '../server/services/all.ts';
import { describeProcessesOn } from '../server/testing/processes.ts';
import { settings } from '../worker/config.ts';
import { describeApiPage } from './api-page.ts';
import { describeSettings } from './settings-page.ts';

const ROOT = path.join(import.meta.dirname, '..');

const write = async (file: string, content: string): Promise<void> => {
  const target = path.join(ROOT, file);
  const old = await fs.readFile(target, 'utf8').catch(() => undefined);
  await fs.mkdir(path.dirname(target), { recursive: true });
  await fs.writeFile(target, content);
  console.log(`${old === content ? 'unchanged' : 'written  '} ${file}`);
};

await write('docs/operators/settings.md', describeSettings(processSettings, allServices, settings));

for (const api of apis) {
  await write(
    `docs/reference/${api.service}.md`,
    describeApiPage(
      api,
      exchanges.find(({ service }) => service === api.service),
    ),
  );
}

const folder = await fs.mkdtemp(path.join(os.tmpdir(), 'taskcluster-gen-'));
const postgres = await startPostgres({
  folder: path.join(folder, 'postgres'),
  logPath: path.join(folder, 'postgres.log'),
  runFolder: path.join(folder, 'run'),
  clock: systemClock,
  settings: NOT_DURABLE,
  removeAtEnd: folder,
});
const db = openDb({ connection: postgres.connection });
try {
  await migrate(db);
  await write('server/db/schema.sql', await describeSchema(db));
  await write('server/serve/processes.json', await describeProcessesOn(db, folder));
} finally {
  await db.close();
  await postgres.stop();
}
