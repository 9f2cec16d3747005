import { outOfRange, wrongType } from '../base/errors.js';
import type { ConnectionLimits } from '../connections/limits.js';
import { ConnectionManager } from '../connections/manager.js';
import type { ConnectionManagerOptions } from '../connections/options.js';
import type { ProductionMetrics } from '../metrics/metrics.js';
import { Trust } from '../native/addon.js';
import type { PageOptions } from '../page/live-page.js';
import type { RequestLimits, WebSocketLimitsInput } from '../resources/limits.js';
import { TimerManager } from '../timers/manager.js';
import type { TokenVerifier } from '../tokens/verifier.js';
import type { TokenAuth } from './bearer.js';
import type { MessageOptions } from './json-filter.js';

/**
 * Options of every adapter. Either `limits` or a `manager` of your own; with a `manager`, the
 * options that would make one (`timers` and those of `ConnectionManagerOptions`) are its own.
 * `R` is the adapter's request.
 */
export interface GuardOptions<R> extends ConnectionManagerOptions, MessageOptions {
  /** Limits of the manager that is made; required unless a `manager` is given. */
  readonly limits?: ConnectionLimits;
  /** A manager that others use too. */
  readonly manager?: ConnectionManager;
  /** Owner of the manager's timers. Default: a new one. */
  readonly timers?: TimerManager;
  /**
   * Networks (`10.0.0.0/8`) or addresses of your own proxies. Only from these are
   * `X-Forwarded-For` and `Forwarded` read, from the right to the first address that is not
   * trusted. Default: none, the socket's address counts.
   */
  readonly trustedProxies?: readonly string[];
  /**
   * The user behind a request, or `undefined` (or `null`) for an anonymous one. If it throws or rejects, the
   * client is refused with 500 (close code 1011) and is told nothing more, and so it is after `identifyTimeoutMs`.
   */
  readonly identify?: (
    request: R,
  ) => string | null | undefined | Promise<string | null | undefined>;
  /** Milliseconds that `identify` may take: 1 to 2^30. What it says later is not heard. Default 10000. */
  readonly identifyTimeoutMs?: number | undefined;
  /**
   * Lets in only clients with a good token, whose `sub` becomes the user; instead of `identify`.
   * Others get 401 with `WWW-Authenticate` (close code 1008), or 503 (1013) while keys are missing.
   */
  readonly auth?: TokenVerifier | TokenAuth;
  /** Told what `identify` threw. */
  readonly onIdentifyError?: (error: unknown, ip: string) => void;
  /**
   * `http` refuses before the upgrade by status; `close` accepts and closes at once with a code,
   * since browsers cannot read the status of a failed upgrade. Default `http`.
   */
  readonly refuseWith?: 'http' | 'close';
  /** Limits of HTTP requests, those that are missing with their defaults. Default: none are enforced. */
  readonly requests?: Partial<RequestLimits>;
  /**
   * Paths whose `GET` and `HEAD` are neither limited, shed nor counted: those that ask whether the server lives, which load must
   * not decide. Exact, each from `/` on, of visible ASCII, without a query; at most 32. Upgrades are guarded there, too. Default: none.
   */
  readonly exemptPaths?: readonly string[] | undefined;
  /** Limits of WebSockets (`WebSocketLimits`), those that are missing with their defaults. Default: none are enforced. */
  readonly websockets?: WebSocketLimitsInput;
  /** Counts requests, connections, messages, users and refusals. */
  readonly metrics?: ProductionMetrics | undefined;
  /** A page that shows what the server is doing. Default: none. It stands before all limits: who looks after the server must see it when it is full. */
  readonly page?: PageOptions | undefined;
}

export const GUARD_OPTIONS = [
  'limits',
  'manager',
  'timers',
  'trustedProxies',
  'identify',
  'identifyTimeoutMs',
  'exemptPaths',
  'auth',
  'onIdentifyError',
  'refuseWith',
  'requests',
  'websockets',
  'page',
  'metrics',
] as const;
export const MANAGER_OPTIONS = [
  'name',
  'leaseTimeoutMs',
  'closeTimeoutMs',
  'onFull',
  'onDuplicateId',
  'monitor',
  'onEvict',
  'onRefuse',
  'onRateExceeded',
] as const;
export const EXEMPT_PATHS_MAX = 32;
export function managerOf<R>(
  options: GuardOptions<R>,
  timers: TimerManager,
  maxConnections = Infinity,
): ConnectionManager {
  const { manager, limits } = options;
  if (!(timers instanceof TimerManager)) throw wrongType('timers', timers, 'a TimerManager');
  if (manager === undefined) {
    if (typeof limits !== 'object' || limits === null)
      throw wrongType('limits', limits, 'an object, unless a manager is given');
    const given = Object.fromEntries(
      MANAGER_OPTIONS.filter((name) => options[name] !== undefined).map((name) => [
        name,
        options[name],
      ]),
    );
    const total = limits.maxTotalConnections;
    const least =
      typeof total === 'number' || total === undefined
        ? Math.min(total ?? Infinity, maxConnections)
        : total;
    // A NaN is not to be hidden by the other.
    return new ConnectionManager(
      maxConnections === Infinity ? limits : { ...limits, maxTotalConnections: least },
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

/** @internal */
export function trustedProxiesOf(networks: readonly string[] | undefined): Trust | undefined {
  if (networks === undefined) return undefined;
  if (!Array.isArray(networks))
    throw wrongType('trustedProxies', networks, 'an array of networks such as "10.0.0.0/8"');
  const trust = new Trust();
  for (const [index, network] of networks.entries()) {
    const field = `trustedProxies[${index}]`;
    if (typeof network !== 'string')
      throw wrongType(field, network, 'a network such as "10.0.0.0/8" or an address');
    if (!trust.add(network))
      throw outOfRange(field, network, 'a network such as "10.0.0.0/8" or an address');
  }
  return networks.length === 0 ? undefined : trust;
}

export function exemptPathsOf(paths: readonly string[] | undefined): ReadonlySet<string> {
  if (paths === undefined) return new Set();
  if (!Array.isArray(paths))
    throw wrongType('exemptPaths', paths, "an array of paths such as '/healthz'");
  if (paths.length > EXEMPT_PATHS_MAX)
    throw outOfRange('exemptPaths', paths.length, `at most ${EXEMPT_PATHS_MAX} paths`);
  for (const [index, path] of paths.entries()) {
    const allowed = "a path such as '/healthz' of visible ASCII characters, without a query";
    if (typeof path !== 'string') throw wrongType(`exemptPaths[${index}]`, path, allowed);
    if (!/^\/[!-~]*$/.test(path) || /[?#\\]/.test(path))
      throw outOfRange(`exemptPaths[${index}]`, path, allowed);
  }
  return new Set(paths);
}

export const IDENTIFY_TIMEOUT_MS = 10000;
