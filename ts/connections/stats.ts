/** Counts of a connection manager. */
import type { BanStats } from './ban.js';
import type { ConnectionLimits } from './limits.js';
import type { RefusalCode } from './refusal.js';

/** Counts of all processes of a host, those included that have ended within the last second. */
export interface HostCounts {
  /** Open connections and leases. */
  readonly totalConnections: number;
  /** Connections and leases without a user. */
  readonly anonymousConnections: number;
  /** Processes. */
  readonly processes: number;
}

/** Counts at one moment. The first four are those of the index, which managers of one name in this process share. */
export interface ConnectionStats {
  /** Open connections and leases. */
  readonly totalConnections: number;
  /** Addresses with a connection. Clients without a valid address count as one address. */
  readonly connectionsByIp: number;
  /** Users with a connection. */
  readonly connectionsByUser: number;
  /** Connections and leases without a user. */
  readonly anonymousConnections: number;
  /** Connections that this manager has admitted. */
  readonly admitted: number;
  /** Refusals of this manager by code; codes that never came up are absent. */
  readonly refused: Readonly<Partial<Record<RefusalCode, number>>>;
  /**
   * Admissions of this manager that a limit would have refused, by code, while the limits are only
   * observed (`mode`); codes that never came up are absent.
   */
  readonly observed: Readonly<Partial<Record<RefusalCode, number>>>;
  /** Sockets that this manager is closing, whose peers have not answered yet. They hold no seat. */
  readonly closing: number;
  /** Sockets that this manager has terminated in the place of a close, since too many were closing. */
  readonly terminated: number;
  /** Connections that this manager has closed for being idle. */
  readonly evicted: number;
  /**
   * Users and addresses with a connection that has sent a message, while `messageRatePerUser` or
   * `messageRatePerIp` counts them; of the index, as the first four.
   */
  readonly messageRateKeys: number;
  /** Messages, pings and pongs over a rate, whatever the action was. */
  readonly messagesOverRate: number;
  /** Failures and bans of addresses; `undefined` without `banAfter`. */
  readonly bans: BanStats | undefined;
  /** Counts of all processes of this host; `undefined` without `cluster: 'host'`. */
  readonly host: HostCounts | undefined;
  /**
   * The limits in force, whichever manager of the name has set them: a frozen copy. A message rate over users or
   * addresses is absent if this manager does not judge it.
   */
  readonly limits: Readonly<ConnectionLimits>;
}

/** @param counts as `Seats.host` returns them @internal */
export function hostCountsOf(counts: readonly number[]): HostCounts {
  const [totalConnections = 0, anonymousConnections = 0, processes = 0] = counts;
  return { totalConnections, anonymousConnections, processes };
}
