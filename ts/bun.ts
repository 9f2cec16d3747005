import './runtime.js';
import { randomUUID } from 'node:crypto';
import type { ManagedConnection } from './connection.js';
import type { ConnectionManager } from './connections/manager.js';
import { type BunServer, bunPart } from './bun-server.js';
import { Door, type GuardOptions, type GuardStats, type Visit, requireBun } from './door.js';
import { isUpgrade, responseOf, withinLimits } from './fetching.js';
import { FetchMeter, markRefused } from './kpi/meters.js';
import type { LivePage } from './page/live-page.js';
import type { ShutdownPart } from './shutdown/part.js';
import { Turn } from './turn.js';
import {
  CONNECTION,
  LIVE,
  type RawSocket,
  bunSockets,
  countSends,
  isTooLarge,
  sizeOf,
} from './sockets.js';

/** Options of the guard. */
export type BunGuardOptions = GuardOptions<Request>;

/** Guards a bare `Bun.serve`. */
export interface BunGuard {
  /** The manager behind the guard. */
  readonly manager: ConnectionManager;
  /** Wraps a `fetch` or route handler, so that upgrades are admitted before it runs. */
  fetch<F extends (request: never, server: never) => unknown>(handler: F): F;
  /** Wraps the `websocket` handlers. A socket that did not come through `fetch` is judged when it opens. */
  websocket<H extends object>(handlers: H): H;
  /** The page, if the option `page` asks for one. */
  readonly page: LivePage | undefined;
  /** How requests and WebSockets fared. */
  stats(): GuardStats;
  /** The server, as a part of a `GracefulShutdown`. */
  part(server: object): ShutdownPart;
}

/** Bun's server, as far as it is used here. */
interface RawServer {
  requestIP(request: Request): { readonly address: string } | null;
  upgrade(request: Request, ...rest: unknown[]): boolean;
}
type Socket = RawSocket & { readonly remoteAddress: string };
type Handler = (this: unknown, socket: Socket, ...rest: unknown[]) => unknown;

/**
 * Guards a bare `Bun.serve`: admits or refuses before the upgrade, counts messages and bytes both
 * ways, closes the idle, gives seats back. `publish()` reaches subscribers without passing their
 * sockets and is not counted.
 *
 * A client over the limit of its address or user gets 429, one that comes to a full or draining
 * server 503, both with `Retry-After` and `{ code, message, retryAfterMs }`.
 *
 * @throws ERR_UNSUPPORTED on Node; ERR_INVALID_ARG_TYPE, ERR_OUT_OF_RANGE, ERR_UNKNOWN_OPTION for the options
 * @example
 * const guard = portcullis({ limits: { maxConnectionsPerIp: 10 } });
 * Bun.serve({
 *   fetch: guard.fetch((request, server) => (server.upgrade(request) ? undefined : new Response('Not a WebSocket', { status: 400 }))),
 *   websocket: guard.websocket({ message: (ws, message) => void ws.send(message) }),
 * });
 */
export function portcullis(options: BunGuardOptions): BunGuard {
  requireBun('portcullis/bun');
  const door = new Door<Request>('portcullis/bun', options, bunSockets);
  const meter =
    door.metrics === undefined
      ? undefined
      : new FetchMeter(door.metrics, door.monitor === undefined);
  const turn = new Turn();
  const visits = new WeakMap<Request, Visit>();
  const servers = new WeakSet<RawServer>();
  /** Whose upgrade is under way: Bun opens the socket within it. */
  let entering: Visit | undefined;

  const watch = (server: RawServer): void => {
    if (servers.has(server)) return;
    servers.add(server);
    const upgrade = server.upgrade.bind(server);
    server.upgrade = (request, ...rest) => {
      entering = visits.get(request);
      try {
        return upgrade(request, ...rest);
      } finally {
        entering = undefined;
      }
    };
  };

  const enter = (visit: Visit, request: Request, go: () => unknown): unknown => {
    if (visit.answer !== undefined) return markRefused(responseOf(visit.answer));
    visits.set(request, visit);
    let result: unknown;
    try {
      result = go();
    } catch (error) {
      visit.leave();
      throw error;
    }
    if (result instanceof Promise) return result.finally(() => visit.leave());
    visit.leave();
    return result;
  };

  const handled: Record<
    'open' | 'message' | 'close' | 'ping' | 'pong',
    (handler: Handler | undefined) => Handler
  > = {
    open: (handler) =>
      function (socket, ...rest) {
        // One that came past `fetch` is judged now, and can only be refused by code.
        const visit = entering ?? door.admit(socket.remoteAddress, () => '', '');
        entering = undefined;
        const connection = visit.open(randomUUID(), socket);
        if (connection === undefined) return undefined;
        const fail = (error: unknown): never => {
          connection.close(1011, 'Internal error');
          throw error;
        };
        try {
          countSends(socket, connection, door.live.add(connection));
          const result = handler?.call(this, socket, ...rest);
          return result instanceof Promise ? result.catch(fail) : result;
        } catch (error) {
          return fail(error);
        }
      },
    ping: (handler) =>
      function (socket, ...rest) {
        // A client that answers is there, though it says nothing.
        socket[CONNECTION]?.touch();
        return handler?.call(this, socket, ...rest);
      },
    message: (handler) =>
      function (socket, raw, ...rest) {
        const bytes = sizeOf(raw);
        const connection = socket[CONNECTION];
        if (connection?.received(bytes) !== 'ok') return undefined;
        if (!door.live.admits(bytes)) return socket[LIVE]?.refuseMessage();
        if (!door.messages.admits(raw, connection)) return undefined;
        return handler?.call(this, socket, raw, ...rest);
      },
    pong: (handler) =>
      function (socket, ...rest) {
        socket[CONNECTION]?.touch();
        socket[LIVE]?.ponged();
        return handler?.call(this, socket, ...rest);
      },
    close: (handler) =>
      function (socket, ...rest) {
        const connection = socket[CONNECTION];
        // Refused by close code: the handlers never hear of it.
        if (connection === undefined) return undefined;
        door.manager.release(connection);
        if (isTooLarge(rest[0] as number, rest[1])) socket[LIVE]?.wasTooLarge();
        socket[LIVE]?.remove(rest[0] as number);
        return handler?.call(this, socket, ...rest);
      },
  };

  return {
    manager: door.manager,
    page: door.page,
    stats: () => door.stats(),
    part: (server) => bunPart('bun', door, () => server as BunServer),
    fetch<F extends (request: never, server: never) => unknown>(handler: F): F {
      const plain = handler as unknown as (request: Request, server: RawServer) => unknown;
      const guarded = function (this: unknown, request: Request, server: RawServer): unknown {
        if (!isUpgrade(request)) {
          const { gate, page } = door;
          if (page?.isFor(request) === true)
            return page.fetch(request, server.requestIP(request)?.address ?? '');
          const handle = (): unknown => plain.call(this, request, server);
          return gate === undefined || door.isExempt(request.method, request.url)
            ? handle()
            : withinLimits(gate, request, handle);
        }
        watch(server);
        const peer = server.requestIP(request)?.address ?? '';
        const header = (name: string): string => request.headers.get(name) ?? '';
        const go = (): unknown => plain.call(this, request, server);
        if (!door.isAsync) return enter(door.admit(peer, header, request.url), request, go);
        return door
          .identify(request, peer, header, request.url)
          .then((visit) => enter(visit, request, go));
      };
      return function (this: unknown, request: Request, server: RawServer): unknown {
        const handle = (): unknown => guarded.call(this, request, server);
        const isLeftOut =
          meter === undefined ||
          door.page?.isFor(request) === true ||
          door.isExempt(request.method, request.url);
        const result = isLeftOut ? handle() : meter.around(request, handle);
        return isUpgrade(request) ? turn.answer(result) : result;
      } as unknown as F;
    },
    websocket<H extends object>(handlers: H): H {
      const given = handlers as Partial<Record<string, Handler>>;
      const wrapped = {
        open: handled.open(given['open']),
        message: handled.message(given['message']),
        ping: handled.ping(given['ping']),
        pong: handled.pong(given['pong']),
        close: handled.close(given['close']),
      };
      // Bun refuses such a message before it has all of it.
      const own = (handlers as { readonly maxPayloadLength?: number }).maxPayloadLength ?? Infinity;
      const most = Math.min(own, door.live.maxMessageSize);
      return {
        ...handlers,
        ...wrapped,
        ...(most === Infinity ? {} : { maxPayloadLength: Math.max(1, most) }),
      };
    },
  };
}

/** The connection behind a socket of a guarded server, or `undefined` if it was refused. */
export function connectionOf(ws: object): ManagedConnection | undefined {
  return (ws as { [CONNECTION]?: ManagedConnection })[CONNECTION];
}
export { signalOf } from './fetching.js';
export type { GuardStats } from './door.js';
