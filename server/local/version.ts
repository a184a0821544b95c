/** Which release runs, and from which commit when it runs from a clone. */
import fs from 'node:fs/promises';
import path from 'node:path';
import type { Version } from '../platform/operational.ts';

const ROOT = path.join(import.meta.dirname, '..', '..');

// By hand: starting git costs more than all the rest, and there may be none.
const readCommit = async (): Promise<string> => {
  const read = (file: string): Promise<string> => fs.readFile(file, 'utf8').then(text => text.trim());
  try {
    let folder = path.join(ROOT, '.git');
    if ((await fs.stat(folder)).isFile()) {
      folder = path.resolve(ROOT, (await read(folder)).replace('gitdir: ', '')); // a work tree beside its repository
    }
    const head = await read(path.join(folder, 'HEAD'));
    if (!head.startsWith('ref: ')) {
      return head;
    }
    const ref = head.slice('ref: '.length);
    const common = path.resolve(folder, await read(path.join(folder, 'commondir')).catch(() => '.'));
    const loose = await read(path.join(common, ref)).catch(() => undefined);
    const packed =
      loose ??
      (await read(path.join(common, 'packed-refs')))
        .split('\n')
        .find(line => line.endsWith(` ${ref}`))
        ?.split(' ')[0];
    return packed ?? '';
  } catch {
    return '';
  }
};

/** What `__version__` answers. */
export const readVersion = async (): Promise<Version> => {
  const { version } = JSON.parse(await fs.readFile(path.join(ROOT, 'package.json'), 'utf8')) as { version: string };
  return { version, commit: await readCommit(), source: '', build: '' };
};
