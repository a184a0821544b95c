/** The `taskcluster` program: an installation, and everything one does with one, from the command line. */
import { processContext } from './context.ts';
import { run } from './program.ts';

/** 128 and the number of the signal, as shells report it. */
const SIGNALS = { SIGINT: 130, SIGTERM: 143 } as const;

const abort = new AbortController();
const context = processContext(abort.signal);
for (const [signal, status] of Object.entries(SIGNALS)) {
  // the second one ends the process at once
  process.once(signal, () => {
    process.exitCode = status;
    abort.abort(new Error(`interrupted by ${signal}`));
  });
}
// whoever reads the output has had enough: `taskcluster task log ... | head`
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code === 'EPIPE') {
    process.exit();
  }
  throw error;
});
await run(context, process.argv.slice(2));
