/** Answers of rate limiters, those of one process and those of a cluster. */
import type { RefusedKey } from './refused-keys.js';

/** Outcome of a cost, and the state of its key afterwards. */
export interface RateLimitResult {
  /** True if the cost was admitted. A refused cost spends nothing. */
  readonly success: boolean;
  /** Cost that would be admitted now. */
  readonly remaining: number;
  /** Limit of the key in each window. */
  readonly limit: number;
  /** Time until the key has its whole limit again, ms; for a blocked key, until the block ends. */
  readonly resetMs: number;
  /** Time until the same cost would be admitted, ms: 0 after success, `Infinity` for a cost above the limit. */
  readonly retryAfterMs: number;
}

/** Counts of a limiter. */
export interface RateLimiterStats {
  /** Keys that are known; some of them may have their whole limit again. */
  readonly keys: number;
  /** Costs that this limiter admitted. */
  readonly admitted: number;
  /** Costs that this limiter refused. */
  readonly refused: number;
  /** Calls of `block()` of this limiter. */
  readonly blocks: number;
  /** Keys that a full table forgot before they had their whole limit again. */
  readonly evicted: number;
  /** Memory of all keys, bytes. */
  readonly bytes: number;
  /** The ten keys that this limiter refused most often, since it was made, the first one first. */
  readonly refusedKeys: readonly RefusedKey[];
}

/** A refusal that listeners are told of. */
export interface RateLimitRefusal {
  /** The key, as `take()` got it. */
  readonly key: string;
  /** Answer to it. */
  readonly result: RateLimitResult;
  /** Refusals of this limiter since the last event, this one included. */
  readonly refusals: number;
}

/** Listeners of a limiter, by event. */
export interface RateLimiterEvents {
  /**
   * A key was refused for the first time in a window of the limit, and fewer than ten other keys in this second. A
   * key among more than 64 refused ones may be told more than once.
   */
  refused: (refusal: RateLimitRefusal) => void;
}
