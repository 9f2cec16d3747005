/** Limits of a connection manager, and their checks. */
import { wrongType } from '../base/errors.js';
import { knownOptions, TIME_MAX_MS, wholeNumber } from '../base/options.js';
import {
  checkedConnectRate,
  checkedMessageRate,
  type ConnectRate,
  type MessageRate,
} from './rates.js';

/** Limits of a connection manager. `0` admits none; `Infinity` or absent is no limit. */
export interface ConnectionLimits {
  /** Connections in all, over every worker that shares the name. */
  readonly maxTotalConnections?: number | undefined;
  /** Connections per address. */
  readonly maxConnectionsPerIp?: number | undefined;
  /** Connections per user. */
  readonly maxConnectionsPerUser?: number | undefined;
  /**
   * Connections per IPv6 prefix of `ipv6PrefixBits`, since a client of IPv6 has a whole network. `Infinity` is
   * no limit. IPv4, link-local (`fe80::/10`) and unique local addresses (`fc00::/7`) have no prefix. Default:
   * `maxConnectionsPerIp`.
   */
  readonly maxConnectionsPerPrefix?: number | undefined;
  /** Connections without a user. */
  readonly maxAnonymousConnections?: number | undefined;
  /** Connections without a user, per address. */
  readonly maxAnonymousConnectionsPerIp?: number | undefined;
  /** Connections of all clients without a valid address, together. Default: `maxConnectionsPerIp`. */
  readonly maxUnknownIpConnections?: number | undefined;
  /**
   * Bits of the IPv6 prefix by which connections and connects are counted: 1 to 128; fixed for the life of the
   * index. 128 counts by address. Default 64.
   */
  readonly ipv6PrefixBits?: number | undefined;
  /** Rate of connects per address, of IPv6 per prefix of `ipv6PrefixBits`. */
  readonly connectRatePerIp?: ConnectRate | undefined;
  /** Rate of connects per user. */
  readonly connectRatePerUser?: ConnectRate | undefined;
  /** Rate of the messages of each connection. */
  readonly messageRate?: MessageRate | undefined;
  /** Rate of the bytes of each connection. */
  readonly byteRate?: MessageRate | undefined;
  /**
   * Idle timeout of a connection: 1 to 2^30 ms. Only received data counts as activity; behind an
   * adapter this includes pings and pongs.
   */
  readonly connectionTimeoutMs?: number | undefined;
  /** Interval of the sweep for idle connections: 1 to 2^30 ms. Default 5000. */
  readonly cleanupIntervalMs?: number | undefined;
}

/** The core's value for no limit. @internal */
export const NEVER = 0xffff_ffff;
/** Default of `cleanupIntervalMs`. @internal */
export const CLEANUP_INTERVAL_MS = 5000;

const LIMIT_NAMES = [
  'maxTotalConnections',
  'maxConnectionsPerIp',
  'maxConnectionsPerUser',
  'maxConnectionsPerPrefix',
  'maxAnonymousConnections',
  'maxAnonymousConnectionsPerIp',
  'maxUnknownIpConnections',
  'ipv6PrefixBits',
  'connectRatePerIp',
  'connectRatePerUser',
  'messageRate',
  'byteRate',
  'connectionTimeoutMs',
  'cleanupIntervalMs',
] as const;

const RATE_NAMES: readonly string[] = [
  'connectRatePerIp',
  'connectRatePerUser',
  'messageRate',
  'byteRate',
];

/**
 * Returns a frozen copy, rates included, which neither the caller nor a reader of `snapshot()` can
 * change. Each limit is read once, so that the checked value is the one in force even if a getter or
 * a Proxy returns another one later.
 * @throws ERR_INVALID_ARG_TYPE, ERR_UNKNOWN_OPTION; the values are not checked yet
 * @internal
 */
export function frozenLimits(limits: ConnectionLimits): Readonly<ConnectionLimits> {
  if (typeof limits !== 'object' || limits === null) throw wrongType('limits', limits, 'an object');
  knownOptions('ConnectionLimits', limits, LIMIT_NAMES);
  const copy: Record<string, unknown> = {};
  for (const name of LIMIT_NAMES) {
    const limit: unknown = limits[name];
    if (limit === undefined) continue;
    copy[name] =
      RATE_NAMES.includes(name) && typeof limit === 'object' && limit !== null
        ? Object.freeze({ ...limit })
        : limit;
  }
  return Object.freeze(copy);
}

/**
 * Returns the limits as the core takes them, in the order of `limits()` in
 * `src/binding/connections.rs`.
 * @param limits made by `frozenLimits`
 * @throws ERR_INVALID_ARG_TYPE, ERR_OUT_OF_RANGE, ERR_UNKNOWN_OPTION, naming the field
 * @internal
 */
export function checkedLimits(limits: ConnectionLimits): number[] {
  const count = (field: keyof ConnectionLimits): number =>
    Math.min(wholeNumber(field, limits[field], 0, NEVER - 1, Infinity), NEVER);
  const perIpUnless = (field: keyof ConnectionLimits): number =>
    count(limits[field] === undefined ? 'maxConnectionsPerIp' : field);
  wholeNumber('connectionTimeoutMs', limits.connectionTimeoutMs, 1, TIME_MAX_MS, Infinity);
  wholeNumber('cleanupIntervalMs', limits.cleanupIntervalMs, 1, TIME_MAX_MS, CLEANUP_INTERVAL_MS);
  checkedMessageRate('messageRate', limits.messageRate);
  checkedMessageRate('byteRate', limits.byteRate);
  return [
    count('maxTotalConnections'),
    count('maxConnectionsPerIp'),
    perIpUnless('maxConnectionsPerPrefix'),
    count('maxConnectionsPerUser'),
    count('maxAnonymousConnections'),
    count('maxAnonymousConnectionsPerIp'),
    perIpUnless('maxUnknownIpConnections'),
    wholeNumber('ipv6PrefixBits', limits.ipv6PrefixBits, 1, 128, 64),
    ...checkedConnectRate('connectRatePerIp', limits.connectRatePerIp),
    ...checkedConnectRate('connectRatePerUser', limits.connectRatePerUser),
  ];
}
