import { defineConfig } from 'vitest/config';

// The suffix picks the runner: `x.test.ts` needs nothing, `x.db.test.ts` needs Postgres (a shared one, started once), `x.e2e.ts` starts processes.
// Waits end when something hangs, not when a machine is busy.
const PATIENCE_MS = 120_000;
const expect = { poll: { timeout: PATIENCE_MS / 2 } };

export default defineConfig({
  test: {
    projects: [
      {
        test: {
          name: 'unit',
          include: ['{api,client,server,worker,cli,rules,scripts}/**/*.test.ts'],
          exclude: ['**/*.db.test.ts', '**/node_modules/**', '**/dist/**'],
          expect,
          testTimeout: PATIENCE_MS,
          hookTimeout: PATIENCE_MS,
        },
      },
      {
        test: {
          name: 'db',
          include: ['{server,worker,cli,rules}/**/*.db.test.ts'],
          exclude: ['**/node_modules/**', '**/dist/**'],
          globalSetup: ['server/testing/postgres.ts'],
          expect,
          testTimeout: PATIENCE_MS,
          hookTimeout: 2 * PATIENCE_MS,
          maxWorkers: 2,
        },
      },
      {
        test: {
          name: 'e2e',
          include: ['e2e/**/*.e2e.ts'],
          exclude: ['**/node_modules/**'],
          expect,
          testTimeout: 300_000,
          hookTimeout: 120_000,
          maxWorkers: 1,
          fileParallelism: false,
        },
      },
    ],
  },
});
