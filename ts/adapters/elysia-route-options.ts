/** Options of single routes of Elysia, on top of the guard's: the macro `portcullis`. */
import { outOfRange, wrongType } from '../base/errors.js';
import { optionsObject, readOptions, wholeNumber } from '../base/options.js';
import { ConnectionManager } from '../connections/manager.js';
import { checkedConnectRate, type ConnectRate, frozenRate } from '../connections/connect-rates.js';
import { checkedRateLimit } from '../limiter/options.js';
import type { Admission } from '../guard/admission.js';
import { lackOf } from '../guard/bearer.js';
import type { Guard } from '../guard/guard.js';
import type { RequestRate } from '../http/rate-options.js';
import { type RatedOutcome, type RatedRequest, RequestRateLimiter } from '../http/request-rates.js';
import { checkedRights, type TokenRights } from '../tokens/policy.js';
import { VerifiedToken } from '../tokens/verified-token.js';

/** In the place of the token of a client that needs none. */
const NO_TOKEN = VerifiedToken.of({ exp: 0 });

/**
 * Rate of the requests of one route of Elysia, on top of the guard's `requests.rate`, of which `headers`,
 * `ipv6PrefixBits`, `mode` and `onRateRefused` hold for it, too. `mode: 'observe'` of the guard's `limits` observes it.
 */
export interface RouteRate extends RequestRate {
  /**
   * `ip`: of each client, judged before its token; clients that the guard's option `exempt` names are not counted.
   * `user`: of each user, and needs `requireToken`. The user is the token's `sub`, also where the application has a
   * `user` of its own in the context. Default `ip`.
   */
  readonly by?: 'ip' | 'user' | undefined;
}

/**
 * Options of one route, beside its handlers: `.ws('/ws', { portcullis: { maxConnections: 100 }, ... })`. Elysia writes
 * the hook of the guard into the object that holds `portcullis`: give each route an object of its own. One that the
 * routes of two guards share has the hook of the first guard, whose verifier then judges the tokens of both.
 */
export interface RouteGuardOptions {
  /**
   * Connections of this route: 0 to 2^32 - 2, or `Infinity`; one more gets 503 (close 1013). Counts on top of the
   * guard's limits; routes of `.ws()` only. Default `Infinity`.
   */
  readonly maxConnections?: number | undefined;
  /**
   * Rate of connects to this route of each address (`ConnectRate`); one more gets 429 (close 1013). Counts on top
   * of the guard's limits; routes of `.ws()` only. Default: none.
   */
  readonly connectRate?: ConnectRate | undefined;
  /**
   * Whether a request of this route needs a valid token of the guard's `auth`, which it needs; others get 401 with
   * `WWW-Authenticate`. The token's `sub` is `user` of the handler. Handshakes need one anyway. Default `false`.
   */
  readonly requireToken?: boolean | undefined;
  /**
   * Rate of the requests of this route (`RouteRate`); one more gets 429. A request whose body or query fails the schema
   * of the route is not counted. Not of routes of `.ws()`, which have `connectRate`. Default: none.
   */
  readonly rate?: RouteRate | undefined;
  /**
   * Scopes that the token of a request or handshake must all have, beside those of `auth`; others get 403. Needs
   * `requireToken`. Default: none.
   */
  readonly scope?: string | readonly string[] | undefined;
  /**
   * Roles of which the token of a request or handshake must have one, at `rolesPath`; others get 403. Needs
   * `requireToken`. Default: none.
   */
  readonly roles?: string | readonly string[] | undefined;
  /** The place of the roles, as the verifier's option of this name. Default `roles`. */
  readonly rolesPath?: string | readonly string[] | undefined;
}

const SEATS_MAX = 2 ** 32 - 2;
const OPTIONS = [
  'maxConnections',
  'connectRate',
  'requireToken',
  'rate',
  'scope',
  'roles',
  'rolesPath',
] as const;
const NAME = 'portcullis';

/** Returns whether the requests of a route need a token. */
function requiresToken(guard: Guard<Request>, options: RouteGuardOptions): boolean {
  const { requireToken = false } = options;
  if (typeof requireToken !== 'boolean')
    throw wrongType(`${NAME}.requireToken`, requireToken, 'true or false');
  if (requireToken && !guard.verifiesTokens)
    throw wrongType(
      `${NAME}.requireToken`,
      requireToken,
      'absent without the option auth of the guard, whose verifier judges the tokens',
    );
  return requireToken;
}

/** Returns the rights that the tokens of a route must have. */
function rightsOfRoute(options: RouteGuardOptions, hasToken: boolean): TokenRights {
  const rights = checkedRights(`${NAME}.`, options);
  for (const name of ['scope', 'roles'] as const) {
    if (options[name] !== undefined && !hasToken)
      throw wrongType(`${NAME}.${name}`, options[name], 'absent without requireToken');
  }
  return rights;
}

/** Returns whether the rate of a route counts users, not clients. */
function ratesUsers(rate: RouteRate, hasToken: boolean): boolean {
  checkedRateLimit(`${NAME}.rate`, rate);
  const { by = 'ip' } = rate;
  if (by !== 'ip' && by !== 'user') throw outOfRange(`${NAME}.rate.by`, by, "'ip' or 'user'");
  if (by === 'user' && !hasToken)
    throw wrongType(`${NAME}.rate.by`, by, "'ip' without requireToken, which tells the user");
  return by === 'user';
}

/** Returns the limiter of a route's rate, which is given the user of a request in the place of the request. */
function ratesOf(guard: Guard<Request>, rate: RouteRate, byUser: boolean): RequestRateLimiter {
  const { ratesOfRoutes, tracer, showsClients, manager } = guard;
  const { by: _, ...limit } = rate;
  const rates = byUser
    ? { ...ratesOfRoutes, perUser: limit, user: (user: string | undefined) => user }
    : { ...ratesOfRoutes, perRoute: { '/*': limit } };
  const limiter = new RequestRateLimiter(rates, manager.timers.driver.clock, tracer, showsClients);
  limiter.observes = () => manager.mode === 'observe';
  return limiter;
}

/** The limits of one route. Made where the route is registered, so that wrong options fail there. @internal */
export class RouteGuard {
  readonly requiresToken: boolean;
  /** Whether the rate counts users, not clients; `undefined` without a rate. */
  readonly ratesUsers: boolean | undefined;
  readonly #rates: RequestRateLimiter | undefined;
  /** Rights that the token of a request must have. */
  readonly rights: TokenRights;
  /** Counts the seats of the route; `undefined` without limits of its own. */
  readonly #manager: ConnectionManager | undefined;
  readonly #guard: Guard<Request>;
  #isShown = false;

  /** @throws ERR_INVALID_ARG_TYPE, ERR_OUT_OF_RANGE, ERR_UNKNOWN_OPTION, naming the field */
  constructor(guard: Guard<Request>, options: RouteGuardOptions) {
    optionsObject(NAME, options, 'an object { maxConnections, connectRate, requireToken, rate }');
    const given = readOptions(`${NAME} of a route`, options, OPTIONS, `${NAME}.`);
    const { maxConnections, rate } = given;
    const connectRate = frozenRate(`${NAME}.connectRate`, given.connectRate, 'connects');
    const most = wholeNumber(`${NAME}.maxConnections`, maxConnections, 0, SEATS_MAX, Infinity);
    checkedConnectRate(`${NAME}.connectRate`, connectRate);
    this.#guard = guard;
    this.requiresToken = requiresToken(guard, given);
    this.rights = rightsOfRoute(given, this.requiresToken);
    if (rate !== undefined) {
      this.ratesUsers = ratesUsers(rate, this.requiresToken);
      this.#rates = ratesOf(guard, rate, this.ratesUsers);
    }
    if (most === Infinity && connectRate === undefined) return;
    this.#manager = guard.routeManager({
      ...(most === Infinity ? {} : { maxTotalConnections: most }),
      ...(connectRate === undefined ? {} : { connectRatePerIp: connectRate }),
    });
  }

  /**
   * Checks the route that the options stand at: its hooks and handlers, among them `websocket` of `.ws()`.
   * @throws ERR_INVALID_ARG_TYPE for limits of connections at a route without any, and for a rate of requests at a
   *   route of sockets
   */
  checkRoute(route: object): void {
    if (this.#manager !== undefined && !('websocket' in route))
      throw wrongType(
        NAME,
        route,
        'without maxConnections and connectRate at a route of HTTP requests: they limit the sockets of .ws()',
      );
    if (this.#rates !== undefined && 'websocket' in route)
      throw wrongType(
        NAME,
        route,
        'without rate at a route of .ws(): connectRate limits its sockets',
      );
  }

  /**
   * Shows the limiter of the rate in metrics and on the page, by its name or by the route, which names its policy, too.
   * Of several routes with these options, whose requests count together, the first one names it.
   * @param route method and path
   */
  stands(route: string): void {
    if (this.#isShown) return;
    this.#isShown = true;
    this.#rates?.nameAfter(route);
    for (const labelled of this.#rates?.labelled() ?? [])
      this.#guard.showLimiter({ ...labelled, label: labelled.limiter.name ?? route });
  }

  /**
   * Judges a request of the route by its rate; `undefined` without one, and for an exempt client of a rate by address.
   * @param user whom its token names
   */
  judge(asked: Omit<RatedRequest, 'request'>, user: string | undefined): RatedOutcome | undefined {
    if (this.ratesUsers === false && this.#guard.manager.isExempt(asked.clientOf()))
      return undefined;
    return this.#rates?.judge({ request: user, ...asked });
  }

  /**
   * Takes a seat of the route for an admitted client, or denies one whose token lacks a right;
   * `undefined` without limits of its own.
   */
  seat(admitted: Admission, request: Request): Admission | undefined {
    const lack = lackOf(this.rights, admitted.token ?? NO_TOKEN);
    if (lack !== undefined) return this.#guard.withoutRight(admitted, lack, request);
    return this.#manager === undefined
      ? undefined
      : this.#guard.seatIn(this.#manager, admitted, request);
  }
}
