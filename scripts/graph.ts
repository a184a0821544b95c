/**
 * The project's own task graph, as the decision task creates it for a push. Pure: ids and times are given.
 *
 *     install ─┬─ types, lint, rules ──────────────┐
 *              ├─ test-<package>, test-database-<n> ─┼─ report
 *              └─ build-client ──────────────────────┘
 *
 * `install` makes one archive of the clone with everything installed; the others mount it, so that dependencies are resolved once per push.
 * The archive is not compressed: on one machine the disk is faster than any compressor. Each task unpacks it itself, for twelve thousand
 * small files would keep the worker busy, which has the logs of other tasks to carry.
 */

export interface GraphInput {
  readonly taskQueueId: string;
  readonly schedulerId: string;
  readonly taskGroupId: string;
  /** The decision task, on which the graph's first task depends: without a decision nothing starts. */
  readonly decisionTaskId: string;
  readonly owner: string;
  /** Of the repository, for people. */
  readonly htmlUrl: string;
  /** Of a git bundle, or what git can clone. */
  readonly sourceUrl: string;
  readonly isBundle: boolean;
  readonly revision: string;
  readonly branch: string;
  readonly priority: string;
  readonly now: Date;
  newTaskId(label: string): string;
}

export interface GraphTask {
  readonly label: string;
  readonly taskId: string;
  readonly definition: {
    readonly taskQueueId: string;
    readonly dependencies: readonly string[];
    readonly routes: readonly string[];
    readonly scopes: readonly string[];
    readonly payload: Record<string, unknown>;
    readonly [field: string]: unknown;
  };
}

const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;
const ARCHIVE = 'public/project.tar';
const UNPACK = ['mkdir project', 'tar -xf project.tar --no-same-owner -C project', 'rm project.tar', 'cd project'].join('\n');
/** Programs of the archive run in the Node that it brings. */
const NODE = 'node_modules/.bin/node';
const VITEST = `${NODE} node_modules/vitest/vitest.mjs run --reporter=default --reporter=json --outputFile.json=../results.json`;
const RESULTS = 'public/results.json';
const NPM_CACHE = 'tscluster-npm';

/** Packages with tests of their own that need nothing but Node. */
export const TESTED_PACKAGES = ['api', 'client', 'server', 'worker', 'cli'] as const;

/** Tests that need Postgres take longest: they run in so many parts. */
const DATABASE_PARTS = 3;

/** A route through which the latest result of a branch is found. Dots separate the words of a route. */
export const indexPrefix = (branch: string): string => `index.tscluster.v1.branch.${branch.replace(/[^A-Za-z0-9_-]+/g, '-')}`;

interface Wanted {
  readonly label: string;
  readonly description: string;
  readonly script: string;
  readonly after: readonly string[];
  readonly maxRunTime?: number;
  readonly artifacts?: readonly { readonly name: string; readonly path: string; readonly optional?: boolean }[];
  readonly mounts?: readonly object[];
  readonly scopes?: readonly string[];
  readonly routes?: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
}

const testTask = (label: string, description: string, args: string, env: Wanted['env'] = {}): Wanted => ({
  label,
  description,
  script: `${VITEST} ${args}`,
  after: ['install'],
  artifacts: [{ name: RESULTS, path: 'results.json' }],
  env,
});

const listWanted = (input: GraphInput): Wanted[] => {
  const checks: Wanted[] = [
    {
      label: 'types',
      description: 'Checks the types of the whole repository.',
      script: `${NODE} node_modules/typescript/bin/tsc -p .`,
      after: ['install'],
    },
    {
      label: 'lint',
      description: 'Checks what the compiler does not, and the format.',
      script: `${NODE} node_modules/oxlint/bin/oxlint --type-aware --deny-warnings && ${NODE} node_modules/oxfmt/bin/oxfmt --check .`,
      after: ['install'],
    },
  ];
  const tests: Wanted[] = [
    testTask('rules', 'Checks the rules of the repository.', '--project unit rules/ scripts/'),
    ...TESTED_PACKAGES.map(name => testTask(`test-${name}`, `Tests the package ${name}.`, `--project unit ${name}/`)),
    ...Array.from({ length: DATABASE_PARTS }, (_, i) =>
      testTask(`test-database-${i + 1}`, 'Tests that need Postgres, a part of them.', `--project db --shard=${i + 1}/${DATABASE_PARTS}`, {
        MODEL_OPERATIONS: '5000', // somebody waits for this graph: the long search is for CI
      }),
    ),
  ];
  const build: Wanted = {
    label: 'build-client',
    description: 'Builds the client for browsers, and calls it.',
    script: `${NODE} scripts/build-client.ts ../client`,
    after: ['install'],
    artifacts: [{ name: 'public/taskcluster-client.js', path: 'client/taskcluster-client.js' }],
  };
  return [
    {
      label: 'install',
      description: 'Clones the source, installs dependencies, and archives both for the other tasks.',
      script: [
        `git clone --quiet "${input.isBundle ? 'source.bundle' : '$SOURCE_URL'}" project`,
        'cd project',
        'git -c advice.detachedHead=false checkout --quiet "$REVISION"',
        'npm ci --prefer-offline --include=dev --include=optional --no-audit --no-fund --cache "$TASK_WORKDIR/npm-cache"',
        // C headers of Node, which nobody compiles against here
        'tar -cf ../project.tar --exclude="./node_modules/node-*/include" .',
      ].join('\n'),
      after: [],
      maxRunTime: 1800,
      artifacts: [{ name: ARCHIVE, path: 'project.tar' }],
      mounts: [
        { directory: 'npm-cache', cacheName: NPM_CACHE },
        ...(input.isBundle ? [{ file: 'source.bundle', content: { url: input.sourceUrl } }] : []),
      ],
      scopes: [`generic-worker:cache:${NPM_CACHE}`],
      env: { SOURCE_URL: input.sourceUrl, REVISION: input.revision },
    },
    ...checks,
    ...tests,
    build,
    {
      label: 'report',
      description: 'Adds up the results of all tests.',
      script: `${NODE} scripts/report.ts ../results ../report`,
      after: ['install', ...checks.map(({ label }) => label), ...tests.map(({ label }) => label), build.label],
      artifacts: [
        { name: 'public/report.md', path: 'report/report.md' },
        { name: 'public/report.json', path: 'report/report.json' },
      ],
      routes: [`${indexPrefix(input.branch)}.latest.report`, `${indexPrefix(input.branch)}.revision.${input.revision}.report`],
    },
  ];
};

/** The tasks of the graph, dependencies before dependents. */
export const makeGraph = (input: GraphInput): GraphTask[] => {
  const wanted = listWanted(input);
  const ids = new Map(wanted.map(({ label }) => [label, input.newTaskId(label)]));
  const idOf = (label: string): string => {
    const id = ids.get(label);
    if (id === undefined) {
      throw new Error(`No task is labelled ${label}`);
    }
    return id;
  };
  const expires = new Date(input.now.getTime() + 30 * DAY_MS).toISOString();
  return wanted.map(task => {
    const mounts = [
      ...(task.mounts ?? []),
      ...(task.after.includes('install') ? [{ file: 'project.tar', content: { taskId: idOf('install'), artifact: ARCHIVE } }] : []),
      ...wanted
        .filter(other => task.label === 'report' && other.artifacts?.some(({ name }) => name === RESULTS))
        .map(other => ({ file: `results/${other.label}.json`, content: { taskId: idOf(other.label), artifact: RESULTS } })),
    ];
    return {
      label: task.label,
      taskId: idOf(task.label),
      definition: {
        taskQueueId: input.taskQueueId,
        schedulerId: input.schedulerId,
        taskGroupId: input.taskGroupId,
        dependencies: [...(task.after.length === 0 ? [input.decisionTaskId] : []), ...task.after.map(idOf)],
        routes: task.routes ?? [],
        scopes: task.scopes ?? [],
        priority: input.priority,
        retries: 2,
        created: input.now.toISOString(),
        deadline: new Date(input.now.getTime() + 4 * HOUR_MS).toISOString(),
        expires,
        payload: {
          command: [['/bin/bash', '--norc', '-euxc', task.after.includes('install') ? `${UNPACK}\n${task.script}` : task.script]],
          maxRunTime: task.maxRunTime ?? 1200,
          ...(task.env ? { env: task.env } : {}),
          ...(mounts.length > 0 ? { mounts } : {}),
          ...(task.artifacts ? { artifacts: task.artifacts.map(artifact => ({ type: 'file', ...artifact, expires })) } : {}),
        },
        metadata: {
          name: task.label,
          description: task.description,
          owner: input.owner,
          source: `${input.htmlUrl}/blob/${input.revision}/scripts/graph.ts`,
        },
        tags: { label: task.label, kind: 'check' },
      },
    };
  });
};
