import { routingKeyMatches } from '@tscluster/api/routing-key.ts';
import { TASK_STATES, type TaskStatus } from '@tscluster/api/queue/tasks.ts';
import { describe, expect, test } from 'vitest';
import { asksForGroup, asksForTask, groupBindings, isIgnored, type NotifyRoute, parseRoute, routesOf, taskBindings } from './routes.ts';

const parse = (route: string): NotifyRoute | undefined => parseRoute(route, 'notify');

describe('a route', () => {
  test.each([
    [
      'notify.email.dev.team@mail.example.org.on-failed',
      { kind: 'task', type: 'email', address: 'dev.team@mail.example.org', filter: 'failed' },
    ],
    ['notify.pulse.ci.nightly.on-completed', { kind: 'task', type: 'pulse', address: 'ci.nightly', filter: 'completed' }],
    ['notify.matrix-room.!abc:example.org.on-exception', { type: 'matrix-room', address: '!abc:example.org', filter: 'exception' }],
    ['notify.slack-channel.C0123ABC.on-resolved', { type: 'slack-channel', address: 'C0123ABC', filter: 'resolved' }],
    ['notify.irc-channel.#builds.on-any', { type: 'irc-channel', address: '#builds', filter: 'any' }],
    ['notify.irc-user.some_one.on-success', { type: 'irc-user', address: 'some_one', filter: 'success' }],
    ['notify.webhook.deploy.on-transition', { type: 'webhook', address: 'deploy', filter: 'transition' }],
    ['notify.group.email.a@b.cd.on-failed', { kind: 'group', type: 'email', address: 'a@b.cd', filter: 'failed' }],
    ['notify.email.on-failed.on-defined', { kind: 'task', type: 'email', address: 'on-failed', filter: 'defined' }],
  ])('%s', (route, expected) => {
    expect(parse(route)).toMatchObject({ route, ...expected });
  });

  test.each([
    'index.email.bob@example.org.on-failed',
    'notify',
    'notify.',
    'notify.email',
    'notify.email.on-failed',
    'notify.email.bob@example.org',
    'notify.email.bob@example.org.xx-failed',
    'notify.email.bob@example.org.on-nothing',
    'notify.email.bob@example.org.on-toString',
    'notify.email.bob@example.org.on-failed.',
    'notify.carrier-pigeon.bob.on-failed',
    'notify.constructor.bob.on-failed',
    'notify.group.email.on-failed',
    'notify.group.group.email.a@b.cd.on-failed',
    'notify.group.email.a@b.cd.on-pending',
    'notifyx.email.a@b.cd.on-failed',
    'Notify.email.a@b.cd.on-failed',
  ])('%s is not ours', route => {
    expect(parse(route)).toBeUndefined();
  });

  test('has the prefix that is configured', () => {
    expect(parseRoute('tell.email.a@b.cd.on-failed', 'tell')).toMatchObject({ address: 'a@b.cd' });
    expect(parseRoute('notify.email.a@b.cd.on-failed', 'tell')).toBeUndefined();
  });

  test('is taken from the routing keys once', () => {
    const keys = ['route.notify.email.a@b.cd.on-any', 'route.notify.email.a@b.cd.on-any', 'notify.email.x@y.zz.on-any', 'route.index.x'];
    expect(routesOf(keys, 'notify').map(({ address }) => address)).toEqual(['a@b.cd']);
  });
});

const SENDS: Readonly<Record<string, readonly string[]>> = {
  'on-defined': ['unscheduled'],
  'on-pending': ['pending'],
  'on-running': ['running'],
  'on-completed': ['completed'],
  'on-success': ['completed'],
  'on-failed': ['failed'],
  'on-exception': ['exception'],
  'on-resolved': ['completed', 'failed', 'exception'],
  'on-any': ['completed', 'failed', 'exception'],
  'on-transition': [...TASK_STATES],
};

describe.each(Object.entries(SENDS))('%s', (filter, states) => {
  const route = parse(`notify.email.a@b.cd.${filter}`);

  test.each(TASK_STATES)('%s', state => {
    expect(route && asksForTask(route, state)).toBe(states.includes(state));
  });

  test('hears of every exchange that may bring it', () => {
    const exchanges = taskBindings('notify')
      .filter(({ pattern }) => routingKeyMatches(pattern, `route.notify.email.a@b.cd.${filter}`))
      .map(({ exchange }) => exchange.replace('exchange/taskcluster-queue/v1/task-', ''));
    expect(exchanges).toEqual(states.map(state => (state === 'unscheduled' ? 'defined' : state)));
  });
});

test('a route of a group is none of a task', () => {
  const route = parse('notify.group.email.a@b.cd.on-any');
  expect(TASK_STATES.filter(state => route && asksForTask(route, state))).toEqual([]);
  expect(groupBindings('notify').every(({ pattern }) => routingKeyMatches(pattern, 'route.notify.group.email.a@b.cd.on-any'))).toBe(true);
});

describe('of a group that ended', () => {
  const asked = (result: 'completed' | 'failed' | 'incomplete', hasExceptions = false): string[] =>
    ['any', 'completed', 'exception', 'failed', 'resolved', 'success', 'transition'].filter(filter => {
      const route = parse(`notify.group.email.a@b.cd.on-${filter}`);
      return route && asksForGroup(route, { result, hasExceptions });
    });
  const ALWAYS = ['any', 'resolved', 'transition'];

  test('hears who asked', () => {
    expect(asked('completed')).toEqual(['any', 'completed', 'resolved', 'success', 'transition']);
    expect(asked('failed')).toEqual(['any', 'failed', 'resolved', 'transition']);
    expect(asked('failed', true)).toEqual(['any', 'exception', 'failed', 'resolved', 'transition']);
    expect(asked('incomplete')).toEqual(ALWAYS);
    const ofTask = parse('notify.email.a@b.cd.on-any');
    expect(ofTask && asksForGroup(ofTask, { result: 'failed', hasExceptions: true })).toBe(false);
  });
});

describe('what nobody is to hear of', () => {
  const ignored = new Set(['canceled', 'deadline-exceeded']);
  const status = (state: TaskStatus['state'], ...reasons: string[]): Pick<TaskStatus, 'state' | 'runs'> => ({
    state,
    runs: reasons.map(reasonResolved => ({ reasonResolved })) as TaskStatus['runs'],
  });

  test('is decided by the last run of a task that ended in an exception', () => {
    expect(isIgnored(status('exception', 'canceled'), ignored)).toBe(true);
    expect(isIgnored(status('exception', 'failed', 'deadline-exceeded'), ignored)).toBe(true);
    expect(isIgnored(status('exception', 'canceled', 'worker-shutdown'), ignored)).toBe(false);
    expect(isIgnored(status('completed', 'canceled'), ignored)).toBe(false);
    expect(isIgnored(status('unscheduled'), ignored)).toBe(false);
  });
});
