/**
 * What users wrote and we have to run: JSON-e templates, and JSON schemas, whose patterns can be made to take for ever. They run in processes of their
 * own within limits of time and memory; the server goes on meanwhile. A job says who it is for, and each gets one process at a time, so that nobody
 * holds up all others. Processes start when they are needed and end when they were idle for a while. Values pass as JSON text.
 *
 * (A worker thread will not do: a template that asks for a huge array at once ends the whole process, whatever the limits of the thread.)
 */
import { type Clock, systemClock } from '../clock.ts';
import { type Helper, startHelper } from './helper.ts';
import type { Job, Reply } from './program.ts';

export type Rendered =
  | { readonly ok: true; readonly text: string }
  | { readonly ok: false; readonly error: string; readonly tooSlow: boolean };
export interface Checked {
  /** A line each. */
  readonly problems: readonly string[];
  readonly tooSlow: boolean;
}

export interface Sandbox {
  /** A JSON-e template, made into JSON text (`null` when it renders to nothing); or why not. */
  render(owner: string, template: string, context: string): Promise<Rendered>;
  /** What is wrong with a JSON schema: it is not one, a `$ref` leads nowhere, a pattern does not compile. Nothing is ever fetched. */
  checkSchema(owner: string, schema: string): Promise<Checked>;
  /** What is wrong with some data, in Ajv's words (`data/x must be string`). */
  validate(owner: string, schema: string, data: string): Promise<Checked>;
  /** Ends the processes; what is under way or waits is told so. */
  close(): Promise<void>;
}

export interface SandboxOptions {
  /** What one job may take. */
  readonly limitMs?: number;
  /** Of a process's memory. */
  readonly maxHeapMib?: number;
  /** Bytes of a rendered template at most. */
  readonly maxOutputBytes?: number;
  readonly maxProcesses?: number;
  readonly idleMs?: number;
  /** Real time by default, in tests too: it measures work. */
  readonly clock?: Clock;
}

interface Waiting {
  readonly owner: string;
  readonly job: Job;
  readonly settle: (reply: Reply) => void;
  /** Its process was lost before: a second time is its own doing. */
  readonly again?: true;
}

const MIB = 1_048_576;
const CLOSING: Reply = { problem: 'The server is shutting down' };

export const openSandbox = (options: SandboxOptions = {}): Sandbox => {
  const { limitMs = 5_000, maxHeapMib = 256, maxOutputBytes = 10 * MIB, maxProcesses = 4, idleMs = 30_000, clock = systemClock } = options;
  const waiting: Waiting[] = [];
  const helpers = new Set<Helper>();
  const busy = new Set<string>();
  let closed = false;

  const perform = async (helper: Helper, each: Waiting): Promise<void> => {
    busy.add(each.owner);
    const reply = await helper.perform(each.job);
    busy.delete(each.owner);
    if ('lost' in reply && !each.again && !closed) {
      waiting.unshift({ ...each, again: true });
    } else {
      each.settle(reply);
    }
    next();
  };

  const next = (): void => {
    while (!closed) {
      const index = waiting.findIndex(each => !busy.has(each.owner));
      let helper = [...helpers].find(each => each.isIdle);
      if (index < 0 || (!helper && helpers.size >= maxProcesses)) {
        return;
      }
      if (!helper) {
        const started = startHelper({ limitMs, maxHeapMib, idleMs, clock, onEnd: () => helpers.delete(started) });
        helper = started;
        helpers.add(started);
      }
      void perform(helper, waiting.splice(index, 1)[0] as Waiting);
    }
  };

  const run = (owner: string, job: Job): Promise<Reply> =>
    new Promise((resolve, reject) => {
      if (closed) {
        reject(new Error('The sandbox is closed'));
        return;
      }
      waiting.push({ owner, job, settle: resolve });
      next();
    });

  const check = async (owner: string, job: Job): Promise<Checked> => {
    const reply = await run(owner, job);
    return 'problem' in reply
      ? { problems: [`${reply.problem}.`], tooSlow: reply.tooSlow ?? false }
      : { problems: JSON.parse(reply.text) as string[], tooSlow: false };
  };

  return {
    render: async (owner, template, context) => {
      const reply = await run(owner, { kind: 'render', template, context, maxOutputBytes });
      return 'problem' in reply ? { ok: false, error: reply.problem, tooSlow: reply.tooSlow ?? false } : { ok: true, text: reply.text };
    },
    checkSchema: (owner, schema) => check(owner, { kind: 'check', schema }),
    validate: (owner, schema, data) => check(owner, { kind: 'validate', schema, data }),
    close: async () => {
      closed = true;
      waiting.splice(0).forEach(({ settle }) => settle(CLOSING));
      await Promise.all([...helpers].map(helper => helper.end(CLOSING)));
    },
  };
};
