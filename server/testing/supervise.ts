/** Servers of tests that outlive nobody. */
import { type ChildProcess, spawn } from 'node:child_process';
import net from 'node:net';

// "$@" is a server; our pipe closes when we end, however that is
const WITH_PIPE = `exec 3<&0
"$@" </dev/null >&2 3<&- &
server=$!
echo $server
{ read -r _ <&3; kill -9 $server 2>/dev/null; } >/dev/null 2>&1 &
watch=$!
exec 3<&-
wait $server
kill $watch 2>/dev/null`;

export interface Supervised {
  readonly pid: number;
  readonly exited: Promise<void>;
  isRunning(): boolean;
  /** Closes the pipe: the server is killed if it still runs. */
  release(): void;
}

/**
 * Starts a server that goes with the test's process, however that ends: a shell reads a pipe from us and kills the server when it closes.
 *
 * @param options.log a file descriptor, for what the server prints
 */
export const supervise = async (
  command: readonly string[],
  options: { env: NodeJS.ProcessEnv; cwd: string; log: number },
): Promise<Supervised> => {
  const child: ChildProcess = spawn('sh', ['-c', WITH_PIPE, 'sh', ...command], {
    env: options.env,
    cwd: options.cwd,
    stdio: ['pipe', 'pipe', options.log],
    detached: true,
  });
  const exited = new Promise<void>(resolve => {
    child.once('exit', () => resolve());
  });
  child.stdin?.on('error', () => undefined);
  const pid = await new Promise<number>((resolve, reject) => {
    child.once('error', reject);
    child.stdout?.once('data', (text: Buffer) => resolve(Number.parseInt(text.toString(), 10)));
    void exited.then(() => reject(new Error(`${command[0]} could not be started`)));
  });
  child.stdout?.resume();
  return { pid, exited, isRunning: () => child.exitCode === null && child.signalCode === null, release: () => child.stdin?.end() };
};

/** Ports that nobody used a moment ago. */
export const freePorts = async (count: number): Promise<number[]> => {
  const servers = await Promise.all(
    Array.from({ length: count }, async () => {
      const server = net.createServer();
      await new Promise<void>((resolve, reject) => {
        server.once('error', reject);
        server.listen(0, '127.0.0.1', resolve);
      });
      return server;
    }),
  );
  const ports = servers.map(server => (server.address() as net.AddressInfo).port);
  await Promise.all(servers.map(server => new Promise(resolve => void server.close(resolve))));
  return ports;
};

/** Of a process that may have ended. */
export const signal = (pid: number, name: NodeJS.Signals): void => {
  try {
    process.kill(pid, name);
  } catch {
    // ended by itself
  }
};
