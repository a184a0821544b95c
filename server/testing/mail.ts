/** A mail server on loopback that keeps what it gets. */
import { once } from 'node:events';
import PostalMime, { type Email } from 'postal-mime';
import { SMTPServer } from 'smtp-server';
import { atEnd } from './at-end.ts';

export interface ReceivedMail extends Email {
  readonly envelope: { readonly from: string; readonly to: readonly string[] };
  /** Headers and parts as they came. */
  readonly raw: string;
}

export interface MailServer {
  readonly url: string;
  readonly port: number;
  /** What has arrived since the last call, in order. */
  taken(): Promise<ReceivedMail[]>;
  /** What the server says to the next messages, by recipient: an SMTP error such as `550 no such user`. */
  refuse(recipient: string, answer: string | undefined): void;
  close(): Promise<void>;
}

interface SmtpProblem extends Error {
  responseCode?: number;
}

/** Closed after the test file. */
export const openMailServer = async (): Promise<MailServer> => {
  const received: { raw: Buffer; envelope: ReceivedMail['envelope'] }[] = [];
  const refused = new Map<string, string>();
  const server = new SMTPServer({
    authOptional: true,
    closeTimeout: 100, // clients keep connections for later
    disabledCommands: ['STARTTLS'],
    onRcptTo: ({ address }, _session, done) => {
      const answer = refused.get(address);
      if (answer === undefined) {
        done();
        return;
      }
      const problem: SmtpProblem = new Error(answer.slice(4));
      problem.responseCode = Number(answer.slice(0, 3));
      done(problem);
    },
    onData: (stream, { envelope }, done) => {
      const parts: Buffer[] = [];
      stream.on('data', (part: Buffer) => parts.push(part));
      stream.on('end', () => {
        const from = envelope.mailFrom ? envelope.mailFrom.address : '';
        received.push({ raw: Buffer.concat(parts), envelope: { from, to: envelope.rcptTo.map(({ address }) => address) } });
        done();
      });
    },
  });
  server.listen(0, '127.0.0.1');
  await once(server.server, 'listening');
  const { port } = server.server.address() as { port: number };
  let isOpen = true;
  const close = async (): Promise<void> => {
    if (isOpen) {
      isOpen = false;
      await new Promise<void>(resolve => {
        server.close(() => resolve());
      });
    }
  };
  atEnd(close);
  return {
    url: `smtp://127.0.0.1:${port}`,
    port,
    taken: () =>
      Promise.all(
        received.splice(0).map(async ({ raw, envelope }) => ({ ...(await PostalMime.parse(raw)), raw: raw.toString('latin1'), envelope })),
      ),
    refuse: (recipient, answer) => void (answer === undefined ? refused.delete(recipient) : refused.set(recipient, answer)),
    close,
  };
};
