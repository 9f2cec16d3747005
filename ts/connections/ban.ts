/** Bans of addresses, as callers see them. */

/** Cause of a ban: failures of the address, `manager.ban()`, or a ban by another process. */
export type BanCause = 'failures' | 'call' | 'cluster';

/** A ban that is active. */
export interface Ban {
  /** The address; of IPv6 the network of `ipv6PrefixBits`, such as `2001:db8::/64`. */
  readonly address: string;
  /** Start of the ban, wall-clock milliseconds. */
  readonly since: number;
  /** End of the ban, wall-clock milliseconds. */
  readonly until: number;
  /** Failures of the address since it is known, those before earlier bans included. */
  readonly failures: number;
  /** Bans of the address by failures in a row, each twice as long as the one before. */
  readonly bans: number;
  readonly cause: BanCause;
}

/** Counts of bans; with a `name`, those of all threads. */
export interface BanStats {
  /** Active bans. */
  readonly active: number;
  /** Addresses that are remembered, banned or not. */
  readonly addresses: number;
  /** Failures that were counted. */
  readonly failures: number;
  /** Bans so far, whatever their cause. */
  readonly banned: number;
  /** Bans that were lifted by `unban()`. */
  readonly lifted: number;
  /** Addresses that a full table has forgotten early. */
  readonly evicted: number;
}

/** Listeners of a manager, by event. */
export interface ConnectionManagerEvents {
  /** An address is banned: by this manager, or by another process of its cluster. */
  banned: (ban: Ban) => void;
  /** A ban was lifted by `unban()`, here or in another process; a ban that ends by itself tells nobody. */
  unbanned: (ban: Ban) => void;
}
