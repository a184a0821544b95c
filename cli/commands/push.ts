/**
 * `push [DIR]`: what would happen if HEAD were pushed to GitHub. Renders the tree's `.taskcluster.yml` for the event of such a push, brings
 * the source to where the tasks can get it, creates the tasks, and watches until everything they started is over.
 */
import { readFile } from 'node:fs/promises';
import { join, relative, resolve } from 'node:path';
import { Option, type Command } from 'commander';
import { slugid } from '@tscluster/client/clock.ts';
import { leaf } from '../command.ts';
import { connect, note, printJson, type Context, type Installation } from '../context.ts';
import { type GraphTask, submitGraph } from '../graph.ts';
import { Problem } from '../problem.ts';
import { makePushEvent, parseRemote } from '../push/event.ts';
import {
  borrowObjects,
  commitWorkTree,
  findWorkTree,
  gitIn,
  listUncommitted,
  writeBundle,
  ZERO_SHA,
  type Borrowed,
  type Git,
} from '../push/git.ts';
import { nameOf, renderTaskclusterYml, type Rendered } from '../push/render.ts';
import { planSource, uploadSource } from '../push/source.ts';
import { plain } from '../render/table.ts';
import { readGroups, watchTasks } from '../watch/watch.ts';

interface PushOptions {
  readonly branch?: string;
  readonly before?: string;
  readonly uncommitted: 'ignore' | 'include' | 'refuse';
  readonly tasksFor: string;
  readonly project: string;
  readonly dryRun?: boolean;
  readonly wait: boolean;
  readonly follow?: boolean;
  readonly json?: boolean;
}

const FILE = '.taskcluster.yml';
const MAX_NAMED_CHANGES = 10;

/** Names what is not committed, and does with it what was asked for. @returns the commit that is pushed */
const chooseCommit = async (context: Context, git: Git, borrowed: Borrowed, options: PushOptions): Promise<string> => {
  const head = await git.ask(['rev-parse', '--verify', '--quiet', 'HEAD^{commit}']);
  if (head === undefined) {
    throw new Problem(`${git.folder} has no commits yet, so there is nothing to push.`, 'Commit something first.');
  }
  const changes = await listUncommitted(git);
  if (changes.length === 0) {
    return head;
  }
  const named = changes.slice(0, MAX_NAMED_CHANGES).map(({ status, path }) => `  ${status} ${plain(path)}`);
  const more = changes.length - named.length;
  const list = [...named, ...(more > 0 ? [`  … and ${more} more`] : [])].join('\n');
  const count = `${changes.length} uncommitted ${changes.length === 1 ? 'change' : 'changes'}`;
  switch (options.uncommitted) {
    case 'refuse':
      throw new Problem(`The work tree has ${count}:\n${list}`, 'Commit them, or push with --uncommitted include or --uncommitted ignore.');
    case 'include': {
      await note(context, `Included: ${count}.`);
      return commitWorkTree(
        git,
        borrowed,
        `Uncommitted changes on top of ${head.slice(0, 12)}\n\nMade by taskcluster push for these tasks only.`,
      );
    }
    default:
      await note(context, `Not included: ${count}, which --uncommitted include would add:\n${list}`);
      return head;
  }
};

/** What the other side has of the branch: what was asked for, else its upstream, else the parent. */
const chooseBefore = async (git: Git, options: PushOptions): Promise<string> => {
  if (options.before !== undefined) {
    const given = await git.ask(['rev-parse', '--verify', '--quiet', `${options.before}^{commit}`]);
    if (given === undefined && options.before !== ZERO_SHA) {
      throw new Problem(`--before ${options.before} names no commit of this repository.`);
    }
    return given ?? ZERO_SHA;
  }
  const [head, upstream, parent] = await Promise.all([
    git.ask(['rev-parse', 'HEAD']),
    git.ask(['rev-parse', '--verify', '--quiet', '@{upstream}^{commit}']),
    git.ask(['rev-parse', '--verify', '--quiet', 'HEAD~1']),
  ]);
  return (upstream === head ? undefined : upstream) ?? parent ?? ZERO_SHA;
};

/** The file as the pushed commit has it. */
const readFileOf = async (git: Git, commit: string, borrowed: Borrowed): Promise<string> => {
  const { env } = borrowed;
  const text = await git.run(['show', `${commit}:${FILE}`], { env }).catch(() => undefined);
  if (text === undefined) {
    const isThere = await readFile(join(git.folder, FILE), 'utf8').then(
      () => true,
      () => false,
    );
    throw new Problem(
      `There is no ${FILE} in ${isThere ? 'the commit that is pushed' : git.folder}, so no tasks are defined.`,
      isThere ? 'Commit it, or push with --uncommitted include.' : `Write one: it says which tasks a push starts.`,
    );
  }
  return text;
};

const createTasks = async (installation: Installation, rendered: Rendered): Promise<void> => {
  const names = new Map(rendered.tasks.map(task => [task.taskId, nameOf(task)]));
  for (const [taskGroupId, tasks] of Map.groupBy(rendered.tasks, task => task.taskGroupId)) {
    // what the template made is the queue's to judge
    const graph = tasks.map(({ taskId, definition }) => ({ taskId, task: definition as GraphTask['task'] }));
    await submitGraph(installation, taskGroupId, graph, { nameOf: taskId => names.get(taskId) ?? taskId });
  }
};

const push = async (context: Context, folder: string, options: PushOptions): Promise<void> => {
  const workTree = await findWorkTree(resolve(context.cwd, folder));
  const installation = connect(context, [workTree]);
  const git = gitIn(workTree);
  await using borrowed = await borrowObjects(git);
  const commit = await chooseCommit(context, git, borrowed, options);
  const branch = options.branch ?? (await git.ask(['symbolic-ref', '--short', '--quiet', 'HEAD'])) ?? 'detached';
  const remoteUrl = await git.ask(['remote', 'get-url', 'origin']);
  const remote = remoteUrl === undefined ? undefined : parseRemote(remoteUrl);
  const repository = remote ? `${remote.host}/${remote.owner}/${remote.name}` : 'local';
  const source = await planSource(context, installation, { repository, sha: commit });
  const now = context.clock.now();
  const event = await makePushEvent({
    git,
    after: commit,
    before: await chooseBefore(git, options),
    branch,
    bundleUrl: source.url,
    now,
    env: borrowed.env,
  });
  const rendered = renderTaskclusterYml({
    text: await readFileOf(git, commit, borrowed),
    path: relative(context.cwd, join(workTree, FILE)) || FILE,
    event,
    tasksFor: options.tasksFor,
    rootUrl: installation.rootUrl,
    now,
    newSlugid: () => slugid(context.random),
  });
  if (rendered.hooks.length > 0) {
    await note(context, `Not triggered, as only GitHub's own events may: the hooks ${rendered.hooks.join(', ')}.`);
  }
  if (options.dryRun) {
    await printJson(context, { event, tasks: rendered.tasks });
    return;
  }
  if (rendered.tasks.length === 0) {
    await note(context, `${FILE} starts no tasks for a push to ${branch}.`);
    if (options.json) {
      await printJson(context, { commit, branch, tasks: [], isGreen: true });
    }
    return;
  }
  const bundle = await writeBundle(borrowed, commit, branch);
  const sizeBytes = await uploadSource(context, installation, source, bundle, options.project);
  await note(context, `Source of ${commit.slice(0, 12)} on ${branch}: ${(sizeBytes / 1e6).toFixed(1)} MB uploaded.`);
  await createTasks(installation, rendered);
  const groupIds = [...new Set(rendered.tasks.map(task => task.taskGroupId))];
  for (const groupId of groupIds) {
    await note(context, `Task group ${groupId}: ${installation.rootUrl}/tasks/groups/${groupId}`);
  }
  const created = {
    commit,
    branch,
    taskGroupIds: groupIds,
    tasks: rendered.tasks.map(task => ({ taskId: task.taskId, name: nameOf(task) })),
  };
  if (!options.wait) {
    if (options.json) {
      await printJson(context, created);
    }
    return;
  }
  const summary = await watchTasks(context, {
    installation,
    read: () => readGroups(installation.queue, groupIds),
    follow: options.follow ?? false,
    json: options.json ?? false,
  }).catch(async (error: unknown) => {
    if (context.signal.aborted) {
      await note(context, `The tasks go on. To watch them again: taskcluster group status --watch ${groupIds[0]}`);
    }
    throw error;
  });
  if (options.json) {
    await printJson(context, { ...created, isGreen: summary.isGreen, counts: summary.counts, tasks: summary.tasks });
  }
};

export const pushCommand = (context: Context): Command =>
  leaf('push', `start what ${FILE} says for a push of HEAD, and watch it`)
    .argument('[dir]', 'a folder of the git work tree', '.')
    .option('-b, --branch <name>', 'push to this branch; default: the present one')
    .option('--before <commit>', 'what the other side has; default: the upstream branch, or the parent of HEAD')
    .addOption(
      new Option('--uncommitted <what>', 'what to do with uncommitted changes, ignored files excepted')
        .choices(['ignore', 'include', 'refuse'])
        .default('ignore'),
    )
    .option('--tasks-for <event>', 'the value of tasks_for', 'github-push')
    .option('--project <id>', 'the project that stores the source', 'none')
    .option('-n, --dry-run', 'print the event and the tasks as JSON, and create nothing')
    .option('--no-wait', 'do not wait for the tasks')
    .option('--follow', 'show the logs of all tasks')
    .addHelpText(
      'after',
      `
The tasks get the source as a git bundle: event.repository.bundle_url is its URL, valid for as long as
tasks of this push can live. In a task: curl -sfL -o source.bundle "$URL" && git clone source.bundle source

Exit status: 0 when every task completed, 1 when not, 2 when the push itself was not possible.
`,
    )
    .action((folder: string, options: PushOptions) => push(context, folder, options));
