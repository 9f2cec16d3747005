/**
 * Elysia on Node, with `@elysiajs/node`: a server of `srvx` with WebSockets of `crossws`, which are
 * sockets of `ws`. The adapter shows neither. A plugin of the server reaches both, so that a socket is
 * seated when it opens, whichever route has let it in.
 */
import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import type { Duplex } from 'node:stream';
import { PortcullisError, wrongType } from '../base/errors.js';
import { randomUUID } from '../base/random.js';
import type { ManagedConnection } from '../connections/connection.js';
import type { OpenSocket } from '../connections/open-socket.js';
import type { Admission } from '../guard/admission.js';
import type { Guard } from '../guard/guard.js';
import { isMalformed } from '../http/handshake.js';
import { httpDrainable } from '../http/node.js';
import type { Drainable } from '../shutdown/drainable.js';
import { followParents } from './elysia-parents.js';
import type { ListeningElysia } from './elysia-scope.js';
import { openBoth } from './elysia-routes.js';
import { watchWaiting } from './node-handshake.js';
import { nodePeer } from './peer.js';
import { CONNECTION, type GuardedSocket, OPEN_SOCKET, payloadLimitOf, sizeOf } from './socket.js';
import {
  FURTHER,
  type GuardedWs,
  handlerFailed,
  isParsed,
  isTooLargeError,
  limitReceiver,
  TrafficCounter,
} from './ws-sockets.js';

type HeadersGiven = ConstructorParameters<typeof Headers>[0];

/** A request of `srvx`, as far as it tells of Node. */
interface NodeRequest {
  readonly runtime?: {
    readonly node?: {
      readonly req: IncomingMessage;
      readonly res?: ServerResponse;
      /** Absent on a request that is no upgrade. */
      readonly upgrade?: { readonly socket: Duplex };
    };
  };
}

/** A socket of `crossws`. */
interface Peer extends GuardedSocket {
  readonly context: { [SOURCE]?: Request };
  readonly _internal: { readonly ws: GuardedWs };
}

/** The WebSocket handlers that the adapter gives to `crossws`. */
interface Handlers {
  upgrade(request: Request & { wsId?: string }): Promise<unknown>;
  open(peer: Peer): unknown;
  message(peer: Peer, message: unknown): unknown;
  close(peer: Peer, detail: unknown): unknown;
  error?(peer: Peer, error: unknown): unknown;
  options?: { readonly node?: { readonly serverOptions?: { readonly maxPayload?: number } } };
}

/** A server of `srvx`. */
interface SrvxServer {
  readonly options: { readonly websocket?: Handlers };
  readonly node?: { readonly server?: Server };
}

/** The server that the adapter tells of. */
interface ServerInfo {
  readonly raw: SrvxServer;
}

/** An app, as far as the adapter's `listen` needs it. */
interface App {
  server: object | null;
  readonly config?: { readonly aot?: boolean };
}

type Listen = (
  this: unknown,
  app: App,
) => (options: unknown, callback?: (server: ServerInfo) => void) => unknown;

/** An adapter of Elysia for Node. */
interface NodeAdapter {
  listen: Listen;
  readonly ws: (this: unknown, app: object, path: string, options: object) => unknown;
}

/** Key of a socket's request: `crossws` shows another one, which the hooks of the app never saw. */
const SOURCE = Symbol('portcullis.request');
/** The guards behind an adapter. */
const GUARDS = new WeakMap<object, Set<ElysiaOnNode>>();

/** Returns the socket of a request to upgrade, on Node. @internal */
export function upgradeSocketOf(request: Request): Duplex | undefined {
  return (request as NodeRequest).runtime?.node?.upgrade?.socket;
}

/**
 * True if the client of a request on Node has left; `undefined` for a request of another host. The signal of the request
 * tells it only to those who have asked for it before.
 * @internal
 */
export function hasLeft(request: Request): boolean | undefined {
  const { node } = (request as NodeRequest).runtime ?? {};
  if (node === undefined) return undefined;
  const { req, res, upgrade } = node;
  // A response of HTTP/2 has no `closed`; its stream tells.
  const { stream } = req as { readonly stream?: { readonly destroyed: boolean } };
  return stream?.destroyed === true || res?.closed === true || upgrade?.socket.destroyed === true;
}

/** Key of the object on a handshake in which the adapter keeps the contexts of all handshakes by their ids. */
const CONTEXTS = Symbol('portcullis.contexts');
type Handshake = Request & {
  readonly wsId?: string;
  [CONTEXTS]?: Record<string, unknown>;
};

/** True for a handshake that a route has answered by a socket, which may open later. @internal */
export function wantsSocket({ wsId, [CONTEXTS]: contexts }: Handshake): boolean {
  return wsId !== undefined && contexts?.[wsId] !== undefined;
}

/** Forgets the context of a handshake that opens no socket: the adapter would keep it for ever. @internal */
export function forgetContext({ wsId, [CONTEXTS]: contexts }: Handshake): void {
  if (wsId !== undefined && contexts !== undefined) Reflect.deleteProperty(contexts, wsId);
}

/** Tokens in a list, of which `ws` reads subprotocols; each may stand there once. */
const PROTOCOLS = /^[ \t]*[!#$%&'*+.^`|~\w-]+[ \t]*(?:,[ \t]*[!#$%&'*+.^`|~\w-]+[ \t]*)*$/;

/** True for a handshake that `ws` can complete: it answers all others with 400. @internal */
export function canOpen(request: Request): boolean {
  if (hasLeft(request) === true) return false;
  if (isMalformed((name) => request.headers.get(name) ?? '')) return false;
  const protocols = request.headers.get('sec-websocket-protocol');
  if (protocols === null) return true;
  const names = protocols.split(',').map((name) => name.trim());
  return PROTOCOLS.test(protocols) && new Set(names).size === names.length;
}

function isNodeAdapter(adapter: unknown): adapter is NodeAdapter {
  return (
    typeof adapter === 'object' &&
    adapter !== null &&
    'name' in adapter &&
    adapter.name === '@elysiajs/node' &&
    'listen' in adapter &&
    typeof adapter.listen === 'function' &&
    'ws' in adapter &&
    typeof adapter.ws === 'function'
  );
}

/** Makes an adapter guard the servers that it starts. Later calls do nothing. */
function patch(adapter: NodeAdapter): Set<ElysiaOnNode> {
  const known = GUARDS.get(adapter);
  if (known !== undefined) return known;
  const guards = new Set<ElysiaOnNode>();
  GUARDS.set(adapter, guards);
  const { listen } = adapter;
  const contexts = contextsOf(adapter);
  adapter.listen = function (app) {
    const begin = listen.call(this, app);
    return (options, callback) => {
      if (app.config?.aot === false && guards.size > 0)
        throw new PortcullisError(
          'ERR_UNSUPPORTED',
          'portcullis/elysia needs aot, which this Elysia has turned off: leave out aot: false',
          { field: 'aot' },
        );
      const server = new ListeningApp(guards, contexts);
      return begin(
        withPlugin(options, (srvx) => server.guard(srvx)),
        (info) => {
          app.server = server.started(info);
          for (const guard of guards) guard.begin(app as ListeningElysia);
          callback?.(info);
        },
      );
    };
  };
  return guards;
}

function withPlugin(options: unknown, plugin: (server: SrvxServer) => void): object {
  // Anything else than an object is a port; the adapter checks it where it has digits only.
  if (typeof options === 'string' && !/^\d+$/.test(options))
    throw new Error('Port must be a numeric value');
  const given: { readonly plugins?: readonly unknown[] } =
    typeof options === 'object' && options !== null
      ? options
      : ({ port: Number(options) } as object);
  return { ...given, plugins: [...(given.plugins ?? []), plugin] };
}

/**
 * Returns the object in which the adapter keeps the context of every handshake, for ever: with request,
 * headers and handlers some kilobytes for each socket that ever was. Only an assignment to it shows it.
 * So a handshake is played through, with an id that has a setter on `Object.prototype` meanwhile. The
 * handler runs to that assignment before it first waits, so that no other code sees the setter.
 * @returns `undefined` for an adapter that does something else
 */
function contextsOf(adapter: NodeAdapter): Record<string, unknown> | undefined {
  const wsId = randomUUID();
  let found: Record<string, unknown> | undefined;
  const keep = (contexts: Record<string, unknown>): void => void (found = contexts);
  let handler: ((context: object) => Promise<unknown>) | undefined;
  const app = {
    definitions: { typebox: {}, type: {} },
    config: {},
    event: {},
    route: (_method: string, _path: string, given: typeof handler) => void (handler = given),
  };
  try {
    adapter.ws.call(adapter, app, '/', {});
    Object.defineProperty(Object.prototype, wsId, {
      configurable: true,
      set(this: Record<string, unknown>) {
        keep(this);
      },
    });
    handler?.({ request: { wsId }, set: { headers: {} } }).catch(() => undefined);
  } catch {
    // Another version, or a frozen prototype: the adapter keeps what it keeps.
  } finally {
    Reflect.deleteProperty(Object.prototype, wsId);
  }
  return found;
}

/**
 * Returns the headers of an upgrade, with the first subprotocol that the client offers if the app has
 * chosen none, as `ws` and Bun do. `crossws` chooses none, and browsers close such a socket: a client
 * whose token is a subprotocol could not connect.
 */
function withProtocol(request: Request, given: HeadersGiven): Headers {
  const headers = new Headers(given);
  const [first = ''] = (request.headers.get('sec-websocket-protocol') ?? '').split(',');
  if (first.trim() !== '' && !headers.has('sec-websocket-protocol'))
    headers.set('sec-websocket-protocol', first.trim());
  return headers;
}

/** Releases the seats of a socket after a later guard has refused it. */
type Leave = () => void;
const noSeat: Leave = () => undefined;
/** Code of a socket that ended without an answer to its close. */
const ABNORMAL = 1006;

/** One server that listens, with the guards of its app. */
class ListeningApp {
  readonly #guards: ReadonlySet<ElysiaOnNode>;
  readonly #contexts: Record<string, unknown> | undefined;
  /** Sockets that were refused after their upgrade: no route hears of them. */
  readonly #refused = new WeakSet<Peer>();
  /** Functions that end the watch of a socket whose handshake waits. */
  readonly #watches = new WeakMap<Duplex, () => void>();

  constructor(guards: ReadonlySet<ElysiaOnNode>, contexts: Record<string, unknown> | undefined) {
    this.#guards = guards;
    this.#contexts = contexts;
  }

  /** Takes the place of the handlers, before `crossws` has read them. */
  guard({ options }: SrvxServer): void {
    const handlers = options.websocket;
    if (handlers === undefined) return;
    const { upgrade, open, message, close, error } = handlers;
    const { node } = handlers.options ?? {};
    const own = node?.serverOptions?.maxPayload;
    // A socket of the server may be any guard's, or none's; each guard limits its own ones when they open.
    const maxPayload = payloadLimitOf(
      Math.max(...[...this.#guards].map((guard) => guard.maxOfServer)),
      own,
    );
    if (this.#guards.size > 0 && maxPayload !== (own ?? 0)) {
      const serverOptions = { ...node?.serverOptions, maxPayload };
      handlers.options = { ...handlers.options, node: { ...node, serverOptions } };
    }
    handlers.upgrade = (request) => this.upgrade(request, () => upgrade(request));
    handlers.open = (peer) => (this.open(peer) ? open(peer) : undefined);
    handlers.message = (peer, data) => (this.#refused.has(peer) ? undefined : message(peer, data));
    handlers.close = (peer, detail) => (this.#refused.has(peer) ? undefined : close(peer, detail));
    if (error !== undefined)
      handlers.error = (peer, cause) => (this.#refused.has(peer) ? undefined : error(peer, cause));
  }

  /** A handshake. One that the app does not let in gives its seats back. */
  async upgrade(request: Handshake, handle: () => Promise<unknown>): Promise<unknown> {
    let isUpgraded = false;
    if (this.#contexts !== undefined) request[CONTEXTS] = this.#contexts;
    try {
      const result = await handle();
      if (typeof result !== 'object' || result === null || !('context' in result)) return result;
      isUpgraded = true;
      this.#endWatch(request);
      const { context, headers } = result as { context: object; headers?: HeadersGiven };
      // `crossws` copies the properties of a context to the socket's.
      return {
        ...result,
        context: { [SOURCE]: request, ...context },
        headers: withProtocol(request, headers),
      };
    } finally {
      forgetContext(request);
      if (!isUpgraded) for (const guard of this.#guards) guard.abandon(request);
    }
  }

  /** The handshake waits no longer: `ws` reads its socket. */
  #endWatch(request: Request): void {
    const socket = upgradeSocketOf(request);
    if (socket === undefined) return;
    this.#watches.get(socket)?.();
    this.#watches.delete(socket);
  }

  /** Seats a socket; `false` if a guard refuses it. */
  open(peer: Peer): boolean {
    const request = peer.context[SOURCE];
    const leaves: Leave[] = [];
    for (const guard of this.#guards) {
      const leave =
        request === undefined ? undefined : guard.open(peer, peer._internal.ws, request);
      if (leave !== undefined) {
        leaves.push(leave);
        continue;
      }
      this.#refused.add(peer);
      if (request === undefined) peer._internal.ws.terminate();
      // The socket closes only when its client answers. The seats of the earlier guards are released now.
      for (const one of leaves) one();
      return false;
    }
    return true;
  }

  /**
   * The server begins to listen.
   * @returns the server for the app, of which the adapter tells only `listen()`'s callback
   */
  started(info: ServerInfo): object {
    const { server } = info.raw.node ?? {};
    const requestIP = (request: Request): { readonly address: string } | null => {
      const { req } = (request as NodeRequest).runtime?.node ?? {};
      const address = req === undefined ? '' : nodePeer(req);
      return address === '' ? null : { address };
    };
    if (server !== undefined) this.#watch(server);
    // Without `reload`: an app that compiles again would close this server and start one without guards.
    return Object.create(info, {
      requestIP: { value: requestIP },
      reload: { value: undefined },
    }) as object;
  }

  #watch(server: Server): void {
    // `crossws` listens to no errors while a handshake waits: a reset would end the process.
    server.prependListener('upgrade', (_request: IncomingMessage, socket: Duplex) => {
      socket.on('error', () => socket.destroy());
      this.#watches.set(socket, watchWaiting(socket));
    });
    for (const guard of this.#guards) guard.started(server);
  }
}

/** An app that takes the plugin, as far as Elysia's types hide it. */
interface TakingApp {
  readonly ['~adapter']?: unknown;
}

/**
 * Makes `.ws()` of the plugin itself throw. The plugin has no adapter that opens sockets: Elysia would drop the route,
 * and print a line on the console.
 * @internal
 */
export function refuseOwnSockets(plugin: object): void {
  const app = plugin as { ['~adapter']: object };
  app['~adapter'] = {
    ...app['~adapter'],
    ws(): never {
      throw new PortcullisError(
        'ERR_UNSUPPORTED',
        "the plugin has no sockets of its own on Node: guard routes of new Elysia({ adapter: node() }) with scoping: 'scoped'",
        { field: 'ws' },
      );
    },
  };
}

/** The admissions of the plugin's hooks. @internal */
export interface AdmissionSource {
  /** Returns the admission of a request that a hook has let in. */
  admissionOf(request: Request): Admission | undefined;
  /** Returns the admission to the limits of the route, if it has some. */
  routeAdmissionOf(request: Request): Admission | undefined;
  /** True if all sockets of the server are this guard's. */
  readonly isGlobal: boolean;
  /** True if the socket of a request without an admission is this guard's. */
  covers(request: Request): boolean;
  /** An app listens. */
  begin(app: ListeningElysia): void;
  /** Judges a request that passed no hook. */
  admitLate(request: Request): Admission;
}

/** A guard of Elysia apps on Node. @internal */
export class ElysiaOnNode {
  readonly #guard: Guard<Request>;
  readonly #traffic: TrafficCounter;
  readonly #source: AdmissionSource;
  #drainable: ReturnType<typeof httpDrainable> | undefined;

  constructor(guard: Guard<Request>, source: AdmissionSource) {
    this.#guard = guard;
    this.#traffic = new TrafficCounter(guard);
    this.#source = source;
  }

  /** The largest message of any socket of the server; `Infinity` for a guard of a part, which leaves others alone. */
  get maxOfServer(): number {
    return this.#source.isGlobal ? this.#guard.openSockets.maxMessageSize : Infinity;
  }

  /**
   * Finds the app that takes a plugin, and the apps that take that app. The adapter of one of them will listen.
   */
  follow(plugin: object): void {
    followParents<TakingApp>(plugin, (parent) => {
      const adapter = parent['~adapter'];
      if (isNodeAdapter(adapter)) patch(adapter).add(this);
      this.follow(parent);
    });
  }

  begin(app: ListeningElysia): void {
    this.#source.begin(app);
  }

  started(server: Server): void {
    this.#guard.page?.announceOn(server);
    this.#drainable = httpDrainable(server, this.#guard.requests);
  }

  abandon(request: Request): void {
    this.#source.admissionOf(request)?.end('reset');
    this.#source.routeAdmissionOf(request)?.end('reset');
  }

  /** Seats a socket; `undefined` if it is refused. */
  open(peer: Peer, ws: GuardedWs, request: Request): Leave | undefined {
    const guard = this.#guard;
    const admitted = this.#source.admissionOf(request);
    if (admitted === undefined && !this.#source.covers(request)) return noSeat;
    // A route that was registered before the plugin has no hook: it is judged now.
    const pending = admitted ?? this.#source.admitLate(request);
    const further = this.#source.routeAdmissionOf(request);
    const connection = openBoth(pending, further, undefined, ws);
    if (connection === undefined) {
      // An unhandled `error` event, such as a bad frame, would end the process.
      ws.on('error', () => undefined);
      ws.once('close', () => pending.socketGone());
      return undefined;
    }
    limitReceiver(ws, guard.openSockets.maxMessageSize);
    peer[CONNECTION] ??= connection;
    return this.#seated(ws, connection, further?.connection);
  }

  /** Counts a seated socket from now on; `undefined` if it cannot be, and is closed. */
  #seated(
    ws: GuardedWs,
    connection: ManagedConnection,
    further: ManagedConnection | undefined,
  ): Leave | undefined {
    const isFirst = ws[CONNECTION] === undefined;
    if (isFirst) {
      ws[CONNECTION] = connection;
      if (further !== undefined) ws[FURTHER] = further;
      this.#traffic.follow(ws);
    }
    let openSocket: OpenSocket | undefined;
    try {
      openSocket = this.#guard.openSockets.add(connection);
    } catch {
      // Strict timers that are closed.
      connection.close(1011, 'Internal error');
    }
    if (!isFirst) this.#followAgain(ws, connection, openSocket, further);
    else if (openSocket !== undefined) ws[OPEN_SOCKET] = openSocket;
    if (openSocket === undefined) return undefined;
    return () => {
      connection.ended();
      further?.ended();
      openSocket.remove(ABNORMAL);
    };
  }

  /** Counts a socket for a second guard of the same app, beside the first one. */
  #followAgain(
    ws: GuardedWs,
    connection: ManagedConnection,
    openSocket: OpenSocket | undefined,
    further: ManagedConnection | undefined,
  ): void {
    const { send, emit } = ws;
    Object.assign(ws, {
      send(data: unknown, ...rest: unknown[]) {
        Reflect.apply(send, ws, [data, ...rest]);
        if (ws.readyState === ws.OPEN) connection.sent(sizeOf(data));
        openSocket?.sent();
      },
      emit: (event: string, ...args: unknown[]): boolean => {
        if (event === 'message' && !this.#admits(connection, openSocket, args[0])) return false;
        if (event === 'ping' || event === 'pong') {
          if (connection.receivedControl(sizeOf(args[0])) !== 'ok') return false;
          if (event === 'pong') openSocket?.ponged();
          else openSocket?.sent();
        }
        if (event === 'error' && isTooLargeError(args[0])) openSocket?.wasTooLarge();
        if (event === 'close') {
          connection.ended();
          further?.ended();
          openSocket?.remove(args[0] as number);
        }
        try {
          return Reflect.apply(emit, ws, [event, ...args]) as boolean;
        } catch (error) {
          if (isParsed(event)) handlerFailed(ws, connection, further, openSocket);
          throw error;
        }
      },
    });
  }

  #admits(
    connection: ManagedConnection,
    openSocket: OpenSocket | undefined,
    data: unknown,
  ): boolean {
    const bytes = sizeOf(data);
    if (connection.received(bytes) !== 'ok') return false;
    const { openSockets, jsonFilter } = this.#guard;
    if (openSockets.admits(bytes, connection)) return jsonFilter.admits(data, connection);
    openSocket?.refuseMessage();
    return false;
  }

  /** The server, for a shutdown: that of `listen()`, which may come later. */
  drainable(): Drainable {
    const guard = this.#guard;
    return {
      name: 'elysia',
      notReady: () => {
        guard.notReady();
        this.#drainable?.notReady();
      },
      drain: () => {
        guard.drain();
        return this.#drainable?.drain();
      },
      requests: () => this.#drainable?.requests() ?? 0,
      whenIdle: () => this.#drainable?.whenIdle() ?? Promise.resolve(),
      sockets: () => guard.openSockets,
      watchSockets: (watcher) => guard.openSockets.watch(watcher),
      abort: () => this.#drainable?.abort(),
      stop: () => {
        guard.manager.close();
        this.#drainable?.stop();
      },
      destroy: () => this.#drainable?.destroy(),
    };
  }
}

/**
 * Makes an adapter of `@elysiajs/node` guard the servers that it starts. Needed only where the app takes
 * `portcullis()` later than it listens, such as by a promise; elsewhere the plugin finds the adapter.
 * @param adapter of `node()`
 * @returns the same adapter
 * @throws ERR_INVALID_ARG_TYPE for any other adapter
 * @example
 * new Elysia({ adapter: guarded(node()) }).use(import('./guard.js')).listen(3000);
 */
export function guarded<A extends object>(adapter: A): A {
  if (!isNodeAdapter(adapter)) throw wrongType('adapter', adapter, 'an adapter of @elysiajs/node');
  patch(adapter);
  return adapter;
}
