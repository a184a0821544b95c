/** A real IRC server (ngircd) on loopback, in a folder of its own, and a person on it. */
import fs from 'node:fs/promises';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { atEnd } from './at-end.ts';
import { findProgram } from './programs.ts';
import { type Supervised, freePorts, signal, supervise } from './supervise.ts';

export interface IrcServer {
  readonly port: number;
  /** Ends it at once, as a crash would. */
  kill(): Promise<void>;
  /** Starts it again on the same port. */
  start(): Promise<void>;
}

export interface IrcPerson {
  /** Sends a line as it is. */
  send(line: string): void;
  /** Waits for a line that matches. */
  hear(pattern: RegExp): Promise<string>;
  /** All lines so far. */
  readonly lines: readonly string[];
}

const WAIT_MS = 60_000;

const pause = (ms: number): Promise<void> =>
  new Promise(resolve => {
    setTimeout(resolve, ms);
  });

const answers = (port: number): Promise<boolean> =>
  new Promise(resolve => {
    const socket = net.connect(port, '127.0.0.1');
    socket.once('connect', () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', () => resolve(false));
  });

/** Of an ordinary user and its group. */
const ORDINARY = 1000;

/**
 * Root is the only user there is, as in the user namespace of a task (user_namespaces(7)). ngircd refuses to stay root: there it gets a namespace of its
 * own, in which it is somebody else.
 */
const isAlone = async (): Promise<boolean> =>
  process.getuid?.() === 0 && /^\s*0\s+\d+\s+1\s*$/.test(await fs.readFile('/proc/self/uid_map', 'utf8'));

/** Stopped after the test file. */
export const openIrcServer = async (options: { password?: string } = {}): Promise<IrcServer> => {
  const program = findProgram('ngircd');
  if (program === undefined) {
    throw new Error('ngircd is not installed');
  }
  const folder = await fs.mkdtemp(path.join(os.tmpdir(), 'taskcluster-ngircd-'));
  const [port = 0] = await freePorts(1);
  const alone = await isAlone();
  const config = path.join(folder, 'ngircd.conf');
  await fs.writeFile(
    config,
    [
      '[Global]',
      'Name = irc.test',
      'Info = test',
      'Listen = 127.0.0.1',
      `Ports = ${port}`,
      ...(options.password === undefined ? [] : [`Password = ${options.password}`]),
      // root becomes `nobody`
      `ServerUID = ${alone ? ORDINARY : (process.getuid?.() ?? 0)}`,
      `ServerGID = ${alone ? ORDINARY : (process.getgid?.() ?? 0)}`,
      '[Limits]',
      'MaxConnectionsIP = 0',
      'MaxPenaltyTime = 0',
      '[Options]',
      'DNS = no',
      'Ident = no',
      'PAM = no',
      'ChrootDir =',
      '[Channel]',
      'Name = #keyed',
      'Key = sesame',
      'Modes = nk',
      '[Channel]',
      'Name = #moderated',
      'Modes = mn',
      '',
    ].join('\n'),
  );
  const log = await fs.open(path.join(folder, 'output.log'), 'a');
  const asSomebody = alone ? ['unshare', '--user', `--map-user=${ORDINARY}`, `--map-group=${ORDINARY}`] : [];
  let server: Supervised | undefined;
  const start = async (): Promise<void> => {
    const started = await supervise([...asSomebody, program, '--nodaemon', '--config', config], {
      env: process.env,
      cwd: folder,
      log: log.fd,
    });
    server = started;
    const untilMs = Date.now() + WAIT_MS;
    while (!(await answers(port))) {
      if (!started.isRunning() || Date.now() > untilMs) {
        throw new Error(`ngircd did not start:\n${await fs.readFile(path.join(folder, 'output.log'), 'utf8')}`);
      }
      await pause(20);
    }
  };
  const kill = async (): Promise<void> => {
    const ending = server;
    server = undefined;
    if (ending) {
      signal(ending.pid, 'SIGKILL');
      await ending.exited;
      ending.release();
    }
  };
  atEnd(async () => {
    await kill();
    await log.close();
    await fs.rm(folder, { recursive: true, force: true });
  });
  await start();
  return { port, kill, start };
};

/** Connects somebody, who hears what others say. */
export const openIrcPerson = async ({ port }: IrcServer, nick: string, password?: string): Promise<IrcPerson> => {
  const socket = net.connect(port, '127.0.0.1');
  const lines: string[] = [];
  let rest = '';
  let heard: () => void = () => undefined;
  socket.on('error', () => undefined);
  socket.on('data', chunk => {
    const parts = (rest + chunk.toString('utf8')).split('\r\n');
    rest = parts.pop() ?? '';
    for (const line of parts) {
      if (line.startsWith('PING')) {
        socket.write(`PONG${line.slice(4)}\r\n`);
      }
      lines.push(line);
    }
    heard();
  });
  const send = (line: string): void => void socket.write(`${line}\r\n`);
  const hear = async (pattern: RegExp): Promise<string> => {
    const untilMs = Date.now() + WAIT_MS;
    for (;;) {
      const found = lines.find(line => pattern.test(line));
      if (found !== undefined) {
        return found;
      }
      if (Date.now() > untilMs) {
        throw new Error(`Nobody said ${pattern}; heard:\n${lines.join('\n')}`);
      }
      await Promise.race([pause(200), new Promise<void>(resolve => (heard = resolve))]);
    }
  };
  atEnd(() => void socket.destroy());
  if (password !== undefined) {
    send(`PASS ${password}`);
  }
  send(`NICK ${nick}`);
  send(`USER ${nick} 0 * :${nick}`);
  await hear(/ 001 /);
  return { send, hear, lines };
};
