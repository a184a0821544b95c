/** Matrix, by the client-server API (https://spec.matrix.org/v1.11/client-server-api/). The bot accepts invitations to rooms by itself. */
import type { MatrixMessage } from '@tscluster/api/notify/messages.ts';
import { secret, text } from '../../../platform/config.ts';
import { customText } from '../customise.ts';
import { groupLine } from '../subjects.ts';
import { Refused, defineChannel, oneLine, readReply } from './channel.ts';
import { acceptInvites, matrixUrl } from './matrix-invites.ts';

const MSGTYPES = ['m.notice', 'm.text', 'm.emote'] as const;

/** What the server has against the message itself, and not against us or the moment. */
const isRefusal = (status: number, errcode: string): boolean =>
  status >= 400 &&
  status < 500 &&
  ![401, 408, 425, 429].includes(status) &&
  !/^M_(LIMIT_EXCEEDED|UNKNOWN_TOKEN|MISSING_TOKEN|USER_DEACTIVATED)$/.test(errcode);

export const matrixChannel = defineChannel({
  name: 'matrix',
  types: ['matrix-room'],
  settings: {
    baseUrl: text('MATRIX_BASE_URL', 'URL of the Matrix homeserver', { fallback: undefined }),
    token: secret(text('MATRIX_ACCESS_TOKEN', "the bot's access token; absent: nothing is sent to Matrix", { fallback: undefined })),
    userId: text('MATRIX_USER_ID', "the bot's user id such as @bot:example.com; with it the bot accepts invitations", {
      fallback: undefined,
    }),
  },
  // the last two would lead the request elsewhere on the server
  checkAddress: address => (['', '.', '..'].includes(address) ? `${JSON.stringify(address)} is not the id of a room` : undefined),
  identity: (address, { format, formattedBody, body, msgtype }: MatrixMessage) => [address, format, formattedBody, body, msgtype],
  subject: ({ body }) => oneLine(body).slice(0, 200),

  aboutTask: async (context, address) => {
    const { custom, task, status, href } = context;
    const formattedBody = custom['matrixFormattedBody'] ? await customText(context, custom['matrixFormattedBody'], '') : '';
    const format = custom['matrixFormat'];
    return {
      roomId: address,
      body: await customText(context, custom['matrixBody'], `'${oneLine(task.metadata.name)}' resolved as '${status.state}': ${href}`),
      msgtype: MSGTYPES.find(each => each === custom['matrixMsgtype']) ?? 'm.notice',
      ...(formattedBody === '' ? {} : { formattedBody }),
      ...(typeof format === 'string' ? { format } : {}),
    };
  },

  aboutGroup: (context, address) => ({ roomId: address, body: groupLine(context), msgtype: 'm.notice' as const }),

  open: (platform, { baseUrl, token, userId }) => {
    if (baseUrl === undefined || token === undefined) {
      return undefined;
    }
    const { log } = platform;
    const invites = userId === undefined ? undefined : acceptInvites(platform, { baseUrl, token, userId });
    return {
      send: async ({ deliveryId, address, message }, signal) => {
        const { body, msgtype, format, formattedBody } = message;
        // the id makes a repeat the same event
        const path = `/rooms/${encodeURIComponent(address)}/send/m.room.message/${deliveryId}`;
        const response = await fetch(matrixUrl(baseUrl, path), {
          method: 'PUT',
          headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
          body: JSON.stringify({ body, msgtype, format, formatted_body: formattedBody }),
          redirect: 'error',
          signal,
        });
        const reply = await readReply(response);
        if (!response.ok) {
          const errcode = typeof reply['errcode'] === 'string' ? reply['errcode'] : `status ${response.status}`;
          const detail = typeof reply['error'] === 'string' ? ` (${oneLine(reply['error']).slice(0, 300)})` : '';
          if (errcode === 'M_FORBIDDEN') {
            log.info({ roomId: address }, 'matrix-forbidden');
            throw new Refused(`Matrix says M_FORBIDDEN${detail}: the bot has to be invited to the room ${address} first.`);
          }
          const problem = `Matrix refused it: ${oneLine(errcode)}${detail}`;
          throw isRefusal(response.status, errcode) ? new Refused(problem) : new Error(problem);
        }
        log.info({ dest: address }, 'matrix');
      },
      ...(invites ? { close: () => invites.stop() } : {}),
    };
  },
});
