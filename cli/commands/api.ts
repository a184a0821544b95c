/**
 * `api <service> <method> ...`: any method of any service, as the installation describes it. The description is the installation's own
 * reference document, so that methods this program does not know can be called, too.
 */
import { writeFile } from 'node:fs/promises';
import { Command } from 'commander';
import { apis } from '@tscluster/api/all.ts';
import type { Api, HttpMethod } from '@tscluster/api/define.ts';
import type { BlobReply } from '@tscluster/client/client.ts';
import { parseJson } from '../command.ts';
import { connect, note, print, type Context, type Installation } from '../context.ts';
import { Problem } from '../problem.ts';

/** One method, as a caller on the command line needs to know it. */
export interface Described {
  readonly name: string;
  readonly method: HttpMethod;
  readonly route: string;
  readonly args: readonly string[];
  readonly optionalArgs: readonly string[];
  readonly query: readonly string[];
  readonly hasInput: boolean;
  readonly title: string;
  readonly description: string;
  readonly stability: string;
}

export interface DescribedApi {
  readonly service: string;
  readonly version: string;
  readonly methods: readonly Described[];
}

const argsOf = (route: string): string[] => [...route.matchAll(/<([^>]+)>/g)].map(match => match[1] ?? '');

const describeLocal = (api: Api): DescribedApi => ({
  service: api.service,
  version: api.version,
  methods: Object.entries(api.methods)
    .filter(([, method]) => method.published !== false)
    .map(([name, method]) => ({
      name,
      method: method.method,
      route: method.route,
      args: argsOf(method.route),
      optionalArgs: method.optional ?? [],
      query: Object.keys(method.query ?? {}),
      hasInput: method.input !== undefined,
      title: method.title,
      description: method.description,
      stability: method.stability,
    })),
});

interface Reference {
  readonly serviceName?: string;
  readonly apiVersion?: string;
  readonly entries: readonly {
    name: string;
    type?: string;
    method: HttpMethod;
    route: string;
    args: string[];
    query?: string[];
    input?: string;
    title: string;
    description: string;
    stability: string;
  }[];
}

const describeRemote = (reference: Reference): DescribedApi => ({
  service: reference.serviceName ?? '',
  version: reference.apiVersion ?? 'v1',
  methods: reference.entries
    .filter(entry => entry.type === undefined || entry.type === 'function')
    .map(entry => ({ ...entry, optionalArgs: [], query: entry.query ?? [], hasInput: entry.input !== undefined })),
});

/** `workerManager` and `worker-manager` are the same service. */
const serviceNameOf = (text: string): string => text.replace(/([a-z])([A-Z])/g, '$1-$2').toLowerCase();

const findApi = async (context: Context, text: string, installation: () => Installation): Promise<DescribedApi> => {
  const service = serviceNameOf(text);
  const local = apis.find(api => api.service === service);
  if (local) {
    return describeLocal(local);
  }
  const { rootUrl } = installation();
  const url = `${rootUrl}/references/${encodeURIComponent(service)}/v1/api.json`;
  const response = await context.fetch(url, { signal: context.signal }).catch((error: unknown) => {
    throw new Problem(
      `${rootUrl} does not answer (${url}).`,
      'Check TASKCLUSTER_ROOT_URL, and whether the installation is running.',
      error,
    );
  });
  if (!response.ok) {
    await response.body?.cancel();
    throw new Problem(
      `There is no service "${text}" at ${rootUrl} (${url}: ${response.status}).`,
      `Services known here: ${apis.map(api => api.service).join(', ')}.`,
    );
  }
  return describeRemote((await response.json()) as Reference);
};

const signatureOf = (described: Described): string =>
  [described.name, ...described.args.map(arg => (described.optionalArgs.includes(arg) ? `[${arg}]` : `<${arg}>`))].join(' ');

const helpFor = (api: DescribedApi, described: Described): string =>
  [
    `Usage: taskcluster api ${api.service} ${signatureOf(described)}${described.query.map(key => ` [--${key} VALUE]`).join('')}${described.hasInput ? ' < body.json' : ''}`,
    '',
    described.title,
    `Method:     ${described.method.toUpperCase()}`,
    `Path:       ${described.route}`,
    `Stability:  ${described.stability}`,
    `JSON Input: ${described.hasInput ? 'yes, from standard input' : 'no'}`,
    '',
    described.description.trim(),
  ].join('\n');

export interface ParsedArguments {
  readonly positional: readonly string[];
  readonly options: Readonly<Record<string, string>>;
  readonly help: boolean;
}

/** Splits arguments into positional ones and `--name value` or `--name=value`; `-o` is short for `--output`. */
export const parseArguments = (args: readonly string[]): ParsedArguments => {
  const positional: string[] = [];
  const options: Record<string, string> = {};
  let help = false;
  for (let at = 0; at < args.length; at += 1) {
    const word = args[at] ?? '';
    const match = /^--([A-Za-z][\w-]*)(?:=(.*))?$/s.exec(word === '-o' ? '--output' : word);
    if (word === '--') {
      positional.push(...args.slice(at + 1));
      break;
    }
    if (word === '--help' || word === '-h') {
      help = true;
    } else if (match?.[1]) {
      let value = match[2];
      if (value === undefined) {
        at += 1;
        value = args[at];
      }
      if (value === undefined) {
        throw new Problem(`--${match[1]} needs a value.`);
      }
      options[match[1]] = value;
    } else {
      positional.push(word);
    }
  }
  return { positional, options, help };
};

/** The client's declaration of one described method; its answer is taken as bytes, whatever it is. */
const declare = (api: DescribedApi, described: Described): Api => ({
  service: api.service,
  version: api.version as 'v1',
  title: '',
  description: '',
  methods: {
    [described.name]: {
      method: described.method,
      route: described.route,
      // whether the last part may be empty is the server's to say
      splat: described.args,
      optional: described.optionalArgs,
      title: '',
      description: '',
      category: '',
      stability: 'stable',
      ...(described.query.length > 0 ? { query: Object.fromEntries(described.query.map(key => [key, /./])) } : {}),
      ...(described.hasInput ? { input: {} } : {}),
      output: 'blob',
    },
  },
});

type Call = (...args: unknown[]) => Promise<BlobReply>;

const call = async (
  context: Context,
  installation: Installation,
  api: DescribedApi,
  described: Described,
  parsed: ParsedArguments,
): Promise<void> => {
  const { output, ...query } = parsed.options;
  const required = described.args.filter(arg => !described.optionalArgs.includes(arg));
  if (parsed.positional.length < required.length || parsed.positional.length > described.args.length) {
    throw new Problem(
      `${api.service}.${described.name} takes ${described.args.length === 0 ? 'no arguments' : `these arguments: ${described.args.join(', ')}`}; ${parsed.positional.length} given.`,
      `Usage: taskcluster api ${api.service} ${signatureOf(described)}`,
    );
  }
  const unknown = Object.keys(query).filter(key => !described.query.includes(key));
  if (unknown.length > 0) {
    throw new Problem(
      `${api.service}.${described.name} has no option --${unknown[0]}.`,
      described.query.length > 0 ? `It has: ${described.query.map(key => `--${key}`).join(', ')}.` : undefined,
    );
  }
  const params = Object.fromEntries(described.args.map((arg, index) => [arg, parsed.positional[index]]));
  let body: unknown;
  if (described.hasInput) {
    if (process.stdin.isTTY) {
      await note(context, 'Waiting for the JSON body on standard input (end it with Ctrl-D).');
    }
    body = parseJson(await context.readInput(), 'The body on standard input');
  }
  const client = installation.client(declare(api, described)) as unknown as Record<string, Call>;
  const args: unknown[] = [
    ...(described.args.length > 0 ? [params] : []),
    ...(described.hasInput ? [body] : []),
    ...(described.query.length > 0 ? [query] : []),
  ];
  const reply = await client[described.name]?.(...args);
  const bytes = reply?.stream
    ? new Uint8Array(await new Response(reply.stream as ReadableStream<Uint8Array<ArrayBuffer>>).arrayBuffer())
    : new TextEncoder().encode(reply?.body === undefined ? (reply?.location ?? '') : JSON.stringify(reply.body, null, 2));
  if (output !== undefined && output !== '-') {
    await writeFile(output, bytes);
    return;
  }
  await context.out.write(bytes);
  if (bytes.length > 0 && bytes.at(-1) !== 0x0a) {
    await context.out.write('\n');
  }
};

export const apiCommand = (context: Context): Command =>
  new Command('api')
    .description('call any method of any service')
    .argument('[service]', 'queue, auth, object, ...')
    .argument('[method]', 'as in the reference of the service')
    .argument(
      '[args...]',
      "the method's arguments in order, --NAME VALUE for its query, -o FILE for the answer; the body comes from standard input",
    )
    .helpOption(false)
    .allowUnknownOption()
    .action(async (service: string | undefined, methodName: string | undefined, rest: string[]) => {
      let connected: Installation | undefined;
      const installation = (): Installation => (connected ??= connect(context));
      const words = [service, methodName, ...rest].filter(word => word !== undefined && word !== '--help' && word !== '-h');
      const asksHelp = words.length < [service, methodName, ...rest].filter(word => word !== undefined).length;
      if (words.length === 0) {
        await print(
          context,
          [
            'Usage: taskcluster api <service> <method> [args...]',
            '',
            'Services:',
            ...apis.map(api => `  ${api.service.padEnd(16)} ${api.title}`),
          ].join('\n'),
        );
        return;
      }
      const api = await findApi(context, words[0] ?? '', installation);
      if (words.length === 1) {
        await print(
          context,
          [`Methods of ${api.service}:`, '', ...api.methods.map(described => `  ${signatureOf(described)}\n      ${described.title}`)].join(
            '\n',
          ),
        );
        return;
      }
      const described = api.methods.find(method => method.name === words[1]);
      if (!described) {
        throw new Problem(`The ${api.service} service has no method "${words[1]}".`, `\`taskcluster api ${api.service}\` lists them.`);
      }
      const parsed = parseArguments(rest.filter(word => word !== '--help' && word !== '-h'));
      if (asksHelp) {
        await print(context, helpFor(api, described));
        return;
      }
      await call(context, installation(), api, described, parsed);
    });
