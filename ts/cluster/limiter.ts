/** Rates over all processes, for requests, messages, logins: whatever has a key. */
import { wholeMs } from '../base/clock.js';
import { outOfRange, PortcullisError, wrongType } from '../base/errors.js';
import { knownOptions, optionsObject, TIME_MAX_MS, wholeNumber } from '../base/options.js';
import { RateLimiter } from '../limiter/limiter.js';
import type { Membership } from './membership.js';

/** Options of `cluster.limiter`. */
export interface ClusterLimiterOptions {
  /** Name of the rate: keys of limiters of one name count together. 1 to 128 characters. */
  readonly name: string;
  /** Units in each window: 1 to 1,000,000. */
  readonly limit: number;
  /** Length of the window: 1 to 2^30 ms. */
  readonly windowMs: number;
  /** Units at once: 1 to 1,000,000. Default: `limit`. */
  readonly burst?: number | undefined;
}

/** Outcome of `take`. */
export interface ClusterLimiterResult {
  readonly success: boolean;
  /** Units that could be taken at once right after. */
  readonly remaining: number;
  /** Units at once: the limiter's `burst`. */
  readonly limit: number;
  /** Milliseconds until all units are there again. */
  readonly resetMs: number;
  /** Milliseconds until the same `take` may succeed; 0 if it has, and `Infinity` for a cost above `burst`. */
  readonly retryAfterMs: number;
}

/** The options that decide while the server cannot be asked. @internal */
export interface LimiterPolicy {
  /** 0 share, 1 open, 2 closed. */
  readonly policy: number;
  readonly expectedMembers: number;
}

const UNITS_MAX = 1e6;
const KEY_MAX = 1024;
/** Most keys that are counted here while the server cannot be asked. */
const LOCAL_MAX = 65_536;
/** Names whose rates are remembered. */
const NAMES_MAX = 10_000;
/** Retry time that a refusal without a server tells, ms. */
const AWAY_MS = 1000;

/** Checked options. @internal */
export type CheckedRate = Required<{
  [K in keyof ClusterLimiterOptions]: NonNullable<ClusterLimiterOptions[K]>;
}>;

/**
 * Checks the options of a limiter.
 * @throws ERR_INVALID_ARG_TYPE, ERR_OUT_OF_RANGE, ERR_UNKNOWN_OPTION
 * @internal
 */
export function checkedRate(options: ClusterLimiterOptions): CheckedRate {
  optionsObject('options', options, 'an object such as { name, limit, windowMs }');
  knownOptions('limiter', options, ['name', 'limit', 'windowMs', 'burst']);
  const { name } = options;
  if (typeof name !== 'string') throw wrongType('name', name, 'a string of 1 to 128 characters');
  if (name === '' || name.length > 128 || name.includes('\0'))
    throw outOfRange('name', name, '1 to 128 characters, none of them NUL');
  const limit = wholeNumber('limit', options.limit, 1, UNITS_MAX);
  const windowMs = wholeNumber('windowMs', options.windowMs, 1, TIME_MAX_MS);
  const burst = wholeNumber('burst', options.burst, 1, UNITS_MAX, limit);
  return { name, limit, windowMs, burst };
}

/** The rates of one process by their names, of which each has one rate. @internal */
export class RateNames {
  readonly #rates = new Map<string, CheckedRate>();

  /** Notes a rate. @throws ERR_LIMITS_CONFLICT if its name has another one */
  add(rate: CheckedRate): void {
    const known = this.#rates.get(rate.name);
    for (const field of ['limit', 'windowMs', 'burst'] as const)
      if (known !== undefined && known[field] !== rate[field])
        throw new PortcullisError(
          'ERR_LIMITS_CONFLICT',
          `the limiter ${JSON.stringify(rate.name)} of this cluster has another ${field}: ${known[field]}, not ${rate[field]}`,
          { field, value: String(rate[field]), allowed: String(known[field]) },
        );
    if (this.#rates.size < NAMES_MAX) this.#rates.set(rate.name, rate);
  }
}

/** Returns the share of one of so many processes: at least 1. */
const shareOf = (whole: number, members: number): number =>
  Math.max(1, Math.floor(whole / members));

/**
 * One rate over all processes, by GCRA on the server's clock. Get it from `cluster.limiter`. Calls of one moment go to
 * the server together. The server keeps one arrival time of each key, under a keyed hash of fixed size, until it is as
 * good as absent.
 *
 * While the server cannot be asked, the cluster's `onUnreachable` decides: `share`: this process has its share of the
 * rate, at least 1 unit in each window; `open`: the whole rate; `closed`: nothing succeeds. After the server has lost
 * its keys, `share` and `open` begin with full bursts; with `closed` the burst counts as spent at that time, so that no
 * loss admits more than the rate. A first start is no exception.
 *
 * `share` and `open` count up to 65536 keys in this process. With more it forgets, of the next eight keys in turn, the one
 * that would have all its units again the soonest, as a `RateLimiter` does: an exhausted key outlives a flood of keys that
 * take a unit each. A key is kept until 8192 new ones have come. Every key has its whole share again if the number of
 * processes has changed since.
 *
 * @example
 * const logins = cluster.limiter({ name: 'logins', limit: 5, windowMs: 60_000 });
 * const { success, retryAfterMs } = await logins.take(`${ip} ${user}`);
 */
export class ClusterLimiter {
  readonly #member: Membership;
  readonly #policy: LimiterPolicy;
  readonly #name: string;
  readonly #limit: number;
  readonly #windowMs: number;
  readonly #burst: number;
  /** Counts the keys while the server cannot be asked. */
  #local: RateLimiter | undefined;
  #localBurst = 0;

  /** @internal */
  constructor(member: Membership, policy: LimiterPolicy, rate: CheckedRate) {
    this.#policy = policy;
    this.#name = rate.name;
    this.#limit = rate.limit;
    this.#windowMs = rate.windowMs;
    this.#burst = rate.burst;
    this.#member = member;
  }

  /**
   * Takes units of a key, all or none.
   * @param key 1 to 1024 characters
   * @param cost units: 0 to 1,000,000, default 1. 0 only looks. More than `burst` never succeeds
   * @returns the outcome; rejects only for a wrong argument
   * @throws ERR_INVALID_ARG_TYPE, ERR_OUT_OF_RANGE, as rejections
   */
  async take(key: string, cost = 1): Promise<ClusterLimiterResult> {
    if (typeof key !== 'string') throw wrongType('key', key, 'a string of 1 to 1024 characters');
    if (key === '' || key.length > KEY_MAX) throw outOfRange('key', key, '1 to 1024 characters');
    const units = wholeNumber('cost', cost, 0, UNITS_MAX);
    const { code, parts } = await this.#member.request(
      'take',
      `${this.#name}\0${key}`,
      [],
      [this.#windowMs / this.#limit, this.#burst, units],
    );
    if (code !== 0) return this.#takeHere(key, units);
    return {
      success: parts[0] === '1',
      remaining: Number(parts[1]),
      limit: this.#burst,
      resetMs: Number(parts[2]),
      retryAfterMs: units > this.#burst ? Infinity : Number(parts[3]),
    };
  }

  /** Decides by `onUnreachable`. */
  #takeHere(key: string, cost: number): ClusterLimiterResult {
    const { policy, expectedMembers } = this.#policy;
    const figures = this.#member.figures();
    const members = policy === 1 ? 1 : Math.max(figures?.knownMembers ?? 0, expectedMembers);
    if (policy === 2 || figures === undefined || members === 0)
      return this.#result(cost, { success: false, remaining: 0, resetMs: AWAY_MS }, AWAY_MS);
    const local = this.#localOf(members);
    const answer = cost === 0 ? local.peek(key) : local.take(key, cost);
    // The server may admit what is more than a share.
    const { retryAfterMs } = answer;
    const retryMs = retryAfterMs === Infinity ? AWAY_MS : Math.max(1, wholeMs(retryAfterMs));
    return this.#result(cost, answer, retryMs);
  }

  /** Returns the result of an answer without the server. A cost of 0 only looks. */
  #result(
    cost: number,
    answer: Pick<ClusterLimiterResult, 'success' | 'remaining' | 'resetMs'>,
    retryMs: number,
  ): ClusterLimiterResult {
    const success = answer.success || cost === 0;
    return {
      success,
      remaining: answer.remaining,
      limit: this.#burst,
      resetMs: wholeMs(answer.resetMs),
      retryAfterMs: success ? 0 : cost > this.#burst ? Infinity : retryMs,
    };
  }

  /** Returns the limiter of a share of the rate. */
  #localOf(members: number): RateLimiter {
    const limit = shareOf(this.#limit, members);
    const burst = shareOf(this.#burst, members);
    if (this.#local?.limit !== limit || this.#localBurst !== burst)
      this.#local = new RateLimiter({ limit, windowMs: this.#windowMs, burst, maxKeys: LOCAL_MAX });
    this.#localBurst = burst;
    return this.#local;
  }
}
