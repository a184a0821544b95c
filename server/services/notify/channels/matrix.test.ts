/** The Matrix bot accepts invitations that are meant for it. */
import { expect, test } from 'vitest';
import { systemClock } from '../../../platform/clock.ts';
import { silentLog } from '../../../platform/log.ts';
import { openReceiver } from '../../../testing/receiver.ts';
import { seededRandom } from '../../../testing/server.ts';
import { acceptInvites } from './matrix-invites.ts';

const invite = (user: string): object => ({
  invite_state: { events: [{ type: 'm.room.member', state_key: user, content: { membership: 'invite' } }] },
});

test('rooms it is invited to are joined, whatever goes wrong on the way', async () => {
  const server = await openReceiver();
  const joined: string[] = [];
  const since: (string | null)[] = [];
  const { promise: done, resolve } = Promise.withResolvers<void>();
  server.answer(({ method, url, headers }) => {
    expect(headers.authorization).toBe('Bearer syt-secret');
    const { pathname, searchParams } = new URL(url, server.url);
    if (method === 'POST') {
      const roomId = decodeURIComponent(pathname.split('/')[5] ?? '');
      joined.push(roomId);
      return roomId.startsWith('!refused') ? { status: 403, json: { errcode: 'M_FORBIDDEN' } } : { json: { room_id: roomId } };
    }
    since.push(searchParams.get('since'));
    switch (since.length) {
      case 1:
        return { json: { next_batch: 's1', rooms: { invite: { '!first:x': invite('@bot:x'), '!other:x': invite('@other:x') } } } };
      case 2:
        return {
          json: { next_batch: 's2', rooms: { invite: { '!refused:x': invite('@bot:x'), '!odd:x': {}, '!second:x': invite('@bot:x') } } },
        };
      case 3:
        return { status: 502 };
      case 4:
        return { json: { next_batch: 's3', rooms: { invite: { '!third:x': invite('@bot:x') } } } };
      default:
        resolve();
        return { hang: true };
    }
  });
  const clock = { ...systemClock, sleep: (ms: number, signal?: AbortSignal) => systemClock.sleep(ms / 50, signal) };
  const platform = { clock, random: seededRandom(1), log: silentLog, rootUrl: 'http://x' };
  const bot = acceptInvites(platform, { baseUrl: `${server.url}/`, token: 'syt-secret', userId: '@bot:x' });
  await done;
  await bot.stop();
  expect(joined).toEqual(['!first:x', '!refused:x', '!second:x', '!third:x']);
  expect(since).toEqual([null, 's1', 's2', 's2', 's3']);
});
