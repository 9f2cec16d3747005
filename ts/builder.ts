/** A whole server on Elysia: guarded, limited, with typed messages, and an end that loses nobody. */
import { Elysia } from 'elysia';
import { type BearerVerifier, type TokenAuth, authOptions } from './auth.js';
import type { TokenVerifier } from './tokens.js';
import type { JsonLimits } from './validators/json.js';
import { type BunServer, bunPart } from './bun-server.js';
import type { ConnectionMetadata, ManagedConnection } from './connection.js';
import type { ConnectionManager, ConnectionStats } from './connections.js';
import { Door, type GuardStats, requireBun, trustOf } from './door.js';
import { connectionOf, pluginOf } from './elysia-plugin.js';
import { PortcullisError, knownOptions, outOfRange, wholeNumber, wrongType } from './errors.js';
import { responseOf, withinLimits } from './fetching.js';
import { MessageGate, type MessageOptions } from './message-gate.js';
import { type MessageHandler, MessageRouter, type MessageStats, type Outgoing, type Reply } from './messages.js';
import { PerformantMiddlewareChain } from './middleware/chain.js';
import type { MiddlewareItem } from './middleware/contract.js';
import { type PageOptions, checkedPage } from './page/live-page.js';
import { answerWith } from './requests.js';
import { type ResourceLimits, type ResourceLimitsInput, resourceLimits } from './resource-limits.js';
import { ProductionMetrics } from './kpi/metrics.js';
import { ResourceMonitor } from './resources.js';
import { GracefulShutdown, type ShutdownHook, type ShutdownOptions, type ShutdownResult } from './shutdown.js';
import { bunSockets } from './sockets.js';
import { TimerManager } from './timers.js';
import type { TypedWebSocketConnection, TypedWebSocketHandler } from './types.js';

/** Headers by name. Cookies, one or several, are added to those that the response has; all others take the place of what it has. */
export type HeadersToSet = Record<string, string> & { 'set-cookie'?: string | readonly string[] };

/** What runs around a request: middleware reads and sets it. */
export interface RequestContext {
  readonly request: Request;
  /** Put on the response, whoever makes it. */
  readonly set: { status?: number | undefined; readonly headers: HeadersToSet };
  /** The response so far: what the route made, or what a layer gives instead of calling `next`. */
  response: Response | undefined;
  /** Aborts when the request's time is over, its client gone or the server forced down. */
  signal: AbortSignal;
  /** For whatever layers and routes hand to each other; routes find it as `requestContext.store`. */
  readonly store: Record<string, unknown>;
}

/** A layer around every request. It may answer by itself: by returning a response, or setting `context.response`. */
export type ServerMiddleware = MiddlewareItem<RequestContext, Response | undefined>;

/** A connection, as handlers of messages see it. */
export interface ServerConnection extends TypedWebSocketConnection<ManagedConnection['socket']> {
  readonly userId: string | undefined;
  /** Sends a message in its envelope; `false` if it was dropped. */
  send(message: Outgoing): boolean;
  /** Closes it: 1000, unless told otherwise. */
  close(code?: number, reason?: string): void;
}

/** How WebSockets are served. */
export interface WebSocketOptions {
  /** Default `true`. */
  readonly enabled?: boolean | undefined;
  /** Default `/ws`. */
  readonly path?: string | undefined;
  /**
   * Handlers by the type of their messages, as `.on(type, handle)` sets them:
   * `{ say: (connection, message: TypedWebSocketMessage<{ text: string }>) => … }`.
   */
  readonly handlers?: Readonly<Record<string, MessageHandler<never, ServerConnection>>> | undefined;
  /** Told of every connection; its `message` gets the types that have no handler of their own. */
  readonly handler?: TypedWebSocketHandler | undefined;
  /** What a message that cannot be handled brings its sender: an answer of type `error`, or also a close with 1007. Default `reply`. */
  readonly onInvalid?: 'reply' | 'close' | undefined;
}

/** Which endpoints there are; each by default. */
export interface Endpoints {
  /** `GET /health/live`: 200 as long as there is a process. */
  readonly live?: boolean | undefined;
  /** `GET /health/ready`: 200, or 503 with problem details. */
  readonly ready?: boolean | undefined;
  /** `GET /stats`: counts of connections, requests, messages. */
  readonly stats?: boolean | undefined;
}

/** Options of a server. */
export interface ServerOptions {
  /** 0 to 65535; 0 picks a free one. Default 3000. */
  readonly port?: number | undefined;
  /** The address to listen at. Default: all. */
  readonly hostname?: string | undefined;
  /** How WebSockets are served. Default: at `/ws`, with `ping` answered. */
  readonly websocket?: WebSocketOptions | undefined;
  /** Those that are missing have their defaults. `memory` makes a `ResourceMonitor` that watches it, unless `monitor` is given, which has its own. */
  readonly limits?: ResourceLimitsInput | undefined;
  /** Layers around every request, upgrades too. */
  readonly middlewares?: readonly ServerMiddleware[] | undefined;
  /** Verifies the token of every upgrade, as for the guard, or with any verifier of bearer tokens; its `sub` becomes the user. Default: nobody is asked. */
  readonly auth?: TokenVerifier | TokenAuth | BearerVerifier | undefined;
  /** Counts connections and requests, is told what runs, and decides what to shed. Health endpoints are never shed. */
  readonly monitor?: ResourceMonitor | undefined;
  /** Counts requests, connections, messages, users and refusals. */
  readonly metrics?: ProductionMetrics | undefined;
  /** As for the guard. */
  readonly trustedProxies?: readonly string[] | undefined;
  /** As for the guard: judges every message before it is parsed. Default: the size alone is limited. */
  readonly json?: JsonLimits | undefined;
  /** As for the guard: what becomes of a message that `json` refuses. Default `close`. */
  readonly onInvalidMessage?: MessageOptions['onInvalidMessage'];
  /** How it ends. Default: as in `ShutdownOptions`, by no signal. */
  readonly shutdown?: ShutdownOptions | undefined;
  /** Which endpoints there are; neither limited, shed nor counted by `metrics`. Default: all. */
  readonly endpoints?: Endpoints | undefined;
  /** A page that shows what the server is doing, with its chain of middleware. Default: none. */
  readonly page?: PageOptions | undefined;
  /** Owner of all timers. Default: a new one. The shutdown clears it. */
  readonly timers?: TimerManager | undefined;
  /**
   * Told what middleware, routes, handlers of messages and hooks have thrown. The client is told nothing of it: it gets 500 and
   * `internal_error`, unless a hook `onError` of your routes answers, with another text than the error's own. Default: `console.error`.
   */
  readonly onError?: ((error: unknown, where: string) => void) | undefined;
}

/** Counts at one moment. */
export interface ServerStats extends GuardStats {
  readonly connections: ConnectionStats;
  readonly messages: MessageStats;
  /** Moving average of each layer's own milliseconds. */
  readonly middlewares: Readonly<Record<string, number>>;
}

/** A server that listens. */
export interface RunningServer<App> {
  readonly app: App;
  /** Such as `http://localhost:3000/`. */
  readonly url: URL;
  readonly port: number;
  readonly manager: ConnectionManager;
  readonly timers: TimerManager;
  /** The layers around every request; may be changed while it runs. */
  readonly middlewares: PerformantMiddlewareChain<RequestContext, RequestContext, Response | undefined>;
  readonly shutdown: GracefulShutdown;
  stats(): ServerStats;
  /** Ends it gracefully; the same promise however often it is called. */
  stop(): Promise<ShutdownResult>;
}

const OPTIONS = [
  'port',
  'hostname',
  'websocket',
  'limits',
  'middlewares',
  'auth',
  'trustedProxies',
  'json',
  'onInvalidMessage',
  'shutdown',
  'endpoints',
  'page',
  'timers',
  'monitor',
  'metrics',
  'onError',
] as const;
const LIVE_PATH = '/health/live';
const READY_PATH = '/health/ready';
const STATS_PATH = '/stats';
const ENDPOINTS = [
  ['live', LIVE_PATH],
  ['ready', READY_PATH],
  ['stats', STATS_PATH],
] as const;
/** Bytes that Bun takes of a body above the guard's own limit. */
const BODY_SLACK = 2 ** 20;
/** Seconds for which Bun lets a connection be silent, at most. */
const IDLE_MAX_S = 255;

class Context implements RequestContext {
  readonly request: Request;
  readonly set: { status?: number | undefined; readonly headers: HeadersToSet } = { headers: {} };
  response: Response | undefined;
  readonly store: Record<string, unknown> = {};
  /** What a route has thrown: of an error nobody meant for the client, its message. */
  thrown: string | undefined;
  #signal: AbortSignal | undefined;

  constructor(request: Request) {
    this.request = request;
  }
  // Made when it is first asked for.
  get signal(): AbortSignal {
    return (this.#signal ??= this.request.signal);
  }
  set signal(signal: AbortSignal) {
    this.#signal = signal;
  }
}

class Connection implements ServerConnection {
  readonly #connection: ManagedConnection;
  #createdAt: Date | undefined;

  constructor(connection: ManagedConnection) {
    this.#connection = connection;
  }
  get id(): string {
    return this.#connection.id;
  }
  get socket(): ManagedConnection['socket'] {
    return this.#connection.socket;
  }
  get metadata(): ConnectionMetadata {
    return this.#connection.metadata;
  }
  get userId(): string | undefined {
    return this.#connection.userId;
  }
  get createdAt(): Date {
    return (this.#createdAt ??= new Date(this.#connection.createdAt));
  }
  get lastActivity(): Date {
    return new Date(this.#connection.lastActivity);
  }
  set lastActivity(at: Date) {
    this.#connection.lastActivity = at.getTime();
  }
  get isAlive(): boolean {
    return this.#connection.isAlive;
  }
  get messageCount(): number {
    return this.#connection.messageCount;
  }
  get bytesReceived(): number {
    return this.#connection.bytesReceived;
  }
  get bytesSent(): number {
    return this.#connection.bytesSent;
  }
  send(message: Outgoing): boolean {
    return sendText(this.socket, JSON.stringify(MessageRouter.envelope(message)));
  }
  close(code?: number, reason?: string): void {
    this.#connection.close(code, reason);
  }
}

function sendText(socket: ManagedConnection['socket'], text: string): boolean {
  return (socket as unknown as { sendText(text: string): number }).sendText(text) !== 0;
}

/** What all parts of one server share. */
class Parts {
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
    this.onError = guarded(options.onError ?? ((error, where) => console.error(`${where}:`, error)));
    this.endpoints = checkedEndpoints(options.endpoints);
    this.chain = new PerformantMiddlewareChain(options.middlewares ?? [], this.timers, {
      name: 'server',
      onError: (error, { layer }) => this.onError(error, `middleware ${layer}`),
    });
    const { connections } = limits;
    // Its own, if memory is limited and nobody watches it.
    const monitor = options.monitor ?? (options.limits?.memory === undefined ? undefined : new ResourceMonitor({ memory: limits.memory }, this.timers));
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
        exemptPaths: ENDPOINTS.filter(([name]) => this.endpoints[name]).flatMap(([, path]) => [path, `${path}/`]),
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
    this.shutdown = new GracefulShutdown(this.timers, { ...options.shutdown, onError: onError ?? ((error, name) => this.onError(error, `shutdown ${name}`)) });
  }

  /** Stands around every request that is not for an endpoint: the limits, then the layers. */
  around(request: Request, handle: () => unknown): unknown {
    const { gate } = this.door;
    return gate === undefined ? handle() : withinLimits(gate, request, () => this.#layers(request, handle));
  }

  #layers(request: Request, handle: () => unknown): unknown {
    const context = new Context(request);
    this.contexts.set(request, context);
    if (!this.#isBare) return this.#run(context, handle);
    const answered = handle() as Response | undefined | Promise<Response | undefined>;
    return answered instanceof Promise ? answered.then((response) => hushed(context, response)) : hushed(context, answered);
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
    if (connection === undefined) this.connections.set(managed, (connection = new Connection(managed)));
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

const internalError = (): Response => responseOf(answerWith(500, { code: 'internal_error', message: 'Internal error' }));

/**
 * An answer of the server's own in the place of Elysia's, which tells clients the message of what a route has thrown.
 * There is no later place for it: a hook that answers takes the word from the application's own.
 */
function hushed({ thrown }: Context, response: Response | undefined): Response | undefined | Promise<Response> {
  if (thrown === undefined || response === undefined || response.status < 500) return response;
  const told = response.clone().text();
  return told.then((text) => (text === thrown ? internalError() : response));
}

/** Puts what layers have set on a response; an upgrade has none. */
function settings(context: Context, response: Response | undefined): Response | undefined {
  if (response === undefined) return undefined;
  const { status, headers } = context.set;
  const all = Object.entries(headers) as [string, string | readonly string[]][];
  const isCookie = (name: string): boolean => name.toLowerCase() === 'set-cookie';
  // Cookies are added: a response that a layer gives again and again must not gather those of everybody.
  const isChanged = (status !== undefined && status !== response.status) || all.some(([name]) => isCookie(name));
  const told = isChanged ? new Response(response.body, { status: status ?? response.status, headers: response.headers }) : response;
  for (const [name, value] of all) {
    if (!isCookie(name)) told.headers.set(name, String(value));
    else for (const cookie of typeof value === 'string' ? [value] : value) told.headers.append(name, cookie);
  }
  return told;
}

function guarded(onError: (error: unknown, where: string) => void): (error: unknown, where: string) => void {
  return (error, where) => {
    try {
      onError(error, where);
    } catch {
      // A client must not be able to end the server through a hook.
    }
  };
}

function checkedEndpoints(given: Endpoints | undefined): Required<Endpoints> {
  if (given !== undefined && (typeof given !== 'object' || given === null)) throw wrongType('endpoints', given, 'an object');
  const endpoints: Endpoints = given ?? {};
  knownOptions('endpoints', endpoints, ['live', 'ready', 'stats']);
  for (const name of ['live', 'ready', 'stats'] as const) {
    if (endpoints[name] !== undefined && typeof endpoints[name] !== 'boolean') throw wrongType(`endpoints.${name}`, endpoints[name], 'true or false');
  }
  return { live: endpoints.live ?? true, ready: endpoints.ready ?? true, stats: endpoints.stats ?? true };
}

/** The app that every server begins with; its type is what Elysia infers. `inner` are its `Parts`, which are nobody's business: declarations show what this takes. */
function baseApp(inner: object, options: ServerOptions) {
  const parts = inner as Parts;
  const { requests, websockets } = parts.limits;
  const idle = requests.timeoutMs === Infinity ? IDLE_MAX_S : Math.min(IDLE_MAX_S, Math.ceil(requests.timeoutMs / 1000) + 5);
  const socket = options.websocket ?? {};
  const app = new Elysia({
    serve: {
      // Two servers on one port would share it silently. The guard's own limit of bodies is exact, answers and counts;
      // Bun's, which does neither, is for what no handler reads.
      reusePort: false,
      idleTimeout: idle,
      ...(requests.maxPayloadSize === Infinity ? {} : { maxRequestBodySize: requests.maxPayloadSize + BODY_SLACK }),
      ...(options.hostname === undefined ? {} : { hostname: options.hostname }),
    },
    websocket: {
      // Ours are jittered, and tell who did not answer.
      sendPings: false,
      idleTimeout: 0,
      ...(websockets.maxMessageSize === Infinity ? {} : { maxPayloadLength: Math.max(1, websockets.maxMessageSize) }),
    },
  })
    .use(pluginOf(parts.door, (request, handle) => parts.around(request, handle)))
    .onError({ as: 'global' }, ({ error, code, request }) => {
      // What is meant for the client has a status of its own; what answers is Elysia, or the application's hook.
      const { status, message } = error as { status?: unknown; message?: unknown };
      if (code !== 'UNKNOWN' || (typeof status === 'number' && status < 500)) return;
      const context = parts.contexts.get(request);
      if (context !== undefined) context.thrown = String(message ?? error);
      parts.onError(error, 'route');
    })
    .derive({ as: 'global' }, ({ request }) => ({ requestContext: parts.contexts.get(request) as RequestContext | undefined }));
  const healthy = app
    .get(LIVE_PATH, ({ status }) => (parts.endpoints.live ? responseOf(parts.shutdown.liveness()) : status(404)))
    .get(READY_PATH, ({ status }) => (parts.endpoints.ready ? responseOf(parts.shutdown.readiness()) : status(404)))
    .get(STATS_PATH, ({ status }) => (parts.endpoints.stats ? parts.stats() : status(404)));
  if (socket.enabled === false) return healthy;
  const { handler = {} } = socket;
  const failed = async (connection: Connection, error: unknown): Promise<void> => {
    parts.onError(error, 'websocket');
    await handler.error?.(connection, error instanceof Error ? error : new Error(String(error)));
  };
  /** A handler's error is its own: the socket stays open. */
  const safely = async (ws: object, run: (connection: Connection) => unknown): Promise<void> => {
    const managed = connectionOf(ws);
    if (managed === undefined) return;
    const connection = parts.connection(managed);
    try {
      await run(connection);
    } catch (error) {
      await failed(connection, error).catch((second: unknown) => parts.onError(second, 'websocket'));
    }
  };
  const reply = (connection: Connection, answer: Reply | undefined): void => {
    if (answer === undefined || !connection.isAlive) return;
    sendText(connection.socket, answer.text);
    if (answer.problem !== undefined && answer.problem.code !== 'handler_failed' && socket.onInvalid === 'close') {
      connection.close(1007, answer.problem.message);
    }
  };
  return healthy.ws((socket.path ?? '/ws') as '/ws', {
    open: (ws) => safely(ws, (connection) => handler.open?.(connection)),
    message: (ws, raw) =>
      safely(ws, (connection) => {
        const answer = parts.router.receive(raw, connection, { userId: connection.userId, sessionId: connection.metadata.sessionId });
        return answer instanceof Promise ? answer.then((late) => reply(connection, late)) : reply(connection, answer);
      }),
    close: (ws, code, reason) => safely(ws, (connection) => handler.close?.(connection, code, reason)),
  }) as unknown as typeof healthy;
}

type BaseApp = ReturnType<typeof baseApp>;

/**
 * Builds a production server on Elysia and Bun: guarded connections, limits that are enforced, a chain
 * of middleware, typed messages, health, and a graceful end.
 *
 * @example
 * const server = await new ElysiaServerBuilder({ port: 3000, shutdown: { signals: ['SIGTERM'] } })
 *   .on('add', (_connection, { payload }) => ({ type: 'sum', payload: payload.a + payload.b }), isPair)
 *   .routes((app) => app.get('/hello', () => 'hello'))
 *   .start();
 */
export class ElysiaServerBuilder<App = BaseApp> {
  #options: ServerOptions;
  readonly #router: MessageRouter<ServerConnection>;
  readonly #routes: ((app: unknown) => unknown)[] = [];
  readonly #hooks: { readonly name: string; readonly hook: ShutdownHook; readonly options: { readonly timeoutMs?: number } }[] = [];
  #built: { readonly app: App; readonly parts: Parts } | undefined;
  #running: Promise<RunningServer<App>> | undefined;

  /** @throws ERR_UNSUPPORTED on Node; ERR_INVALID_ARG_TYPE, ERR_OUT_OF_RANGE, ERR_UNKNOWN_OPTION for the options */
  constructor(options: ServerOptions = {}) {
    requireBun('ElysiaServerBuilder');
    checkOptions(options);
    this.#options = { ...options };
    this.#router = new MessageRouter<ServerConnection>({
      onError: (error, type) => this.#built?.parts.onError(error, `message ${type}`),
    });
  }

  #set(changes: ServerOptions): this {
    this.#checkOpen();
    const options = { ...this.#options, ...changes };
    checkOptions(options);
    this.#options = options;
    return this;
  }

  #checkOpen(): void {
    if (this.#built !== undefined) throw new PortcullisError('ERR_CLOSED', 'the server is built: it cannot be changed');
  }

  /** Sets the port. */
  port(port: number): this {
    return this.#set({ port });
  }
  /** Sets the address to listen at. */
  hostname(hostname: string): this {
    return this.#set({ hostname });
  }
  /** Sets how WebSockets are served; what is not given stays. */
  websocket(websocket: WebSocketOptions): this {
    return this.#set({ websocket: { ...this.#options.websocket, ...objectOf('websocket', websocket) } });
  }
  /** Sets limits; sections and fields that are not given stay. */
  limits(limits: ResourceLimitsInput): this {
    resourceLimits(limits);
    const merged: Record<string, unknown> = { ...this.#options.limits };
    for (const [section, fields] of Object.entries(limits) as [keyof ResourceLimits, object | undefined][]) {
      merged[section] = { ...this.#options.limits?.[section], ...fields };
    }
    return this.#set({ limits: merged });
  }
  /** Adds a layer around every request. */
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
  /** Sets the limits of messages as JSON. */
  json(json: JsonLimits): this {
    return this.#set({ json });
  }
  /** Sets what becomes of a message that those limits refuse. */
  onInvalidMessage(onInvalidMessage: NonNullable<MessageOptions['onInvalidMessage']>): this {
    return this.#set({ onInvalidMessage });
  }
  /** Sets how it ends; what is not given stays. */
  shutdown(shutdown: ShutdownOptions): this {
    return this.#set({ shutdown: { ...this.#options.shutdown, ...objectOf('shutdown', shutdown) } });
  }
  /** Sets which endpoints there are; what is not given stays. */
  endpoints(endpoints: Endpoints): this {
    return this.#set({ endpoints: { ...this.#options.endpoints, ...objectOf('endpoints', endpoints) } });
  }
  /** Sets who counts connections and requests, is told what runs, and decides what to shed. */
  monitor(monitor: ResourceMonitor): this {
    return this.#set({ monitor });
  }
  /** Sets who counts requests, connections, messages, users and refusals. */
  metrics(metrics: ProductionMetrics): this {
    return this.#set({ metrics });
  }
  /** Sets the owner of all timers; the shutdown clears it. */
  timers(timers: TimerManager): this {
    return this.#set({ timers });
  }
  /** Sets the page that shows what the server is doing. */
  page(page: PageOptions): this {
    return this.#set({ page });
  }
  /** Sets who is told of errors. */
  onError(onError: (error: unknown, where: string) => void): this {
    return this.#set({ onError });
  }

  /**
   * Handles the messages of one type; what the handler returns is sent back.
   * @param check tells whether a payload is what the handler takes
   * @throws as `MessageRouter.on`; ERR_CLOSED once built
   */
  on<T = unknown>(type: string, handle: MessageHandler<T, ServerConnection>, check?: (payload: unknown) => payload is T): this {
    this.#checkOpen();
    this.#router.on(type, handle, check);
    return this;
  }

  /** Adds a hook of the shutdown, as `GracefulShutdown.onShutdown`. */
  onShutdown(name: string, hook: ShutdownHook, options: { readonly timeoutMs?: number } = {}): this {
    this.#checkOpen();
    if (typeof name !== 'string' || name === '') throw wrongType('name', name, 'a name');
    if (typeof hook !== 'function') throw wrongType('hook', hook, 'a function');
    this.#hooks.push({ name, hook, options });
    return this;
  }

  /** Adds routes, plugins, whatever Elysia has; the type of the app goes along. */
  routes<Next>(add: (app: App) => Next): ElysiaServerBuilder<Next> {
    this.#checkOpen();
    if (typeof add !== 'function') throw wrongType('add', add, 'a function');
    this.#routes.push(add as (app: unknown) => unknown);
    return this as unknown as ElysiaServerBuilder<Next>;
  }

  #build(): { readonly app: App; readonly parts: Parts } {
    if (this.#built !== undefined) return this.#built;
    const { websocket } = this.#options;
    addHandlers(this.#router, websocket?.handlers);
    if (!this.#router.has('ping')) this.#router.on('ping', (_connection, { payload }) => ({ type: 'pong', payload }));
    const handler = websocket?.handler;
    if (handler?.message !== undefined) this.#router.otherwise(async (connection, message) => void (await handler.message?.(connection, message)));
    const parts = new Parts(this.#options, this.#router);
    for (const { name, hook, options } of this.#hooks) parts.shutdown.onShutdown(name, hook, options);
    let app: unknown = baseApp(parts, this.#options);
    try {
      for (const add of this.#routes) app = add(app);
      if (!(app instanceof Elysia)) throw wrongType('add', app, 'a function that returns an Elysia app');
    } catch (error) {
      // Nothing of it may stay: neither timers nor listeners of signals.
      void parts.shutdown.shutdown('failed to build');
      throw error;
    }
    const made = app;
    parts.shutdown.add(
      bunPart(
        'elysia',
        parts.door,
        () => made.server as BunServer | null,
        async () => {
          if (made.server !== null) await made.stop(true);
        },
      ),
    );
    this.#built = { app: app as App, parts };
    return this.#built;
  }

  /** The app, which does not listen yet. The same however often it is called. */
  build(): App {
    return this.#build().app;
  }

  /**
   * Listens.
   * @returns the same promise however often it is called; rejects if the port is taken
   */
  start(): Promise<RunningServer<App>> {
    this.#running ??= this.#listen();
    return this.#running;
  }

  async #listen(): Promise<RunningServer<App>> {
    const { app, parts } = this.#build();
    const elysia = app as unknown as Elysia;
    try {
      await elysia.modules;
      elysia.listen({ port: this.#options.port ?? 3000 });
      const { server } = elysia;
      if (server === null || server.port === undefined) throw new PortcullisError('ERR_INTERNAL', 'the server does not listen');
      return {
        app,
        url: server.url,
        port: server.port,
        manager: parts.door.manager,
        timers: parts.timers,
        middlewares: parts.chain,
        shutdown: parts.shutdown,
        stats: () => parts.stats(),
        stop: () => parts.shutdown.shutdown('stop'),
      };
    } catch (error) {
      // It never came up: nothing of it may stay.
      await parts.shutdown.shutdown('failed to start');
      throw error;
    }
  }
}

function objectOf<T extends object>(field: string, value: T): T {
  if (typeof value !== 'object' || value === null) throw wrongType(field, value, 'an object');
  return value;
}

function checkOptions(options: ServerOptions): void {
  if (typeof options !== 'object' || options === null) throw wrongType('options', options, 'an object');
  knownOptions('ElysiaServerBuilder', options, OPTIONS);
  const { hostname, websocket, shutdown, timers, onError, middlewares, monitor, metrics } = options;
  wholeNumber('port', options.port, 0, 65_535, 3000);
  if (hostname !== undefined && (typeof hostname !== 'string' || hostname === '')) throw wrongType('hostname', hostname, 'an address or a name');
  if (timers !== undefined && !(timers instanceof TimerManager)) throw wrongType('timers', timers, 'a TimerManager');
  if (monitor !== undefined && !(monitor instanceof ResourceMonitor)) throw wrongType('monitor', monitor, 'a ResourceMonitor');
  if (metrics !== undefined && !(metrics instanceof ProductionMetrics)) throw wrongType('metrics', metrics, 'a ProductionMetrics');
  if (onError !== undefined && typeof onError !== 'function') throw wrongType('onError', onError, 'a function');
  // What is wrong is said here, and not when the server is built.
  if (middlewares !== undefined) void new PerformantMiddlewareChain<RequestContext, RequestContext, Response | undefined>(middlewares, new TimerManager());
  if (shutdown !== undefined) new GracefulShutdown(new TimerManager(), objectOf('shutdown', shutdown)).removeSignals();
  if (options.trustedProxies !== undefined) trustOf(options.trustedProxies);
  void new MessageGate(options);
  authOptions(options.auth);
  checkedEndpoints(options.endpoints);
  if (options.page !== undefined) checkedPage(options.page);
  resourceLimits(options.limits);
  if (websocket !== undefined) checkWebSocket(objectOf('websocket', websocket));
}

function addHandlers(router: MessageRouter<ServerConnection>, handlers: WebSocketOptions['handlers']): void {
  // Their payloads are promises of the client's: whoever wants them checked says `.on(type, handle, check)`.
  for (const [type, handle] of Object.entries(handlers ?? {})) router.on(type, handle as MessageHandler<unknown, ServerConnection>);
}

function checkWebSocket(websocket: WebSocketOptions): void {
  knownOptions('websocket', websocket, ['enabled', 'path', 'handlers', 'handler', 'onInvalid']);
  const { enabled, path, handlers, handler, onInvalid } = websocket;
  if (handlers !== undefined) addHandlers(new MessageRouter<ServerConnection>(), objectOf('websocket.handlers', handlers));
  if (enabled !== undefined && typeof enabled !== 'boolean') throw wrongType('websocket.enabled', enabled, 'true or false');
  if (path !== undefined && (typeof path !== 'string' || !path.startsWith('/'))) throw wrongType('websocket.path', path, 'a path such as "/ws"');
  if (onInvalid !== undefined && onInvalid !== 'reply' && onInvalid !== 'close') throw outOfRange('websocket.onInvalid', onInvalid, "'reply' or 'close'");
  if (handler === undefined) return;
  knownOptions('websocket.handler', objectOf('websocket.handler', handler), ['open', 'message', 'close', 'error']);
  for (const name of ['open', 'message', 'close', 'error'] as const) {
    if (handler[name] !== undefined && typeof handler[name] !== 'function') throw wrongType(`websocket.handler.${name}`, handler[name], 'a function');
  }
}
