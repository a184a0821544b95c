/** A program that sits on a terminal, by way of util-linux's `script`. */
import { spawn } from 'node:child_process';
import { waitFor } from './processes.ts';

const READY_MS = 120_000;

export interface Terminal {
  output(): string;
  /** Waits for the first match in the output. */
  waitFor(pattern: RegExp): Promise<RegExpExecArray>;
  /** Presses Ctrl-C. */
  interrupt(): void;
  /** The program's exit status. */
  readonly ended: Promise<number | null>;
  [Symbol.asyncDispose](): Promise<void>;
}

const quote = (word: string): string => `'${word.replaceAll("'", `'\\''`)}'`;

/** Starts a program on a terminal of its own; ends it with the scope. */
export const startOnTerminal = (command: readonly string[], cwd: string): Terminal => {
  const child = spawn('script', ['--quiet', '--flush', '--return', '--command', `exec ${command.map(quote).join(' ')}`, '/dev/null'], {
    cwd,
  });
  let output = '';
  child.stdout.on('data', (chunk: Buffer) => (output += chunk.toString()));
  child.stderr.on('data', (chunk: Buffer) => (output += chunk.toString()));
  child.stdin.on('error', () => undefined); // it has ended
  const ended = new Promise<number | null>(resolve => child.once('close', resolve));
  const interrupt = (): void => void child.stdin.write('\x03');
  return {
    output: () => output,
    waitFor: pattern =>
      waitFor(`${String(pattern)} in the terminal's output`, READY_MS, () => Promise.resolve(pattern.exec(output) ?? undefined)),
    interrupt,
    ended,
    [Symbol.asyncDispose]: async () => {
      if (child.exitCode === null) {
        interrupt();
        await ended;
      }
    },
  };
};
