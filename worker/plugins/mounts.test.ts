import { createHash } from 'node:crypto';
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { brotliCompressSync, deflateSync, gzipSync, zstdCompressSync } from 'node:zlib';
import { isNamespaced } from '../testing/isolation.ts';
import { withWorker, type WorkerUnderTest } from '../testing/with-worker.ts';

// processes start and end while the machine has other things to do
vi.setConfig({ testTimeout: 30_000 });

const sh = (script: string): string[] => ['/bin/sh', '-ec', script];
const sha256 = (bytes: string | Buffer): string => createHash('sha256').update(bytes).digest('hex');

let t: WorkerUnderTest;
let folder: string;
const served = new Map<string, Buffer>();
const requested: string[] = [];
let tar: Buffer;

beforeAll(async () => {
  t = await withWorker({ capacity: 1 });
  folder = mkdtempSync(join(tmpdir(), 'tscluster-mounts-'));
  mkdirSync(join(folder, 'in/deep'), { recursive: true });
  writeFileSync(join(folder, 'in/deep/file.txt'), 'packed\n');
  execFileSync('tar', ['-cf', join(folder, 'a.tar'), '-C', join(folder, 'in'), '.']);
  tar = readFileSync(join(folder, 'a.tar'));
  t.queue.intercept = ({ path }) => {
    const body = path.startsWith('/files/') ? served.get(path.slice('/files/'.length)) : undefined;
    if (path.startsWith('/files/')) {
      requested.push(path);
    }
    return body && { status: 200, body };
  };
});

afterAll(async () => {
  await t[Symbol.asyncDispose]();
  rmSync(folder, { recursive: true, force: true });
});

const serve = (name: string, body: Buffer): string => {
  served.set(name, body);
  return `${t.queue.rootUrl}/files/${name}`;
};

const run = async (mounts: unknown[], script: string, definition: Record<string, unknown> = {}, payload: Record<string, unknown> = {}) => {
  const task = t.queue.addTask({ command: [sh(script)], maxRunTime: 60, mounts, ...payload }, definition);
  return t.queue.resolved(task);
};

test('files come from the payload, as text and decoded from base64', async () => {
  const task = await run(
    [
      { file: 'a/b/raw.txt', content: { raw: 'as it is\n' } },
      { file: 'bin', content: { base64: Buffer.from([0, 1, 2, 255]).toString('base64') } },
    ],
    'cat a/b/raw.txt; od -An -tx1 bin',
  );
  expect(t.queue.log(task)).toContain('as it is\n 00 01 02 ff\n');
  expect(task.state).toBe('completed');
});

describe('every supported archive format is unpacked', () => {
  const formats: [string, (bytes: Buffer) => Buffer][] = [
    ['tar', bytes => bytes],
    ['tar.gz', bytes => gzipSync(bytes)],
    ['tar.br', bytes => brotliCompressSync(bytes)],
    ['tar.zst', bytes => zstdCompressSync(bytes)],
    ['tar.zz', bytes => deflateSync(bytes)],
    ['tar.bz2', bytes => Buffer.from(execFileSync('bzip2', ['-c'], { input: bytes }))],
    ['tar.xz', bytes => Buffer.from(execFileSync('xz', ['-c'], { input: bytes }))],
  ];
  test.each(formats)('%s', async (format, pack) => {
    const url = serve(`a.${format}`, pack(tar));
    const task = await run([{ directory: 'out', content: { url }, format }], 'cat out/deep/file.txt');
    expect(t.queue.log(task)).toContain('packed\n');
    expect(task.state).toBe('completed');
  });

  test('zip', async () => {
    execFileSync('python3', [
      '-c',
      `import zipfile,sys
z=zipfile.ZipFile(sys.argv[1],'w')
z.writestr('deep/file.txt','zipped\\n')
i=zipfile.ZipInfo('run.sh'); i.external_attr=0o755<<16; z.writestr(i,'#!/bin/sh\\necho ran\\n')
l=zipfile.ZipInfo('link'); l.external_attr=0o120777<<16; z.writestr(l,'deep/file.txt')
z.close()`,
      join(folder, 'a.zip'),
    ]);
    const url = serve('a.zip', readFileSync(join(folder, 'a.zip')));
    const task = await run([{ directory: 'out', content: { url }, format: 'zip' }], 'cat out/link; out/run.sh');
    expect(t.queue.log(task)).toContain('zipped\nran\n');
  });
});

test('a compressed file is decompressed', async () => {
  const url = serve('one.gz', gzipSync('plain\n'));
  const task = await run([{ file: 'one', content: { url }, format: 'gz' }], 'cat one');
  expect(t.queue.log(task)).toContain('plain\n');
});

test('a format that is not supported is named', async () => {
  const url = serve('a.7z', Buffer.from('x'));
  const task = await run([{ directory: 'out', content: { url }, format: '7z' }], 'true');
  expect(task).toMatchObject({ state: 'exception', reason: 'malformed-payload' });
  expect(t.queue.log(task)).toContain('the format "7z" of out is not supported');
});

test('an archive writes nothing outside its folder', async () => {
  execFileSync('python3', [
    '-c',
    `import tarfile,sys,io
t=tarfile.open(sys.argv[1],'w')
def add(i,d=b''): i.size=len(d); t.addfile(i,io.BytesIO(d))
l=tarfile.TarInfo('link'); l.type=tarfile.SYMTYPE; l.linkname=sys.argv[2]; t.addfile(l)
add(tarfile.TarInfo('link/through'),b'evil')
add(tarfile.TarInfo('../up'),b'evil')
t.close()`,
    join(folder, 'evil.tar'),
    folder,
  ]);
  const url = serve('evil.tar', readFileSync(join(folder, 'evil.tar')));
  const task = await run([{ directory: 'out', content: { url }, format: 'tar' }], 'true');
  expect(() => readFileSync(join(folder, 'through'))).toThrow('ENOENT');
  expect(() => readFileSync(join(t.config.tasksDir, 'up'))).toThrow('ENOENT');
  expect(task.state).toBe('failed');
});

test('a hash that is not the one named fails the task after one more download', async () => {
  const url = serve('hashed', Buffer.from('content'));
  const good = await run([{ file: 'f', content: { url, sha256: sha256('content') } }], 'cat f');
  expect(good.state).toBe('completed');
  requested.length = 0;
  const bad = await run([{ file: 'f', content: { url, sha256: sha256('other') } }], 'cat f');
  expect(bad.state).toBe('failed');
  expect(requested).toEqual(['/files/hashed']);
  expect(t.queue.log(bad)).toContain(`its SHA-256 is ${sha256('content')}, not ${sha256('other')}`);
});

test('content is downloaded once, and permission to read an artifact is asked each time', async () => {
  const producer = t.queue.addTask({
    command: [sh('echo made > out.txt')],
    maxRunTime: 60,
    artifacts: [{ type: 'file', path: 'out.txt' }],
  });
  await t.queue.resolved(producer);
  const mount = { file: 'in.txt', content: { taskId: producer.taskId, artifact: 'out.txt' } };
  const definition = { dependencies: [producer.taskId] };
  t.queue.requests.length = 0;
  for (const _ of [1, 2]) {
    const consumer = await run([mount], 'cat in.txt', definition);
    expect(t.queue.log(consumer)).toContain('made\n');
  }
  const asked = t.queue.requests
    .filter(({ method, path }) => method === 'GET' && !path.startsWith('/api/purge-cache/'))
    .map(({ path }) => path);
  const content = `/api/queue/v1/task/${producer.taskId}/artifact-content/out.txt`;
  expect(asked).toEqual([content, `/storage/${producer.taskId}/out.txt`, content]);

  const stranger = await run([mount], 'cat in.txt');
  expect(stranger).toMatchObject({ state: 'exception', reason: 'malformed-payload' });
  expect(t.queue.log(stranger)).toContain("which is not among the task's dependencies");
});

test('content that cannot be had fails the task', async () => {
  const task = await run([{ file: 'f', content: { url: `${t.queue.rootUrl}/files/absent` } }], 'true');
  expect(task.state).toBe('failed');
  expect(t.queue.log(task)).toContain('/files/absent was refused with status 404');
});

test('an index path is resolved each time; without an index the task fails and says so', async () => {
  const task = await run([{ file: 'f', content: { namespace: 'a.b', artifact: 'x' } }], 'true');
  expect(task.state).toBe('failed');
  expect(t.queue.log(task)).toContain('the artifact x of the task indexed as a.b for f could not be fetched: no task is indexed there');
});

describe('caches', () => {
  const cache = (name: string) => ({ directory: 'cache', cacheName: name });
  const scopes = { scopes: ['generic-worker:cache:*'] };

  test('what a task leaves in a cache is there for the next', async () => {
    await run([cache('kept')], 'echo first > cache/f', scopes);
    const next = await run([cache('kept')], 'cat cache/f', scopes);
    expect(t.queue.log(next)).toContain('first\n');
  });

  test('a cache needs its scope', async () => {
    const task = await run([cache('kept')], 'true', { scopes: ['generic-worker:cache:other'] });
    expect(task).toMatchObject({ state: 'exception', reason: 'malformed-payload' });
    expect(t.queue.log(task)).toContain('lacks generic-worker:cache:kept');
  });

  test('a new cache is filled with content, an old one is not', async () => {
    const url = serve('seed.tar', tar);
    const mount = { ...cache('seeded'), content: { url }, format: 'tar' };
    const first = await run([mount], 'cat cache/deep/file.txt; echo changed > cache/deep/file.txt', scopes);
    expect(t.queue.log(first)).toContain('packed\n');
    const second = await run([mount], 'cat cache/deep/file.txt', scopes);
    expect(t.queue.log(second)).toContain('changed\n');
  });

  test('an exit code in purgeCaches drops it, and so does a task that was killed', async () => {
    const onExitStatus = { purgeCaches: [3] };
    await run([cache('purged')], 'echo old > cache/f; exit 3', scopes, { onExitStatus });
    await run([cache('purged')], 'test ! -e cache/f; echo slow > cache/f; sleep 60', scopes, { maxRunTime: 1 });
    const last = await run([cache('purged')], 'ls cache | wc -l', scopes);
    expect(t.queue.log(last)).toContain('0\n');
  });

  test('a purge request drops caches made before it', async () => {
    await run([cache('requested')], 'echo old > cache/f', scopes);
    const before = t.queue.intercept;
    t.queue.intercept = request =>
      request.path.startsWith('/api/purge-cache/')
        ? {
            status: 200,
            body: {
              requests: [{ provisionerId: 'local', workerType: 'process', cacheName: 'requested', before: new Date().toISOString() }],
            },
          }
        : before(request);
    const task = await run([cache('requested')], 'ls cache | wc -l', scopes);
    t.queue.intercept = before;
    expect(t.queue.log(task)).toContain('0\n');
  });

  test('an artifact in a cache is published before the cache is given back', async () => {
    const task = await run([cache('published')], 'echo result > cache/out.txt', scopes, {
      artifacts: [{ type: 'file', path: 'cache/out.txt', name: 'public/out.txt' }],
    });
    expect(t.queue.text(task, 'public/out.txt')).toBe('result\n');
  });

  test('a cache that was replaced by a link leads nowhere', async () => {
    const task = await run([cache('swapped')], `rmdir cache; ln -s ${folder} cache`, scopes);
    expect(task.state).toBe('failed');
    expect(t.queue.log(task)).toContain('the folder cache was replaced by something else');
    expect(readFileSync(join(folder, 'a.tar')).length).toBe(tar.length);
  });

  test('links in a cache do not lead later mounts outside', async () => {
    await run([cache('linked')], `ln -s ${folder} cache/out`, scopes);
    const task = await run([cache('linked'), { file: 'cache/out/planted', content: { raw: 'x' } }], 'true', scopes);
    expect(task.state).toBe('failed');
    expect(() => readFileSync(join(folder, 'planted'))).toThrow('ENOENT');
  });
});

test.each(['/etc/planted', '../planted', '.'])('a mount at %s is refused', async path => {
  const task = await run([{ file: path, content: { raw: 'x' } }], 'true');
  expect(task.state).toBe('failed');
  expect(t.queue.log(task)).toContain("the path must lie inside the task's folder");
});

test.runIf(isNamespaced)('other folders of the worker are empty for a task', async () => {
  const task = await run(
    [{ directory: 'c', cacheName: 'mine' }],
    `ls -A ${t.config.cachesDir} ${t.config.downloadsDir} 2>&1 || true; ls ${t.config.tasksDir} | wc -l`,
    {
      scopes: ['generic-worker:cache:mine'],
    },
  );
  expect(t.queue.log(task)).toContain('1\n');
  expect(t.queue.log(task)).not.toContain('caches.json');
});
