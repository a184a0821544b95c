/** Adds up the results that the test tasks left (vitest's JSON, one file per task) into `report.json` and `report.md`. Arguments: from, to. */
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';

interface Results {
  readonly numTotalTests: number;
  readonly numPassedTests: number;
  readonly numFailedTests: number;
  readonly numPendingTests: number;
  readonly success: boolean;
  readonly startTime: number;
  readonly testResults: readonly { readonly endTime: number }[];
}

const [from = 'results', to = 'report'] = process.argv.slice(2);
const rows = readdirSync(from)
  .filter(name => name.endsWith('.json'))
  .sort()
  .map(name => {
    const results = JSON.parse(readFileSync(join(from, name), 'utf8')) as Results;
    const endMs = Math.max(results.startTime, ...results.testResults.map(file => file.endTime));
    return {
      task: basename(name, '.json'),
      total: results.numTotalTests,
      passed: results.numPassedTests,
      failed: results.numFailedTests,
      skipped: results.numPendingTests,
      seconds: Math.round((endMs - results.startTime) / 100) / 10,
      success: results.success,
    };
  });
const sum = (read: (row: (typeof rows)[number]) => number): number => rows.reduce((total, row) => total + read(row), 0);
const totals = {
  total: sum(row => row.total),
  passed: sum(row => row.passed),
  failed: sum(row => row.failed),
  skipped: sum(row => row.skipped),
};
const success = rows.length > 0 && rows.every(row => row.success);

const markdown = [
  `# ${success ? 'All tests passed' : 'Tests failed'}`,
  '',
  '| task | tests | passed | failed | skipped | seconds |',
  '|---|---:|---:|---:|---:|---:|',
  ...rows.map(row => `| ${row.task} | ${row.total} | ${row.passed} | ${row.failed} | ${row.skipped} | ${row.seconds} |`),
  `| **all** | ${totals.total} | ${totals.passed} | ${totals.failed} | ${totals.skipped} | |`,
  '',
].join('\n');

mkdirSync(to, { recursive: true });
writeFileSync(join(to, 'report.json'), `${JSON.stringify({ success, totals, tasks: rows }, null, 2)}\n`);
writeFileSync(join(to, 'report.md'), markdown);
console.log(markdown);
if (!success) {
  process.exitCode = 1;
}
