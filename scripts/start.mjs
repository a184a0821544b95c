// `npm start`: a whole installation. Options: --port N, --data-dir DIR, --metrics-port N.
import { join } from 'node:path';
import { bootstrap, root } from './bootstrap.mjs';

await bootstrap({
  program: 'server/local/start.ts',
  endWithParent: true,
  env: { NODE_COMPILE_CACHE: join(root, 'node_modules', '.cache', 'compiled') },
});
