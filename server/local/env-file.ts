/** `DIR/env`: `. .taskcluster/env` makes any Taskcluster client in a shell work against this installation, as root. */
import path from 'node:path';
import { writePrivateFile } from './files.ts';
import { explainFileErrors } from './problem.ts';

export interface EnvFile {
  readonly rootUrl: string;
  readonly clientId: string;
  readonly accessToken: string;
}

/** Writes the file, mode 0600, all at once. Answers with its path. */
export const writeEnvFile = async (dataDir: string, { rootUrl, clientId, accessToken }: EnvFile): Promise<string> => {
  const file = path.join(dataDir, 'env');
  const lines = [
    `export TASKCLUSTER_ROOT_URL=${rootUrl}`,
    `export TASKCLUSTER_CLIENT_ID=${clientId}`,
    `export TASKCLUSTER_ACCESS_TOKEN=${accessToken}`,
    // one left by an earlier sign-in in the same shell would spoil these
    'unset TASKCLUSTER_CERTIFICATE',
  ];
  await explainFileErrors(file, () => writePrivateFile(file, `${lines.join('\n')}\n`));
  return file;
};
