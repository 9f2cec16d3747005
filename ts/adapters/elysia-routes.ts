/** The guard between Bun and the WebSocket handlers of an Elysia route. */
import { randomUUID } from '../base/random.js';
import type { HostId, ManagedConnection } from '../connections/connection.js';
import { ID_MAX } from '../connections/arguments.js';
import type { OpenSocket } from '../connections/open-socket.js';
import type { Guard } from '../guard/guard.js';
import type { Admission } from '../guard/admission.js';
import { countSends, isTooLarge, type RawSocket } from './bun-sockets.js';
import { sizeOf } from './socket.js';

/**
 * The data that Elysia gives to `server.upgrade()`: the handlers of a route, which Bun calls. It is new for each
 * socket. A handler that upgrades by hand gives data of any kind.
 * @internal
 */
export interface RouteData {
  readonly id?: string;
  /** The handshake, in Elysia's own data. */
  readonly request?: unknown;
  /** Read by the route's handlers as `ws.data.connection` and `ws.data.user`. */
  connection?: unknown;
  user?: unknown;
  open?: (socket: RawSocket) => unknown;
  message?: (socket: RawSocket, message: string | Buffer) => unknown;
  drain?: (socket: RawSocket) => unknown;
  ping?: (socket: RawSocket, data: Buffer) => unknown;
  pong?: (socket: RawSocket, data: Buffer) => unknown;
  close?: (socket: RawSocket, code: number, reason: string) => unknown;
}

type Handlers = Pick<RouteData, 'open' | 'ping' | 'pong' | 'close'>;

/**
 * The state of a route's socket that rare events need. Eight fields: with a ninth, JavaScriptCore would take 112 bytes
 * in the place of 80.
 */
class RouteSocket {
  pending: Admission | undefined;
  /** The seat of a route with limits of its own. */
  readonly further: Admission | undefined;
  /** The state of the guard that has wrapped the data of the socket before. */
  readonly former: RouteSocket | undefined;
  openSocket: OpenSocket | undefined;
  readonly open: Handlers['open'];
  readonly ping: Handlers['ping'];
  readonly pong: Handlers['pong'];
  readonly close: Handlers['close'];

  constructor(
    pending: Admission,
    further: Admission | undefined,
    former: RouteSocket | undefined,
    { open, ping, pong, close }: Handlers,
  ) {
    this.pending = pending;
    this.further = further;
    this.former = former;
    this.openSocket = undefined;
    this.open = open;
    this.ping = ping;
    this.pong = pong;
    this.close = close;
  }

  /** Gives back the seats that this guard holds for a socket that it will not open. */
  abandon(): void {
    this.pending?.end('reset');
    if (this.further?.connection === undefined) this.further?.end('reset');
  }
}

const ignore = (): undefined => undefined;

/** The state of the guard that has wrapped the data of the handshake under way last. */
let latest: RouteSocket | undefined;

/** Names that the guard writes on the data of a socket. */
const WRITTEN = [
  'connection',
  'user',
  'open',
  'message',
  'drain',
  'ping',
  'pong',
  'close',
] as const;

/**
 * True for data that belongs to one socket and takes the guard's state: Elysia's own, which names its request. Data
 * of an application may be shared by sockets, or frozen.
 */
function isOwnData(given: RouteData | undefined, request: Request): given is RouteData {
  return given?.request === request && Object.isExtensible(given);
}

/** Returns a value that a connection can have as its id; `undefined` for others. */
const usable = (id: unknown): string | undefined =>
  typeof id === 'string' && id !== '' && id.length <= ID_MAX ? id : undefined;

/** Reads the id that Elysia makes for a socket when it is first asked for. An application may have a getter in its place. */
function elysiaId(socket: object): string | undefined {
  try {
    return usable(((socket as RawSocket).data as RouteData).id);
  } catch {
    return undefined;
  }
}

/**
 * Returns the id of a socket, or the function that reads it, from data that is new for each socket. An id that is no
 * getter is not Elysia's but an application's; one that no connection can have is none.
 */
function idOf(data: RouteData): string | HostId<object> | undefined {
  if (!Object.hasOwn(data, 'request')) return undefined;
  const { get, value } = Object.getOwnPropertyDescriptor(data, 'id') ?? {};
  if (get !== undefined) return elysiaId;
  return usable(value);
}

/** Returns data for one socket that inherits from the application's, which stays as it is. */
function inheritedData(given: unknown): RouteData {
  const from = Object(given) as RouteData;
  const data = Object.create(from) as RouteData;
  // Defined, since no assignment replaces what a frozen object has.
  for (const name of WRITTEN)
    Object.defineProperty(data, name, {
      value: from[name],
      writable: true,
      enumerable: true,
      configurable: true,
    });
  return data;
}

/**
 * Returns a function that upgrades a handshake with the guard's functions in the place of a route's handlers. All sockets
 * share the same five. The state for a message is on Bun's socket, next to the state for a send: with thousands of
 * sockets each further object is a cache miss, a hundredth of a message's time. Elysia's data gets only `connection`
 * and `user`, besides `portcullis`: where the application adds nothing of its own, JavaScriptCore would double the
 * object's memory for one property more.
 *
 * One function beyond forty lines: the five events share its three keys.
 * @internal
 */
export function guardRoutes(
  guard: Guard<Request>,
): (
  pending: Admission,
  further: Admission | undefined,
  options: { readonly data?: RouteData } | undefined,
  request: Request,
  upgrade: (request: Request, options: { readonly data?: RouteData } | undefined) => boolean,
) => boolean {
  // Keys of this guard alone: one socket may have two guards.
  const SOCKET = Symbol('portcullis.routeSocket');
  const OWN = Symbol('portcullis.connection');
  const MESSAGE = Symbol('portcullis.message');
  type Socket = RawSocket & {
    [SOCKET]?: RouteSocket;
    /** `undefined` for a socket that the guard has closed as it opened. */
    [OWN]?: ManagedConnection | undefined;
    [MESSAGE]?: RouteData['message'];
  };
  /** The socket that `upgrade()` is about to open, and its handler of messages: Bun opens it within the call. */
  let opening: RouteSocket | undefined;
  let handler: RouteData['message'];
  const events: Required<Handlers & Pick<RouteData, 'message'>> = {
    open(socket: Socket) {
      const routeSocket = opening;
      // The socket opened after `upgrade()` had returned: the guard has given its seats back.
      if (routeSocket === undefined) return socket.close(1011, 'Internal error');
      opening = undefined;
      latest = undefined;
      socket[SOCKET] = routeSocket;
      socket[MESSAGE] = handler;
      const data = socket.data as RouteData;
      const { pending, further } = routeSocket;
      const connection = openBoth(pending, further, idOf(data), socket);
      // After it: had it thrown, the seats would be given back once `upgrade()` returns.
      routeSocket.pending = undefined;
      if (connection === undefined) {
        // Refused by close code: the route never hears of it, and no further guard opens it.
        data.drain = ignore;
        for (let one: RouteSocket | undefined = routeSocket; one !== undefined; one = one.former)
          one.abandon();
        return undefined;
      }
      socket[OWN] = connection;
      // An application may have a value of that name, and a socket two guards.
      data.connection ??= connection;
      try {
        routeSocket.openSocket = guard.openSockets.add(connection);
      } catch (error) {
        connection.close(1011, 'Internal error');
        throw error;
      }
      countSends(socket, connection, routeSocket.openSocket);
      return routeSocket.open?.(socket);
    },
    message(socket: Socket, raw) {
      const connection = socket[OWN];
      const bytes = sizeOf(raw);
      if (connection?.received(bytes) !== 'ok') return undefined;
      if (!guard.openSockets.admits(bytes, connection))
        return socket[SOCKET]?.openSocket?.refuseMessage();
      return guard.jsonFilter.admits(raw, connection) ? socket[MESSAGE]?.(socket, raw) : undefined;
    },
    // A client that answers is there, though it says nothing.
    ping(socket: Socket, bytes) {
      if (socket[OWN]?.receivedControl(sizeOf(bytes)) !== 'ok') return undefined;
      // Bun has queued its pong: a client that pings and does not read is slow.
      socket[SOCKET]?.openSocket?.sent();
      return socket[SOCKET]?.ping?.(socket, bytes);
    },
    pong(socket: Socket, bytes) {
      if (socket[OWN]?.receivedControl(sizeOf(bytes)) !== 'ok') return undefined;
      socket[SOCKET]?.openSocket?.ponged();
      return socket[SOCKET]?.pong?.(socket, bytes);
    },
    close(socket: Socket, code, reason) {
      const connection = socket[OWN];
      const routeSocket = socket[SOCKET];
      if (connection === undefined) return undefined;
      connection.ended();
      routeSocket?.further?.connection?.ended();
      if (isTooLarge(code, reason)) routeSocket?.openSocket?.wasTooLarge();
      routeSocket?.openSocket?.remove(code);
      return routeSocket?.close?.(socket, code, reason);
    },
  };
  return (pending, further, options, request, upgrade) => {
    const given = options?.data;
    const isOwn = isOwnData(given, request);
    const data = isOwn ? given : inheritedData(given);
    const former = latest;
    const routeSocket = new RouteSocket(pending, further, former, data);
    // A handler that runs within the call may upgrade another handshake.
    const outer = opening;
    const outerHandler = handler;
    try {
      opening = routeSocket;
      latest = routeSocket;
      handler = data.message;
      data.user ??= pending.userId;
      // One by one: `Object.assign` takes longer on Bun.
      data.open = events.open;
      data.message = events.message;
      data.ping = events.ping;
      data.pong = events.pong;
      data.close = events.close;
      return upgrade(request, isOwn ? options : { ...options, data });
    } finally {
      // A socket that has opened has taken its admission.
      if (routeSocket.pending !== undefined) routeSocket.abandon();
      opening = outer;
      handler = outerHandler;
      latest = former;
    }
  };
}

/**
 * Opens the connection of a socket, and before it the further seat of its route.
 * @param hostId id of the socket, or a function that reads it, if its host has given it one
 * @returns the connection; `undefined` if one of the two has closed the socket
 * @internal
 */
export function openBoth<S extends Parameters<Admission['open']>[1]>(
  pending: Admission | undefined,
  further: Admission | undefined,
  hostId: string | HostId<object> | undefined,
  socket: S,
): ManagedConnection | undefined {
  // The connection has one id in both managers.
  const given = typeof hostId === 'function' && further !== undefined ? hostId(socket) : hostId;
  const id = further === undefined ? given : (given ?? randomUUID());
  // Refused by close code: the manager of the guard counts the closing sockets.
  if (further?.denial !== undefined) pending?.deny(further.denial);
  else if (further !== undefined && further.open(id, socket) === undefined) {
    pending?.end('refusal');
    return undefined;
  }
  const connection = pending?.open(id, socket);
  if (connection === undefined) further?.connection?.ended();
  return connection;
}
