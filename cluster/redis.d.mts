/** A server process of the harness. */
export class Redis {
  readonly folder: string;
  readonly port: number;
  constructor(port: number, args?: readonly unknown[]);
  start(): Promise<this>;
  signal(name: NodeJS.Signals): void;
  kill(): Promise<void>;
  remove(): Promise<void>;
}

/** A connection to a server. */
export class Client {
  call(...parts: unknown[]): Promise<unknown>;
  close(): void;
}

/** The server's command; `undefined` if there is none. */
export const SERVER: string | undefined;
export function freePort(): Promise<number>;
export function withClient<T>(port: number, act: (client: Client) => Promise<T>): Promise<T>;
