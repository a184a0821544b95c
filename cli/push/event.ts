/**
 * The event of a push of HEAD, with every field that GitHub sends when somebody pushes, so that a `.taskcluster.yml` renders here as it
 * will there. What only GitHub knows (ids, counts of stars) has values of the right type.
 */
import { createHash } from 'node:crypto';
import { basename } from 'node:path';
import { ZERO_SHA, type Git } from './git.ts';

interface Person {
  readonly name: string;
  readonly email: string;
  readonly username: string;
}

export interface Commit {
  readonly id: string;
  readonly tree_id: string;
  readonly distinct: boolean;
  readonly message: string;
  readonly timestamp: string;
  readonly url: string;
  readonly author: Person;
  readonly committer: Person;
  readonly added: readonly string[];
  readonly removed: readonly string[];
  readonly modified: readonly string[];
}

export interface PushEvent {
  readonly ref: string;
  readonly before: string;
  readonly after: string;
  readonly commits: readonly Commit[];
  readonly head_commit: Commit;
  readonly repository: {
    readonly name: string;
    readonly full_name: string;
    readonly owner: { readonly login: string; readonly [field: string]: unknown };
    readonly html_url: string;
    readonly url: string;
    readonly clone_url: string;
    /** Not GitHub's: where tasks get the source of a local push, as a git bundle. */
    readonly bundle_url: string;
    readonly [field: string]: unknown;
  };
  readonly [field: string]: unknown;
}

/** GitHub lists at most so many commits in an event. */
const MAX_COMMITS = 2048;

/** Host, owner and name of the repository that a remote's URL names, in any of git's spellings. */
export const parseRemote = (url: string): { host: string; owner: string; name: string } | undefined => {
  const match =
    /^(?:https?|ssh|git):\/\/(?:[^@/]*@)?([^/:]+)(?::\d+)?\/(.+?)\/?$/.exec(url) ?? /^(?:[^@/:]+@)?([^/:]+):(?!\/\/)(.+?)\/?$/.exec(url);
  const [, host, path] = match ?? [];
  const segments =
    path
      ?.replace(/\.git$/, '')
      .split('/')
      .filter(Boolean) ?? [];
  const name = segments.pop();
  return host !== undefined && name !== undefined && segments.length > 0 ? { host, owner: segments.join('/'), name } : undefined;
};

// GitHub's ids are numbers; equal names have equal ones here, too
const idOf = (text: string): number => createHash('sha256').update(text).digest().readUInt32BE(0);
const nodeId = (kind: string, text: string): string => Buffer.from(`${kind}:${idOf(text)}`).toString('base64');
const slug = (text: string): string =>
  text
    .trim()
    .replace(/[^A-Za-z0-9_.-]+/g, '-')
    .replace(/^-+|-+$/g, '');

export interface PushDescription {
  readonly git: Git;
  /** The commit that is pushed. */
  readonly after: string;
  /** The commit that the other side had; zeros for a new branch. */
  readonly before: string;
  readonly branch: string;
  readonly bundleUrl: string;
  readonly now: Date;
  /** In which git finds commits that the repository does not have. */
  readonly env?: Record<string, string>;
}

/** The event of a push. */
export const makePushEvent = async (push: PushDescription): Promise<PushEvent> => {
  const { git, after, before, branch } = push;
  const [userName, userEmail, remoteUrl] = await Promise.all([
    git.ask(['config', 'user.name']),
    git.ask(['config', 'user.email']),
    git.ask(['remote', 'get-url', 'origin']),
  ]);
  const remote = remoteUrl === undefined ? undefined : parseRemote(remoteUrl);
  const author = await git.run(['show', '-s', '--format=%an%x00%ae', after], push.env ? { env: push.env } : {});
  const [authorName = '', authorEmail = ''] = author.split('\0');
  const email = userEmail ?? authorEmail;
  const login = slug((userName ?? authorName) || email.replace(/@.*/, '')) || 'unknown';
  const owner = slug(remote?.owner ?? login) || 'unknown';
  const name = slug(remote?.name ?? basename(git.folder)) || 'repository';
  // a clone without a remote has no address; the one given here is well-formed and leads nowhere else
  const host = remote?.host ?? 'localhost';
  const htmlUrl = `https://${host}/${owner}/${name}`;
  const repository = makeRepository({
    owner,
    name,
    host,
    htmlUrl,
    branch,
    now: push.now,
    bundleUrl: push.bundleUrl,
    cloneUrl: remote ? `${htmlUrl}.git` : `file://${git.folder}`,
  });
  const commits = await listCommits(push, `${htmlUrl}/commit`);
  const headCommit = commits.at(-1) as Commit;
  return {
    ref: `refs/heads/${branch}`,
    before,
    after,
    repository,
    pusher: { name: login, email },
    sender: makeUser(login, host),
    created: before === ZERO_SHA,
    deleted: false,
    forced: false,
    base_ref: null,
    compare:
      before === ZERO_SHA ? `${htmlUrl}/commit/${after.slice(0, 12)}` : `${htmlUrl}/compare/${before.slice(0, 12)}...${after.slice(0, 12)}`,
    commits,
    head_commit: headCommit,
  };
};

const FORMAT = ['%H', '%T', '%an', '%ae', '%cn', '%ce', '%cI', '%B'].join('%x00');

/** The commits that a push brings, the oldest first, at least the last one. */
const listCommits = async (push: PushDescription, urlPrefix: string): Promise<Commit[]> => {
  const { git, after, before } = push;
  const options = push.env ? { env: push.env } : {};
  const range = before === ZERO_SHA || before === after ? ['--max-count=1', after] : [`--max-count=${MAX_COMMITS}`, after, `^${before}`];
  const log = await git.run(['log', '--topo-order', '-z', `--format=tformat:${FORMAT}%x00`, ...range], options);
  const fields = log.split('\0');
  const count = FORMAT.split('%x00').length + 1;
  const entries: string[][] = [];
  for (let at = 0; at + count <= fields.length; at += count) {
    entries.push(fields.slice(at, at + count));
  }
  const files = await listFiles(
    git,
    entries.map(([sha = '']) => sha),
    options,
  );
  return entries
    .map(
      ([
        id = '',
        treeId = '',
        authorName = '',
        authorEmail = '',
        committerName = '',
        committerEmail = '',
        timestamp = '',
        message = '',
      ]) => ({
        id,
        tree_id: treeId,
        distinct: true,
        message: message.replace(/\n+$/, ''),
        timestamp,
        url: `${urlPrefix}/${id}`,
        author: { name: authorName, email: authorEmail, username: slug(authorName) },
        committer: { name: committerName, email: committerEmail, username: slug(committerName) },
        ...(files.get(id) ?? { added: [], removed: [], modified: [] }),
      }),
    )
    .reverse();
};

interface Files {
  added: string[];
  removed: string[];
  modified: string[];
}

const listFiles = async (git: Git, shas: readonly string[], options: { env?: Record<string, string> }): Promise<Map<string, Files>> => {
  const args = ['diff-tree', '--stdin', '-r', '-z', '--root', '-m', '--first-parent', '--no-renames', '--name-status'];
  const tokens = (await git.run(args, { ...options, input: shas.map(sha => `${sha}\n`).join('') })).split('\0');
  const files = new Map<string, Files>();
  let current: Files | undefined;
  for (let at = 0; at < tokens.length; at += 1) {
    const token = tokens[at] ?? '';
    if (/^[0-9a-f]{40,64}$/.test(token)) {
      current = { added: [], removed: [], modified: [] };
      files.set(token, current);
    } else if (current && token !== '') {
      at += 1;
      const path = tokens[at] ?? '';
      const list = token === 'A' ? current.added : token === 'D' ? current.removed : current.modified;
      list.push(path);
    }
  }
  return files;
};

const makeUser = (login: string, host: string) => {
  const url = `https://api.${host}/users/${login}`;
  return {
    login,
    id: idOf(login),
    node_id: nodeId('User', login),
    avatar_url: `https://${host}/${login}.png`,
    gravatar_id: '',
    url,
    html_url: `https://${host}/${login}`,
    followers_url: `${url}/followers`,
    following_url: `${url}/following{/other_user}`,
    gists_url: `${url}/gists{/gist_id}`,
    starred_url: `${url}/starred{/owner}{/repo}`,
    subscriptions_url: `${url}/subscriptions`,
    organizations_url: `${url}/orgs`,
    repos_url: `${url}/repos`,
    events_url: `${url}/events{/privacy}`,
    received_events_url: `${url}/received_events`,
    type: 'User',
    user_view_type: 'public',
    site_admin: false,
  };
};

/** Paths below a repository's API address; `{…}` are GitHub's own URL templates. */
const API_PATHS: Readonly<Record<string, string>> = {
  forks_url: '/forks',
  keys_url: '/keys{/key_id}',
  collaborators_url: '/collaborators{/collaborator}',
  teams_url: '/teams',
  hooks_url: '/hooks',
  issue_events_url: '/issues/events{/number}',
  events_url: '/events',
  assignees_url: '/assignees{/user}',
  branches_url: '/branches{/branch}',
  tags_url: '/tags',
  blobs_url: '/git/blobs{/sha}',
  git_tags_url: '/git/tags{/sha}',
  git_refs_url: '/git/refs{/sha}',
  trees_url: '/git/trees{/sha}',
  statuses_url: '/statuses/{sha}',
  languages_url: '/languages',
  stargazers_url: '/stargazers',
  contributors_url: '/contributors',
  subscribers_url: '/subscribers',
  subscription_url: '/subscription',
  commits_url: '/commits{/sha}',
  git_commits_url: '/git/commits{/sha}',
  comments_url: '/comments{/number}',
  issue_comment_url: '/issues/comments{/number}',
  contents_url: '/contents/{+path}',
  compare_url: '/compare/{base}...{head}',
  merges_url: '/merges',
  archive_url: '/{archive_format}{/ref}',
  downloads_url: '/downloads',
  issues_url: '/issues{/number}',
  pulls_url: '/pulls{/number}',
  milestones_url: '/milestones{/number}',
  notifications_url: '/notifications{?since,all,participating}',
  labels_url: '/labels{/name}',
  releases_url: '/releases{/id}',
  deployments_url: '/deployments',
};

const makeRepository = (of: {
  owner: string;
  name: string;
  host: string;
  htmlUrl: string;
  branch: string;
  now: Date;
  bundleUrl: string;
  cloneUrl: string;
}): PushEvent['repository'] => {
  const { owner, name, host, htmlUrl, branch } = of;
  const fullName = `${owner}/${name}`;
  const apiUrl = `https://api.${host}/repos/${fullName}`;
  const seconds = Math.floor(of.now.getTime() / 1000);
  return {
    id: idOf(fullName),
    node_id: nodeId('Repository', fullName),
    name,
    full_name: fullName,
    private: false,
    owner: { name: owner, email: null, ...makeUser(owner, host) },
    html_url: htmlUrl,
    description: null,
    fork: false,
    url: htmlUrl,
    ...Object.fromEntries(Object.entries(API_PATHS).map(([key, path]) => [key, apiUrl + path])),
    created_at: seconds,
    updated_at: of.now.toISOString(),
    pushed_at: seconds,
    git_url: `git://${host}/${fullName}.git`,
    ssh_url: `git@${host}:${fullName}.git`,
    clone_url: of.cloneUrl,
    bundle_url: of.bundleUrl,
    svn_url: htmlUrl,
    homepage: null,
    size: 0,
    stargazers_count: 0,
    watchers_count: 0,
    language: null,
    has_issues: true,
    has_projects: true,
    has_downloads: true,
    has_wiki: true,
    has_pages: false,
    has_discussions: false,
    forks_count: 0,
    mirror_url: null,
    archived: false,
    disabled: false,
    open_issues_count: 0,
    license: null,
    allow_forking: true,
    is_template: false,
    web_commit_signoff_required: false,
    topics: [],
    visibility: 'public',
    forks: 0,
    open_issues: 0,
    watchers: 0,
    default_branch: branch,
    stargazers: 0,
    master_branch: branch,
    custom_properties: {},
  };
};
