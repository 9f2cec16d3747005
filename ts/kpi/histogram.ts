/**
 * Durations by buckets that are equally fine at every size: 128 to each doubling, so that no value
 * lies further than 1/256 (0.39 %) from the middle of its bucket.
 *
 * The bucket of a double is its exponent and the first seven bits of its mantissa, read from the
 * number's own bits: no logarithm, no search. From 2^-10 ms (1 µs) to 2^22 ms (70 minutes); what is
 * shorter or longer is in the first or the last bucket.
 */

const SUB_BITS = 7;
const LOWEST_EXPONENT = -10;
const OCTAVES = 32;
/** @internal */
export const BUCKETS = OCTAVES << SUB_BITS;
const BASE = (1023 + LOWEST_EXPONENT) << SUB_BITS;
const SHIFT = 20 - SUB_BITS;

const double = new Float64Array(1);
const words = new Uint32Array(double.buffer);
// The word with sign and exponent is the second on little-endian machines.
double[0] = 1;
const HIGH = words[1] === 0 ? 0 : 1;

/** The bucket of a finite duration of at least 0. @internal */
export function bucketOf(durationMs: number): number {
  double[0] = durationMs;
  const bucket = (words[HIGH]! >>> SHIFT) - BASE;
  return bucket < 0 ? 0 : bucket >= BUCKETS ? BUCKETS - 1 : bucket;
}

/** The least duration of a bucket. @internal */
export function lowerEdge(bucket: number): number {
  return 2 ** ((bucket >> SUB_BITS) + LOWEST_EXPONENT) * (1 + (bucket & 127) / 128);
}

/** Middles of the buckets; with `coarse` = 1 of two buckets each. */
function middles(coarse: number): Float64Array {
  return Float64Array.from({ length: BUCKETS >> coarse }, (_, at) => (lowerEdge(at << coarse) + lowerEdge((at + 1) << coarse)) / 2);
}
const MIDDLES = [middles(0), middles(1)] as const;

/** Quantiles by nearest rank, in milliseconds. */
export interface LatencyQuantiles {
  /** Half of all are not above it. */
  readonly p50: number;
  /** Nine of ten are not above it. */
  readonly p90: number;
  /** 95 of 100 are not above it. */
  readonly p95: number;
  /** 99 of 100 are not above it. */
  readonly p99: number;
  /** 999 of 1,000 are not above it. */
  readonly p999: number;
  /** The longest. */
  readonly max: number;
  /** The arithmetic mean. */
  readonly mean: number;
}

const SHARES = [0.5, 0.9, 0.95, 0.99, 0.999] as const;
const found = new Float64Array(SHARES.length);

/**
 * Quantiles of what was counted, or `null` if nothing was.
 * @param counts by bucket; of `BUCKETS`, or of half as many
 * @internal
 */
export function quantilesOf(counts: Uint32Array | Float64Array, sum: number, max: number): LatencyQuantiles | null {
  let total = 0;
  for (let at = 0; at < counts.length; at++) total += counts[at]!;
  if (total === 0) return null;
  const values = MIDDLES[counts.length === BUCKETS ? 0 : 1];
  let seen = 0;
  let next = 0;
  let rank = Math.ceil(SHARES[0] * total);
  for (let at = 0; at < counts.length && next < SHARES.length; at++) {
    const count = counts[at]!;
    if (count === 0) continue;
    seen += count;
    while (seen >= rank) {
      // No quantile lies above the longest, which is known exactly.
      found[next] = Math.min(values[at]!, max);
      if (++next === SHARES.length) break;
      rank = Math.ceil(SHARES[next]! * total);
    }
  }
  return { p50: found[0]!, p90: found[1]!, p95: found[2]!, p99: found[3]!, p999: found[4]!, max, mean: sum / total };
}
