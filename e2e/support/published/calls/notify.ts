/** Every method of notify. */
import { expect, test } from 'vitest';
import { expectRefusal } from '../../official.ts';
import { type Under, call } from '../library.ts';

export const notifyCalls = (under: Under): void => {
  test('notify', async () => {
    const email = { address: 'dev@example.com', subject: 'Hello', content: 'It *works*.' };
    await call(under.root.notify, 'email', email);
    await call(under.root.notify, 'email', email);
    expect((await under.mail.taken()).map(({ subject }) => subject)).toEqual(['Hello']);
    await expectRefusal(call(under.nobody.notify, 'email', email), 403, 'InsufficientScopes', 'notify:email:dev@example.com');
    await call(under.root.notify, 'pulse', { routingKey: 'a.b', message: { x: 1 } });
    await expectRefusal(call(under.root.notify, 'pulse', { routingKey: 'a.b' }), 400, 'InputValidationError', 'data');
    for (const [method, body, scope] of [
      ['matrix', { roomId: '!a:b', body: 'not configured' }, 'notify:matrix-room:!a:b'],
      ['slack', { channelId: 'C1', text: 'not configured' }, 'notify:slack-channel:C1'],
    ] as const) {
      await call(under.root.notify, method, body);
      await expectRefusal(call(under.nobody.notify, method, body), 403, 'InsufficientScopes', scope);
    }
    const denied = { notificationType: 'email', notificationAddress: 'no@example.com' };
    await call(under.root.notify, 'addDenylistAddress', denied);
    await expectRefusal(call(under.nobody.notify, 'addDenylistAddress', denied), 403, 'InsufficientScopes', 'notify:manage-denylist');
    await expectRefusal(
      call(under.root.notify, 'email', { ...email, address: 'no@example.com' }),
      400,
      'DenylistedAddress',
      'no@example.com',
    );
    expect(await call(under.root.notify, 'listDenylist')).toEqual({ addresses: [denied] });
    await expectRefusal(call(under.nobody.notify, 'listDenylist'), 403, 'InsufficientScopes', 'notify:manage-denylist');
    await call(under.root.notify, 'deleteDenylistAddress', denied);
    await expectRefusal(call(under.nobody.notify, 'deleteDenylistAddress', denied), 403, 'InsufficientScopes', 'notify:manage-denylist');
    expect(await call(under.root.notify, 'listDenylist')).toEqual({ addresses: [] });
  });
};
