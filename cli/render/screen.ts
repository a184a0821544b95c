/** A block of lines at the bottom of the terminal that is drawn again in place; other lines go above it and stay. */
import type { Output } from '../context.ts';

export interface Screen {
  /** Lines that stay, and the block below them. */
  draw(block: readonly string[], above?: readonly string[]): Promise<void>;
  /** Leaves the block as it is; what is written from now on comes below it. */
  leave(): void;
}

export const screenOn = (output: Output): Screen => {
  let drawn = 0;
  let last = '';
  return {
    draw: async (block, above = []) => {
      const text = [...above, ...block].map(line => `${line}\n`).join('');
      if (above.length === 0 && text === last && drawn > 0) {
        return;
      }
      last = text;
      // one write: a terminal that shows half a block flickers
      const up = drawn > 0 ? `\x1b[${drawn}A\r\x1b[J` : '';
      drawn = block.length;
      await output.write(up + text);
    },
    leave: () => {
      drawn = 0;
    },
  };
};
