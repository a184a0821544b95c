/** What tests see of processes that are not their children: whether they live, and which belong to a folder. */
import fs from 'node:fs/promises';
import path from 'node:path';

const isLinux = process.platform === 'linux';

/** Whether a process runs; one that is dead and only waits for its parent to notice does not. */
export const isRunning = async (pid: number): Promise<boolean> => {
  try {
    process.kill(pid, 0);
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
  if (!isLinux) {
    return true;
  }
  const stat = await fs.readFile(`/proc/${pid}/stat`, 'utf8').catch(() => '');
  // the name in brackets may contain anything; the state follows it
  return /^[^ZX]/.test(stat.slice(stat.lastIndexOf(')') + 2));
};

/** Asks again and again, because nobody tells, until the answer is something; throws after `timeoutMs`. */
export const waitFor = async <T>(what: string, timeoutMs: number, ask: () => Promise<T | undefined | false>): Promise<T> => {
  const untilMs = Date.now() + timeoutMs;
  for (;;) {
    const answer = await ask();
    if (answer !== undefined && answer !== false) {
      return answer;
    }
    if (Date.now() > untilMs) {
      throw new Error(`Waited ${timeoutMs} ms in vain: ${what}`);
    }
    await new Promise(resolve => setTimeout(resolve, 20));
  }
};

/** The same for what needs no name. */
export const until = async (ask: () => boolean | Promise<boolean>): Promise<void> => {
  await waitFor('what the test waits for', 280_000, async () => ask());
};

export const waitUntilGone = async (pids: readonly number[], timeoutMs: number): Promise<void> => {
  for (const pid of pids) {
    await waitFor(`the end of process ${pid}`, timeoutMs, async () => !(await isRunning(pid)));
  }
};

export interface FoundProcess {
  readonly pid: number;
  readonly command: string;
}

const readProcess = (pid: string, file: string): Promise<string> =>
  fs
    .readFile(path.join('/proc', pid, file), 'utf8')
    .then(text => text.replaceAll('\0', ' ').trim())
    .catch(() => '');

/** Running processes that have a text in their command line, environment or working folder (Linux; elsewhere none is found). */
export const findProcesses = async (text: string): Promise<FoundProcess[]> => {
  const pids = isLinux ? (await fs.readdir('/proc')).filter(name => /^\d+$/.test(name) && Number(name) !== process.pid) : [];
  const found = await Promise.all(
    pids.map(async pid => {
      const command = await readProcess(pid, 'cmdline');
      const folder = await fs.readlink(path.join('/proc', pid, 'cwd')).catch(() => '');
      const mentions = [command, folder].some(each => each.includes(text)) || (await readProcess(pid, 'environ')).includes(text);
      return mentions && (await isRunning(Number(pid))) ? [{ pid: Number(pid), command }] : [];
    }),
  );
  return found.flat();
};

/** Every process below one, the nearest first (Linux). */
export const listDescendants = async (pid: number): Promise<FoundProcess[]> => {
  const children = new Map<number, number[]>();
  for (const name of await fs.readdir('/proc')) {
    const stat = /^\d+$/.test(name) ? await fs.readFile(`/proc/${name}/stat`, 'utf8').catch(() => '') : '';
    const parent = Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1]);
    if (stat !== '') {
      children.set(parent, [...(children.get(parent) ?? []), Number(name)]);
    }
  }
  const found: FoundProcess[] = [];
  const queue = [...(children.get(pid) ?? [])];
  for (let next = queue.shift(); next !== undefined; next = queue.shift()) {
    found.push({ pid: next, command: await readProcess(String(next), 'cmdline') });
    queue.push(...(children.get(next) ?? []));
  }
  return found;
};

/** Resident memory of a process, in bytes (Linux). */
export const readResidentBytes = async (pid: number): Promise<number> => {
  const [, kilobytes] = /^VmRSS:\s+(\d+) kB$/m.exec(await fs.readFile(`/proc/${pid}/status`, 'utf8')) ?? [];
  return Number(kilobytes) * 1_024;
};

/** Kills with SIGKILL; a process that is gone already is fine. */
export const killNow = (pid: number): void => {
  try {
    process.kill(pid, 'SIGKILL');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') {
      throw error;
    }
  }
};
