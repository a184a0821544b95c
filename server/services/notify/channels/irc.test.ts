/** Messages through a real IRC server. */
import { beforeAll, describe, expect, test, vi } from 'vitest';
import { type Clock, systemClock } from '../../../platform/clock.ts';
import { silentLog } from '../../../platform/log.ts';
import { type IrcPerson, type IrcServer, openIrcPerson, openIrcServer } from '../../../testing/irc-server.ts';
import { describeWith } from '../../../testing/programs.ts';
import { Refused } from './channel.ts';
import { type Irc, type IrcSettings, linesOf, openIrc } from './irc-connection.ts';
import { ircChannel } from './irc.ts';

vi.setConfig({ testTimeout: 60_000, hookTimeout: 60_000 });
/** This server lets us speak as fast as we like. */
const clock: Clock = { ...systemClock, sleep: (ms, signal) => systemClock.sleep(ms / 50, signal) };

describe('addresses', () => {
  test.each([
    ['#builds', 'irc-channel', true],
    ['&local', 'irc-channel', true],
    ['##a.b-c', 'irc-channel', true],
    ['builds', 'irc-channel', false],
    ['#', 'irc-channel', false],
    ['#a,#b', 'irc-channel', false],
    ['#a b', 'irc-channel', false],
    ['#a\r\nQUIT', 'irc-channel', false],
    ['some_one', 'irc-user', true],
    ['[x]|away', 'irc-user', true],
    ['#builds', 'irc-user', false],
    ['9lives', 'irc-user', false],
    ['a b', 'irc-user', false],
    ['a\r\nQUIT', 'irc-user', false],
    ['', 'irc-user', false],
  ] as const)('%j as %s', (address, type, isGood) => {
    expect(ircChannel.checkAddress(address, type) === undefined).toBe(isGood);
  });
});

test('lines hold nothing that ends them, and are not too many', () => {
  expect(linesOf('a\r\nb\n\n \rc')).toEqual(['a', 'b', 'c']);
  expect(linesOf('\u0001DCC SEND x\u0001 \0 \u0002bold\u0002')).toEqual(['DCC SEND x  \u0002bold\u0002']);
  expect(linesOf(Array.from({ length: 20 }, (_, i) => `line ${i}`).join('\n'))).toEqual([
    ...Array.from({ length: 7 }, (_, i) => `line ${i}`),
    '… and 13 more lines',
  ]);
  expect(linesOf(' \r\n ')).toEqual([]);
});

describeWith('ngircd', 'ngircd', 'on a real server', () => {
  let server: IrcServer;
  let person: IrcPerson;
  let irc: Irc;
  const settings = (more: Partial<IrcSettings> = {}): IrcSettings => ({
    host: '127.0.0.1',
    port: server.port,
    tls: false,
    nick: 'tc',
    realName: 'Taskcluster',
    password: undefined,
    account: undefined,
    ...more,
  });
  const soon = (): AbortSignal => AbortSignal.timeout(60_000);

  beforeAll(async () => {
    server = await openIrcServer();
    person = await openIrcPerson(server, 'someone');
    person.send('JOIN #builds');
    await person.hear(/ 366 someone #builds /);
    irc = openIrc(settings(), clock, silentLog);
    return () => irc.close();
  });

  test('a channel is joined, and hears it', async () => {
    await irc.say('#builds', 'Task "a" is done: https://example.com', soon());
    await person.hear(/^:tc!\S+ JOIN :?#builds/);
    await person.hear(/^:tc!\S+ PRIVMSG #builds :Task "a" is done: https:\/\/example\.com$/);
  });

  test('a person hears it', async () => {
    await irc.say('SomeOne', ':) ünïcode', soon());
    await person.hear(/^:tc!\S+ PRIVMSG \S*omeone\S* ::\) ünïcode$/i);
  });

  test('messages at the same time come one after the other, whole', async () => {
    await Promise.all(['one', 'two', 'three'].map(word => irc.say('#builds', `${word} a\n${word} b`, soon())));
    await person.hear(/three b$/);
    const said = person.lines.flatMap(line => /PRIVMSG #builds :(\w+ [ab])$/.exec(line)?.[1] ?? []);
    expect(said).toEqual(['one a', 'one b', 'two a', 'two b', 'three a', 'three b']);
  });

  test('nothing of a message is a command', async () => {
    await irc.say('#builds', 'before\r\nPRIVMSG #builds :forged\r\nQUIT :bye', soon());
    await person.hear(/PRIVMSG #builds :PRIVMSG #builds :forged$/);
    await person.hear(/PRIVMSG #builds :QUIT :bye$/);
    expect(person.lines.filter(line => /^:tc!\S+ QUIT/.test(line))).toEqual([]);
  });

  test.each([
    ['a nick nobody has', 'nobody-here', 'nobody has that nick'],
    ['a channel with a key', '#keyed', 'the channel has a key'],
    ['a channel where only some may speak', '#moderated', 'does not let us write'],
  ])('%s is refused for good', async (_what, target, why) => {
    const said = irc.say(target, 'hello', soon());
    await expect(said).rejects.toThrow(Refused);
    await expect(said).rejects.toThrow(why);
  });

  test('a channel we were thrown out of is joined again, unless we are banned', async () => {
    person.send('JOIN #fresh');
    await person.hear(/ 366 someone #fresh /);
    person.send('MODE #fresh +n'); // else a message from outside is heard too
    await irc.say('#fresh', 'first', soon());
    person.send('KICK #fresh tc :out');
    await person.hear(/KICK #fresh tc/);
    await irc.say('#fresh', 'second', soon());
    await person.hear(/PRIVMSG #fresh :second$/);
    person.send('MODE #fresh +b tc!*@*');
    person.send('KICK #fresh tc :out again');
    await person.hear(/KICK #fresh tc :out again/);
    await expect(irc.say('#fresh', 'third', soon())).rejects.toThrow('we are banned');
  });

  test('a nick that is taken is changed', async () => {
    const second = openIrc(settings(), clock, silentLog);
    await second.say('#builds', 'from the second', soon());
    await person.hear(/^:tc_!\S+ PRIVMSG #builds :from the second$/);
    await second.close();
    await person.hear(/^:tc_!\S+ QUIT/);
  });

  test('a nick that is too long for the server is cut, and changed when that is taken', async () => {
    const long = openIrc(settings({ nick: 'taskcluster-builds' }), clock, silentLog);
    await long.say('#builds', 'from the first', soon());
    await person.hear(/^:taskclust!\S+ PRIVMSG #builds :from the first$/);
    const other = openIrc(settings({ nick: 'taskcluster' }), clock, silentLog);
    await other.say('#builds', 'from the other', soon());
    await person.hear(/^:taskclus_!\S+ PRIVMSG #builds :from the other$/);
    await Promise.all([long.close(), other.close()]);
  });

  test('a nick that the server does not take is told', async () => {
    const wrong = openIrc(settings({ nick: '9lives' }), clock, silentLog);
    await expect(wrong.say('#builds', 'hello', soon())).rejects.toThrow('does not take 9lives as a nick');
    await wrong.close();
  });

  test('a server that ends and comes back is found again', async () => {
    await server.kill();
    await expect(irc.say('#builds', 'lost', soon())).rejects.toThrow(/IRC server|ECONNREFUSED/);
    await expect(irc.say('#builds', 'lost', soon())).rejects.not.toThrow(Refused);
    await server.start();
    const again = await openIrcPerson(server, 'someone');
    again.send('JOIN #builds');
    await again.hear(/ 366 /);
    await irc.say('#builds', 'back', soon());
    await again.hear(/PRIVMSG #builds :?back$/);
  });

  test('a password is given; without it nobody gets in', async () => {
    const locked = await openIrcServer({ password: 'sesame' });
    const open = openIrc(settings({ port: locked.port, password: 'sesame' }), clock, silentLog);
    await open.say('#builds', 'hello', soon());
    await open.close();
    const shut = openIrc(settings({ port: locked.port, password: 'wrong' }), clock, silentLog);
    await expect(shut.say('#builds', 'hello', soon())).rejects.toThrow(/IRC server ended/);
    await shut.close();
  });
});
