import { statfs } from 'node:fs/promises';

const MEBIBYTE = 1024 * 1024;

/** Whether the file system of a folder has so much space for this user. */
export const hasFreeSpace = async (folder: string, megabytes: number): Promise<boolean> => {
  const { bavail, bsize } = await statfs(folder);
  return bavail * bsize >= megabytes * MEBIBYTE;
};
