/** What all parts of one server share: its door, its chain, its end. */
import { authOptions } from '../auth.js';
import type { ManagedConnection } from '../connection.js';
import type { ConnectionStats } from '../connections/manager.js';
import { Door, type GuardStats } from '../door.js';
import { PortcullisError } from '../errors.js';
import { withinLimits } from '../fetching.js';
import type { MessageRouter, MessageStats } from '../messages.js';
import { PerformantMiddlewareChain } from '../middleware/chain.js';
import { resourceLimits } from '../resource-limits.js';
import { ResourceMonitor } from '../resources.js';
import { GracefulShutdown } from '../shutdown/shutdown.js';
import { bunSockets } from '../sockets.js';
import { TimerManager } from '../timers/manager.js';
import { Connection, type ServerConnection } from './connection.js';
import { Context, type RequestContext, hushed, internalError, settings } from './context.js';
import { ENDPOINTS, type Endpoints, type ServerOptions, checkedEndpoints } from './options.js';

/** Counts at one moment. */
export interface ServerStats extends GuardStats {
  readonly connections: ConnectionStats;
  readonly messages: MessageStats;
  /** Moving average of each layer's own milliseconds. */
  readonly middlewares: Readonly<Record<string, number>>;
}

/** Makes what the options ask for, and stands around every request. @internal */
export class Parts {
  readonly limits: ReturnType<typeof resourceLimits>;
  readonly timers: TimerManager;
  readonly door: Door<Request>;
  readonly chain: PerformantMiddlewareChain<RequestContext, RequestContext, Response | undefined>;
  readonly shutdown: GracefulShutdown;
  readonly contexts = new WeakMap<Request, Context>();
  readonly connections = new WeakMap<ManagedConnection, Connection>();
  readonly onError: (error: unknown, where: string) => void;
  readonly endpoints: Required<Endpoints>;
  #version = -1;
  #hasLayers = false;

  constructor(
    options: ServerOptions,
    readonly router: MessageRouter<ServerConnection>,
  ) {
    const limits = resourceLimits(options.limits);
    this.limits = limits;
    this.timers = options.timers ?? new TimerManager({ name: 'server' });
    this.onError = guarded(
      options.onError ?? ((error, where) => console.error(`${where}:`, error)),
    );
    this.endpoints = checkedEndpoints(options.endpoints);
    this.chain = new PerformantMiddlewareChain(options.middlewares ?? [], this.timers, {
      name: 'server',
      onError: (error, { layer }) => this.onError(error, `middleware ${layer}`),
    });
    const { connections } = limits;
    // Its own, if memory is limited and nobody watches it.
    const monitor =
      options.monitor ??
      (options.limits?.memory === undefined
        ? undefined
        : new ResourceMonitor({ memory: limits.memory }, this.timers));
    if (monitor !== undefined) router.observe(monitor);
    this.door = new Door<Request>(
      'ElysiaServerBuilder',
      {
        timers: this.timers,
        limits: {
          maxTotalConnections: connections.maxTotal,
          maxConnectionsPerIp: connections.maxPerIp,
          maxConnectionsPerUser: connections.maxPerUser,
          connectionTimeoutMs: connections.timeoutMs,
        },
        requests: limits.requests,
        websockets: limits.websockets,
        // Whoever asks how the server is must be answered when it is not well. Elysia's routes match with a slash at the end, too.
        exemptPaths: ENDPOINTS.filter(([name]) => this.endpoints[name]).flatMap(([, path]) => [
          path,
          `${path}/`,
        ]),
        onIdentifyError: (error) => this.onError(error, 'auth'),
        ...(monitor === undefined ? {} : { monitor }),
        ...(options.metrics === undefined ? {} : { metrics: options.metrics }),
        page: options.page === undefined ? undefined : { chain: this.chain, ...options.page },
        ...(options.trustedProxies === undefined ? {} : { trustedProxies: options.trustedProxies }),
        json: options.json,
        onInvalidMessage: options.onInvalidMessage,
        ...authOptions(options.auth),
      },
      bunSockets,
    );
    const { onError } = options.shutdown ?? {};
    this.shutdown = new GracefulShutdown(this.timers, {
      ...options.shutdown,
      onError: onError ?? ((error, name) => this.onError(error, `shutdown ${name}`)),
    });
  }

  /** Stands around every request that is not for an endpoint: the limits, then the layers. */
  around(request: Request, handle: () => unknown): unknown {
    const { gate } = this.door;
    return gate === undefined
      ? handle()
      : withinLimits(gate, request, () => this.#layers(request, handle));
  }

  #layers(request: Request, handle: () => unknown): unknown {
    const context = new Context(request);
    this.contexts.set(request, context);
    if (!this.#isBare) return this.#run(context, handle);
    const answered = handle() as Response | undefined | Promise<Response | undefined>;
    return answered instanceof Promise
      ? answered.then((response) => hushed(context, response))
      : hushed(context, answered);
  }

  /** Whether there is no layer: most servers have none, and then a request needs no promise more. */
  get #isBare(): boolean {
    if (this.#version !== this.chain.version) {
      this.#version = this.chain.version;
      this.#hasLayers = this.chain.report().layers.length > 0;
    }
    return !this.#hasLayers;
  }

  async #run(context: Context, handle: () => unknown): Promise<Response | undefined> {
    let isUpgraded = false;
    try {
      const returned = await this.chain.execute()(context, async () => {
        context.response = await hushed(context, (await handle()) as Response | undefined);
        isUpgraded = context.response === undefined;
        return context.response;
      });
      const response = returned instanceof Response ? returned : context.response;
      // An upgrade has no response; a layer that goes no further must give one.
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
      if (!context.request.signal.aborted) this.onError(error, 'middleware');
      return internalError();
    }
  }

  connection(managed: ManagedConnection): Connection {
    let connection = this.connections.get(managed);
    if (connection === undefined)
      this.connections.set(managed, (connection = new Connection(managed)));
    return connection;
  }

  stats(): ServerStats {
    return {
      connections: this.door.manager.getStats(),
      ...this.door.stats(),
      messages: this.router.stats(),
      middlewares: this.chain.getPerformanceMetrics(),
    };
  }
}

function guarded(
  onError: (error: unknown, where: string) => void,
): (error: unknown, where: string) => void {
  return (error, where) => {
    try {
      onError(error, where);
    } catch {
      // A client must not be able to end the server through a hook.
    }
  };
}
