/** Options of a whole server, and their checks. */
import { frozenRate } from '../connections/connect-rates.js';
import { hostClock } from '../base/clock.js';
import {
  ArgumentTypeError,
  describe,
  describeSecret,
  outOfRange,
  renamedField,
  underPath,
  wrongType,
} from '../base/errors.js';
import {
  hasDotSegment,
  knownOptions,
  optionsObject,
  readOptions,
  TIME_MAX_MS,
  wholeNumber,
} from '../base/options.js';
import { type RequestTrace, Tracer } from '../base/trace.js';
import type { BanOptions } from '../connections/ban-options.js';
import type { Cluster } from '../cluster/cluster.js';
import type { ManagedConnection } from '../connections/connection.js';
import { checkedLimits, type ConnectionLimits } from '../connections/limits.js';
import { checkedArguments } from '../connections/options.js';
import { authOptions, type BearerVerifier, type TokenAuth } from '../guard/bearer.js';
import { JsonMessageFilter, type MessageOptions } from '../guard/json-filter.js';
import { ClientAddress } from '../guard/client-address.js';
import { Origins } from '../guard/origins.js';
import { checkedRates, rateOptions, type RequestRates } from '../http/rate-options.js';
import { REFUSAL_OPTIONS, type RefusalOptions, RefusalShape } from '../http/refusal-shape.js';
import { NAME_MAX } from '../messages/envelope.js';
import { type ExceededTypeRate, type MessageHandler, MessageRouter } from '../messages/router.js';
import type { TypedWebSocketHandler } from '../messages/types.js';
import { ProductionMetrics } from '../metrics/metrics.js';
import { PerformantMiddlewareChain } from '../middleware/chain.js';
import { checkedPage, checkPagePath, type PageOptions, pageOptions } from '../page/live-page.js';
import {
  mergedLimits,
  resourceLimits,
  type ResourceLimitsInput,
} from '../resources/resource-limits.js';
import { ResourceMonitor } from '../resources/monitor.js';
import { SHUTDOWN_OPTIONS, type ShutdownOptions } from '../shutdown/options.js';
import { GracefulShutdown } from '../shutdown/shutdown.js';
import { TimerManager } from '../timers/manager.js';
import type { TokenVerifier } from '../tokens/verifier.js';
import type { JsonLimits } from '../validators/json-limits.js';
import type { ServerConnection } from './connection.js';
import type { RequestContext, ServerMiddleware } from './context.js';

/** Options of the WebSocket route. */
export interface WebSocketOptions {
  /** Whether there is a WebSocket route. Default `true`. */
  readonly enabled?: boolean | undefined;
  /** Path of the route, without the segments `.` and `..`. Default `/ws`. */
  readonly path?: string | undefined;
  /**
   * Handlers by message type, as `.on(type, handle)` sets them:
   * `{ say: (connection, message: TypedWebSocketMessage<{ text: string }>) => … }`.
   */
  readonly handlers?: Readonly<Record<string, MessageHandler<never, ServerConnection>>> | undefined;
  /** Handler of every connection; its `message` gets the types without a handler of their own. */
  readonly handler?: TypedWebSocketHandler | undefined;
  /** Answer to a message that cannot be handled: `reply` sends a message of type `error`, `close` also closes with 1007. Default `reply`. */
  readonly onInvalid?: 'reply' | 'close' | undefined;
  /** Called for each message over the rate of its type, which `.on(type, handle, { rate })` sets. Default: none. */
  readonly onRateExceeded?: ((exceeded: ExceededTypeRate<ServerConnection>) => void) | undefined;
}

/** Endpoints that the server answers itself. */
export interface Endpoints {
  /** `GET /health/live`: 200 while the process lives. Default `true`. */
  readonly live?: boolean | undefined;
  /** `GET /health/ready`: 200, or 503 with problem details; runs the checks of `shutdown`. Default `true`. */
  readonly ready?: boolean | undefined;
  /** `GET /health/startup`: 503 until the server has been ready, then 200. Default `true`. */
  readonly startup?: boolean | undefined;
  /**
   * `GET /stats`: counts of connections, requests and messages. It passes bans, rates, limits, the token of
   * `auth: { http: true }` and the middleware as a route does, and counts itself. Default `true`.
   */
  readonly stats?: boolean | undefined;
}

/** Rates of the requests of a server. */
export interface ServerRequests {
  /** Rates of requests, as the guard's `requests.rate`. Default: none. */
  readonly rate?: RequestRates<Request> | undefined;
}

/** Options of a whole server. */
export interface ServerOptions extends RefusalOptions<Request> {
  /** Port: 0 to 65535; 0 picks a free one. Default 3000. */
  readonly port?: number | undefined;
  /** Address to listen on. Default: all addresses. */
  readonly hostname?: string | undefined;
  /** WebSocket route. Default: `/ws`, which answers `ping`. */
  readonly websocket?: WebSocketOptions | undefined;
  /**
   * Limits; missing ones have their defaults, but `connections.maxPerIp` and
   * `requests.maxConcurrentPerIp` are 1,000 here: set `trustedProxies` behind a proxy, or all clients
   * have its address. `memory` makes a `ResourceMonitor`, unless `monitor` is given.
   */
  readonly limits?: ResourceLimitsInput | undefined;
  /** Rates of HTTP requests; their other limits are `limits.requests`. Endpoints are not counted. Default: none. */
  readonly requests?: ServerRequests | undefined;
  /**
   * Rates of connects and of messages, as the limits of a `ConnectionManager`. Rates of a message type
   * are options of `.on()`. Default: none.
   */
  readonly rates?: ServerRates | undefined;
  /** Middleware around every request, upgrades included. */
  readonly middlewares?: readonly ServerMiddleware[] | undefined;
  /** Verifies the token of every upgrade, as the guard's option, or with any other verifier; its `sub` is the user. Default: clients need no token. */
  readonly auth?: TokenVerifier | TokenAuth | BearerVerifier | undefined;
  /** Counts requests, watches for stalls and decides what to shed. Health endpoints are never shed. */
  readonly monitor?: ResourceMonitor | undefined;
  /** Counts requests, connections, messages, users and refusals. */
  readonly metrics?: ProductionMetrics | undefined;
  /** Networks or addresses of your own proxies, as the guard's option. */
  readonly trustedProxies?: readonly string[] | undefined;
  /** Source of the client's address, as the guard's option. Default: `X-Forwarded-For` and `Forwarded`. */
  readonly clientAddress?: string | ((request: Request, peer: string) => string) | undefined;
  /** Pages that may connect, as the guard's option. Default: the page's own host where the handshake carries cookies. */
  readonly allowedOrigins?:
    string | readonly string[] | ((origin: string, host: string) => boolean) | undefined;
  /**
   * Name under which the limits of connections count: over the threads of this process, and over those of other
   * processes with `cluster`. Default: this server alone.
   */
  readonly name?: string | undefined;
  /**
   * Cluster whose processes count connections together, or `'host'` for all processes of this host, as the guard's
   * option; needs `name`. Default: none.
   */
  readonly cluster?: Cluster | 'host' | undefined;
  /** Keys that `cluster: 'host'` can count at once, as the guard's option: 1024 to 2^24. Default 65536. */
  readonly hostCapacity?: number | undefined;
  /** Processes that `cluster: 'host'` can count at once, as the guard's option: 2 to 256. Default 32. */
  readonly hostProcesses?: number | undefined;
  /** Clients that the limits of an address never refuse, as the guard's option. Default: none. */
  readonly exempt?: readonly string[] | ((ip: string) => boolean) | undefined;
  /** Failures after which an address is banned: 1 to 65536, or `Infinity`; or `BanOptions`, as the guard's option. Default: no bans. */
  readonly banAfter?: BanOptions | number | undefined;
  /** Called for each open WebSocket right before the close of a shutdown, as the guard's option. Default: none. */
  readonly onDrain?: ((connection: ManagedConnection) => void) | undefined;
  /**
   * Limits of messages as JSON, as the guard's option. Text that is no JSON is answered as
   * `websocket.onInvalid` says. Default: those of `JsonLimits` with a depth of 32 and without `maxBytes`.
   */
  readonly json?: JsonLimits | undefined;
  /** Action for messages that `json` refuses, as the guard's option. Default `close`. */
  readonly onInvalidMessage?: MessageOptions['onInvalidMessage'];
  /** Header with the id of a request, as the guard's option. Default `x-request-id`. */
  readonly requestIdHeader?: string | false | undefined;
  /** Options of the shutdown. Default: those of `ShutdownOptions`, without signals. */
  readonly shutdown?: Omit<ShutdownOptions, 'timers'> | undefined;
  /** Endpoints. Those of health are never limited, shed or counted. Default: all. */
  readonly endpoints?: Endpoints | undefined;
  /** Live page, with the server's middleware. Default: none. */
  readonly page?: PageOptions | undefined;
  /** Owner of all timers, which the shutdown clears. Default: a new one. */
  readonly timers?: TimerManager | undefined;
  /**
   * Called with each error of middleware, routes, message handlers and hooks, of plugins that cannot load, and of
   * responses that Bun cannot send, as one that was sent before; with the place of the error, and the trace of the
   * request or of the socket's handshake, if there is one. The client gets 500 and `internal_error`, unless an `onError`
   * hook of your routes, or the error's `toResponse`, answers with a text other than the error's own. What a route throws
   * as its answer is no error: `status()`, a `Response`, and whatever has a `status` below 500, as Elysia's own errors
   * about a request. Default: `console.error`.
   */
  readonly onError?:
    ((error: unknown, where: string, trace: RequestTrace | undefined) => void) | undefined;
}

const OPTIONS = [
  'port',
  'hostname',
  'websocket',
  'limits',
  'requests',
  'rates',
  'middlewares',
  'auth',
  'trustedProxies',
  'clientAddress',
  'allowedOrigins',
  'name',
  'cluster',
  'hostCapacity',
  'hostProcesses',
  'exempt',
  'banAfter',
  'onDrain',
  ...REFUSAL_OPTIONS,
  'json',
  'onInvalidMessage',
  'requestIdHeader',
  'shutdown',
  'endpoints',
  'page',
  'timers',
  'monitor',
  'metrics',
  'onError',
] as const;
/** Limits of a manager that are rates. */
const RATES = [
  'connectRatePerIp',
  'connectRatePerUser',
  'messageRate',
  'messageRatePerUser',
  'messageRatePerIp',
  'byteRate',
  'controlRate',
] as const;

/** Rates of connects and of messages. */
export type ServerRates = Pick<ConnectionLimits, (typeof RATES)[number]>;

/** Connections, and requests in flight, of one address. */
const PER_ADDRESS = 1000;

/** Checks the limits of a server; unlike the guards' they have a limit per address by default. */
export function serverLimits(given: ResourceLimitsInput = {}): ReturnType<typeof resourceLimits> {
  const { connections, requests } = given;
  return resourceLimits({
    ...given,
    connections: { ...connections, maxPerIp: connections?.maxPerIp ?? PER_ADDRESS },
    requests: {
      ...requests,
      maxConcurrentPerIp: requests?.maxConcurrentPerIp ?? PER_ADDRESS,
    },
  });
}

export const WEBSOCKET_PATH = '/ws';
export const LIVE_PATH = '/health/live';
export const READY_PATH = '/health/ready';
export const STARTUP_PATH = '/health/startup';
export const STATS_PATH = '/stats';
/** Endpoints that are answered before the guard, whatever it refuses. */
export const HEALTH_ENDPOINTS = [
  ['live', LIVE_PATH],
  ['ready', READY_PATH],
  ['startup', STARTUP_PATH],
] as const;

const ENDPOINTS = [...HEALTH_ENDPOINTS.map(([name]) => name), 'stats'] as const;
/** Functions of `websocket.handler`. */
const HOOKS = ['open', 'message', 'close', 'error'] as const;

function objectOf<T extends object>(field: string, value: T): T {
  optionsObject(field, value);
  return value;
}

/**
 * Returns a plain copy of the given options, sections included; see `readOptions`.
 * @throws ERR_INVALID_ARG_TYPE, ERR_UNKNOWN_OPTION; the values are not checked yet
 */
export function serverOptions(given: ServerOptions): ServerOptions {
  optionsObject('options', given);
  const options = readOptions('ElysiaServerBuilder', given, OPTIONS);
  const { limits, page, requests, rates, endpoints, shutdown, websocket } = options;
  return {
    ...options,
    ...(limits !== undefined && { limits: mergedLimits({}, limits) }),
    ...(page !== undefined && { page: pageOptions(page) }),
    ...(requests !== undefined && { requests: requestOptions(requests) }),
    ...(rates !== undefined && { rates: rateLimits(rates) }),
    ...(endpoints !== undefined && {
      endpoints: readOptions(
        'endpoints',
        objectOf('endpoints', endpoints),
        ENDPOINTS,
        'endpoints.',
      ),
    }),
    ...(shutdown !== undefined && { shutdown: shutdownSection(shutdown) }),
    ...(websocket !== undefined && { websocket: webSocketSection(websocket) }),
  };
}

function requestOptions(
  given: NonNullable<ServerOptions['requests']>,
): NonNullable<ServerOptions['requests']> {
  // Limits that the option `requests` of a guard has.
  const limit = Object.keys(objectOf('requests', given)).find((name) => name in LIMITS.requests);
  if (limit !== undefined)
    throw new ArgumentTypeError(
      'ERR_UNKNOWN_OPTION',
      `requests has no option ${describe(limit)}: it is an option of limits.requests`,
      {
        field: `requests.${limit}`,
        value: describeSecret((given as Readonly<Record<string, unknown>>)[limit]),
        allowed: 'rate',
      },
    );
  const { rate } = readOptions('requests', given, ['rate'], 'requests.');
  return rate === undefined ? {} : { rate: rateOptions(rate) };
}

function rateLimits(given: ServerRates): ServerRates {
  const rates: Record<string, unknown> = {
    ...readOptions('rates', objectOf('rates', given), RATES, 'rates.'),
  };
  for (const [name, rate] of Object.entries(rates))
    rates[name] = frozenRate(
      `rates.${name}`,
      rate,
      name.startsWith('connect') ? 'connects' : 'messages',
    );
  return rates;
}

function shutdownSection(
  given: NonNullable<ServerOptions['shutdown']>,
): NonNullable<ServerOptions['shutdown']> {
  const { timers, ...others } = objectOf('shutdown', given as ShutdownOptions);
  if (timers !== undefined)
    throw new ArgumentTypeError(
      'ERR_UNKNOWN_OPTION',
      'shutdown has no option "timers": it is an option of the server',
      { field: 'shutdown.timers', value: describe(timers), allowed: 'the option timers' },
    );
  const known = SHUTDOWN_OPTIONS.filter((name) => name !== 'timers');
  const options = Object.hasOwn(given, 'timers') ? others : given;
  return readOptions('shutdown', options, known, 'shutdown.');
}

function webSocketSection(given: WebSocketOptions): WebSocketOptions {
  const options = readOptions(
    'websocket',
    objectOf('websocket', given),
    ['enabled', 'path', 'handlers', 'handler', 'onInvalid', 'onRateExceeded'],
    'websocket.',
  );
  const { handler } = options;
  const field = 'websocket.handler';
  // Not copied: its methods may belong to an object of a class.
  if (handler !== undefined) knownOptions(field, objectOf(field, handler), HOOKS, `${field}.`);
  return options;
}

/**
 * Checks options made by `serverOptions`.
 * @param isWhole whether no more options come; without it, options that a later one may complete pass
 */
export function checkOptions(options: ServerOptions, isWhole: boolean): void {
  const { hostname, websocket, shutdown, timers, onError, middlewares, monitor, metrics } = options;
  wholeNumber('port', options.port, 0, 65_535, 3000);
  if (hostname !== undefined && (typeof hostname !== 'string' || hostname === ''))
    throw wrongType('hostname', hostname, 'an address or a name');
  if (timers !== undefined && !(timers instanceof TimerManager))
    throw wrongType('timers', timers, 'a TimerManager');
  if (monitor !== undefined && !(monitor instanceof ResourceMonitor))
    throw wrongType('monitor', monitor, 'a ResourceMonitor');
  if (metrics !== undefined && !(metrics instanceof ProductionMetrics))
    throw wrongType('metrics', metrics, 'a ProductionMetrics');
  if (onError !== undefined && typeof onError !== 'function')
    throw wrongType('onError', onError, 'a function');
  // Checks nested options now, so that errors show here and not when the server is built.
  if (middlewares !== undefined) checkMiddlewares(middlewares);
  if (shutdown !== undefined) checkShutdown(shutdown, isWhole);
  const { hostCapacity, hostProcesses, exempt, banAfter, onDrain } = options;
  if (onDrain !== undefined && typeof onDrain !== 'function')
    throw wrongType('onDrain', onDrain, 'a function');
  const shared = isWhole ? options : completed(options);
  const { name, cluster } = shared;
  checkedArguments({ name, cluster, hostCapacity, hostProcesses, exempt, banAfter });
  RefusalShape.of(options);
  void new Tracer(options.requestIdHeader);
  const { proxies } = new ClientAddress(options.clientAddress, shared.trustedProxies);
  void new Origins(options.allowedOrigins, proxies);
  void new JsonMessageFilter(options);
  authOptions(options.auth);
  const endpoints = checkedEndpoints(options.endpoints);
  const page = options.page && checkedPage(options.page);
  under('limits.', () => resourceLimits(options.limits));
  checkRates(options);
  if (websocket !== undefined) checkWebSocket(websocket);
  if (isWhole && page !== undefined) checkPagePath(page.path, pathsOf(endpoints, websocket));
}

/** Returns options in which later ones that they need stand, too. */
function completed(options: ServerOptions): ServerOptions {
  const { hostCapacity, hostProcesses, trustedProxies = ['unix'] } = options;
  const isHost = hostCapacity !== undefined || hostProcesses !== undefined;
  const { cluster = isHost ? 'host' : undefined } = options;
  const { name = cluster === undefined ? undefined : 'to come' } = options;
  return { ...options, cluster, name, trustedProxies };
}

/** Returns the paths of a server's own, each with what it is. */
function pathsOf(
  endpoints: Required<Endpoints>,
  { enabled: isOn = true, path = WEBSOCKET_PATH }: WebSocketOptions = {},
): [path: string, what: string][] {
  const paths = [...HEALTH_ENDPOINTS, ['stats', STATS_PATH] as const]
    .filter(([name]) => endpoints[name])
    .map(([name, at]): [string, string] => [at, `the endpoint ${name}`]);
  return isOn ? [...paths, [path, 'websocket.path']] : paths;
}

/** Runs a check whose errors name their options without the path. */
function under(path: string, check: () => unknown): void {
  try {
    check();
  } catch (error) {
    throw underPath(path, error);
  }
}

function checkMiddlewares(middlewares: readonly ServerMiddleware[]): void {
  try {
    void new PerformantMiddlewareChain<RequestContext, RequestContext, Response | undefined>(
      middlewares,
      new TimerManager(),
    );
  } catch (error) {
    // A chain calls them `items`. A layer with a name is named in the place of a path.
    throw renamedField(error, (field) =>
      field === 'name' ? 'middlewares.name' : field.replace(/^items\b/, 'middlewares'),
    );
  }
}

function checkShutdown(shutdown: ShutdownOptions, isWhole: boolean): void {
  const { deadlineMs, cluster, readyNeedsCluster } = shutdown;
  wholeNumber('shutdown.deadlineMs', deadlineMs, 1, TIME_MAX_MS, 1);
  const toCome: ShutdownOptions = {
    deadlineMs: TIME_MAX_MS,
    ...(readyNeedsCluster === true && cluster === undefined && { readyNeedsCluster: false }),
  };
  const tried = isWhole ? shutdown : { ...shutdown, ...toCome };
  under('shutdown.', () => new GracefulShutdown(new TimerManager(), tried).close());
}

/** The limits of a server that has none of its own. */
const LIMITS = resourceLimits();

function checkRates({ requests, rates }: ServerOptions): void {
  if (requests?.rate !== undefined) checkedRates(requests.rate as RequestRates<never>, hostClock);
  if (rates !== undefined) under('rates.', () => checkedLimits(rates));
}

export function checkedEndpoints(given: Endpoints | undefined): Required<Endpoints> {
  const endpoints: Endpoints = given ?? {};
  for (const name of ENDPOINTS) {
    if (endpoints[name] !== undefined && typeof endpoints[name] !== 'boolean')
      throw wrongType(`endpoints.${name}`, endpoints[name], 'true or false');
  }
  return {
    live: endpoints.live ?? true,
    ready: endpoints.ready ?? true,
    startup: endpoints.startup ?? true,
    stats: endpoints.stats ?? true,
  };
}

export function addHandlers(
  router: MessageRouter<ServerConnection>,
  handlers: WebSocketOptions['handlers'],
): void {
  // Their payloads are unchecked: `.on(type, handle, check)` checks them.
  for (const [type, handle] of Object.entries(handlers ?? {})) {
    if (type === '' || type.length > NAME_MAX)
      throw outOfRange('websocket.handlers', type, `types of 1 to ${NAME_MAX} characters`);
    try {
      router.on(type, handle as MessageHandler<unknown, ServerConnection>);
    } catch (error) {
      throw renamedField(error, (field) =>
        field === 'handle' ? `websocket.handlers.${type}` : 'websocket.handlers',
      );
    }
  }
}

/** Characters of a path that a request can have, encoded or not. */
const ROUTE = /^\/[^\s\p{Cc}?#\\]*$/u;

function checkWebSocket(websocket: WebSocketOptions): void {
  const { enabled, path, handlers, handler, onInvalid, onRateExceeded } = websocket;
  if (onRateExceeded !== undefined && typeof onRateExceeded !== 'function')
    throw wrongType('websocket.onRateExceeded', onRateExceeded, 'a function');
  if (handlers !== undefined)
    addHandlers(new MessageRouter<ServerConnection>(), objectOf('websocket.handlers', handlers));
  if (enabled !== undefined && typeof enabled !== 'boolean')
    throw wrongType('websocket.enabled', enabled, 'true or false');
  const paths = 'a path such as "/ws", without spaces, a query and the segments . and ..';
  if (path !== undefined && (typeof path !== 'string' || !path.startsWith('/')))
    throw wrongType('websocket.path', path, paths);
  if (path !== undefined && (!ROUTE.test(path) || !path.isWellFormed() || hasDotSegment(path)))
    throw outOfRange('websocket.path', path, paths);
  if (onInvalid !== undefined && onInvalid !== 'reply' && onInvalid !== 'close')
    throw outOfRange('websocket.onInvalid', onInvalid, "'reply' or 'close'");
  if (handler === undefined) return;
  for (const name of HOOKS) {
    if (handler[name] !== undefined && typeof handler[name] !== 'function')
      throw wrongType(`websocket.handler.${name}`, handler[name], 'a function');
  }
}
