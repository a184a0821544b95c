// What `.ci/run` runs.
import { bootstrap } from './bootstrap.mjs';

await bootstrap({ program: 'scripts/ci.ts', dev: true });
