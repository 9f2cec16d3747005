/** `ws` servers on a Node `http` server: handshakes before the upgrade, sockets after it. */
import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import type { Duplex } from 'node:stream';
import type { WebSocket, WebSocketServer } from 'ws';
import { PortcullisError } from '../base/errors.js';
import type { RequestTrace } from '../base/trace.js';
import type { ManagedConnection } from '../connections/connection.js';
import type { ConnectionManager } from '../connections/manager.js';
import { Guard, type GuardStats } from '../guard/guard.js';
import type { TokenClaims } from '../tokens/result.js';
import type { GuardOptions } from '../guard/options.js';
import type { Admission } from '../guard/admission.js';
import { isHandshake } from '../http/handshake.js';
import type { RateExplanation, RateQuestion } from '../http/request-rates.js';
import { httpDrainable } from '../http/node.js';
import { nodeMeter } from '../metrics/meters.js';
import type { LivePage } from '../page/live-page.js';
import type { Drainable } from '../shutdown/drainable.js';
import { headerOf, NO_HANDSHAKE, refuse, waitingOn, watchWaiting } from './node-handshake.js';
import { guardRequests } from './node-requests.js';
import type { Http2Handler, HttpHandler, NodeRequest, NodeServer } from './node-server.js';
import { nodePeer } from './peer.js';
import { checkSocket, CONNECTION, OPEN_SOCKET } from './socket.js';
import { guardUpgrades, misaddressed } from './upgrade-requests.js';
import { type AttachOptions, checkedPathOf, UpgradeRouter } from './upgrade-router.js';
import {
  checkProtectable,
  drainedServerOf,
  isProtected,
  type UpgradeHost,
  withSettings,
  wrapUpgrades,
} from './ws-protection.js';
import {
  type GuardedWs,
  limitReceiver,
  TrafficCounter,
  withMessageLimit,
  wsSockets,
} from './ws-sockets.js';

/** Options of the guard. `C` is the type of the claims of `auth`. */
export type WsGuardOptions<C extends TokenClaims = TokenClaims> = GuardOptions<IncomingMessage, C>;

/** Guards `ws` servers. */
export interface WsGuard {
  /** The manager behind the guard. */
  readonly manager: ConnectionManager;
  /**
   * Guards the HTTP server's upgrades: those of one path, or all. Upgrades of another path are left
   * to other listeners of `upgrade`, such as those of socket.io or of a development server; without
   * another listener they get 404.
   * @param server the HTTP or HTTPS server
   * @param webSocketServer made with `{ noServer: true }`; emits `connection` for admitted clients
   * @param options see `AttachOptions`
   * @returns a function that detaches it again
   * @throws ERR_INVALID_ARG_TYPE, ERR_UNKNOWN_OPTION; ERR_OUT_OF_RANGE for a `WebSocketServer` with a
   * server or port of its own, which `protect()` guards, for one that is protected, and for a path that
   * has a guard
   * @example
   * guard.attach(server, webSocketServer, { path: '/ws' });
   */
  attach(server: NodeServer, webSocketServer: WebSocketServer, options?: AttachOptions): () => void;
  /**
   * Guards the handshakes of a `ws` server, however it was made: with `{ port }`, `{ server }` or
   * `{ noServer }`, by the application or by its framework. It wraps `handleUpgrade()`: the callback
   * given to it is called for admitted clients only. Handshakes that the server does not handle, such
   * as those of another `path`, take no seat, and `verifyClient` still runs. With `{ server }`, the
   * requests of that server count for `metrics`.
   * @param webSocketServer without a guard
   * @returns a function that ends it. It restores the server's `handleUpgrade`; if another wrapper came
   * later, that stays, and handshakes pass through. Admitted connections stay guarded
   * @throws ERR_INVALID_ARG_TYPE; ERR_OUT_OF_RANGE for a server that is protected or attached;
   * ERR_CLOSED after `close()`
   * @example
   * const webSocketServer = new WebSocketServer({ port: 3000 });
   * guard.protect(webSocketServer);
   */
  protect(webSocketServer: WebSocketServer): () => void;
  /**
   * Handles one `upgrade` event, for servers that route upgrades themselves. The handshakes of a
   * protected server are judged once, by the guard that protects it.
   */
  handleUpgrade(
    webSocketServer: WebSocketServer,
    request: IncomingMessage,
    socket: Duplex,
    head: Buffer,
  ): void;
  /**
   * Judges the upgrades of a server as requests, before any listener of `upgrade` has them: for frameworks whose
   * hooks, middleware and routes run before a handshake reaches the guard, such as Fastify, Hono and crossws. An
   * upgrade that the limits of `requests`, `auth.http` or a ban refuse, and one whose `Host` and target make no URL, is
   * answered; a socket that fails while the framework has it no longer ends the process. A handshake that passes spends
   * a rate as a request does, and is judged by `protect()` as before.
   * @param server the HTTP or HTTPS server
   * @returns a function that ends it
   * @throws ERR_INVALID_ARG_TYPE; ERR_OUT_OF_RANGE for a server whose upgrades this guard judges already
   * @example
   * guard.protect(app.websocketServer);
   * guard.upgrades(app.server);
   */
  upgrades(server: NodeServer): () => void;
  /** The page, if the option `page` asks for one; `request` serves it. */
  readonly page: LivePage | undefined;
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
   * Wraps a handler of HTTP requests, so that the limits of `requests` are kept and the page is served.
   * @throws ERR_INVALID_ARG_TYPE unless the handler is a function
   */
  request<H extends (request: IncomingMessage, response: ServerResponse) => unknown>(handler: H): H;
  /**
   * Wraps a handler of `node:http2` in the same way. In TypeScript it names the types of its parameters.
   * @example
   * guard.request((request: Http2ServerRequest, response: Http2ServerResponse) => response.end());
   */
  request<H extends Http2Handler>(handler: H): H;
  /**
   * Returns the id of a request and its `traceparent`, as stalls, hooks and `connection.requestId` have them. The
   * headers are read at the first call.
   * @param request a request or a handshake of the guarded server
   * @throws ERR_INVALID_ARG_TYPE for a value that is none
   * @example
   * log.info('paid', guard.traceOf(request).requestId);
   */
  traceOf(request: NodeRequest): RequestTrace;
  /** Counts of requests, WebSockets, denials and invalid messages. */
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
   * The server, for a `GracefulShutdown` to drain. Call it before the server listens, so that it knows every socket.
   * @param server the HTTP server, or a `WebSocketServer` made with `{ port }` or `{ server }`
   * @throws ERR_INVALID_ARG_TYPE; ERR_OUT_OF_RANGE for a `WebSocketServer` without an HTTP server
   */
  drainable(server: NodeServer | WebSocketServer): Drainable;
}

/** Hands the events of `http` and `ws` to the guard; its methods are named after them. */
class WsAdapter {
  readonly guard: Guard<IncomingMessage>;
  readonly #traffic: TrafficCounter;
  readonly #countRequest:
    ((request: IncomingMessage, response: ServerResponse) => void) | undefined;

  constructor(options: WsGuardOptions) {
    const guard = new Guard<IncomingMessage>('portcullis/ws', options, wsSockets);
    this.guard = guard;
    guard.misaddressed = misaddressed;
    this.#traffic = new TrafficCounter(guard);
    const isUncounted = ({ method, url }: IncomingMessage): boolean =>
      guard.page?.owns(url ?? '') === true || guard.isExempt(method, url);
    this.#countRequest =
      guard.metrics === undefined
        ? undefined
        : nodeMeter(guard.metrics, guard.tracer, guard.monitor === undefined, isUncounted);
  }

  get manager(): ConnectionManager {
    return this.guard.manager;
  }

  get page(): LivePage | undefined {
    return this.guard.page;
  }

  attach(
    given: NodeServer,
    webSocketServer: WebSocketServer,
    options: AttachOptions = {},
  ): () => void {
    const path = checkedPathOf(given, webSocketServer, options);
    const server = given as Server;
    const detach = UpgradeRouter.of(server).add(path, {
      webSocketServer,
      upgrade: (request, socket, head) =>
        this.handleUpgrade(webSocketServer, request, socket, head),
      refuse,
    });
    const leave = this.#join(server);
    return () => {
      detach();
      leave();
    };
  }

  protect(webSocketServer: WebSocketServer): () => void {
    checkProtectable(webSocketServer);
    if (this.guard.isClosed)
      throw new PortcullisError('ERR_CLOSED', 'the guard is closed, and would admit nobody');
    const { options } = webSocketServer;
    const unwrap = wrapUpgrades(webSocketServer, (host, request, socket, head) =>
      this.#judge(host, request, socket, head),
    );
    const leave = options?.server ? this.#join(options.server) : undefined;
    let isOver = false;
    return () => {
      if (isOver) return;
      isOver = true;
      unwrap();
      leave?.();
    };
  }

  /** Announces the page on a server and counts its requests; returns a function that ends the counting. */
  #join(server: Server): () => void {
    this.page?.announceOn(server);
    const countRequest = this.#countRequest;
    if (countRequest === undefined) return () => undefined;
    server.prependListener('request', countRequest);
    return () => void server.off('request', countRequest);
  }

  request<H extends HttpHandler | Http2Handler>(handler: H): H {
    return guardRequests(this.guard, this.#countRequest, handler as HttpHandler) as H;
  }

  upgrades(server: NodeServer): () => void {
    return guardUpgrades(this.guard, server as Server);
  }

  handleUpgrade(
    webSocketServer: WebSocketServer,
    request: IncomingMessage,
    socket: Duplex,
    head: Buffer,
  ): void {
    const complete: UpgradeHost['complete'] = (request, socket, head, onOpen) =>
      webSocketServer.handleUpgrade(request, socket, head, onOpen);
    const announce: UpgradeHost['announce'] = (ws, request) =>
      void webSocketServer.emit('connection', ws, request);
    if (isProtected(webSocketServer)) return complete(request, socket, head, announce);
    if (isHandshake(request.method, request.headers.upgrade))
      return this.#judge({ webSocketServer, complete, announce }, request, socket, head);
    socket.on('error', destroyThis);
    refuse(socket, NO_HANDSHAKE);
  }

  /**
   * Admits or refuses a handshake. Without a closure that stays on the socket: all closures of a function share
   * what any of them uses, and one for `error` would keep the request as long as the connection.
   */
  #judge(host: UpgradeHost, request: IncomingMessage, socket: Duplex, head: Buffer): void {
    const guard = this.guard;
    // An unhandled `error` event, such as a reset before the upgrade, would end the process.
    socket.on('error', destroyThis);
    guard.handshakeBegins(request);
    if (guard.isAsync) return this.#judgeLater(host, request, socket, head);
    const pending = guard.admit(nodePeer(request), headerOf(request), request.url ?? '', request);
    this.#upgrade(pending, host, request, socket, head);
  }

  /** Admits or refuses a handshake whose identity comes later. */
  #judgeLater(host: UpgradeHost, request: IncomingMessage, socket: Duplex, head: Buffer): void {
    const endWatch = watchWaiting(socket);
    const kept = withSettings(host);
    void this.guard
      .identify(request, nodePeer(request), headerOf(request), request.url ?? '', waitingOn(socket))
      .then((pending) => {
        endWatch();
        this.#upgrade(pending, kept, request, socket, head);
      });
  }

  /** Completes the handshake of an admitted client, or refuses it. */
  #upgrade(
    pending: Admission,
    host: UpgradeHost,
    request: IncomingMessage,
    socket: Duplex,
    head: Buffer,
  ): void {
    if (pending.answer !== undefined) return refuse(socket, pending.answer);
    if (socket.destroyed) return void pending.end('reset');
    const { maxMessageSize } = this.guard.openSockets;
    let hasOpened = false;
    let abandon: (() => void) | undefined;
    const onOpen = (ws: WebSocket): void => {
      hasOpened = true;
      // npm's `ws` listens for errors itself from now on: a second listener would make the emitter keep an array for
      // each connection. Another `ws` may not.
      if (socket.listenerCount('error') > 1) socket.off('error', destroyThis);
      const isSeated = this.#open(ws, pending);
      if (abandon !== undefined) {
        socket.off('close', abandon);
        limitReceiver(ws, maxMessageSize);
      }
      if (isSeated) this.#announce(ws, host, request);
    };
    try {
      withMessageLimit(host.webSocketServer, maxMessageSize, () =>
        host.complete(request, socket, head, onOpen),
      );
    } catch (error) {
      // Thrown by the application's own `ws` options or listeners: rethrow, as `ws` alone would.
      if (pending.end('reset')) socket.destroy();
      throw error;
    }
    if (hasOpened) return;
    // `ws` has refused the handshake, or waits for `verifyClient`. One that fails closes its socket, which is
    // reported after this call, and its seat is free again.
    abandon = () => void pending.end('reset');
    socket.once('close', abandon);
  }

  /** Seats a socket; `false` if it is refused, and then the application never hears of it. */
  #open(ws: GuardedWs, pending: Admission): boolean {
    const connection = pending.open(undefined, ws);
    if (connection === undefined) {
      // An unhandled `error` event, such as a bad frame, would end the process.
      ws.on('error', () => undefined);
      ws.once('close', () => pending.socketGone());
      return false;
    }
    ws[CONNECTION] = connection;
    this.#traffic.follow(ws);
    return true;
  }

  /** Hands a seated socket to the application. */
  #announce(ws: GuardedWs, host: UpgradeHost, request: IncomingMessage): void {
    const connection = ws[CONNECTION]!;
    try {
      ws[OPEN_SOCKET] = this.guard.openSockets.add(connection);
      host.announce(ws, request);
    } catch (error) {
      connection.close(1011, 'Internal error');
      throw error;
    }
  }

  drainable(given: NodeServer | WebSocketServer): Drainable {
    const guard = this.guard;
    const server = drainedServerOf(given as Server | WebSocketServer);
    // The HTTP server of `{ port }` belongs to `ws`, and serves no page.
    if (!('handleUpgrade' in given) || given.options.server) guard.page?.announceOn(server);
    const http = httpDrainable(server, guard.requests);
    return {
      ...http,
      name: 'http',
      drain() {
        guard.drain();
        http.drain();
      },
      sockets: () => guard.openSockets,
      watchSockets: (watcher) => guard.openSockets.watch(watcher),
      stop() {
        guard.manager.close();
        http.stop();
      },
    };
  }
}

function destroyThis(this: Duplex): void {
  this.destroy();
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
export function portcullis<C extends TokenClaims = TokenClaims>(
  options: WsGuardOptions<C>,
): WsGuard {
  const adapter = new WsAdapter(options as unknown as WsGuardOptions);
  const { guard } = adapter;
  return {
    manager: guard.manager,
    page: guard.page,
    get draining() {
      return guard.draining;
    },
    traceOf: (request) => guard.traceOf(request as IncomingMessage),
    snapshot: () => guard.snapshot(),
    explainRates: (client) => guard.explainRates(client),
    close: () => guard.close(),
    [Symbol.dispose]: () => guard.close(),
    attach: (server, webSocketServer, options) => adapter.attach(server, webSocketServer, options),
    protect: (webSocketServer) => adapter.protect(webSocketServer),
    handleUpgrade: (webSocketServer, request, socket, head) =>
      adapter.handleUpgrade(webSocketServer, request, socket, head),
    upgrades: (server) => adapter.upgrades(server),
    request: <H extends HttpHandler | Http2Handler>(handler: H) => adapter.request(handler),
    drainable: (server) => adapter.drainable(server),
  };
}

/**
 * The connection behind a socket of a guarded server; `undefined` for any other object.
 * @throws ERR_INVALID_ARG_TYPE for a value that is no object
 */
export function connectionOf(ws: WebSocket): ManagedConnection | undefined {
  checkSocket('ws', ws);
  return (ws as GuardedWs)[CONNECTION];
}
