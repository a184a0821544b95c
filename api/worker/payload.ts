/**
 * What a task asks of a worker on a POSIX machine that does not separate users: the payload of generic-worker, unchanged, so that existing task
 * definitions run. It comes in two shapes: commands for the machine itself, and the older form around a container image.
 *
 * Defaults are documentation here: they stand inside alternatives, where validators do not fill them in. Whoever reads a payload applies them.
 */
import {
  array,
  boolean,
  dateTime,
  integer,
  map,
  object,
  oneOf,
  optional,
  publish,
  raw,
  set,
  string,
  stringEnum,
  uri,
  word,
  type Schema,
  type TypeOf,
} from '../schema.ts';
import { slugid } from '../types.ts';

const SHA256_PATTERN = '^[a-f0-9]{64}$';
const ARCHIVE_FORMATS = [
  '7z',
  'rar',
  'tar',
  'tar.br',
  'tar.bz2',
  'tar.gz',
  'tar.lz',
  'tar.lz4',
  'tar.mz',
  'tar.sz',
  'tar.xz',
  'tar.zst',
  'tar.zz',
  'zip',
] as const;
const COMPRESSION_FORMATS = ['br', 'bz2', 'gz', 'lz', 'lz4', 'mz', 'sz', 'xz', 'zst', 'zz'] as const;

// ---- parts that several places refer to ----

const sha256 = optional(
  string({ pattern: SHA256_PATTERN, description: 'The content must have this SHA-256, or the task ends as `malformed-payload`.' }),
);
const artifactName = string({ maxLength: 1024, description: 'Name of the artifact.' });

const content = oneOf(
  [
    object(
      { taskId: slugid({ description: 'The task that made it; name it in `dependencies` too.' }), artifact: artifactName, sha256 },
      { title: 'Artifact Content' },
    ),
    object(
      { namespace: string({ maxLength: 255, description: 'Where the index finds the task that made it.' }), artifact: artifactName },
      { title: 'Indexed Content' },
    ),
    object({ url: uri({ description: 'Where to download it from.' }), sha256 }, { title: 'URL Content' }),
    object({ raw: string({ maxLength: 65_536, description: 'The text itself.' }) }, { title: 'Raw Content' }),
    object(
      { base64: string({ maxLength: 65_536, pattern: '^[A-Za-z0-9/+]+[=]{0,2}$', description: 'The bytes in base64.' }) },
      { title: 'Base64 Content' },
    ),
  ],
  { title: 'Content', description: 'Where the bytes come from.' },
);
export type MountContent = TypeOf<typeof content>;

const here = <T>(name: string) => raw<T>({ $ref: `#/definitions/${name}` });
const contentHere = here<MountContent>('content');
const archiveFormat = stringEnum(ARCHIVE_FORMATS, { description: 'The archive format of the content.' });
const directory = string({ description: 'Where to put it, relative to the folder of the task.' });

const fileMount = object(
  {
    file: string({ description: 'Where to put it, relative to the folder of the task.' }),
    content: contentHere,
    format: optional(stringEnum(COMPRESSION_FORMATS, { description: 'The content is compressed so, and decompressed first.' })),
  },
  { title: 'File', description: 'A file that is there when the commands start.' },
);
const writableDirectoryCache = object(
  {
    directory,
    cacheName: string({ description: 'Which cache. Using it needs the scope `generic-worker:cache:<cacheName>`.' }),
    content: optional(contentHere),
    format: optional(archiveFormat),
  },
  {
    title: 'Writable Directory Cache',
    description: 'A folder that is kept for later tasks on the same worker. A new one starts with the content, if any is given.',
    dependencies: { content: ['format'], format: ['content'] },
  },
);
const readOnlyDirectory = object(
  { directory, content: contentHere, format: archiveFormat },
  { title: 'Read Only Directory', description: 'An archive, unpacked before the commands start. Changes to it are lost.' },
);
export type FileMount = TypeOf<typeof fileMount>;
export type WritableDirectoryCache = TypeOf<typeof writableDirectoryCache>;
export type ReadOnlyDirectory = TypeOf<typeof readOnlyDirectory>;
export type Mount = FileMount | WritableDirectoryCache | ReadOnlyDirectory;

const parts = {
  content,
  fileMount,
  writableDirectoryCache,
  readOnlyDirectory,
  mount: raw<Mount>({
    title: 'Mount',
    oneOf: [
      { $ref: '#/definitions/fileMount' },
      { $ref: '#/definitions/writableDirectoryCache' },
      { $ref: '#/definitions/readOnlyDirectory' },
    ],
  }),
  artifact: object(
    {
      type: stringEnum(['file', 'directory', 'volume'], { description: 'What is at `path`.' }),
      path: string({ description: 'Where it is in the container.' }),
      expires: optional(dateTime({ description: 'When it is deleted; with the task if not given.' })),
    },
    { title: 'Container Artifact' },
  ),
};
const partOf = <K extends keyof typeof parts>(name: K): Schema<TypeOf<(typeof parts)[K]>> => here(name);

// ---- commands on the machine itself ----

const exitStatuses = (description: string) => optional(set(integer({ minimum: 0 }), { description }));

const commandPayload = object(
  {
    command: array(array(string(), { minItems: 1, uniqueItems: false }), {
      minItems: 1,
      uniqueItems: false,
      description: 'Commands, one after another; each is a list of program and arguments. After the first that fails the rest is skipped.',
    }),
    env: optional(map(string(), { description: 'Environment variables of the commands.' })),
    maxRunTime: integer({
      minimum: 1,
      multipleOf: 1,
      description: 'After so many seconds the commands are killed and the task has failed.',
    }),
    artifacts: optional(
      set(
        object({
          type: stringEnum(['file', 'directory'], { description: 'A directory is uploaded file by file.' }),
          path: string({ description: 'Where it is, relative to the folder of the task.' }),
          name: optional(string({ description: 'Name of the artifact; the path if not given.' })),
          expires: optional(dateTime({ description: 'When it is deleted; with the task if not given.' })),
          optional: optional(boolean({ default: false, description: 'The task does not fail when it is missing.' })),
          contentType: optional(string({ description: 'MIME type; guessed from the name if not given.' })),
          contentEncoding: optional(
            stringEnum(['identity', 'gzip'], { description: 'How it is stored; chosen by kind of file if not given.' }),
          ),
        }),
        { description: 'What is kept when the commands are over, whether they succeeded or not.' },
      ),
    ),
    mounts: optional(
      array(partOf('mount'), { uniqueItems: false, description: 'Files and folders that are put in place before the commands start.' }),
    ),
    features: optional(
      object(
        {
          backingLog: optional(boolean({ default: true, description: 'Keep the log as an artifact.' })),
          liveLog: optional(boolean({ default: true, description: 'Make the log readable while the task runs.' })),
          taskclusterProxy: optional(
            boolean({
              description:
                'Offer the commands a proxy that signs requests with the scopes of the task; its URL is in `TASKCLUSTER_PROXY_URL`.',
            }),
          ),
          interactive: optional(boolean({ description: 'Allow those with the scope for it to open a shell beside the task.' })),
          loopbackAudio: optional(boolean({ description: 'A virtual sound device.' })),
          loopbackVideo: optional(boolean({ description: 'A virtual camera.' })),
          resourceMonitor: optional(boolean({ default: true, description: 'Record use of CPU and memory.' })),
        },
        { description: 'What the worker does besides running the commands.' },
      ),
    ),
    taskclusterProxyInterface: optional(
      stringEnum(['localhost', 'docker-bridge'], { default: 'localhost', description: 'Where the proxy listens.' }),
    ),
    logs: optional(
      object(
        {
          live: optional(
            string({ default: 'public/logs/live.log', description: 'Name of the log while the task runs, and of a link to it after.' }),
          ),
          backing: optional(string({ default: 'public/logs/live_backing.log', description: 'Name of the log that is kept.' })),
        },
        { description: 'Names of the log artifacts.' },
      ),
    ),
    onExitStatus: optional(
      object(
        {
          retry: optional(
            set(integer({ minimum: 1 }), {
              description: 'Exit statuses after which the task is tried again, as `intermittent-task`, while it has retries left.',
            }),
          ),
          purgeCaches: exitStatuses('Exit statuses after which the writable caches of the task are thrown away.'),
        },
        { description: 'Exit statuses that mean something special.' },
      ),
    ),
    osGroups: optional(set(string(), { description: 'Groups of the operating system that the commands are in. Each needs a scope.' })),
    supersederUrl: optional(string({ description: 'Not used any more.' })),
  },
  { title: 'Generic Worker Payload', description: 'Commands for the machine itself.' },
);

// ---- the older form, around a container image ----

const containerPayload = object(
  {
    image: oneOf([
      string({ title: 'Image Name', description: 'An image of a registry, with tag or digest.' }),
      object(
        { type: word('docker-image'), name: string({ description: 'An image of a registry, with tag or digest.' }) },
        { title: 'Named Image' },
      ),
      object(
        {
          type: word('indexed-image'),
          namespace: string({ description: 'Where the index finds the task that made it.' }),
          path: string({ description: 'Name of the artifact.' }),
        },
        { title: 'Indexed Image' },
      ),
      object(
        {
          type: word('task-image'),
          taskId: string({ description: 'The task that made it.' }),
          path: string({ description: 'Name of the artifact.' }),
        },
        { title: 'Task Image' },
      ),
    ]),
    command: optional(array(string(), { default: [], description: 'Program and arguments; those of the image if not given.' })),
    env: optional(map(string(), { description: 'Environment variables of the container.' })),
    maxRunTime: integer({
      minimum: 1,
      multipleOf: 1,
      description: 'After so many seconds the container is killed and the task has failed.',
    }),
    artifacts: optional(map(partOf('artifact'), { description: 'What is kept when the container has stopped, by name.' })),
    cache: optional(map(string(), { description: 'Folders that are kept for later tasks: where in the container, by name of the cache.' })),
    capabilities: optional(
      object(
        {
          devices: optional(
            object(
              {
                hostSharedMemory: optional(boolean({ description: 'Shared memory of the machine.' })),
                kvm: optional(boolean({ description: 'Virtual machines by KVM.' })),
                loopbackAudio: optional(boolean({ description: 'A virtual sound device.' })),
                loopbackVideo: optional(boolean({ description: 'A virtual camera.' })),
              },
              { description: 'Devices that the container sees.' },
            ),
          ),
          disableSeccomp: optional(boolean({ default: false, description: 'Allow all system calls.' })),
          privileged: optional(boolean({ default: false, description: 'Run the container as privileged.' })),
        },
        { description: 'What the container may do beyond the usual. Each needs a scope.' },
      ),
    ),
    features: optional(
      object(
        {
          allowPtrace: optional(boolean({ default: false, description: 'Allow debuggers in the container.' })),
          artifacts: optional(boolean({ default: true, description: 'Upload artifacts.' })),
          bulkLog: optional(boolean({ default: true, description: 'Keep the log as an artifact.' })),
          chainOfTrust: optional(boolean({ default: false, description: 'Sign a list of the artifacts.' })),
          interactive: optional(
            boolean({ default: false, description: 'Allow those with the scope for it to open a shell in the container.' }),
          ),
          localLiveLog: optional(boolean({ default: true, description: 'Make the log readable while the task runs.' })),
          taskclusterProxy: optional(
            boolean({ default: false, description: 'Offer a proxy that signs requests with the scopes of the task.' }),
          ),
        },
        { description: 'What the worker does besides running the container.' },
      ),
    ),
    log: optional(string({ default: 'public/logs/live.log', description: 'Name of the log artifact.' })),
    onExitStatus: optional(
      object(
        {
          retry: optional(
            array(integer(), { description: 'Exit statuses after which the task is tried again while it has retries left.' }),
          ),
          purgeCaches: optional(array(integer(), { description: 'Exit statuses after which the caches of the task are thrown away.' })),
        },
        { description: 'Exit statuses that mean something special.' },
      ),
    ),
    supersederUrl: optional(string({ description: 'Not used any more.' })),
  },
  { title: 'Docker Worker Payload', description: 'A container image and what to run in it.' },
);

/** Commands for the machine itself. */
export type CommandPayload = TypeOf<typeof commandPayload>;
/** The older form, around a container image. */
export type ContainerPayload = TypeOf<typeof containerPayload>;
export type GenericWorkerPayload = CommandPayload | ContainerPayload;
export type CommandArtifact = NonNullable<CommandPayload['artifacts']>[number];

/** The two are told apart by `image`, which only the container form has. */
export const isContainerPayload = (payload: GenericWorkerPayload): payload is ContainerPayload => 'image' in payload;

export const genericWorkerPayload = publish<GenericWorkerPayload, GenericWorkerPayload>(
  '/schemas/generic-worker/insecure_posix.json#',
  {
    title: 'Task Payload for POSIX without user separation',
    description: 'Commands to run on the machine itself, or a container to run on it.',
  },
  raw({ definitions: parts, oneOf: [commandPayload, containerPayload] }),
);
