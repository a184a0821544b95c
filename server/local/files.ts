/** Files that are whole or not there, and that nobody else may read. */
import fs from 'node:fs/promises';
import path from 'node:path';

/** Writes a file of mode 0600 so that readers see the old or the new content, also after a crash of the machine. */
export const writePrivateFile = async (file: string, content: string): Promise<void> => {
  const unfinished = `${file}.${process.pid}.new`;
  try {
    await fs.rm(unfinished, { force: true });
    const handle = await fs.open(unfinished, 'wx', 0o600);
    try {
      await handle.writeFile(content);
      await handle.sync();
    } finally {
      await handle.close();
    }
    await fs.rename(unfinished, file);
  } catch (error) {
    await fs.rm(unfinished, { force: true }).catch(() => undefined);
    throw error;
  }
  const folder = await fs.open(path.dirname(file), 'r');
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
};
