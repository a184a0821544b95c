/** The object service: hands out places to put bytes and to get them from. An object never changes once it is finished. */
import { defineApi, methods } from '../define.ts';
import {
  dateTime,
  definitionOf,
  definitions,
  integer,
  map,
  object,
  oneOf,
  optional,
  raw,
  schema,
  string,
  uri,
  type Schema,
  type TypeOf,
} from '../schema.ts';
import { heartbeatMethods, pingMethods } from '../operational.ts';
import { param, projectId, slugid } from '../types.ts';

// ---- hashes ----

/** Algorithms that are not known are stored and given back like the others. */
export type Hashes = { sha256?: string | undefined; sha512?: string | undefined } & Record<string, unknown>;

const known = (name: 'sha256' | 'sha512') => optional(raw<string>({ $ref: `#/definitions/upload/properties/${name}` }));
export const hashes = definitions(
  'object',
  'hashes',
  { title: 'Hashes', description: 'Digests of an object, by algorithm, in lower-case hexadecimal.' },
  {
    upload: object(
      {
        sha256: optional(string({ pattern: '^[a-z0-9]{64}$', description: 'SHA-256 of the bytes.' })),
        sha512: optional(string({ pattern: '^[a-z0-9]{128}$', description: 'SHA-512 of the bytes.' })),
      },
      { open: true, description: 'What the uploader says of the data. A hash cannot be changed once it was given.' },
    ) as Schema<Hashes>,
    download: object(
      { sha256: known('sha256'), sha512: known('sha512') },
      { open: true, description: 'What the downloader has to check. At least one must be known to it.' },
    ) as Schema<Hashes>,
  },
);

// ---- methods to upload and to download ----

const yes = (description: string) => raw<true>({ type: 'boolean', const: true, description });

export const uploadMethodDataInline = definitions(
  'object',
  'upload-method-data-inline',
  { title: 'Upload Method: Data Inline', description: 'For small objects: the data is part of the request.' },
  {
    request: object({
      contentType: string({ description: 'MIME type.' }),
      objectData: string({ maxLength: 10_926, description: 'The bytes in base64, at most 8 KiB of them.' }),
    }),
    response: yes('The data is stored; nothing is left to be sent.'),
  },
);

export const uploadMethodPutUrl = definitions(
  'object',
  'upload-method-put-url',
  { title: 'Upload Method: PUT to a URL', description: 'The data is sent with one PUT request to a signed URL.' },
  {
    request: object({ contentType: string({ description: 'MIME type.' }), contentLength: integer({ description: 'Size in bytes.' }) }),
    response: object({
      url: uri({ description: 'Send the bytes here.' }),
      expires: dateTime({ description: 'Until when. Call `createUpload` again for another URL.' }),
      headers: map(string(), { description: 'Headers of the request, all of them, exactly so.' }),
    }),
  },
);

export const downloadMethodSimple = definitions(
  'object',
  'download-method-simple',
  { title: 'Download Method: Simple', description: 'A URL that any HTTP client can get, without any check of the data.' },
  {
    request: yes('Accept this method.'),
    response: object({ method: raw<'simple'>({ type: 'string', const: 'simple' }), url: uri({ description: 'Get it from here.' }) }),
  },
);

export const downloadMethodGetUrl = definitions(
  'object',
  'download-method-geturl',
  { title: 'Download Method: GET a URL', description: 'A signed URL, with hashes to check the data by.' },
  {
    request: yes('Accept this method.'),
    response: object({
      method: raw<'getUrl'>({ type: 'string', const: 'getUrl' }),
      url: uri({ description: 'Get it from here. The answer may be gzip-encoded.' }),
      expires: dateTime({ description: 'Until when. Call `startDownload` again for another URL.' }),
      hashes: definitionOf(hashes, 'download'),
    }),
  },
);

// ---- requests and answers ----

const project = projectId({ description: 'The project for which the object is stored.' });
const uploadId = slugid({ description: 'The upload, chosen by the caller. Keep it secret: it is needed to go on with the upload.' });
const expires = dateTime({ description: 'When the object is deleted.' });

export const createUploadRequest = schema(
  'object',
  'create-upload-request',
  { title: 'Create Upload Request' },
  object({
    projectId: project,
    uploadId,
    expires,
    hashes: optional(definitionOf(hashes, 'upload')),
    proposedUploadMethods: object(
      {
        dataInline: optional(definitionOf(uploadMethodDataInline, 'request')),
        putUrl: optional(definitionOf(uploadMethodPutUrl, 'request')),
      },
      { description: 'The methods the caller is able to use. With none, the upload is only reserved.' },
    ),
  }),
);

export const createUploadResponse = schema(
  'object',
  'create-upload-response',
  { title: 'Create Upload Response' },
  object({
    projectId: project,
    uploadId,
    expires,
    uploadMethod: object(
      {
        dataInline: optional(definitionOf(uploadMethodDataInline, 'response')),
        putUrl: optional(definitionOf(uploadMethodPutUrl, 'response')),
      },
      { minProperties: 0, maxProperties: 1, description: 'The method to use. Empty when none of the proposed ones is possible.' },
    ),
  }),
);

export const finishUploadRequest = schema(
  'object',
  'finish-upload-request',
  { title: 'Finish Upload Request' },
  object({ projectId: project, uploadId, hashes: optional(definitionOf(hashes, 'upload')) }),
);

export const downloadObjectRequest = schema(
  'object',
  'download-object-request',
  { title: 'Download Object Request' },
  object({
    acceptDownloadMethods: object(
      { getUrl: optional(definitionOf(downloadMethodGetUrl, 'request')), simple: optional(definitionOf(downloadMethodSimple, 'request')) },
      { description: 'The methods the caller is able to use.' },
    ),
  }),
);

export const downloadObjectResponse = schema(
  'object',
  'download-object-response',
  { title: 'Download Object Response' },
  oneOf([definitionOf(downloadMethodSimple, 'response'), definitionOf(downloadMethodGetUrl, 'response')]),
);

export const getObjectResponse = schema(
  'object',
  'get-object-response',
  { title: 'Get Object Response' },
  object({ projectId: project, expires, hashes: definitionOf(hashes, 'download') }),
);
export type ObjectInfo = TypeOf<typeof getObjectResponse>;

// ---- methods ----

const upload = { category: 'Upload', stability: 'stable', params: { name: param.printable } } as const;
const download = { category: 'Download', stability: 'stable', params: { name: param.printable }, splat: ['name'] } as const;

const objectMethods = methods({
  createUpload: {
    ...upload,
    method: 'put',
    route: '/upload/<name>',
    title: 'Begin or Continue an Upload',
    description: [
      'Begins an upload, or goes on with one. The answer names one of the proposed methods and what it needs. When the data is stored, call `finishUpload`; an upload that is not finished within a day is dropped.',
      '',
      'Until then the call may be repeated with the same `uploadId`, project and expiry, to get another URL or another method. Refused as `RequestConflict` when the name is taken, and as `NoMatchingBackend` when there is no place for such an object.',
      '',
      'The name is one path segment: its slashes have to be encoded as `%2F`.',
    ].join('\n'),
    scopes: 'object:upload:<projectId>:<name>',
    input: createUploadRequest,
    output: createUploadResponse,
  },
  finishUpload: {
    ...upload,
    method: 'post',
    route: '/finish-upload/<name>',
    title: 'Finish an Upload',
    description:
      'Ends an upload: from now on the object can be downloaded and not be changed. Give the hashes of the data here, if not before: downloaders want at least one. May be repeated. The name is one path segment.',
    scopes: 'object:upload:<projectId>:<name>',
    input: finishUploadRequest,
    bodyWithoutSchema: true,
  },
  startDownload: {
    ...download,
    method: 'put',
    route: '/start-download/<name>',
    title: 'Start a Download',
    description:
      'Tells a program how to get an object, by the best of the methods it accepts. `getUrl` comes with hashes, which have to be checked. Refused as `NoMatchingMethod` when none of the methods is possible.',
    scopes: 'object:download:<name>',
    input: downloadObjectRequest,
    output: downloadObjectResponse,
  },
  object: {
    ...download,
    category: 'Objects',
    method: 'get',
    route: '/metadata/<name>',
    title: 'About an Object',
    description: 'Project, expiry and hashes of an object.',
    scopes: 'object:download:<name>',
    output: getObjectResponse,
  },
  download: {
    ...download,
    method: 'get',
    route: '/download/<name>',
    title: 'Download an Object',
    description:
      'Answers with a redirect to the data, so that a browser or `curl -L` simply gets it. Nothing is checked; programs should use `startDownload`.',
    scopes: 'object:download:<name>',
    bodyWithoutSchema: true,
  },
});

export const objectApi = defineApi({
  service: 'object',
  version: 'v1',
  title: 'Object Service',
  description:
    'Stores objects for other services and for people: named, belonging to a project, never changing once finished, until they expire. The bytes go to and come from a storage backend directly.',
  errorCodes: { NoMatchingMethod: 406, NoMatchingBackend: 400 },
  methods: { ...pingMethods, ...objectMethods, ...heartbeatMethods },
  schemas: [hashes, uploadMethodDataInline, uploadMethodPutUrl, downloadMethodSimple, downloadMethodGetUrl],
});
