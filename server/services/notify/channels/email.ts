/** Email over SMTP. Without a server configured, messages are only noted in the log: enough to try things out. */
import type { EmailMessage } from '@tscluster/api/notify/messages.ts';
import { secret, text } from '../../../platform/config.ts';
import { customText, customValue } from '../customise.ts';
import { countsLine, customPart, type FailedTask, taskHref } from '../subjects.ts';
import { Refused, defineChannel, oneLine } from './channel.ts';
import { escapeMarkdown, makeEmailBody } from './email-body.ts';

const ADDRESS =
  /^[a-z0-9!#$%&'*+/=?^_`{|}~-]+(?:\.[a-z0-9!#$%&'*+/=?^_`{|}~-]+)*@(?:[a-z0-9](?:[a-z0-9-]*[a-z0-9])?\.)+[a-z0-9](?:[a-z0-9-]*[a-z0-9])?$/i;
const MAX_ADDRESS = 320;

/** What the limits of the API are, for texts that come from a task. */
const MAX_SUBJECT = 255;
const MAX_CONTENT = 102_400;

const cut = (value: string, length: number): string => (value.length <= length ? value : `${value.slice(0, length - 1)}…`);

const checkLink = (value: unknown): EmailMessage['link'] => {
  const { text: label, href } = (typeof value === 'object' && value !== null ? value : {}) as Record<string, unknown>;
  return typeof label === 'string' && label !== '' && typeof href === 'string' && URL.canParse(href)
    ? { text: cut(oneLine(label), 40), href: href.slice(0, 1024) }
    : undefined;
};
const checkTemplate = (value: unknown): EmailMessage['template'] | undefined =>
  value === 'simple' || value === 'fullscreen' ? value : undefined;

interface SmtpError extends Error {
  readonly code?: string;
  readonly responseCode?: number;
  readonly response?: string;
}

/** The server has refused this message or its recipient for good (RFC 5321 §4.2.1), and not us. */
const isRefusal = ({ code, responseCode = 0 }: SmtpError): boolean =>
  responseCode >= 500 && responseCode < 600 && (code === 'EENVELOPE' || code === 'EMESSAGE');

export const emailChannel = defineChannel({
  name: 'email',
  types: ['email'],
  settings: {
    smtpUrl: secret(
      text('SMTP_URL', 'the mail server, such as smtps://user:password@mail.example.com; absent: emails are only noted in the log', {
        fallback: undefined,
      }),
    ),
    from: text('EMAIL_SOURCE_ADDRESS', 'the address that emails come from', { fallback: 'taskcluster-noreply@localhost.localdomain' }),
  },
  checkAddress: address =>
    address.length <= MAX_ADDRESS && ADDRESS.test(address) ? undefined : `${JSON.stringify(address)} is not an email address`,
  identity: (address, { subject, content, link, replyTo }: EmailMessage) => [address, subject, content, link, replyTo],
  subject: ({ subject }) => oneLine(subject),

  aboutTask: async context => {
    const { task, status, taskId, href, groupHref, runCount } = context;
    const { state } = status;
    const { content, subject, link, template } = customPart(context, 'email');
    const { name, description, owner, source } = task.metadata;
    const runs = `${runCount} run${runCount === 1 ? '' : 's'}`;
    return {
      address: '',
      subject: cut(oneLine(await customText(context, subject, `Task ${state}: ${name} - ${taskId}`)), MAX_SUBJECT),
      content: cut(
        await customText(
          context,
          content,
          [
            `Task [\`${taskId}\`](${href}) in task group [\`${status.taskGroupId}\`](${groupHref}) is ${state}.`,
            '',
            `**Status:** ${state} (in ${runs})`,
            `**Name:** ${name}`,
            `**Description:** ${description}`,
            `**Owner:** ${owner}`,
            `**Source:** ${source}`,
          ].join('\n'),
        ),
        MAX_CONTENT,
      ),
      link: await customValue(context, link, { text: 'Inspect Task', href }, checkLink),
      template: await customValue(context, template, 'simple' as const, checkTemplate),
    };
  },

  aboutGroup: ({ summary, href, rootUrl }) => {
    const { taskGroupId, name, result, failures, failed, total } = summary;
    const line = ({ taskId, name: task, state, reason }: FailedTask): string =>
      `* [${escapeMarkdown(oneLine(task))}](${taskHref(rootUrl, taskId)}): ${state}${reason === undefined || reason === state ? '' : ` (${reason})`}`;
    return {
      address: '',
      subject: cut(oneLine(`Task group ${result}: ${name} - ${taskGroupId}`), MAX_SUBJECT),
      content: [
        `Task group [\`${taskGroupId}\`](${href}) has ended: ${result}.`,
        '',
        `**Tasks:** ${total} (${countsLine(summary)})`,
        `**Name:** ${escapeMarkdown(oneLine(name))}`,
        ...(failures.length > 0 ? ['', '**Failed:**', '', ...failures.map(line)] : []),
        ...(failed > failures.length ? [`* and ${failed - failures.length} more`] : []),
      ].join('\n'),
      link: { text: 'Inspect Task Group', href },
      template: 'simple' as const,
    };
  },

  open: ({ clock, log, rootUrl }, { smtpUrl, from }) => {
    if (smtpUrl === undefined) {
      return {
        send: ({ address, message }) => {
          log.info({ address, subject: oneLine(message.subject) }, 'email not sent: no mail server is configured');
          return Promise.resolve({ note: 'Only noted in the log: no mail server is configured (SMTP_URL).' });
        },
      };
    }
    const domain = from.slice(from.lastIndexOf('@') + 1);
    const connect = async () => {
      const { createTransport } = await import('nodemailer');
      const limits = { pool: true, maxConnections: 5, connectionTimeout: 15_000, greetingTimeout: 15_000, socketTimeout: 20_000 };
      return createTransport({ url: smtpUrl, ...limits, disableFileAccess: true, disableUrlAccess: true } as object);
    };
    let transport: ReturnType<typeof connect> | undefined;
    return {
      send: async ({ deliveryId, address, message, limit }) => {
        const body = await makeEmailBody(message, rootUrl, limit);
        transport ??= connect();
        try {
          await (
            await transport
          ).sendMail({
            from: { name: 'Taskcluster', address: from },
            to: { name: '', address },
            ...(message.replyTo === undefined ? {} : { replyTo: { name: '', address: message.replyTo } }),
            subject: oneLine(message.subject),
            text: body.text,
            html: body.html,
            date: clock.now(),
            // the same when it is sent twice, so that mail programs can see it
            messageId: `<${deliveryId}@${domain}>`,
            headers: { 'auto-submitted': 'auto-generated' },
          });
        } catch (error) {
          if (isRefusal(error as SmtpError)) {
            throw new Refused(`The mail server refused it: ${(error as SmtpError).response ?? (error as Error).message}`);
          }
          throw error;
        }
        log.info({ address }, 'email');
      },
      close: async () => (await transport)?.close(),
    };
  },
});
