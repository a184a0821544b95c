import fs from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { expect, test } from 'vitest';
import { describeProcessesOn } from '../testing/processes.ts';
import { testDatabase } from '../testing/template.ts';
import { PROCESSES_FILE } from './processes.ts';

test('processes.json is fresh (else: npm run gen)', async () => {
  const folder = await fs.mkdtemp(path.join(os.tmpdir(), 'taskcluster-processes-'));
  try {
    expect(await describeProcessesOn((await testDatabase()).db, folder)).toBe(await fs.readFile(PROCESSES_FILE, 'utf8'));
  } finally {
    await fs.rm(folder, { recursive: true, force: true });
  }
});
