import { exercise } from './engine.conformance.ts';
import { fakeEngine } from './fake.ts';

exercise({
  definition: fakeEngine,
  exits: exitCode => ({ fake: { exitCode } }),
  prints: text => ({ fake: { output: `${text}\n` } }),
  writes: (path, content) => ({ fake: { files: { [path]: content } } }),
  runsForEver: { fake: { sleepMs: 86_400_000 } },
});
