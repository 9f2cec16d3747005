/** A bare `Bun.serve`: its `fetch` before the upgrade, its `websocket` handlers after it. */
import { outOfRange, wrongType } from '../base/errors.js';
import { isThenable } from '../base/hooks.js';
import { optionsObject } from '../base/options.js';
import type { RequestTrace } from '../base/trace.js';
import type { ManagedConnection } from '../connections/connection.js';
import type { OpenSocket } from '../connections/open-socket.js';
import type { ConnectionManager } from '../connections/manager.js';
import { Guard, type GuardStats, type TokenJudgement } from '../guard/guard.js';
import type { RateExplanation, RateQuestion } from '../http/request-rates.js';
import type { GuardOptions } from '../guard/options.js';
import { type Answer, lastOf } from '../http/answer.js';
import type { Admission } from '../guard/admission.js';
import {
  asksForWebSocket,
  DIRECT,
  type FetchHost,
  isOver,
  lastAnswer,
  responseOf,
  unwatch,
  waitingOn,
  whileWaiting,
  withinLimits,
} from '../http/fetch.js';
import { FetchMeter, markRefused } from '../metrics/meters.js';
import type { LivePage } from '../page/live-page.js';
import type { Drainable } from '../shutdown/drainable.js';
import type { TokenClaims } from '../tokens/result.js';
import { bunDrainable, type BunServer, requireBun } from './bun-server.js';
import { bunSockets, countSends, isTooLarge, type RawSocket } from './bun-sockets.js';
import { bunPeer, type PeerSource } from './peer.js';
import { RefusalPacer } from './refusal-pacer.js';
import {
  checkSocket,
  CONNECTION,
  type GuardedSocket,
  OPEN_SOCKET,
  payloadLimitOf,
  sizeOf,
} from './socket.js';

/** Options of the guard. `C` is the type of the claims of `auth`. */
export type BunGuardOptions<C extends TokenClaims = TokenClaims> = GuardOptions<Request, C>;

/** Guards a bare `Bun.serve`. */
export interface BunGuard {
  /** The manager behind the guard. */
  readonly manager: ConnectionManager;
  /**
   * Wraps a `fetch` or route handler, so that upgrades are admitted before it runs.
   * @throws ERR_INVALID_ARG_TYPE unless the handler is a function
   */
  fetch<F extends (request: never, server: never) => unknown>(handler: F): F;
  /**
   * Wraps the `websocket` handlers. A socket that did not come through `fetch` is judged when it opens.
   *
   * Several guards of one server wrap each other's handlers: `a.websocket(b.websocket(handlers))`. The limits of all
   * guards hold whose `fetch` a handshake has passed, and of no others: guards around each other add up, and
   * guards of single routes do not.
   * @throws ERR_INVALID_ARG_TYPE unless the handlers are functions of an object; ERR_OUT_OF_RANGE for handlers
   * that this guard has wrapped
   */
  websocket<H extends object>(handlers: H): H;
  /** The page, if the option `page` asks for one. */
  readonly page: LivePage | undefined;
  /**
   * Aborts at the beginning of the drain, so that endless responses (server-sent events, long polls) send
   * their last event and end; a shutdown waits for the others up to its deadline. One signal for the whole
   * server: a listener has to be removed with its response. A request that begins later finds it aborted.
   * @example
   * const end = () => {
   *   controller.enqueue('event: bye\ndata:\n\n');
   *   controller.close();
   * };
   * guard.draining.addEventListener('abort', end);
   * request.signal.addEventListener('abort', () => guard.draining.removeEventListener('abort', end));
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
  traceOf(request: Request): RequestTrace;
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
  /** The server, for a `GracefulShutdown` to drain. */
  drainable(server: object): Drainable;
}

/** Bun's server, as far as it is used here. */
interface RawServer extends PeerSource {
  readonly url?: URL;
  upgrade(request: Request, ...rest: unknown[]): boolean;
}
type Socket = RawSocket & {
  readonly remoteAddress: string | undefined;
  /** Entries of the socket in further guards. */
  [FURTHER]?: OpenSocket[];
  /** True once a guard counts the connection of a guard that it has replaced. */
  [ADOPTED]?: true;
  /** The seat of the socket with each adapter, by the adapter's key. */
  [key: symbol]: unknown;
};
/** The connection of a socket, or why a guard has none: it has refused it, or another guard has admitted it. */
type Seat = ManagedConnection | 'refused' | 'of another guard';
type FetchHandler = (this: unknown, request: Request, server: RawServer) => unknown;

/** The application's `websocket` handlers, as far as they are wrapped. */
interface SocketHandlers {
  readonly open?: (this: unknown, socket: Socket) => unknown;
  readonly message?: (this: unknown, socket: Socket, data: unknown) => unknown;
  readonly ping?: (this: unknown, socket: Socket, data: unknown) => unknown;
  readonly pong?: (this: unknown, socket: Socket, data: unknown) => unknown;
  readonly close?: (this: unknown, socket: Socket, code: number, reason: string) => unknown;
  readonly maxPayloadLength?: number;
}

const FURTHER = Symbol('portcullis.furtherGuards');
const ADOPTED = Symbol('portcullis.adopted');
/** Key of the guards within wrapped handlers. */
const GUARDS = Symbol('portcullis.guards');
/** Key of the adapter that has judged a handshake, on its request. */
const JUDGE = Symbol('portcullis.judge');
type Judged = Request & { [JUDGE]?: BunAdapter };
/** The handshake that a guarded server upgrades: Bun opens its socket within `server.upgrade()`. */
let upgrading: Judged | undefined;

/** A server, as the limits of its requests and of its handshakes see it. */
interface Hosts {
  readonly requests: FetchHost;
  readonly handshakes: FetchHost;
}

/** A path of one segment, without a query. */
const SEGMENT = /^\/[\w.~-]*$/;

/** Hands Bun's events to the guard; its methods are named after them. */
class BunAdapter {
  readonly guard: Guard<Request>;
  readonly #meter: FetchMeter | undefined;
  readonly #pacer = new RefusalPacer();
  readonly #pending = new WeakMap<Request, Admission>();
  readonly #hosts = new WeakMap<RawServer, Hosts>();
  readonly #wrapped = new WeakSet<RawServer>();
  /** Key of a socket's seat in this guard: one socket may have two guards. */
  readonly #seat = Symbol('portcullis.seat');
  /** The admission of the upgrade under way, or its judge. */
  #upgrading: Admission | (() => Admission) | undefined;

  constructor(options: BunGuardOptions) {
    this.guard = new Guard<Request>('portcullis/bun', options, bunSockets);
    const { metrics, monitor } = this.guard;
    this.#meter =
      metrics === undefined
        ? undefined
        : new FetchMeter(metrics, this.guard.tracer, monitor === undefined);
  }

  /** A request, which may ask for a WebSocket. */
  fetch(request: Request, server: RawServer, handle: () => unknown): unknown {
    const { guard } = this;
    const meter = this.#meter;
    this.#wrap(server);
    const isHandshake = asksForWebSocket(request);
    const go = (): unknown =>
      this.request(
        request,
        server,
        isHandshake ? () => this.upgrade(request, server, handle) : handle,
        isHandshake,
      );
    const isUncounted =
      meter === undefined || guard.page?.isFor(request) === true || this.#isExempt(request);
    const result = isUncounted ? go() : meter.around(request, go);
    const answer = isHandshake ? this.#pacer.answer(result) : result;
    return guard.isLeaving ? lastAnswer(answer) : answer;
  }

  /** A request, within the limits of requests: it is one until the host has upgraded it. */
  request(
    request: Request,
    server: RawServer,
    handle: () => unknown,
    isHandshake: boolean,
  ): unknown {
    const { requests, page } = this.guard;
    if (page?.isFor(request) === true)
      return page.fetch(request, server.requestIP(request)?.address ?? '');
    const refused = this.#refusesClient(request, server, isHandshake);
    if (refused !== undefined)
      return markRefused(responseOf(isHandshake ? lastOf(refused) : refused));
    // Bun leaves the URL relative without a valid host, and routers that expect an absolute one search it for its path
    // from another slash: `/x?/admin` is `/admin` to Hono.
    const isAddressed = !request.url.startsWith('/') || this.#isExempt(request);
    const misaddressed = this.guard.refusesHost(isAddressed, request);
    if (misaddressed !== undefined) return markRefused(responseOf(lastOf(misaddressed)));
    // The admission of a handshake judges its token.
    const run =
      !isHandshake && this.guard.needsToken(request.method, request.url, headerOf(request))
        ? () => this.#withToken(request, server, handle)
        : handle;
    if (requests === undefined || this.#isExempt(request)) return run();
    return withinLimits(requests, request, run, this.#hostOf(server, isHandshake));
  }

  #hostOf(server: RawServer, isHandshake: boolean): FetchHost {
    const known = this.#hosts.get(server) ?? this.#hostsOf(server);
    return isHandshake ? known.handshakes : known.requests;
  }

  #hostsOf(server: RawServer): Hosts {
    const clientOf = (request: Request): string => this.#clientOf(request, server);
    const hosts = {
      requests: { ...DIRECT, isHandshake: false, clientOf },
      handshakes: {
        ...DIRECT,
        isHandshake: true,
        clientOf,
        // A handshake gives its seat back with its answer, which may be that of its timeout. The seat of a socket that
        // has opened stays with the socket.
        answered: (request: Request, answer: unknown): unknown => {
          this.#pending.get(request)?.end('reset');
          return answer;
        },
      },
    };
    this.#hosts.set(server, hosts);
    return hosts;
  }

  /**
   * True if no limit holds a request. A relative URL is no exempt path to every router, unless it has a single segment:
   * health checks by HTTP/1.0 have no `Host`.
   */
  #isExempt({ method, url, headers }: Request): boolean {
    if (!this.guard.isExempt(method, url)) return false;
    return !url.startsWith('/') || (SEGMENT.test(url) && headers.get('host') === null);
  }

  /** Returns the answer to a client that is refused before any limit. */
  #refusesClient(request: Request, server: RawServer, isUpgrade: boolean): Answer | undefined {
    const { guard } = this;
    if (!guard.judgesClients || (!isUpgrade && this.#isExempt(request))) return undefined;
    return guard.refusesClient(request, bunPeer(server, request), headerOf(request), isUpgrade);
  }

  /** Runs a handler for a request with a valid token. */
  #withToken(request: Request, server: RawServer, handle: () => unknown): unknown {
    const judged = this.guard.judgeToken(
      bunPeer(server, request),
      headerOf(request),
      request.url,
      request,
    );
    const after = ({ answer }: TokenJudgement): unknown =>
      answer === undefined ? handle() : markRefused(responseOf(answer));
    return judged instanceof Promise ? judged.then(after) : after(judged);
  }

  #clientOf(request: Request, server: RawServer): string {
    return this.guard.clientOf(request, bunPeer(server, request), headerOf(request));
  }

  /** A handshake: admitted before the application's handler runs, or refused. */
  upgrade(request: Request, server: RawServer, handle: () => unknown): unknown {
    const { guard } = this;
    const peer = bunPeer(server, request);
    const header = headerOf(request);
    if (!guard.isAsync)
      return this.#judged(guard.admit(peer, header, request.url, request), request, server, handle);
    return guard
      .identify(request, peer, header, request.url, waitingOn(request))
      .then((pending) => this.#judged(pending, request, server, handle));
  }

  #judged(pending: Admission, request: Request, server: RawServer, handle: () => unknown): unknown {
    (request as Judged)[JUDGE] = this;
    // Answered already, by its timeout.
    if (isOver(request)) pending.end('reset');
    return pending.isRefused
      ? this.#refuse(pending, request, server)
      : this.#admitted(pending, request, handle);
  }

  /** Refuses a handshake, by status or by close code. No handler of the application runs for it. */
  #refuse(refused: Admission, request: Request, server: RawServer): Response | undefined {
    this.#pending.set(request, refused);
    if (refused.answer === undefined && server.upgrade(request)) return undefined;
    unwatch(request);
    const answer = refused.answer ?? this.guard.statusAnswerOf(refused, request);
    return markRefused(responseOf(lastOf(answer)));
  }

  /** Runs the handler of an admitted handshake; the seat is free again unless a socket opens. */
  #admitted(pending: Admission, request: Request, handle: () => unknown): unknown {
    this.#pending.set(request, pending);
    let result: unknown;
    let isLater: boolean;
    try {
      result = handle();
      isLater = isThenable(result);
    } catch (error) {
      pending.end('reset');
      throw error;
    }
    const abandon = (): void => void pending.end('reset');
    // A socket that has opened took its seat along.
    if (!isLater || pending.state === 'open') {
      abandon();
      return result;
    }
    // A handler that never settles keeps no seat of a client that has left.
    const waiting = whileWaiting(request, abandon);
    return Promise.resolve(result).finally(() => {
      waiting.forget();
      abandon();
    });
  }

  /** Makes `server.upgrade()` name the admission that its socket opens with. */
  #wrap(server: RawServer): void {
    if (this.#wrapped.has(server)) return;
    this.#wrapped.add(server);
    this.guard.page?.announce(server.url?.origin);
    const upgrade = server.upgrade.bind(server);
    server.upgrade = (request, ...rest) => {
      // A handler that runs within the call may upgrade another handshake.
      const outer = upgrading;
      const outerAdmission = this.#upgrading;
      upgrading = request;
      this.#upgrading = this.#pending.get(request) ?? this.#late(request, server);
      try {
        const isUpgraded = upgrade(request, ...rest);
        if (isUpgraded) unwatch(request);
        return isUpgraded;
      } finally {
        upgrading = outer;
        this.#upgrading = outerAdmission;
      }
    };
  }

  /**
   * Returns a function that judges a handshake which the application upgrades past its guarded handler. Only `open`
   * calls it: `bun --hot` and `reload()` keep the server, and the sockets of another guard's handlers are not this
   * guard's. What is read of the handshake is read now, since Bun forgets it with the upgrade.
   */
  #late(request: Request, server: RawServer): () => Admission {
    const peer = bunPeer(server, request);
    const { headers, url } = request;
    return () => this.guard.admitLate(peer, (name) => headers.get(name) ?? '', url, request);
  }

  /**
   * Seats a socket; `false` if it is refused, and then the application never hears of it.
   * @param inner the guards within the handlers of this one
   */
  open(socket: Socket, inner: readonly BunAdapter[]): boolean {
    const pending = this.#admissionOf(socket, inner);
    if (pending === undefined) {
      socket[this.#seat] = 'of another guard' satisfies Seat;
      return true;
    }
    // Before it: Bun reports the end of a socket from within its close.
    socket[this.#seat] = 'refused' satisfies Seat;
    const connection = pending.open(undefined, socket);
    if (connection === undefined) return false;
    socket[this.#seat] = connection satisfies Seat;
    try {
      const openSocket = this.guard.openSockets.add(connection);
      if (socket[CONNECTION] !== undefined) (socket[FURTHER] ??= []).push(openSocket);
      countSends(socket, connection, openSocket);
      return true;
    } catch (error) {
      return this.failed(socket, error);
    }
  }

  /** Returns the admission of a socket that opens; `undefined` if another guard has admitted it. */
  #admissionOf(socket: Socket, inner: readonly BunAdapter[]): Admission | undefined {
    const given = this.#upgrading;
    this.#upgrading = undefined;
    if (typeof given === 'object') return given;
    // A guard around this one has seated it, or one within this one is about to.
    if (socket[CONNECTION] !== undefined) return undefined;
    const judge = upgrading?.[JUDGE];
    if (judge !== undefined && inner.includes(judge)) return undefined;
    // A socket that passed neither `fetch` nor `upgrade` is judged now, and can only be refused by close code.
    return given === undefined ? this.guard.admitLate(socket.remoteAddress ?? '') : given();
  }

  /** Closes a socket whose opening failed. */
  failed(socket: Socket, error: unknown): never {
    const seat = socket[this.#seat] as Seat | undefined;
    if (typeof seat === 'object') seat.close(1011, 'Internal error');
    throw error;
  }

  /** Judges a message; `false` if no handler is to see it. */
  message(socket: Socket, data: unknown): boolean {
    const seat = (socket[this.#seat] ?? this.#adopt(socket)) as Seat;
    if (typeof seat === 'string') return seat !== 'refused';
    const bytes = sizeOf(data);
    if (seat.received(bytes) !== 'ok') return false;
    if (this.guard.openSockets.admits(bytes, seat)) return this.guard.jsonFilter.admits(data, seat);
    openSocketOf(socket, seat)?.refuseMessage();
    return false;
  }

  /**
   * A ping shows that the client is there, though it says nothing.
   * @returns `false` if no handler is to see it
   */
  ping(socket: Socket, data: unknown): boolean {
    const seat = (socket[this.#seat] ?? this.#adopt(socket)) as Seat;
    if (typeof seat === 'string') return seat !== 'refused';
    if (seat.receivedControl(sizeOf(data)) !== 'ok') return false;
    // Bun has queued its pong: a client that pings and does not read is slow.
    openSocketOf(socket, seat)?.sent();
    return true;
  }

  pong(socket: Socket, data: unknown): boolean {
    const seat = (socket[this.#seat] ?? this.#adopt(socket)) as Seat;
    if (typeof seat === 'string') return seat !== 'refused';
    if (seat.receivedControl(sizeOf(data)) !== 'ok') return false;
    openSocketOf(socket, seat)?.ponged();
    return true;
  }

  /** Gives the seat back; `false` for a socket that was refused by close code. */
  close(socket: Socket, code: number, reason: string): boolean {
    const seat = (socket[this.#seat] ?? this.#adopt(socket)) as Seat;
    if (typeof seat === 'string') return seat !== 'refused';
    seat.ended();
    const openSocket = openSocketOf(socket, seat);
    if (isTooLarge(code, reason)) openSocket?.wasTooLarge();
    openSocket?.remove(code);
    if (socket[ADOPTED] === true) endFurther(socket, code);
    return true;
  }

  /**
   * Returns the seat of a socket that opened before this guard's handlers were the server's (`reload()`, `bun --hot`):
   * the connection of the former guard, which one guard goes on counting.
   */
  #adopt(socket: Socket): Seat {
    const former = socket[CONNECTION];
    const seat = former === undefined ? 'refused' : socket[ADOPTED] ? 'of another guard' : former;
    if (former !== undefined) socket[ADOPTED] = true;
    socket[this.#seat] = seat;
    return seat;
  }
}

/** Returns a connection's entry among the open sockets of its guard. */
function openSocketOf(socket: Socket, connection: ManagedConnection): OpenSocket | undefined {
  const first = socket[OPEN_SOCKET];
  return first?.connection === connection
    ? first
    : socket[FURTHER]?.find((one) => one.connection === connection);
}

/** Ends what former guards beside the first one hold of a socket. */
function endFurther(socket: Socket, code: number): void {
  for (const openSocket of socket[FURTHER] ?? []) {
    openSocket.connection.ended();
    openSocket.remove(code);
  }
}

function headerOf(request: Request): (name: string) => string {
  return (name) => request.headers.get(name) ?? '';
}

/** Handlers that guards have wrapped. */
interface WrappedHandlers extends SocketHandlers {
  readonly [GUARDS]?: readonly BunAdapter[];
}

/** @throws ERR_INVALID_ARG_TYPE, naming the handler */
function checkedHandlers(handlers: object): WrappedHandlers {
  optionsObject('handlers', handlers, 'an object of handlers such as { message }');
  for (const name of ['open', 'message', 'ping', 'pong', 'close'] as const) {
    const handler = (handlers as SocketHandlers)[name];
    // Bun takes `null` for no handler, too.
    if (handler !== undefined && handler !== null && typeof handler !== 'function')
      throw wrongType(`handlers.${name}`, handler, 'a function');
  }
  return handlers;
}

/** Options of Bun beside the handlers that are wrapped. */
const FURTHER_OPTIONS = [
  'drain',
  'data',
  'idleTimeout',
  'backpressureLimit',
  'closeOnBackpressureLimit',
  'sendPings',
  'publishToSelf',
  'perMessageDeflate',
] as const;

/** Returns the options that handlers have from their class, which a copy of an object lacks. */
function inheritedOptions(handlers: object): object {
  const given = handlers as Readonly<Record<string, unknown>>;
  return Object.fromEntries(
    FURTHER_OPTIONS.filter((name) => name in given).map((name) => [name, given[name]]),
  );
}

/**
 * Wraps the application's handlers, which keep their `this`.
 * Without rest parameters: an array for each message is work for the garbage collector.
 */
function guardedHandlers(
  adapter: BunAdapter,
  { open, message, ping, pong, close }: SocketHandlers,
  inner: readonly BunAdapter[],
): Required<Omit<SocketHandlers, 'maxPayloadLength'>> {
  return {
    open(socket) {
      if (!adapter.open(socket, inner)) return undefined;
      try {
        const result = open?.call(this, socket);
        return isThenable(result)
          ? result.then(undefined, (error: unknown) => adapter.failed(socket, error))
          : result;
      } catch (error) {
        return adapter.failed(socket, error);
      }
    },
    message(socket, data) {
      return adapter.message(socket, data) ? message?.call(this, socket, data) : undefined;
    },
    ping(socket, data) {
      return adapter.ping(socket, data) ? ping?.call(this, socket, data) : undefined;
    },
    pong(socket, data) {
      return adapter.pong(socket, data) ? pong?.call(this, socket, data) : undefined;
    },
    close(socket, code, reason) {
      return adapter.close(socket, code, reason)
        ? close?.call(this, socket, code, reason)
        : undefined;
    },
  };
}

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
export function portcullis<C extends TokenClaims = TokenClaims>(
  options: BunGuardOptions<C>,
): BunGuard {
  requireBun('portcullis/bun');
  const adapter = new BunAdapter(options as unknown as BunGuardOptions);
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
    drainable: (server) => {
      guard.page?.announce((server as Partial<RawServer> | null)?.url?.origin);
      return bunDrainable('bun', guard, () => server as BunServer);
    },
    fetch<F extends (request: never, server: never) => unknown>(handler: F): F {
      if (typeof handler !== 'function')
        throw wrongType('handler', handler, 'a function (request, server)');
      const own = handler as unknown as FetchHandler;
      const guarded: FetchHandler = function (request, server) {
        return adapter.fetch(request, server, () => own.call(this, request, server));
      };
      return guarded as unknown as F;
    },
    websocket<H extends object>(handlers: H): H {
      const given = checkedHandlers(handlers);
      // Bun refuses a larger message before it has arrived whole.
      const { maxMessageSize } = guard.openSockets;
      const own = given.maxPayloadLength;
      const limit =
        maxMessageSize === Infinity && own === undefined
          ? {}
          : { maxPayloadLength: payloadLimitOf(maxMessageSize, own) };
      const inner = given[GUARDS] ?? [];
      if (inner.includes(adapter))
        throw outOfRange('handlers', handlers, 'handlers that this guard has not wrapped');
      return {
        ...inheritedOptions(handlers),
        ...handlers,
        ...guardedHandlers(adapter, given, inner),
        ...limit,
        [GUARDS]: [adapter, ...inner],
      };
    },
  };
}

/**
 * The connection behind a socket of a guarded server, or `undefined` if it was refused, and for any other object.
 * @throws ERR_INVALID_ARG_TYPE for a value that is no object
 */
export function connectionOf(ws: object): ManagedConnection | undefined {
  checkSocket('ws', ws);
  return (ws as GuardedSocket)[CONNECTION];
}
