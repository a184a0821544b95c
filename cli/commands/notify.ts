/** `notify …`: sends messages, keeps the denylist, and tells what became of messages. */
import { Command, InvalidArgumentError } from 'commander';
import { notifyApi } from '@tscluster/api/notify/api.ts';
import { NOTIFICATION_TYPES, type Delivery } from '@tscluster/api/notify/deliveries.ts';
import { DENIABLE_TYPES, type NotificationAddress } from '@tscluster/api/notify/denylist.ts';
import { leaf, parseId, parseJson } from '../command.ts';
import { connect, note, print, printJson, type Context } from '../context.ts';
import { pagesOf } from '../pages.ts';
import { Problem } from '../problem.ts';
import { plain, renderTable } from '../render/table.ts';

const clientOf = (context: Context) => connect(context).client(notifyApi);

interface Json {
  readonly json?: boolean;
}

/** The text of a message: the argument, or standard input where there is none or it is `-`. */
const textOf = async (context: Context, given: string | undefined): Promise<string> => {
  const text = (given === undefined || given === '-' ? await context.readInput() : given).trimEnd();
  if (text === '') {
    throw new Problem('The message is empty.');
  }
  return text;
};

const told = (context: Context, options: Json, to: string): Promise<void> =>
  options.json ? printJson(context, { to }) : note(context, `Taken for ${to}. \`taskcluster notify deliveries\` tells what becomes of it.`);

const TEXT = 'the text; default, or -: standard input';

const emailCommand = (context: Context): Command =>
  leaf('email', 'send an email')
    .argument('<address>', 'who gets it')
    .argument('<subject>', 'the subject')
    .argument('[content]', 'the text, in Markdown; default, or -: standard input')
    .option('--reply-to <address>', 'who gets the answers')
    .option('--link <url>', 'a button that leads there')
    .option('--link-text <text>', 'what is written on it', 'Open')
    .action(
      async (
        address: string,
        subject: string,
        content: string | undefined,
        options: Json & { replyTo?: string; link?: string; linkText: string },
      ) => {
        await clientOf(context).email({
          address,
          subject,
          content: await textOf(context, content),
          replyTo: options.replyTo,
          link: options.link === undefined ? undefined : { text: options.linkText, href: options.link },
        });
        await told(context, options, address);
      },
    );

const pulseCommand = (context: Context): Command =>
  leaf('pulse', 'publish a message on the bus')
    .argument('<routingKey>', 'the topic')
    .argument('[message]', 'a JSON object; default, or -: standard input')
    .action(async (routingKey: string, message: string | undefined, options: Json) => {
      const value = parseJson(await textOf(context, message), 'The message');
      if (typeof value !== 'object' || value === null || Array.isArray(value)) {
        throw new Problem('The message is JSON, but not an object.');
      }
      await clientOf(context).pulse({ routingKey, message: value as Record<string, unknown> });
      await told(context, options, routingKey);
    });

const matrixCommand = (context: Context): Command =>
  leaf('matrix', 'post a message to a Matrix room')
    .argument('<roomId>', 'the room, such as !abc:example.org')
    .argument('[text]', TEXT)
    .action(async (roomId: string, text: string | undefined, options: Json) => {
      await clientOf(context).matrix({ roomId, body: await textOf(context, text) });
      await told(context, options, roomId);
    });

const slackCommand = (context: Context): Command =>
  leaf('slack', 'post a message to a Slack channel')
    .argument('<channelId>', 'the id of the channel, such as C0123ABC')
    .argument('[text]', TEXT)
    .action(async (channelId: string, text: string | undefined, options: Json) => {
      await clientOf(context).slack({ channelId, text: await textOf(context, text) });
      await told(context, options, channelId);
    });

const ircCommand = (context: Context): Command =>
  leaf('irc', 'post a message to an IRC channel or a person')
    .argument('<target>', 'a channel such as #builds, or a nick')
    .argument('[text]', TEXT)
    .action(async (target: string, text: string | undefined, options: Json) => {
      const message = await textOf(context, text);
      await clientOf(context).irc(/^[#&+!]/.test(target) ? { channel: target, message } : { user: target, message });
      await told(context, options, target);
    });

const parseDeniable = (text: string): NotificationAddress['notificationType'] => {
  const type = DENIABLE_TYPES.find(each => each === text);
  if (type === undefined) {
    throw new InvalidArgumentError(`It must be one of ${DENIABLE_TYPES.join(', ')}.`);
  }
  return type;
};

const denylistCommand = (context: Context): Command => {
  const change = (name: string, description: string, doIt: (address: NotificationAddress) => Promise<unknown>, done: string): Command =>
    leaf(name, description)
      .argument('<type>', DENIABLE_TYPES.join(', '), parseDeniable)
      .argument('<address>', 'exactly as it stands in requests and routes')
      .action(async (notificationType: NotificationAddress['notificationType'], notificationAddress: string, options: Json) => {
        const address = { notificationType, notificationAddress };
        await doIt(address);
        await (options.json ? printJson(context, address) : note(context, `${notificationType} ${notificationAddress} ${done}.`));
      });
  const list = leaf('list', 'list where nothing is sent to').action(async (options: Json) => {
    const found: NotificationAddress[] = [];
    const notify = clientOf(context);
    for await (const page of pagesOf(query => notify.listDenylist(query))) {
      found.push(...page.addresses);
    }
    if (options.json) {
      await printJson(context, found);
    } else if (found.length > 0) {
      await print(context, renderTable(found.map(each => [each.notificationType, plain(each.notificationAddress)])).join('\n'));
    }
  });
  return new Command('denylist')
    .description('say where nothing is sent to')
    .addCommand(
      change('add', 'send nothing to an address any more', each => clientOf(context).addDenylistAddress(each), 'gets nothing any more'),
    )
    .addCommand(change('rm', 'send to an address again', each => clientOf(context).deleteDenylistAddress(each), 'is not denied'))
    .addCommand(list);
};

const row = (each: Delivery): string[] => [
  each.created,
  each.state,
  `${each.notificationType} ${plain(each.notificationAddress)}`,
  plain(each.subject ?? ''),
  plain(each.reason ?? ''),
];

const deliveriesCommand = (context: Context): Command =>
  leaf('deliveries', 'tell what became of messages, the newest first')
    .option('-t, --task <taskId>', 'because of the routes of a task', parseId)
    .option('-g, --group <taskGroupId>', 'because of the routes of all tasks of a group, and about the group', parseId)
    .option('-a, --address <type:address>', `to an address; the type is one of ${NOTIFICATION_TYPES.join(', ')}`)
    .action(async (options: Json & { task?: string; group?: string; address?: string }) => {
      const { task, group, address } = options;
      if ([task, group, address].filter(each => each !== undefined).length !== 1) {
        throw new Problem('Say which: --task TASK_ID, --group TASK_GROUP_ID, or --address TYPE:ADDRESS.');
      }
      const [, notificationType = '', notificationAddress = ''] = /^([^:]*):(.*)$/s.exec(address ?? ':') ?? [];
      if (address !== undefined && (notificationAddress === '' || !(NOTIFICATION_TYPES as readonly string[]).includes(notificationType))) {
        throw new Problem(`--address ${address} is not TYPE:ADDRESS, such as email:dev@example.com.`);
      }
      const notify = clientOf(context);
      const found: Delivery[] = [];
      for await (const page of pagesOf(query =>
        task !== undefined
          ? notify.listTaskDeliveries({ taskId: task }, query)
          : group !== undefined
            ? notify.listTaskGroupDeliveries({ taskGroupId: group }, query)
            : notify.listAddressDeliveries({ notificationType, notificationAddress }, query),
      )) {
        found.push(...page.deliveries);
      }
      if (options.json) {
        await printJson(context, found);
      } else if (found.length > 0) {
        await print(context, renderTable(found.map(row)).join('\n'));
      } else {
        await note(context, 'There is no record of a message.');
      }
    });

export const notifyCommand = (context: Context): Command =>
  new Command('notify')
    .description('send messages, and tell what became of them')
    .addCommand(emailCommand(context))
    .addCommand(pulseCommand(context))
    .addCommand(matrixCommand(context))
    .addCommand(slackCommand(context))
    .addCommand(ircCommand(context))
    .addCommand(denylistCommand(context))
    .addCommand(deliveriesCommand(context));
