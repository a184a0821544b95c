/**
 * Which installation is meant, and as whom: the environment variables of every Taskcluster client, else the file that a local
 * installation writes (`.taskcluster/env` in this folder or one above), so that a fresh clone needs no set-up.
 *
 * The file counts only when it belongs to the caller and nobody else may read it, as the installation writes it. Version control keeps
 * neither, so that no clone of somebody else's tree can name the installation that is trusted with this person's work.
 */
import { lstatSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { connectionFromEnvironment, type Connection } from '@tscluster/client/credentials.ts';
import { Problem } from './problem.ts';

type Env = Readonly<Record<string, string | undefined>>;

/** Where a connection's values were found, for messages. */
export interface FoundConnection extends Connection {
  readonly source: 'environment' | 'file' | 'nowhere';
  readonly file?: string;
}

const ENV_FILE = join('.taskcluster', 'env');

/** Assignments of a shell file: `export NAME='value'`, with shell quoting; anything else in it is ignored. */
export const parseEnvFile = (text: string): Record<string, string> => {
  const values: Record<string, string> = {};
  for (const [, name, quoted] of text.matchAll(/^\s*(?:export\s+)?([A-Z_][A-Z0-9_]*)=(.*)$/gm)) {
    if (name !== undefined && quoted !== undefined) {
      values[name] = unquote(quoted.trim());
    }
  }
  return values;
};

const unquote = (text: string): string =>
  text.replace(/'([^']*)'|"((?:[^"\\]|\\.)*)"|\\(.)/g, (_, single?: string, double?: string, escaped?: string) =>
    single !== undefined ? single : double !== undefined ? double.replace(/\\(["$`\\])/g, '$1') : (escaped ?? ''),
  );

/** The nearest env file of a local installation, from a folder upwards, that is private to the caller. */
export const findEnvFile = (from: string, uid: number | undefined = process.getuid?.()): string | undefined => {
  for (let folder = from; ; folder = dirname(folder)) {
    const path = join(folder, ENV_FILE);
    const stat = lstatSync(path, { throwIfNoEntry: false });
    if (stat?.isFile() && (uid === undefined || (stat.uid === uid && (stat.mode & 0o077) === 0))) {
      return path;
    }
    if (dirname(folder) === folder) {
      return undefined;
    }
  }
};

/** The connection that the environment, or a local installation's file, gives. @throws {Problem} when half of the credentials is missing */
export const findConnection = (env: Env, folders: readonly string[]): FoundConnection => {
  const given = readConnection(env);
  if (given.rootUrl !== undefined) {
    return { ...given, source: 'environment' };
  }
  for (const folder of folders) {
    const file = findEnvFile(folder);
    if (file !== undefined) {
      const found = readConnection(parseEnvFile(readFileSync(file, 'utf8')));
      // credentials in the environment are meant for another installation, but whoever sets them by hand means them
      return { rootUrl: found.rootUrl, credentials: given.credentials ?? found.credentials, source: 'file', file };
    }
  }
  return { ...given, source: 'nowhere' };
};

const readConnection = (env: Env): Connection => {
  try {
    return connectionFromEnvironment(env);
  } catch (error) {
    throw new Problem(error instanceof Error ? error.message : String(error));
  }
};

/** @throws {Problem} when there is no root URL, or one that is not a URL */
export const requireRootUrl = (connection: FoundConnection): string => {
  if (connection.rootUrl === undefined) {
    throw new Problem(
      'No Taskcluster installation is known: TASKCLUSTER_ROOT_URL is not set, and no .taskcluster/env is in this folder or above.',
      'Start one with `taskcluster up`, or `. /path/to/.taskcluster/env` of a running one, or set TASKCLUSTER_ROOT_URL, TASKCLUSTER_CLIENT_ID and TASKCLUSTER_ACCESS_TOKEN.',
    );
  }
  if (!/^https?:\/\/[^/]+\/*$/.test(connection.rootUrl)) {
    throw new Problem(
      `The root URL "${connection.rootUrl}" is not one: it must be scheme and host, such as https://tc.example.org.`,
      connection.source === 'file' ? `It comes from ${connection.file}.` : 'It comes from TASKCLUSTER_ROOT_URL.',
    );
  }
  return connection.rootUrl.replace(/\/+$/, '');
};
