/** Prometheus metrics: declared with name, unit and help; labels are bounded. Served on a port of their own. */
import http from 'node:http';
import { Counter, Gauge, Histogram, Registry, collectDefaultMetrics } from 'prom-client';

export interface Metrics {
  readonly registry: Registry;
  counter<L extends string>(name: string, help: string, labels: readonly L[]): Counter<L>;
  gauge<L extends string>(name: string, help: string, labels: readonly L[], collect?: (gauge: Gauge<L>) => void | Promise<void>): Gauge<L>;
  histogram<L extends string>(name: string, help: string, labels: readonly L[], buckets: readonly number[]): Histogram<L>;
}

/** A registry of its own, so that several installations live in one test process. Asking for the same name again gives the same metric. */
export const makeMetrics = (options: { processMetrics?: boolean } = {}): Metrics => {
  const registry = new Registry();
  if (options.processMetrics) {
    collectDefaultMetrics({ register: registry });
  }
  const known = new Map<string, unknown>();
  const once = <T>(name: string, make: () => T): T => {
    if (!known.has(name)) {
      known.set(name, make());
    }
    return known.get(name) as T;
  };
  return {
    registry,
    counter: (name, help, labels) => once(name, () => new Counter({ name, help, labelNames: [...labels], registers: [registry] })),
    gauge: (name, help, labels, collect) =>
      once(name, () => {
        const gauge = new Gauge({
          name,
          help,
          labelNames: [...labels],
          registers: [registry],
          ...(collect
            ? {
                async collect() {
                  await collect(gauge);
                },
              }
            : {}),
        });
        return gauge;
      }),
    histogram: (name, help, labels, buckets) =>
      once(name, () => new Histogram({ name, help, labelNames: [...labels], buckets: [...buckets], registers: [registry] })),
  };
};

/** Serves `GET /metrics` on one address or all; answers with the port, which the system chooses when `port` is 0. */
export const serveMetrics = async (
  metrics: Metrics,
  port: number,
  host?: string,
): Promise<{ port: number; close: () => Promise<void> }> => {
  const server = http.createServer((request, response) => {
    if (request.url !== '/metrics') {
      response.writeHead(404).end();
      return;
    }
    metrics.registry.metrics().then(
      text => response.writeHead(200, { 'content-type': metrics.registry.contentType }).end(text),
      (error: unknown) => response.writeHead(500).end(String(error)),
    );
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen({ port, ...(host !== undefined && { host }) }, resolve);
  });
  return {
    port: (server.address() as { port: number }).port,
    close: () =>
      new Promise<void>(resolve => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
};
