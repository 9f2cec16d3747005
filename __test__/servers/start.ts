import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { type Socket, connect } from 'node:net';
import WebSocket from 'ws';
import type { ShutdownResult } from '../../dist/index.js';
import type { GuardStats } from '../../dist/elysia.js';
import { until } from '../fixtures/until.js';

/** The server of each adapter: its runtime and its file. */
export const SERVERS = {
  elysia: ['node_modules/.bin/bun', '__test__/servers/elysia.ts'],
  bun: ['node_modules/.bin/bun', '__test__/servers/bun.ts'],
  ws: ['node', '__test__/servers/ws.mjs'],
  'ws on Bun': ['node_modules/.bin/bun', '__test__/servers/ws.mjs'],
} as const;

export interface Answer {
  readonly status: number;
  readonly headers: string;
  readonly body: string;
}

const KEY = 'dGhlIHNhbXBsZSBub25jZQ==';
const running: ChildProcess[] = [];
const clients: WebSocket[] = [];
const sockets: Socket[] = [];

/** Ends every server and client of a test. */
export async function cleanUp(): Promise<void> {
  for (const client of clients.splice(0)) client.terminate();
  for (const socket of sockets.splice(0)) socket.destroy();
  await Promise.all(
    running.splice(0).map((server) => {
      if (server.exitCode !== null || server.signalCode !== null) return undefined;
      const ended = once(server, 'exit');
      server.kill('SIGKILL');
      return ended;
    }),
  );
}

export function start(
  [command, ...files]: readonly [string, ...string[]],
  options: object,
  env: Readonly<Record<string, string>> = {},
): Promise<Server> {
  const server = spawn(command, files, {
    env: { ...process.env, ...env, GUARD_OPTIONS: JSON.stringify(options) },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  running.push(server);
  return new Promise((resolve, reject) => {
    server.on('exit', (code) => reject(new Error(`the server ended with ${code}`)));
    server.stdout?.on('data', (data: Buffer) => {
      const [, port, path] =
        /(?:listening on|Started development server:) (?:http:\S+:(\d+)|unix:(\S+))/.exec(
          data.toString(),
        ) ?? [];
      if (port !== undefined || path !== undefined) resolve(new Server(Number(port), server, path));
    });
  });
}

export class Server {
  readonly #lines: string[] = [];
  /** Exit code of the process, or the signal that ended it. */
  readonly exited: Promise<number | string | null>;

  constructor(
    readonly port: number,
    readonly process: ChildProcess,
    /** Unix socket that it listens on, in the place of the port. */
    readonly path?: string,
  ) {
    this.exited = new Promise(
      (resolve) => void process.on('exit', (code, signal) => resolve(code ?? signal)),
    );
    process.stdout?.on('data', (data: Buffer) => this.#lines.push(...data.toString().split('\n')));
  }

  /** Sends SIGTERM and waits until the process ends by itself: the result of its shutdown. */
  async end(): Promise<
    ShutdownResult & {
      readonly code: number | string | null;
      readonly unhandled: readonly string[];
    }
  > {
    this.process.kill('SIGTERM');
    const code = await this.exited;
    const line = this.#lines.find((text) => text.startsWith('result '));
    if (line === undefined) throw new Error(`no result, but ${this.#lines.join(' | ')}`);
    return {
      ...(JSON.parse(line.slice(7)) as ShutdownResult),
      code,
      unhandled: this.#lines.filter((text) => text.startsWith('unhandled')),
    };
  }

  #connect(onConnect: () => void): Socket {
    return this.path === undefined
      ? connect(this.port, '127.0.0.1', onConnect)
      : connect(this.path, onConnect);
  }

  /** Opens a connection that sends `text` and then only reads. */
  raw(text: string): { readonly socket: Socket; seen(): string; readonly closed: Promise<string> } {
    let seen = '';
    const socket = this.#connect(() => socket.write(text));
    sockets.push(socket);
    socket.on('data', (data) => (seen += data.toString('latin1')));
    socket.on('error', () => undefined);
    return {
      socket,
      seen: () => seen,
      closed: new Promise((resolve) => void socket.on('close', () => resolve(seen))),
    };
  }

  /** Waits for a line of its output. */
  async tells(line: string): Promise<void> {
    while (!this.#lines.includes(line)) await once(this.process.stdout!, 'data');
  }

  async guard(): Promise<GuardStats> {
    return JSON.parse(await this.get('/guard')) as GuardStats;
  }

  /** Waits until the figures of the guard satisfy `test`. */
  until(test: (stats: GuardStats) => boolean): Promise<void> {
    return until(async () => test(await this.guard()));
  }

  /** Opens a WebSocket client. */
  async open(
    path = '/ws',
    headers: Record<string, string> = {},
    protocols: string[] = [],
  ): Promise<WebSocket> {
    const url =
      this.path === undefined
        ? `ws://127.0.0.1:${this.port}${path}`
        : `ws+unix://${this.path}:${path}`;
    const client = new WebSocket(url, protocols, { headers });
    clients.push(client);
    client.on('error', () => undefined);
    await once(client, 'open');
    return client;
  }

  /** Sends a handshake by hand: the answer up to its end, or to the end of the headers of an upgrade. */
  handshake(lines: Record<string, string> = {}, path = '/ws'): Promise<Answer> {
    const headers = {
      Host: '127.0.0.1',
      Connection: 'Upgrade',
      Upgrade: 'websocket',
      'Sec-WebSocket-Version': '13',
      'Sec-WebSocket-Key': KEY,
      ...lines,
    };
    const text = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`);
    return new Promise((resolve, reject) => {
      const socket = this.#connect(() =>
        socket.write(`GET ${path} HTTP/1.1\r\n${text.join('')}\r\n`),
      );
      let seen = '';
      socket.on('data', (data) => {
        seen += data.toString();
        const [head = '', body] = seen.split(/\r\n\r\n(.*)/s);
        const status = Number(head.split(' ')[1]);
        const length = Number(/content-length: (\d+)/i.exec(head)?.[1] ?? 0);
        if (body === undefined || (status !== 101 && body.length < length)) return;
        socket.destroy();
        resolve({ status, headers: head.toLowerCase(), body });
      });
      socket.on('error', reject);
      socket.on('close', () => resolve({ status: 0, headers: '', body: '' }));
    });
  }

  async get(path: string): Promise<string> {
    return (await fetch(`http://127.0.0.1:${this.port}${path}`)).text();
  }

  async total(): Promise<number> {
    const stats = JSON.parse(await this.get('/stats')) as {
      totalConnections?: number;
      connections?: { totalConnections: number };
    };
    return stats.totalConnections ?? stats.connections?.totalConnections ?? -1;
  }

  /** Waits until so many connections are counted. */
  async becomes(total: number): Promise<void> {
    let seen = -1;
    await until(
      async () => (seen = await this.total()) === total,
      () => `${seen} connections instead of ${total}`,
    );
  }
}

export async function ask(client: WebSocket, message: string | Uint8Array): Promise<string> {
  const answer = once(client, 'message');
  client.send(message);
  const [data] = (await answer) as [Buffer];
  return data.toString();
}

export async function closeCode(client: WebSocket): Promise<number> {
  const [code] = (await once(client, 'close')) as [number];
  return code;
}

/** Connects a client that is refused by close code: the code. */
export function refusedByCode(
  server: Server,
  headers: Record<string, string> = {},
): Promise<number> {
  const client = new WebSocket(`ws://127.0.0.1:${server.port}/ws`, { headers });
  clients.push(client);
  client.on('error', () => undefined);
  return closeCode(client);
}
