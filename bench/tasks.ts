/** Task definitions of the size that real ones have (about 2 KB). */
import crypto from 'node:crypto';

export const slugid = (): string => {
  const bytes = crypto.randomBytes(16);
  bytes[0] = (bytes[0] as number) & 0x7f;
  bytes[6] = ((bytes[6] as number) & 0x0f) | 0x40;
  bytes[8] = ((bytes[8] as number) & 0x3f) | 0x80;
  return bytes.toString('base64url');
};

const PAYLOAD = {
  command: [['/bin/bash', '-c', 'cd checkout && ./mach build --verbose && ./mach test --headless --log-level info']],
  maxRunTime: 3600,
  env: Object.fromEntries(Array.from({ length: 12 }, (_, i) => [`BUILD_SETTING_${i}`, `value-of-the-setting-number-${i}-of-this-build`])),
  artifacts: Array.from({ length: 4 }, (_, i) => ({
    type: 'file',
    name: `public/build/target-${i}.tar.gz`,
    path: `artifacts/target-${i}.tar.gz`,
  })),
};

export const aTask = (taskQueueId: string, more: object = {}): object => {
  const now = Date.now();
  return {
    taskQueueId,
    schedulerId: 'bench',
    projectId: 'bench',
    created: new Date(now).toISOString(),
    deadline: new Date(now + 3_600_000).toISOString(),
    payload: PAYLOAD,
    metadata: {
      name: 'build-linux64/opt',
      description: 'A build of the size that builds have',
      owner: 'bench@example.com',
      source: 'https://example.com/source',
    },
    tags: { kind: 'build', label: 'build-linux64/opt', os: 'linux', createdForUser: 'bench@example.com' },
    extra: {
      index: { rank: 1_234_567 },
      treeherder: { symbol: 'B', groupSymbol: '?', collection: { opt: true }, machine: { platform: 'linux64' }, tier: 1 },
    },
    ...more,
  };
};
