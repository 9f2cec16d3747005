/** Rate limits by any key. The keys are in the core (`src/limiter`), as keyed hashes. */
import { type Clock, hasFakeTimers, hostClock } from '../base/clock.js';
import { describe, messageOf, nameConflict, typeError, wrongType } from '../base/errors.js';
import { Hooks } from '../base/hooks.js';
import { TIME_MAX_MS, wholeNumber } from '../base/options.js';
import { createLimiter } from '../native/addon.js';
import { sharedArray } from '../native/shared-memory.js';
import { encodeName, TEXT_MAX } from '../native/strings.js';
import {
  algorithmIndex,
  checkedCost,
  checkedLimiter,
  type CheckedLimiter,
  type RateAlgorithm,
  type RateLimiterOptions,
} from './options.js';
import { RefusedKeys } from './refused-keys.js';
import type { RateLimiterEvents, RateLimiterStats, RateLimitResult } from './result.js';

const COST_MAX = 2 ** 30;
/** Bits of the core's answer to a cost: of a refused one, whether its key needs a name and listeners. */
const ADMITTED = 1;
const NEW_KEY = 2;
const TOLD = 4;
/** Place of a refused key in the shared numbers. */
const PLACE = 3;

type NativeLimiter = ReturnType<typeof createLimiter>;

/** @throws ERR_LIMITS_CONFLICT if the limiter of that name is open with other options */
function openLimiter({
  name,
  algorithm,
  limit,
  windowMs,
  burst,
  maxKeys,
}: CheckedLimiter): NativeLimiter {
  const numbers = [limit, windowMs, burst, maxKeys];
  try {
    return createLimiter(name, algorithmIndex(algorithm), numbers);
  } catch (error) {
    const message = messageOf(error);
    const prefix = 'ERR_LIMITS_CONFLICT: ';
    if (message.startsWith(prefix)) throw nameConflict(name, message.slice(prefix.length));
    throw error;
  }
}

/**
 * Limits costs by key, such as requests by address or logins by account. It keeps a keyed hash of each
 * key and no text unless `showKeys`, has no timers, and needs no end.
 *
 * @example
 * const logins = new RateLimiter({ limit: 5, windowMs: 60_000, algorithm: 'sliding-window' });
 * const { success, retryAfterMs } = logins.take(account);
 */
export class RateLimiter {
  /** Name that worker threads share the keys by, if there is one. */
  readonly name: string | undefined;
  /** Cost of a key in each window. */
  readonly limit: number;
  /** Length of the window, ms. */
  readonly windowMs: number;
  /** Whether `snapshot().refusedKeys` shows keys as they are. */
  readonly showsKeys: boolean;
  readonly #algorithm: RateAlgorithm;
  /** Cost that a fresh key may spend at once. */
  readonly #most: number;
  readonly #clock: Clock;
  readonly #native: NativeLimiter;
  readonly #take: NativeLimiter['take'];
  readonly #onRefuse: RateLimiterOptions['onRefuse'];
  readonly #hooks = new Hooks();
  readonly #refusedKeys: RefusedKeys;
  readonly #listeners = new Set<RateLimiterEvents['refused']>();
  /** Refusals since the last event. */
  #untold = 0;
  /** Remaining cost, time until the reset, time until a retry, place of a refused key. */
  readonly #answer = sharedArray(Float64Array, 4);
  /** Short keys on their way to the core; see `native/strings.ts`. */
  readonly #text = sharedArray(Uint16Array, TEXT_MAX);
  /** Fake timers that were seen last, and the time of the process at their zero. */
  #fake: unknown;
  #fakeEpochMs = 0;
  #admitted = 0;
  #refused = 0;
  #blocks = 0;

  /**
   * @throws ERR_INVALID_ARG_TYPE, ERR_OUT_OF_RANGE, ERR_UNKNOWN_OPTION, naming the field;
   *   ERR_LIMITS_CONFLICT if `name` is open with other options
   */
  constructor(options: RateLimiterOptions) {
    const checked = checkedLimiter(options);
    this.name = checked.name;
    this.limit = checked.limit;
    this.windowMs = checked.windowMs;
    this.#algorithm = checked.algorithm;
    this.#most = checked.algorithm === 'gcra' ? checked.burst : checked.limit;
    this.#clock = checked.clock;
    this.#onRefuse = checked.onRefuse;
    this.showsKeys = checked.showKeys;
    this.#native = openLimiter(checked);
    this.#refusedKeys = new RefusedKeys(this.#native, checked.showKeys);
    this.#native.share(this.#answer, this.#text);
    this.#take = this.#native.take;
  }

  /**
   * Returns a limiter that takes a cost from several limiters, or from none of them.
   * @param limiters 1 to 16 limiters
   * @throws ERR_INVALID_ARG_TYPE for anything else
   * @example
   * const both = RateLimiter.all(perAddress, perAccount);
   * const { success } = both.take([address, account]);
   */
  static all(...limiters: readonly RateLimiter[]): CompositeRateLimiter {
    return new CompositeRateLimiter(limiters);
  }

  /**
   * Spends a cost of a key, if its limit admits the cost.
   * @param key any string; a long one costs its hash
   * @param cost 1 to 2^30
   * @throws ERR_INVALID_ARG_TYPE, ERR_OUT_OF_RANGE
   */
  take(key: string, cost = 1): RateLimitResult {
    return this.takeAt(key, cost, this.now());
  }

  /** Spends a cost at a time of `now()`. @internal */
  takeAt(key: string, cost: number, now: number): RateLimitResult {
    if (typeof key !== 'string') throw wrongType('key', key, 'a string');
    // Checked here at once: the call of a function that checks costs more than the check.
    if (typeof cost !== 'number' || cost >>> 0 !== cost || cost === 0 || cost > COST_MAX)
      checkedCost('cost', cost);
    const answer = this.#answer;
    const name = encodeName(key, this.#text);
    // Number.isNaN, a call, costs more than this comparison.
    const outcome = cost === 1 && now !== now ? this.#take(name) : this.#take(name, cost, now);
    const success = outcome === ADMITTED;
    const result = {
      success,
      remaining: answer[0]!,
      limit: this.limit,
      resetMs: answer[1]!,
      retryAfterMs: answer[2]!,
    };
    if (success) this.#admitted++;
    else this.#refuses(key, result, outcome);
    return result;
  }

  #refuses(key: string, result: RateLimitResult, outcome: number): void {
    this.#refused++;
    this.#untold++;
    if ((outcome & NEW_KEY) !== 0) this.#refusedKeys.name(this.#answer[PLACE]!, key);
    if (this.#onRefuse !== undefined)
      this.#hooks.run('onRefuse', () => this.#onRefuse?.(key, result));
    if ((outcome & TOLD) === 0 || this.#listeners.size === 0) return;
    const refusal = { key, result, refusals: this.#untold };
    this.#untold = 0;
    for (const listener of this.#listeners)
      this.#hooks.run('refusedListener', () => listener(refusal));
  }

  /**
   * Returns whether `take()` would admit a cost, and spends nothing. `remaining` and `resetMs` are those of the key as
   * it is, without the cost; a refusal is the answer that `take()` would give.
   * @param key as in `take()`
   * @param cost 1 to 2^30
   * @throws ERR_INVALID_ARG_TYPE, ERR_OUT_OF_RANGE
   */
  peek(key: string, cost = 1): RateLimitResult {
    return this.peekAt(key, cost, this.now());
  }

  /** Does what `peek()` does, at a given time. @internal */
  peekAt(key: string, cost: number, now: number): RateLimitResult {
    const text = this.#encoded(key);
    const success = this.#native.peek(text, checkedCost('cost', cost), now) === 1;
    return this.#result(success);
  }

  /**
   * Returns the time until more than the remaining cost of an answer would be admitted, ms; `Infinity` for a key that
   * has its whole limit.
   * @param result answer that a cost of the key has just got
   * @internal
   */
  moreMs(key: string, cost: number, result: RateLimitResult): number {
    const { success, remaining, resetMs, retryAfterMs } = result;
    if (remaining >= this.#most) return Infinity;
    if (!success) return cost === 1 ? retryAfterMs : this.peek(key, remaining + 1).retryAfterMs;
    // The core is asked where the answer does not tell: it would cost each request a call.
    switch (this.#algorithm) {
      case 'gcra':
        return resetMs - (this.#most - remaining - 1) * (this.windowMs / this.limit);
      case 'fixed-window':
        return resetMs;
      default:
        return this.peek(key, remaining + 1).retryAfterMs;
    }
  }

  /**
   * Spends points of a key, also beyond its limit: later costs wait until they are made good. With `sliding-window`
   * they are gone with their window, however many they are, and each part of it may keep no more than 1,022.
   * @param key as in `take()`
   * @param points 1 to 2^30
   * @returns the state of the key; `success` tells whether a cost of 1 would be admitted
   * @throws ERR_INVALID_ARG_TYPE, ERR_OUT_OF_RANGE
   */
  penalty(key: string, points = 1): RateLimitResult {
    const now = this.now();
    this.#native.penalty(this.#encoded(key), checkedCost('points', points), now);
    return this.peekAt(key, 1, now);
  }

  /**
   * Gives spent points of a key back, at most those that it spent. With `sliding-window` the oldest costs are given
   * back. Points that are given back later than they were spent may belong to costs that count no longer: then as many
   * later ones are lost, and a window can admit more than the limit.
   * @param key as in `take()`
   * @param points 1 to 2^30
   * @returns as `penalty()`
   * @throws ERR_INVALID_ARG_TYPE, ERR_OUT_OF_RANGE
   */
  reward(key: string, points = 1): RateLimitResult {
    const now = this.now();
    this.#native.reward(this.#encoded(key), checkedCost('points', points), now);
    return this.peekAt(key, 1, now);
  }

  /**
   * Takes an admission back for which nothing was done: another limiter has refused.
   * @param now time of the admission, as `now()` tells it, or a later one
   * @internal
   */
  undo(key: string, cost: number, now: number): void {
    this.giveBack(key, cost, now, Infinity, now);
    this.#admitted--;
  }

  /**
   * Gives an admitted cost back, as far as it still counts. Times are those of `fixedNow()`.
   * @param atMs time of its admission
   * @param wholeAtMs time at which the key would have had its whole limit again, by the result of the admission
   * @internal
   */
  giveBack(key: string, cost: number, atMs: number, wholeAtMs: number, now = this.now()): void {
    this.#native.giveBack(this.#encoded(key), cost, atMs, wholeAtMs, now);
  }

  /**
   * Refuses a key for a time; it has its whole limit afterwards. A later call replaces the block.
   * @param key as in `take()`
   * @param forMs 1 to 2^30
   * @throws ERR_INVALID_ARG_TYPE, ERR_OUT_OF_RANGE
   */
  block(key: string, forMs: number): void {
    const text = this.#encoded(key);
    this.#native.block(text, wholeNumber('forMs', forMs, 1, TIME_MAX_MS), this.now());
    this.#blocks++;
  }

  /**
   * Forgets a key, its block included.
   * @param key as in `take()`
   * @returns whether it was known
   * @throws ERR_INVALID_ARG_TYPE
   */
  reset(key: string): boolean {
    return this.#native.reset(this.#encoded(key)) === 1;
  }

  /**
   * Leaves the limiters of its name, so that the name is free once all others have: for an owner that has ended. What
   * still runs of it counts by itself.
   * @internal
   */
  release(): void {
    this.#native.release();
  }

  /** Forgets all keys, those of all threads for a limiter with a name. */
  clear(): void {
    this.#native.clear();
  }

  /**
   * Calls `listener` after an event; see `RateLimiterEvents`. An error of it is a process warning.
   * @param event name of the event
   * @returns a function that removes the listener
   * @throws ERR_INVALID_ARG_TYPE
   * @example
   * logins.on('refused', ({ key, refusals }) => console.warn(key, refusals));
   */
  on<E extends keyof RateLimiterEvents>(event: E, listener: RateLimiterEvents[E]): () => void {
    if (event !== 'refused') throw wrongType('event', event, "'refused'");
    if (typeof listener !== 'function') throw wrongType('listener', listener, 'a function');
    // Refusals from before the first listener are no news.
    if (this.#listeners.size === 0) this.#untold = 0;
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }

  /**
   * Returns the counts of this limiter; with a name, keys and memory are those of all threads, and the refused keys
   * those of this thread.
   */
  snapshot(): RateLimiterStats {
    return { ...this.counts(), refusedKeys: this.#refusedKeys.top(this.now()) };
  }

  /** Returns the counts alone, which cost less. @internal */
  counts(): Omit<RateLimiterStats, 'refusedKeys'> {
    this.#native.counts();
    const [keys = 0, evicted = 0, bytes = 0] = this.#answer;
    const [admitted, refused, blocks] = [this.#admitted, this.#refused, this.#blocks];
    return { keys, admitted, refused, blocks, evicted, bytes };
  }

  /**
   * Returns the time for the core, ms; NaN for the time of the process, which the core reads itself:
   * `performance.now()` costs 52 to 88 ns, the core's clock 25 ns.
   * @internal
   */
  now(): number {
    if (this.#clock !== hostClock) return this.#clock.now();
    if (!hasFakeTimers()) return NaN;
    const identity = hostClock.identity();
    if (identity !== this.#fake) {
      this.#fake = identity;
      this.#fakeEpochMs = this.#native.processNowMs() - hostClock.now();
    }
    return hostClock.now() + this.#fakeEpochMs;
  }

  /** Returns the time for the core, ms, for several calls at one time. @internal */
  fixedNow(): number {
    const now = this.now();
    return Number.isNaN(now) ? this.#native.processNowMs() : now;
  }

  #encoded(key: string): string | number {
    if (typeof key !== 'string') throw wrongType('key', key, 'a string');
    return encodeName(key, this.#text);
  }

  #result(success: boolean): RateLimitResult {
    const [remaining = 0, resetMs = 0, retryAfterMs = 0] = this.#answer;
    return { success, remaining, limit: this.limit, resetMs, retryAfterMs };
  }
}

/** Outcome of a cost that several limiters have to admit. */
export interface CompositeRateLimitResult extends RateLimitResult {
  /** The first limiter that refused; `undefined` after success. */
  readonly refusedBy: RateLimiter | undefined;
}

const LIMITERS_MAX = 16;

/** Takes a cost from several limiters, or from none of them. Made by `RateLimiter.all()`. */
export class CompositeRateLimiter {
  readonly #limiters: readonly RateLimiter[];

  /** @internal */
  constructor(limiters: readonly RateLimiter[]) {
    if (
      limiters.length === 0 ||
      limiters.length > LIMITERS_MAX ||
      !limiters.every((limiter) => limiter instanceof RateLimiter)
    )
      throw wrongType('limiters', limiters, `1 to ${LIMITERS_MAX} rate limiters`);
    this.#limiters = [...limiters];
  }

  /**
   * Spends a cost of a key of each limiter, if all of them admit it.
   * @param keys a key for each limiter, in their order
   * @param cost 1 to 2^30
   * @returns the least `remaining` with its `limit`, and the longest times; after a refusal, those of
   *   the limiters that refuse
   * @throws ERR_INVALID_ARG_TYPE, ERR_OUT_OF_RANGE
   */
  take(keys: readonly string[], cost = 1): CompositeRateLimitResult {
    if (!Array.isArray(keys) || keys.length !== this.#limiters.length)
      throw typeError(
        'keys',
        Array.isArray(keys) ? `an array of ${keys.length}` : describe(keys),
        `an array of ${this.#limiters.length} keys`,
      );
    for (const key of keys) if (typeof key !== 'string') throw wrongType('keys', key, 'strings');
    checkedCost('cost', cost);
    // Each limiter may have a clock of its own; a cost is given back at the time it was taken.
    const times = this.#limiters.map((limiter) => limiter.fixedNow());
    let result: CompositeRateLimitResult | undefined;
    for (const [at, limiter] of this.#limiters.entries()) {
      const one =
        result?.refusedBy === undefined
          ? limiter.takeAt(keys[at]!, cost, times[at]!)
          : limiter.peekAt(keys[at]!, cost, times[at]!);
      if (!one.success && result?.refusedBy === undefined) {
        for (let taken = 0; taken < at; taken++)
          this.#limiters[taken]!.undo(keys[taken]!, cost, times[taken]!);
        result = { refusedBy: limiter, ...one };
      } else result = merged(result, one, one.success ? undefined : limiter);
    }
    return result!;
  }
}

/** Joins the answers of two limiters; of a refusal, only the limiters that refuse count. */
function merged(
  before: CompositeRateLimitResult | undefined,
  next: RateLimitResult,
  refusedBy: RateLimiter | undefined,
): CompositeRateLimitResult {
  if (before === undefined) return { refusedBy, ...next };
  if (before.refusedBy !== undefined && next.success) return before;
  const scarce = next.remaining < before.remaining ? next : before;
  return {
    success: next.success,
    remaining: scarce.remaining,
    limit: scarce.limit,
    resetMs: Math.max(before.resetMs, next.resetMs),
    retryAfterMs: Math.max(before.retryAfterMs, next.retryAfterMs),
    refusedBy: before.refusedBy ?? refusedBy,
  };
}
