// `npm run gen`: writes the files that are derived from others.
import { bootstrap } from './bootstrap.mjs';

await bootstrap({ program: 'scripts/gen.ts', dev: true });
