/** Derived files are what `npm run gen` would write. The database's shape is compared in `server/db/describe-schema.db.test.ts`. */
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { expect, test } from 'vitest';
import { apis, exchanges } from '@tscluster/api/all.ts';
import { describeApiPage } from '../scripts/api-page.ts';
import { describeSettings } from '../scripts/settings-page.ts';
import { processSettings } from '../server/serve/settings.ts';
import { allServices } from '../server/services/all.ts';
import { settings } from '../worker/config.ts';

test('docs/operators/settings.md is fresh (else: npm run gen)', () => {
  const page = readFileSync(path.join(import.meta.dirname, '..', 'docs', 'operators', 'settings.md'), 'utf8');
  expect(page).toBe(describeSettings(processSettings, allServices, settings));
});

test.each(apis.map(api => [api.service, api] as const))('docs/reference/%s.md is fresh (else: npm run gen)', (service, api) => {
  const page = readFileSync(path.join(import.meta.dirname, '..', 'docs', 'reference', `${service}.md`), 'utf8');
  const own = exchanges.find(each => each.service === service);
  expect(page).toBe(describeApiPage(api, own));
});
