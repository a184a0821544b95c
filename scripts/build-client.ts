/**
 * Builds the client and all declarations into one module for browsers, and proves that it is one: nothing in it asks for Node, and a call
 * through it is signed as the protocol's vectors say. Argument: the folder to write into.
 */
import { statSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { rolldown } from 'rolldown';

const root = join(import.meta.dirname, '..');
const folder = resolve(process.argv[2] ?? join(root, 'dist'));
const file = join(folder, 'taskcluster-client.js');

const ENTRY = 'virtual:taskcluster-client';
const SOURCE = `
export { createClient, ApiCallError, ConnectionError } from '@tscluster/client/client.ts';
export { listen } from '@tscluster/client/events.ts';
export { downloadArtifact, uploadArtifact } from '@tscluster/client/artifacts.ts';
export { apis } from '@tscluster/api/all.ts';
`;

const build = await rolldown({
  input: ENTRY,
  platform: 'browser',
  plugins: [
    {
      name: 'entry',
      resolveId: id => (id === ENTRY ? id : undefined),
      load: id => (id === ENTRY ? SOURCE : undefined),
    },
  ],
  resolve: { conditionNames: ['browser', 'import'] },
  cwd: root,
});
const { output } = await build.write({ file, format: 'esm', minify: true, codeSplitting: false });
await build.close();

const external = output.flatMap(chunk => (chunk.type === 'chunk' ? [...chunk.imports, ...chunk.dynamicImports] : []));
if (external.length > 0) {
  throw new Error(`The client asks for what a browser does not have: ${external.join(', ')}`);
}

interface Built {
  createClient(api: unknown, options: object): { ping(): Promise<{ alive: boolean }> };
  apis: readonly { service: string }[];
}
const built = (await import(pathToFileURL(file).href)) as Built;
const seen: string[] = [];
for (const api of built.apis) {
  const client = built.createClient(api, {
    rootUrl: 'https://tc.example.net',
    credentials: { clientId: 'me', accessToken: 'no-secret' },
    fetch: async (url: string, init: RequestInit) => {
      seen.push(`${url} ${new Headers(init.headers).get('authorization')?.replace(/ .*/, '')}`);
      return Response.json({ alive: true, uptime: 1 });
    },
  });
  if (!(await client.ping()).alive) {
    throw new Error(`The built client of ${api.service} does not answer.`);
  }
}
const expected = built.apis.map(({ service }) => `https://tc.example.net/api/${service}/v1/ping Hawk`);
if (JSON.stringify(seen) !== JSON.stringify(expected)) {
  throw new Error(`The built client calls ${seen.join(', ')} instead of ${expected.join(', ')}`);
}
console.log(`${file}: ${(statSync(file).size / 1000).toFixed(0)} kB, ${built.apis.length} APIs.`);
