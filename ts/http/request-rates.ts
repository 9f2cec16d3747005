/** Rates of HTTP requests, decided in one place for all hosts. */
import { clientKeyOf } from '../base/address.js';
import { type Clock, wholeMs } from '../base/clock.js';
import { wrongType } from '../base/errors.js';
import { Hooks } from '../base/hooks.js';
import { knownOptions, optionsObject } from '../base/options.js';
import type { RequestTrace, Tracer } from '../base/trace.js';
import type { RateLimiter } from '../limiter/limiter.js';
import { checkedCost, keyOfId } from '../limiter/options.js';
import type { RateLimiterStats, RateLimitResult } from '../limiter/result.js';
import { sentStatus } from '../metrics/meters.js';
import { type Answer, answerWith } from './answer.js';
import { pathReadingsOf } from './path-readings.js';
import { besideOthers, type MetLimit, rateHeaders, RequestLimit } from './rate-headers.js';
import {
  type CheckedRates,
  checkedRates,
  checkedRequestRoute,
  isOfMethod,
  matchesRoute,
  type RateKey,
  rateOptions,
  type RateRefusal,
  type RateScope,
  type RequestRates,
} from './rate-options.js';

/** Code of a request that a rate refuses. */
export type RateRefusalCode =
  'ip_request_rate' | 'route_request_rate' | 'key_request_rate' | 'user_request_rate';

const CODES: Readonly<Record<RateScope, RateRefusalCode>> = {
  ip: 'ip_request_rate',
  route: 'route_request_rate',
  key: 'key_request_rate',
  user: 'user_request_rate',
};
const MESSAGES: Readonly<Record<RateScope, string>> = {
  ip: 'Too many requests from this address',
  route: 'Too many requests to this route',
  key: 'Too many requests with this key',
  user: 'Too many requests of this user',
};

/** A request, as the rates see it. @internal */
export interface RatedRequest {
  /** Request of the adapter. */
  readonly request: unknown;
  readonly method: string;
  /** URL, or target of the request. */
  readonly url: string;
  /** URL as the router of the host reads it, where a server could read it otherwise. */
  readonly routedUrl?: string | undefined;
  /** Returns the client's address. */
  readonly clientOf: () => string;
  /** Request whose trace the hook is told; it need not be `request`. */
  readonly traced?: object | undefined;
}

/** A client, for `explainRates()`. */
export interface RateQuestion {
  /** Address of the client. */
  readonly ip?: string | undefined;
  /** Method and path of a request, such as `POST /login`. */
  readonly route?: string | undefined;
  /** Key, as the option `key` returns it. */
  readonly key?: string | number | bigint | undefined;
  /** User, as the option `user` returns it. */
  readonly user?: string | number | bigint | undefined;
  /** Cost of the request: 1 to 2^30. Default 1. */
  readonly cost?: number | undefined;
}

/**
 * Checks a question.
 * @throws ERR_INVALID_ARG_TYPE, ERR_OUT_OF_RANGE, ERR_UNKNOWN_OPTION
 * @internal
 */
export function checkQuestion(question: RateQuestion): void {
  optionsObject('client', question, 'an object such as { ip, route }');
  knownOptions('explainRates', question, ['ip', 'route', 'key', 'user', 'cost']);
  for (const name of ['ip', 'route'] as const) {
    if (question[name] !== undefined && typeof question[name] !== 'string')
      throw wrongType(name, question[name], 'a string');
  }
  for (const name of ['key', 'user'] as const) {
    if (question[name] === null)
      throw wrongType(name, null, 'a string, a finite number or a bigint');
    keyOfId(name, question[name]);
  }
  if (question.route !== undefined) checkedRequestRoute(question.route);
  if (question.cost !== undefined) checkedCost('cost', question.cost);
}

/** One limit that a request would meet. */
export interface RateExplanation {
  readonly scope: RateScope;
  /** Key of the request in the limit. */
  readonly key: string;
  /** Whether the limit would refuse the request now; with `mode: 'observe'` it would only be counted. */
  readonly wouldRefuse: boolean;
  /** Sentence that names the limit and the reason. */
  readonly reason: string;
  readonly result: RateLimitResult;
}

/** Counts of the rates of requests. */
export interface RequestRateStats {
  /** Requests refused, or with `mode: 'observe'` reported, by limit. */
  readonly refused: Readonly<Record<RateScope, number>>;
  /** Counts of each limiter; routes have one for each. */
  readonly limiters: Readonly<Partial<Record<Exclude<RateScope, 'route'>, RateLimiterStats>>> & {
    readonly routes: readonly RateLimiterStats[];
  };
}

/** A limiter of requests, as metrics and the page show it. @internal */
export interface LabelledLimiter {
  readonly limiter: RateLimiter;
  readonly label: string;
  /** False for one that the application made. */
  readonly isOwn: boolean;
}

/** A cost that a request has spent, and may get back. */
interface Taken extends MetLimit {
  /** Time of the admission; NaN where nothing gives the cost back. */
  readonly atMs: number;
}

/** A request on its way through the limits. */
interface Asking {
  readonly asked: RatedRequest;
  readonly cost: number;
  readonly givesBack: boolean;
  readonly taken: Taken[];
}

/** Fields of a response as they were before an outcome wrote its own; `null` for absent ones. */
type FormerFields = Record<string, string | null>;

/** A response, with its former fields by the key of each limiter that has written to it. */
type RatedResponse = Response & { [key: symbol]: FormerFields | undefined };

/** A judged request: its refusal, or the costs that it has spent. @internal */
export class RatedOutcome {
  /** Header fields of the answer, with names in lower case. */
  readonly headers: Readonly<Record<string, string>>;
  /** Code and answer of the refusal; `undefined` for an admitted request. */
  readonly refusal: { readonly code: RateRefusalCode; readonly answer: Answer } | undefined;
  private readonly taken: readonly Taken[];
  private readonly cost: number;
  private readonly skips: RequestRates<never>;
  /** Key of the former fields on a response. */
  private readonly formerKey: symbol;
  private isSettled = false;

  constructor(
    headers: Readonly<Record<string, string>>,
    refusal: { readonly code: RateRefusalCode; readonly answer: Answer } | undefined,
    taken: readonly Taken[],
    cost: number,
    skips: RequestRates<never>,
    formerKey: symbol,
  ) {
    this.headers = headers;
    this.refusal = refusal;
    this.taken = taken;
    this.cost = cost;
    this.skips = skips;
    this.formerKey = formerKey;
  }

  /** True if the status of the answer decides whether the cost stays spent. */
  get givesBack(): boolean {
    const { skipSuccessful, skipFailed } = this.skips;
    return (skipSuccessful === true || skipFailed === true) && this.taken.length > 0;
  }

  /**
   * Gives the cost back if answers with `status` do not count. May be called again. A cost that has come back by
   * itself is not given back a second time: that would give back the cost of a later request.
   */
  settle(status: number): void {
    if (this.isSettled) return;
    this.isSettled = true;
    if ((status < 400 ? this.skips.skipSuccessful : this.skips.skipFailed) !== true) return;
    for (const { limit, key, result, atMs } of this.taken)
      limit.limiter.giveBack(key, this.cost, atMs, atMs + result.resetMs);
  }

  /** Returns the fields that this outcome writes, as they are; `undefined` if it writes none. */
  private formerOf(headers: Headers): FormerFields | undefined {
    let former: FormerFields | undefined;
    for (const name in this.headers) (former ??= {})[name] = headers.get(name);
    return former;
  }

  /** Writes the fields, beside those that a route has written of its own limits. */
  private writeTo(headers: Headers, former: FormerFields): void {
    for (const name in this.headers) {
      const other = former[name] ?? null;
      const beside = (): string =>
        besideOthers(name, this.headers, other ?? '', (one) => former[one]);
      headers.set(name, other === null ? this.headers[name]! : beside());
    }
  }

  /** Settles the result of a handler, and adds the header fields to a response. */
  finish<T>(result: T): T | Response {
    if (!(result instanceof Response)) {
      // Bun has an answer of its own for a handler without a response: 204, and 200 with hints in development.
      this.settle(204);
      return result;
    }
    this.settle(sentStatus(result));
    const response = result as RatedResponse;
    // An application may return one response again and again: its fields are written once, then those of copies.
    const known = response[this.formerKey];
    const former = known ?? this.formerOf(response.headers);
    if (former === undefined) return result;
    if (known === undefined) {
      try {
        response[this.formerKey] = former;
        this.writeTo(response.headers, former);
        return result;
      } catch {
        // The headers of a response that `fetch` returned cannot be changed.
      }
    }
    return this.copyOf(response, former);
  }

  /** Returns a copy with the header fields; the response itself where it cannot be copied, since its body was read. */
  private copyOf(response: Response, former: FormerFields): Response {
    if (response.bodyUsed) return response;
    try {
      const copy = new Response(response.body, response);
      for (const [name, value] of Object.entries(former)) {
        if (value === null) copy.headers.delete(name);
        else copy.headers.set(name, value);
      }
      this.writeTo(copy.headers, former);
      return copy;
    } catch {
      return response;
    }
  }
}

const NO_LIMITS: readonly RequestLimit[] = [];

/** Takes an admission back; returns the state of its key. */
function undone(limiter: RateLimiter, key: string, cost: number): RateLimitResult {
  const now = limiter.now();
  limiter.undo(key, cost, now);
  return limiter.peekAt(key, 1, now);
}

/** Judges requests by the rates of one guard. @internal */
export class RequestRateLimiter {
  readonly #rates: CheckedRates;
  readonly #ofIp: RequestLimit | undefined;
  readonly #ofKey: RequestLimit | undefined;
  readonly #ofUser: RequestLimit | undefined;
  /** Of each route, in the order of `perRoute`. */
  readonly #ofRoutes: readonly RequestLimit[];
  readonly #hooks = new Hooks();
  readonly #refused: Record<RateScope, number> = { ip: 0, route: 0, key: 0, user: 0 };
  /** Returns true while `mode: 'observe'` of something else holds for these rates, too. */
  observes: (() => boolean) | undefined;
  /** Key of the former fields on a response: an answer may pass the limiters of two guards. */
  readonly #formerKey = Symbol('portcullis.formerFields');
  /** Called for each refused request, with a function that returns the address of its client. */
  onRefused: ((clientOf: () => string) => void) | undefined;

  readonly #tracer: Tracer | undefined;

  /**
   * @param tracer reads the traces of requests
   * @param showKeys as the option of `RateLimiter`, for the limiters that are made here
   * @throws as `checkedRates`
   */
  constructor(given: RequestRates<never>, clock: Clock, tracer?: Tracer, showKeys = false) {
    this.#tracer = tracer;
    const rates = checkedRates(rateOptions(given), clock, showKeys);
    const limitOf = (scope: RateScope, limiter: RateLimiter | undefined) =>
      limiter && new RequestLimit(scope, limiter);
    this.#rates = rates;
    this.#ofIp = limitOf('ip', rates.perIp);
    this.#ofKey = limitOf('key', rates.perKey);
    this.#ofUser = limitOf('user', rates.perUser);
    this.#ofRoutes = rates.perRoute.map(
      ({ limiter, route }) => new RequestLimit('route', limiter, `route:${route}`),
    );
  }

  /** Names the policies of a limiter whose rates are those of one route. */
  nameAfter(route: string): void {
    for (const limit of this.#ofRoutes) limit.rename(`ip:${route}`);
    this.#ofUser?.rename(`user:${route}`);
  }

  /** The limiters, each with a label for metrics and the page. */
  labelled(): LabelledLimiter[] {
    const { perIp, perKey, perUser, perRoute, options } = this.#rates;
    const given = new Set<unknown>([
      options.perIp,
      options.perKey,
      options.perUser,
      ...Object.values(options.perRoute ?? {}),
    ]);
    const all: readonly (readonly [RateScope, RateLimiter | undefined])[] = [
      ['ip', perIp],
      ['key', perKey],
      ['user', perUser],
      ...perRoute.map(({ limiter }) => ['route', limiter] as const),
    ];
    return all.flatMap(([scope, limiter]) => {
      if (limiter === undefined) return [];
      const label = limiter.name ?? `requests.${scope}`;
      return [{ limiter, label, isOwn: !given.has(limiter) }];
    });
  }

  /** Counts at this moment. */
  snapshot(): RequestRateStats {
    const { perIp, perKey, perUser, perRoute } = this.#rates;
    return {
      refused: { ...this.#refused },
      limiters: {
        ...(perIp === undefined ? {} : { ip: perIp.snapshot() }),
        ...(perKey === undefined ? {} : { key: perKey.snapshot() }),
        ...(perUser === undefined ? {} : { user: perUser.snapshot() }),
        routes: perRoute.map(({ limiter }) => limiter.snapshot()),
      },
    };
  }

  get #isObserving(): boolean {
    return this.#rates.isObserving || this.observes?.() === true;
  }

  /** Judges a request; `undefined` for one that no rate counts. */
  judge(asked: RatedRequest): RatedOutcome | undefined {
    const { options, headers } = this.#rates;
    const { skip } = options;
    const request = asked.request as never;
    if (skip !== undefined && this.#hooks.ask('rate.skip', () => skip(request)) === true)
      return undefined;
    const cost = options.cost === undefined ? 1 : this.#costOf(request);
    if (cost === 0) return undefined;
    const givesBack = options.skipSuccessful === true || options.skipFailed === true;
    const asking: Asking = { asked, cost, givesBack, taken: [] };
    // One after the other: a refusal asks no further.
    const refused =
      this.#takeOfClient(asking) ?? this.#takeOfKey(asking) ?? this.#takeOfUser(asking);
    if (refused !== undefined) return refused;
    const told = this.#isObserving ? {} : rateHeaders(headers, asking.taken);
    return new RatedOutcome(told, undefined, asking.taken, cost, options, this.#formerKey);
  }

  /** Takes the cost from the limits by address; returns a refusal. */
  #takeOfClient(asking: Asking): RatedOutcome | undefined {
    const { method, url, routedUrl, clientOf } = asking.asked;
    const ofIp = this.#ofIp;
    const routes = this.#routesOf(method, url, routedUrl);
    if (ofIp === undefined && routes.length === 0) return undefined;
    const client = clientKeyOf(clientOf(), this.#rates.ipv6PrefixBits);
    let refused = ofIp && this.#take(ofIp, client, asking);
    for (const route of routes) refused ??= this.#take(route, client, asking);
    return refused;
  }

  #takeOfKey(asking: Asking): RatedOutcome | undefined {
    const { key } = this.#rates.options;
    return this.#takeOf(this.#ofKey, 'rate.key', key, asking);
  }

  #takeOfUser(asking: Asking): RatedOutcome | undefined {
    const { user } = this.#rates.options;
    return this.#takeOf(this.#ofUser, 'rate.user', user, asking);
  }

  /** Takes the cost from the limit of the key that a function of the application returns. */
  #takeOf(
    limit: RequestLimit | undefined,
    hook: string,
    keyOf: ((request: never) => RateKey) | undefined,
    asking: Asking,
  ): RatedOutcome | undefined {
    if (limit === undefined || keyOf === undefined) return undefined;
    // Asked apart from the check: a promise is no key, and its rejection has to be handled.
    const given = this.#hooks.ask(hook, () => keyOf(asking.asked.request as never));
    const key =
      typeof given === 'string' ? given : this.#hooks.ask(hook, () => keyOfId(hook, given));
    return key === undefined ? undefined : this.#take(limit, key, asking);
  }

  /** Takes the cost from one limit; returns a refusal, and gives back the costs of the others. */
  #take(limit: RequestLimit, key: string, asking: Asking): RatedOutcome | undefined {
    const { asked, cost, givesBack, taken } = asking;
    const { limiter } = limit;
    const now = givesBack ? limiter.fixedNow() : limiter.now();
    const result = limiter.takeAt(key, cost, now);
    if (result.success) {
      taken.push({
        limit,
        key,
        cost,
        result,
        atMs: now,
      });
      return undefined;
    }
    this.#report(limit.scope, key, result, asked.traced);
    if (this.#isObserving) return undefined;
    // The answer tells the units that are left of the others, now that it has spent nothing of them.
    const met: MetLimit[] = taken.map(({ limit: other, key: otherKey }) => ({
      limit: other,
      key: otherKey,
      cost: 1,
      result: undone(other.limiter, otherKey, cost),
    }));
    this.onRefused?.(asked.clientOf);
    return this.#refusalOf([...met, { limit, key, cost, result }], limit, result);
  }

  /**
   * Returns the limits of the routes that a router may serve for a URL: for each reading of its path that of the first
   * route that matches, and no limiter twice.
   * @param routedUrl URL as the router of the host reads it
   */
  #routesOf(method: string, url: string, routedUrl?: string): readonly RequestLimit[] {
    if (this.#ofRoutes.length === 0) return NO_LIMITS;
    const { perRoute } = this.#rates;
    const found = new Map<RateLimiter, RequestLimit>();
    // A router that misreads a relative URL takes its path from any slash.
    let isAny = routedUrl !== undefined && url.startsWith('/');
    for (const one of routedUrl === undefined ? [url] : [url, routedUrl]) {
      const { paths, isUnread } = pathReadingsOf(one);
      isAny ||= isUnread;
      for (const path of paths) {
        const at = perRoute.findIndex((route) => matchesRoute(route, method, path));
        const limit = this.#ofRoutes[at];
        if (limit !== undefined) found.set(limit.limiter, limit);
      }
    }
    if (isAny)
      for (const [at, limit] of this.#ofRoutes.entries())
        if (isOfMethod(perRoute[at]!, method)) found.set(limit.limiter, limit);
    return [...found.values()];
  }

  /** Returns the cost of a request; 1 if the application's function fails. */
  #costOf(request: never): number {
    const { cost: costOf } = this.#rates.options;
    // Asked apart from the check: a promise is no number, and its rejection has to be handled.
    const given = this.#hooks.ask('rate.cost', () => costOf?.(request)) ?? 1;
    if (given === 0) return 0;
    return this.#hooks.ask('rate.cost', () => checkedCost('cost', given)) ?? 1;
  }

  #report(
    scope: RateScope,
    key: string,
    result: RateLimitResult,
    traced: object | undefined,
  ): void {
    this.#refused[scope]++;
    const { onRateRefused } = this.#rates.options;
    if (onRateRefused === undefined) return;
    const isEnforced = !this.#isObserving;
    const trace = (): RequestTrace | undefined =>
      traced === undefined ? undefined : this.#tracer?.of(traced);
    const refusal: RateRefusal = {
      scope,
      key,
      result,
      isEnforced,
      get requestId() {
        return trace()?.requestId;
      },
      get traceparent() {
        return trace()?.traceparent;
      },
    };
    this.#hooks.run('onRateRefused', () => onRateRefused(refusal));
  }

  #refusalOf(
    met: readonly MetLimit[],
    { scope, name }: RequestLimit,
    result: RateLimitResult,
  ): RatedOutcome {
    const { headers: kinds, options } = this.#rates;
    const retryAfterMs = wholeMs(result.retryAfterMs);
    // A cost above the limit is never admitted: no retry helps.
    const retry = Number.isFinite(retryAfterMs);
    const retrySeconds = Math.max(1, Math.ceil(retryAfterMs / 1000));
    const headers = rateHeaders(kinds, met, retrySeconds);
    const answer = answerWith(
      429,
      {
        code: CODES[scope],
        message: MESSAGES[scope],
        ...(retry ? { retryAfterMs } : {}),
        'violated-policies': [name],
      },
      retry ? Object.assign({ 'retry-after': String(retrySeconds) }, headers) : headers,
    );
    const refusal = { code: CODES[scope], answer };
    return new RatedOutcome(headers, refusal, [], 0, options, this.#formerKey);
  }

  /** Returns the limits that a request would meet, without spending anything. */
  explain(question: RateQuestion): RateExplanation[] {
    checkQuestion(question);
    const { ip, route, key, user, cost = 1 } = question;
    const { perIp, perKey, perUser, ipv6PrefixBits } = this.#rates;
    const client = ip === undefined ? undefined : clientKeyOf(ip, ipv6PrefixBits);
    const routed = route === undefined ? undefined : checkedRequestRoute(route);
    const routes = routed === undefined ? [] : this.#routesOf(routed.method, routed.path);
    const asked: readonly (readonly [RateScope, RateLimiter | undefined, string | undefined])[] = [
      ['ip', perIp, client],
      ...routes.map(({ limiter }) => ['route', limiter, client] as const),
      ['key', perKey, keyOfId('key', key)],
      ['user', perUser, keyOfId('user', user)],
    ];
    return asked.flatMap(([scope, limiter, name]) => {
      if (limiter === undefined || name === undefined) return [];
      const result = limiter.peek(name, cost);
      const wouldRefuse = !result.success;
      const { remaining, retryAfterMs } = result;
      const limit = `${limiter.limit} in ${limiter.windowMs} ms by ${scope}`;
      const retry = Number.isFinite(retryAfterMs)
        ? `a retry is admitted after ${wholeMs(retryAfterMs)} ms`
        : 'a cost above the limit is never admitted';
      const reason = `${limit}: ${remaining} left${wouldRefuse ? `, ${retry}` : ''}`;
      return [{ scope, key: name, wouldRefuse, reason, result }];
    });
  }
}
