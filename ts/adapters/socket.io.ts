/** Socket.IO servers: the requests of their engine before they reach it, its sessions after that. */
import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import type { Duplex } from 'node:stream';
import { outOfRange, PortcullisError, wrongType } from '../base/errors.js';
import { canParseUrl } from '../base/parsable.js';
import type { RequestTrace } from '../base/trace.js';
import { onSocketClose } from '../base/socket-close.js';
import type { ManagedConnection } from '../connections/connection.js';
import type { ConnectionManager } from '../connections/manager.js';
import type { Admission } from '../guard/admission.js';
import { Guard, type GuardStats } from '../guard/guard.js';
import type { TokenClaims } from '../tokens/result.js';
import type { GuardOptions } from '../guard/options.js';
import { type Answer, answerWith } from '../http/answer.js';
import type { RateExplanation, RateQuestion } from '../http/request-rates.js';
import { lastAnswer, responseOf, waitingOn as waitingOnRequest } from '../http/fetch.js';
import { isHandshake, type WaitingClient } from '../http/handshake.js';
import { httpDrainable, refuseBeside } from '../http/node.js';
import { nodeMeter } from '../metrics/meters.js';
import type { LivePage } from '../page/live-page.js';
import type { Drainable } from '../shutdown/drainable.js';
import { bunDrainable, type BunServer } from './bun-server.js';
import { isTooLarge } from './bun-sockets.js';
import {
  ENGINE_SOCKET,
  EngineSession,
  engineSessions,
  type EngineSocket,
  type EngineTransport,
  SESSION,
  SessionTraffic,
} from './engine-session.js';
import { headerOf, NO_HANDSHAKE, refuse, waitingOn, watchWaiting } from './node-handshake.js';
import { guardRequests, type RequestHandler } from './node-requests.js';
import { bunPeer, nodePeer, type PeerSource } from './peer.js';
import { RefusalPacer } from './refusal-pacer.js';
import { checkSocket, CONNECTION, type GuardedSocket, OPEN_SOCKET } from './socket.js';

/**
 * Options of the guard. `R` is the request of the host: `IncomingMessage`, or `Request` with
 * `@socket.io/bun-engine`. `C` is the type of the claims of `auth`.
 */
export type SocketIoGuardOptions<
  R extends IncomingMessage | Request = IncomingMessage,
  C extends TokenClaims = TokenClaims,
> = GuardOptions<R, C>;

/** A `Server` of Socket.IO 4, as far as a guard needs it. */
export interface SocketIoServer {
  /** The engine below it; absent before the server is attached or bound to one. */
  readonly engine: object;
  /** Binds it to an engine. */
  bind(engine: never): unknown;
}

/** Guards Socket.IO servers. */
export interface SocketIoGuard {
  /** The manager behind the guard. */
  readonly manager: ConnectionManager;
  /**
   * Guards a server of Socket.IO: the engine that it has, and each that it is attached or bound to
   * later. Sessions that are open already stay as they are. With `@socket.io/bun-engine`, attach before
   * `engine.handler()`: its handlers of pings and pongs are the guard's.
   * @param io a `Server` of Socket.IO 4, with the engine of Node or with `@socket.io/bun-engine`
   * @returns a function that ends this: sessions that are open keep their seats until they end
   * @throws ERR_INVALID_ARG_TYPE; ERR_OUT_OF_RANGE for a server that has a guard; ERR_UNSUPPORTED for
   * the engine of uWebSockets.js, and for `auth.http` and `requests` with `@socket.io/bun-engine`
   * @example
   * const io = new Server(httpServer);
   * guard.attach(io);
   */
  attach(io: SocketIoServer): () => void;
  /** The page, if the option `page` asks for one; `request` serves it. */
  readonly page: LivePage | undefined;
  /**
   * Wraps a handler of HTTP requests on Node, so that the limits of `requests` and the tokens of
   * `auth.http` are judged and the page is served. The requests of Socket.IO never reach it: a request that polls waits for as long as its
   * session is silent.
   * @throws ERR_INVALID_ARG_TYPE unless the handler is a function
   */
  request<H extends (request: IncomingMessage, response: ServerResponse) => unknown>(handler: H): H;
  /**
   * Aborts at the beginning of the drain, so that endless responses (server-sent events, long polls) send
   * their last event and end; a shutdown waits for the others up to its deadline. One signal for the whole
   * server: a listener has to be removed with its response. A request that begins later finds it aborted.
   * @example
   * const end = () => response.end('event: bye\ndata:\n\n');
   * guard.draining.addEventListener('abort', end);
   * response.once('close', () => guard.draining.removeEventListener('abort', end));
   */
  readonly draining: AbortSignal;
  /**
   * Returns the id of a request and its `traceparent`, as stalls, hooks and `connection.requestId` have them. The
   * headers are read at the first call.
   * @param request a request or a handshake of the guarded server
   * @throws ERR_INVALID_ARG_TYPE for a value that is none
   * @example
   * log.info('paid', guard.traceOf(request).requestId);
   */
  traceOf(request: IncomingMessage | Request): RequestTrace;
  /** Counts of requests, sessions, denials and invalid messages. */
  snapshot(): GuardStats;
  /**
   * Returns the rates of `requests.rate` that a request of a client would meet, with the reason where one
   * would refuse it. Spends nothing.
   * @throws ERR_INVALID_ARG_TYPE, ERR_OUT_OF_RANGE, ERR_UNKNOWN_OPTION for the client
   */
  explainRates(client: RateQuestion): RateExplanation[];
  /**
   * Ends what the guard made: its page, its manager with all connections, its timers. A given manager and given
   * timers stay open. May be called again.
   */
  close(): void;
  [Symbol.dispose](): void;
  /**
   * The server, for a `GracefulShutdown` to drain: the HTTP server on Node, that of `Bun.serve` on Bun.
   * It listens until the last session has ended, since sessions that poll need new connections. Call it
   * before the server listens, so that it knows every socket.
   */
  drainable(server: Server | object): Drainable;
}

/** A request of Node's engine, with the query that the engine takes from it. */
type EngineRequest = IncomingMessage & {
  _query?: Record<string, string | undefined>;
} & Held;
/** A request that holds its admission, by the key of an adapter. */
interface Held {
  [key: symbol]: Admission | undefined;
}
type EngineCallback = (
  request: IncomingMessage,
  response: ServerResponse,
  next: () => void,
) => void;

/** The server of `engine.io`. */
interface NodeEngine {
  readonly clients: Record<string, EngineSocket>;
  readonly opts: { maxHttpBufferSize: number; readonly cors?: unknown };
  readonly middlewares?: readonly EngineCallback[];
  readonly ws?: { readonly options?: { maxPayload?: number } } | undefined;
  handleRequest(request: IncomingMessage, response: ServerResponse): void;
  handleUpgrade(request: IncomingMessage, socket: Duplex, head: Buffer): void;
  emit(event: string, ...args: unknown[]): boolean;
}

/** The server of `@socket.io/bun-engine`. */
interface BunEngine {
  readonly clients: Map<string, EngineSocket>;
  readonly opts: { maxHttpBufferSize: number };
  readonly ws?: undefined;
  handleRequest(request: Request, server: PeerSource): Promise<Response>;
  emitReserved(event: string, ...args: unknown[]): boolean;
  onWebSocketClose(socket: TransportOwner, code: number, reason: string): void;
  /** Returns options of `Bun.serve`. */
  handler(): { readonly websocket: object };
}

/** A WebSocket of Bun below a session. */
interface TransportOwner {
  readonly data?: { readonly transport?: EngineTransport };
}

/** Answer to an upgrade of a session that has no use for one. */
const NO_UPGRADE = answerWith(400, {
  code: 'no_session_upgrade',
  message: 'The session cannot be upgraded',
});

/** The origin of the URLs that the engine reads targets by. */
const ANY_ORIGIN = 'https://socket.io';
const GUARDED = new WeakSet<object>();

function unkept(field: string, remedy: string): PortcullisError {
  return new PortcullisError(
    'ERR_UNSUPPORTED',
    `${field} is kept by guard.request(handler) of node:http, which @socket.io/bun-engine does not use: ${remedy}`,
    { field },
  );
}

/** Hands the requests and sessions of engines to the guard; its methods are named after their events. */
class SocketIoAdapter {
  readonly guard: Guard<IncomingMessage | Request>;
  readonly #traffic: SessionTraffic;
  readonly #pacer = new RefusalPacer();
  readonly #countRequest:
    ((request: IncomingMessage, response: ServerResponse) => void) | undefined;
  /** Key of a request's admission: on the request, which the engine hands on with its session. */
  readonly #key = Symbol('portcullis.pendingSession');

  constructor(options: GuardOptions<IncomingMessage | Request>) {
    const guard = new Guard('portcullis/socket.io', options, engineSessions);
    this.guard = guard;
    this.#traffic = new SessionTraffic(guard);
    this.#countRequest =
      guard.metrics === undefined
        ? undefined
        : nodeMeter(
            guard.metrics,
            guard.tracer,
            guard.monitor === undefined,
            ({ method, url }) =>
              guard.page?.owns(url ?? '') === true || guard.isExempt(method, url),
          );
  }

  attach(io: SocketIoServer): () => void {
    const allowed = 'a Server of socket.io';
    if (typeof io !== 'object' || io === null || typeof io.bind !== 'function')
      throw wrongType('io', io, allowed);
    if (GUARDED.has(io)) throw outOfRange('io', io, 'a server without a guard');
    const undo: (() => void)[] = [];
    if (io.engine !== undefined && io.engine !== null) undo.push(this.#guardEngine(io.engine));
    const own = Object.getOwnPropertyDescriptor(io, 'bind');
    const bind = io.bind as (this: SocketIoServer, engine: object) => unknown;
    const guardLater = (engine: object): void => void undo.push(this.#guardEngine(engine));
    Object.defineProperty(io, 'bind', {
      configurable: true,
      writable: true,
      value: function (this: SocketIoServer, engine: object) {
        const result = bind.call(this, engine);
        guardLater(engine);
        return result;
      },
    });
    GUARDED.add(io);
    return () => {
      if (!GUARDED.delete(io)) return;
      if (own === undefined) Reflect.deleteProperty(io, 'bind');
      else Object.defineProperty(io, 'bind', own);
      for (const end of undo) end();
    };
  }

  #guardEngine(engine: object): () => void {
    if ('abortRequest' in engine)
      throw new PortcullisError(
        'ERR_UNSUPPORTED',
        'portcullis/socket.io cannot guard the engine of uWebSockets.js: attach Socket.IO to an http server',
        { field: 'io' },
      );
    const { clients, handleRequest } = engine as Partial<NodeEngine>;
    if (typeof handleRequest !== 'function' || typeof clients !== 'object')
      throw wrongType('io.engine', engine, 'an engine of socket.io');
    if (GUARDED.has(engine)) throw outOfRange('io', engine, 'a server without a guard');
    GUARDED.add(engine);
    const end =
      clients instanceof Map
        ? this.#guardBun(engine as unknown as BunEngine)
        : this.#guardNode(engine as NodeEngine);
    return () => {
      GUARDED.delete(engine);
      end();
    };
  }

  /**
   * Lowers the engine's own limit, so that it refuses a message before it has arrived whole. On polling
   * a binary message is longer by a third. The exact limit is that of the guard.
   * @returns a function that sets it back
   */
  #limitMessages({ opts, ws }: Pick<NodeEngine, 'opts' | 'ws'>): () => void {
    const { maxMessageSize } = this.guard.openSockets;
    const most = maxMessageSize === Infinity ? Infinity : Math.ceil(maxMessageSize / 3) * 4 + 2;
    const own = opts.maxHttpBufferSize;
    const set = (bytes: number): void => {
      opts.maxHttpBufferSize = bytes;
      // The engine of Node makes another one from its options when its server listens.
      if (ws?.options !== undefined) ws.options.maxPayload = bytes;
    };
    if (own > most) set(most);
    return () => {
      if (own > most) set(own);
    };
  }

  #guardNode(engine: NodeEngine): () => void {
    const unlimit = this.#limitMessages(engine);
    const { handleRequest, handleUpgrade, emit } = engine;
    const isSeated = (socket: EngineSocket): boolean => this.session(socket, socket.request);
    const guarded = {
      handleRequest: (request: IncomingMessage, response: ServerResponse) =>
        this.request(engine, request as EngineRequest, response, () =>
          handleRequest.call(engine, request, response),
        ),
      handleUpgrade: (request: IncomingMessage, socket: Duplex, head: Buffer) =>
        this.upgrade(engine, request as EngineRequest, socket, () =>
          handleUpgrade.call(engine, request, socket, head),
        ),
      // Instead of a listener: Socket.IO listens, too, and must not hear of a refused session.
      emit(this: NodeEngine, event: string) {
        if (event === 'connection' && !isSeated(arguments[1] as EngineSocket)) return true;
        return Reflect.apply(emit, this, arguments);
      },
    };
    Object.assign(engine, guarded);
    return () => {
      unlimit();
      restore(engine, guarded);
    };
  }

  #guardBun(engine: BunEngine): () => void {
    // `Bun.serve` hands requests to the application's `fetch`, which no guard of this adapter wraps.
    if (this.guard.judgesRequests)
      throw unkept('auth.http', 'leave it out, and have the verifier judge requests in your fetch');
    if (this.guard.limitsRequests) throw unkept('requests', 'leave it out');
    const unlimit = this.#limitMessages(engine);
    const { handleRequest, emitReserved, onWebSocketClose, handler } = engine;
    const isSeated = (socket: EngineSocket, request: Request, server: PeerSource): boolean => {
      const pending = (request as unknown as Held)[this.#key] ?? this.#late(request, server);
      return this.#open(socket, pending);
    };
    const guarded = {
      handleRequest: (request: Request, server: PeerSource) =>
        this.fetch(engine, request, server, () => handleRequest.call(engine, request, server)),
      emitReserved(event: string, ...args: unknown[]) {
        const [socket, request, server] = args as [EngineSocket, Request, PeerSource];
        if (event === 'connection' && !isSeated(socket, request, server)) return true;
        return emitReserved.call(engine, event, ...args);
      },
      onWebSocketClose(socket: TransportOwner, code: number, reason: string) {
        const session = socket.data?.transport?.[ENGINE_SOCKET];
        if (isTooLarge(code, reason)) session?.[OPEN_SOCKET]?.wasTooLarge();
        onWebSocketClose.call(engine, socket, code, reason);
      },
      handler: () => withControls(handler.call(engine), this.#traffic),
    };
    Object.assign(engine, guarded);
    return () => {
      unlimit();
      restore(engine, guarded);
    };
  }

  /** A request of Node's engine: the first one of a session takes a seat. */
  request(
    engine: NodeEngine,
    request: EngineRequest,
    response: ServerResponse,
    handle: () => void,
  ): void {
    if (this.guard.isLeaving) response.shouldKeepAlive = false;
    const { guard } = this;
    const query = queryOf(request);
    if (query === undefined) return answerRequest(request, response, NO_HANDSHAKE);
    const peer = nodePeer(request);
    const header = headerOf(request);
    // The engine refuses other methods, and the ids of sessions that it does not know.
    if (query['sid'] || request.method !== 'GET') {
      const refused =
        request.method === 'OPTIONS' ? undefined : guard.refusesPage(peer, header, request);
      return refused === undefined ? handle() : answerRequest(request, response, refused);
    }
    const admit = (pending: Admission): void => {
      if (pending.answer !== undefined) {
        const { answer } = pending;
        return withCors(engine, request, response, () => answerRequest(request, response, answer));
      }
      request[this.#key] = pending;
      // The session opens before its first answer ends: an answer without a session is a refusal.
      const over = (): void => {
        forget();
        // The request keeps it: a session that opens after this is refused.
        pending.end('reset');
      };
      const forget = onSocketClose(request.socket, over);
      response.once('close', over);
      if (response.destroyed || request.socket.destroyed) return over();
      handle();
    };
    this.#judge(request, peer, header, request.url ?? '', waitingOnResponse(response), admit);
  }

  /** An upgrade of Node's engine: a new session, or a second transport for one that polls. */
  upgrade(engine: NodeEngine, request: EngineRequest, socket: Duplex, handle: () => void): void {
    // An unhandled `error` event, such as a reset before the upgrade, would end the process.
    socket.on('error', () => socket.destroy());
    const { guard } = this;
    const query = queryOf(request);
    if (
      query === undefined ||
      query['transport'] !== 'websocket' ||
      !isHandshake(request.method, request.headers.upgrade)
    )
      return refuse(socket, NO_HANDSHAKE);
    const peer = nodePeer(request);
    const header = headerOf(request);
    const { sid } = query;
    if (sid) {
      const refused = guard.refusesPage(peer, header, request);
      if (refused !== undefined) return refuse(socket, refused);
      const client = Object.hasOwn(engine.clients, sid) ? engine.clients[sid] : undefined;
      const session = client?.[SESSION];
      if (session === undefined) return handle();
      if (!session.canUpgrade) return refuse(socket, NO_UPGRADE);
      session.isProbing = true;
      socket.once('close', () => (session.isProbing = false));
      return handle();
    }
    const admit = (pending: Admission): void => {
      endWatch?.();
      if (pending.answer !== undefined) return refuse(socket, pending.answer);
      const over = (): void => void pending.end('reset');
      socket.once('close', over);
      if (socket.destroyed) return over();
      request[this.#key] = pending;
      return handle();
    };
    const endWatch = guard.isAsync ? watchWaiting(socket) : undefined;
    this.#judge(request, peer, header, request.url ?? '', waitingOn(socket), admit);
  }

  /** A request of Bun's engine. */
  fetch(
    engine: BunEngine,
    request: Request,
    server: PeerSource,
    handle: () => Promise<Response>,
  ): Promise<Response> {
    const answer = this.#fetch(engine, request, server, handle);
    return Promise.resolve(
      (this.guard.isLeaving ? lastAnswer(answer) : answer) as Response | Promise<Response>,
    );
  }

  #fetch(
    engine: BunEngine,
    request: Request,
    server: PeerSource,
    handle: () => Promise<Response>,
  ): unknown {
    const { guard } = this;
    // The engine reads the URL, too, and Bun leaves it relative without a valid `Host`.
    if (!canParseUrl(request.url)) return responseOf(NO_HANDSHAKE);
    const query = new URL(request.url).searchParams;
    const header = (name: string): string => request.headers.get(name) ?? '';
    const peer = bunPeer(server, request);
    const isUpgrade = request.headers.has('upgrade');
    if (
      isUpgrade &&
      (query.get('transport') !== 'websocket' ||
        !isHandshake(request.method, request.headers.get('upgrade')))
    )
      return responseOf(NO_HANDSHAKE);
    const sid = query.get('sid');
    if (sid || request.method !== 'GET') {
      const refused =
        request.method === 'OPTIONS' ? undefined : guard.refusesPage(peer, header, request);
      if (refused !== undefined) return responseOf(refused);
      const session = isUpgrade ? engine.clients.get(sid ?? '')?.[SESSION] : undefined;
      if (session === undefined) return handle();
      if (!session.canUpgrade) return responseOf(NO_UPGRADE);
      session.isProbing = true;
      return handle().finally(() => (session.isProbing = false));
    }
    // The engine would open a session that polls, and whose transport says that it is none.
    if (!isUpgrade && query.get('transport') === 'websocket') return responseOf(NO_HANDSHAKE);
    const admit = (pending: Admission): unknown => {
      if (pending.answer !== undefined) return responseOf(pending.answer);
      (request as unknown as Held)[this.#key] = pending;
      return handle().finally(() => void pending.end('reset'));
    };
    guard.handshakeBegins(request);
    return this.#pacer.answer(
      guard.isAsync
        ? guard.identify(request, peer, header, request.url, waitingOnRequest(request)).then(admit)
        : admit(guard.admit(peer, header, request.url, request)),
    );
  }

  /** Judges a handshake, at once where the guard does not have to wait. */
  #judge(
    request: IncomingMessage,
    peer: string,
    header: (name: string) => string,
    url: string,
    client: WaitingClient,
    admit: (pending: Admission) => void,
  ): void {
    const { guard } = this;
    guard.handshakeBegins(request);
    if (!guard.isAsync) return admit(guard.admit(peer, header, url, request));
    void guard.identify(request, peer, header, url, client).then(admit);
    return undefined;
  }

  /**
   * A session that the engine of Node has opened. One that has passed no request is judged now.
   * @returns `false` if it is refused, and then Socket.IO never hears of it
   */
  session(socket: EngineSocket, first: IncomingMessage | null | undefined): boolean {
    // WebTransport sessions come without a request.
    if (first === undefined || first === null) return this.#open(socket, this.guard.admitLate(''));
    const request = first as EngineRequest;
    const pending =
      request[this.#key] ??
      this.guard.admitLate(nodePeer(request), headerOf(request), request.url ?? '', request);
    // The engine keeps the request as long as the session.
    request[this.#key] = undefined;
    return this.#open(socket, pending);
  }

  /** Judges a session of Bun's engine that has passed no request. */
  #late(request: Request, server: PeerSource): Admission {
    const header = (name: string): string => request.headers.get(name) ?? '';
    return this.guard.admitLate(bunPeer(server, request), header, request.url, request);
  }

  /** Seats a session; `false` if it is refused. */
  #open(socket: EngineSocket, pending: Admission): boolean {
    const session = new EngineSession(socket);
    const connection = pending.open(socket.id, session);
    if (connection === undefined) {
      session.onGone = () => pending.socketGone();
      return false;
    }
    session.onGone = () => connection.ended();
    try {
      this.#traffic.follow(session, connection, this.guard.openSockets.add(connection));
      return true;
    } catch {
      // Strict timers that are closed. An error would be an unhandled rejection of the engine's.
      connection.close(1011, 'Internal error');
      return false;
    }
  }

  handler<H extends RequestHandler>(handler: H): H {
    const guard = this.guard as Guard<object> as Guard<IncomingMessage>;
    return guardRequests(guard, this.#countRequest, handler);
  }

  drainable(server: Server | object): Drainable {
    const guard = this.guard;
    if (!('listeners' in server))
      return bunDrainable(
        'socket.io',
        guard as Guard<object> as Guard<Request>,
        () => server as BunServer,
      );
    guard.page?.announceOn(server as Server);
    const http = httpDrainable(server as Server, guard.requests);
    const { openSockets } = guard;
    const whenEmpty = (): Promise<void> =>
      new Promise((resolve) => {
        const check = (): void => {
          if (openSockets.size > 0) return;
          unwatch();
          resolve();
        };
        const unwatch = openSockets.watch({ opened: () => undefined, gone: check });
        check();
      });
    return {
      ...http,
      name: 'socket.io',
      drain() {
        guard.drain();
        http.notReady();
      },
      async whenIdle() {
        await whenEmpty();
        http.drain();
        await http.whenIdle();
      },
      sockets: () => openSockets,
      watchSockets: (watcher) => openSockets.watch(watcher),
      stop() {
        guard.manager.close();
        http.drain();
        http.stop();
      },
    };
  }
}

/** Adds handlers of pings and pongs, which the engine leaves to Bun. */
function withControls<H extends { readonly websocket: object }>(
  options: H,
  traffic: SessionTraffic,
): H {
  const websocket = {
    ...options.websocket,
    ping: (socket: TransportOwner, data: unknown) =>
      traffic.frame(socket.data?.transport, true, data),
    pong: (socket: TransportOwner, data: unknown) =>
      traffic.frame(socket.data?.transport, false, data),
  };
  return { ...options, websocket };
}

/** Ends the guarding of an engine, unless other code has taken its methods over since. */
function restore(engine: object, guarded: Readonly<Record<string, unknown>>): void {
  for (const [name, method] of Object.entries(guarded))
    if (Reflect.get(engine, name) === method) Reflect.deleteProperty(engine, name);
}

/** Returns the query as the engine reads it, and stores it where the engine looks for it. */
function queryOf(request: EngineRequest): Record<string, string | undefined> | undefined {
  if (request._query !== undefined) return request._query;
  const url = request.url ?? '';
  if (!canParseUrl(url, ANY_ORIGIN)) return undefined;
  return (request._query = Object.fromEntries(new URL(url, ANY_ORIGIN).searchParams));
}

function waitingOnResponse(response: ServerResponse): WaitingClient {
  return {
    onGone(listener) {
      if (response.destroyed) listener();
      response.once('close', listener);
      return () => void response.off('close', listener);
    },
  };
}

/**
 * Answers a refused request that polls. Its connection stays open, for the client's next attempt, unless it still sends
 * a body.
 */
function answerRequest(request: EngineRequest, response: ServerResponse, answer: Answer): void {
  if (!response.destroyed) refuseBeside(answer, request, response);
}

/**
 * Adds the headers of the engine's `cors` first: a browser shows no status to a page of another origin
 * without them. The engine makes it the first of its middlewares.
 */
function withCors(
  { opts, middlewares }: NodeEngine,
  request: IncomingMessage,
  response: ServerResponse,
  answer: () => void,
): void {
  const cors = opts.cors ? middlewares?.[0] : undefined;
  if (cors === undefined) answer();
  else cors(request, response, answer);
}

/**
 * Guards Socket.IO servers: admits or refuses a session before the engine sees it, counts packets and
 * bytes both ways, closes the idle, gives seats back. Polling, WebSocket and the upgrade from one to the
 * other are one session with one seat. Handlers stay as they are.
 *
 * A client over the limit of its address or user gets 429, one that comes to a full or draining server
 * 503, both with `Retry-After` and `{ code, message, retryAfterMs }`. `auth` reads the token of the HTTP
 * handshake: Socket.IO sends its own `auth` later, in a packet.
 *
 * @param options of the guard; `limits`, or a `manager`
 * @throws ERR_INVALID_ARG_TYPE, ERR_OUT_OF_RANGE, ERR_UNKNOWN_OPTION for the options
 * @example
 * const httpServer = createServer();
 * const io = new Server(httpServer);
 * portcullis({ limits: { maxConnectionsPerIp: 10 } }).attach(io);
 * io.on('connection', (socket) => socket.on('echo', (text, answer) => answer(text)));
 * httpServer.listen(3000);
 */
export function portcullis<
  R extends IncomingMessage | Request = IncomingMessage,
  C extends TokenClaims = TokenClaims,
>(options: SocketIoGuardOptions<R, C>): SocketIoGuard {
  const adapter = new SocketIoAdapter(
    options as unknown as GuardOptions<IncomingMessage | Request>,
  );
  const { guard } = adapter;
  return {
    manager: guard.manager,
    page: guard.page,
    get draining() {
      return guard.draining;
    },
    traceOf: (request) => guard.traceOf(request),
    snapshot: () => guard.snapshot(),
    explainRates: (client) => guard.explainRates(client),
    close: () => guard.close(),
    [Symbol.dispose]: () => guard.close(),
    attach: (io) => adapter.attach(io),
    request: (handler) => adapter.handler(handler),
    drainable: (server) => adapter.drainable(server),
  };
}

/**
 * The connection behind a socket of Socket.IO or of its engine; `undefined` if it was refused, or is
 * older than its guard, and for any other object. All namespaces of a client share it.
 * @param socket a `Socket` of Socket.IO, or its `conn`
 * @throws ERR_INVALID_ARG_TYPE for a value that is no object
 */
export function connectionOf(socket: object): ManagedConnection | undefined {
  checkSocket('socket', socket);
  const engineSocket =
    'conn' in socket && typeof socket.conn === 'object' && socket.conn !== null
      ? socket.conn
      : socket;
  return (engineSocket as GuardedSocket)[CONNECTION];
}
