/** `protect()` of `ws` servers: which of them have a guard, and the wrapper of `handleUpgrade`. */
import type { IncomingMessage, Server } from 'node:http';
import type { Duplex } from 'node:stream';
import type { WebSocket, WebSocketServer } from 'ws';
import { ArgumentRangeError, outOfRange, wrongType } from '../base/errors.js';
import { isHandshake } from '../http/handshake.js';

/** The callback of `handleUpgrade()`: gets the open socket. @internal */
export type OnOpen = (ws: WebSocket, request: IncomingMessage) => void;

/** A `ws` server, as far as the guard uses it for one handshake. @internal */
export interface UpgradeHost {
  readonly webSocketServer: WebSocketServer;
  /** Completes a handshake, or refuses it by the rules of `ws`. */
  readonly complete: (
    request: IncomingMessage,
    socket: Duplex,
    head: Buffer,
    onOpen: OnOpen,
  ) => void;
  /** Hands the socket of an admitted client to the application. */
  readonly announce: OnOpen;
}

/** Judges a handshake, and lets `host` complete it. */
type Judge = (host: UpgradeHost, request: IncomingMessage, socket: Duplex, head: Buffer) => void;

/** Servers that are attached, with the number of their attachments. */
const attached = new WeakMap<WebSocketServer, number>();
const protectedServers = new WeakSet<WebSocketServer>();

/** Notes that a server is attached; returns a function that notes the end. @internal */
export function noteAttachment(webSocketServer: WebSocketServer): () => void {
  attached.set(webSocketServer, (attached.get(webSocketServer) ?? 0) + 1);
  return () => void attached.set(webSocketServer, (attached.get(webSocketServer) ?? 1) - 1);
}

/** True if `protect()` guards the server's handshakes. @internal */
export function isProtected(webSocketServer: WebSocketServer): boolean {
  return protectedServers.has(webSocketServer);
}

/**
 * Refuses a server that `protect()` guards: each client would be judged twice.
 * @throws ERR_OUT_OF_RANGE
 * @internal
 */
export function checkUnprotected(webSocketServer: WebSocketServer): void {
  if (!isProtected(webSocketServer)) return;
  throw new ArgumentRangeError(
    'the WebSocketServer is protected already, and its guard judges every handshake: undo that first',
    { field: 'webSocketServer', allowed: 'a WebSocketServer without a guard' },
  );
}

/** True if `value` is an object with these methods. @internal */
export function hasMethods(value: unknown, names: readonly string[]): boolean {
  return (
    typeof value === 'object' &&
    value !== null &&
    names.every((name) => typeof (value as Readonly<Record<string, unknown>>)[name] === 'function')
  );
}

/**
 * Checks the argument of `protect()`.
 * @throws ERR_INVALID_ARG_TYPE; ERR_OUT_OF_RANGE for a server that has a guard
 * @internal
 */
export function checkProtectable(webSocketServer: unknown): void {
  if (!hasMethods(webSocketServer, ['on', 'emit', 'handleUpgrade', 'shouldHandle']))
    throw wrongType('webSocketServer', webSocketServer, 'a WebSocketServer of ws');
  const server = webSocketServer as WebSocketServer;
  checkUnprotected(server);
  if ((attached.get(server) ?? 0) > 0)
    throw new ArgumentRangeError(
      'the WebSocketServer is attached already, and its guard judges every handshake: detach it first',
      { field: 'webSocketServer', allowed: 'a WebSocketServer without a guard' },
    );
}

/**
 * Puts `judge` in front of a server's `handleUpgrade()`.
 * @returns a function that takes it away again; later calls do nothing
 * @internal
 */
export function wrapUpgrades(webSocketServer: WebSocketServer, judge: Judge): () => void {
  const descriptor = Object.getOwnPropertyDescriptor(webSocketServer, 'handleUpgrade');
  const { handleUpgrade } = webSocketServer;
  const complete: UpgradeHost['complete'] = (request, socket, head, onOpen) =>
    handleUpgrade.call(webSocketServer, request, socket, head, onOpen);
  let isActive = true;
  const guarded: typeof handleUpgrade = (request, socket, head, announce) => {
    // Handshakes that `ws` refuses take no seat: other methods and protocols, other paths. A socket
    // that another listener has ended gets nothing more.
    const isJudged =
      isActive &&
      socket.writable &&
      isHandshake(request.method, request.headers.upgrade) &&
      Boolean(webSocketServer.shouldHandle(request));
    if (!isJudged) return complete(request, socket, head, announce);
    judge({ webSocketServer, complete, announce }, request, socket, head);
  };
  webSocketServer.handleUpgrade = guarded;
  protectedServers.add(webSocketServer);
  return () => {
    if (!isActive) return;
    isActive = false;
    protectedServers.delete(webSocketServer);
    // Another wrapper came later and calls this one: to restore would take it away, too.
    if (webSocketServer.handleUpgrade !== guarded) return;
    if (descriptor === undefined) Reflect.deleteProperty(webSocketServer, 'handleUpgrade');
    else Object.defineProperty(webSocketServer, 'handleUpgrade', descriptor);
  };
}

/**
 * Keeps the settings of this moment for a handshake that is completed later: some frameworks set them for the call of
 * `handleUpgrade()` alone. Hono listens to `headers` so that it can add those of its answer, crossws changes
 * `perMessageDeflate`.
 * @internal
 */
export function withSettings(host: UpgradeHost): UpgradeHost {
  // A server that is only like that of `ws` may have neither.
  const { options, rawListeners }: Partial<WebSocketServer> = host.webSocketServer;
  if (options === undefined || rawListeners === undefined) return host;
  const { webSocketServer } = host;
  const listeners = headersListeners(webSocketServer);
  const { perMessageDeflate } = options;
  return {
    ...host,
    complete(request, socket, head, onOpen) {
      const present = headersListeners(webSocketServer);
      const gone = listeners.filter((listener) => !present.includes(listener));
      const own = options.perMessageDeflate;
      const isOther = own !== perMessageDeflate;
      for (const listener of gone) webSocketServer.on('headers', listener);
      if (isOther) Object.assign(options, { perMessageDeflate });
      try {
        host.complete(request, socket, head, onOpen);
      } finally {
        for (const listener of gone) webSocketServer.off('headers', listener);
        if (isOther) Object.assign(options, { perMessageDeflate: own });
      }
    },
  };
}

type HeadersListener = (headers: string[], request: IncomingMessage) => void;

/** Listeners of `once()` keep their wrapper, which runs once. */
const headersListeners = (webSocketServer: WebSocketServer): HeadersListener[] =>
  webSocketServer.rawListeners('headers') as HeadersListener[];

/**
 * Returns the HTTP server of a `ws` server: the given one, or with `{ port }` its own.
 * @internal
 */
export function httpServerOf(webSocketServer: WebSocketServer): Server | undefined {
  const { options, _server: own } = webSocketServer as Partial<WebSocketServer> & {
    readonly _server?: Server | null;
  };
  return options?.server ?? own ?? undefined;
}

/**
 * Returns the HTTP server of an argument of `drainable()`.
 * @throws ERR_INVALID_ARG_TYPE; ERR_OUT_OF_RANGE for a `WebSocketServer` without an HTTP server
 * @internal
 */
export function drainedServerOf(server: Server | WebSocketServer): Server {
  if (!hasMethods(server, ['on', 'prependListener', 'close']))
    throw wrongType('server', server, 'the HTTP server, or a WebSocketServer with one');
  if (!('handleUpgrade' in server)) return server;
  const http = httpServerOf(server);
  if (http === undefined)
    throw outOfRange('server', server, 'a WebSocketServer with a port or a server, or the server');
  return http;
}
