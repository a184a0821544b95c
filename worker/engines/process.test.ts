import { exercise } from './engine.conformance.ts';
import { processEngine } from './process.ts';
import { describe } from 'vitest';

const sh = (script: string, ...args: string[]): Record<string, unknown> => ({ command: [['/bin/sh', '-c', script, 'sh', ...args]] });

describe.each(['auto', 'none'])('isolation: %s', isolation => {
  exercise({
    definition: processEngine,
    config: { isolation },
    exits: exitCode => sh('exit "$1"', String(exitCode)),
    prints: text => sh('echo "$1"', text),
    writes: (path, content) => sh('mkdir -p "$(dirname "$1")"; printf %s "$2" > "$1"', path, content),
    runsForEver: sh('sleep 86399'),
  });
});
