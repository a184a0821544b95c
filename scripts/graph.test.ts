import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { renderTaskclusterYml } from '../cli/push/render.ts';
import { indexPrefix, makeGraph } from './graph.ts';

const input = {
  taskQueueId: 'local/process',
  schedulerId: 'tscluster',
  taskGroupId: 'decision',
  decisionTaskId: 'decision',
  owner: 'ada@example.com',
  htmlUrl: 'https://example.com/o/r',
  sourceUrl: 'https://tc.example.net/bundle?bewit=x',
  isBundle: true,
  revision: 'abc',
  branch: 'feature/x',
  priority: 'lowest',
  now: new Date('2030-01-15T12:00:00.000Z'),
  newTaskId: (label: string) => `id-${label}`,
};

describe('the graph of a push', () => {
  const graph = makeGraph(input);
  const byLabel = new Map(graph.map(task => [task.label, task.definition]));

  test('names dependencies before dependents, from the decision task to the report', () => {
    const seen = new Set(['decision']);
    for (const { taskId, definition } of graph) {
      expect(definition.dependencies.filter(id => !seen.has(id))).toEqual([]);
      seen.add(taskId);
    }
    expect(graph.length).toBeGreaterThanOrEqual(8);
    expect(byLabel.get('install')?.dependencies).toEqual(['decision']);
    expect(byLabel.get('report')?.dependencies).toHaveLength(graph.length - 1);
  });

  test('mounts only artifacts of dependencies that make them', () => {
    for (const { definition } of graph) {
      const mounts = (definition.payload['mounts'] ?? []) as { content?: { taskId?: string; artifact?: string } }[];
      for (const { content } of mounts) {
        if (content?.taskId !== undefined) {
          expect(definition.dependencies).toContain(content.taskId);
          const source = graph.find(({ taskId }) => taskId === content.taskId)?.definition.payload['artifacts'] as { name: string }[];
          expect(source.map(({ name }) => name)).toContain(content.artifact);
        }
      }
    }
  });

  test('has an index route that every branch can have', () => {
    expect(byLabel.get('report')?.routes[0]).toBe('index.tscluster.v1.branch.feature-x.latest.report');
    expect(indexPrefix('a.b/ü')).toBe('index.tscluster.v1.branch.a-b-');
  });

  test('clones a repository where there is no bundle', () => {
    const install = makeGraph({ ...input, isBundle: false }).find(({ label }) => label === 'install')?.definition.payload;
    expect(JSON.stringify(install?.['command'])).toContain('$SOURCE_URL');
    expect(install?.['mounts']).toEqual([{ directory: 'npm-cache', cacheName: 'tscluster-npm' }]);
  });

  test('never pushes', () => {
    expect(graph.filter(({ definition }) => /taskcluster push|--project e2e/.test(JSON.stringify(definition.payload)))).toEqual([]);
  });
});

describe("the project's .taskcluster.yml", () => {
  const render = (repository: object, tasksFor = 'github-push') =>
    renderTaskclusterYml({
      text: readFileSync(new URL('../.taskcluster.yml', import.meta.url), 'utf8'),
      path: '.taskcluster.yml',
      event: {
        ref: 'refs/heads/feature/x',
        after: 'abc',
        pusher: { name: 'ada', email: null },
        repository: { html_url: 'https://example.com/o/r', ...repository },
      },
      tasksFor,
      rootUrl: 'https://tc.example.net',
      now: input.now,
      newSlugid: () => 'decision',
    }).tasks;

  test('starts one decision task for a push, from a bundle or from a repository', () => {
    expect(render({ bundle_url: 'https://tc.example.net/bundle' })).toMatchObject([
      {
        taskId: 'decision',
        taskGroupId: 'decision',
        definition: {
          payload: { env: { BRANCH: 'feature/x', REVISION: 'abc', SOURCE_KIND: 'bundle' }, mounts: [{}, { file: 'source.bundle' }] },
        },
      },
    ]);
    expect(render({ clone_url: 'https://example.com/o/r.git' })).toMatchObject([
      { definition: { payload: { env: { SOURCE_KIND: 'repository', SOURCE_URL: 'https://example.com/o/r.git' }, mounts: [{}] } } },
    ]);
    expect(render({}, 'github-release')).toEqual([]);
  });

  test('may create every task of the graph', () => {
    const held = render({ bundle_url: 'x' })[0]?.definition['scopes'] as string[];
    const isHeld = (scope: string): boolean => held.some(one => one === scope || (one.endsWith('*') && scope.startsWith(one.slice(0, -1))));
    const needed = makeGraph(input).flatMap(({ definition }) => [
      `queue:create-task:${String(definition['priority'])}:${definition.taskQueueId}`,
      `queue:scheduler-id:${String(definition['schedulerId'])}`,
      'queue:create-task:project:none',
      ...definition.routes.map(route => `queue:route:${route}`),
      ...definition.scopes,
    ]);
    expect(needed.filter(scope => !isHeld(scope))).toEqual([]);
  });
});
