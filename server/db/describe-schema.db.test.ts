import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { expect, test } from 'vitest';
import { testDatabase } from '../testing/template.ts';
import { describeSchema } from './describe-schema.ts';

test('schema.sql is what the migrations make (else: npm run gen)', async () => {
  const { db } = await testDatabase();
  expect(await describeSchema(db)).toBe(await readFile(path.join(import.meta.dirname, 'schema.sql'), 'utf8'));
});
