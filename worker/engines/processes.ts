/** What `/proc` tells about processes: who carries a marker, who descends from whom, who owns a socket. Elsewhere than on Linux: nothing. */
import { readFileSync } from 'node:fs';
import { readFile, readdir, readlink } from 'node:fs/promises';

const quiet = async <T>(promise: Promise<T>): Promise<T | undefined> => {
  try {
    return await promise;
  } catch {
    // the process is gone, or is not ours to look at
    return undefined;
  }
};

const listPids = async (): Promise<number[]> => ((await quiet(readdir('/proc'))) ?? []).filter(name => /^\d+$/.test(name)).map(Number);

/** The processes that were started with `NAME=value` in their environment, this process excepted. */
export const listMarkedProcesses = async (name: string, matches: (value: string) => boolean): Promise<number[]> => {
  const prefix = `${name}=`;
  const environmentOf = (pid: number): string => {
    try {
      // hundreds of tiny files of the kernel: asking for each in another thread takes ten times as long
      return pid === process.pid ? '' : readFileSync(`/proc/${pid}/environ`, 'utf8');
    } catch {
      return '';
    }
  };
  return (await listPids()).filter(pid => {
    const entry = environmentOf(pid)
      .split('\0')
      .find(variable => variable.startsWith(prefix));
    return entry !== undefined && matches(entry.slice(prefix.length));
  });
};

/** The children of a process, of all its threads. */
export const listChildren = async (pid: number): Promise<number[]> => {
  const threads = (await quiet(readdir(`/proc/${pid}/task`))) ?? [];
  const lists = await Promise.all(threads.map(thread => quiet(readFile(`/proc/${pid}/task/${thread}/children`, 'utf8'))));
  if (lists.some(list => list !== undefined)) {
    return lists.flatMap(list => (list ?? '').split(' ').filter(Boolean).map(Number));
  }
  // kernels without the children file
  const parents = await Promise.all((await listPids()).map(async child => [child, await getParent(child)] as const));
  return parents.filter(([, parent]) => parent === pid).map(([child]) => child);
};

/** The process and all that descend from it, orphans below a PID namespace's first process included. */
export const listDescendants = async (root: number): Promise<number[]> => {
  const found: number[] = [];
  let next = [root];
  while (next.length > 0) {
    found.push(...next);
    next = (await Promise.all(next.map(listChildren))).flat().filter(pid => !found.includes(pid));
  }
  return found;
};

const getStatFields = async (pid: number): Promise<string[] | undefined> => {
  const stat = await quiet(readFile(`/proc/${pid}/stat`, 'utf8'));
  // the command in parentheses may contain anything
  return stat?.slice(stat.lastIndexOf(')') + 2).split(' ');
};

const getParent = async (pid: number): Promise<number | undefined> => {
  const parent = (await getStatFields(pid))?.[1];
  return parent === undefined ? undefined : Number(parent);
};

/** When a process started, in clock ticks since boot: with the pid it names a process for good. */
export const getStartTicks = async (pid: number): Promise<string | undefined> => (await getStatFields(pid))?.[19];

/** The inodes of the sockets that are open in a process. */
const listSocketInodes = async (pid: number): Promise<string[]> => {
  const names = (await quiet(readdir(`/proc/${pid}/fd`))) ?? [];
  const targets = await Promise.all(names.map(name => quiet(readlink(`/proc/${pid}/fd/${name}`))));
  return targets.flatMap(target => /^socket:\[(\d+)\]$/.exec(target ?? '')?.[1] ?? []);
};

const hexPort = (port: number): string => port.toString(16).toUpperCase().padStart(4, '0');

/** The inode of the client's end of a local TCP connection, as the kernel lists it. Nothing when that end is closed already. */
const getPeerInode = async (clientPort: number, serverPort: number): Promise<string | undefined> => {
  for (const table of ['/proc/net/tcp', '/proc/net/tcp6']) {
    for (const line of ((await quiet(readFile(table, 'utf8'))) ?? '').split('\n').slice(1)) {
      const fields = line.trim().split(/\s+/);
      if (fields[1]?.endsWith(`:${hexPort(clientPort)}`) && fields[2]?.endsWith(`:${hexPort(serverPort)}`) && fields[9] !== '0') {
        return fields[9];
      }
    }
  }
  return undefined;
};

/** Whether the client's end of a connection to a port of this machine is open in one of the given processes. */
export const ownsConnection = async (
  connection: { readonly clientPort: number; readonly serverPort: number },
  listOwners: () => Promise<readonly number[]>,
): Promise<boolean> => {
  const inode = await getPeerInode(connection.clientPort, connection.serverPort);
  if (inode === undefined) {
    return false;
  }
  for (const pid of await listOwners()) {
    if ((await listSocketInodes(pid)).includes(inode)) {
      return true;
    }
  }
  return false;
};
