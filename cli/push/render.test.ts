import { describe, expect, test } from 'vitest';
import { readCodeBlocks } from '@tscluster/server/testing/docs.ts';
import { nameOf, renderTaskclusterYml, type Rendered } from './render.ts';

const render = (text: string, event: unknown = { after: 'abc' }): Rendered => {
  let next = 0;
  return renderTaskclusterYml({
    text,
    path: '.taskcluster.yml',
    event,
    tasksFor: 'github-push',
    rootUrl: 'https://tc.example.net',
    now: new Date('2030-01-15T12:00:00.000Z'),
    newSlugid: () => `id${next++}`,
  });
};

describe('a .taskcluster.yml', () => {
  test('renders with the whole context, and a single task is its own group', () => {
    const { tasks } = render(`
version: 1
policy: { pullRequests: public }
reporting: checks-v1
autoCancelPreviousChecks: false
tasks:
  - $if: 'tasks_for == "github-push"'
    then:
      taskId: \${as_slugid("decision_task")}
      deadline: { $fromNow: 1 hour }
      metadata: { name: "build \${event.after}" }
      extra: [ "\${now}", "\${taskcluster_root_url}", "\${ownTaskId}", { $eval: 'as_slugid("decision_task") == as_slugid("decision_task")' }, { $eval: 'as_slugid("constructor") != ownTaskId' } ]
  - $if: 'tasks_for == "cron"'
    then: {}
`);
    expect(tasks).toHaveLength(1);
    expect(tasks[0]).toMatchObject({
      taskId: 'id0',
      taskGroupId: 'id0',
      definition: {
        created: '2030-01-15T12:00:00.000Z',
        schedulerId: 'taskcluster-github',
        taskGroupId: 'id0',
        metadata: { name: 'build abc' },
        extra: ['2030-01-15T12:00:00.000Z', 'https://tc.example.net', 'id0', true, true],
      },
    });
    expect(tasks[0]?.definition).not.toHaveProperty('taskId');
    expect(tasks[0] && nameOf(tasks[0])).toBe('build abc');
  });

  test('gives several tasks a group of their own and sorts them by dependency', () => {
    const { tasks } = render(`
version: 1
tasks:
  $flatten:
    - [ { taskId: b, dependencies: [a, elsewhere], schedulerId: mine, created: "2030-01-01T00:00:00.000Z" } ]
    - [ { taskId: a }, { dependencies: [b] } ]
`);
    expect(tasks.map(({ taskId, taskGroupId }) => [taskId, taskGroupId])).toEqual([
      ['a', 'id1'],
      ['b', 'id1'],
      ['id2', 'id1'],
    ]);
    expect(tasks[1]?.definition).toMatchObject({ schedulerId: 'mine', created: '2030-01-01T00:00:00.000Z' });
  });

  test('lets a single task choose either id', () => {
    expect(render('{ version: 1, tasks: [ { taskGroupId: g } ] }').tasks[0]).toMatchObject({ taskId: 'g', taskGroupId: 'g' });
    expect(render('{ version: 1, tasks: [ { taskId: t, taskGroupId: g } ] }').tasks[0]).toMatchObject({ taskId: 't', taskGroupId: 'g' });
  });

  test('may have no tasks, and names its hooks', () => {
    expect(render('{ version: 1, hooks: [ { name: project-a/b, context: { x: "${y}" } } ] }')).toEqual({
      tasks: [],
      hooks: ['project-a/b'],
    });
  });

  test.each([
    ['version: 1\n  bad: [', 'is not YAML'],
    ['[]', 'must hold an object with "version: 1" and "tasks", not a list'],
    ['version: 0', 'has version 0; only version 1 can be pushed'],
    ['{ version: 1, task: [] }', 'unknown keys at its top: task'],
    ['{ version: 1, tasks: [ "${event.nothing}" ] }', 'cannot be rendered'],
    ['{ version: 1, tasks: { a: 1 } }', '"tasks" must be a list of tasks once rendered, not object'],
    ['{ version: 1, tasks: [ 5 ] }', 'task 1 is number once rendered'],
    ['{ version: 1, tasks: [ { taskId: a }, { taskId: a } ] }', 'two tasks have the id a'],
    ['{ version: 1, tasks: [ { taskId: a, dependencies: [b] }, { taskId: b, dependencies: [a] } ] }', 'in a circle: a -> b -> a'],
  ])('that is %j is refused', (text, message) => {
    expect(() => render(text)).toThrow(message);
  });
});

test('the example in the documentation renders', () => {
  const example = readCodeBlocks('docs/users/command-line.md').find(({ language }) => language === 'yaml')?.text ?? '';
  const event = {
    pusher: { email: 'ada@example.com' },
    repository: { url: 'https://example.com/o/r', bundle_url: 'https://tc.example.net/b' },
  };
  expect(render(example, event).tasks).toMatchObject([
    {
      definition: {
        taskQueueId: 'local/process',
        payload: { mounts: [{ file: 'source.bundle', content: { url: 'https://tc.example.net/b' } }] },
      },
    },
  ]);
});
