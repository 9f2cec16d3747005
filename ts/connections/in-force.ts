/** The limits in force: from the core's numbers back to the limits of a manager. */
import { checkedLimits, type ConnectionLimits, NEVER } from './limits.js';
import type { ConnectRate } from './connect-rates.js';

const COUNTS = [
  ['maxTotalConnections', 0],
  ['maxConnectionsPerIp', 1],
  ['maxConnectionsPerPrefix', 2],
  ['maxConnectionsPerUser', 3],
  ['maxAnonymousConnections', 4],
  ['maxAnonymousConnectionsPerIp', 5],
  ['maxUnknownIpConnections', 6],
] as const;
const CONNECT_RATES = [
  ['connectRatePerIp', 8],
  ['connectRatePerUser', 10],
] as const;
const MESSAGE_RATES = [
  ['messageRatePerUser', 13],
  ['messageRatePerIp', 15],
] as const;

/** Places of each limit among the numbers of `checkedLimits`, as bits. */
const PLACES = new Map<string, number>([
  ...COUNTS.map(([field, place]) => [field, 1 << place] as const),
  ...[...CONNECT_RATES, ...MESSAGE_RATES].map(([field, place]) => [field, 3 << place] as const),
  ['mode', 1 << 12],
]);
/** Limits that follow `maxConnectionsPerIp` while they are absent. */
const FOLLOWERS = ['maxConnectionsPerPrefix', 'maxUnknownIpConnections'] as const;

/**
 * Returns the places of the numbers that a change replaces, as bits.
 * @param changes the limits that are named
 * @param merged the limits with the changes
 * @internal
 */
export function changedPlaces(changes: ConnectionLimits, merged: ConnectionLimits): number {
  let places = 0;
  for (const field of Object.keys(changes)) places |= PLACES.get(field) ?? 0;
  if (Object.hasOwn(changes, 'maxConnectionsPerIp'))
    for (const field of FOLLOWERS) if (merged[field] === undefined) places |= PLACES.get(field)!;
  return places;
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
 * Returns limits whose counts and connect rates are those in force. Fields that agree already stay as they are, those
 * that follow another one included.
 * @param numbers in force, in the order of `checkedLimits`
 * @internal
 */
export function withNumbers(
  limits: Readonly<ConnectionLimits>,
  numbers: readonly number[],
): ConnectionLimits {
  const changed: Record<string, unknown> = { ...limits };
  for (const [field, place] of COUNTS) {
    const count = numbers[place]!;
    const differs = (): boolean => checkedLimits(changed as ConnectionLimits)[place] !== count;
    if (!differs()) continue;
    if (count !== NEVER) changed[field] = count;
    else {
      delete changed[field];
      // It would follow another limit.
      if (differs()) changed[field] = Infinity;
    }
  }
  for (const [field, place] of CONNECT_RATES) {
    const own = checkedLimits(changed as ConnectionLimits);
    const [intervalMs, burst] = [numbers[place]!, numbers[place + 1]!];
    if (own[place] !== intervalMs || own[place + 1] !== burst)
      changed[field] = rateOf(intervalMs, burst);
  }
  return changed as ConnectionLimits;
}

/**
 * Returns limits whose message rates are those in force, of the kinds that the manager judges. The actions stay.
 * @param numbers as in `withNumbers`
 * @internal
 */
export function withMessageRates(
  limits: Readonly<ConnectionLimits>,
  numbers: readonly number[],
): ConnectionLimits {
  const own = checkedLimits(limits);
  const changed: Record<string, unknown> = { ...limits };
  for (const [field, place] of MESSAGE_RATES) {
    const rate = limits[field];
    const [intervalMs, burst] = [numbers[place]!, numbers[place + 1]!];
    if (rate === undefined || (own[place] === intervalMs && own[place + 1] === burst)) continue;
    const { action } = rate;
    const inForce = rateOf(intervalMs, burst);
    changed[field] = inForce && (action === undefined ? inForce : { ...inForce, action });
  }
  return changed as ConnectionLimits;
}
