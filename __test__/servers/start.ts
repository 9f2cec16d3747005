import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { type Socket, connect } from 'node:net';
import { afterAll } from 'vitest';
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

/** Files whose servers share a process, unless a test needs the process itself. */
const SHARED = ['elysia.ts', 'elysia-apps.ts', 'bun.ts', 'ws.mjs', 'unjudged.ts', 'builder.ts'].map(
  (name) => `__test__/servers/${name}`,
);
const KEY = 'dGhlIHNhbXBsZSBub25jZQ==';
const LISTENING =
  /(?:listening on|Started development server:) (?:http:\S+:(\d+)(?:, control on (\d+))?\n|unix:(\S+))/;
type Command = readonly [command: string, ...args: string[]];
/** Processes of one server each. */
const running: ChildProcess[] = [];
/** Processes of many servers, by their command. */
const shared = new Map<string, SharedProcess>();
const clients: WebSocket[] = [];
const sockets: Socket[] = [];

async function endAll(processes: readonly ChildProcess[]): Promise<void> {
  await Promise.all(
    processes.map((server) => {
      if (server.exitCode !== null || server.signalCode !== null) return undefined;
      const ended = once(server, 'exit');
      server.kill('SIGKILL');
      return ended;
    }),
  );
}

/** Ends every client of a test, and the servers that have a process of their own. */
export async function cleanUp(): Promise<void> {
  for (const client of clients.splice(0)) client.terminate();
  for (const socket of sockets.splice(0)) socket.destroy();
  await endAll(running.splice(0));
  for (const { unhandled } of shared.values())
    if (unhandled.length > 0) throw new Error(unhandled.splice(0).join('\n'));
}

/** Ends the shared processes. Specs of one worker share this module: the next one starts its own. */
afterAll(() => {
  const ended = [...shared.values()].map(({ process }) => process);
  shared.clear();
  return endAll(ended);
});

/** A process in which `many.mjs` runs the servers of one file. */
class SharedProcess {
  /** Errors that no handler of a server has caught. */
  readonly unhandled: string[] = [];
  readonly process: ChildProcess;
  #last: Promise<unknown> = Promise.resolve();

  constructor([command, ...args]: Command) {
    this.process = spawn(command, ['__test__/servers/many.mjs', ...args], {
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    // Only the first spec of a worker registers the end of these processes: a later one's end with the worker. Bun
    // gives each spec a worker, and its pipes have no `unref`.
    this.process.unref();
    for (const pipe of [this.process.stdin, this.process.stdout])
      (pipe as Partial<Socket> | null)?.unref?.();
    this.process.stdout?.on('data', (data: Buffer) =>
      this.unhandled.push(...data.toString().split('\n').filter(isUnhandled)),
    );
  }

  /** Starts one more server; they begin one after the other. */
  start(options: object): Promise<Server> {
    const started = this.#last.then(async () => {
      const place = listeningOf(this.process);
      this.process.stdin?.write(`${JSON.stringify(options)}\n`);
      return new Server(await place);
    });
    this.#last = started.catch(() => undefined);
    return started;
  }
}

const isUnhandled = (line: string): boolean => line.startsWith('unhandled');

const FAILED = /^failed to start: .*$/m;

/** Resolves when a server prints where it listens; rejects when it ends, or prints that it cannot start. */
function listeningOf(server: ChildProcess): Promise<Place> {
  return new Promise((resolve, reject) => {
    const done = (): void => {
      server.off('exit', onExit);
      server.stdout?.off('data', listen);
    };
    const onExit = (code: number | null): void => {
      done();
      reject(new Error(`the server ended with ${code}`));
    };
    server.once('exit', onExit);
    server.stdout?.on('data', listen);
    function listen(data: Buffer): void {
      const [failure] = FAILED.exec(data.toString()) ?? [];
      if (failure !== undefined) {
        done();
        return reject(new Error(failure));
      }
      const [, port, control, path] = LISTENING.exec(data.toString()) ?? [];
      if (port === undefined && path === undefined) return;
      done();
      resolve({ port: Number(port), controlPort: Number(control ?? port), path });
    }
  });
}

/** Starts a server, in a process with others of its file where that is possible. */
export function start(command: Command, options: object): Promise<Server> {
  if (!SHARED.includes(command[1] ?? '')) return startAlone(command, options);
  const key = command.join(' ');
  let found = shared.get(key);
  if (found === undefined) shared.set(key, (found = new SharedProcess(command)));
  return found.start(options);
}

/** Starts a server in a process of its own, for tests of the process: its signals, its output, its end. */
export async function startAlone(
  [command, ...args]: Command,
  options: object,
  env: Readonly<Record<string, string>> = {},
  protocols: readonly string[] = [],
): Promise<ServerProcess> {
  const server = spawn(command, args, {
    env: { ...process.env, ...env, GUARD_OPTIONS: JSON.stringify(options) },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  running.push(server);
  return new ServerProcess(server, await listeningOf(server), protocols);
}

/** Where a server listens. */
interface Place {
  readonly port: number;
  /** Port of its figures, where the host itself serves none. */
  readonly controlPort: number;
  /** Unix socket that it listens on, in the place of the port. */
  readonly path: string | undefined;
}

export class Server {
  readonly port: number;
  readonly controlPort: number;
  readonly path: string | undefined;

  constructor(
    { port, controlPort, path }: Place,
    /** Subprotocols that its clients ask for, unless a test names others. */
    readonly protocols: readonly string[] = [],
  ) {
    this.port = port;
    this.controlPort = controlPort;
    this.path = path;
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

  /** Opens a connection with a handshake by hand, and keeps it. */
  rawHandshake(path = '/ws'): ReturnType<Server['raw']> {
    return this.raw(`GET ${path} HTTP/1.1\r\n${this.#handshakeLines()}\r\n`);
  }

  #handshakeLines(lines: Record<string, string> = {}): string {
    const headers = {
      Host: '127.0.0.1',
      Connection: 'Upgrade',
      Upgrade: 'websocket',
      'Sec-WebSocket-Version': '13',
      'Sec-WebSocket-Key': KEY,
      ...(this.protocols.length === 0 ? {} : { 'Sec-WebSocket-Protocol': this.protocols.join() }),
      ...lines,
    };
    return Object.entries(headers)
      .map(([name, value]) => `${name}: ${value}\r\n`)
      .join('');
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
    protocols: readonly string[] = this.protocols,
  ): Promise<WebSocket> {
    const url =
      this.path === undefined
        ? `ws://127.0.0.1:${this.port}${path}`
        : `ws+unix://${this.path}:${path}`;
    const client = new WebSocket(url, [...protocols], { headers });
    clients.push(client);
    client.on('error', () => undefined);
    await once(client, 'open');
    return client;
  }

  /** Sends a handshake by hand: the answer up to its end, or to the end of the headers of an upgrade. */
  handshake(lines: Record<string, string> = {}, path = '/ws'): Promise<Answer> {
    return new Promise((resolve, reject) => {
      const socket = this.#connect(() =>
        socket.write(`GET ${path} HTTP/1.1\r\n${this.#handshakeLines(lines)}\r\n`),
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
    return (await fetch(`http://127.0.0.1:${this.controlPort}${path}`)).text();
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

/** A server with a process of its own. */
export class ServerProcess extends Server {
  readonly #lines: string[] = [];
  /** Exit code of the process, or the signal that ended it. */
  readonly exited: Promise<number | string | null>;

  constructor(
    readonly process: ChildProcess,
    place: Place,
    protocols?: readonly string[],
  ) {
    super(place, protocols);
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
      unhandled: this.#lines.filter(isUnhandled),
    };
  }

  /** Waits for a line of its output. */
  async tells(line: string): Promise<void> {
    while (!this.#lines.includes(line)) await once(this.process.stdout!, 'data');
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
  path = '/ws',
): Promise<number> {
  const url = `ws://127.0.0.1:${server.port}${path}`;
  const client = new WebSocket(url, [...server.protocols], { headers });
  clients.push(client);
  client.on('error', () => undefined);
  return closeCode(client);
}
