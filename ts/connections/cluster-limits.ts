/** The limits that a cluster counts: from the limits of a manager to the core's numbers, and back. */
import { withNumbers } from './in-force.js';
import { checkedLimits, type ConnectionLimits } from './limits.js';

/** Places of the cluster's numbers among those of `checkedLimits`. */
const PLACES = [0, 2, 1, 3, 4, 5, 6, 8, 9, 10, 11] as const;
/** The same as bits, for `Seats.setLimits`. @internal */
export const CLUSTER_PLACES = PLACES.reduce<number>((bits, place) => bits | (1 << place), 0);

/** Returns the limits that a cluster counts, in its order. @param numbers of `checkedLimits` @internal */
export function clusterNumbers(numbers: readonly number[]): number[] {
  return PLACES.map((place) => numbers[place]!);
}

/**
 * Returns limits whose counts are those that a cluster has in force, as `withNumbers` does.
 * @param inForce the cluster's numbers
 * @internal
 */
export function withClusterLimits(
  limits: Readonly<ConnectionLimits>,
  inForce: readonly number[],
): ConnectionLimits {
  return withNumbers(limits, inForceNumbers(checkedLimits(limits), inForce));
}

/**
 * Returns the numbers of `checkedLimits` with those that a cluster has in force.
 * @internal
 */
export function inForceNumbers(numbers: readonly number[], inForce: readonly number[]): number[] {
  const all = [...numbers];
  PLACES.forEach((place, at) => (all[place] = inForce[at]!));
  return all;
}
