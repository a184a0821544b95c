/** Slack, by its web API. */
import type { SlackMessage } from '@tscluster/api/notify/messages.ts';
import { secret, text } from '../../../platform/config.ts';
import { customText, customValue } from '../customise.ts';
import { countsLine, type TaskContext, taskHref } from '../subjects.ts';
import { Refused, defineChannel, oneLine, readReply } from './channel.ts';

const EMOJI: Readonly<Record<string, string>> = {
  pending: ':hourglass:',
  running: ':hammer_and_wrench:',
  completed: ':heavy_check_mark:',
  failed: ':x:',
  exception: ':heavy_exclamation_mark:',
};

const RESULT_EMOJI = { completed: ':heavy_check_mark:', failed: ':x:', incomplete: ':heavy_exclamation_mark:' } as const;

/** Not this message's fault: it may pass later. */
const PASSING =
  /^(ratelimited|rate_limited|internal_error|fatal_error|service_unavailable|request_timeout|team_added_to_org|invalid_auth|not_authed|account_inactive|token_revoked|token_expired|missing_scope|no_permission)$/;

/** Slack's own marks (https://api.slack.com/reference/surfaces/formatting#escaping). */
export const escapeSlack = (value: string): string => value.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;');
export const slackLink = (href: string, label: string): string => `<${href}|${escapeSlack(oneLine(label)).replaceAll('|', '¦')}>`;

const checkList = (value: unknown): unknown[] | undefined => (Array.isArray(value) ? value : undefined);

const taskLine = ({ status, task, href }: TaskContext): string =>
  `${EMOJI[status.state] ?? ':question:'} *${slackLink(href, task.metadata.name)}* transitioned to _${status.state}_`;

export const slackChannel = defineChannel({
  name: 'slack',
  types: ['slack-channel'],
  settings: {
    token: secret(text('SLACK_ACCESS_TOKEN', 'the token of the Slack bot; absent: nothing is sent to Slack', { fallback: undefined })),
    apiUrl: text('SLACK_API_URL', "base URL of Slack's API", { fallback: 'https://slack.com/api/' }),
  },
  checkAddress: address => (address === '' ? 'the channel id is empty' : undefined),
  identity: (address, { text: words, blocks, attachments }: SlackMessage) => ['slack-channel', address, words, blocks, attachments],
  subject: ({ text: words }) => oneLine(words).slice(0, 200),

  aboutTask: async (context, address) => {
    const { custom, groupHref } = context;
    const words = taskLine(context);
    return {
      channelId: address,
      text: await customText(context, custom['slackText'], words),
      blocks: await customValue(
        context,
        custom['slackBlocks'],
        [
          { type: 'section', text: { type: 'mrkdwn', text: words } },
          { type: 'context', elements: [{ type: 'mrkdwn', text: `Part of ${slackLink(groupHref, 'task group')}` }] },
        ],
        checkList,
      ),
      attachments: await customValue<unknown[] | undefined>(context, custom['slackAttachments'], undefined, checkList),
      unfurlLinks: custom['slackUnfurlLinks'] === true,
      unfurlMedia: custom['slackUnfurlMedia'] === true,
    };
  },

  aboutGroup: ({ summary, href, rootUrl }, address) => {
    const { result, name, failures, failed } = summary;
    const words = `${RESULT_EMOJI[result]} Task group *${slackLink(href, name)}* has ended: _${result}_ (${countsLine(summary)})`;
    const lines = failures.map(task => `• ${slackLink(taskHref(rootUrl, task.taskId), task.name)}: ${task.reason ?? task.state}`);
    if (failed > failures.length) {
      lines.push(`• and ${failed - failures.length} more`);
    }
    return {
      channelId: address,
      text: words,
      blocks: [words, ...(lines.length > 0 ? [lines.join('\n')] : [])].map(text => ({
        type: 'section',
        text: { type: 'mrkdwn', text: text.slice(0, 3_000) },
      })),
      unfurlLinks: false,
      unfurlMedia: false,
    };
  },

  open: ({ log }, { token, apiUrl }) =>
    token === undefined
      ? undefined
      : {
          send: async ({ address, message }, signal) => {
            const { text: words, blocks, attachments, unfurlLinks, unfurlMedia } = message;
            const response = await fetch(`${apiUrl.replace(/\/*$/, '/')}chat.postMessage`, {
              method: 'POST',
              headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json; charset=utf-8' },
              body: JSON.stringify({
                channel: address,
                text: words,
                blocks,
                attachments,
                unfurl_links: unfurlLinks,
                unfurl_media: unfurlMedia,
              }),
              redirect: 'error',
              signal,
            });
            const reply = await readReply(response);
            if (reply['ok'] !== true) {
              const error = typeof reply['error'] === 'string' ? reply['error'] : `status ${response.status}`;
              const problem = `Slack refused it: ${oneLine(error).slice(0, 200)}`;
              throw reply['ok'] === false && response.status < 429 && !PASSING.test(error) ? new Refused(problem) : new Error(problem);
            }
            log.info({ channelId: address }, 'slack');
          },
        },
});
