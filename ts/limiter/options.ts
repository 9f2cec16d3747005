/** Options of rate limiters, and their checks: those of one process and those of a cluster. */
import { type Clock, hostClock } from '../base/clock.js';
import { outOfRange, typeError, wrongType } from '../base/errors.js';
import { optionsObject, readOptions, TIME_MAX_MS, wholeNumber } from '../base/options.js';
import { checkWellFormed } from '../native/strings.js';
import type { RateLimitResult } from './result.js';

/** Algorithm of a rate limiter. */
export type RateAlgorithm = 'gcra' | 'sliding-window' | 'fixed-window';

/** A limit by any key. */
export interface RateLimit {
  /** Cost of a key in each window: 1 to 2^30. */
  readonly limit: number;
  /** Length of the window: 1 to 2^30 ms. */
  readonly windowMs: number;
  /** Cost at once, with `gcra` only: 1 to 2^30. Default: `limit`. */
  readonly burst?: number | undefined;
  /**
   * `gcra`: `burst` at once, then an even flow; 8 bytes of state. `sliding-window`: never more than
   * `limit` in any window; a cost is given back up to a seventh of the window late. `fixed-window`:
   * `limit` from the first cost of a key to the end of its window. In a window that begins anywhere,
   * `gcra` admits up to `burst + limit - 1`, and `fixed-window` up to `2 * limit - 1`. Default `gcra`.
   */
  readonly algorithm?: RateAlgorithm | undefined;
}

/** Options of a `RateLimiter`. */
export interface RateLimiterOptions extends RateLimit {
  /**
   * Most keys that are remembered: 1 to 2^24. A full limiter forgets, of the next eight keys in turn,
   * the one that would have its whole limit again the soonest. Default 131072.
   */
  readonly maxKeys?: number | undefined;
  /**
   * Name of the limiter: 1 to 128 characters, none of them a lone surrogate. Limiters with one name share their keys in all worker
   * threads of the process, and need equal options. The name is free again once all of them are garbage, or belong to
   * guards and routers that are closed. Default: none, keys of its own.
   */
  readonly name?: string | undefined;
  /** Source of time, for tests. Default: the host's clock. */
  readonly clock?: Clock | undefined;
  /**
   * Called with the key and the answer of each refused cost, before `take()` returns. An error is a
   * process warning. Default: none.
   */
  readonly onRefuse?: ((key: string, result: RateLimitResult) => void) | undefined;
  /**
   * Whether the keys that are refused most often are kept as they are, for `snapshot().refusedKeys`, and for the
   * live page with `showClients`. Otherwise an address is kept as its network, and any other key as a
   * pseudonym. Default `false`.
   */
  readonly showKeys?: boolean | undefined;
}

const ALGORITHMS: readonly RateAlgorithm[] = ['gcra', 'sliding-window', 'fixed-window'];
const COST_MAX = 2 ** 30;
const KEYS_MAX = 2 ** 24;
const NAME_MAX = 128;
/** Names of the options of a limit. @internal */
export const RATE_LIMIT_OPTIONS = ['limit', 'windowMs', 'burst', 'algorithm'] as const;

/** A checked limit. @internal */
export type CheckedRateLimit = Readonly<
  Required<{ [K in keyof RateLimit]: NonNullable<RateLimit[K]> }>
>;

/** Checked options of a limiter. @internal */
export interface CheckedLimiter extends CheckedRateLimit {
  readonly maxKeys: number;
  readonly name: string | undefined;
  readonly clock: Clock;
  readonly onRefuse: RateLimiterOptions['onRefuse'];
  readonly showKeys: boolean;
}

/**
 * Refuses a limiter in the place of its options. @throws ERR_INVALID_ARG_TYPE
 * @internal
 */
export function refuseLimiter(field: string, given: object, allowed: string): void {
  if (typeof (given as { readonly take?: unknown }).take !== 'function') return;
  throw typeError(field, 'a limiter, such as one of a cluster', allowed);
}

/**
 * Checks a limit; other options of its owner are left to the owner.
 * @param field name of the limit in messages, `''` for none
 * @throws ERR_INVALID_ARG_TYPE, ERR_OUT_OF_RANGE, naming the field
 * @internal
 */
export function checkedRateLimit(field: string, given: RateLimit): CheckedRateLimit {
  const at = (name: string): string => (field === '' ? name : `${field}.${name}`);
  optionsObject(field === '' ? 'options' : field, given, 'an object { limit, windowMs }');
  refuseLimiter(field === '' ? 'options' : field, given, 'an object { limit, windowMs }');
  const { algorithm = 'gcra', burst: ownBurst } = given;
  const limit = wholeNumber(at('limit'), given.limit, 1, COST_MAX);
  const windowMs = wholeNumber(at('windowMs'), given.windowMs, 1, TIME_MAX_MS);
  if (!ALGORITHMS.includes(algorithm))
    throw outOfRange(at('algorithm'), algorithm, "'gcra', 'sliding-window' or 'fixed-window'");
  if (ownBurst !== undefined && algorithm !== 'gcra')
    throw outOfRange(at('burst'), ownBurst, "absent without algorithm 'gcra'");
  const burst = wholeNumber(at('burst'), ownBurst, 1, COST_MAX, limit);
  return { limit, windowMs, burst, algorithm };
}

/**
 * Checks the options of a limiter.
 * @throws ERR_INVALID_ARG_TYPE, ERR_OUT_OF_RANGE, ERR_UNKNOWN_OPTION, naming the field
 * @internal
 */
export function checkedLimiter(options: RateLimiterOptions): CheckedLimiter {
  optionsObject('options', options, 'an object { limit, windowMs }');
  refuseLimiter('options', options, 'an object { limit, windowMs }');
  const given = readOptions('RateLimiter', options, [
    ...RATE_LIMIT_OPTIONS,
    'maxKeys',
    'name',
    'clock',
    'onRefuse',
    'showKeys',
  ]);
  const limit = checkedRateLimit('', given);
  const { name, clock = hostClock, onRefuse, showKeys = false } = given;
  if (name !== undefined && typeof name !== 'string') throw wrongType('name', name, 'a string');
  if (name !== undefined && (name.length === 0 || name.length > NAME_MAX))
    throw outOfRange('name', name, `1 to ${NAME_MAX} characters`);
  if (name !== undefined) checkWellFormed('name', name);
  if (typeof clock !== 'object' || clock === null || typeof clock.now !== 'function')
    throw wrongType('clock', clock, 'a Clock');
  if (onRefuse !== undefined && typeof onRefuse !== 'function')
    throw wrongType('onRefuse', onRefuse, 'a function');
  if (typeof showKeys !== 'boolean') throw wrongType('showKeys', showKeys, 'true or false');
  const maxKeys = wholeNumber('maxKeys', given.maxKeys, 1, KEYS_MAX, 2 ** 17);
  return { ...limit, maxKeys, name, clock, onRefuse, showKeys };
}

/**
 * Returns the key of an id of the application's, such as that of an account: of a number its text; `undefined` for
 * none.
 * @throws ERR_INVALID_ARG_TYPE
 * @internal
 */
export function keyOfId(field: string, id: unknown): string | undefined {
  if (typeof id === 'string') return id;
  if (typeof id === 'bigint' || Number.isFinite(id)) return String(id);
  if (id === undefined || id === null) return undefined;
  throw wrongType(field, id, 'a string, a finite number, a bigint, undefined or null');
}

/** Index of an algorithm in the core. @internal */
export const algorithmIndex = (algorithm: RateAlgorithm): number => ALGORITHMS.indexOf(algorithm);

/**
 * Returns a cost or a number of points.
 * @throws ERR_INVALID_ARG_TYPE, ERR_OUT_OF_RANGE
 * @internal
 */
export const checkedCost = (field: string, cost: number): number =>
  wholeNumber(field, cost, 1, COST_MAX);
