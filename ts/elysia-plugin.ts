import { randomUUID } from 'node:crypto';
import { Elysia } from 'elysia';
import type { ManagedConnection } from './connection.js';
import type { ConnectionManager } from './connections/manager.js';
import { Door, type GuardOptions, type GuardStats, type Visit, requireBun } from './door.js';
import { PortcullisError } from './errors.js';
import { isUpgrade, responseOf, unwatch, withinLimits } from './fetching.js';
import { FetchMeter } from './kpi/meters.js';
import type { LiveSocket } from './live.js';
import type { LivePage } from './page/live-page.js';
import type { ShutdownPart } from './shutdown/part.js';
import { type BunServer, bunPart } from './bun-server.js';
import { Turn } from './turn.js';
import {
  CONNECTION,
  type RawSocket,
  bunSockets,
  countSends,
  isTooLarge,
  sizeOf,
} from './sockets.js';

/** Options of the plugin. */
export type ElysiaGuardOptions = GuardOptions<Request>;

/** What routes see as `portcullis`. */
export interface ElysiaGuard {
  /** The manager behind the plugin; with several plugins in one app, that of the first. */
  readonly manager: ConnectionManager;
  /** The page, if the option `page` asks for one. */
  readonly page: LivePage | undefined;
  /** How requests and WebSockets fared. */
  stats(): GuardStats;
  /** The app, as a part of a `GracefulShutdown`. */
  part(app: StoppableApp): ShutdownPart;
}

/** An Elysia app, as far as a shutdown needs it. */
export interface StoppableApp {
  readonly server: object | null;
  stop(closeActiveConnections?: boolean): unknown;
}

/** What Elysia hands to `server.upgrade()`: the route's handlers, called by Bun. A handler that upgrades by hand has none. */
interface RouteData {
  readonly id?: string;
  open?: (socket: RawSocket) => unknown;
  message?: (socket: RawSocket, message: string | Buffer) => unknown;
  drain?: (socket: RawSocket) => unknown;
  ping?: (socket: RawSocket, data: Buffer) => unknown;
  pong?: (socket: RawSocket, data: Buffer) => unknown;
  close?: (socket: RawSocket, code: number, reason: string) => unknown;
}

type Route = Pick<RouteData, 'open' | 'ping' | 'pong' | 'close'>;

/** What few events of a route's socket need. */
class Seat {
  live: LiveSocket | undefined;
  readonly open: Route['open'];
  readonly ping: Route['ping'];
  readonly pong: Route['pong'];
  readonly close: Route['close'];

  constructor(
    public visit: Visit | undefined,
    { open, ping, pong, close }: RouteData,
  ) {
    this.open = open;
    this.ping = ping;
    this.pong = pong;
    this.close = close;
  }
}

const nothing = (): undefined => undefined;

/**
 * Puts the guard between Bun and a route's handlers. The events are the same functions for all sockets,
 * and what a message needs stands on the data that Bun hands on, where Elysia has looked for the event
 * just now: with thousands of sockets each further object is a cache miss, of a hundredth of a message.
 */
function guardRoutes(door: Door<Request>): (visit: Visit, data: RouteData) => void {
  // Of this guard's own: there may be two on one socket.
  const SEAT = Symbol('portcullis.seat');
  const OWN = Symbol('portcullis.connection');
  const MESSAGE = Symbol('portcullis.message');
  type Data = RouteData & {
    [SEAT]: Seat;
    [OWN]: ManagedConnection | undefined;
    [MESSAGE]: RouteData['message'];
  };
  const dataOf = (socket: RawSocket): Data => socket.data as Data;

  const events: Required<Route & Pick<RouteData, 'message'>> = {
    open(socket) {
      const data = dataOf(socket);
      const seat = data[SEAT];
      const connection = seat.visit?.open(data.id ?? randomUUID(), socket);
      seat.visit = undefined;
      if (connection !== undefined) {
        data[OWN] = connection;
        try {
          seat.live = door.live.add(connection);
        } catch (error) {
          connection.close(1011, 'Internal error');
          throw error;
        }
        countSends(socket, connection, seat.live);
        return seat.open?.(socket);
      }
      // Refused by close code: the route never hears of it.
      data.message = data.drain = data.ping = data.pong = data.close = nothing;
      return undefined;
    },
    message(socket, raw) {
      const data = dataOf(socket);
      const connection = data[OWN];
      const bytes = sizeOf(raw);
      if (connection?.received(bytes) !== 'ok') return undefined;
      if (!door.live.admits(bytes)) return data[SEAT].live?.refuseMessage();
      return door.messages.admits(raw, connection) ? data[MESSAGE]?.(socket, raw) : undefined;
    },
    // A client that answers is there, though it says nothing.
    ping(socket, bytes) {
      const data = dataOf(socket);
      data[OWN]?.touch();
      return data[SEAT].ping?.(socket, bytes);
    },
    pong(socket, bytes) {
      const data = dataOf(socket);
      data[OWN]?.touch();
      data[SEAT].live?.ponged();
      return data[SEAT].pong?.(socket, bytes);
    },
    close(socket, code, reason) {
      const data = dataOf(socket);
      const seat = data[SEAT];
      if (data[OWN] !== undefined) door.manager.release(data[OWN]);
      if (isTooLarge(code, reason)) seat.live?.wasTooLarge();
      seat.live?.remove(code);
      return seat.close?.(socket, code, reason);
    },
  };
  return (visit, data) => {
    const { message } = data;
    Object.assign(
      data,
      { [SEAT]: new Seat(visit, data), [OWN]: undefined, [MESSAGE]: message },
      events,
    );
  };
}

/** Bun's server, as far as it is used here. */
interface RawServer {
  requestIP(request: Request): { readonly address: string } | null;
  upgrade(request: Request, options?: { data?: RouteData }): boolean;
}

let instances = 0;

/**
 * Guards every `.ws()` route, on Bun: admits or refuses before the upgrade, counts messages and
 * bytes both ways, closes the idle, gives seats back. Routes stay as they are. `publish()` reaches
 * subscribers without passing their sockets and is not counted.
 *
 * Use it before the routes: those registered earlier have no hook before the upgrade, so that there
 * a client is refused by close code and nobody is identified.
 *
 * Routes reach the manager as `portcullis.manager`, and their connection by `connectionOf(ws)`.
 * A client over the limit of its address or user gets 429, one that comes to a full or draining
 * server 503, both with `Retry-After` and `{ code, message, retryAfterMs }`.
 *
 * @throws ERR_UNSUPPORTED on Node; ERR_INVALID_ARG_TYPE, ERR_OUT_OF_RANGE, ERR_UNKNOWN_OPTION for the options
 * @example
 * new Elysia()
 *   .use(portcullis({ limits: { maxConnectionsPerIp: 10, connectionTimeoutMs: 30_000 } }))
 *   .ws('/ws', { message: (ws, message) => void ws.send(message) })
 *   .get('/stats', ({ portcullis }) => portcullis.manager.getStats())
 *   .listen(3000);
 */
export function portcullis(options: ElysiaGuardOptions) {
  requireBun('portcullis/elysia');
  const door = new Door<Request>('portcullis/elysia', options, bunSockets);
  const { gate } = door;
  return pluginOf(
    door,
    gate === undefined ? undefined : (request, handle) => withinLimits(gate, request, handle),
  );
}

/** Stands around every request, upgrades too. */
type Around = (request: Request, handle: () => unknown) => unknown;

/** @internal */
export function pluginOf(door: Door<Request>, around: Around | undefined) {
  // On the request itself, since an entry in a weak map is one more thing for each collection to visit; of this guard's own, for there may be two.
  const VISIT = Symbol('portcullis.visit');
  type Visited = Request & { [VISIT]?: Visit | undefined };
  const meter =
    door.metrics === undefined
      ? undefined
      : new FetchMeter(door.metrics, door.monitor === undefined);
  const { page } = door;
  const guard: ElysiaGuard = Object.freeze({
    manager: door.manager,
    page: door.page,
    stats: () => door.stats(),
    part: (app: StoppableApp) =>
      bunPart(
        'elysia',
        door,
        () => app.server as BunServer | null,
        async () => void (app.server === null || (await app.stop(true))),
      ),
  });

  const servers = new WeakSet<object>();
  let listening: RawServer | undefined;
  const guardRoute = guardRoutes(door);

  // Elysia upgrades with the server's own method and offers no hook there. It defines
  // `context.server` so that a route cannot be given another one.
  const watch = (server: RawServer): void => {
    if (servers.has(server)) return;
    servers.add(server);
    const upgrade = server.upgrade.bind(server);
    server.upgrade = (request, given) => {
      // One of a route that came before the plugin is judged now, and can only be refused by code.
      const visit =
        (request as Visited)[VISIT] ??
        door.admit(
          server.requestIP(request)?.address ?? '',
          (name) => request.headers.get(name) ?? '',
          request.url,
        );
      const data = given?.data ?? {};
      guardRoute(visit, data);
      const done = upgrade(request, { ...given, data });
      if (!done) visit.leave();
      else {
        // A WebSocket is no request, whatever Elysia answers to its own.
        meter?.drop(request);
        // Elysia keeps the request as long as the socket.
        (request as Visited)[VISIT] = undefined;
        unwatch(request);
      }
      return done;
    };
  };
  const arrive = (
    given: object,
    request: Request,
  ): { peer: string; header: (name: string) => string } => {
    const server = given as RawServer;
    watch(server);
    return {
      peer: server.requestIP(request)?.address ?? '',
      header: (name) => request.headers.get(name) ?? '',
    };
  };
  // Typed as nothing: an answer of this hook would else become one of every route's, for clients too.
  const enter = (visit: Visit, request: Request): undefined => {
    if (visit.answer === undefined) {
      (request as Visited)[VISIT] = visit;
      return undefined;
    }
    meter?.drop(request);
    return responseOf(visit.answer) as unknown as undefined;
  };

  // The seed is compared as JSON, in which two sets of options can be the same.
  const plugin = new Elysia({ name: 'portcullis', seed: ++instances }).decorate(
    'portcullis',
    guard,
  );
  const metered: Around | undefined =
    meter === undefined
      ? around
      : (request, handle) =>
          meter.around(request, around === undefined ? handle : () => around(request, handle));
  type Handler = (request: Request) => unknown;
  const within = (request: Request, go: () => unknown): unknown =>
    metered === undefined || door.isExempt(request.method, request.url)
      ? go()
      : metered(request, go);
  /** One that a later hook turned down, or that failed, gives its seat back. */
  const upgrade = (request: Request, handle: Handler): unknown => {
    const leave = (): void => void (request as Visited)[VISIT]?.leave();
    let result: unknown;
    try {
      result = handle(request);
    } catch (error) {
      leave();
      throw error;
    }
    if (result instanceof Promise) return result.finally(leave);
    leave();
    return result;
  };
  const turn = new Turn();
  plugin.wrap(((handle: Handler) => (request: Request) => {
    if (page?.isFor(request) === true)
      return page.fetch(request, listening?.requestIP(request)?.address ?? '');
    return isUpgrade(request)
      ? turn.answer(within(request, () => upgrade(request, handle)))
      : within(request, () => handle(request));
  }) as Parameters<typeof plugin.wrap>[0]);
  // Elysia reads the text of hooks for what they need: they name a few properties and hand on no context.
  const { monitor } = door;
  if (monitor !== undefined || meter !== undefined) {
    plugin.onTransform({ as: 'global' }, (context) => {
      const { request, route } = context;
      monitor?.mark(monitor.label(`${request.method} ${route}`));
      meter?.found(request, route, request.method);
    });
  }
  const before = door.isAsync
    ? plugin.onBeforeHandle({ as: 'global' }, async (context) => {
        const server = context.server;
        if (!server || !isUpgrade(context.request)) return undefined;
        const from = arrive(server, context.request);
        const visit = await door.identify(
          context.request,
          from.peer,
          from.header,
          context.request.url,
        );
        return enter(visit, context.request);
      })
    : plugin.onBeforeHandle({ as: 'global' }, (context) => {
        const server = context.server;
        if (!server || !isUpgrade(context.request)) return undefined;
        const from = arrive(server, context.request);
        const visit = door.admit(from.peer, from.header, context.request.url);
        return enter(visit, context.request);
      });
  before.onStart((app) => {
    // Without it neither what stands around requests nor what comes before an upgrade would run, and nobody would be told.
    if ((app as { config?: { aot?: boolean } }).config?.aot === false) {
      void app.server?.stop(true);
      throw new PortcullisError(
        'ERR_UNSUPPORTED',
        'portcullis/elysia needs aot, which this Elysia has turned off: leave out aot: false',
        { field: 'aot' },
      );
    }
    if (app.server) watch((listening = app.server as unknown as RawServer));
  });
  return before;
}

/**
 * The connection behind a route's `ws`, or `undefined` once it is refused.
 * @example
 * message(ws, message) {
 *   connectionOf(ws)?.bindUser(message.user);
 * }
 */
export function connectionOf(ws: object): ManagedConnection | undefined {
  const raw = 'raw' in ws && typeof ws.raw === 'object' && ws.raw !== null ? ws.raw : ws;
  return (raw as { [CONNECTION]?: ManagedConnection })[CONNECTION];
}
