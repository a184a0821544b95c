/** The Matrix bot follows what happens to it and joins the rooms that it is invited to. */
import { type ChannelPlatform, readReply } from './channel.ts';

export const matrixUrl = (baseUrl: string, path: string): string => `${baseUrl.replace(/\/+$/, '')}/_matrix/client/v3${path}`;

const LONG_POLL_MS = 30_000;
const ANSWER_MS = 60_000;
const MAX_BACKOFF_MS = 300_000;
const MAX_SYNC_BYTES = 4 * 1024 * 1024;

// invitations are all that is wanted
const nothing = { types: [] };
const FILTER = JSON.stringify({
  presence: nothing,
  account_data: nothing,
  room: { timeline: { limit: 0, types: [] }, state: nothing, ephemeral: nothing, account_data: nothing },
});

interface Sync {
  readonly next_batch?: string;
  readonly rooms?: { readonly invite?: Readonly<Record<string, { readonly invite_state?: { readonly events?: readonly Invite[] } }>> };
}
interface Invite {
  readonly type?: string;
  readonly state_key?: string;
  readonly content?: { readonly membership?: string };
}

export const acceptInvites = (
  { clock, log }: ChannelPlatform,
  { baseUrl, token, userId }: { baseUrl: string; token: string; userId: string },
): { stop: () => Promise<void> } => {
  const stopping = new AbortController();

  const call = async (method: string, path: string): Promise<Record<string, unknown>> => {
    const late = new AbortController();
    const timer = clock.setTimer(ANSWER_MS, () => late.abort(new Error('The Matrix server does not answer')), { unref: true });
    try {
      const response = await fetch(matrixUrl(baseUrl, path), {
        method,
        headers: { authorization: `Bearer ${token}` },
        ...(method === 'POST' ? { body: '{}' } : {}),
        redirect: 'error',
        signal: AbortSignal.any([stopping.signal, late.signal]),
      });
      const reply = await readReply(response, MAX_SYNC_BYTES);
      if (!response.ok) {
        throw new Error(`Matrix answers ${response.status} ${String(reply['errcode'] ?? '')}`);
      }
      return reply;
    } finally {
      timer.cancel();
    }
  };

  const join = async (roomId: string): Promise<void> => {
    try {
      await call('POST', `/rooms/${encodeURIComponent(roomId)}/join`);
      log.info({ roomId }, 'matrix room joined');
    } catch (error) {
      log.warn({ err: error, roomId }, 'matrix invitation not accepted');
    }
  };

  const follow = async (): Promise<void> => {
    let since: string | undefined;
    let backoffMs = 1_000;
    while (!stopping.signal.aborted) {
      try {
        const query = new URLSearchParams({
          filter: FILTER,
          timeout: since === undefined ? '0' : String(LONG_POLL_MS),
          ...(since === undefined ? {} : { since }),
        });
        const sync = (await call('GET', `/sync?${query}`)) as Sync;
        for (const [roomId, room] of Object.entries(sync.rooms?.invite ?? {})) {
          if (
            room.invite_state?.events?.some(e => e.type === 'm.room.member' && e.state_key === userId && e.content?.membership === 'invite')
          ) {
            await join(roomId);
          }
        }
        if (typeof sync.next_batch !== 'string') {
          throw new Error('Matrix answers without next_batch');
        }
        since = sync.next_batch;
        backoffMs = 1_000;
      } catch (error) {
        if (!stopping.signal.aborted) {
          log.warn({ err: error, backoffMs }, 'matrix invitations cannot be followed');
          await clock.sleep(backoffMs, stopping.signal).catch(() => undefined);
          backoffMs = Math.min(backoffMs * 2, MAX_BACKOFF_MS);
        }
      }
    }
  };

  const finished = follow();
  return {
    stop: async () => {
      stopping.abort(new Error('The Matrix bot is stopping'));
      await finished;
    },
  };
};
