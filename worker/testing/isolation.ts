/** Whether this machine gives tests the namespaces that isolation needs; in a container it may not. */
import { spawnSync } from 'node:child_process';

export const isNamespaced =
  process.platform === 'linux' && spawnSync('unshare', ['-r', '-m', '-p', '-f', '--kill-child', '--mount-proc', 'true']).status === 0;
