/** Runs every check, also after one failed, prints what failed, and ends with status 1 if any did. */
import { spawn } from 'node:child_process';
import { join } from 'node:path';

const root = join(import.meta.dirname, '..');
const bin = (name: string): string => join(root, 'node_modules', '.bin', name);

const CHECKS = [
  { name: 'types', command: [bin('tsc'), '-p', '.'] },
  { name: 'lint', command: [bin('oxlint'), '--type-aware', '--deny-warnings'] },
  { name: 'format', command: [bin('oxfmt'), '--check', '.'] },
  { name: 'rules', command: [join(root, 'node_modules/vitest/vitest.mjs'), 'run', '--project', 'unit', 'rules/'] },
] as const;

/** The output of one check and whether it passed. */
const runCheck = ([program, ...args]: readonly [string, ...string[]]): Promise<{ ok: boolean; output: string }> =>
  new Promise(resolve => {
    // through this Node: the programs' own first lines would find whatever `node` is on the path
    const child = spawn(process.execPath, [program, ...args], { cwd: root, stdio: ['ignore', 'pipe', 'pipe'] });
    let output = '';
    child.stdout.on('data', (chunk: Buffer) => (output += chunk.toString()));
    child.stderr.on('data', (chunk: Buffer) => (output += chunk.toString()));
    child.on('error', error => resolve({ ok: false, output: error.message }));
    child.on('close', code => resolve({ ok: code === 0, output }));
  });

const failed: string[] = [];
for (const { name, command } of CHECKS) {
  const startedMs = performance.now();
  const { ok, output } = await runCheck(command);
  console.log(`${ok ? 'ok    ' : 'FAILED'} ${name} (${((performance.now() - startedMs) / 1000).toFixed(1)} s)`);
  if (!ok) {
    failed.push(name);
    console.log(output.trimEnd());
  }
}
console.log(failed.length === 0 ? 'All checks passed.' : `Failed: ${failed.join(', ')}.`);
process.exitCode = failed.length === 0 ? 0 : 1;
