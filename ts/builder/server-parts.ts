/** Parts of one server: its guard, its middleware, its shutdown. */
import { bunSockets } from '../adapters/bun-sockets.js';
import { PortcullisError } from '../base/errors.js';
import { Hooks } from '../base/hooks.js';
import { givenOptions } from '../base/options.js';
import type { RequestTrace } from '../base/trace.js';
import type { ManagedConnection } from '../connections/connection.js';
import type { ConnectionStats } from '../connections/stats.js';
import { authOptions } from '../guard/bearer.js';
import { Guard, type GuardStats } from '../guard/guard.js';
import { LIMITS_ONLY } from '../guard/json-filter.js';
import { type FetchHost, type Handle, withinLimits } from '../http/fetch.js';
import { REFUSAL_OPTIONS } from '../http/refusal-shape.js';
import type { GuardOptions } from '../guard/options.js';
import type { MessageRouter, MessageStats } from '../messages/router.js';
import { PerformantMiddlewareChain } from '../middleware/chain.js';
import type { resourceLimits } from '../resources/resource-limits.js';
import { ResourceMonitor } from '../resources/monitor.js';
import { GracefulShutdown } from '../shutdown/shutdown.js';
import { TimerManager } from '../timers/manager.js';
import { Connection, type ServerConnection } from './connection.js';
import {
  Context,
  type ElysiaAnswer,
  internalError,
  type RequestContext,
  sanitized,
  SentBefore,
  settings,
  Thrown,
} from './context.js';
import {
  checkedEndpoints,
  type Endpoints,
  HEALTH_ENDPOINTS,
  serverLimits,
  type ServerOptions,
} from './options.js';

/** Options that go to the guard as they are. */
const FOR_GUARD = [
  'name',
  'cluster',
  'hostCapacity',
  'hostProcesses',
  'exempt',
  'banAfter',
  'onDrain',
  'requestIdHeader',
  ...REFUSAL_OPTIONS,
] as const;

/** Called with an error, where it came from, and the trace of its request. */
type ErrorHook = (error: unknown, where: string, trace?: RequestTrace) => void;

/** Counts of a server at one moment. */
export interface ServerStats extends GuardStats {
  readonly connections: ConnectionStats;
  readonly messages: MessageStats;
  /** Moving average of each layer's own time, ms. */
  readonly middlewares: Readonly<Record<string, number>>;
}

/** Makes the parts from the options, and runs every request through them. @internal */
export class ServerParts {
  readonly limits: ReturnType<typeof resourceLimits>;
  readonly timers: TimerManager;
  readonly guard: Guard<Request>;
  readonly chain: PerformantMiddlewareChain<RequestContext, RequestContext, Response | undefined>;
  readonly shutdown: GracefulShutdown;
  readonly contexts = new WeakMap<Request, Context>();
  readonly connections = new WeakMap<ManagedConnection, Connection>();
  readonly onError: ErrorHook;
  readonly endpoints: Required<Endpoints>;
  /** Ends each part that was made, in the order of making. */
  readonly #ends: (() => void)[] = [];
  /** Hosts that run the middleware, each by the host of the adapter that it wraps. */
  readonly #hosts = new Map<FetchHost, FetchHost>();
  #version = -1;
  #hasLayers = false;

  /** @throws as the parts that are made; none of them is left then */
  constructor(
    options: ServerOptions,
    readonly router: MessageRouter<ServerConnection>,
  ) {
    this.limits = serverLimits(options.limits);
    this.onError = guarded(
      options.onError ?? ((error, where) => console.error(`${where}:`, error)),
    );
    this.endpoints = checkedEndpoints(options.endpoints);
    this.timers = options.timers ?? new TimerManager({ name: 'server' });
    if (options.timers === undefined) this.#ends.push(() => this.timers.close());
    try {
      this.chain = new PerformantMiddlewareChain(options.middlewares ?? [], this.timers, {
        name: 'server',
        onError: (error, { layer }) => this.onError(error, `middleware ${layer}`),
      });
      this.#ends.push(() => this.chain.close());
      const monitor = this.#monitorOf(options);
      if (monitor !== undefined) router.observe(monitor);
      this.guard = new Guard<Request>(
        'ElysiaServerBuilder',
        this.#guardOptions(options, monitor),
        bunSockets,
      );
      this.#ends.push(() => this.guard.close());
      const { onError } = options.shutdown ?? {};
      this.shutdown = new GracefulShutdown(this.timers, {
        ...options.shutdown,
        onError: onError ?? ((error, name) => this.onError(error, `shutdown ${name}`)),
      });
      this.#ends.push(() => this.shutdown.close());
    } catch (error) {
      this.discard();
      throw error;
    }
  }

  /** Ends all parts, at once: those of a server that cannot be built. Timers that were given stay open. */
  discard(): void {
    for (const end of this.#ends.toReversed()) end();
  }

  /** Returns the monitor of the options, or one of the server's own where memory is limited. */
  #monitorOf({ monitor, limits }: ServerOptions): ResourceMonitor | undefined {
    if (monitor !== undefined || limits?.memory === undefined) return monitor;
    const own = new ResourceMonitor({ memory: this.limits.memory }, { timers: this.timers });
    this.#ends.push(() => own.close());
    return own;
  }

  #guardOptions(
    options: ServerOptions,
    monitor: ResourceMonitor | undefined,
  ): GuardOptions<Request> {
    const { connections, requests, websockets } = this.limits;
    const { page, metrics, trustedProxies, clientAddress, allowedOrigins } = options;
    return {
      timers: this.timers,
      limits: {
        maxTotalConnections: connections.maxTotal,
        maxConnectionsPerIp: connections.maxPerIp,
        maxConnectionsPerUser: connections.maxPerUser,
        connectionTimeoutMs: connections.timeoutMs,
        ...options.rates,
      },
      requests: { ...requests, ...options.requests },
      websockets,
      // Health checks must be answered under load, and show nothing: all else passes the guard. Elysia's routes also
      // match with a slash at the end.
      exemptPaths: HEALTH_ENDPOINTS.filter(([name]) => this.endpoints[name]).flatMap(([, path]) => [
        path,
        `${path}/`,
      ]),
      onIdentifyError: (error, _ip, trace) => this.onError(error, 'auth', trace),
      page: page === undefined ? undefined : { ...page, chain: page.chain ?? this.chain },
      clientAddress,
      allowedOrigins,
      ...givenOptions({ monitor, metrics, trustedProxies }),
      ...givenOptions(Object.fromEntries(FOR_GUARD.map((name) => [name, options[name]]))),
      json: options.json ?? LIMITS_ONLY,
      onInvalidMessage: options.onInvalidMessage,
      ...authOptions(options.auth),
    };
  }

  /** Runs a request that is not for a health endpoint: the limits first, then the middleware. */
  around(request: Request, handle: Handle, host: FetchHost): unknown {
    const { requests: gate } = this.guard;
    if (gate !== undefined) return withinLimits(gate, request, handle, this.#layered(host));
    const { meter } = host;
    const served = (): unknown => host.serve(request, handle);
    return meter === undefined ? served() : meter.around(request, served);
  }

  /** Wraps a host of the adapter: it runs the middleware, within the limits. */
  #layered(host: FetchHost): FetchHost {
    const known = this.#hosts.get(host);
    if (known !== undefined) return known;
    const layered: FetchHost = {
      ...host,
      serve: (request, handle) => this.#layers(request, () => host.serve(request, handle)),
    };
    this.#hosts.set(host, layered);
    return layered;
  }

  #layers(request: Request, handle: () => unknown): unknown {
    const context = new Context(request, this.guard.tracer);
    this.contexts.set(request, context);
    return this.#isBare ? this.#routed(context, handle) : this.#run(context, handle);
  }

  /** Has the route answer. */
  #routed(
    context: Context,
    handle: () => unknown,
  ): Response | undefined | Promise<Response | undefined> {
    // Elysia itself throws at what it cannot answer, as `undefined`; Bun would show the source to the client.
    const failed = (error: unknown): Response => {
      if (context.thrown === undefined) this.onError(error, 'route', context);
      return internalError();
    };
    try {
      const answered = handle() as Response | undefined | Promise<Response | undefined>;
      return answered instanceof Promise
        ? answered.then((response) => sanitized(context, response), failed)
        : sanitized(context, answered);
    } catch (error) {
      return failed(error);
    }
  }

  /** Notes and reports an error of a route that is not meant for the client. */
  thrown(request: Request, error: unknown, answer: ElysiaAnswer): void {
    const context = this.contexts.get(request);
    if (context !== undefined) context.thrown = new Thrown(error, answer);
    this.onError(error, 'route', this.guard.lazyTraceOf(request));
  }

  /** Notes that a route answers with a text. */
  answersText(request: Request): void {
    const context = this.contexts.get(request);
    if (context !== undefined) context.isText = true;
  }

  /** Reports a response that the host could not send, and returns the one in its place. */
  unsent(error: unknown): Response {
    this.onError(error, 'response');
    return internalError();
  }

  /** True without middleware, as on most servers: then a request needs no further promise. */
  get #isBare(): boolean {
    if (this.#version !== this.chain.version) {
      this.#version = this.chain.version;
      this.#hasLayers = this.chain.snapshot().layers.length > 0;
    }
    return !this.#hasLayers;
  }

  async #run(context: Context, handle: () => unknown): Promise<Response | undefined> {
    let isUpgraded = false;
    try {
      const returned = await this.chain.execute()(context, async () => {
        context.response = context.routed = await this.#routed(context, handle);
        isUpgraded = context.response === undefined;
        return context.response;
      });
      const response = returned instanceof Response ? returned : context.response;
      // An upgrade has no response; a layer that does not call `next` must give one.
      if (response !== undefined || isUpgraded) return settings(context, response);
      const { status } = context.set;
      if (status !== undefined) return settings(context, new Response(null, { status }));
      throw new PortcullisError(
        'ERR_NO_RESPONSE',
        'a layer gave no response and did not go on: it has to return one, set context.response or a status, or return next()',
        {
          field: 'middlewares',
        },
      );
    } catch (error) {
      if (error instanceof Response) return error;
      if (error instanceof SentBefore) return this.unsent(error);
      if (!context.request.signal.aborted) this.onError(error, 'middleware', context);
      return internalError();
    }
  }

  connection(managed: ManagedConnection): Connection {
    let connection = this.connections.get(managed);
    if (connection === undefined)
      this.connections.set(managed, (connection = new Connection(managed)));
    return connection;
  }

  snapshot(): ServerStats {
    return {
      connections: this.guard.manager.getStats(),
      ...this.guard.snapshot(),
      messages: this.router.snapshot(),
      middlewares: this.chain.getPerformanceMetrics(),
    };
  }
}

function guarded(onError: NonNullable<ServerOptions['onError']>): ErrorHook {
  // A client could end the server through a hook that fails.
  const hooks = new Hooks();
  return (error, where, trace) => hooks.run('onError', () => onError(error, where, trace));
}
