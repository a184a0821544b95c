/**
 * `features.taskclusterProxy`: an HTTP server that signs the task's requests, so that the task needs no credentials. It may do what the task's scopes say
 * and create artifacts of this run; it may not resolve the task, which the worker's credentials for it could.
 */
import { malformedPayload } from '../errors.ts';
import { definePlugin } from './plugin.ts';
import { makeAgents, proxyHandler } from './proxy-requests.ts';

export const taskclusterProxy = definePlugin({
  name: 'taskcluster-proxy',
  payload: {
    properties: { taskclusterProxyInterface: { type: 'string', enum: ['localhost', 'docker-bridge'], default: 'localhost' } },
    features: { taskclusterProxy: { type: 'boolean' } },
  },
  open: ({ config, clock, random }) => {
    const agents = makeAgents();
    return {
      newTask: (task, payload) => {
        if (!payload.features?.['taskclusterProxy']) {
          return undefined;
        }
        const ended = new AbortController();
        return {
          prepare: async () => {
            if (payload.taskclusterProxyInterface === 'docker-bridge') {
              throw malformedPayload(
                'payload.taskclusterProxyInterface: docker-bridge is not available, because this worker runs no containers.',
              );
            }
          },
          build: async builder => {
            if (!builder.attachProxy) {
              throw malformedPayload(`payload.features.taskclusterProxy is not supported by the engine "${config.engine}".`);
            }
            const url = await builder.attachProxy(
              proxyHandler(
                {
                  rootUrl: config.rootUrl,
                  allowsOtherHosts: config.taskclusterProxyAllowsOtherHosts,
                  authorizedScopes: [...task.definition.scopes, `queue:create-artifact:${task.taskId}/${task.runId}`],
                  credentials: () => task.credentials(),
                  clock,
                  random,
                  signal: AbortSignal.any([task.signal, ended.signal]),
                },
                agents,
              ),
            );
            builder.setEnv('TASKCLUSTER_PROXY_URL', url);
            task.log.info(`[taskcluster-proxy] Listening at ${url}`);
          },
          stopped: async () => ended.abort(),
          dispose: async () => ended.abort(),
        };
      },
      dispose: async () => {
        agents.http.destroy();
        agents.https.destroy();
      },
    };
  },
});
