/**
 * Makes boxes ahead of the tasks that will need them, in the strongest form that the machine allows, and knows what an earlier life of this worker may
 * have left behind.
 */
import { access, mkdir, readdir, realpath, stat } from 'node:fs/promises';
import { constants } from 'node:fs';
import { join, sep } from 'node:path';
import { uuid } from '@tscluster/client/clock.ts';
import type { WorkerEnvironment } from '../context.ts';
import { messageOf } from '../errors.ts';
import { Box, killMarked, type BoxOptions, type Tools } from './box.ts';
import { removeTree } from './task-folder.ts';

const TOOL_FOLDERS = ['/usr/bin', '/bin', '/usr/sbin', '/sbin', '/usr/local/bin', '/run/current-system/sw/bin'];
const PIPE_SUFFIX = '.pipe';

type Form = Omit<BoxOptions, 'marker' | 'pipePath'>;

export class BoxSupply {
  /** What the boxes lack, in words for operators and task logs. */
  readonly notices: string[] = [];
  readonly #worker: WorkerEnvironment;
  #form: Form;
  #spare: Promise<Box> | undefined;
  #isClosed = false;

  private constructor(worker: WorkerEnvironment, form: Form) {
    this.#worker = worker;
    this.#form = form;
  }

  /** Cleans up, finds out what the machine allows, and makes the first box. */
  static async open(worker: WorkerEnvironment): Promise<BoxSupply> {
    const { tasksDir, cachesDir, downloadsDir, dataDir, hiddenPaths, isolation } = worker.config;
    for (const folder of [tasksDir, cachesDir, downloadsDir, dataDir]) {
      await mkdir(folder, { recursive: true, mode: 0o700 });
    }
    const supply = new BoxSupply(worker, {
      tools: await findTools(),
      isolated: isolation !== 'none' && process.platform === 'linux',
      tasksDir: await realpath(tasksDir),
      hidden: await listHidden([tasksDir, cachesDir, downloadsDir, dataDir, ...hiddenPaths]),
    });
    await supply.#cleanUp();
    await supply.#findForm();
    return supply;
  }

  get tasksDir(): string {
    return this.#form.tasksDir;
  }

  /** A box for one task. */
  async take(): Promise<Box> {
    const spare = this.#spare;
    this.#spare = undefined;
    const box = await spare?.catch(() => undefined);
    return box?.isOpen ? box : this.#make();
  }

  /** Makes the next box, unless there is one. To be called when a task has begun its work, so that it does not wait for this. */
  replenish(): void {
    if (!this.#spare && !this.#isClosed) {
      this.#spare = this.#make();
      // whoever takes it makes another one
      this.#spare.catch(() => {});
    }
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    const spare = this.#spare;
    this.#spare = undefined;
    await (await spare?.catch(() => undefined))?.kill();
  }

  #make(): Promise<Box> {
    const name = uuid(this.#worker.random);
    const { dataDir } = this.#worker.config;
    return Box.open({ ...this.#form, marker: `${this.#worker.marker}:${name}`, pipePath: join(dataDir, name + PIPE_SUFFIX) });
  }

  async #findForm(): Promise<void> {
    const { setpriv: _, ...withoutSetpriv } = this.#form.tools;
    const forms: Form[] = [
      ...(this.#form.isolated ? [{ ...this.#form }, { ...this.#form, tools: withoutSetpriv }] : []),
      { ...this.#form, isolated: false },
      { ...this.#form, isolated: false, tools: withoutSetpriv },
    ];
    let refusal = 'as configured, or because this is not Linux';
    for (const form of forms) {
      try {
        this.#spare = Promise.resolve(await this.#try(form));
        break;
      } catch (error) {
        refusal = form.isolated ? `because this machine refuses them (${messageOf(error)})` : refusal;
        if (form === forms.at(-1)) {
          throw error;
        }
      }
    }
    if (!this.#form.isolated) {
      this.notices.push(
        `Tasks run without namespaces, ${refusal}: they can read what the worker can read, and a process that hides may outlive its task.`,
      );
    } else if (process.getuid?.() === 0) {
      this.notices.push('Tasks run with the rights of root on files that are not hidden from them, because the worker runs as root.');
    }
  }

  async #try(form: Form): Promise<Box> {
    this.#form = form;
    const box = await this.#make();
    const end = await box.run([form.tools.sh, '-c', 'exit 42'], {});
    if (end?.exitCode !== 42) {
      await box.kill();
      throw new Error(`a command in a sandbox ended with ${end?.exitCode ?? 'its sandbox'}`);
    }
    return box;
  }

  async #cleanUp(): Promise<void> {
    const killed = await killMarked(value => value.startsWith(`${this.#worker.marker}:`));
    if (killed > 0) {
      this.#worker.monitor.warn({ processes: killed }, 'ended processes of an earlier life');
    }
    const { dataDir } = this.#worker.config;
    const folders = (await readdir(this.tasksDir)).filter(name => name.startsWith('task_')).map(name => join(this.tasksDir, name));
    const pipes = (await readdir(dataDir)).filter(name => name.endsWith(PIPE_SUFFIX)).map(name => join(dataDir, name));
    for (const path of [...folders, ...pipes]) {
      await removeTree(path);
    }
  }
}

const findTool = async (name: string): Promise<string | undefined> => {
  for (const folder of TOOL_FOLDERS) {
    const path = join(folder, name);
    const isThere = await access(path, constants.X_OK).then(
      () => true,
      () => false,
    );
    if (isThere) {
      return path;
    }
  }
  return undefined;
};

const findTools = async (): Promise<Tools> => {
  const [sh, env, mount, unshare, setpriv] = await Promise.all(['sh', 'env', 'mount', 'unshare', 'setpriv'].map(findTool));
  if (!sh || !env) {
    throw new Error('The process engine needs the programs sh and env.');
  }
  return { sh, env, ...(mount ? { mount } : {}), ...(unshare ? { unshare } : {}), ...(setpriv ? { setpriv } : {}) };
};

/** Folders and files to hide, each by its real path; what lies below another one needs no mount of its own. */
const listHidden = async (paths: readonly string[]): Promise<BoxOptions['hidden']> => {
  const found = await Promise.all(
    paths.map(async path => {
      try {
        const real = await realpath(path);
        return [{ real, isFolder: (await stat(real)).isDirectory() }];
      } catch {
        // what does not exist needs no hiding
        return [];
      }
    }),
  );
  const existing = found.flat();
  const folders = existing.filter(item => item.isFolder).map(item => item.real);
  const isCovered = (path: string): boolean => folders.some(folder => path.startsWith(folder + sep));
  const outermost = (list: readonly string[]): string[] => [...new Set(list)].filter(path => !isCovered(path));
  return { folders: outermost(folders), files: outermost(existing.filter(item => !item.isFolder).map(item => item.real)) };
};
