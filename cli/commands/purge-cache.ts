/** `purge-cache …`: has workers throw away caches. */
import { Command } from 'commander';
import { purgeCacheApi, type PurgeRequest } from '@tscluster/api/purge-cache/api.ts';
import { leaf } from '../command.ts';
import { connect, note, print, printJson, type Context } from '../context.ts';
import { pagesOf } from '../pages.ts';
import { plain, renderTable } from '../render/table.ts';

const listCommand = (context: Context): Command =>
  leaf('list', 'list the requests of the last day')
    .argument('[workerPoolId]', 'of this pool; default: of all')
    .action(async (workerPoolId: string | undefined, options: { json?: boolean }) => {
      const caches = connect(context).client(purgeCacheApi);
      const requests: PurgeRequest[] = [];
      if (workerPoolId === undefined) {
        for await (const page of pagesOf(query => caches.allPurgeRequests(query))) {
          requests.push(...page.requests);
        }
      } else {
        requests.push(...(await caches.purgeRequests({ workerPoolId })).requests);
      }
      if (options.json) {
        await printJson(context, requests);
      } else if (requests.length > 0) {
        const rows = requests.map(each => [`${each.provisionerId}/${each.workerType}`, each.before, plain(each.cacheName)]);
        await print(context, renderTable(rows).join('\n'));
      }
    });

export const purgeCacheCommand = (context: Context): Command =>
  new Command('purge-cache')
    .description('have the workers of a pool throw away their caches of a name')
    .enablePositionalOptions()
    .argument('<workerPoolId>', 'the pool, such as local/process')
    .argument('<cacheName>', 'the name of the cache')
    .option('--json', 'print JSON, for scripts')
    .action(async (workerPoolId: string, cacheName: string, options: { json?: boolean }) => {
      await connect(context).client(purgeCacheApi).purgeCache({ workerPoolId }, { cacheName });
      await (options.json
        ? printJson(context, { workerPoolId, cacheName })
        : note(context, `The workers of ${workerPoolId} make the cache ${cacheName} anew before they use it again.`));
    })
    .addCommand(listCommand(context));
