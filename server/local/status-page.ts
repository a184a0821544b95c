/**
 * The page at `/` and at every link until there is a user interface: what runs, what waits, where to read on. It shows what callers without credentials may read, and
 * nothing when they may read nothing. No scripts; light or dark as the browser is.
 */
import type { queueApi } from '@tscluster/api/queue/api.ts';
import type { Client } from '@tscluster/client/client.ts';
import type { Page } from '../platform/http.ts';
import type { Version } from '../platform/operational.ts';

export interface QueueStatus {
  readonly taskQueueId: string;
  readonly pendingTasks: number;
}

export interface Status {
  readonly rootUrl: string;
  readonly version: Version;
  /** Names of the services with an API. */
  readonly services: readonly string[];
  /** Undefined when callers without credentials may not see them. */
  readonly queues: readonly QueueStatus[] | undefined;
  readonly envFile: string;
}

const SLUGID = '[A-Za-z0-9_-]{22}';

/** What stands in for the page that a link means: where its data is. Empty for `/`. */
const aboutPath = (path: string): string => {
  const links = (heading: string, pairs: readonly (readonly [string, string])[]): string =>
    `<h2>${heading}</h2>\n<table><tbody>${pairs.map(([name, url]) => `<tr><td>${name}</td><td><a href="${escape(url)}">${escape(url)}</a></td></tr>`).join('')}</tbody></table>`;
  const group = new RegExp(`^/tasks/groups/(${SLUGID})(?:/.*)?$`).exec(path)?.[1];
  if (group !== undefined) {
    const url = `/api/queue/v1/task-group/${group}`;
    return links(`Task group <code>${group}</code>`, [
      ['its tasks and their states', `${url}/list`],
      ['the group', url],
    ]);
  }
  const task = new RegExp(`^/tasks/(${SLUGID})(?:/.*)?$`).exec(path)?.[1];
  if (task !== undefined) {
    const url = `/api/queue/v1/task/${task}`;
    return links(`Task <code>${task}</code>`, [
      ['state and runs', `${url}/status`],
      ['definition', url],
      ['artifacts of the last run', `${url}/artifacts`],
      ['log of the last run', `${url}/artifacts/public/logs/live.log`],
    ]);
  }
  return path === '/' ? '' : `<p>There is no page for <code>${escape(path)}</code> yet.</p>`;
};

const escape = (text: string): string =>
  text.replace(/[&<>"']/g, character => ({ '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&#39;' })[character] as string);

const STYLE = `:root{color-scheme:light dark;--line:#8884}
body{font:16px/1.5 system-ui,sans-serif;margin:2.5rem auto;max-width:46rem;padding:0 1rem}
h1{margin:0}h2{font-size:1.1rem;margin:2rem 0 .5rem}p{margin:.4rem 0}
table{border-collapse:collapse;width:100%}th,td{text-align:left;padding:.3rem .6rem .3rem 0;border-bottom:1px solid var(--line)}
td.number,th.number{text-align:right}code,pre{font:.9em ui-monospace,monospace}
pre{padding:.7rem 1rem;border:1px solid var(--line);border-radius:6px;overflow:auto}`;

const queueTable = (queues: Status['queues']): string => {
  if (queues === undefined) {
    return '<p>Callers without credentials may not see the task queues here.</p>';
  }
  if (queues.length === 0) {
    return '<p>No worker has asked for tasks yet.</p>';
  }
  const rows = queues.map(
    ({ taskQueueId, pendingTasks }) => `<tr><td><code>${escape(taskQueueId)}</code></td><td class="number">${pendingTasks}</td></tr>`,
  );
  return `<table><thead><tr><th>Task queue</th><th class="number">Tasks waiting</th></tr></thead><tbody>${rows.join('')}</tbody></table>`;
};

/** The page as HTML. */
export const renderStatus = ({ rootUrl, version, services, queues, envFile }: Status, path = '/'): string => {
  const commit = version.commit ? `, commit <code>${escape(version.commit.slice(0, 12))}</code>` : '';
  const rows = services.map(name => {
    const reference = `/references/${encodeURIComponent(name)}/v1/api.json`;
    return `<tr><td>${escape(name)}</td><td><a href="${escape(reference)}">reference</a></td><td><a href="/api/${encodeURIComponent(name)}/v1/ping">ping</a></td></tr>`;
  });
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Taskcluster</title>
<style>${STYLE}</style>
</head>
<body>
<h1>Taskcluster</h1>
<p>Version ${escape(version.version)}${commit}, at <code>${escape(rootUrl)}</code>.</p>
${aboutPath(path)}
<h2>Services</h2>
<table><tbody>${rows.join('')}</tbody></table>
<p>All references and schemas are listed in the <a href="/references/manifest.json">manifest</a>.</p>
<h2>Task queues</h2>
${queueTable(queues)}
<h2>Use it</h2>
<p>In a shell on this machine, any Taskcluster client works after</p>
<pre>. ${escape(envFile)}</pre>
<p><a href="/login/link">Who is signed in here</a></p>
</body>
</html>
`;
};

const MAX_PROVISIONERS = 20;
const MAX_QUEUES = 100;

/** The task queues as a caller without credentials sees them; undefined when it may not. */
export const readQueues = async (
  queue: Pick<Client<typeof queueApi>, 'listProvisioners' | 'listWorkerTypes' | 'pendingTasks'>,
): Promise<QueueStatus[] | undefined> => {
  try {
    const { provisioners } = await queue.listProvisioners();
    const lists = await Promise.all(
      provisioners.slice(0, MAX_PROVISIONERS).map(({ provisionerId }) => queue.listWorkerTypes({ provisionerId })),
    );
    const ids = lists.flatMap(({ workerTypes }) => workerTypes.map(({ provisionerId, workerType }) => `${provisionerId}/${workerType}`));
    return await Promise.all(
      ids
        .slice(0, MAX_QUEUES)
        .map(async taskQueueId => ({ taskQueueId, pendingTasks: (await queue.pendingTasks({ taskQueueId })).pendingTasks })),
    );
  } catch {
    return undefined; // not allowed, or the database is away at the moment: the rest of the page is true all the same
  }
};

/** Paths that are programs' and not people's: there a missing page is a 404. */
const NOT_A_PAGE = /^\/(?:api|references|schemas|graphql|subscription|login|__\w+__)(?:\/|$)/;

/** Answers every path that may be a page's (the protocol has no unknown ones: a user interface decides by itself what they mean). */
export const statusPage =
  (read: () => Promise<Status>) =>
  async (path: string): Promise<Page | undefined> => {
    if (NOT_A_PAGE.test(path)) {
      return undefined;
    }
    return {
      status: 200,
      headers: {
        'content-type': 'text/html; charset=utf-8',
        'cache-control': 'no-store',
        'content-security-policy':
          "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
        'x-content-type-options': 'nosniff',
        'referrer-policy': 'no-referrer',
      },
      body: renderStatus(await read(), path),
    };
  };
