import type { LayerTimes } from './contract.js';

/** Places in a layer's counters. @internal */
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
/** A bucket is 2^-SUB_BITS of its octave wide: the middle of it is within 3.2 %. */
const SUB_BITS = 4;
const SUB = 1 << SUB_BITS;
/** Microseconds up to 2^31: 36 minutes; what takes longer counts as that. */
const BUCKETS = (31 - SUB_BITS) * SUB + SUB;
/** After so many samples all buckets are halved, rounding down: old ones fade, and are forgotten. */
const HALF_LIFE = 1024;

/** The bucket of a time in whole microseconds: exact below `SUB`, then `SUB` to the octave. */
function bucketOf(us: number): number {
  if (us < SUB) return us;
  const octave = 31 - Math.clz32(us) - SUB_BITS;
  return octave * SUB + (us >>> octave);
}

/** The middle of a bucket, in microseconds. */
function middleOf(bucket: number): number {
  if (bucket < 2 * SUB) return bucket;
  const octave = Math.floor(bucket / SUB) - 1;
  return ((bucket % SUB) + SUB + 0.5) * 2 ** octave;
}

/** Moving average, greatest and quantiles of times. @internal */
export class Times {
  readonly #buckets = new Uint32Array(BUCKETS);
  #emaMs = 0;
  #maxMs = 0;
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

  #quantile(of: number): number {
    let rank = Math.ceil(this.#total * of);
    for (let bucket = 0; bucket < BUCKETS; bucket++) {
      rank -= this.#buckets[bucket]!;
      if (rank <= 0) return Math.min(middleOf(bucket) / 1000, this.#maxMs);
    }
    return this.#maxMs;
  }

  #halve(): void {
    this.#total = 0;
    for (let bucket = 0; bucket < BUCKETS; bucket++) {
      const left = this.#buckets[bucket]! >>> 1;
      this.#buckets[bucket] = left;
      this.#total += left;
    }
    this.#untilHalved = HALF_LIFE;
  }
}

/** Figures of one layer. They outlive the compiled chains that feed them. @internal */
export class Figures {
  readonly counters = new Float64Array(COUNTERS);
  /** Made at the first observed run. */
  self: Times | undefined;
  total: Times | undefined;

  settle(selfMs: number, totalMs: number): void {
    (this.self ??= new Times()).record(selfMs);
    (this.total ??= new Times()).record(totalMs);
  }
}
