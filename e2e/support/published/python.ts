/** The published Python client, by way of `python-client.py`: one process that makes one call after the other. */
import { type ChildProcess, spawn } from 'node:child_process';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { hasPythonPackage } from '../../../scripts/python-package.ts';
import { findProgram } from '../../../server/testing/programs.ts';
import type { ClientCredentials, ServiceClient, ServiceMethod } from '../official.ts';
import { type Clients, type Library, SERVICES, type Service } from './library.ts';

const CLASSES: Readonly<Record<Service, string>> = {
  auth: 'Auth',
  queue: 'Queue',
  object: 'Object',
  index: 'Index',
  purgeCache: 'PurgeCache',
  hooks: 'Hooks',
  secrets: 'Secrets',
  notify: 'Notify',
};

/** A Python that has the package: the one that CI has made, or that of the system. */
export const findPython = (): string | undefined =>
  [process.env['TASKCLUSTER_TEST_PYTHON'], findProgram('python3')].filter(python => python !== undefined).find(hasPythonPackage);

/** Where a client has who it is, for what is not one of its methods. */
const TARGET = Symbol('target');
const targetOf = (client: ServiceClient): object => (client as unknown as { [TARGET]: object })[TARGET];

type Entry = ServiceMethod['entryReference'];

interface Reply {
  readonly result?: unknown;
  readonly refusal?: { readonly statusCode: number; readonly code: string; readonly message: string };
  readonly problem?: string;
}

/** What the client raised about an answer, as its JavaScript sister throws it. */
class Refusal extends Error {
  readonly statusCode: number;
  readonly code: string;
  constructor({ statusCode, code, message }: NonNullable<Reply['refusal']>) {
    super(message);
    this.statusCode = statusCode;
    this.code = code;
  }
}

class Driver {
  readonly #child: ChildProcess;
  readonly #ended: Promise<void>;
  readonly #waiting: PromiseWithResolvers<Reply>[] = [];

  constructor(python: string) {
    const child = spawn(python, [path.join(import.meta.dirname, 'python-client.py')], { stdio: ['pipe', 'pipe', 'inherit'] });
    this.#child = child;
    createInterface({ input: child.stdout }).on('line', line => this.#waiting.shift()?.resolve(JSON.parse(line) as Reply));
    this.#ended = new Promise<void>(resolve => {
      child.once('close', status => {
        this.#waiting.splice(0).forEach(({ reject }) => reject(new Error(`The Python client ended with status ${String(status)}`)));
        resolve();
      });
    });
  }

  async ask(request: object): Promise<any> {
    const waiting = Promise.withResolvers<Reply>();
    this.#waiting.push(waiting);
    this.#child.stdin?.write(`${JSON.stringify(request)}\n`);
    const { result, refusal, problem } = await waiting.promise;
    if (refusal) {
      throw new Refusal(refusal);
    }
    if (problem !== undefined) {
      throw new Error(`${JSON.stringify(request)}: ${problem}`);
    }
    return result ?? undefined;
  }

  async close(): Promise<void> {
    this.#child.stdin?.end();
    await this.#ended;
  }
}

export const startPython = async (python: string): Promise<Library> => {
  const driver = new Driver(python);
  const known: Record<string, Record<string, Entry>> = await driver.ask({ what: 'methods', services: Object.values(CLASSES) });

  const makeClient = (rootUrl: string, service: Service, credentials: ClientCredentials | undefined): ServiceClient => {
    const target = { rootUrl, service: CLASSES[service], credentials };
    const url =
      (signed: boolean) =>
      (method: ServiceMethod, ...args: unknown[]) =>
        driver.ask({ ...target, what: 'url', signed, method: method.entryReference.name, args });
    const methods = Object.entries(known[CLASSES[service]] ?? {}).map(([name, entry]) => [
      name,
      Object.assign((...args: unknown[]) => driver.ask({ ...target, what: 'call', method: name, args }), {
        entryReference: { ...entry, type: 'function' },
      }),
    ]);
    return {
      ...Object.fromEntries(methods),
      buildUrl: url(false),
      buildSignedUrl: url(true),
      [TARGET]: target,
    } as unknown as ServiceClient;
  };
  return {
    connect: ({ rootUrl }, credentials) =>
      Object.fromEntries(SERVICES.map(service => [service, makeClient(rootUrl, service, credentials)])) as unknown as Clients,
    methods: client => Object.values(client as object).flatMap(each => (each as ServiceMethod).entryReference ?? []),
    upload: (object, upload, text) => driver.ask({ ...targetOf(object), what: 'upload', upload, text }),
    download: (object, name) => driver.ask({ ...targetOf(object), what: 'download', name }),
    downloadArtifact: (queue, taskId, name) => driver.ask({ ...targetOf(queue), what: 'downloadArtifact', taskId, name }),
    close: () => driver.close(),
  };
};
