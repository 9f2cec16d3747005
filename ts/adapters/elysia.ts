/** Elysia: a plugin that admits before a route's upgrade and stands between Bun and the route's handlers. */
import type { Duplex } from 'node:stream';
import { Elysia, status } from 'elysia';
import { PortcullisError } from '../base/errors.js';
import type { RequestTrace } from '../base/trace.js';
import type { ManagedConnection, ManagedSocket } from '../connections/connection.js';
import type { ConnectionManager } from '../connections/manager.js';
import { Guard, type GuardStats, type TokenJudgement } from '../guard/guard.js';
import { isPreflight } from '../guard/http-tokens.js';
import type { GuardOptions } from '../guard/options.js';
import type { Admission } from '../guard/admission.js';
import { type Answer, lastOf } from '../http/answer.js';
import type { RateExplanation, RateQuestion } from '../http/request-rates.js';
import {
  asksForWebSocket,
  type FetchHost,
  type Handle,
  handshakeEnds,
  isOver,
  lastAnswer,
  responseOf,
  unwatch,
  waitingOn,
  whileWaiting,
  withinLimits,
} from '../http/fetch.js';
import { FetchMeter } from '../metrics/meters.js';
import type { LivePage } from '../page/live-page.js';
import type { ResourceMonitor } from '../resources/monitor.js';
import type { Drainable } from '../shutdown/drainable.js';
import type { TokenClaims } from '../tokens/result.js';
import { bunDrainable, type BunServer } from './bun-server.js';
import { bunSockets } from './bun-sockets.js';
import {
  canOpen,
  ElysiaOnNode,
  forgetContext,
  hasLeft,
  refuseOwnSockets,
  upgradeSocketOf,
  wantsSocket,
} from './elysia-node.js';
import { guardRoutes, type RouteData } from './elysia-routes.js';
import { waitingOn as waitingOnSocket } from './node-handshake.js';
import { RouteGuard, type RouteGuardOptions } from './elysia-route-options.js';
import { type AnswerContext, AppAnswers, setHeader } from './elysia-answers.js';
import { limitPayloads } from './elysia-payload.js';
import { describeRoute } from './elysia-openapi.js';
import { PlainRoutes } from './elysia-plain-routes.js';
import { functionsOf, isMisread, routedTarget, type ScopedApp } from './elysia-app-routes.js';
import {
  checkedScoping,
  type GuardScoping,
  type ListeningElysia,
  RouteScope,
} from './elysia-scope.js';
import { bunPeer, type PeerSource } from './peer.js';
import { RefusalPacer } from './refusal-pacer.js';
import { checkSocket, CONNECTION, type GuardedSocket } from './socket.js';
import { wsSockets } from './ws-sockets.js';

/** Options of the plugin. `C` is the type of the claims of `auth`. */
export interface ElysiaGuardOptions<C extends TokenClaims = TokenClaims> extends GuardOptions<
  Request,
  C
> {
  /**
   * Routes that the plugin guards, as `as` of Elysia's hooks. `global`: every route of the server; clients of a
   * WebSocket route that is registered before the plugin are judged only when they upgrade. `scoped`: the routes of
   * the instance that uses the plugin, not those of its parent and its siblings. `local`: only routes of the plugin
   * itself, `portcullis(options).ws(...)`. Other than `global` excludes `requests` and `auth.http`, which hold for a
   * whole server: `requireToken` of a route asks its requests for a token. Default `global`.
   */
  readonly scoping?: GuardScoping | undefined;
}

/** The guard, which routes see as `portcullis`. */
export interface ElysiaGuard {
  /** The manager behind the plugin; with several plugins in one app, that of the first. */
  readonly manager: ConnectionManager;
  /** The page, if the option `page` asks for one. */
  readonly page: LivePage | undefined;
  /**
   * Aborts at the beginning of the drain, so that endless responses (server-sent events, long polls) send
   * their last event and end; a shutdown waits for the others up to its deadline. One signal for the whole
   * server: a listener has to be removed with its response. A request that begins later finds it aborted.
   * @example
   * app.get('/events', async function* ({ portcullis: { draining } }) {
   *   while (!draining.aborted) yield sse(await nextEvent(draining));
   *   yield sse({ event: 'bye', data: '' });
   * });
   */
  readonly draining: AbortSignal;
  /**
   * Returns the id of a request and its `traceparent`, as stalls, hooks and `connection.requestId` have them. The
   * headers are read at the first call.
   * @param request a request or a handshake of the guarded server
   * @throws ERR_INVALID_ARG_TYPE for a value that is none
   * @example
   * app.get('/pay', ({ request, portcullis }) => portcullis.traceOf(request).requestId);
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
  /** The app, for a `GracefulShutdown` to drain. */
  drainable(app: StoppableApp): Drainable;
}

/** An Elysia app, as far as a shutdown needs it. */
export interface StoppableApp {
  readonly server: object | null;
  stop(closeActiveConnections?: boolean): unknown;
}

/** Bun's server, as far as it is used here. */
interface RawServer extends PeerSource {
  readonly url?: URL;
  upgrade(request: Request, options?: { data?: RouteData }): boolean;
}

/** Key of a guard's `upgrade()`, which holds the one below it. */
const GUARDED = Symbol.for('portcullis.guardedUpgrade');
type GuardedUpgrade = RawServer['upgrade'] & {
  [GUARDED]?: { readonly upgrade: RawServer['upgrade']; appOf(): object | undefined };
};

/** Key of a request that has become a WebSocket. */
const OPENED = Symbol('portcullis.opened');
type OpenedRequest = Request & { [OPENED]?: true };

/** Key of a request's peer: Bun knows no peer of a request whose client has left. */
const PEER = Symbol('portcullis.peer');
type NotedRequest = Request & { [PEER]?: string | undefined };

/** Interval of the look for the server of an app that has taken the plugin's routes only, ms. */
const LOOK_MS = 1;

/** Has the host serve a request by `handle`, within the limits. Upgrades pass it too. */
type Around = (request: Request, handle: Handle, host: FetchHost) => unknown;

/** The context of a hook, as far as it is read. */
interface HookContext {
  readonly request: Request;
  readonly server: object | null;
  /** Pattern of the route. */
  readonly route: string;
}

/** Names `set`: Elysia leaves the headers out where no hook reads it. */
interface RouteHookContext extends HookContext {
  readonly set: AnswerContext['set'];
}

/** The context of a route, as far as the guard writes it. */
interface RouteContext extends AnswerContext {
  user?: unknown;
  claims?: unknown;
}

/** Claims of any type. */
type Claims = Readonly<Record<string, unknown>>;

/** Names that routes see, beside their own. */
type GuardContext<C extends Claims> = {
  portcullis: ElysiaGuard;
  /** The connection of a socket, from `open` on; `undefined` in requests. */
  connection: ManagedConnection<ManagedSocket, C> | undefined;
  /** User of a socket, and of a request with `requireToken`; `undefined` for the others. */
  user: string | undefined;
  /** Claims of the token of a request with `requireToken`; `undefined` for the others. A socket has `connection.claims`. */
  claims: C | undefined;
};

/** A plugin, as far as Elysia's types hide it. */
interface CompiledPlugin {
  getServer(): object | null;
}

/** Hands Elysia's events to the guard; its methods are named after them. */
class ElysiaAdapter {
  readonly #guard: Guard<Request>;
  /** Runs every request within its limits; `undefined` without limits. */
  readonly #limits: Around | undefined;
  /** The adapter, as the limits of its requests and of its handshakes see it. */
  readonly #requests: FetchHost;
  readonly #handshakes: FetchHost;
  readonly #meter: FetchMeter | undefined;
  /** True if the monitor knows of requests in flight. */
  readonly #isCounted: boolean;
  readonly #guardRoute: ReturnType<typeof guardRoutes>;
  readonly #pacer = new RefusalPacer();
  /** Gives the seat of a handshake back whose client has left before its handler answered. */
  readonly #gone = (request: Request): void => {
    handshakeEnds(request);
    this.#abandon(request);
  };
  readonly #wrapped = new WeakSet<object>();
  #listening: RawServer | undefined;
  /** The request that comes in at this moment, with its peer and the reader of its headers once they were asked for. */
  #arriving: Request | undefined;
  #arrivingPeer = '';
  #arrivingHeader: ((name: string) => string) | undefined;
  /** The latest marked route, with its label. */
  #labelled = { method: '', route: '', label: 0 };
  /** Routes whose descriptions are complete. */
  #described = 0;
  /** True if hooks of routes judge clients: those may run once the client has left. */
  notesPeers = false;
  /** Options of single routes, by the hook that enforces them. */
  readonly routeGuards = new Map<unknown, RouteGuard>();
  /**
   * Key of a request's admission: on the request, since every garbage collection visits the entries
   * of a weak map; of this adapter alone, since an app may have two guards.
   */
  readonly #key = Symbol('portcullis.pendingUpgrade');
  /** Key of the further admission of a request, that of its route. */
  readonly #routeKey = Symbol('portcullis.pendingRoute');
  readonly #scope: RouteScope;
  readonly answers: AppAnswers;
  /** Routes whose handshakes are judged before Elysia's own work. */
  readonly plainRoutes = new PlainRoutes();
  /** The app that listens. */
  app: ScopedApp | undefined;

  /** @param limits runs every request; `undefined` without limits, and for a scope, whose requests it would not know */
  constructor(
    guard: Guard<Request>,
    limits: Around | undefined,
    scope: RouteScope,
    ownErrorHooks: number,
  ) {
    this.#guard = guard;
    this.answers = new AppAnswers(() => this.#app, ownErrorHooks, status);
    this.#scope = scope;
    guard.page?.awaitServer();
    this.#guardRoute = guardRoutes(guard);
    const meter =
      guard.metrics === undefined
        ? undefined
        : new FetchMeter(guard.metrics, guard.tracer, guard.monitor === undefined);
    this.#meter = meter;
    this.#isCounted = limits !== undefined;
    this.#limits = limits;
    this.#requests = this.#hostOf(false, meter);
    this.#handshakes = {
      ...this.#hostOf(true, meter),
      answered: (request, answer) => this.#paced(request, answer),
    };
  }

  #hostOf(isHandshake: boolean, meter: FetchMeter | undefined): FetchHost {
    return {
      isHandshake,
      meter,
      isGone: isBun ? undefined : hasLeft,
      clientOf: (request) => this.#clientOf(request),
      serve: (request, handle) => this.#serve(request, handle, isHandshake),
      respond: (answer, request, handle) => this.answers.answer(answer, request, handle),
      routedUrlOf: ({ url }) => (isMisread(url) ? (routedTarget(url) ?? url) : undefined),
    };
  }

  /** Leaves a request out of the metrics whose route another guard has, or none. */
  #metered(request: Request, result: unknown): unknown {
    if (this.#scope.isGlobal) return result;
    const drop = (): void => {
      if (!this.#scope.hasEntered(request)) this.#meter?.drop(request);
    };
    if (result instanceof Promise) return result.finally(drop);
    drop();
    return result;
  }

  get #app(): ScopedApp | undefined {
    return this.app ?? this.#scope.root;
  }

  /** True if all sockets of the server are the guard's. */
  get isGlobal(): boolean {
    return this.#scope.isGlobal;
  }

  /** True if the adapter has to know which route serves a request. */
  get watchesRoutes(): boolean {
    return !this.#scope.isGlobal || this.#guard.monitor !== undefined || this.#meter !== undefined;
  }

  #pendingOf(request: Request): { [key: symbol]: Admission | undefined } {
    return request as unknown as { [key: symbol]: Admission | undefined };
  }

  /** A server that listens: its `upgrade()` is the guard's from now on. */
  start(server: object): void {
    if (this.#listening === server) return;
    this.#listening = server as RawServer;
    this.#guard.page?.announce(this.#listening.url?.origin);
    this.#wrap(this.#listening);
    this.describe();
  }

  /** An app listens. */
  begin(app: ListeningElysia): void {
    this.app = app;
    if (app.server !== null) this.start(app.server);
    void app.modules.then(() => this.describe());
  }

  /**
   * Adds the guard's answers to the descriptions of routes that it has not seen yet, for documents of OpenAPI, and
   * names the limiters of routes.
   */
  describe(): void {
    const routes = this.#scope.routes();
    if (routes.length === this.#described) return;
    this.#described = routes.length;
    for (const route of routes) {
      const own = functionsOf(route.hooks.beforeHandle).map((hook) => this.routeGuards.get(hook));
      const isGuarded = this.#scope.holds(route) || own.some((guard) => guard !== undefined);
      for (const guard of own) guard?.stands(`${route.method} ${route.path}`);
      if (!isGuarded) continue;
      describeRoute(route, {
        isLimited: this.#guard.requests !== undefined && this.#scope.isGlobal,
        needsIdentity:
          route.method === 'WS'
            ? this.#guard.identifies
            : own.some((guard) => guard?.requiresToken === true),
        mediaType: this.#guard.shape?.mediaType ?? 'application/json',
      });
    }
  }

  /**
   * Elysia compiles the plugin itself: an async function has returned it, so that the app takes its routes
   * and none of its hooks. Sockets are judged when they upgrade: late, but never unguarded.
   * @param serverOf returns the app's server, `null` before it listens
   */
  compiled(serverOf: () => object | null): void {
    const server = serverOf();
    if (server !== null) return this.start(server);
    // Nothing tells this plugin that the app listens.
    const look = (): void => {
      const found = serverOf();
      if (found === null) return;
      timer.close();
      this.start(found);
    };
    const timer = this.#guard.manager.timers.setInterval(look, {
      delayMs: LOOK_MS,
      ref: false,
      name: 'elysia.server',
    });
  }

  /** A request, which may ask for a WebSocket. */
  request(request: Request, handle: Handle): unknown {
    this.#arriving = request;
    this.#arrivingPeer = '';
    this.#arrivingHeader = undefined;
    try {
      const answer = this.#served(request, handle);
      return this.#guard.isLeaving ? lastAnswer(answer) : answer;
    } finally {
      this.#arriving = undefined;
      this.#arrivingHeader = undefined;
    }
  }

  #served(request: Request, handle: Handle): unknown {
    const { page } = this.#guard;
    if (page?.isFor(request) === true)
      return page.fetch(request, this.#listening?.requestIP(request)?.address ?? '');
    const isUpgrade = this.#isHandshake(request);
    if (isUpgrade || this.notesPeers) (request as NotedRequest)[PEER] = this.#peerOf(request);
    const refused = this.#refusesClient(request, isUpgrade);
    if (refused !== undefined) {
      const answer = isUpgrade && isBun ? lastOf(refused) : refused;
      return this.#pacer.answer(this.answers.answer(answer, request, handle));
    }
    return this.#within(request, handle, isUpgrade);
  }

  /**
   * Delays the answer to a handshake, where a turn of the loop has many of them: a refusal, or a response in the place
   * of a socket. The host ignores that of an open socket.
   */
  #paced(request: OpenedRequest, answer: unknown): unknown {
    if (answer instanceof Promise) return this.#pacedLater(request, answer);
    if (request[OPENED] === true) return answer;
    if (wantsSocket(request)) {
      // Over its rate, though its route wants a socket: without its context the adapter answers as it is told.
      if (answer instanceof Response && answer.status === 429) forgetContext(request);
      return answer;
    }
    // It may have been answered by its timeout, before its handler. On Node `elysia-node.ts` gives the seat back.
    if (isBun) this.#abandon(request);
    return this.#pacer.answer(answer);
  }

  #pacedLater(request: OpenedRequest, answer: Promise<unknown>): Promise<unknown> {
    return answer.then((given: unknown) => this.#paced(request, given));
  }

  /**
   * True for a request that may become a WebSocket: on Node one whose upgrade the host has seen, on Bun one of a server
   * that listens. An app that another server calls by its `fetch` has none.
   */
  #isHandshake(request: Request): boolean {
    if (!asksForWebSocket(request)) return false;
    return isBun ? this.#server !== undefined : upgradeSocketOf(request) !== undefined;
  }

  /**
   * True if a request needs a token before it is served. The admission of a handshake judges its token, unless the
   * route may be one that has no hook of the guard. A path that Elysia may read otherwise may be any path.
   */
  #needsToken(request: Request, isUpgrade: boolean): boolean {
    const guard = this.#guard;
    if (!guard.judgesRequests) return false;
    const app = this.#app;
    if (isUpgrade && app !== undefined && !this.plainRoutes.mayMissHook(app, request)) return false;
    const { method, url } = request;
    const header = this.#headerOf(request);
    return (
      guard.needsToken(method, url, header) || (isMisread(url) && !isPreflight(method, header))
    );
  }

  /** Returns the answer to a client that is refused before any limit. In a scope, routes judge their own clients. */
  #refusesClient(request: Request, isUpgrade: boolean): Answer | undefined {
    const guard = this.#guard;
    if (!guard.judgesClients || !this.#scope.isGlobal) return undefined;
    if (!isUpgrade && this.#isExempt(request)) return undefined;
    return guard.refusesClient(request, this.#peerOf(request), this.#headerOf(request), isUpgrade);
  }

  /** Serves a request by the app, once it has its token. */
  #serve(request: Request, handle: Handle, isUpgrade: boolean): unknown {
    if (this.#needsToken(request, isUpgrade)) return this.#withToken(request, handle, isUpgrade);
    return isUpgrade ? this.upgrade(request, handle) : handle(request);
  }

  /** Serves a request with a valid token, and answers the others. */
  #withToken(request: Request, handle: Handle, isUpgrade: boolean): unknown {
    const judged = this.#guard.judgeToken(
      this.#peerOf(request),
      headerOf(request),
      request.url,
      request,
    );
    const after = (judgement: TokenJudgement): unknown => {
      const { answer } = judgement;
      if (answer !== undefined) {
        unwatch(request);
        return this.answers.answer(answer, request, handle);
      }
      this.#guard.hasToken(request, judgement);
      return isUpgrade ? this.upgrade(request, handle) : handle(request);
    };
    return judged instanceof Promise ? judged.then(after) : after(judged);
  }

  /** Serves a request within the limits of requests, if there are some. */
  #within(request: Request, handle: Handle, isUpgrade: boolean): unknown {
    const limits = this.#limits;
    const isExempt = this.#isExempt(request);
    if (limits !== undefined && !isExempt)
      return limits(request, handle, isUpgrade ? this.#handshakes : this.#requests);
    const answer =
      isExempt || this.#meter === undefined
        ? this.#serve(request, handle, isUpgrade)
        : this.#measured(this.#meter, request, handle, isUpgrade);
    return isUpgrade ? this.#paced(request, answer) : answer;
  }

  /** Serves a request without limits. */
  #measured(meter: FetchMeter, request: Request, handle: Handle, isUpgrade: boolean): unknown {
    return meter.around(request, () =>
      this.#metered(request, this.#serve(request, handle, isUpgrade)),
    );
  }

  /** The server of the app; `undefined` before it listens. */
  get #server(): RawServer | undefined {
    if (this.#listening !== undefined) return this.#listening;
    // The first request of a test server comes before any hook has shown the server.
    const running = (this.#app as Partial<ListeningElysia> | undefined)?.server ?? undefined;
    return running as RawServer | undefined;
  }

  #peerOf(request: Request, server = this.#server): string {
    const noted = (request as NotedRequest)[PEER];
    if (noted !== undefined) return noted;
    const isArriving = this.#arriving === request;
    if (isArriving && this.#arrivingPeer !== '') return this.#arrivingPeer;
    const peer = server === undefined ? '' : bunPeer(server, request);
    if (isArriving) this.#arrivingPeer = peer;
    return peer;
  }

  /** Returns the reader of a request's headers: one for all questions while the request comes in. */
  #headerOf(request: Request): (name: string) => string {
    if (this.#arriving !== request) return headerOf(request);
    return (this.#arrivingHeader ??= headerOf(request));
  }

  #clientOf(request: Request): string {
    return this.#guard.clientOf(request, this.#peerOf(request), this.#headerOf(request));
  }

  /** True if no limit holds a request. */
  #isExempt({ method, url }: Request): boolean {
    return !isMisread(url) && this.#guard.isExempt(method, url);
  }

  /** A handshake. One that a later hook refuses, or that fails, gives its seat back. */
  upgrade(request: Request, handle: Handle): unknown {
    // On Node the socket opens after its answer: `elysia-node.ts` gives the seat back.
    if (upgradeSocketOf(request) !== undefined) return this.#upgradeOnNode(request, handle);
    const refusal = this.#refusesEarly(request);
    if (refusal !== undefined) return refusal;
    const early = this.#pendingOf(request)[this.#key];
    let result: unknown;
    try {
      result = handle(request);
    } catch (error) {
      this.#abandon(request);
      throw error;
    }
    // A handler that never settles keeps no seat of a client that has left.
    return result instanceof Promise
      ? this.#handledLater(request, early, result, whileWaiting(request, this.#gone))
      : this.#handled(request, early, result);
  }

  #handledLater(
    request: Request,
    early: Admission | undefined,
    result: Promise<unknown>,
    waiting: { forget(): void },
  ): Promise<unknown> {
    return result.then(
      (answer: unknown) => {
        waiting.forget();
        return this.#handled(request, early, answer);
      },
      (error: unknown) => {
        waiting.forget();
        this.#abandon(request);
        throw error;
      },
    );
  }

  /** A handshake on Node. One that can open a socket is no request, and spends no rate of requests. */
  async #upgradeOnNode(request: Request, handle: Handle): Promise<unknown> {
    const answer = await handle(request);
    if (!wantsSocket(request)) return answer;
    // Answered before, by its timeout.
    if (isOver(request)) forgetContext(request);
    else if (canOpen(request)) unwatch(request);
    return answer;
  }

  /** Gives the seats of a handshake back. A socket that has opened took them along. */
  #abandon(request: Request): void {
    const pending = this.#pendingOf(request);
    pending[this.#key]?.end('reset');
    pending[this.#routeKey]?.end('reset');
  }

  /** Returns the answer to a handshake that the app has handled. */
  #handled(request: OpenedRequest, early: Admission | undefined, answer: unknown): unknown {
    this.#abandon(request);
    if (request[OPENED] === true) return answer;
    return this.#statusOf(request, early) ?? answer;
  }

  /**
   * Returns the answer to a handshake that was to be refused by close code, and that Bun could not complete;
   * `undefined` for all others. Elysia's answer to it tells nothing of the refusal.
   * @param early the admission of a plain route
   */
  #statusOf(request: Request, early: Admission | undefined): Response | undefined {
    if (early?.denial === undefined) return undefined;
    this.#meter?.drop(request);
    unwatch(request);
    return responseOf(lastOf(this.#guard.statusAnswerOf(early, request)));
  }

  /** Judges the handshake of a plain route; returns its answer if it is refused. */
  #refusesEarly(request: Request): Response | undefined {
    const guard = this.#guard;
    const server = this.#listening;
    const app = this.#app;
    if (server === undefined || app === undefined || guard.isAsync || !this.#scope.isGlobal)
      return undefined;
    if (this.answers.passesHooks || !this.plainRoutes.has(app, request)) return undefined;
    const pending = guard.admit(
      this.#peerOf(request, server),
      this.#headerOf(request),
      request.url,
      request,
      // `request()` has asked `refusesClient` for this handshake already.
      this.#arriving === request && guard.judgesHandshakes,
    );
    const { answer } = pending;
    if (answer === undefined) {
      this.#pendingOf(request)[this.#key] = pending;
      return undefined;
    }
    this.#meter?.drop(request);
    unwatch(request);
    return responseOf(lastOf(answer));
  }

  /** Returns the monitor's label of a route. Most requests are for the same route as the one before. */
  #labelOf(monitor: ResourceMonitor, method: string, route: string): number {
    const latest = this.#labelled;
    if (latest.method === method && latest.route === route) return latest.label;
    const label = monitor.label(`${method} ${route}`);
    this.#labelled = { method, route, label };
    return label;
  }

  /** The route of a request, once Elysia has found it. */
  transform(request: Request, route: string): void {
    const { monitor } = this.#guard;
    this.#scope.enter(request);
    // A request that the limiter counts is known to the monitor already.
    monitor?.mark(
      this.#labelOf(monitor, request.method, route),
      this.#isCounted ? undefined : this.#guard.lazyTraceOf(request),
    );
    this.#meter?.found(request, route, request.method);
  }

  /**
   * Admits a handshake before its route runs; a promise where the guard has to wait.
   * @param context of the route, which sees its user there
   */
  beforeHandle(
    request: Request,
    given: object,
    context: RouteContext,
    route: string,
  ): undefined | Promise<undefined> {
    const server = given as RawServer;
    const guard = this.#guard;
    this.#wrap(server);
    // Opened by a hook before this one, and judged then.
    if ((request as OpenedRequest)[OPENED] === true) return undefined;
    const early = this.#pendingOf(request)[this.#key];
    if (early !== undefined) {
      context.user ??= early.userId;
      return undefined;
    }
    if (guard.isAsync) return this.#identify(request, server, context, route);
    const peer = this.#peerOf(request, server);
    const pending = guard.admit(peer, this.#headerOf(request), request.url, request);
    return this.#answer(pending, request, context, route);
  }

  #identify(
    request: Request,
    server: RawServer,
    context: RouteContext,
    route: string,
  ): Promise<undefined> {
    const socket = upgradeSocketOf(request);
    const client = socket === undefined ? waitingOn(request) : waitingOnSocket(socket);
    return this.#guard
      .identify(
        request,
        this.#peerOf(request, server),
        this.#headerOf(request),
        request.url,
        client,
      )
      .then((pending) => this.#answer(pending, request, context, route));
  }

  /** A request of a route with options of its own. */
  routeBeforeHandle(
    route: RouteGuard,
    request: Request,
    server: object | null,
    context: RouteContext,
    set: AnswerContext['set'],
    path: string,
  ): undefined | Promise<undefined> {
    if (!isForGuard(request, server)) return this.#judgeRequest(route, request, context, set);
    // A route with a rate is none of `.ws()`: whoever asks it for a socket may get a response.
    const early = route.ratesUsers === false ? this.#rate(route, request, context, set) : undefined;
    if (early !== undefined) return early;
    const seat = (): undefined => {
      const refused = this.#seat(route, request, context, path);
      if (refused !== undefined || route.ratesUsers !== true) return refused;
      return this.#rate(route, request, context, set, this.admissionOf(request)?.userId);
    };
    if (this.#pendingOf(request)[this.#key] !== undefined) return seat();
    // The route lies beyond the scope of the guard: its own options bring it in.
    this.#scope.enter(request);
    const answer = this.beforeHandle(request, server, context, path);
    return answer instanceof Promise
      ? answer.then((response) => response ?? seat())
      : (answer ?? seat());
  }

  /** Takes the seat of a route; gives that of the guard back if there is none. */
  #seat(route: RouteGuard, request: Request, context: RouteContext, path: string): undefined {
    const pending = this.#pendingOf(request);
    const admitted = pending[this.#key];
    const isLate = this.#isLate(request) || admitted?.isRefused === true;
    const further = admitted === undefined || isLate ? undefined : route.seat(admitted, request);
    if (further?.isRefused !== true) {
      pending[this.#routeKey] = further;
      const socket = upgradeSocketOf(request);
      if (socket !== undefined && further !== undefined) endWith(socket, further);
      return undefined;
    }
    // By close code the guard's own manager refuses, which counts the closing sockets.
    if (further.answer === undefined) pending[this.#routeKey] = further;
    else admitted?.end('refusal');
    return this.#refuse(further, request, context, path);
  }

  /** A request of a route with options: the rate of its client, its token, the rate of its user. */
  #judgeRequest(
    route: RouteGuard,
    request: Request,
    context: RouteContext,
    set: AnswerContext['set'],
  ): undefined | Promise<undefined> {
    const early = route.ratesUsers === false ? this.#rate(route, request, context, set) : undefined;
    if (early !== undefined || !route.requiresToken) return early;
    const judged = this.#guard.judgeToken(
      this.#peerOf(request),
      headerOf(request),
      request.url,
      request,
      route.rights,
    );
    const after = (judgement: TokenJudgement): undefined => {
      const { answer, user } = judgement;
      if (answer !== undefined) return this.#refused(answer, request, context);
      context.user ??= user;
      context.claims ??= judgement.claims;
      return route.ratesUsers === true ? this.#rate(route, request, context, set, user) : undefined;
    };
    return judged instanceof Promise ? judged.then(after) : after(judged);
  }

  /**
   * Judges a request by the rate of its route.
   * @param user of its token. Not `context.user`: an application may write a user of its own there, whom the client
   *   chooses.
   */
  #rate(
    route: RouteGuard,
    request: Request,
    context: RouteContext,
    set: AnswerContext['set'],
    user?: string,
  ): undefined {
    const { method, url } = request;
    // Beyond a global guard, no one has asked for the client before.
    const unknown = this.#guard.refusesUnknown(request, this.#peerOf(request), headerOf(request));
    if (unknown !== undefined) return this.#refused(unknown, request, context);
    let client: string | undefined;
    const clientOf = (): string => (client ??= this.#clientOf(request));
    const outcome = route.judge({ method, url, clientOf, traced: request }, user);
    if (outcome?.refusal === undefined) {
      for (const [name, value] of Object.entries(outcome?.headers ?? {}))
        setHeader(set.headers, name, value);
      return undefined;
    }
    const { code, answer } = outcome.refusal;
    this.#guard.manager.rateRefused(clientOf());
    this.#guard.metrics?.recordRefusal(code);
    return this.#refused(this.#guard.shape?.shaped(answer, request) ?? answer, request, context);
  }

  /** True for a handshake that was answered already, or whose client has left: it gets no seat. */
  #isLate(request: Request): boolean {
    return isOver(request) || upgradeSocketOf(request)?.destroyed === true;
  }

  /** Returns the admission of a request that the hook has let in. */
  admissionOf(request: Request): Admission | undefined {
    return this.#pendingOf(request)[this.#key];
  }

  /** Returns the admission to the limits of the route, if it has some. */
  routeAdmissionOf(request: Request): Admission | undefined {
    return this.#pendingOf(request)[this.#routeKey];
  }

  /** True if the socket of a request without an admission is this guard's. */
  covers(request: Request): boolean {
    return this.#scope.covers(request);
  }

  /** Judges a request that passed no hook. */
  admitLate(request: Request): Admission {
    return this.#guard.admitLate(this.#peerOf(request), headerOf(request), request.url, request);
  }

  /** Typed `undefined`, or Elysia adds this response to every route's type, and to its clients'. */
  #answer(pending: Admission, request: Request, context: RouteContext, route: string): undefined {
    if (this.#isLate(request)) pending.end('reset');
    if (pending.isRefused) return this.#refuse(pending, request, context, route);
    this.#pendingOf(request)[this.#key] = pending;
    const socket = upgradeSocketOf(request);
    if (socket !== undefined) endWith(socket, pending);
    context.user ??= pending.userId;
    return undefined;
  }

  /** Refuses a handshake, by status or by close code. No handler of the application runs for it. */
  #refuse(refused: Admission, request: Request, context: RouteContext, route: string): undefined {
    const { answer } = refused;
    if (answer === undefined) {
      this.#pendingOf(request)[this.#key] ??= refused;
      if (isBun) {
        // Elysia answers with what its hook returns, and Bun ignores that once the socket is open.
        if (this.#server?.upgrade(request) === true) return new Response() as unknown as undefined;
      } else if (canOpen(request) && this.#scope.tookSocketRoute(request, route)) return undefined;
    }
    unwatch(request);
    const given = answer ?? this.#guard.statusAnswerOf(refused, request);
    // On Node the answer to a handshake ends its connection anyway.
    return this.#refused(isBun ? lastOf(given) : given, request, context);
  }

  #refused(answer: Answer, request: Request, context: RouteContext): undefined {
    this.#meter?.drop(request);
    return this.answers.inRoute(answer, context) as unknown as undefined;
  }

  /**
   * Makes `server.upgrade()` hand the route's handlers to the guard. Elysia upgrades with the
   * server's own method, offers no hook there, and defines `context.server` so that no other server
   * can take its place.
   */
  #wrap(server: RawServer): void {
    if (this.#wrapped.has(server)) return;
    this.#wrapped.add(server);
    const below = this.#withoutFormer(server.upgrade);
    const upgrade = below.bind(server);
    const guarded: GuardedUpgrade = (request, given) => {
      const admitted = this.#pendingOf(request)[this.#key];
      if (admitted === undefined && !this.#scope.covers(request)) return upgrade(request, given);
      // A route that was registered before the plugin, and a handler that upgrades another request than its
      // own, have no admission yet: they are judged now, and can only be refused by close code.
      const pending =
        admitted ??
        this.#guard.admitLate(
          this.#peerOf(request, server),
          headerOf(request),
          request.url,
          request,
        );
      const further = this.#pendingOf(request)[this.#routeKey];
      let isUpgraded = false;
      try {
        isUpgraded = this.#guardRoute(pending, further, given, request, upgrade);
      } finally {
        // Bun throws for bad options.
        if (!isUpgraded) {
          pending.end('reset');
          further?.end('reset');
        }
      }
      if (isUpgraded) {
        // A WebSocket is no request, whatever response Elysia gives to its own.
        this.#meter?.drop(request);
        // Elysia keeps the request as long as the socket. A hook of a route may still rate its client.
        if (!this.notesPeers) (request as NotedRequest)[PEER] = undefined;
        this.#pendingOf(request)[this.#key] = undefined;
        if (further !== undefined) this.#pendingOf(request)[this.#routeKey] = undefined;
        (request as OpenedRequest)[OPENED] = true;
        unwatch(request);
      }
      return isUpgraded;
    };
    guarded[GUARDED] = { upgrade: below, appOf: () => this.#app };
    server.upgrade = guarded;
  }

  /**
   * Returns the `upgrade()` below those of another app's guards. `bun --hot` evaluates an app again and keeps its
   * server: the guards of the former app would judge each handshake, too.
   */
  #withoutFormer(upgrade: GuardedUpgrade): RawServer['upgrade'] {
    const below = upgrade[GUARDED];
    const app = below?.appOf();
    const own = this.#app;
    return below === undefined || app === undefined || own === undefined || app === own
      ? upgrade
      : this.#withoutFormer(below.upgrade);
  }
}

/** Ends an admission that has not opened with the socket of its handshake: on Node one that fails closes it. */
function endWith(socket: Duplex, pending: Admission): void {
  socket.once('close', () => void pending.end('reset'));
}

function headerOf(request: Request): (name: string) => string {
  return (name) => request.headers.get(name) ?? '';
}

/**
 * Guards every `.ws()` route, on Bun and on Node with `@elysiajs/node`: admits or refuses before the upgrade, counts messages and
 * bytes both ways, closes the idle, gives seats back. Routes stay as they are. `publish()` reaches
 * subscribers without passing their sockets and is not counted.
 *
 * Use it before the routes, and not as a promise: routes registered earlier have no hook before the upgrade.
 * Their clients are judged when they upgrade and can only be refused by close code; where `identify` or fetched
 * keys have to be waited for, they are closed with 1008.
 *
 * Routes reach the manager as `portcullis.manager`, and their connection by `connectionOf(ws)`.
 * A client over the limit of its address or user gets 429, one that comes to a full or draining
 * server 503, both with `Retry-After` and `{ code, message, retryAfterMs }`.
 *
 * @throws ERR_INVALID_ARG_TYPE, ERR_OUT_OF_RANGE, ERR_UNKNOWN_OPTION for the options
 * @example
 * new Elysia()
 *   .use(portcullis({ limits: { maxConnectionsPerIp: 10, connectionTimeoutMs: 30_000 } }))
 *   .ws('/ws', { message: (ws, message) => void ws.send(message) })
 *   .get('/stats', ({ portcullis }) => portcullis.manager.snapshot())
 *   .listen(3000);
 */
export function portcullis<C extends TokenClaims = TokenClaims>(options: ElysiaGuardOptions<C>) {
  const scoping = checkedScoping(options);
  const host = isBun ? bunSockets : wsSockets;
  const guard = new Guard<Request>(
    'portcullis/elysia',
    options as unknown as ElysiaGuardOptions,
    host,
    ['scoping'],
  );
  const { requests } = guard;
  return pluginOf<C>(
    guard,
    requests === undefined || scoping !== 'global'
      ? undefined
      : (request, handle, host) => withinLimits(requests, request, handle, host),
    scoping,
  );
}

const isBun = process.versions['bun'] !== undefined;

/** True for a request that can become a WebSocket: on Node only one whose upgrade the host has seen. */
const isForGuard = (request: Request, server: object | null): server is object =>
  server !== null && asksForWebSocket(request) && (isBun || upgradeSocketOf(request) !== undefined);

/**
 * Returns the hook of a route with options of its own; Elysia's types need not know its context. Its text returns no
 * call, for the reason told at `beforeHandle`.
 */
function routeHook(
  adapter: ElysiaAdapter,
  { isAsync }: Guard<Request>,
  route: RouteGuard,
): () => undefined {
  const hook = isAsync
    ? async function (context: RouteHookContext): Promise<undefined> {
        const { request, server, set, route: path } = context;
        return await adapter.routeBeforeHandle(route, request, server, arguments[0], set, path);
      }
    : function (context: RouteHookContext): undefined {
        const { request, server, set, route: path } = context;
        const answer = adapter.routeBeforeHandle(route, request, server, arguments[0], set, path);
        return answer as undefined;
      };
  adapter.routeGuards.set(hook, route);
  if (route.requiresToken || route.ratesUsers !== undefined) adapter.notesPeers = true;
  return hook as () => undefined;
}

let instances = 0;

/**
 * Makes the plugin of a guard.
 * @param limits runs every request, upgrades included
 * @param scoping routes that it guards
 * @param ownErrorHooks hooks of `onError` that refusals need not pass, since they are ours
 * @internal
 */
export function pluginOf<C extends Claims = Claims>(
  guard: Guard<Request>,
  limits: Around | undefined,
  scoping: GuardScoping = 'global',
  ownErrorHooks = 0,
) {
  const scope = new RouteScope(scoping);
  const adapter = new ElysiaAdapter(guard, limits, scope, ownErrorHooks);
  const onNode = isBun ? undefined : new ElysiaOnNode(guard, adapter);
  const decorator: ElysiaGuard = Object.freeze({
    manager: guard.manager,
    page: guard.page,
    get draining() {
      return guard.draining;
    },
    traceOf: (request: Request) => guard.traceOf(request),
    snapshot: () => guard.snapshot(),
    explainRates: (client: RateQuestion) => guard.explainRates(client),
    close: () => guard.close(),
    [Symbol.dispose]: () => guard.close(),
    drainable: (app: StoppableApp) =>
      onNode?.drainable() ??
      bunDrainable(
        'elysia',
        guard,
        () => app.server as BunServer | null,
        async () => void (app.server === null || (await app.stop(true))),
      ),
  });
  // Elysia compares the seed as JSON, in which two sets of options can be the same.
  const plugin = new Elysia({ name: 'portcullis', seed: ++instances })
    // `connection`, `user` and `claims` are types only: an application may decorate with the same names.
    .decorate({ portcullis: decorator } as GuardContext<C>)
    .macro({
      portcullis(options: RouteGuardOptions) {
        const route = new RouteGuard(guard, options);
        return {
          introspect: (given: object) => route.checkRoute(given),
          beforeHandle: routeHook(adapter, guard, route),
        };
      },
    });
  onNode?.follow(plugin);
  if (!isBun) refuseOwnSockets(plugin);
  if (isBun && scope.isGlobal) limitPayloads(plugin, guard.openSockets.maxMessageSize);
  const wrap = (handle: Handle) => (request: Request) => adapter.request(request, handle);
  plugin.wrap(wrap as Parameters<typeof plugin.wrap>[0]);
  // Elysia parses the source of hooks to see which fields of the context they use: the hooks name
  // them literally and never pass the context on.
  // Typed `global`, which changes no type: the hooks add nothing to a route's.
  const as = scoping as 'global';
  type Routed = { readonly request: Request; readonly route: string };
  const transform = scope.isGlobal
    ? function (context: Routed) {
        const { request, route } = context;
        adapter.transform(request, route);
      }
    : function (context: Routed) {
        const { request, route } = context;
        adapter.transform(request, route);
        // Decorators belong to the whole app: in a scope, routes see the guard of that scope.
        (arguments[0] as { portcullis: ElysiaGuard }).portcullis = decorator;
      };
  if (adapter.watchesRoutes) {
    plugin.onTransform({ as }, transform);
  }
  scope.follow(plugin, transform);
  // A plugin that is given as a promise registers after the server listens: then no `start` event
  // comes, and no hook runs before the routes. Without this hook such a guard would see no upgrade.
  const onRequest = function (context: HookContext): Response | undefined {
    const { request, server } = context;
    if (server) adapter.start(server);
    else adapter.describe();
    return limits === undefined && !guard.judgesRequests && !guard.judgesClients
      ? undefined
      : adapter.answers.request(request, arguments[0]);
  };
  plugin.onRequest(onRequest as () => undefined);
  adapter.answers.follow(onRequest);
  // Elysia awaits a hook whose text has the word `async`, or returns a call: then each request of the app becomes a
  // promise. It does not look into `arguments`.
  const beforeHandle = guard.isAsync
    ? async function (context: HookContext): Promise<undefined> {
        const { request, server, route } = context;
        return isForGuard(request, server)
          ? await adapter.beforeHandle(request, server, arguments[0], route)
          : undefined;
      }
    : function (context: HookContext): undefined {
        const { request, server, route } = context;
        let answer: undefined | Promise<undefined>;
        if (isForGuard(request, server))
          answer = adapter.beforeHandle(request, server, arguments[0], route);
        return answer as undefined;
      };
  adapter.plainRoutes.follow(transform, beforeHandle);
  const guarded = plugin.onBeforeHandle({ as }, beforeHandle as () => undefined);
  guarded.onStart((app) => {
    // Without AOT compilation Elysia silently skips `wrap` and `beforeHandle`: refuse to start.
    if ((app as { config?: { aot?: boolean } }).config?.aot === false) {
      void app.server?.stop(true);
      throw new PortcullisError(
        'ERR_UNSUPPORTED',
        'portcullis/elysia needs aot, which this Elysia has turned off: leave out aot: false',
        { field: 'aot' },
      );
    }
    // The adapter for Node passes itself in the place of the app: `elysia-node.ts` tells of that.
    if (isBun) adapter.begin(app as unknown as ListeningElysia);
  });
  const compile = guarded.compile.bind(guarded);
  guarded.compile = () => {
    // Elysia has replaced this method by the app's; its type says that it is private.
    adapter.compiled(() => (guarded as unknown as CompiledPlugin).getServer());
    return compile();
  };
  return guarded;
}

/**
 * The connection behind a route's `ws`, or `undefined` once it is refused, and for any other object.
 * @throws ERR_INVALID_ARG_TYPE for a value that is no object
 * @example
 * async message(ws, message) {
 *   await connectionOf(ws)?.identify(message.user);
 * }
 */
export function connectionOf(ws: object): ManagedConnection | undefined {
  checkSocket('ws', ws);
  const raw = 'raw' in ws && typeof ws.raw === 'object' && ws.raw !== null ? ws.raw : ws;
  return (raw as GuardedSocket)[CONNECTION];
}
