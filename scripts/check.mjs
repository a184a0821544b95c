// `npm run check`: types, lint, format and the rules about the whole repository.
import { bootstrap } from './bootstrap.mjs';

await bootstrap({ program: 'scripts/check.ts', dev: true });
