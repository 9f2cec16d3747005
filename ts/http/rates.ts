/** Rates of HTTP requests, decided in one place for all hosts; the header fields that tell them. */
import { clientKeyOf } from '../base/address.js';
import { type Clock, wallClockMs, wholeMs } from '../base/clock.js';
import { Hooks } from '../base/hooks.js';
import type { RequestTrace, Tracer } from '../base/trace.js';
import type { RateLimiter } from '../limiter/limiter.js';
import { checkedCost } from '../limiter/options.js';
import type { RateLimiterStats, RateLimitResult } from '../limiter/result.js';
import { type Answer, answerWith, targetOf } from './answer.js';
import {
  type CheckedRates,
  checkedRates,
  normalizedPath,
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
  readonly key?: string | undefined;
  /** User, as the option `user` returns it. */
  readonly user?: string | undefined;
  /** Cost of the request: 1 to 2^30. Default 1. */
  readonly cost?: number | undefined;
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

/** A limit that applies to a request. */
interface Applied {
  readonly scope: RateScope;
  readonly limiter: RateLimiter;
  readonly key: string;
}

/** A cost that a request has spent, and may get back. */
interface Taken extends Applied {
  /** Time of `limiter.fixedNow()` at which the cost has come back by itself. */
  readonly until: number;
}

/** A judged request: its refusal, or the costs that it has spent. @internal */
export class RatedOutcome {
  /** Header fields of the answer, with names in lower case. */
  readonly headers: Readonly<Record<string, string>>;
  /** Code and answer of the refusal; `undefined` for an admitted request. */
  readonly refusal: { readonly code: RateRefusalCode; readonly answer: Answer } | undefined;
  private readonly taken: readonly Taken[];
  private readonly cost: number;
  private readonly skips: RequestRates<never>;
  private isSettled = false;

  constructor(
    headers: Readonly<Record<string, string>>,
    refusal: { readonly code: RateRefusalCode; readonly answer: Answer } | undefined,
    taken: readonly Taken[],
    cost: number,
    skips: RequestRates<never>,
  ) {
    this.headers = headers;
    this.refusal = refusal;
    this.taken = taken;
    this.cost = cost;
    this.skips = skips;
  }

  /**
   * Gives the cost back if answers with `status` do not count. May be called again. A cost that has come back by
   * itself is not given back a second time: that would give back the cost of a later request.
   */
  settle(status: number): void {
    if (this.isSettled) return;
    this.isSettled = true;
    if ((status < 400 ? this.skips.skipSuccessful : this.skips.skipFailed) !== true) return;
    for (const { limiter, key, until } of this.taken)
      if (limiter.fixedNow() < until) limiter.reward(key, this.cost);
  }

  /** The fields of the draft are lists, to which a route may have added its own limits. */
  private addTo(headers: Headers): void {
    for (const [name, value] of Object.entries(this.headers)) {
      if (name === 'ratelimit' || name === 'ratelimit-policy') headers.append(name, value);
      else headers.set(name, value);
    }
  }

  /** Settles the result of a handler, and adds the header fields to a response. */
  finish<T>(result: T): T | Response {
    if (!(result instanceof Response)) return result;
    this.settle(result.status);
    try {
      this.addTo(result.headers);
      return result;
    } catch {
      // The headers of a response that `fetch` returned cannot be changed.
      const copy = new Response(result.body, result);
      this.addTo(copy.headers);
      return copy;
    }
  }
}

/** Judges requests by the rates of one guard. @internal */
export class RequestRateLimiter {
  readonly #rates: CheckedRates;
  readonly #hooks = new Hooks();
  readonly #refused: Record<RateScope, number> = { ip: 0, route: 0, key: 0, user: 0 };
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
    this.#rates = checkedRates(given, clock, showKeys);
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

  /** Judges a request; `undefined` for one that no rate counts. */
  judge(asked: RatedRequest): RatedOutcome | undefined {
    const { options } = this.#rates;
    const request = asked.request as never;
    if (options.skip !== undefined && this.#ask('skip', () => options.skip?.(request)) === true)
      return undefined;
    const cost = options.cost === undefined ? 1 : this.#costOf(request);
    if (cost === 0) return undefined;
    const givesBack = options.skipSuccessful === true || options.skipFailed === true;
    const taken: Taken[] = [];
    const results: RateLimitResult[] = [];
    for (const applied of this.#limitsOf(asked)) {
      const result = applied.limiter.take(applied.key, cost);
      results.push(result);
      if (result.success) {
        const until = givesBack ? applied.limiter.fixedNow() + result.resetMs : 0;
        taken.push({ ...applied, until });
        continue;
      }
      this.#report(applied, result, asked.traced);
      if (this.#rates.isObserving) continue;
      // The answer tells what is left of the others now that it has spent nothing of them.
      taken.forEach(({ limiter, key }, at) => {
        results[at] = limiter.reward(key, cost);
      });
      this.onRefused?.(asked.clientOf);
      return this.#refusalOf(applied, result, taken, results);
    }
    const headers = this.#rates.isObserving ? {} : this.#headersOf(taken, results);
    return new RatedOutcome(headers, undefined, taken, cost, options);
  }

  /** Yields the limits that apply to a request, one after the other: a refusal asks no further. */
  *#limitsOf(asked: RatedRequest): Generator<Applied> {
    const { perIp, perRoute, perKey, perUser, options, ipv6PrefixBits } = this.#rates;
    const request = asked.request as never;
    let client: string | undefined;
    const clientKey = (): string => (client ??= clientKeyOf(asked.clientOf(), ipv6PrefixBits));
    if (perIp !== undefined) yield { scope: 'ip', limiter: perIp, key: clientKey() };
    const { method, url, routedUrl } = asked;
    const route = perRoute.length === 0 ? undefined : this.#routeOf(method, url);
    if (route !== undefined) yield { scope: 'route', limiter: route, key: clientKey() };
    // The router may serve another route than the URL names: both have to admit it.
    const routed = routedUrl === undefined ? undefined : this.#routeOf(method, routedUrl);
    if (routed !== undefined && routed !== route)
      yield { scope: 'route', limiter: routed, key: clientKey() };
    if (perKey !== undefined) {
      const key = this.#ask('key', () => options.key?.(request));
      if (typeof key === 'string') yield { scope: 'key', limiter: perKey, key };
    }
    if (perUser !== undefined) {
      const user = this.#ask('user', () => options.user?.(request));
      if (typeof user === 'string') yield { scope: 'user', limiter: perUser, key: user };
    }
  }

  #routeOf(method: string, url: string): RateLimiter | undefined {
    const path = normalizedPath(targetOf(url));
    return this.#rates.perRoute.find(
      (route) =>
        // A router answers HEAD by the handler of GET.
        (route.method === undefined ||
          route.method === method ||
          (route.method === 'GET' && method === 'HEAD')) &&
        (route.path === path ||
          (route.isPrefix && (route.path === '/' || path.startsWith(`${route.path}/`)))),
    )?.limiter;
  }

  /** Calls a function of the application; `undefined` if it throws. */
  #ask<T>(name: string, run: () => T): T | undefined {
    let answer: T | undefined;
    this.#hooks.run(`rate.${name}`, () => {
      answer = run();
    });
    return answer;
  }

  /** Returns the cost of a request; 1 if the application's function fails. */
  #costOf(request: never): number {
    const cost = this.#ask('cost', () => {
      const given = this.#rates.options.cost?.(request) ?? 1;
      return given === 0 ? 0 : checkedCost('cost', given);
    });
    return cost ?? 1;
  }

  #report({ scope, key }: Applied, result: RateLimitResult, traced: object | undefined): void {
    this.#refused[scope]++;
    const { onRateRefused } = this.#rates.options;
    if (onRateRefused === undefined) return;
    const isEnforced = !this.#rates.isObserving;
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
    refused: Applied,
    result: RateLimitResult,
    taken: readonly Applied[],
    results: readonly RateLimitResult[],
  ): RatedOutcome {
    const { scope } = refused;
    const headers = this.#headersOf([...taken, refused], results);
    const retryAfterMs = wholeMs(result.retryAfterMs);
    // A cost above the limit is never admitted: no retry helps.
    const retry = Number.isFinite(retryAfterMs);
    const answer = answerWith(
      429,
      {
        code: CODES[scope],
        message: MESSAGES[scope],
        ...(retry ? { retryAfterMs } : {}),
        'violated-policies': [scope],
      },
      {
        ...(retry ? { 'retry-after': String(Math.max(1, Math.ceil(retryAfterMs / 1000))) } : {}),
        ...headers,
      },
    );
    return new RatedOutcome(headers, { code: CODES[scope], answer }, [], 0, this.#rates.options);
  }

  #headersOf(
    applied: readonly Applied[],
    results: readonly RateLimitResult[],
  ): Readonly<Record<string, string>> {
    const { headers: kinds } = this.#rates;
    if (kinds.size === 0 || applied.length === 0) return {};
    const headers: Record<string, string> = {};
    const seconds = (ms: number): number => Math.ceil(wholeMs(ms) / 1000);
    if (kinds.has('ratelimit')) {
      headers['ratelimit-policy'] = applied
        .map(({ scope, limiter }) => {
          // `w` is whole seconds, and optional: a shorter window has none.
          const window = limiter.windowMs % 1000 === 0 ? `;w=${limiter.windowMs / 1000}` : '';
          return `"${scope}";q=${limiter.limit}${window}`;
        })
        .join(', ');
      headers['ratelimit'] = applied
        .map(({ scope }, at) => {
          const { remaining = 0, resetMs = 0 } = results[at] ?? {};
          return `"${scope}";r=${remaining};t=${seconds(resetMs)}`;
        })
        .join(', ');
    }
    const scarce = results.reduce((least, next) =>
      next.remaining < least.remaining ? next : least,
    );
    for (const [kind, prefix] of [
      ['ratelimit-legacy', 'ratelimit'],
      ['x-ratelimit', 'x-ratelimit'],
    ] as const) {
      if (!kinds.has(kind)) continue;
      const reset = seconds(scarce.resetMs);
      headers[`${prefix}-limit`] = String(scarce.limit);
      headers[`${prefix}-remaining`] = String(scarce.remaining);
      headers[`${prefix}-reset`] = String(
        kind === 'x-ratelimit' ? seconds(wallClockMs()) + reset : reset,
      );
    }
    return headers;
  }

  /** Returns the limits that a request would meet, without spending anything. */
  explain({ ip, route, key, user, cost = 1 }: RateQuestion): RateExplanation[] {
    const { perIp, perKey, perUser, ipv6PrefixBits } = this.#rates;
    const client = ip === undefined ? undefined : clientKeyOf(ip, ipv6PrefixBits);
    const [method = '', path = ''] = (route ?? '').split(' ', 2);
    const routeLimiter = route === undefined ? undefined : this.#routeOf(method, path);
    const asked: readonly (readonly [RateScope, RateLimiter | undefined, string | undefined])[] = [
      ['ip', perIp, client],
      ['route', routeLimiter, client],
      ['key', perKey, key],
      ['user', perUser, user],
    ];
    return asked.flatMap(([scope, limiter, name]) => {
      if (limiter === undefined || name === undefined) return [];
      const result = limiter.peek(name, cost);
      const wouldRefuse = !result.success;
      const { remaining, retryAfterMs } = result;
      const limit = `${limiter.limit} in ${limiter.windowMs} ms by ${scope}`;
      const reason = wouldRefuse
        ? `${limit}: ${remaining} left, a retry is admitted after ${wholeMs(retryAfterMs)} ms`
        : `${limit}: ${remaining} left`;
      return [{ scope, key: name, wouldRefuse, reason, result }];
    });
  }
}
