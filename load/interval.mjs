// A median and its confidence interval, of figures that were taken in pairs.
import { median } from './verdict.mjs';

const RESAMPLES = 4000;

/** Returns a generator of numbers from 0 to 1 (Marsaglia's xorshift32): the same at every run. */
export function randomOf(seed) {
  let state = seed;
  return () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) / 2 ** 32;
  };
}

/**
 * Returns the median of a list, and the 95 % interval of the percentile bootstrap (Efron 1979): the
 * medians of samples that are drawn from the list.
 * @param list one figure for each pair
 */
export function interval(list) {
  const random = randomOf(0x9e3779b9);
  const drawn = Array.from({ length: RESAMPLES }, () =>
    median(list.map(() => list[Math.floor(random() * list.length)])),
  ).toSorted((a, b) => a - b);
  return {
    median: median(list),
    low: drawn[Math.floor(RESAMPLES * 0.025)],
    high: drawn[Math.ceil(RESAMPLES * 0.975) - 1],
  };
}

/**
 * Compares an interval with the most that it may be.
 * @returns `met` or `MISSED` if the whole interval says so; `unclear` if the noise is larger than
 *   the distance
 */
export const judgeMost = ({ low, high }, most) =>
  high <= most ? 'met' : low > most ? 'MISSED' : 'unclear';
