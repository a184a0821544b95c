// `npm run bench`: measures what has a budget and writes bench/results.md.
import { bootstrap } from './bootstrap.mjs';

await bootstrap({ program: 'bench/main.ts', dev: true });
