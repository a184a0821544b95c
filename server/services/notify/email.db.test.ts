/** Emails through a real mail server on loopback: what arrives, what is refused, what is not sent twice. */
import { notifyApi } from '@tscluster/api/notify/api.ts';
import { describe, expect, test } from 'vitest';
import { withServer } from '../../testing/server.ts';
import { openMailServer } from '../../testing/mail.ts';
import { notifyService } from './service.ts';

const mail = await openMailServer();
const { client } = await withServer([notifyService], { environment: { SMTP_URL: mail.url, EMAIL_SOURCE_ADDRESS: 'tc@example.com' } });
const notify = client(notifyApi);

const anEmail = (more: object = {}) => ({ address: 'dev@example.com', subject: 'Hello', content: 'It *works*.', ...more });

describe('email', () => {
  test('arrives as text and as HTML', async () => {
    await notify.email(anEmail({ link: { text: 'Look', href: 'https://example.com/?a=1&b=2' }, replyTo: 'answers@example.com' }));
    const [message] = await mail.taken();
    expect(message).toMatchObject({
      envelope: { from: 'tc@example.com', to: ['dev@example.com'] },
      subject: 'Hello',
      from: { address: 'tc@example.com' },
      replyTo: [{ address: 'answers@example.com' }],
    });
    expect(message?.text).toContain('It *works*.\n\nLook: https://example.com/?a=1&b=2\n');
    expect(message?.text).toContain('Up to 49 more messages may be sent to this address within the next 10 minutes.');
    expect(message?.html).toContain('It <em>works</em>.');
    expect(message?.html).toContain('href="https://example.com/?a=1&amp;b=2"');
  });

  test('is not sent twice', async () => {
    const message = anEmail({ subject: 'Once' });
    expect(await notify.email(message)).toBeUndefined();
    await notify.email(message);
    expect((await mail.taken()).map(({ subject }) => subject)).toEqual(['Once']);
  });
});
