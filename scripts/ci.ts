/**
 * Installs the servers and the Python client that tests need, where it may (Debian, root), and requires them; runs `npm run check` and `npm test` and prints
 * the totals of both as the last line: `N passed, N failed`. Each check counts as one. What was skipped is named, what ended without a result counts as
 * failed, and every failure is told once more, in short, right above the totals.
 */
import { spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PYTHON_PACKAGE, installPythonPackage } from './python-package.ts';

const root = join(import.meta.dirname, '..');

interface Report {
  numPassedTests: number;
  numFailedTests: number;
  success: boolean;
  testResults: {
    name: string;
    status: string;
    message?: string;
    assertionResults: { fullName: string; status: string; failureMessages?: string[] }[];
  }[];
}

/** Runs npm with its output shown, and returns that output and the exit status. */
const runNpm = (args: string[]): Promise<{ status: number; output: string }> =>
  new Promise(resolve => {
    const child = spawn('npm', args, { cwd: root, stdio: ['ignore', 'pipe', 'inherit'] });
    let output = '';
    child.stdout.on('data', (chunk: Buffer) => {
      output += chunk.toString();
      process.stdout.write(chunk);
    });
    child.on('error', error => resolve({ status: 1, output: error.message }));
    child.on('close', code => resolve({ status: code ?? 1, output }));
  });

/** Debian packages of the real servers that tests talk to. */
const SERVER_PACKAGES: readonly string[] = ['ngircd', 'rabbitmq-server'];

const apt = (...args: string[]): boolean =>
  spawnSync('apt-get', ['-q', '-y', ...args], {
    stdio: ['ignore', 'inherit', 'inherit'],
    // servers are started by the tests, on ports of their own
    env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive', RUNLEVEL: '1' },
  }).status === 0;
const aptInstall = (packages: readonly string[]): boolean => apt('update') && apt('install', '--no-install-recommends', ...packages);

const missing = SERVER_PACKAGES.filter(name => spawnSync('dpkg', ['-s', name], { stdio: 'ignore' }).status !== 0);
if (missing.length > 0 && !aptInstall(missing)) {
  console.log(`Not installed: ${missing.join(' ')}. The tests that need them will fail.`);
}
const python = installPythonPackage(() => aptInstall(['python3', 'python3-venv']));
if (python === undefined) {
  console.log(`Not installed: ${PYTHON_PACKAGE}. The tests that need it are skipped.`);
} else {
  process.env['TASKCLUSTER_TEST_PYTHON'] = python;
}
process.env['TASKCLUSTER_TEST_REQUIRE'] = '1';

let passed = 0;
let failed = 0;
/** What failed, each with its beginning: where only the end of the output is kept, that is what must be there. */
const failures: string[] = [];
const MAX_MESSAGE = 2_000;
const inShort = (message: string): string =>
  message.length <= MAX_MESSAGE ? message : `${message.slice(0, MAX_MESSAGE)}… (${message.length} characters)`;

const check = await runNpm(['run', '--silent', 'check']);
const checksPassed = check.output.match(/^ok {5}\w+ \(/gm)?.length ?? 0;
const checksFailed = check.output.match(/^FAILED \w+ \(/gm)?.length ?? 0;
passed += checksPassed;
failed += checksFailed + (check.status !== 0 && checksFailed === 0 ? 1 : 0);

const folder = mkdtempSync(join(tmpdir(), 'taskcluster-ci-'));
try {
  const reportPath = join(folder, 'report.json');
  const test = await runNpm(['test', '--silent', '--', '--reporter=default', '--reporter=json', `--outputFile.json=${reportPath}`]);
  let report: Report | undefined;
  try {
    report = JSON.parse(readFileSync(reportPath, 'utf8')) as Report;
  } catch (error) {
    console.log(`npm test left no report: ${(error as Error).message}`);
  }
  if (report) {
    passed += report.numPassedTests;
    let testsFailed = report.numFailedTests;
    for (const file of report.testResults) {
      if (file.status === 'failed' && !file.assertionResults.some(result => result.status === 'failed')) {
        failures.push(`${file.name} failed as a whole: ${file.message ?? ''}`);
        testsFailed += 1;
      }
      for (const result of file.assertionResults) {
        if (result.status === 'failed') {
          failures.push(`${file.name}: ${result.fullName}\n${(result.failureMessages ?? []).join('\n')}`);
        } else if (result.status !== 'passed') {
          console.log(`Not run (${result.status}): ${file.name}: ${result.fullName}`);
        }
      }
    }
    failed += testsFailed + (test.status !== 0 && testsFailed === 0 ? 1 : 0);
  } else {
    failed += 1;
  }
} finally {
  rmSync(folder, { recursive: true, force: true });
}

failures.forEach(failure => console.log(`FAILED ${inShort(failure)}\n`));
console.log(`${passed} passed, ${failed} failed`);
process.exitCode = failed === 0 ? 0 : 1;
