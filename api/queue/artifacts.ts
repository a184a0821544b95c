/** Artifacts: what a run leaves behind. The queue knows where they are; the bytes are elsewhere. */
import { methods } from '../define.ts';
import {
  constant,
  dateTime,
  integer,
  object,
  oneOf,
  optional,
  ref,
  schema,
  set,
  string,
  stringEnum,
  uri,
  word,
  type TypeOf,
} from '../schema.ts';
import { PRINTABLE_PATTERN, continuationToken, paging, param, projectId, slugid } from '../types.ts';

export const STORAGE_TYPES = ['s3', 'object', 'reference', 'link', 'error'] as const;
export type StorageType = (typeof STORAGE_TYPES)[number];

export const objectCredentials = schema(
  'queue',
  'object-credentials',
  { title: 'Object Credentials', description: 'Temporary credentials for one object in the object service.' },
  object({
    clientId: string({ minLength: 1, description: 'Tells what the credentials are for.' }),
    accessToken: string({ minLength: 1, description: 'The secret.' }),
    certificate: string({ minLength: 1, description: 'The certificate as JSON text.' }),
  }),
);

const expires = dateTime({ description: 'When the artifact is deleted; not after the task expires.' });
const contentType = string({ maxLength: 255, description: 'MIME type, given to whoever downloads it.' });
const contentLength = optional(integer({ minimum: 0, description: 'Size in bytes, as stored.' }));

export const artifactResponse = schema(
  'queue',
  'artifact-response',
  { title: 'Artifact' },
  object({
    storageType: stringEnum(STORAGE_TYPES, { description: 'How it is stored.' }),
    name: string({ maxLength: 1024, description: 'Its name within the run.' }),
    expires,
    contentType,
    contentLength,
  }),
);
export type Artifact = TypeOf<typeof artifactResponse>;

export const listArtifactsResponse = schema(
  'queue',
  'list-artifacts-response',
  { title: 'List Artifacts Response' },
  object({ artifacts: set(ref(artifactResponse)), continuationToken: optional(continuationToken()) }),
);

export const postArtifactRequest = schema(
  'queue',
  'post-artifact-request',
  { title: 'Create Artifact Request', description: 'The kind of artifact decides what else is needed.' },
  oneOf([
    object(
      { storageType: word('s3'), expires, contentType, contentLength },
      { title: 'S3 Artifact Request', description: 'Bytes that are sent to the URL in the answer.' },
    ),
    object(
      { storageType: word('object'), expires, contentType, contentLength },
      {
        title: 'Object Artifact Request',
        description: 'Bytes that are given to the object service with the credentials in the answer; then call `finishArtifact`.',
      },
    ),
    object(
      { storageType: word('reference'), expires, url: uri({ description: 'Where the content is.' }), contentType },
      { title: 'Redirect Artifact Request', description: 'Content that is somewhere else.' },
    ),
    object(
      {
        storageType: word('link'),
        expires,
        artifact: string({ description: 'Name of the other artifact of the same run. It need not exist yet.' }),
        contentType: optional(contentType),
      },
      { title: 'Link Artifact Request', description: 'Another name for an artifact of the same run.' },
    ),
    object(
      {
        storageType: word('error'),
        expires,
        reason: stringEnum(
          ['file-missing-on-worker', 'invalid-resource-on-worker', 'too-large-file-on-worker', 'file-not-readable-on-worker'],
          {
            description: 'Why there is no content.',
          },
        ),
        message: string({ maxLength: 4096, description: 'The reason for people.' }),
      },
      { title: 'Error Artifact Request', description: 'Tells why an artifact that was promised is not there.' },
    ),
  ]),
);
export type CreateArtifactRequest = TypeOf<typeof postArtifactRequest>;

const objectName = string({ pattern: PRINTABLE_PATTERN, description: 'Name of the object in the object service.' });

export const postArtifactResponse = schema(
  'queue',
  'post-artifact-response',
  { title: 'Create Artifact Response' },
  oneOf([
    object({
      storageType: word('s3'),
      putUrl: uri({ description: 'Send the bytes here with PUT and the same content type.' }),
      expires: dateTime({ description: 'Until when `putUrl` works. Ask again for another.' }),
      contentType,
    }),
    object({
      storageType: word('object'),
      name: objectName,
      projectId: projectId({ description: 'The project for which the object is stored.' }),
      uploadId: slugid({ description: 'The upload, for the object service and for `finishArtifact`.' }),
      credentials: ref(objectCredentials),
      expires,
    }),
    object({ storageType: word('reference') }),
    object({ storageType: word('link') }),
    object({ storageType: word('error') }),
  ]),
);

export const finishArtifactRequest = schema(
  'queue',
  'finish-artifact-request',
  { title: 'Finish Artifact Request' },
  object({ uploadId: slugid({ description: 'The upload id from the answer of `createArtifact`.' }) }),
);

export const getArtifactResponse = schema(
  'queue',
  'get-artifact-response',
  { title: 'Get Artifact Response', description: 'Comes with a redirect to the same URL.' },
  object({ storageType: string({ description: 'How it is stored.' }), url: uri({ description: 'Where the content is.' }) }),
);

export const artifactContentResponse = schema(
  'queue',
  'artifact-content-response',
  { title: 'Artifact Content Response', description: 'How to get the content.' },
  oneOf([
    object({ storageType: constant('s3'), url: uri({ description: 'Download it from here.' }) }),
    object({ storageType: constant('object'), name: objectName, credentials: ref(objectCredentials) }),
    object({
      storageType: constant('reference'),
      url: uri({ description: 'Download it from here. Whoever made the task chose this URL.' }),
    }),
    object({ storageType: constant('error'), reason: string(), message: string() }),
  ]),
);

const common = { category: 'Artifacts', stability: 'stable' } as const;
const ofTask = { taskId: param.slugid } as const;
const ofRun = { ...ofTask, runId: param.runId } as const;
const inTask = { params: { ...ofTask, name: param.printable }, splat: ['name'] } as const;
const inRun = { params: { ...ofRun, name: param.printable }, splat: ['name'] } as const;
/** Every name met on the way: links are followed, and each target needs its scope. */
const readScopes = { AllOf: [{ for: 'name', in: 'names', each: 'queue:get-artifact:<name>' }] } as const;

const REDIRECT = [
  'Answers with a redirect to the content, so that a browser or `curl -L` simply gets it. Links are followed; the caller needs `queue:get-artifact:…` for each name on the way, which the role `anonymous` usually has for `public/…`.',
  '',
  'An artifact of type `error` gives status 424 with its `reason` and `message`. One that has expired gives `ResourceExpired`.',
].join('\n');
const CONTENT =
  'Tells a program how to get the content: a URL, or credentials for the object service, which also give the hashes to check it by. Links are followed; the caller needs `queue:get-artifact:…` for each name on the way.';

export const artifactMethods = methods({
  createArtifact: {
    ...common,
    ...inRun,
    method: 'post',
    route: '/task/<taskId>/runs/<runId>/artifacts/<name>',
    title: 'Create Artifact',
    description: [
      'Announces an artifact of a run that is running, or was given up less than 25 minutes ago. The answer says where the bytes go, if there are any.',
      '',
      'May be repeated, to get a fresh URL or credentials or to prolong `expires`. A reference can be given another URL, or become a link. Any other change is refused as `RequestConflict`.',
      '',
      'Names beginning with `public/` are readable for everybody in most deployments.',
    ].join('\n'),
    scopes: 'queue:create-artifact:<taskId>/<runId>',
    input: postArtifactRequest,
    output: postArtifactResponse,
  },
  finishArtifact: {
    ...common,
    ...inRun,
    method: 'put',
    route: '/task/<taskId>/runs/<runId>/artifacts/<name>',
    title: 'Finish Artifact',
    description:
      'Says that the bytes of an artifact of type `object` are with the object service and its upload is finished. Only now the artifact can be read. May be repeated.',
    scopes: 'queue:create-artifact:<taskId>/<runId>',
    input: finishArtifactRequest,
  },
  getArtifact: {
    ...common,
    ...inRun,
    method: 'get',
    route: '/task/<taskId>/runs/<runId>/artifacts/<name>',
    title: 'Artifact of a Run',
    description: REDIRECT,
    scopes: readScopes,
    output: getArtifactResponse,
  },
  getLatestArtifact: {
    ...common,
    ...inTask,
    method: 'get',
    route: '/task/<taskId>/artifacts/<name>',
    title: 'Artifact of the Last Run',
    description: `The artifact of the last run, whatever its state: right after a rerun there is none.\n\n${REDIRECT}`,
    scopes: readScopes,
    output: getArtifactResponse,
  },
  listArtifacts: {
    ...common,
    method: 'get',
    route: '/task/<taskId>/runs/<runId>/artifacts',
    params: ofRun,
    query: paging,
    title: 'List Artifacts of a Run',
    description: 'The artifacts of a run, ordered by name, those still being uploaded included. Paged.',
    scopes: 'queue:list-artifacts:<taskId>:<runId>',
    output: listArtifactsResponse,
  },
  listLatestArtifacts: {
    ...common,
    method: 'get',
    route: '/task/<taskId>/artifacts',
    params: ofTask,
    query: paging,
    title: 'List Artifacts of the Last Run',
    description: 'The artifacts of the last run, whatever its state, ordered by name. Paged.',
    scopes: 'queue:list-artifacts:<taskId>',
    output: listArtifactsResponse,
  },
  artifactInfo: {
    ...common,
    ...inRun,
    method: 'get',
    route: '/task/<taskId>/runs/<runId>/artifact-info/<name>',
    title: 'About an Artifact of a Run',
    description: 'Type, size and expiry of one artifact of a run, without its content. Links are not followed.',
    scopes: 'queue:list-artifacts:<taskId>:<runId>',
    output: artifactResponse,
  },
  latestArtifactInfo: {
    ...common,
    ...inTask,
    method: 'get',
    route: '/task/<taskId>/artifact-info/<name>',
    title: 'About an Artifact of the Last Run',
    description: 'Type, size and expiry of one artifact of the last run, without its content. Links are not followed.',
    scopes: 'queue:list-artifacts:<taskId>',
    output: artifactResponse,
  },
  artifact: {
    ...common,
    ...inRun,
    method: 'get',
    route: '/task/<taskId>/runs/<runId>/artifact-content/<name>',
    title: 'How to Get an Artifact of a Run',
    description: CONTENT,
    scopes: readScopes,
    output: artifactContentResponse,
  },
  latestArtifact: {
    ...common,
    ...inTask,
    method: 'get',
    route: '/task/<taskId>/artifact-content/<name>',
    title: 'How to Get an Artifact of the Last Run',
    description: `The artifact of the last run, whatever its state. ${CONTENT}`,
    scopes: readScopes,
    output: artifactContentResponse,
  },
});
