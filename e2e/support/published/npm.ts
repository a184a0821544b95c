/** The published JavaScript client. */
import { type ServiceClient, collector, source, taskcluster } from '../official.ts';
import type { Clients, Library } from './library.ts';

export const npmLibrary: Library = {
  connect: ({ rootUrl }, credentials): Clients => {
    const options = { rootUrl, credentials: credentials ?? {}, retries: 0 };
    return {
      auth: new taskcluster.Auth(options),
      queue: new taskcluster.Queue(options),
      object: new taskcluster.Object(options),
      index: new taskcluster.Index(options),
      purgeCache: new taskcluster.PurgeCache(options),
      hooks: new taskcluster.Hooks(options),
      secrets: new taskcluster.Secrets(options),
      notify: new taskcluster.Notify(options),
    };
  },
  methods: client =>
    Object.keys(Object.getPrototypeOf(client) as object)
      .flatMap(name => (client[name] as ServiceClient[string] | undefined)?.entryReference ?? [])
      .filter(({ type }) => type === 'function'),
  upload: (object, upload, text) => taskcluster.upload({ ...upload, object, streamFactory: source(text) }),
  download: async (object, name) => {
    const { streamFactory, text } = collector();
    await taskcluster.download({ name, object, streamFactory });
    return text();
  },
  downloadArtifact: async (queue, taskId, name) => {
    const { streamFactory, text } = collector();
    const contentType = await taskcluster.downloadArtifact({ taskId, name, queue, streamFactory });
    return { text: text(), contentType };
  },
  close: () => Promise.resolve(),
};
