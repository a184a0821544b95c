/** What the API and routes of tasks say on IRC. */
import { beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { type IrcPerson, openIrcPerson, openIrcServer } from '../../testing/irc-server.ts';
import { describeWith } from '../../testing/programs.ts';
import { refusal } from '../../testing/refusal.ts';
import { type NotifyServer, withNotify } from './testing.ts';

describeWith('ngircd', 'ngircd', 'IRC', () => {
  let server: NotifyServer;
  let person: IrcPerson;
  beforeAll(async () => {
    const ircd = await openIrcServer();
    person = await openIrcPerson(ircd, 'someone');
    person.send('JOIN #builds');
    await person.hear(/ 366 someone #builds /);
    server = await withNotify({ environment: { IRC_SERVER: '127.0.0.1', IRC_PORT: String(ircd.port), IRC_TLS: 'false', IRC_NICK: 'tc' } });
  });

  // who speaks too fast has to wait, and this clock stands still
  beforeEach(() => server.clock.advance({ minutes: 1 }));

  test('of a task has the usual words, or its own', async () => {
    const plain = await server.create(['notify.irc-channel.#builds.on-any']);
    await server.run(plain, 'failed');
    await server.deliver();
    await person.hear(
      new RegExp(`PRIVMSG #builds :Task "build \\*it\\*" complete with status 'failed'. Inspect: http://taskcluster.test/tasks/${plain}$`),
    );
    expect(await server.deliveriesOf(plain)).toMatchObject([{ state: 'sent', notificationType: 'irc-channel' }]);
    const extra = { notify: { ircChannelMessage: 'to all: ${status.state}', ircUserMessage: 'to you: ${taskId}' } };
    const custom = await server.create(['notify.irc-channel.#builds.on-any', 'notify.irc-user.someone.on-any'], { extra });
    await server.run(custom, 'completed');
    await server.deliver();
    await person.hear(/PRIVMSG #builds :to all: completed$/);
    await person.hear(new RegExp(`PRIVMSG someone :to you: ${custom}$`));
  });

  describe('by a call', () => {
    test('is said to a channel or a person', async () => {
      await server.notify.irc({ channel: '#builds', message: 'by a call' });
      await person.hear(/PRIVMSG #builds :by a call$/);
      await server.notify.irc({ user: 'someone', message: 'by another call' });
      await person.hear(/PRIVMSG someone :by another call$/);
    });

    test('is refused for somebody who is not there, and for what is no address', async () => {
      expect(await refusal(server.notify.irc({ user: 'nobody', message: 'x' }))).toMatchObject({
        status: 400,
        code: 'InputError',
        message: expect.stringContaining('nobody has that nick'),
      });
      for (const body of [
        { channel: 'builds', message: 'x' },
        { channel: '#a b', message: 'x' },
        { channel: '#a\r\nQUIT', message: 'x' },
        { user: '#builds', message: 'x' },
        { user: 'a,b', message: 'x' },
        { message: 'x' },
        { channel: '#a', user: 'b', message: 'x' },
        { channel: '#a', message: '' },
        { channel: '#a', message: 'x'.repeat(2_049) },
      ]) {
        expect(await refusal(server.notify.irc(body as never)), JSON.stringify(body)).toMatchObject({ code: 'InputValidationError' });
      }
    });
  });
});
