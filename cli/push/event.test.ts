import { execFileSync } from 'node:child_process';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { makePushEvent, parseRemote } from './event.ts';
import { borrowObjects, commitWorkTree, findWorkTree, gitIn, listUncommitted, writeBundle, ZERO_SHA, type Git } from './git.ts';

let folder: string;
let tree: string;
let git: Git;

const sh = (...args: string[]): string => execFileSync('git', ['-C', tree, ...args], { encoding: 'utf8' }).trim();

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'push-'));
  tree = join(folder, 'widgets');
  await mkdir(tree);
  execFileSync('git', ['init', '-q', '-b', 'main', tree]);
  sh('config', 'user.name', 'Ada L');
  sh('config', 'user.email', 'ada@example.com');
  await writeFile(join(tree, 'a'), '1');
  await writeFile(join(tree, 'gone'), '1');
  sh('add', '.');
  sh('commit', '-q', '-m', 'First');
  await writeFile(join(tree, 'a'), '2');
  await mkdir(join(tree, 'ü b'));
  await writeFile(join(tree, 'ü b', 'c'), '1');
  await rm(join(tree, 'gone'));
  sh('add', '.');
  sh('commit', '-q', '-m', 'Second\n\nWith a body.');
  git = gitIn(tree);
});
afterEach(() => rm(folder, { recursive: true }));

const event = (before: string, after = sh('rev-parse', 'HEAD')) =>
  makePushEvent({
    git,
    after,
    before,
    branch: 'feature/x',
    bundleUrl: 'https://tc.example.net/bundle',
    now: new Date('2030-01-15T12:00:00.000Z'),
  });

describe('the event of a push', () => {
  test('names the commits with what they changed', async () => {
    sh('remote', 'add', 'origin', 'git@github.com:acme/widgets.git');
    const [first, second] = [sh('rev-parse', 'HEAD~1'), sh('rev-parse', 'HEAD')];
    const made = await event(ZERO_SHA);
    expect(made.created).toBe(true);
    expect(made.commits).toHaveLength(1);
    expect(await event(first)).toMatchObject({
      ref: 'refs/heads/feature/x',
      before: first,
      after: second,
      created: false,
      deleted: false,
      forced: false,
      base_ref: null,
      compare: `https://github.com/acme/widgets/compare/${first.slice(0, 12)}...${second.slice(0, 12)}`,
      pusher: { name: 'Ada-L', email: 'ada@example.com' },
      sender: { login: 'Ada-L', type: 'User', site_admin: false },
      head_commit: { id: second },
      commits: [
        {
          id: second,
          tree_id: sh('rev-parse', 'HEAD^{tree}'),
          distinct: true,
          message: 'Second\n\nWith a body.',
          timestamp: sh('show', '-s', '--format=%cI'),
          url: `https://github.com/acme/widgets/commit/${second}`,
          author: { name: 'Ada L', email: 'ada@example.com', username: 'Ada-L' },
          added: ['ü b/c'],
          removed: ['gone'],
          modified: ['a'],
        },
      ],
      repository: {
        name: 'widgets',
        full_name: 'acme/widgets',
        owner: { login: 'acme', name: 'acme' },
        html_url: 'https://github.com/acme/widgets',
        url: 'https://github.com/acme/widgets',
        clone_url: 'https://github.com/acme/widgets.git',
        ssh_url: 'git@github.com:acme/widgets.git',
        bundle_url: 'https://tc.example.net/bundle',
        default_branch: 'feature/x',
        pushed_at: 1_894_708_800,
        private: false,
      },
    });
  });

  test('lists several commits, the oldest first', async () => {
    await writeFile(join(tree, 'a'), '3');
    sh('commit', '-q', '-a', '-m', 'Third');
    const { commits } = await event(sh('rev-parse', 'HEAD~2'));
    expect(commits.map(({ message }) => message)).toEqual(['Second\n\nWith a body.', 'Third']);
    expect(commits[1]).toMatchObject({ added: [], modified: ['a'] });
  });

  test('has well-formed values without a remote', async () => {
    const { repository } = await event(ZERO_SHA);
    expect(repository).toMatchObject({
      full_name: 'Ada-L/widgets',
      html_url: 'https://localhost/Ada-L/widgets',
      clone_url: `file://${tree}`,
    });
  });
});

test.each([
  ['git@github.com:acme/widgets.git', 'github.com', 'acme', 'widgets'],
  ['https://user:secret@github.com/acme/widgets', 'github.com', 'acme', 'widgets'],
  ['ssh://git@git.example.com:2222/group/sub/widgets.git/', 'git.example.com', 'group/sub', 'widgets'],
])('the remote %s is understood', (url, host, owner, name) => {
  expect(parseRemote(url)).toEqual({ host, owner, name });
});

test.each(['/srv/git/widgets.git', 'file:///srv/widgets', '../widgets', 'https://example.com/widgets'])(
  'the remote %s names no owner',
  url => {
    expect(parseRemote(url)).toBeUndefined();
  },
);

describe('the source of a push', () => {
  test('is a bundle that can be cloned, uncommitted changes included, and leaves the repository alone', async () => {
    await writeFile(join(tree, 'a'), 'changed');
    await writeFile(join(tree, 'new'), 'new');
    sh('mv', 'ü b/c', 'moved');
    const before = [sh('status', '--porcelain'), sh('for-each-ref'), sh('count-objects')];
    expect(await listUncommitted(git)).toEqual([
      { status: ' M', path: 'a' },
      { status: 'R ', path: 'moved' },
      { status: '??', path: 'new' },
    ]);
    let temporary: string;
    {
      await using borrowed = await borrowObjects(git);
      temporary = borrowed.folder;
      const commit = await commitWorkTree(git, borrowed, 'All of it');
      const bundle = await writeBundle(borrowed, commit, 'feature/x');
      execFileSync('git', ['clone', '-q', bundle, join(folder, 'clone')]);
      const clone = gitIn(join(folder, 'clone'));
      expect(await clone.run(['rev-parse', 'HEAD'])).toBe(commit);
      expect(await clone.run(['rev-parse', 'HEAD~1'])).toBe(sh('rev-parse', 'HEAD'));
      expect(await clone.run(['symbolic-ref', '--short', 'HEAD'])).toBe('feature/x');
      expect(await readFile(join(folder, 'clone', 'new'), 'utf8')).toBe('new');
      expect(await readFile(join(folder, 'clone', 'a'), 'utf8')).toBe('changed');
      const made = await makePushEvent({
        git,
        after: commit,
        before: sh('rev-parse', 'HEAD'),
        branch: 'x',
        bundleUrl: 'x',
        now: new Date(0),
        env: borrowed.env,
      });
      expect(made.head_commit).toMatchObject({
        id: commit,
        message: 'All of it',
        added: ['moved', 'new'],
        modified: ['a'],
        removed: ['ü b/c'],
      });
    }
    await expect(readFile(temporary)).rejects.toThrow('ENOENT');
    expect([sh('status', '--porcelain'), sh('for-each-ref'), sh('count-objects')]).toEqual(before);
  });

  test('needs the whole history', async () => {
    execFileSync('git', ['clone', '-q', '--depth', '1', `file://${tree}`, join(folder, 'shallow')]);
    await expect(borrowObjects(gitIn(join(folder, 'shallow')))).rejects.toThrow('This clone is shallow');
  });

  test('is looked for in a work tree', async () => {
    expect(await findWorkTree(join(tree, 'ü b'))).toBe(tree);
    await expect(findWorkTree(folder)).rejects.toThrow('is not inside a git work tree');
    await expect(findWorkTree(join(folder, 'none'))).rejects.toThrow('There is no folder');
  });
});
