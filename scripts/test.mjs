// `npm test`: all tests (unit, database, end to end). Arguments are vitest's: `npm test -- --project unit api`.
import { bootstrap } from './bootstrap.mjs';

await bootstrap({ program: 'node_modules/vitest/vitest.mjs', args: ['run', ...process.argv.slice(2)], dev: true });
