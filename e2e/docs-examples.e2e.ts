/**
 * The examples of the documentation, run as they stand: each page in a folder of its own, with the command line at hand and one installation behind it. What
 * they print is compared with what the page says they print. `server/testing/docs.ts` tells how blocks are marked.
 */
import { execFile } from 'node:child_process';
import fs from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type CodeBlock, outputPattern, readCodeBlocks } from '../server/testing/docs.ts';
import { type Installation, startInstallation } from './support/installation.ts';
import { waitFor } from './support/processes.ts';

const ROOT = path.join(import.meta.dirname, '..');
const EVENTUALLY_MS = 120_000;
/** A page that has lost its examples would pass, too. */
const PAGES = ['index', 'secrets', 'notifications', 'events', 'hooks']
  .map(name => `docs/users/${name}.md`)
  .concat('docs/developers/client.md');

let installation: Installation;
let folder: string;

beforeAll(async () => {
  installation = await startInstallation();
  folder = await fs.mkdtemp(path.join(os.tmpdir(), 'tc-docs-'));
  await fs.mkdir(path.join(folder, 'bin'));
  const program = `#!/bin/sh\nexec '${process.execPath}' '${path.join(ROOT, 'cli', 'main.ts')}' "$@"\n`;
  await fs.writeFile(path.join(folder, 'bin', 'taskcluster'), program, { mode: 0o755 });
  await fs.symlink(process.execPath, path.join(folder, 'bin', 'node'));
  await fs.mkdir(path.join(folder, 'node_modules'));
  await fs.symlink(path.join(ROOT, 'node_modules', '@tscluster'), path.join(folder, 'node_modules', '@tscluster'));
});

afterAll(() => fs.rm(folder, { recursive: true, force: true }));

interface Printed {
  readonly output: string;
  readonly status: number;
}

/** Runs a block where variables of those before it are set; answers with all that a terminal would show. */
const runBlock = ({ language, file, text }: CodeBlock, cwd: string): Promise<Printed> => {
  const command = language === 'sh' ? text : `node ${file}`;
  const script = `exec 2>&1; set -ea; [ ! -f .variables ] || . ./.variables\n${command}\nexport -p > .variables`;
  const env = {
    HOME: cwd,
    PATH: `${path.join(folder, 'bin')}:${process.env['PATH']}`,
    NO_COLOR: '1',
    NODE_COMPILE_CACHE: path.join(ROOT, 'node_modules', '.cache', 'compiled'),
    TASKCLUSTER_ROOT_URL: installation.rootUrl,
    TASKCLUSTER_CLIENT_ID: installation.credentials.clientId,
    TASKCLUSTER_ACCESS_TOKEN: installation.credentials.accessToken,
  };
  return new Promise(resolve => {
    execFile('bash', ['-c', script], { cwd, env }, (error, output) => resolve({ output, status: error ? Number(error.code ?? 1) : 0 }));
  });
};

test.each(PAGES)('%s', async page => {
  const cwd = path.join(folder, path.basename(page, '.md'));
  await fs.mkdir(cwd);
  const blocks = readCodeBlocks(page);
  for (const { file, text } of blocks) {
    if (file !== undefined) {
      await fs.writeFile(path.join(cwd, file), text);
    }
  }
  const examples = blocks.filter(({ mark }) => mark === 'run' || mark === 'eventually');
  expect(examples.length).toBeGreaterThan(0);
  for (const block of examples) {
    const next = blocks[blocks.indexOf(block) + 1];
    const stated = next?.mark === 'output' ? next.text : undefined;
    const isRight = ({ output, status }: Printed): boolean => status === 0 && (stated === undefined || outputPattern(stated).test(output));
    let printed = await runBlock(block, cwd);
    if (block.mark === 'eventually') {
      await waitFor(
        `${page}:${block.line}`,
        EVENTUALLY_MS,
        async () => isRight(printed) || void (printed = await runBlock(block, cwd)),
      ).catch(
        () => undefined, // what it printed last tells more
      );
    }
    if (!isRight(printed)) {
      expect.fail(
        `${page}:${block.line} ended with status ${printed.status} and printed\n${printed.output}\nThe page says:\n${stated ?? '(nothing)'}`,
      );
    }
  }
});
