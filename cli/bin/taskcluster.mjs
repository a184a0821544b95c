#!/usr/bin/env node
import { join } from 'node:path';
import { bootstrap, root } from '../../scripts/bootstrap.mjs';

await bootstrap({
  program: 'cli/main.ts',
  endWithParent: true,
  env: { NODE_COMPILE_CACHE: join(root, 'node_modules', '.cache', 'compiled') },
});
