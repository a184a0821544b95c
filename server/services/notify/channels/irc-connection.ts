/**
 * One connection to an IRC server, opened when it is first needed. IRC confirms nothing; but a server answers in order, so that a message was accepted
 * when the answer to a PING sent behind it has come and no error about its target before. One message at a time, or nobody knows whose error it is.
 */
import type { Client, Message } from 'irc-framework';
import type { Clock } from '../../../platform/clock.ts';
import type { Log } from '../../../platform/log.ts';
import { Refused } from './channel.ts';

export interface IrcSettings {
  readonly host: string;
  readonly port: number;
  readonly tls: boolean;
  readonly nick: string;
  readonly realName: string;
  readonly password: string | undefined;
  readonly account: string | undefined;
}

export interface Irc {
  /** Sends a message to a channel, which is joined before, or to a nick. @throws {Refused} when the server does not let us */
  say(target: string, message: string, signal: AbortSignal): Promise<void>;
  close(): Promise<void>;
}

// servers throw out who sends faster
const BURST = 4;
const LINE_MS = 1_000;
const MAX_LINES = 8;
const BLOCK_BYTES = 350;
const MAX_NICK = 30;
/** Every server takes that many characters (RFC 2812 §1.2.1). */
const SAFE_NICK = 9;
/** How often another nick is tried, one underscore more each time. */
const MAX_UNDERSCORES = 5;
const BAD_NICK = '432';
const CANNOT_SEND = '404';
const GOODBYE_MS = 2_000;

/** The server no longer had us in the channel when our line came. */
class ThrownOut extends Error {}

/** Errors about a target (RFC 2812 §5.2) that trying again does not help. */
const REFUSALS: Readonly<Record<string, string>> = {
  401: 'nobody has that nick at present, or there is no such channel',
  403: 'there is no such channel',
  404: 'the channel does not let us write',
  473: 'the channel is for invited people only',
  474: 'we are banned from the channel',
  475: 'the channel has a key',
  476: 'it is no good name for a channel',
  477: 'the channel is for people with an account only',
  489: 'the channel is for encrypted connections only',
};
const OTHER_ERRORS: Readonly<Record<string, string>> = {
  405: 'we are in too many channels',
  407: 'the target stands for too many',
  437: 'the channel cannot be joined at present',
  471: 'the channel is full',
};

/** What waits for the server's answer. */
interface Question {
  readonly token: string;
  readonly target: string;
  readonly resolve: () => void;
  readonly reject: (error: Error) => void;
}

interface Link {
  readonly client: Client;
  readonly joined: Set<string>;
  question: Question | undefined;
  /** Rejects when the connection ends. */
  readonly ended: Promise<never>;
}

const isChannel = (target: string): boolean => /^[#&+!]/.test(target);
const sameName = (a: string | undefined, b: string): boolean => a?.toLowerCase() === b.toLowerCase();

/** Lines that are safe on the wire. Colours and the like may stay; what ends a line, or makes it a command to a program, may not. */
export const linesOf = (message: string): string[] => {
  const lines = message
    .split(/\r\n|\r|\n/)
    // eslint-disable-next-line no-control-regex
    .map(line => line.replace(/[\0\u0001]/g, '').trim())
    .filter(line => line !== '');
  return lines.length <= MAX_LINES ? lines : [...lines.slice(0, MAX_LINES - 1), `… and ${lines.length - MAX_LINES + 1} more lines`];
};

export const openIrc = (settings: IrcSettings, clock: Clock, log: Log): Irc => {
  let link: Promise<Link> | undefined;
  let queue: Promise<void> = Promise.resolve();
  let isClosed = false;
  let nextLineMs = 0;
  let pings = 0;
  let disconnect: () => void = () => undefined;

  /** Hears what the server says about us and about what was asked. */
  const hear = (on: Link, { command, params, nick: from }: Message): void => {
    const { client, joined, question } = on;
    const channel = (params[0] ?? '').toLowerCase();
    if (command === 'JOIN' && sameName(from, client.user.nick)) {
      joined.add(channel);
    } else if ((command === 'KICK' && sameName(params[1], client.user.nick)) || (command === 'PART' && sameName(from, client.user.nick))) {
      joined.delete(channel);
    }
    if (!question) {
      return;
    }
    const { token, target, resolve, reject } = question;
    if (command === 'PONG' && params.at(-1) === token) {
      resolve();
    } else if (sameName(params[1], target)) {
      const wasThrownOut = command === CANNOT_SEND && isChannel(target) && !joined.has(target.toLowerCase());
      const refusal = wasThrownOut ? undefined : REFUSALS[command];
      const other = OTHER_ERRORS[command];
      if (wasThrownOut) {
        reject(new ThrownOut(`We were thrown out of ${target} just now.`));
      } else if (refusal !== undefined) {
        reject(new Refused(`IRC refused it for ${target}: ${refusal}.`));
      } else if (other !== undefined) {
        reject(new Error(`IRC refused it for ${target}: ${other}.`));
      }
    }
  };

  const connect = async (): Promise<Link> => {
    const { Client: IrcClient } = await import('irc-framework');
    const client = new IrcClient();
    const { promise: ended, reject: end } = Promise.withResolvers<never>();
    ended.catch(() => undefined); // whoever waits sees it
    const opened: Link = { client, joined: new Set(), question: undefined, ended };
    await new Promise<void>((resolve, reject) => {
      let problem: string | undefined;
      let maxNick = Math.max(MAX_NICK, settings.nick.length);
      let underscores = 0;
      const nickNow = (): string => settings.nick.slice(0, maxNick - underscores) + '_'.repeat(underscores);
      disconnect = () => client.quit('');
      client.on('registered', () => {
        log.info({ host: settings.host, nick: client.user.nick }, 'irc connected');
        resolve();
      });
      client.on('nick in use', () => {
        underscores = underscores < MAX_UNDERSCORES ? underscores + 1 : 0;
        client.changeNick(nickNow());
      });
      client.on('socket close', error => {
        problem ??= error ? error.message : undefined;
      });
      client.on('close', () => {
        const error = new Error(`The connection to the IRC server ended${problem === undefined ? '.' : `: ${problem}`}`);
        link = undefined;
        end(error);
        reject(error);
      });
      client.connection.on('message', message => {
        if (message.command === 'ERROR') {
          problem ??= message.params.at(-1);
        } else if (message.command === BAD_NICK && nickNow().length > SAFE_NICK) {
          maxNick = SAFE_NICK; // perhaps it is only too long
          client.changeNick(nickNow());
        } else if (message.command === BAD_NICK) {
          problem = `the server does not take ${nickNow()} as a nick (${message.params.at(-1)})`;
          client.quit('');
        }
        hear(opened, message);
      });
      const { host, port, tls, realName, password, account } = settings;
      client.connect({
        host,
        port,
        tls,
        rejectUnauthorized: true,
        nick: nickNow(),
        username: settings.nick,
        gecos: realName,
        ...(account === undefined ? { password } : { account: { account, password }, sasl_disconnect_on_fail: true }),
        auto_reconnect: false, // the next message connects again
        message_max_length: BLOCK_BYTES,
        version: 'Taskcluster',
      });
    });
    return opened;
  };

  /** Waits until so many lines may be sent. */
  const pace = async (lines: number, signal: AbortSignal): Promise<void> => {
    nextLineMs = Math.max(nextLineMs, clock.nowMs() - BURST * LINE_MS) + lines * LINE_MS;
    const waitMs = nextLineMs - clock.nowMs();
    if (waitMs > 0) {
      await clock.sleep(waitMs, signal);
    }
  };

  /** Sends something about a target and waits until the server has dealt with it. */
  const exchange = async (on: Link, target: string, send: () => void): Promise<void> => {
    const token = `tc${++pings}`;
    const answered = new Promise<void>((resolve, reject) => {
      on.question = { token, target, resolve, reject };
    });
    send();
    on.client.ping(token);
    await Promise.race([answered, on.ended]);
  };

  /** Joins a channel that we are not in. */
  const join = async (on: Link, target: string, signal: AbortSignal): Promise<void> => {
    if (isChannel(target) && !on.joined.has(target.toLowerCase())) {
      await pace(1, signal);
      await exchange(on, target, () => on.client.join(target));
      if (!on.joined.has(target.toLowerCase())) {
        throw new Error(`The IRC server did not let us into ${target}.`);
      }
    }
  };

  const sayNow = async (target: string, message: string, signal: AbortSignal): Promise<void> => {
    const lines = linesOf(message);
    if (lines.length === 0) {
      throw new Refused('There is nothing to say: the message is empty.');
    }
    const now = await (link ??= connect().catch((error: unknown) => {
      link = undefined;
      throw error;
    }));
    for (const line of lines) {
      await join(now, target, signal);
      signal.throwIfAborted();
      await pace(Math.ceil(Buffer.byteLength(line) / BLOCK_BYTES), signal);
      const sayLine = (): Promise<void> => exchange(now, target, () => now.client.say(target, line));
      await sayLine().catch(async (error: unknown) => {
        if (!(error instanceof ThrownOut)) {
          throw error;
        }
        await join(now, target, signal);
        await sayLine();
      });
    }
  };

  return {
    say: (target, message, signal) => {
      const aborted = new Promise<never>((_resolve, reject) => {
        signal.addEventListener('abort', () => reject(signal.reason as Error), { once: true });
      });
      aborted.catch(() => undefined);
      const said = queue.then(() => {
        if (isClosed) {
          throw new Error('The IRC connection is closed.');
        }
        signal.throwIfAborted();
        return Promise.race([sayNow(target, message, signal), aborted]);
      });
      queue = said.catch(() => undefined);
      return said;
    },
    close: async () => {
      isClosed = true;
      const open = link;
      if (open) {
        disconnect();
        const ended = open.then(
          on => on.ended.catch(() => undefined),
          () => undefined,
        );
        await Promise.race([ended, clock.sleep(GOODBYE_MS)]);
      }
    },
  };
};
