/** Limits that count over all processes of a host. */
import { outOfRange } from '../base/errors.js';
import { NEVER } from './limits.js';

/** Limits of keys, with their places among the numbers of `checkedLimits`. */
const KEYS = [
  ['maxConnectionsPerIp', 1],
  ['maxConnectionsPerPrefix', 2],
  ['maxConnectionsPerUser', 3],
  ['maxAnonymousConnectionsPerIp', 5],
  ['maxUnknownIpConnections', 6],
] as const;

/**
 * Refuses a limit of a key that had none when the counts began: the host has not counted these keys, since each needs
 * a row of its file.
 * @param begun numbers of `checkedLimits` at the start
 * @param numbers those that are to be in force
 * @throws ERR_OUT_OF_RANGE
 * @internal
 */
export function checkHostLimits(begun: readonly number[], numbers: readonly number[]): void {
  for (const [field, place] of KEYS) {
    if (begun[place] === NEVER && numbers[place] !== NEVER)
      throw outOfRange(field, numbers[place], 'absent: the host has not counted it from the start');
  }
}
