/**
 * The log of a run, from its first byte to its last, while it grows or after. The live log is a stream that may break at any time; it is
 * opened again, and what was already shown is skipped. Once the run is resolved the whole log is an artifact under another name.
 */
import type { TaskRun } from '@tscluster/api/queue/tasks.ts';
import { objectApi } from '@tscluster/api/object/api.ts';
import type { ArtifactContent } from '@tscluster/client/artifacts.ts';
import { ApiCallError } from '@tscluster/client/client.ts';
import type { Context, Installation, QueueClient } from '../context.ts';
import { Problem } from '../problem.ts';

const POLL_MS = 500;
const LIVE_LOG = 'public/logs/live.log';
const BACKING_LOG = 'public/logs/live_backing.log';

export interface LogRequest {
  readonly taskId: string;
  /** Default: the latest, and with `follow` every later one. */
  readonly runId?: number | undefined;
  /** Waits for a run to start, and for the next when a run is retried. */
  readonly follow: boolean;
  write(bytes: Uint8Array): Promise<void>;
  /** Called before the first byte of a run. */
  onRun?(runId: number): Promise<void>;
}

/** Writes a task's log. @throws {Problem} when there is none, or not yet and not to be waited for */
export const streamLog = async (context: Context, installation: Installation, request: LogRequest): Promise<void> => {
  const { queue } = installation;
  const { taskId } = request;
  const names = await logNames(queue, taskId);
  let next = request.runId;
  for (;;) {
    const { status } = await queue.status({ taskId });
    const run: TaskRun | undefined = next === undefined ? status.runs.at(-1) : status.runs[next];
    if (next !== undefined && !run && !(request.follow && next === status.runs.length)) {
      throw new Problem(
        `Task ${taskId} has no run ${next}: it has ${status.runs.length === 0 ? 'none yet' : `runs 0 to ${status.runs.length - 1}`}.`,
      );
    }
    if (!run || run.state === 'pending') {
      if (!request.follow) {
        const hint = `It is ${status.state}; --follow waits for it.`;
        throw new Problem(`Task ${taskId} has not started${run ? ` its run ${run.runId}` : ''}, so there is no log yet.`, hint);
      }
      if (!run && status.state !== 'unscheduled' && status.state !== 'pending') {
        return;
      }
      await context.clock.sleep(POLL_MS, context.signal);
      continue;
    }
    await request.onRun?.(run.runId);
    const resolved = await streamRun(context, installation, request, run.runId, names);
    if (!request.follow || request.runId !== undefined) {
      return;
    }
    const after = await queue.status({ taskId });
    if (after.status.runs.length <= run.runId + 1 || !resolved) {
      return;
    }
    next = run.runId + 1;
  }
};

const logNames = async (queue: QueueClient, taskId: string): Promise<{ live: string; backing: string }> => {
  const { payload } = await queue.task({ taskId });
  const logs = payload['logs'] as { live?: unknown; backing?: unknown } | undefined;
  const name = (value: unknown, otherwise: string): string => (typeof value === 'string' ? value : otherwise);
  return { live: name(logs?.live, LIVE_LOG), backing: name(logs?.backing, BACKING_LOG) };
};

/** Streams one run until its log is complete. @returns whether the run is resolved */
const streamRun = async (
  context: Context,
  installation: Installation,
  request: LogRequest,
  runId: number,
  names: { live: string; backing: string },
): Promise<boolean> => {
  const { queue } = installation;
  const params = { taskId: request.taskId, runId: String(runId) };
  const written = { bytes: 0 };
  for (;;) {
    const { status } = await queue.status({ taskId: request.taskId });
    const isResolved = status.runs[runId]?.resolved !== undefined;
    // the backing log of a resolved run is whole; the live log of a running one may become so while it is read
    for (const name of isResolved ? [names.backing, names.live] : [names.live]) {
      const outcome = await readOnce(context, installation, { ...params, name }, written, bytes => request.write(bytes));
      if (outcome === 'whole') {
        return isResolved || (await waitUntilResolved(context, queue, request, runId));
      }
    }
    if (isResolved) {
      if (written.bytes === 0) {
        throw new Problem(`Run ${runId} of task ${request.taskId} is ${status.runs[runId]?.state ?? 'over'} and left no log.`);
      }
      return true;
    }
    if (!request.follow && written.bytes > 0) {
      return false;
    }
    await context.clock.sleep(POLL_MS, context.signal);
  }
};

const waitUntilResolved = async (context: Context, queue: QueueClient, request: LogRequest, runId: number): Promise<boolean> => {
  while (request.follow) {
    const { status } = await queue.status({ taskId: request.taskId });
    if (status.runs[runId]?.resolved !== undefined) {
      return true;
    }
    await context.clock.sleep(POLL_MS, context.signal);
  }
  return false;
};

/** Where the bytes of an artifact are, or undefined when there are none (yet). */
const findUrl = async (
  installation: Installation,
  params: { taskId: string; runId: string; name: string },
): Promise<string | undefined> => {
  let content: ArtifactContent;
  try {
    content = await installation.queue.artifact(params);
  } catch (error) {
    if (error instanceof ApiCallError && error.statusCode === 404) {
      return undefined;
    }
    throw error;
  }
  if (content.storageType === 'object') {
    const { name, credentials } = content;
    const object = installation.client(objectApi, { credentials });
    return ((await object.startDownload({ name }, { acceptDownloadMethods: { getUrl: true } })) as { url: string }).url;
  }
  return content.storageType === 'error' ? undefined : content.url;
};

/** Reads a log once, and writes what is new. `whole`: it ended properly; `broken`: it was cut off; `absent`: there is none (yet). */
const readOnce = async (
  context: Context,
  installation: Installation,
  params: { taskId: string; runId: string; name: string },
  written: { bytes: number },
  write: (bytes: Uint8Array) => Promise<void>,
): Promise<'whole' | 'broken' | 'absent'> => {
  const url = await findUrl(installation, params);
  if (url === undefined) {
    return 'absent';
  }
  let seen = 0;
  try {
    const response = await context.fetch(url, { signal: context.signal });
    if (!response.ok || !response.body) {
      await response.body?.cancel();
      return response.status === 404 ? 'absent' : 'broken';
    }
    const reader = response.body.getReader();
    for (let part = await reader.read(); part.value; part = await reader.read()) {
      const from = Math.max(0, written.bytes - seen);
      seen += part.value.byteLength;
      if (from < part.value.byteLength) {
        const fresh = part.value.subarray(from);
        written.bytes += fresh.byteLength;
        await write(fresh);
      }
    }
    return 'whole';
  } catch (error) {
    if (context.signal.aborted) {
      throw error;
    }
    return 'broken';
  }
};

/** The last lines of a run's log, or undefined when it cannot be read; for telling why a task failed. */
export const readLogTail = async (
  context: Context,
  installation: Installation,
  taskId: string,
  maxLines: number,
): Promise<string[] | undefined> => {
  const { queue } = installation;
  const { status } = await queue.status({ taskId });
  const run = status.runs.at(-1);
  if (!run?.started) {
    return undefined;
  }
  const names = await logNames(queue, taskId);
  const decoder = new TextDecoder();
  let tail = '';
  const written = { bytes: 0 };
  const outcome = await readOnce(context, installation, { taskId, runId: String(run.runId), name: names.backing }, written, async bytes => {
    // enough for many long lines, whatever the log's size
    tail = (tail + decoder.decode(bytes, { stream: true })).slice(-64 * 1024);
  });
  return outcome === 'absent' || tail.trim() === '' ? undefined : tail.trimEnd().split('\n').slice(-maxLines);
};
