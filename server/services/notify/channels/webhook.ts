/**
 * Webhooks: a signed JSON document to one of the URLs that the operator has named. Routes and calls give the name only, because task definitions are
 * public. How to check the signature is told in `docs/users/notifications.md`.
 */
import crypto from 'node:crypto';
import type { NotificationType } from '@tscluster/api/notify/deliveries.ts';
import { jsonSetting, secret } from '../../../platform/config.ts';
import { guardedRequest, PrivateAddress } from '../../../platform/guarded-request.ts';
import { Refused, defineChannel } from './channel.ts';

export interface WebhookTarget {
  readonly url: string;
  /** Each signs; two while one replaces the other. */
  readonly secrets: readonly string[];
  /** Whether the URL may lead into the installation's own network. */
  readonly allowPrivate: boolean;
}

export interface Webhook {
  readonly event: 'message' | 'task' | 'task-group';
  readonly payload: object;
}

const NAME = /^[a-zA-Z0-9_-]{1,64}$/;
const MIN_SECRET = 16;

const checkTarget = (name: string, value: unknown): WebhookTarget => {
  const {
    url,
    secret: one,
    allowPrivate = false,
    ...others
  } = (typeof value === 'object' && value !== null ? value : {}) as Record<string, unknown>;
  const secrets = Array.isArray(one) ? (one as unknown[]) : [one];
  if (!NAME.test(name)) {
    throw new Error(`names a webhook ${JSON.stringify(name)}: names have letters, digits, - and _`);
  }
  if (typeof url !== 'string' || !URL.canParse(url) || !['http:', 'https:'].includes(new URL(url).protocol)) {
    throw new Error(`must give webhook ${name} a url that begins with http:// or https://`);
  }
  if (secrets.length === 0 || !secrets.every(each => typeof each === 'string' && each.length >= MIN_SECRET)) {
    throw new Error(`must give webhook ${name} a secret of at least ${MIN_SECRET} characters, or a list of such`);
  }
  if (typeof allowPrivate !== 'boolean' || Object.keys(others).length > 0) {
    throw new Error(`must give webhook ${name} nothing but url, secret and, if wanted, allowPrivate: true`);
  }
  return { url, secrets: secrets as string[], allowPrivate };
};

const checkTargets = (value: unknown): ReadonlyMap<string, WebhookTarget> => {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new TypeError('must be a JSON object from name to {url, secret}');
  }
  return new Map(Object.entries(value).map(([name, target]) => [name, checkTarget(name, target)]));
};

/** The header by which a receiver knows that a document is ours and fresh: `t=<seconds>,v1=<hex HMAC-SHA256 of "<seconds>.<body>">`, a `v1` per secret. */
export const signWebhook = (secrets: readonly string[], seconds: number, body: string): string =>
  [`t=${seconds}`, ...secrets.map(key => `v1=${crypto.createHmac('sha256', key).update(`${seconds}.${body}`).digest('hex')}`)].join(',');

const isPassing = (status: number): boolean => status >= 500 || status === 408 || status === 425 || status === 429;

export const webhookChannel = defineChannel({
  name: 'webhook',
  types: ['webhook'] satisfies NotificationType[],
  settings: {
    targets: secret(
      jsonSetting<ReadonlyMap<string, WebhookTarget>>(
        'NOTIFY_WEBHOOKS',
        'destinations of webhooks, a JSON object: {"NAME": {"url": "https://…", "secret": "at least 16 characters"}}',
        { fallback: new Map() },
        checkTargets,
      ),
    ),
  },
  checkAddress: address => (NAME.test(address) ? undefined : `${JSON.stringify(address)} is not the name of a webhook`),
  identity: (address, { event, payload }: Webhook) => [address, event, payload],
  subject: ({ event }) => `webhook: ${event}`,
  aboutTask: ({ status, task, href }) => {
    const { metadata, tags } = task;
    return { event: 'task' as const, payload: { status, task: { metadata, tags }, url: href } };
  },
  aboutGroup: ({ summary, href }) => ({ event: 'task-group' as const, payload: { ...summary, url: href } }),

  open: ({ clock, log, rootUrl }, { targets }) => ({
    send: async ({ deliveryId, address, message }, signal) => {
      const target = targets.get(address);
      if (!target) {
        throw new Refused(`The operator has not configured a webhook of the name ${address}.`);
      }
      const body = JSON.stringify({ deliveryId, event: message.event, rootUrl, payload: message.payload });
      const status = await guardedRequest({
        url: target.url,
        method: 'POST',
        headers: {
          'content-type': 'application/json; charset=utf-8',
          'user-agent': 'Taskcluster',
          'x-taskcluster-delivery': deliveryId,
          'x-taskcluster-event': message.event,
          'x-taskcluster-signature': signWebhook(target.secrets, Math.floor(clock.nowMs() / 1000), body),
        },
        body,
        allowPrivate: target.allowPrivate,
        signal,
      }).catch((error: unknown) => {
        throw error instanceof PrivateAddress
          ? new Refused(`The webhook ${address} leads into a private network; the operator has to allow that (allowPrivate).`)
          : error;
      });
      if (status < 200 || status >= 300) {
        const problem = `The webhook ${address} answers ${status}.`;
        throw isPassing(status) ? new Error(problem) : new Refused(problem);
      }
      log.info({ webhook: address }, 'webhook');
    },
  }),
});
