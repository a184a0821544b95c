/** A real IRC server (ngircd) on loopback, in a folder of its own, and a person on it. */
import { spawn } from 'node:child_process';
import fs from 'node:fs/promises';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { afterAll } from 'vitest';
import { findProgram } from './programs.ts';

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

const WAIT_MS = 20_000;

const pause = (ms: number): Promise<void> =>
  new Promise(resolve => {
    setTimeout(resolve, ms);
  });

const freePort = async (): Promise<number> =>
  new Promise((resolve, reject) => {
    const probe = net.createServer();
    probe.once('error', reject);
    probe.listen(0, '127.0.0.1', () => {
      const { port } = probe.address() as { port: number };
      probe.close(() => resolve(port));
    });
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

/** Stopped after the test file. */
export const openIrcServer = async (options: { password?: string } = {}): Promise<IrcServer> => {
  const program = findProgram('ngircd');
  if (program === undefined) {
    throw new Error('ngircd is not installed');
  }
  const folder = await fs.mkdtemp(path.join(os.tmpdir(), 'taskcluster-ngircd-'));
  const port = await freePort();
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
      // as the user that runs the tests, be it root
      `ServerUID = ${process.getuid?.() ?? 0}`,
      `ServerGID = ${process.getgid?.() ?? 0}`,
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
  let child: ReturnType<typeof spawn> | undefined;
  const start = async (): Promise<void> => {
    let output = '';
    const started = spawn(program, ['--nodaemon', '--config', config], { stdio: ['ignore', 'pipe', 'pipe'] });
    started.stdout.on('data', (chunk: Buffer) => (output += chunk.toString()));
    started.stderr.on('data', (chunk: Buffer) => (output += chunk.toString()));
    child = started;
    const untilMs = Date.now() + WAIT_MS;
    while (!(await answers(port))) {
      if (started.exitCode !== null || Date.now() > untilMs) {
        throw new Error(`ngircd did not start:\n${output}`);
      }
      await pause(20);
    }
  };
  const kill = async (): Promise<void> => {
    const running = child;
    child = undefined;
    if (running && running.exitCode === null) {
      const ended = new Promise(resolve => running.once('exit', resolve));
      running.kill('SIGKILL');
      await ended;
    }
  };
  await start();
  afterAll(async () => {
    await kill();
    await fs.rm(folder, { recursive: true, force: true });
  });
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
  afterAll(() => {
    socket.destroy();
  });
  if (password !== undefined) {
    send(`PASS ${password}`);
  }
  send(`NICK ${nick}`);
  send(`USER ${nick} 0 * :${nick}`);
  await hear(/ 001 /);
  return { send, hear, lines };
};
