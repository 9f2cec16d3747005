/** Options of the rates of HTTP requests, and their checks. */
import type { Clock } from '../base/clock.js';
import { lazily } from '../base/builtin.js';
import { outOfRange, wrongType } from '../base/errors.js';
import {
  type Given,
  hasDotSegment,
  optionsObject,
  readOptions,
  wholeNumber,
} from '../base/options.js';
import { RateLimiter } from '../limiter/limiter.js';
import {
  checkedRateLimit,
  RATE_LIMIT_OPTIONS,
  type RateLimit,
  refuseLimiter,
} from '../limiter/options.js';
import type { RateLimitResult } from '../limiter/result.js';
import type { RequestLimits } from '../resources/resource-limits.js';

/** A rate of requests, or a limiter of your own that other servers may share. */
export interface RequestRate extends RateLimit {
  /** Most clients that are remembered: 1 to 2^24, as in `RateLimiter`. Default 131072. */
  readonly maxKeys?: number | undefined;
  /** Name by which worker threads share the rate, as in `RateLimiter`. Default: none. */
  readonly name?: string | undefined;
}

/** Header fields that tell clients their limits. */
export type RateHeaders = 'ratelimit' | 'ratelimit-legacy' | 'x-ratelimit';

/** The limit that a request meets. */
export type RateScope = 'ip' | 'route' | 'key' | 'user';

/** A key of the application's; `undefined` or `null` for none. @internal */
export type RateKey = string | number | bigint | null | undefined;

/** A request that a rate refused, or would refuse with `mode: 'observe'`. */
export interface RateRefusal {
  /** The limit that the request met. */
  readonly scope: RateScope;
  /** Its key in the limit: the client's address or network, the user, or your own key. */
  readonly key: string;
  readonly result: RateLimitResult;
  /** False with `mode: 'observe'`: the request was served. */
  readonly isEnforced: boolean;
  /** Id of the request; see `RequestTrace`. */
  readonly requestId: string | undefined;
  /** Its `traceparent` (W3C Trace Context), if it has a valid one. */
  readonly traceparent: string | undefined;
}

/**
 * Rates of HTTP requests. A request is judged by all of them in this order, before its body is read:
 * address, route, key, user. A request that one refuses spends nothing of the others. Handshakes of
 * WebSockets are not counted: `connectRatePerIp` limits them. `R` is the request of the adapter.
 */
export interface RequestRates<R = unknown> {
  /**
   * Rate of each client: its IPv4 address, or its IPv6 network of `ipv6PrefixBits`, behind
   * `trustedProxies` too. Default: none.
   */
  readonly perIp?: RequestRate | RateLimiter | undefined;
  /**
   * Rate of each client at single routes, by method and path such as `POST /login`; `/api/*` is every
   * method and all paths below `/api/`. The first match counts; at most 64. Paths match whatever their
   * case, percent-encoding, dots, slashes and parameters are, so that no spelling escapes: a path that routers
   * read in several ways, such as `/x/../login`, spends the rate of each. A route that no request can reach, such
   * as one with a parameter (`/users/:id`), with a segment `..`, or behind a route that covers it, is an error.
   * Default: none.
   */
  readonly perRoute?: Readonly<Record<string, RequestRate | RateLimiter>> | undefined;
  /** Rate of each value that `key` returns; needs `key`. Default: none. */
  readonly perKey?: RequestRate | RateLimiter | undefined;
  /**
   * Returns a key of your own, such as an API key; `undefined` or `null` for a request that has none. A number counts
   * by its text. Any other value is an error, as a promise is: the request is not counted, and a process warning tells
   * so. The same holds for `user`.
   */
  readonly key?: ((request: R) => string | number | bigint | null | undefined) | undefined;
  /** Rate of each user that `user` returns; needs `user`. Default: none. */
  readonly perUser?: RequestRate | RateLimiter | undefined;
  /**
   * Returns the user of a request, verified; `undefined` or `null` for an anonymous one. Called after the other
   * rates have admitted the request, so that a flood costs no verification.
   */
  readonly user?: ((request: R) => string | number | bigint | null | undefined) | undefined;
  /** Returns true for a request that no rate counts. Default: none. */
  readonly skip?: ((request: R) => boolean) | undefined;
  /** Returns the cost of a request: 1 to 2^30; 0 counts nothing. Default: 1. */
  readonly cost?: ((request: R) => number) | undefined;
  /** Whether requests answered with a status below 400 get their cost back. Default `false`. */
  readonly skipSuccessful?: boolean | undefined;
  /** Whether requests answered with a status of 400 or more get their cost back. Default `false`. */
  readonly skipFailed?: boolean | undefined;
  /** Bits of an IPv6 address that make one client: 32 to 128. Default 64. */
  readonly ipv6PrefixBits?: number | undefined;
  /**
   * Header fields of answers. `ratelimit`: `RateLimit` and `RateLimit-Policy` of version 10 of
   * draft-ietf-httpapi-ratelimit-headers. `ratelimit-legacy`: `RateLimit-Limit`, `-Remaining` and
   * `-Reset` of its sixth version. `x-ratelimit`: the same with `X-`, and the reset as a time of Unix.
   * Default `['ratelimit']`.
   */
  readonly headers?: readonly RateHeaders[] | undefined;
  /**
   * `enforce`: refused requests get 429. `observe`: they are counted and reported, and served; answers
   * have no header fields of rates. Default `enforce`.
   */
  readonly mode?: 'enforce' | 'observe' | undefined;
  /** Called with each request that a rate refuses, or would refuse. Default: none. */
  readonly onRateRefused?: ((refusal: RateRefusal) => void) | undefined;
}

/** Limits of HTTP requests as input; absent ones have their defaults. `R` is the request of the adapter. */
export interface RequestLimitsInput<R = unknown> extends Given<RequestLimits> {
  /** Rates of requests (`RequestRates`). Default: none. */
  readonly rate?: RequestRates<R> | undefined;
}

const NAMES = [
  'perIp',
  'perRoute',
  'perKey',
  'key',
  'perUser',
  'user',
  'skip',
  'cost',
  'skipSuccessful',
  'skipFailed',
  'ipv6PrefixBits',
  'headers',
  'mode',
  'onRateRefused',
] as const;
const HEADERS: readonly RateHeaders[] = ['ratelimit', 'ratelimit-legacy', 'x-ratelimit'];
const ROUTES_MAX = 64;
const ROUTE = /^(?:([A-Z-]{1,20}) )?(\/[!-~]*)$/;
const http = lazily(() => process.getBuiltinModule('node:http'));
const FIELD = 'requests.rate';

/** The rate of one route. @internal */
export interface RouteRate {
  /** The route as it was given. */
  readonly route: string;
  /** `undefined` for all methods. */
  readonly method: string | undefined;
  /** Normalized path; of a wildcard, the part before the star. */
  readonly path: string;
  readonly isPrefix: boolean;
  readonly limiter: RateLimiter;
}

/** Checked rates. @internal */
export interface CheckedRates {
  readonly perIp: RateLimiter | undefined;
  readonly perRoute: readonly RouteRate[];
  readonly perKey: RateLimiter | undefined;
  readonly perUser: RateLimiter | undefined;
  readonly options: RequestRates<never>;
  readonly ipv6PrefixBits: number;
  readonly headers: ReadonlySet<RateHeaders>;
  readonly isObserving: boolean;
}

/**
 * Returns the path of a target in the one spelling by which routes match: routers differ in letter
 * case, percent-encoding and slashes, and no spelling may escape a rate.
 * @internal
 */
export function normalizedPath(target: string): string {
  const end = target.search(/[?#;]/);
  let path = end === -1 ? target : target.slice(0, end);
  try {
    path = decodeURIComponent(path);
  } catch {
    // A malformed escape stays as it is: no router decodes it either.
  }
  path = path
    .toLowerCase()
    .replaceAll('\\', '/')
    .replaceAll(/\/{2,}/g, '/');
  return path.length > 1 && path.endsWith('/') ? path.slice(0, -1) : path;
}

/** True for a segment that is a parameter to routers, such as `:id` and `{id}`. @internal */
export const hasParameter = (path: string): boolean => /\/(?::|\{[^/]*\}(?:\/|$))/.test(path);

/** Returns the rule that a route breaks, or `undefined` for a route that requests can match. */
function brokenRule(method: string | undefined, path: string): string | undefined {
  if (method !== undefined && !http().METHODS.includes(method))
    return "a method of HTTP and a path such as 'POST /login', or a path";
  if (/[?#;]/.test(path)) return "a path without '?', '#' and ';': routes match by the path alone";
  if (hasDotSegment(path)) return "a path without the segments '.' and '..', which clients resolve";
  if (hasParameter(path))
    return "a path without parameters: '/users/*' stands for all paths below '/users/'";
  return /\*/.test(path.endsWith('/*') ? path.slice(0, -1) : path)
    ? "a path whose only star is its last segment, such as '/api/*'"
    : undefined;
}

/**
 * Checks a route and returns its method and path.
 * @throws ERR_OUT_OF_RANGE
 */
function checkedRoute(field: string, route: string): { method: string | undefined; path: string } {
  const [, method, path = ''] = ROUTE.exec(route) ?? [];
  const rule =
    path === '' ? "a method and a path such as 'POST /login', or a path" : brokenRule(method, path);
  if (rule !== undefined) throw outOfRange(field, route, rule);
  return { method, path };
}

/**
 * Checks the method and path of a request.
 * @throws ERR_INVALID_ARG_TYPE, ERR_OUT_OF_RANGE
 * @internal
 */
export function checkedRequestRoute(route: unknown): { method: string; path: string } {
  const allowed = "a method and a path such as 'POST /login'";
  if (typeof route !== 'string') throw wrongType('route', route, allowed);
  const [, method, path = ''] = ROUTE.exec(route) ?? [];
  if (method === undefined || !http().METHODS.includes(method))
    throw outOfRange('route', route, allowed);
  return { method, path };
}

/** True if a route limits requests of a method. @internal */
export const isOfMethod = (route: Pick<RouteRate, 'method'>, method: string | undefined): boolean =>
  // A router answers HEAD by the handler of GET.
  route.method === undefined ||
  route.method === method ||
  (route.method === 'GET' && method === 'HEAD');

/**
 * True for a route that matches a method and a normalized path.
 * @internal
 */
export function matchesRoute(
  route: Pick<RouteRate, 'method' | 'path' | 'isPrefix'>,
  method: string | undefined,
  path: string,
): boolean {
  return (
    isOfMethod(route, method) &&
    (route.path === path ||
      (route.isPrefix && (route.path === '/' || path.startsWith(`${route.path}/`))))
  );
}

/**
 * True if every request that `later` matches is one of `earlier`, so that `later` would never be reached.
 */
function covers(earlier: Omit<RouteRate, 'limiter'>, later: Omit<RouteRate, 'limiter'>): boolean {
  return matchesRoute(earlier, later.method, later.path) && (earlier.isPrefix || !later.isPrefix);
}

/** Options of all limiters that are made here. */
interface Made {
  readonly clock: Clock;
  readonly showKeys: boolean;
}

function limiterOf(
  field: string,
  rate: RequestRate | RateLimiter | undefined,
  { clock, showKeys }: Made,
): RateLimiter | undefined {
  if (rate === undefined || rate instanceof RateLimiter) return rate;
  const allowed = 'an object { limit, windowMs } or a RateLimiter';
  optionsObject(field, rate, allowed);
  refuseLimiter(field, rate, `${allowed}, which answers at once`);
  const options = readOptions(field, rate, [...RATE_LIMIT_OPTIONS, 'maxKeys', 'name'], `${field}.`);
  // Names the field by its whole path; the limiter would name it alone.
  checkedRateLimit(field, options);
  return new RateLimiter({ ...options, clock, showKeys });
}

function routesOf(rates: RequestRates<never>['perRoute'], made: Made): RouteRate[] {
  const field = `${FIELD}.perRoute`;
  if (rates === undefined) return [];
  optionsObject(field, rates, "an object such as { 'POST /login': { limit, windowMs } }");
  const entries = Object.entries(rates);
  if (entries.length > ROUTES_MAX)
    throw outOfRange(field, entries.length, `at most ${ROUTES_MAX} routes`);
  const earlier: Omit<RouteRate, 'limiter'>[] = [];
  return entries.map(([route, rate]) => {
    const { method, path } = checkedRoute(field, route);
    const isPrefix = path.endsWith('/*');
    const normal = normalizedPath(isPrefix ? path.slice(0, -2) || '/' : path);
    const found = { route, method, path: normal, isPrefix };
    const cover = earlier.find((one) => covers(one, found));
    if (cover !== undefined)
      throw outOfRange(
        field,
        route,
        `without a route that an earlier one covers: the first match counts, and '${cover.route}' is earlier`,
      );
    earlier.push(found);
    const limiter = limiterOf(`${field}['${route}']`, rate, made);
    if (limiter === undefined)
      throw wrongType(`${field}['${route}']`, rate, 'an object { limit, windowMs }');
    return { ...found, limiter };
  });
}

function checkFunctions(given: RequestRates<never>): void {
  for (const name of ['key', 'user', 'skip', 'cost', 'onRateRefused'] as const)
    if (given[name] !== undefined && typeof given[name] !== 'function')
      throw wrongType(`${FIELD}.${name}`, given[name], 'a function');
  for (const [rate, source] of [
    ['perKey', 'key'],
    ['perUser', 'user'],
  ] as const)
    if ((given[rate] === undefined) !== (given[source] === undefined))
      throw wrongType(`${FIELD}.${source}`, given[source], `given together with ${rate}`);
  for (const name of ['skipSuccessful', 'skipFailed'] as const)
    if (given[name] !== undefined && typeof given[name] !== 'boolean')
      throw wrongType(`${FIELD}.${name}`, given[name], 'true or false');
}

/** Returns a plain copy of the rates of requests. @throws ERR_INVALID_ARG_TYPE, ERR_UNKNOWN_OPTION @internal */
export function rateOptions<T extends RequestRates<never>>(given: T): T {
  optionsObject(FIELD, given, 'an object such as { perIp: { limit, windowMs } }');
  return readOptions(FIELD, given, NAMES, `${FIELD}.`);
}

/**
 * Checks the rates of requests, and makes their limiters.
 * @param given made by `rateOptions`
 * @throws ERR_INVALID_ARG_TYPE, ERR_OUT_OF_RANGE, ERR_UNKNOWN_OPTION, naming the field;
 *   ERR_LIMITS_CONFLICT as `RateLimiter`
 * @internal
 */
export function checkedRates(
  given: RequestRates<never>,
  clock: Clock,
  showKeys = false,
): CheckedRates {
  checkFunctions(given);
  const { mode = 'enforce', headers = ['ratelimit'] } = given;
  if (mode !== 'enforce' && mode !== 'observe')
    throw outOfRange(`${FIELD}.mode`, mode, "'enforce' or 'observe'");
  if (!Array.isArray(headers)) throw wrongType(`${FIELD}.headers`, headers, 'an array of names');
  for (const name of headers)
    if (!HEADERS.includes(name))
      throw outOfRange(
        `${FIELD}.headers`,
        name,
        "'ratelimit', 'ratelimit-legacy' or 'x-ratelimit'",
      );
  const ipv6PrefixBits = wholeNumber(`${FIELD}.ipv6PrefixBits`, given.ipv6PrefixBits, 32, 128, 64);
  const made = { clock, showKeys };
  return {
    perIp: limiterOf(`${FIELD}.perIp`, given.perIp, made),
    perRoute: routesOf(given.perRoute, made),
    perKey: limiterOf(`${FIELD}.perKey`, given.perKey, made),
    perUser: limiterOf(`${FIELD}.perUser`, given.perUser, made),
    options: given,
    ipv6PrefixBits,
    headers: new Set(headers),
    isObserving: mode === 'observe',
  };
}
