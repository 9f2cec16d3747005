/** Options of every guard, checked; the manager that they make. */
import { outOfRange, wrongType } from '../base/errors.js';
import { hasDotSegment, optionsObject } from '../base/options.js';
import type { RequestTrace } from '../base/trace.js';
import type { ManagedConnection, ManagedSocket } from '../connections/connection.js';
import { type ConnectionLimits, readLimits } from '../connections/limits.js';
import { ConnectionManager } from '../connections/manager.js';
import type { ConnectionManagerOptions } from '../connections/options.js';
import type { ProductionMetrics } from '../metrics/metrics.js';
import type { PageOptions } from '../page/live-page.js';
import type { WebSocketLimitsInput } from '../resources/resource-limits.js';
import { TimerManager } from '../timers/manager.js';
import type { TokenClaims } from '../tokens/result.js';
import type { TokenVerifier } from '../tokens/verifier.js';
import type { TokenAuth } from './bearer.js';
import { hasParameter, type RequestLimitsInput } from '../http/rate-options.js';
import type { RefusalOptions } from '../http/refusal-shape.js';
import type { MessageOptions } from './json-filter.js';

/**
 * Options of every guard. Give `limits`, or a `manager` of your own: a manager brings its own
 * `timers` and `ConnectionManagerOptions`. `R` is the request of the adapter, `C` the type of the claims
 * of `auth`.
 */
export interface GuardOptions<R, C extends TokenClaims = TokenClaims>
  extends ConnectionManagerOptions, MessageOptions, RefusalOptions<R> {
  /** Limits of connections; required without a `manager`. */
  readonly limits?: ConnectionLimits | undefined;
  /** Connection manager that other guards may share. Default: a new one, from `limits`. */
  readonly manager?: ConnectionManager | undefined;
  /** Owner of all timers of the guard. Default: a new one. */
  readonly timers?: TimerManager | undefined;
  /**
   * Networks (`10.0.0.0/8`) or addresses of your own proxies; `unix` is the peer of a Unix socket.
   * `X-Forwarded-For` and `Forwarded` are read from these peers only, from the right to the first
   * untrusted address. Default: none, and the socket's address counts.
   */
  readonly trustedProxies?: readonly string[] | undefined;
  /**
   * Source of the client's address in the place of `X-Forwarded-For` and `Forwarded`. The name of a
   * header that holds one address, such as `cf-connecting-ip`, `x-real-ip` or `fly-client-ip`: it is
   * read from `trustedProxies` only, which it needs. Or a function of the request and the peer (`unix`
   * for a Unix socket, empty if unknown); if it throws or returns anything but a string, the client
   * gets 500 (close 1011) without details. Default: none.
   */
  readonly clientAddress?: string | ((request: R, peer: string) => string) | undefined;
  /**
   * Pages that may connect, by the `Origin` that browsers send: origins such as `https://app.example` (in
   * ASCII, with a port unless it is the default one), all subdomains of a name such as
   * `https://*.example.com`, and `same-host`, the page's own host; at most 1,000. Or a function of the `Origin`
   * and of the host that the client asked for; only `true` allows. The host is `X-Forwarded-Host` of
   * `trustedProxies`, else `Host`. Handshakes without `Origin` come from no browser and pass. Other pages get
   * 403 (close 1008). Default: `same-host` for handshakes that carry `Cookie` or credentials that browsers
   * attach by themselves (Basic, Digest, Negotiate, NTLM); all others pass.
   */
  readonly allowedOrigins?:
    string | readonly string[] | ((origin: string, host: string) => boolean) | undefined;
  /**
   * Returns the user of a request; `undefined` or `null` for an anonymous client. If it throws, rejects or
   * exceeds `identifyTimeoutMs`, the client gets 500 (close 1011) without details; if it throws an
   * `UnauthorizedError`, 401 (close 1008).
   */
  readonly identify?:
    ((request: R) => string | null | undefined | Promise<string | null | undefined>) | undefined;
  /** Timeout for `identify`, ms: 1 to 2^30. Later results are ignored. Default 10000. */
  readonly identifyTimeoutMs?: number | undefined;
  /**
   * Handshakes that may wait for their identity at once, in this guard: whole number of at least 0. The
   * next ones get 503 `pending_limit` at once. Default 1000.
   */
  readonly maxPendingHandshakes?: number | undefined;
  /**
   * The same of one address: at least 0; the next ones get 429 `pending_ip_limit`. A handshake that waits holds a
   * seat of its address, so that `maxConnectionsPerIp` bounds it, too. Default: no further limit.
   */
  readonly maxPendingHandshakesPerIp?: number | undefined;
  /**
   * Admits clients with a valid token only; its `sub` is the user. Excludes `identify`. Other clients get
   * 401 with `WWW-Authenticate` (close 1008), or 503 (close 1013) while the keys are missing.
   */
  readonly auth?: TokenVerifier<C> | TokenAuth<C> | undefined;
  /**
   * Called for each open WebSocket of a shutdown, right before its close frame: `connection.socket` can still
   * send a last message. Errors are process warnings. Default: none.
   */
  readonly onDrain?: ((connection: ManagedConnection<ManagedSocket, C>) => void) | undefined;
  /**
   * Called with each error of `identify`, other than `UnauthorizedError`, and of `clientAddress`, with the address
   * and the trace of the request. Default: a process warning, once for `identify` and once for `clientAddress`.
   */
  readonly onIdentifyError?:
    ((error: unknown, ip: string, trace: RequestTrace | undefined) => void) | undefined;
  /**
   * Name of the header with the id of a request, in any letter case. Stalls, hooks and connections show this id.
   * Clients choose it unless a proxy sets it; a value that is not 1 to 128 letters, digits and `-_.:/+=@~;` is
   * ignored. Without a valid one, and with `false`, the id is a random UUID, made when it is first read. Default
   * `x-request-id`.
   */
  readonly requestIdHeader?: string | false | undefined;
  /**
   * How clients are refused. `http`: by status, before the upgrade. `close`: by close code, right after it,
   * since browsers cannot read the status of a failed upgrade. A handshake that cannot be completed gets the status
   * all the same. The handler of the application never runs for a refused client. Default `http`.
   */
  readonly refuseWith?: 'http' | 'close' | undefined;
  /** Limits of HTTP requests, and their rates; missing limits have their defaults. Default: no limits. */
  readonly requests?: RequestLimitsInput<R> | undefined;
  /**
   * Health-check paths: their GET and HEAD requests are never limited, shed or counted, since load must not decide
   * whether a server is alive. Exact matches that begin with `/`, of visible ASCII, without a query, a star, a
   * parameter, and segments `.` and `..`; at most 32. Upgrades are guarded there too. A request with an invalid
   * `Host` is not exempt. Default: none.
   */
  readonly exemptPaths?: readonly string[] | undefined;
  /** Limits of WebSockets (`WebSocketLimits`); missing ones have their defaults. Default: no limits. */
  readonly websockets?: WebSocketLimitsInput | undefined;
  /** Counts requests, connections, messages, users and refusals. */
  readonly metrics?: ProductionMetrics | undefined;
  /** Live page. Served before any limit, so that operators can open it on a full server. Default: none. */
  readonly page?: PageOptions | undefined;
}

/** Options of the guard itself. @internal */
export const GUARD_OPTIONS = [
  'limits',
  'manager',
  'timers',
  'trustedProxies',
  'clientAddress',
  'allowedOrigins',
  'identify',
  'identifyTimeoutMs',
  'maxPendingHandshakes',
  'maxPendingHandshakesPerIp',
  'exemptPaths',
  'auth',
  'onIdentifyError',
  'onDrain',
  'requestIdHeader',
  'refuseWith',
  'requests',
  'websockets',
  'page',
  'metrics',
] as const;

/** Options for the manager that a guard makes. @internal */
export const MANAGER_OPTIONS = [
  'name',
  'cluster',
  'hostCapacity',
  'hostProcesses',
  'leaseTimeoutMs',
  'closeTimeoutMs',
  'onFull',
  'onDuplicateId',
  'monitor',
  'exempt',
  'banAfter',
  'onEvict',
  'onRefuse',
  'onObserve',
  'onRateExceeded',
] as const;

const EXEMPT_PATHS_MAX = 32;

/** Default of `identifyTimeoutMs`. @internal */
export const IDENTIFY_TIMEOUT_MS = 10_000;

/**
 * Returns the given manager, or makes one from the options.
 * @param maxConnections limit of WebSockets, which the manager of a guard enforces with its own total
 * @throws ERR_INVALID_ARG_TYPE; ERR_LIMITS_CONFLICT as `ConnectionManager`
 * @internal
 */
export function managerOf<R>(
  options: GuardOptions<R>,
  timers: TimerManager,
  maxConnections = Infinity,
): ConnectionManager {
  const { manager, limits } = options;
  if (!(timers instanceof TimerManager)) throw wrongType('timers', timers, 'a TimerManager');
  if (manager === undefined) {
    optionsObject('limits', limits, 'an object, unless a manager is given');
    const own = readLimits(limits);
    const given = Object.fromEntries(
      MANAGER_OPTIONS.filter((name) => options[name] !== undefined).map((name) => [
        name,
        options[name],
      ]),
    );
    const total = own.maxTotalConnections;
    // A NaN or a string in `limits` stays, for the manager to refuse.
    const least =
      typeof total === 'number' || total === undefined
        ? Math.min(total ?? Infinity, maxConnections)
        : total;
    return new ConnectionManager(
      maxConnections === Infinity ? own : { ...own, maxTotalConnections: least },
      timers,
      given,
    );
  }
  if (maxConnections !== Infinity)
    throw wrongType(
      'websockets.maxConnections',
      maxConnections,
      'absent when a manager is given: it has its own',
    );
  if (!(manager instanceof ConnectionManager))
    throw wrongType('manager', manager, 'a ConnectionManager');
  for (const field of ['limits', 'timers', ...MANAGER_OPTIONS] as const) {
    if (options[field] !== undefined)
      throw wrongType(field, options[field], 'absent when a manager is given: it has its own');
  }
  return manager;
}

/** Checks `exemptPaths`. @internal */
export function exemptPathsOf(paths: readonly string[] | undefined): ReadonlySet<string> {
  if (paths === undefined) return new Set();
  if (!Array.isArray(paths))
    throw wrongType('exemptPaths', paths, "an array of paths such as '/healthz'");
  if (paths.length > EXEMPT_PATHS_MAX)
    throw outOfRange('exemptPaths', paths.length, `at most ${EXEMPT_PATHS_MAX} paths`);
  for (const [index, path] of paths.entries()) {
    const allowed =
      "a whole path such as '/healthz' of visible ASCII characters, without a query, a star, a parameter, and segments '.' and '..'";
    if (typeof path !== 'string') throw wrongType(`exemptPaths[${index}]`, path, allowed);
    if (
      !/^\/[!-~]*$/.test(path) ||
      /[?#\\*]/.test(path) ||
      hasParameter(path) ||
      hasDotSegment(path)
    )
      throw outOfRange(`exemptPaths[${index}]`, path, allowed);
  }
  return new Set(paths);
}
