/** Derived files are what `npm run gen` would write. The database's shape is compared in `server/db/describe-schema.db.test.ts`. */
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { expect, test } from 'vitest';
import { describeSettings } from '../scripts/settings-page.ts';
import { allServices } from '../server/services/all.ts';
import { settings } from '../worker/config.ts';

test('docs/operators/settings.md is fresh (else: npm run gen)', () => {
  const page = readFileSync(path.join(import.meta.dirname, '..', 'docs', 'operators', 'settings.md'), 'utf8');
  expect(page).toBe(describeSettings(allServices, settings));
});
