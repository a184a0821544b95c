/** Mail to the owner of a hook whose scheduled task could not be created. It waits in the database, so that neither a crash nor the notify service loses it. */
import { notifyApi } from '@tscluster/api/notify/api.ts';
import { ApiCallError } from '@tscluster/client/client.ts';
import { loop } from '../../platform/loop.ts';
import { type Ctx, hookName } from './ctx.ts';
import type { Failure } from './firing.ts';
import type { HookKey } from './hooks.db.ts';
import { deleteMail, type Mail, type NewMail, takeMails } from './mails.db.ts';

const MAX_SUBJECT_LENGTH = 255;
/** Of each of the two, indented; notify takes mails of some hundred thousand characters. */
const MAX_ERROR_LENGTH = 50_000;

/** As code in Markdown, cut off. */
const quote = (text: string): string => text.slice(0, MAX_ERROR_LENGTH).replace(/^/gm, '    ').slice(0, MAX_ERROR_LENGTH);

export const failureMail = (hook: HookKey, owner: string, failure: Failure): NewMail => {
  const name = hookName(hook);
  return {
    address: owner,
    subject: `[Taskcluster Hooks] Scheduled Hook failure: ${name}`.slice(0, MAX_SUBJECT_LENGTH),
    content: [
      `The hooks service could not create a task for the hook \`${name}\`, whose time had come.`,
      quote(String(failure.error)),
      'In full:',
      quote(failure.text),
      'It will try again at the next time of the schedule.',
    ].join('\n\n'),
  };
};

/** Some seventeen hours. */
const MAX_ATTEMPTS = 10;

const send = async (ctx: Ctx, { id, address, subject, content, attempts }: Mail): Promise<void> => {
  const { db, log } = ctx.platform;
  const notify = ctx.platform.client(notifyApi, 'hooks', { authorizedScopes: [`notify:email:${address}`], retries: 0 });
  try {
    await notify.email({ address, subject, content });
  } catch (error) {
    const refused = error instanceof ApiCallError && error.statusCode < 500 ? error : undefined;
    const isLast = refused !== undefined || attempts >= MAX_ATTEMPTS;
    log.warn({ err: error, subject, attempts, isLast }, 'the owner of a hook could not be told of a failure');
    if (!isLast) {
      return; // its next attempt is due already
    }
  }
  await deleteMail(db, id);
};

export const sendMails = loop<Ctx>({
  name: 'hooks/mail',
  everyMs: 10_000,
  batch: 20,
  run: async (ctx, limit) => {
    const now = ctx.platform.clock.now();
    const mails = await takeMails(ctx.platform.db, now, limit);
    for (const mail of mails) {
      await send(ctx, mail);
    }
    return mails.length;
  },
});
