/**
 * The protocol's recorded sequences, replayed. Differences from the recording are named here, each with its reason: what the protocol marks as a
 * mistake is tested against what it recommends, and what the recording did in background jobs happens at once.
 */
import fs from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { objectApi } from '@tscluster/api/object/api.ts';
import { queueApi } from '@tscluster/api/queue/api.ts';
import type { Method } from '@tscluster/api/define.ts';
import { ApiCallError } from '@tscluster/client/client.ts';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import type { BusEvent } from '../../platform/events.ts';
import vectors from '../../testing/vectors/queue.json' with { type: 'json' };
import { objectService } from '../object/service.ts';
import { claimExpiry, deadlines, dependencies } from './loops.ts';
import { DIFFERENCES, type RecordedEvent, type Sequence, type Step } from './recorded-differences.ts';
import { type NewDefinition, type QueueClient, type QueueServer, aTask, claimNow, withQueue } from './testing.ts';
import { endRunsOfWorker } from './worker-removed.ts';

const sequences = (vectors as unknown as { sequences: Sequence[] }).sequences;
const CONFIGURATION = { TASK_CLAIM_TIMEOUT: '1', QUEUE_DEADLINE_DELAY: '1', TASK_MAX_DEPENDENCIES: '100' };
const WAITS_MS: Readonly<Record<string, number>> = {
  'takenUntil passes': 1_100,
  'first takenUntil passes': 400,
  '0.7 of the claim timeout': 700,
  'deadline passes': 1_100,
  'deadline passes, deadlineDelay not yet': 1_100,
  'takenUntil and deadline pass': 1_100,
  'deadline + deadlineDelay': 2_100,
  'deadline of C + deadlineDelay': 2_100,
  'lease of the deadline record runs out': 301_000,
};

const UNIT_MS: Readonly<Record<string, number>> = { second: 1_000, min: 60_000, hour: 3_600_000, h: 3_600_000, day: 86_400_000 };

/** `now+5 days 16 min` and the like, in milliseconds from now. */
const spanMs = (text: string): number => {
  const match = /^([+-]) ?(.+)$/.exec(text);
  const parts = [...(match?.[2] ?? '').matchAll(/(\d+) (second|min|hour|h|day)s?/g)];
  const sum = parts.reduce((ms, [, count, unit]) => ms + Number(count) * (UNIT_MS[unit as string] as number), 0);
  return match?.[1] === '-' ? -sum : sum;
};

/** The last fenced block of a message: the scope expression that was required. */
const requiredScopes = (message: string): unknown => {
  const fenced = [...message.matchAll(/```\n([^`]*)\n```/g)].at(-1)?.[1] ?? '';
  return fenced.startsWith('{') ? JSON.parse(fenced) : fenced;
};

const NO_SCOPES = new Set(['create-scopes', 'required-scopes', 'existence-before-scopes', 'artifacts-scopes']);
/** Where the recording had buckets. */
const BUCKETS: Readonly<Record<string, string>> = {
  'https://public-bucket.example/': `http://taskcluster.test/objects/v1/public-artifacts/`,
  'https://private-bucket.example/': `http://taskcluster.test/objects/v1/private-artifacts/`,
};
const withBucket = (url: string): string => {
  const bucket = Object.keys(BUCKETS).find(each => url.startsWith(each));
  return bucket === undefined ? url : `${BUCKETS[bucket]}${url.slice(bucket.length)}`;
};
const ONLY_HIGH = ['queue:create-task:high:prov/wt', 'queue:create-task:project:none', 'queue:scheduler-id:-'];

type AnyMethod = (...args: unknown[]) => Promise<unknown>;

/** One sequence being replayed. */
class Replay {
  readonly server: QueueServer;
  readonly sequence: Sequence;
  readonly ids = new Map<string, string>();
  readonly bodies = new Map<string, Record<string, unknown>>();
  readonly mismatches: string[] = [];
  readonly base: number;

  constructor(server: QueueServer, sequence: Sequence) {
    this.server = server;
    this.sequence = sequence;
    this.base = server.clock.nowMs() + 10 * 86_400_000;
  }

  id(name: string): string {
    const known = this.ids.get(name) ?? this.server.newId();
    this.ids.set(name, known);
    return known;
  }

  /** Puts real ids and times in place of names. */
  fill(value: unknown): unknown {
    if (typeof value === 'string') {
      const nowMs = this.server.clock.nowMs();
      if (/^now([+-]|$)/.test(value)) {
        return new Date(nowMs + spanMs(value.slice(3))).toISOString();
      }
      if (/^E( [+-] |$)/.test(value)) {
        return new Date(this.base + spanMs(value.slice(2))).toISOString();
      }
      return value.replaceAll(/\$[A-Z][A-Za-z0-9]*/g, name => this.id(name));
    }
    if (Array.isArray(value)) {
      return value.map(item => this.fill(item));
    }
    if (value !== null && typeof value === 'object') {
      return Object.fromEntries(Object.entries(value).map(([key, item]) => [this.fill(key), this.fill(item)]));
    }
    return value;
  }

  fillObject(value: Record<string, unknown>): Record<string, unknown> {
    return this.fill(value) as Record<string, unknown>;
  }

  client(step: Step): QueueClient {
    if (step.note === 'caller has only ...:high:prov/wt') {
      return this.server.client(queueApi, { scopes: ONLY_HIGH });
    }
    return NO_SCOPES.has(this.sequence.name) && step.error ? this.server.client(queueApi, { scopes: [] }) : this.server.queue;
  }

  async definition(step: Step): Promise<NewDefinition> {
    const name = textOf(step.args?.[0], '$A');
    const given = { ...step.body };
    const known = this.bodies.get(name);
    const isRepeat = '...' in given;
    delete given['...'];
    const { clock } = this.server;
    if (given['dependencies'] === '<101 existing tasks>') {
      given['dependencies'] = await Promise.all(Array.from({ length: 101 }, () => this.server.create()));
      await this.server.drain();
    }
    for (const key of ['created', 'deadline']) {
      if (given[key] === '<time>') {
        given[key] = new Date(Math.floor(clock.nowMs() / 1000) * 1000 + (key === 'deadline' ? 3_600_000 : 0)).toISOString();
      } else if (String(given[key]).startsWith('<the same instant')) {
        given[key] = String(known?.[key]).replace('.000Z', 'Z');
      }
    }
    const body: Record<string, unknown> = { ...(isRepeat ? known : aTask(clock)), ...this.fillObject(given) };
    for (const [key, value] of Object.entries(body)) {
      if (value === '<omitted>') {
        delete body[key];
      }
    }
    if (!known) {
      this.bodies.set(name, body);
    }
    return body as NewDefinition;
  }

  /** Calls the method a step names, with its arguments by position. */
  async call(step: Step): Promise<unknown> {
    const { server } = this;
    const name = step.call as string;
    const queue = this.client(step);
    const args = (this.fill(step.args ?? []) as unknown[]).slice();
    if (name === 'createTask') {
      const taskId = textOf(args[0], this.id('$A'));
      return queue.createTask({ taskId }, await this.definition(step));
    }
    if (name === 'claimWork') {
      const body = { workerGroup: 'wg1', workerId: 'worker-a', ...(this.fill(step.body ?? {}) as object) };
      return claimNow(server.ctx, server.clock, queue, textOf(args[0], 'prov/wt'), body);
    }
    const method: Method = queueApi.methods[name as keyof typeof queueApi.methods];
    const names = [...method.route.matchAll(/<([a-zA-Z]+)>/g)].map(match => match[1] as string);
    const params = Object.fromEntries(names.map((param, i) => [param, String(args[i])]));
    const query = args.length > names.length ? [args.at(-1)] : [];
    const body = method.input ? [this.fill(step.body ?? {})] : [];
    const call = queue[name as keyof QueueClient] as unknown as AnyMethod;
    return call(...(names.length > 0 ? [params] : []), ...body, ...query);
  }

  /** Steps that are told in words. */
  async special(step: Step): Promise<unknown> {
    const { server } = this;
    const { queue, ctx, clock } = server;
    switch (step.call) {
      case 'backgroundJob:claim-resolver':
        return server.runLoop(claimExpiry);
      case 'backgroundJob:deadline-resolver':
        return server.runLoop(deadlines);
      case 'backgroundJob:dependency-resolver':
        return server.runLoop(dependencies);
      case 'pulse message worker-manager/worker-removed':
        return ctx.platform.db.tx(tx => endRunsOfWorker(tx, ctx, { workerPoolId: 'prov/wt', workerGroup: 'wg1', workerId: 'worker-a' }));
      case '(loop) cancelTask then rerunTask': {
        const taskId = this.id('$A');
        const wanted = (step.result as { runs: number }).runs;
        for (;;) {
          await queue.cancelTask({ taskId });
          const { status: after } = await queue.rerunTask({ taskId });
          if (after.runs.length >= wanted) {
            return { runs: after.runs.length, retriesLeft: after.retriesLeft };
          }
        }
      }
      case 'POST /task/$A/runs/0/completed (no credentials)': {
        const url = queue.buildUrl('reportCompleted', { taskId: this.id('$A'), runId: '0' });
        const reply = await server.fetch(url, {
          method: 'POST',
          headers: { 'content-type': 'application/json' },
          body: '{"success":false}',
        });
        return { httpStatus: reply.status, code: ((await reply.json()) as { code: string }).code };
      }
      case 'claimWork x 2 in parallel, tasks 2 each': {
        const replies = await Promise.all(
          ['wa', 'wb'].map(workerId => queue.claimWork({ taskQueueId: 'prov/wt' }, { workerGroup: 'wg1', workerId, tasks: 2 })),
        );
        const claimed = replies.flatMap(reply => reply.tasks.map(task => task.status.taskId));
        return { claims: replies.map(reply => reply.tasks.length), distinct: new Set(claimed).size };
      }
      case 'listTaskGroup limit=2, follow the token': {
        const first = await queue.listTaskGroup({ taskGroupId: this.id('$G') }, { limit: '2' });
        const second = await queue.listTaskGroup(
          { taskGroupId: this.id('$G') },
          { limit: '2', continuationToken: first.continuationToken },
        );
        return {
          first: first.tasks.length,
          hasToken: first.continuationToken !== undefined,
          second: second.tasks.length,
          secondHasToken: second.continuationToken !== undefined,
        };
      }
      case 'listTaskGroup limit=3 (exactly all)': {
        const page = await queue.listTaskGroup({ taskGroupId: this.id('$G') }, { limit: '3' });
        return { n: page.tasks.length, hasToken: page.continuationToken !== undefined };
      }
      case 'listTaskGroup limit=5000':
        return { n: (await queue.listTaskGroup({ taskGroupId: this.id('$G') }, { limit: '5000' })).tasks.length };
      case 'claimTask twice, 0.3 s apart': {
        const claim = () => queue.claimTask({ taskId: this.id('$A'), runId: '0' }, { workerGroup: 'wg1', workerId: 'worker-a' });
        const first = await claim();
        clock.advance({ ms: 300 });
        const second = await claim();
        const expiry = (reply: typeof first) => (JSON.parse(reply.credentials.certificate) as { expiry: number }).expiry;
        return {
          sameTakenUntil: first.status.runs[0]?.takenUntil === second.status.runs[0]?.takenUntil,
          credentialsExpiryDiffersMs:
            expiry(second) - expiry(first) === 300 ? '<about the time between the calls>' : expiry(second) - expiry(first),
        };
      }
      case 'createArtifact': {
        const made = (await this.call(step)) as { uploadId?: string };
        if (made.uploadId !== undefined && ![...this.ids.values()].includes(made.uploadId)) {
          this.ids.set(`$U${[...this.ids.keys()].filter(id => /^\$U\d/.test(id)).length + 1}`, made.uploadId);
        }
        return made;
      }
      case 'getArtifact (raw HTTP, no redirect)': {
        const [taskId, runId, name] = this.fill(step.args) as [string, number, string];
        server.setAnonymousScopes(['queue:get-artifact:*']);
        const reply = await server.fetch(queue.buildUrl('getArtifact', { taskId, runId: String(runId), name }));
        server.setAnonymousScopes([]);
        const wanted = step.result as { location?: string; body: Record<string, unknown> };
        const body = (await reply.json()) as Record<string, unknown>;
        return {
          httpStatus: reply.status,
          storageTypeHeader: reply.headers.get('x-taskcluster-artifact-storage-type'),
          ...(reply.headers.has('location') ? { location: reply.headers.get('location') } : {}),
          body: Object.fromEntries(Object.keys(wanted.body).map(key => [key, body[key]])),
        };
      }
      case 'object service: upload the data and finishUpload': {
        const name = this.fill(step.args?.[0]) as string;
        const objects = server.client(objectApi);
        const [row] = await server.db<{ projectId: string; uploadId: string; expires: Date }>`
          select project_id, upload_id, expires from object.objects where name = ${name}`;
        const { projectId, uploadId, expires } = row as NonNullable<typeof row>;
        const proposedUploadMethods = { dataInline: { contentType: 'text/plain', objectData: 'aGVsbG8=' } };
        await objects.createUpload({ name }, { projectId, uploadId, expires: expires.toISOString(), proposedUploadMethods });
        return objects.finishUpload({ name }, { projectId, uploadId });
      }
      case 'rerunTask':
        if (this.sequence.name === 'rerun-limit') {
          await queue.cancelTask({ taskId: this.id('$A') }); // the first half of another round of the loop
        }
        return this.call(step);
      default:
        return this.call(step);
    }
  }

  /** What the recording shows of an answer, where it does not show all. */
  async condense(step: Step, actual: unknown): Promise<unknown> {
    const expected = step.result as Record<string, unknown> | unknown[] | undefined;
    if (Array.isArray(expected) && step.call === 'claimWork') {
      return (actual as { tasks: { status: { taskId: string } }[] }).tasks.map(task => task.status.taskId);
    }
    if (expected && 'expiresIsDeadlinePlusOneYear' in expected) {
      const { deadline, expires } = (actual as { status: { deadline: string; expires: string } }).status;
      const year = new Date(deadline);
      year.setUTCFullYear(year.getUTCFullYear() + 1);
      return { expiresIsDeadlinePlusOneYear: year.toISOString() === expires };
    }
    if (expected && 'groupExpiresMinusTaskExpiresSeconds' in expected) {
      const { status: task } = await this.server.queue.status({ taskId: this.id('$A') });
      return {
        groupExpiresMinusTaskExpiresSeconds: (Date.parse((actual as { expires: string }).expires) - Date.parse(task.expires)) / 1000,
      };
    }
    if (expected && 'groupExpiresRelativeToE' in expected) {
      const { expires } = await this.server.queue.getTaskGroup({ taskGroupId: this.id('$G') });
      return { groupExpiresRelativeToE: `${(Date.parse(expires) - this.base) / 1000} s` };
    }
    if (expected && 'taskScopes' in expected) {
      const [claim] = (actual as { tasks: { task: { scopes: string[] }; credentials: unknown }[] }).tasks;
      return { credentials: claim?.credentials, taskScopes: claim?.task.scopes };
    }
    return actual;
  }

  /** Compares with the recording: placeholders, condensed statuses, unordered lists. */
  match(expected: unknown, actual: unknown, path: string): void {
    const fail = (): void => void this.mismatches.push(`${path}: expected ${JSON.stringify(expected)}, got ${JSON.stringify(actual)}`);
    if (typeof expected === 'string') {
      if (expected === '<time>') {
        if (typeof actual !== 'string' || !/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/.test(actual)) {
          fail();
        }
      } else if (expected === '<definition>' || expected === '<status>') {
        if (actual === null || typeof actual !== 'object') {
          fail();
        }
      } else if (/^<(secret|token|slugid|service-client-id)>$/.test(expected)) {
        if (typeof actual !== 'string' || actual === '') {
          fail();
        }
      } else if (expected.endsWith('?<signature-params>')) {
        const url = withBucket(expected.slice(0, expected.indexOf('?')));
        if (typeof actual !== 'string' || !actual.startsWith(`${url}?`) || !actual.includes('&signature=')) {
          fail();
        }
      } else if (expected.includes('<takenUntil-epoch-seconds>')) {
        const [before] = expected.split('<') as [string];
        if (typeof actual !== 'string' || !actual.startsWith(before) || !/^\d+(\.\d{1,3})?$/.test(actual.slice(before.length))) {
          fail();
        }
      } else if (actual !== withBucket(expected)) {
        fail();
      }
      return;
    }
    if (Array.isArray(expected)) {
      if (!Array.isArray(actual) || actual.length !== expected.length) {
        fail();
        return;
      }
      const unordered = path.endsWith('.taskIds') || path.endsWith('.statuses');
      const key = (value: unknown): string => JSON.stringify((value as { taskId?: string })?.taskId ?? value);
      const sort = (list: unknown[]): unknown[] => (unordered ? list.toSorted((a, b) => (key(a) < key(b) ? -1 : 1)) : list);
      const [left, right] = [sort(expected), sort(actual)];
      left.forEach((item, i) => this.match(item, right[i], `${path}[${i}]`));
      return;
    }
    if (expected !== null && typeof expected === 'object') {
      if (actual === null || typeof actual !== 'object') {
        fail();
        return;
      }
      const wanted = expected as Record<string, unknown>;
      let given = actual as Record<string, unknown>;
      if (path.endsWith('.certificate') || typeof given === 'string') {
        given = actual as Record<string, unknown>;
      }
      if ('runs' in wanted && 'runs' in given && !('provisionerId' in wanted)) {
        given = condenseStatus(wanted, given);
      }
      if ('state' in wanted && 'status' in given && !('status' in wanted)) {
        given = condenseStatus(wanted, given['status'] as Record<string, unknown>);
      }
      for (const name of new Set([...Object.keys(wanted), ...Object.keys(given)])) {
        let value = given[name];
        if (name === 'certificate' && typeof value === 'string' && typeof wanted[name] === 'object') {
          value = showCertificate(value);
        }
        if (!(name in wanted)) {
          this.mismatches.push(`${path}.${name}: not expected, got ${JSON.stringify(value)}`);
        } else if (value === undefined) {
          this.mismatches.push(`${path}.${name}: expected ${JSON.stringify(wanted[name])}, got nothing`);
        } else {
          this.match(wanted[name], value, `${path}.${name}`);
        }
      }
      return;
    }
    if (actual !== expected) {
      fail();
    }
  }

  async step(step: Step, number: number): Promise<void> {
    const at = `step ${number} (${step.call ?? step.wait})`;
    if (step.wait !== undefined) {
      const ms = WAITS_MS[step.wait];
      expect(ms, `unknown wait: ${step.wait}`).toBeDefined();
      await this.server.clock.tick({ ms: ms as number });
      return;
    }
    const difference = DIFFERENCES[this.sequence.name]?.steps?.[number];
    const wanted = (difference ? { ...withoutOutcome(step), ...difference } : step) as Step;
    let actual: unknown;
    let error: ApiCallError | undefined;
    try {
      actual = await this.special(wanted);
    } catch (thrown) {
      if (!(thrown instanceof ApiCallError)) {
        throw thrown;
      }
      error = thrown;
    }
    if (wanted.error) {
      const got = error ? { statusCode: error.statusCode, code: error.code } : actual;
      this.match({ statusCode: wanted.error.statusCode, code: wanted.error.code }, got, at);
      if (wanted.error.required !== undefined && error) {
        this.match(this.fill(wanted.error.required), requiredScopes(error.message), `${at} required`);
      }
    } else if (error) {
      this.mismatches.push(`${at}: refused with ${error.statusCode} ${error.code}: ${error.message.split('\n')[0]}`);
    } else if (wanted.result !== undefined) {
      this.match(this.fill(wanted.result), await this.condense(wanted, actual), at);
    }
    this.server.clock.advance({ ms: 1 });
  }

  events(actual: readonly BusEvent[]): void {
    const expected = new Map<string, RecordedEvent[]>();
    for (const event of this.sequence.steps.flatMap(step => step.events ?? [])) {
      const filled = this.fill(event) as RecordedEvent;
      push(expected, aboutOf(filled.exchange, filled.routingKey), filled);
    }
    const given = new Map<string, BusEvent[]>();
    for (const event of actual) {
      push(given, aboutOf(shortName(event.exchange), event.routingKey), event);
    }
    const differences = DIFFERENCES[this.sequence.name]?.events ?? {};
    const overridden = new Map(Object.entries(differences).map(([about, names]) => [this.fill(about) as string, names]));
    for (const about of new Set([...expected.keys(), ...given.keys(), ...overridden.keys()])) {
      const got = given.get(about) ?? [];
      const names = overridden.get(about);
      const wanted = expected.get(about) ?? [];
      const wantedNames = names ?? wanted.map(event => event.exchange);
      if (!names && about.startsWith('group ') && !this.jobRanLast()) {
        // the recording ended before the job that would have announced this
        while (got.length > wanted.length && got.at(-1)?.exchange.endsWith('/task-group-resolved')) {
          got.pop();
        }
      }
      if (JSON.stringify(wantedNames) !== JSON.stringify(got.map(event => shortName(event.exchange)))) {
        this.mismatches.push(
          `events about ${about}: expected ${wantedNames.join(', ')}; got ${got.map(event => shortName(event.exchange)).join(', ')}`,
        );
      } else if (!names) {
        wanted.forEach((event, i) => this.event(event, got[i] as BusEvent, `event ${i} about ${about} (${event.exchange})`));
      }
    }
  }

  /** Whether the recording ran the dependency job after the last call that resolves tasks. */
  jobRanLast(): boolean {
    const last = (pattern: RegExp): number => this.sequence.steps.findLastIndex(step => pattern.test(step.call ?? ''));
    return last(/dependency-resolver/) > last(/^(report|cancel)|\(loop\)/);
  }

  event(wanted: RecordedEvent, got: BusEvent, at: string): void {
    this.match(wanted.routingKey, got.routingKey, `${at} routing key`);
    this.match(wanted.cc, got.cc, `${at} cc`);
    const payload = { ...(got.payload as Record<string, unknown>) };
    const recorded = { ...wanted.payload };
    if (this.sequence.name !== 'lifecycle-complete' && payload['status']) {
      const { state, retriesLeft, runs } = payload['status'] as { state: string; retriesLeft: number; runs: Record<string, string>[] };
      payload['status'] = {
        state,
        retriesLeft,
        runs: runs.map(run => [run['state'], run['reasonCreated'], run['reasonResolved'] ?? null]),
      };
    }
    const recordedStatus = recorded['status'] as Record<string, unknown> | undefined;
    if (recordedStatus?.['priorityAbsent']) {
      // a mistake of the recording: status without priority, and no tags
      const { priorityAbsent: _, ...rest } = recordedStatus;
      recorded['status'] = rest;
      recorded['task'] = payload['task'];
    }
    this.match(recorded, payload, at);
  }
}

const textOf = (value: unknown, fallback: string): string => (typeof value === 'string' ? value : fallback);
const withoutOutcome = ({ result: _result, error: _error, ...rest }: Step): Step => rest;
const shortName = (exchange: string): string => exchange.slice(exchange.lastIndexOf('/') + 1);
const aboutOf = (exchange: string, key: string): string => `${exchange.startsWith('task-group-') ? 'group' : 'task'} ${key.split('.')[1]}`;
const push = <T>(map: Map<string, T[]>, key: string, value: T): void => void map.set(key, [...(map.get(key) ?? []), value]);
const condenseStatus = (wanted: object, given: Record<string, unknown>): Record<string, unknown> =>
  Object.fromEntries(Object.keys(wanted).flatMap(key => (given[key] === undefined ? [] : [[key, given[key]]])));
const showCertificate = (text: string): object => {
  const certificate = JSON.parse(text) as Record<string, unknown> & { start: number; expiry: number };
  return {
    version: certificate['version'],
    issuer: certificate['issuer'],
    scopes: certificate['scopes'],
    keys: Object.keys(certificate),
    lifetimeSeconds: (certificate.expiry - certificate.start) / 1000,
  };
};

describe('recorded sequences', () => {
  let server: QueueServer;
  let folder: string;
  afterAll(() => fs.rm(folder, { recursive: true, force: true }));
  beforeAll(async () => {
    folder = await fs.mkdtemp(path.join(os.tmpdir(), 'taskcluster-vectors-'));
    server = await withQueue({ environment: { ...CONFIGURATION, OBJECTS_FOLDER: folder }, more: [objectService] });
  });
  beforeEach(async () => {
    await server.ctx.seen.flush();
    await server.drain();
    await server.db`
      truncate queue.tasks, queue.pending, queue.claims, queue.deps, queue.groups, queue.fanouts, queue.workers, queue.task_queues,
               queue.artifacts, object.objects`;
  });
  test.for(sequences.map(sequence => [sequence.name, sequence] as const))('%s', async ([, sequence]) => {
    const replay = new Replay(server, sequence);
    for (const [number, step] of sequence.steps.entries()) {
      await replay.step(step, number);
    }
    replay.events(await server.drain());
    expect(replay.mismatches).toEqual([]);
  });
});
