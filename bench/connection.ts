/**
 * One HTTP/1.1 keep-alive connection for load: signs with Hawk, writes a request as one string, reads the answer without parsing more than needed. A
 * general client would be a third of the load itself. One request at a time; answers have a Content-Length, as the server's JSON has.
 */
import crypto from 'node:crypto';
import net from 'node:net';

export interface BenchCredentials {
  readonly clientId: string;
  readonly accessToken: string;
  readonly certificate?: string;
}

export interface Reply {
  readonly status: number;
  readonly body: string;
}

const ext = (certificate: string | undefined): string | undefined =>
  certificate === undefined
    ? undefined
    : Buffer.from(JSON.stringify({ certificate: JSON.parse(certificate) as unknown })).toString('base64');

export class Connection {
  readonly #socket: net.Socket;
  readonly #host: string;
  readonly #port: string;
  /** What has come of an answer, and how many bytes it needs to be looked at. */
  #chunks: Buffer[] = [];
  #size = 0;
  #wanted = 0;
  #waiting: { resolve: (reply: Reply) => void; reject: (error: Error) => void } | undefined;
  #nonce = 0;

  private constructor(socket: net.Socket, url: URL) {
    this.#socket = socket;
    this.#host = url.hostname;
    this.#port = url.port;
    socket.setNoDelay(true);
    socket.on('data', chunk => this.#read(chunk));
    socket.on('close', () => this.#waiting?.reject(new Error('The server closed the connection')));
    socket.on('error', error => this.#waiting?.reject(error));
  }

  static async open(rootUrl: string): Promise<Connection> {
    const url = new URL(rootUrl);
    const socket = net.connect({ host: url.hostname, port: Number(url.port), autoSelectFamily: true });
    await new Promise<void>((resolve, reject) => {
      socket.once('connect', resolve);
      socket.once('error', reject);
    });
    return new Connection(socket, url);
  }

  close(): void {
    this.#socket.destroy();
  }

  /** Sends a request; `path` as on the request line. */
  send(method: string, path: string, credentials: BenchCredentials | undefined, body?: string): Promise<Reply> {
    return new Promise((resolve, reject) => {
      this.#waiting = { resolve, reject };
      let head = `${method} ${path} HTTP/1.1\r\nhost: ${this.#host}:${this.#port}\r\n`;
      if (credentials) {
        head += `authorization: ${this.#sign(method, path, credentials)}\r\n`;
      }
      head += body === undefined ? '\r\n' : `content-type: application/json\r\ncontent-length: ${Buffer.byteLength(body)}\r\n\r\n${body}`;
      this.#socket.write(head);
    });
  }

  /** Sends and expects success; answers with the parsed body. */
  async call<T = unknown>(method: string, path: string, credentials: BenchCredentials | undefined, body?: object): Promise<T> {
    const reply = await this.send(method, path, credentials, body && JSON.stringify(body));
    if (reply.status >= 300) {
      throw new Error(`${method} ${path}: ${reply.status} ${reply.body}`);
    }
    return (reply.body === '' ? undefined : JSON.parse(reply.body)) as T;
  }

  #sign(method: string, path: string, credentials: BenchCredentials): string {
    const ts = Math.floor(Date.now() / 1000);
    const nonce = `n${this.#nonce++}`;
    const extra = ext(credentials.certificate);
    const text = `hawk.1.header\n${ts}\n${nonce}\n${method}\n${path}\n${this.#host}\n${this.#port}\n\n${extra ?? ''}\n`;
    const mac = crypto.createHmac('sha256', credentials.accessToken).update(text).digest('base64');
    return `Hawk id="${credentials.clientId}", ts="${ts}", nonce="${nonce}", ${extra ? `ext="${extra}", ` : ''}mac="${mac}"`;
  }

  #read(chunk: Buffer): void {
    this.#chunks.push(chunk);
    this.#size += chunk.length;
    if (this.#size < this.#wanted) {
      return;
    }
    const bytes = this.#chunks.length === 1 ? chunk : Buffer.concat(this.#chunks);
    const end = bytes.indexOf('\r\n\r\n');
    const head = end === -1 ? '' : bytes.toString('latin1', 0, end);
    const length = Number(/content-length: (\d+)/i.exec(head)?.[1] ?? 0);
    const bodyAt = end + 4;
    if (end === -1 || bytes.length < bodyAt + length) {
      this.#chunks = [bytes];
      this.#wanted = end === -1 ? 0 : bodyAt + length;
      return;
    }
    const reply = { status: Number(head.slice(9, 12)), body: bytes.toString('utf8', bodyAt, bodyAt + length) };
    const rest = bytes.subarray(bodyAt + length);
    this.#chunks = rest.length > 0 ? [rest] : [];
    this.#size = rest.length;
    this.#wanted = 0;
    const waiting = this.#waiting;
    this.#waiting = undefined;
    waiting?.resolve(reply);
  }
}
