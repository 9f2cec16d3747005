/** The limits that a cluster counts: from the limits of a manager to the core's numbers, and back. */
import { checkedLimits, type ConnectionLimits, NEVER } from './limits.js';
import type { ConnectRate } from './rates.js';

/** Places of the cluster's numbers among those of `checkedLimits`. */
const PLACES = [0, 2, 1, 3, 4, 5, 6, 8, 9, 10, 11] as const;
const COUNTS = [
  ['maxTotalConnections', 0],
  ['maxConnectionsPerIp', 1],
  ['maxConnectionsPerPrefix', 2],
  ['maxConnectionsPerUser', 3],
  ['maxAnonymousConnections', 4],
  ['maxAnonymousConnectionsPerIp', 5],
  ['maxUnknownIpConnections', 6],
] as const;
const RATES = [
  ['connectRatePerIp', 8],
  ['connectRatePerUser', 10],
] as const;

/** Returns the limits that a cluster counts, in its order. @param numbers of `checkedLimits` @internal */
export function clusterNumbers(numbers: readonly number[]): number[] {
  return PLACES.map((place) => numbers[place]!);
}

/** Returns a rate of that interval and burst. Its window is rounded to whole milliseconds. */
function rateOf(intervalMs: number, burst: number): ConnectRate | undefined {
  if (intervalMs === 0) return undefined;
  // The fewest connects whose window is nearly whole.
  for (let limit = 1; limit <= 1000; limit++) {
    const windowMs = Math.round(intervalMs * limit);
    if (windowMs >= 1 && Math.abs(windowMs / limit - intervalMs) < 1e-9 * intervalMs)
      return { limit, windowMs, burst };
  }
  const limit = Math.min(1e6, Math.max(1, Math.ceil(1000 / intervalMs)));
  return { limit, windowMs: Math.max(1, Math.round(intervalMs * limit)), burst };
}

/**
 * Returns limits whose counts are those that a cluster has in force. Fields that agree already stay as they are, those
 * that follow another one included.
 * @param inForce the cluster's numbers
 * @internal
 */
export function withClusterLimits(
  limits: Readonly<ConnectionLimits>,
  inForce: readonly number[],
): ConnectionLimits {
  const wanted = new Map(PLACES.map((place, at) => [place as number, inForce[at]!]));
  const changed: Record<string, unknown> = { ...limits };
  for (const [field, place] of COUNTS) {
    const count = wanted.get(place)!;
    const differs = (): boolean => checkedLimits(changed as ConnectionLimits)[place] !== count;
    if (!differs()) continue;
    if (count !== NEVER) changed[field] = count;
    else {
      delete changed[field];
      // It would follow another limit.
      if (differs()) changed[field] = NEVER - 1;
    }
  }
  for (const [field, place] of RATES) {
    const numbers = checkedLimits(changed as ConnectionLimits);
    const [intervalMs, burst] = [wanted.get(place)!, wanted.get(place + 1)!];
    if (numbers[place] !== intervalMs || numbers[place + 1] !== burst)
      changed[field] = rateOf(intervalMs, burst);
  }
  return changed as ConnectionLimits;
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
