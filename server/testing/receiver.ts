/** An HTTP server on loopback that keeps what it is sent and answers as the test says. */
import { once } from 'node:events';
import http from 'node:http';
import { atEnd } from './at-end.ts';

export interface ReceivedRequest {
  readonly method: string;
  /** Path and query. */
  readonly url: string;
  readonly headers: http.IncomingHttpHeaders;
  readonly body: string;
}

export interface ReceiverReply {
  readonly status?: number;
  readonly headers?: Readonly<Record<string, string>>;
  /** Sent as JSON. */
  readonly json?: unknown;
  /** Nothing is answered at all. */
  readonly hang?: true;
}

export interface Receiver {
  readonly url: string;
  /** What has arrived since the last call, in order. */
  taken(): ReceivedRequest[];
  /** From now on answers so. */
  answer(reply: ReceiverReply | ((request: ReceivedRequest) => ReceiverReply)): void;
  close(): Promise<void>;
}

/** Answers 200 with `{}` until told otherwise; closed after the test file. */
export const openReceiver = async (): Promise<Receiver> => {
  const received: ReceivedRequest[] = [];
  let reply: (request: ReceivedRequest) => ReceiverReply = () => ({});
  const server = http.createServer((request, response) => {
    const parts: Buffer[] = [];
    request.on('data', (part: Buffer) => parts.push(part));
    request.on('end', () => {
      const { method = '', url = '', headers } = request;
      const one = { method, url, headers, body: Buffer.concat(parts).toString('utf8') };
      received.push(one);
      const { status = 200, headers: extra = {}, json = {}, hang } = reply(one);
      if (!hang) {
        response.writeHead(status, { 'content-type': 'application/json', ...extra }).end(JSON.stringify(json));
      }
    });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const close = async (): Promise<void> => {
    server.closeAllConnections();
    await new Promise<void>(resolve => {
      server.close(() => resolve());
    });
  };
  atEnd(close);
  return {
    url: `http://127.0.0.1:${(server.address() as { port: number }).port}`,
    taken: () => received.splice(0),
    answer: given => {
      reply = typeof given === 'function' ? given : () => given;
    },
    close,
  };
};
