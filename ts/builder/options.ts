/** Options of a server, checked. */
import { outOfRange, wrongType } from '../base/errors.js';
import { knownOptions, wholeNumber } from '../base/options.js';
import { authOptions, type BearerVerifier, type TokenAuth } from '../guard/bearer.js';
import { JsonMessageFilter, type MessageOptions } from '../guard/json-filter.js';
import { trustedProxiesOf } from '../guard/options.js';
import { type MessageHandler, MessageRouter } from '../messages/router.js';
import type { TypedWebSocketHandler } from '../messages/types.js';
import { ProductionMetrics } from '../metrics/metrics.js';
import { PerformantMiddlewareChain } from '../middleware/chain.js';
import { checkedPage, type PageOptions } from '../page/live-page.js';
import { resourceLimits, type ResourceLimitsInput } from '../resources/limits.js';
import { ResourceMonitor } from '../resources/monitor.js';
import type { ShutdownOptions } from '../shutdown/options.js';
import { GracefulShutdown } from '../shutdown/shutdown.js';
import { TimerManager } from '../timers/manager.js';
import type { TokenVerifier } from '../tokens/verifier.js';
import type { JsonLimits } from '../validators/json-limits.js';
import type { ServerConnection } from './connection.js';
import type { RequestContext, ServerMiddleware } from './context.js';

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
export const LIVE_PATH = '/health/live';
export const READY_PATH = '/health/ready';
export const STATS_PATH = '/stats';
export const ENDPOINTS = [
  ['live', LIVE_PATH],
  ['ready', READY_PATH],
  ['stats', STATS_PATH],
] as const;

export function objectOf<T extends object>(field: string, value: T): T {
  if (typeof value !== 'object' || value === null) throw wrongType(field, value, 'an object');
  return value;
}

export function checkOptions(options: ServerOptions): void {
  if (typeof options !== 'object' || options === null)
    throw wrongType('options', options, 'an object');
  knownOptions('ElysiaServerBuilder', options, OPTIONS);
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
  // What is wrong is said here, and not when the server is built.
  if (middlewares !== undefined)
    void new PerformantMiddlewareChain<RequestContext, RequestContext, Response | undefined>(
      middlewares,
      new TimerManager(),
    );
  if (shutdown !== undefined)
    new GracefulShutdown(new TimerManager(), objectOf('shutdown', shutdown)).removeSignals();
  if (options.trustedProxies !== undefined) trustedProxiesOf(options.trustedProxies);
  void new JsonMessageFilter(options);
  authOptions(options.auth);
  checkedEndpoints(options.endpoints);
  if (options.page !== undefined) checkedPage(options.page);
  resourceLimits(options.limits);
  if (websocket !== undefined) checkWebSocket(objectOf('websocket', websocket));
}

export function checkedEndpoints(given: Endpoints | undefined): Required<Endpoints> {
  if (given !== undefined && (typeof given !== 'object' || given === null))
    throw wrongType('endpoints', given, 'an object');
  const endpoints: Endpoints = given ?? {};
  knownOptions('endpoints', endpoints, ['live', 'ready', 'stats']);
  for (const name of ['live', 'ready', 'stats'] as const) {
    if (endpoints[name] !== undefined && typeof endpoints[name] !== 'boolean')
      throw wrongType(`endpoints.${name}`, endpoints[name], 'true or false');
  }
  return {
    live: endpoints.live ?? true,
    ready: endpoints.ready ?? true,
    stats: endpoints.stats ?? true,
  };
}

export function addHandlers(
  router: MessageRouter<ServerConnection>,
  handlers: WebSocketOptions['handlers'],
): void {
  // Their payloads are promises of the client's: whoever wants them checked says `.on(type, handle, check)`.
  for (const [type, handle] of Object.entries(handlers ?? {}))
    router.on(type, handle as MessageHandler<unknown, ServerConnection>);
}

function checkWebSocket(websocket: WebSocketOptions): void {
  knownOptions('websocket', websocket, ['enabled', 'path', 'handlers', 'handler', 'onInvalid']);
  const { enabled, path, handlers, handler, onInvalid } = websocket;
  if (handlers !== undefined)
    addHandlers(new MessageRouter<ServerConnection>(), objectOf('websocket.handlers', handlers));
  if (enabled !== undefined && typeof enabled !== 'boolean')
    throw wrongType('websocket.enabled', enabled, 'true or false');
  if (path !== undefined && (typeof path !== 'string' || !path.startsWith('/')))
    throw wrongType('websocket.path', path, 'a path such as "/ws"');
  if (onInvalid !== undefined && onInvalid !== 'reply' && onInvalid !== 'close')
    throw outOfRange('websocket.onInvalid', onInvalid, "'reply' or 'close'");
  if (handler === undefined) return;
  knownOptions('websocket.handler', objectOf('websocket.handler', handler), [
    'open',
    'message',
    'close',
    'error',
  ]);
  for (const name of ['open', 'message', 'close', 'error'] as const) {
    if (handler[name] !== undefined && typeof handler[name] !== 'function')
      throw wrongType(`websocket.handler.${name}`, handler[name], 'a function');
  }
}
