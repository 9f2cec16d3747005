import './runtime.js';
import { randomUUID } from 'node:crypto';
import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import type { Duplex } from 'node:stream';
import type { WebSocket, WebSocketServer } from 'ws';
import type { ManagedConnection } from './connection.js';
import type { ConnectionManager } from './connections/manager.js';
import { Door, type GuardOptions, type GuardStats, type Visit } from './door.js';
import type { LiveSocket, SocketHost } from './live.js';
import type { LivePage } from './page/live-page.js';
import { guardHandler, httpPart } from './node-http.js';
import { nodeMeter } from './kpi/meters.js';
import type { Answer } from './requests.js';
import type { ShutdownPart } from './shutdown/part.js';
import { CONNECTION, LIVE, sizeOf } from './sockets.js';

/** Options of the guard. */
export type WsGuardOptions = GuardOptions<IncomingMessage>;

/** Guards `ws` servers. */
export interface WsGuard {
  /** The manager behind the guard. */
  readonly manager: ConnectionManager;
  /**
   * Lets the HTTP server's upgrades in. `webSocketServer` is made with `{ noServer: true }` and emits
   * `connection` for those that were admitted.
   * @returns a function that detaches it again
   */
  attach(server: Server, webSocketServer: WebSocketServer): () => void;
  /** Handles one `upgrade` event, for servers that route upgrades themselves. */
  handleUpgrade(
    webSocketServer: WebSocketServer,
    request: IncomingMessage,
    socket: Duplex,
    head: Buffer,
  ): void;
  /** The page, if the option `page` asks for one; `request` serves it. */
  readonly page: LivePage | undefined;
  /** Wraps a handler of HTTP requests, so that the limits of `requests` are kept and the page is served. */
  request<H extends (request: IncomingMessage, response: ServerResponse) => unknown>(handler: H): H;
  /** How requests and WebSockets fared. */
  stats(): GuardStats;
  /** The server, as a part of a `GracefulShutdown`. Called before the server listens, so that it knows every socket. */
  part(server: Server): ShutdownPart;
}

type Guarded = WebSocket & { [CONNECTION]?: ManagedConnection; [LIVE]?: LiveSocket };

function headerOf(request: IncomingMessage): (name: string) => string {
  return (name) => {
    const value = request.headers[name];
    return Array.isArray(value) ? value.join(', ') : (value ?? '');
  };
}

function refuse(socket: Duplex, answer: Answer): void {
  const headers = Object.entries({ ...answer.headers, connection: 'close' }).map(
    ([name, value]) => `${name}: ${value}\r\n`,
  );
  socket.once('finish', () => socket.destroy());
  socket.end(
    `HTTP/1.1 ${answer.status} ${STATUS[answer.status] ?? ''}\r\n${headers.join('')}\r\n${answer.body}`,
  );
}

const STATUS: Readonly<Record<number, string>> = {
  401: 'Unauthorized',
  429: 'Too Many Requests',
  500: 'Internal Server Error',
  503: 'Service Unavailable',
};

const ignore = (): void => undefined;
const wsSockets: SocketHost = {
  ping: (socket) => (socket as WebSocket).ping(undefined, undefined, ignore),
  buffered: (socket) => (socket as WebSocket).bufferedAmount,
  publishes: false,
  waitsForAnswer: true,
};

function heard(this: Guarded, error: NodeJS.ErrnoException): void {
  if (error.code === 'WS_ERR_UNSUPPORTED_MESSAGE_LENGTH') this[LIVE]?.wasTooLarge();
}

/** `ws` refuses such a message before it has all of it, with 1009; 0 is no limit to it. */
function limitMessages(webSocketServer: WebSocketServer, most: number): void {
  const { options } = webSocketServer;
  const own = options.maxPayload ?? 0;
  if (most !== Infinity && (own === 0 || own > most)) options.maxPayload = Math.max(1, most);
}

type Sends = (this: WebSocket, data: unknown, ...rest: unknown[]) => void;
type Emits = (this: WebSocket, event: string | symbol, ...args: unknown[]) => boolean;

/**
 * Makes sockets count, both ways, before anyone can listen to them. The functions are the same for all
 * sockets: two closures for each cost memory, and calls that the engine could not foresee.
 */
function counting(
  door: Door<IncomingMessage>,
): (socket: Guarded, connection: ManagedConnection, live: LiveSocket) => void {
  // By the class's own: there may be two copies of `ws`.
  const senders = new WeakMap<Sends, Sends>();
  const emitters = new WeakMap<Emits, Emits>();

  const counted = (socket: Guarded, data: unknown): void => {
    const connection = socket[CONNECTION];
    if (socket.readyState !== 1 || connection === undefined) return;
    connection.sent(typeof data === 'number' ? String(data).length : sizeOf(data));
    if (socket.bufferedAmount > door.live.watermark) socket[LIVE]?.sent();
  };
  const senderOver = (send: Sends): Sends =>
    function (this: Guarded, data) {
      Reflect.apply(send, this, arguments);
      counted(this, data);
    };
  const admits = (socket: Guarded, connection: ManagedConnection, data: unknown): boolean => {
    const bytes = sizeOf(data);
    if (connection.received(bytes) !== 'ok') return false;
    if (door.live.admits(bytes)) return door.messages.admits(data, connection);
    socket[LIVE]?.refuseMessage();
    return false;
  };
  // Without rest and spread: an array for each message is what a collection at ten thousand connections is made of.
  const emitterOver = (emit: Emits): Emits =>
    function (this: Guarded, event) {
      const connection = this[CONNECTION];
      if (connection !== undefined) {
        if (event === 'message') {
          if (!admits(this, connection, arguments[1])) return false;
        } else if (event === 'ping' || event === 'pong') {
          // A client that answers is there, though it says nothing.
          connection.touch();
          if (event === 'pong') this[LIVE]?.ponged();
        }
      }
      return Reflect.apply(emit, this, arguments);
    };
  const over = <F extends object>(known: WeakMap<F, F>, make: (base: F) => F, base: F): F => {
    let made = known.get(base);
    if (made === undefined) known.set(base, (made = make(base)));
    return made;
  };

  return (socket, connection, live) => {
    socket[CONNECTION] = connection;
    socket[LIVE] = live;
    const base = socket as unknown as { send: Sends; emit: Emits };
    base.send = over(senders, senderOver, base.send);
    base.emit = over(emitters, emitterOver, base.emit);
  };
}

/**
 * Guards `ws` servers on a Node `http` server: admits or refuses before the upgrade, counts messages
 * and bytes both ways, closes the idle, gives seats back. Handlers stay as they are.
 *
 * A client over the limit of its address or user gets 429, one that comes to a full or draining
 * server 503, both with `Retry-After` and `{ code, message, retryAfterMs }`.
 *
 * @throws ERR_INVALID_ARG_TYPE, ERR_OUT_OF_RANGE, ERR_UNKNOWN_OPTION for the options
 * @example
 * const server = createServer();
 * const webSocketServer = new WebSocketServer({ noServer: true });
 * portcullis({ limits: { maxConnectionsPerIp: 10 } }).attach(server, webSocketServer);
 * webSocketServer.on('connection', (ws) => ws.on('message', (data) => ws.send(data)));
 */
export function portcullis(options: WsGuardOptions): WsGuard {
  const door = new Door<IncomingMessage>('portcullis/ws', options, wsSockets);
  const { metrics } = door;
  const count = counting(door);
  // Listeners are the same for all sockets: closures for each of ten thousand are what a collection looks through.
  const left = function (this: Guarded, code: number): void {
    if (this[CONNECTION] !== undefined) door.manager.release(this[CONNECTION]);
    this[LIVE]?.remove(code);
  };
  const meter =
    metrics === undefined
      ? undefined
      : nodeMeter(
          metrics,
          door.monitor === undefined,
          ({ method, url }) => door.page?.owns(url ?? '') === true || door.isExempt(method, url),
        );

  const enter = (
    visit: Visit,
    webSocketServer: WebSocketServer,
    request: IncomingMessage,
    socket: Duplex,
    head: Buffer,
  ): void => {
    if (visit.answer !== undefined) return refuse(socket, visit.answer);
    // A handshake that fails ends its socket.
    const leave = (): void => void visit.leave();
    socket.once('close', leave);
    if (socket.destroyed) return leave();
    limitMessages(webSocketServer, door.live.maxMessageSize);
    const seat = (ws: Guarded): void => {
      // What a client sends wrong ends its own connection; unheard it would end the process.
      ws.on('error', heard);
      const connection = visit.open(randomUUID(), ws);
      socket.off('close', leave);
      if (connection === undefined) return;
      ws.on('close', left);
      try {
        count(ws, connection, door.live.add(connection));
        webSocketServer.emit('connection', ws, request);
      } catch (error) {
        connection.close(1011, 'Internal error');
        throw error;
      }
    };
    try {
      webSocketServer.handleUpgrade(request, socket, head, seat);
    } catch (error) {
      // Of its options or its listeners, which are the application's: what has thrown is told as `ws` alone would.
      if (visit.leave()) socket.destroy();
      throw error;
    }
  };

  const guard: WsGuard = {
    manager: door.manager,
    page: door.page,
    request(handler) {
      const { gate, page } = door;
      if (gate === undefined && page === undefined && meter === undefined) return handler;
      const guarded =
        gate === undefined ? handler : (guardHandler(gate, handler) as typeof handler);
      return function (this: unknown, request: IncomingMessage, response: ServerResponse): unknown {
        if (page?.handle(request, response) === true) return true;
        if (door.isExempt(request.method, request.url))
          return handler.call(this, request, response);
        // For servers that route upgrades themselves, and are not attached.
        meter?.(request, response);
        return guarded.call(this, request, response);
      } as typeof handler;
    },
    stats: () => door.stats(),
    part(server) {
      const http = httpPart(server, door.gate);
      return {
        ...http,
        name: 'http',
        drain() {
          door.drain();
          http.drain();
        },
        sockets: () => door.live,
        watchSockets: (watcher) => door.live.watch(watcher),
        stop: () => door.manager.cleanup(),
      };
    },
    attach(server, webSocketServer) {
      const listener = (request: IncomingMessage, socket: Duplex, head: Buffer): void =>
        guard.handleUpgrade(webSocketServer, request, socket, head);
      server.on('upgrade', listener);
      if (meter !== undefined) server.prependListener('request', meter);
      return () => {
        server.off('upgrade', listener);
        if (meter !== undefined) server.off('request', meter);
      };
    },
    handleUpgrade(webSocketServer, request, socket, head) {
      // A reset before the upgrade is the client's affair; unheard it would end the process.
      socket.on('error', () => socket.destroy());
      const peer = request.socket.remoteAddress ?? '';
      const header = headerOf(request);
      const url = request.url ?? '';
      if (!door.isAsync)
        return enter(door.admit(peer, header, url), webSocketServer, request, socket, head);
      // Whoever ends its side before it is let in has gone; `ws` would find it so later.
      const gone = (): void => void socket.destroy();
      socket.once('end', gone);
      void door.identify(request, peer, header, url, socket).then((visit) => {
        socket.off('end', gone);
        enter(visit, webSocketServer, request, socket, head);
      });
    },
  };
  return guard;
}

/** The connection behind a socket of a guarded server. */
export function connectionOf(ws: WebSocket): ManagedConnection | undefined {
  return (ws as Guarded)[CONNECTION];
}
export { signalOf } from './node-http.js';
export type { GuardStats } from './door.js';
