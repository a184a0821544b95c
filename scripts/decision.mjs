// The decision task of a push: installs what `decision.ts` needs, and continues there.
import { bootstrap } from './bootstrap.mjs';

await bootstrap({ program: 'scripts/decision.ts', args: process.argv.slice(2) });
