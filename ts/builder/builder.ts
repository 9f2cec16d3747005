/** Builds a whole server on Elysia and Bun. Its length is its public methods: one for each option. */
import { Elysia } from 'elysia';
import { bunDrainable, type BunServer, requireBun } from '../adapters/bun-server.js';
import { PortcullisError, wrongType } from '../base/errors.js';
import { optionsObject } from '../base/options.js';
import type { Cluster } from '../cluster/cluster.js';
import type { ConnectionManager } from '../connections/manager.js';
import type { BearerVerifier, TokenAuth } from '../guard/bearer.js';
import type { MessageOptions } from '../guard/json-filter.js';
import type { RateExplanation, RateQuestion } from '../http/request-rates.js';
import {
  handledAlready,
  type MessageHandler,
  MessageRouter,
  type MessageTypeOptions,
} from '../messages/router.js';
import type { ProductionMetrics } from '../metrics/metrics.js';
import type { PerformantMiddlewareChain } from '../middleware/chain.js';
import type { PageOptions } from '../page/live-page.js';
import { mergedLimits, type ResourceLimitsInput } from '../resources/resource-limits.js';
import type { ResourceMonitor } from '../resources/monitor.js';
import type { ShutdownResult } from '../shutdown/result.js';
import { deferred } from '../shutdown/deadline.js';
import { checkedHook, type ShutdownHook } from '../shutdown/hooks.js';
import type { GracefulShutdown } from '../shutdown/shutdown.js';
import type { TimerManager } from '../timers/manager.js';
import type { TokenVerifier } from '../tokens/verifier.js';
import type { JsonLimits } from '../validators/json-limits.js';
import { baseApp, type BaseApp } from './app.js';
import type { Connection, ServerConnection } from './connection.js';
import type { RequestContext, ServerMiddleware } from './context.js';
import {
  addHandlers,
  checkOptions,
  type Endpoints,
  type ServerOptions,
  serverOptions,
  type WebSocketOptions,
} from './options.js';
import { ServerParts, type ServerStats } from './server-parts.js';

/** A server that is listening. */
export interface RunningServer<App> {
  readonly app: App;
  /** URL of the server, such as `http://localhost:3000/`. */
  readonly url: URL;
  readonly port: number;
  readonly manager: ConnectionManager;
  readonly timers: TimerManager;
  /** Middleware around every request; may be changed while the server runs. */
  readonly middlewares: PerformantMiddlewareChain<
    RequestContext,
    RequestContext,
    Response | undefined
  >;
  readonly shutdown: GracefulShutdown;
  snapshot(): ServerStats;
  /** Returns the rates of `requests.rate` that a request of a client would meet, as the guard's. */
  explainRates(client: RateQuestion): RateExplanation[];
  /** Shuts the server down gracefully; returns the same promise every time. */
  close(): Promise<ShutdownResult>;
  /** The same as `close()`. */
  stop(): Promise<ShutdownResult>;
  [Symbol.asyncDispose](): Promise<void>;
}

/** A server that is built. */
interface Built<App> {
  readonly app: App;
  readonly parts: ServerParts;
  /** Errors of plugins that could not load. */
  readonly failures: readonly unknown[];
}

/**
 * Builds a production server on Elysia and Bun: guarded connections, enforced limits, middleware, typed
 * messages, health endpoints and a graceful shutdown.
 *
 * @example
 * const server = await new ElysiaServerBuilder({ port: 3000, shutdown: { signals: ['SIGTERM'] } })
 *   .on('add', (_connection, { payload }) => ({ type: 'sum', payload: payload.a + payload.b }), isPair)
 *   .routes((app) => app.get('/hello', () => 'hello'))
 *   .start();
 */
export class ElysiaServerBuilder<App = BaseApp> {
  #options: ServerOptions;
  /** Handlers of `on()`: each `build()` makes a router of them, so that one that fails leaves nothing behind. */
  readonly #handlers: Parameters<MessageRouter<ServerConnection>['on']>[] = [];
  /** Checks handlers as they are added; holds them until the server is built. */
  readonly #checks = new MessageRouter<ServerConnection>();
  readonly #routes: ((app: unknown) => unknown)[] = [];
  readonly #hooks: Parameters<GracefulShutdown['onShutdown']>[] = [];
  #built: Built<App> | undefined;
  #running: Promise<RunningServer<App>> | undefined;

  /** @throws ERR_UNSUPPORTED on Node; ERR_INVALID_ARG_TYPE, ERR_OUT_OF_RANGE, ERR_UNKNOWN_OPTION for the options */
  constructor(options: ServerOptions = {}) {
    requireBun('ElysiaServerBuilder');
    this.#options = serverOptions(options);
    checkOptions(this.#options, false);
  }

  #set(changes: ServerOptions): this {
    this.#checkOpen();
    const options = { ...this.#options, ...serverOptions(changes) };
    checkOptions(options, false);
    const twice = Object.keys(options.websocket?.handlers ?? {}).find((type) =>
      this.#checks.has(type),
    );
    if (twice !== undefined) throw handledAlready('websocket.handlers', twice);
    this.#options = options;
    return this;
  }

  /** Sets some options of a section; absent ones stay as they are. */
  #merge<K extends 'websocket' | 'rates' | 'shutdown' | 'endpoints'>(
    section: K,
    given: NonNullable<ServerOptions[K]>,
  ): this {
    optionsObject(section, given);
    const { [section]: changes } = serverOptions({ [section]: given });
    return this.#set({ [section]: { ...this.#options[section], ...changes } });
  }

  #checkOpen(): void {
    if (this.#built !== undefined)
      throw new PortcullisError('ERR_CLOSED', 'the server is built: it cannot be changed');
  }

  /** Sets the port. */
  port(port: number): this {
    return this.#set({ port });
  }
  /** Sets the address to listen on. */
  hostname(hostname: string): this {
    return this.#set({ hostname });
  }
  /** Sets options of WebSockets; missing ones stay as they are. */
  websocket(websocket: WebSocketOptions): this {
    return this.#merge('websocket', websocket);
  }
  /**
   * Sets limits; missing sections and fields stay as they are. A limit that is set by its alias replaces the one of
   * its name, and the other way round.
   */
  limits(limits: ResourceLimitsInput): this {
    return this.#set({ limits: mergedLimits(this.#options.limits ?? {}, limits) });
  }
  /** Sets the rates of HTTP requests. */
  requests(requests: NonNullable<ServerOptions['requests']>): this {
    return this.#set({ requests });
  }
  /** Sets rates of connects and messages; missing ones stay as they are. */
  rates(rates: NonNullable<ServerOptions['rates']>): this {
    return this.#merge('rates', rates);
  }
  /** Adds a middleware layer around every request. */
  middleware(item: ServerMiddleware): this {
    return this.#set({ middlewares: [...(this.#options.middlewares ?? []), item] });
  }
  /** Sets the verifier of bearer tokens. */
  auth(auth: TokenVerifier | TokenAuth | BearerVerifier): this {
    return this.#set({ auth });
  }
  /** Sets the networks of your own proxies. */
  trustedProxies(trustedProxies: readonly string[]): this {
    return this.#set({ trustedProxies });
  }
  /** Sets the source of the client's address. */
  clientAddress(clientAddress: NonNullable<ServerOptions['clientAddress']>): this {
    return this.#set({ clientAddress });
  }
  /** Sets the pages that may connect. */
  allowedOrigins(allowedOrigins: NonNullable<ServerOptions['allowedOrigins']>): this {
    return this.#set({ allowedOrigins });
  }
  /**
   * Sets the cluster whose processes count connections together, and the name that they share.
   * @param cluster `'host'` for all processes of this Linux host, without a server
   * @param name as that of `name()`, which may set it instead
   */
  cluster(cluster: Cluster | 'host', name?: string): this {
    return this.#set({ cluster, name });
  }
  /** Sets the name under which the limits of connections count. */
  name(name: string): this {
    return this.#set({ name });
  }
  /** Sets the keys that `cluster: 'host'` can count at once. */
  hostCapacity(hostCapacity: number): this {
    return this.#set({ hostCapacity });
  }
  /** Sets the processes that `cluster: 'host'` can count at once. */
  hostProcesses(hostProcesses: number): this {
    return this.#set({ hostProcesses });
  }
  /** Sets the clients that the limits of an address never refuse. */
  exempt(exempt: NonNullable<ServerOptions['exempt']>): this {
    return this.#set({ exempt });
  }
  /** Sets the failures after which an address is banned. */
  banAfter(banAfter: NonNullable<ServerOptions['banAfter']>): this {
    return this.#set({ banAfter });
  }
  /** Sets the function that is called for each open WebSocket right before the close of a shutdown. */
  onDrain(onDrain: NonNullable<ServerOptions['onDrain']>): this {
    return this.#set({ onDrain });
  }
  /** Sets the function that returns the answers to refused requests and handshakes. */
  onRefused(onRefused: NonNullable<ServerOptions['onRefused']>): this {
    return this.#set({ onRefused });
  }
  /** Sets the headers of every refusal. */
  refusalHeaders(refusalHeaders: NonNullable<ServerOptions['refusalHeaders']>): this {
    return this.#set({ refusalHeaders });
  }
  /** Sets the format of refusals. */
  refusalFormat(refusalFormat: NonNullable<ServerOptions['refusalFormat']>): this {
    return this.#set({ refusalFormat });
  }
  /** Sets the limits of messages as JSON. */
  json(json: JsonLimits): this {
    return this.#set({ json });
  }
  /** Sets the action for messages that the limits of `json` refuse. */
  onInvalidMessage(onInvalidMessage: NonNullable<MessageOptions['onInvalidMessage']>): this {
    return this.#set({ onInvalidMessage });
  }
  /** Sets the header with the id of a request; `false` for none. */
  requestIdHeader(requestIdHeader: string | false): this {
    return this.#set({ requestIdHeader });
  }
  /** Sets options of the shutdown; missing ones stay as they are. */
  shutdown(shutdown: NonNullable<ServerOptions['shutdown']>): this {
    return this.#merge('shutdown', shutdown);
  }
  /** Switches endpoints on or off; missing ones stay as they are. */
  endpoints(endpoints: Endpoints): this {
    return this.#merge('endpoints', endpoints);
  }
  /** Sets the monitor, which counts requests, watches for stalls and decides what to shed. */
  monitor(monitor: ResourceMonitor): this {
    return this.#set({ monitor });
  }
  /** Sets the metrics, which count requests, connections, messages, users and refusals. */
  metrics(metrics: ProductionMetrics): this {
    return this.#set({ metrics });
  }
  /** Sets the owner of all timers. The shutdown clears its timers. */
  timers(timers: TimerManager): this {
    return this.#set({ timers });
  }
  /** Sets the live page. */
  page(page: PageOptions): this {
    return this.#set({ page });
  }
  /** Sets the function that is called with every error, and with the trace of its request, if there is one. */
  onError(onError: NonNullable<ServerOptions['onError']>): this {
    return this.#set({ onError });
  }

  /**
   * Handles the messages of one type. The handler's result is sent back.
   * @param type 1 to 128 characters
   * @param check returns true for a payload that the handler accepts, or `{ check, rate }`; default:
   * every payload, at any rate
   * @throws as `MessageRouter.on`; ERR_CLOSED once built
   */
  on<T = unknown>(
    type: string,
    handle: MessageHandler<T, ServerConnection>,
    check?: ((payload: unknown) => payload is T) | MessageTypeOptions<T>,
  ): this {
    this.#checkOpen();
    if (Object.hasOwn(this.#options.websocket?.handlers ?? {}, type))
      throw handledAlready('type', type);
    this.#checks.on(type, handle, check);
    this.#handlers.push([type, handle as MessageHandler<unknown, ServerConnection>, check]);
    return this;
  }

  /**
   * Adds a shutdown hook, as `GracefulShutdown.onShutdown`.
   * @throws ERR_INVALID_ARG_TYPE, ERR_OUT_OF_RANGE, ERR_UNKNOWN_OPTION; ERR_CLOSED once built
   */
  onShutdown(
    name: string,
    hook: ShutdownHook,
    options: { readonly timeoutMs?: number | undefined } = {},
  ): this {
    this.#checkOpen();
    checkedHook(name, hook, options, 1);
    this.#hooks.push([name, hook, { ...options }]);
    return this;
  }

  /** Adds routes and plugins of Elysia; the type of the app goes along. */
  routes<Next>(add: (app: App) => Next): ElysiaServerBuilder<Next> {
    this.#checkOpen();
    if (typeof add !== 'function') throw wrongType('add', add, 'a function');
    this.#routes.push(add as (app: unknown) => unknown);
    return this as unknown as ElysiaServerBuilder<Next>;
  }

  /** Returns a router with all handlers. */
  #router(): MessageRouter<ServerConnection> {
    const router = new MessageRouter<ServerConnection>({
      onError: (error, type, connection) =>
        this.#built?.parts.onError(error, `message ${type}`, (connection as Connection).trace),
      onRateExceeded: (exceeded) => this.#options.websocket?.onRateExceeded?.(exceeded),
    });
    for (const handler of this.#handlers) router.on(...handler);
    const { handlers, handler } = this.#options.websocket ?? {};
    addHandlers(router, handlers);
    if (!router.has('ping'))
      router.on('ping', (_connection, { payload }) => ({ type: 'pong', payload }));
    if (handler?.message !== undefined)
      router.otherwise(
        async (connection, message) => void (await handler.message?.(connection, message)),
      );
    return router;
  }

  #build(): Built<App> {
    if (this.#built !== undefined) return this.#built;
    checkOptions(this.#options, true);
    const parts = new ServerParts(this.#options, this.#router());
    const failures: unknown[] = [];
    let app: unknown;
    try {
      for (const hook of this.#hooks) parts.shutdown.onShutdown(...hook);
      app = baseApp(parts, this.#options);
      notePlugins(app, parts, failures);
      for (const add of this.#routes) notePlugins((app = add(app)), parts, failures);
      if (!(app instanceof Elysia))
        throw wrongType('add', app, 'a function that returns an Elysia app');
    } catch (error) {
      parts.discard();
      throw error;
    }
    const made = app;
    parts.shutdown.add(
      bunDrainable(
        'elysia',
        parts.guard,
        () => made.server as BunServer | null,
        async () => {
          if (made.server !== null) await made.stop(true);
        },
      ),
    );
    this.#checks.close();
    this.#built = { app: app as App, parts, failures };
    return this.#built;
  }

  /** Builds the app without listening; returns the same app every time. */
  build(): App {
    return this.#build().app;
  }

  /**
   * Builds the app and listens.
   * @returns the same promise every time; rejects if the port is taken, with the error of a plugin that could not load,
   * and with ERR_CLOSED if the shutdown begins before the server listens, as by a signal while plugins load
   */
  start(): Promise<RunningServer<App>> {
    this.#running ??= this.#listen();
    return this.#running;
  }

  async #listen(): Promise<RunningServer<App>> {
    const { app, parts, failures } = this.#build();
    const elysia = app as unknown as Elysia;
    try {
      await loaded(elysia, parts.shutdown);
      if (failures.length > 0) throw failures[0];
      elysia.listen({ port: this.#options.port ?? 3000 });
      const { server } = elysia;
      if (server === null || server.port === undefined)
        throw new PortcullisError('ERR_INTERNAL', 'the server does not listen');
      return running(app, parts, { url: server.url, port: server.port });
    } catch (error) {
      // Releases the timers and signal listeners of a server that never listened.
      await parts.shutdown.shutdown('failed to start');
      parts.shutdown.close();
      throw error;
    }
  }
}

/** Notes and reports the plugins of an app that cannot load: Elysia only logs their errors. */
function notePlugins(app: unknown, parts: ServerParts, failures: unknown[]): void {
  if (!(app instanceof Elysia)) return;
  app.modules.onError = (error: unknown) => {
    failures.push(error);
    parts.onError(error, 'plugin');
  };
}

/**
 * Waits for the plugins that an app loads, whether they can load or not.
 * @throws by rejection: ERR_CLOSED if the shutdown begins before that
 */
async function loaded(app: Elysia, shutdown: GracefulShutdown): Promise<void> {
  const { promise: begun, resolve } = deferred<void>();
  shutdown.add({ name: 'start', notReady: () => resolve() });
  await Promise.race([app.modules, begun]);
  if (shutdown.phase !== 'running')
    throw new PortcullisError('ERR_CLOSED', 'the server was shut down before it listened');
}

/** Returns the server that the application gets. */
function running<App>(
  app: App,
  parts: ServerParts,
  at: { readonly url: URL; readonly port: number },
): RunningServer<App> {
  const stop = (): Promise<ShutdownResult> => parts.shutdown.shutdown('stop');
  return {
    app,
    ...at,
    manager: parts.guard.manager,
    timers: parts.timers,
    middlewares: parts.chain,
    shutdown: parts.shutdown,
    snapshot: () => parts.snapshot(),
    explainRates: (client) => parts.guard.explainRates(client),
    close: stop,
    stop,
    async [Symbol.asyncDispose]() {
      await stop();
      parts.shutdown.close();
    },
  };
}
