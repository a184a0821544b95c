/** What we use of `irc-framework`, which brings no types. */
declare module 'irc-framework' {
  export interface Message {
    /** A word such as `PONG`, or three digits. */
    readonly command: string;
    readonly params: readonly string[];
    readonly nick: string;
  }
  export class Client {
    readonly user: { readonly nick: string };
    readonly connection: { on(event: 'message', listener: (message: Message) => void): void };
    connect(options: object): void;
    on(event: 'registered' | 'close' | 'nick in use', listener: () => void): void;
    on(event: 'socket close', listener: (error: Error | false | undefined) => void): void;
    changeNick(nick: string): void;
    join(channel: string): void;
    say(target: string, line: string): void;
    ping(token: string): void;
    quit(message: string): void;
  }
}
