/** Counters and times of one layer. */
import type { LayerTimes } from './contract.js';

/** Indices of a layer's counters. @internal */
export const COUNT = 0;
export const OBSERVED = 1;
export const ERRORS = 2;
export const IN_FLIGHT = 3;
export const DETACHED = 4;
export const TIMEOUTS = 5;
export const LATE_SETTLES = 6;
export const STRAY_ERRORS = 7;
export const FAILURES = 8;
export const SKIPPED = 9;
const COUNTERS = 10;

const EMA_WEIGHT = 0.1;
/** A bucket is 2^-SUB_BITS of its octave wide, so that its middle is exact to 3.2 %. */
const SUB_BITS = 4;
const SUB = 1 << SUB_BITS;
/** Buckets for up to 2^31 microseconds, 36 minutes. A longer time counts as the longest. */
const BUCKETS = (31 - SUB_BITS) * SUB + SUB;
/**
 * Samples after which all buckets are halved, rounding down, so that old samples fade and vanish.
 */
const HALF_LIFE = 1024;

/**
 * Returns the bucket of a time in whole microseconds. Below `SUB` it is exact; above, an octave has
 * `SUB` buckets.
 */
function bucketOf(us: number): number {
  if (us < SUB) return us;
  const octave = 31 - Math.clz32(us) - SUB_BITS;
  return octave * SUB + (us >>> octave);
}

/** Returns the middle of a bucket, in microseconds. */
function middleOf(bucket: number): number {
  if (bucket < 2 * SUB) return bucket;
  const octave = Math.floor(bucket / SUB) - 1;
  return ((bucket % SUB) + SUB + 0.5) * 2 ** octave;
}

/** Moving average, maximum and quantiles of times. @internal */
export class Times {
  readonly #buckets = new Uint32Array(BUCKETS);
  #emaMs = 0;
  #maxMs = 0;
  /** Sum of the buckets. */
  #total = 0;
  #untilHalved = HALF_LIFE;

  record(ms: number): void {
    this.#emaMs = this.#total === 0 ? ms : this.#emaMs + (ms - this.#emaMs) * EMA_WEIGHT;
    if (ms > this.#maxMs) this.#maxMs = ms;
    this.#buckets[bucketOf(Math.min(Math.round(ms * 1000), 0x7fff_ffff))]!++;
    this.#total++;
    if (--this.#untilHalved === 0) this.#halve();
  }

  get emaMs(): number {
    return this.#emaMs;
  }

  snapshot(): LayerTimes {
    return {
      emaMs: this.#emaMs,
      p50Ms: this.#quantile(0.5),
      p90Ms: this.#quantile(0.9),
      p99Ms: this.#quantile(0.99),
      maxMs: this.#maxMs,
    };
  }

  #quantile(fraction: number): number {
    let rank = Math.ceil(this.#total * fraction);
    for (let bucket = 0; bucket < BUCKETS; bucket++) {
      rank -= this.#buckets[bucket]!;
      if (rank <= 0) return Math.min(middleOf(bucket) / 1000, this.#maxMs);
    }
    return this.#maxMs;
  }

  #halve(): void {
    this.#total = 0;
    for (let bucket = 0; bucket < BUCKETS; bucket++) {
      const half = this.#buckets[bucket]! >>> 1;
      this.#buckets[bucket] = half;
      this.#total += half;
    }
    this.#untilHalved = HALF_LIFE;
  }
}

/** Figures of one layer. They outlive the compiled chains that count in them. @internal */
export class Figures {
  readonly counters = new Float64Array(COUNTERS);
  /** Times of the layer's own work, made at the first observed run. */
  self: Times | undefined;
  /** Times with `next()`, made at the first observed run. */
  total: Times | undefined;

  /** Records the times of an observed run. */
  record(selfMs: number, totalMs: number): void {
    (this.self ??= new Times()).record(selfMs);
    (this.total ??= new Times()).record(totalMs);
  }
}
