/** What a connection manager allows, and the words it refuses with. */
import { outOfRange, wrongType } from '../base/errors.js';
import { knownOptions, TIME_MAX_MS, wholeNumber } from '../base/options.js';

/** How often something may happen: `limit` times in `windowMs`, with `burst` at once (GCRA). */
export interface ConnectRate {
  /** Events in each window: 1 to 1,000,000. */
  readonly limit: number;
  /** The window, milliseconds: 1 to 2^30. */
  readonly windowMs: number;
  /** Events at once: 1 to 1,000,000. Default: `limit`. */
  readonly burst?: number | undefined;
}

/** What is done with a message over its rate. */
export type RateAction = 'drop' | 'close' | 'report';

/** How many messages, or bytes, one connection may send, and what is done with what is over. */
export interface MessageRate {
  /** Messages or bytes in each window: 1 to 2^30. */
  readonly limit: number;
  /** The window, milliseconds: 1 to 2^30. */
  readonly windowMs: number;
  /** Messages or bytes at once: 1 to 2^30; a message of more bytes is always over. Default: `limit`. */
  readonly burst?: number | undefined;
  /**
   * `drop`: `received` says so and the caller ignores the message; `close`: the connection is
   * closed with 1008; `report`: only `onRateExceeded` is called. Default `close`.
   */
  readonly action?: RateAction | undefined;
}

/** Limits of a connection manager. `0` admits none; `Infinity` or absent is no limit. */
export interface ConnectionLimits {
  /** Connections in all, over every worker that shares the name. */
  readonly maxTotalConnections?: number | undefined;
  /** Connections per address. */
  readonly maxConnectionsPerIp?: number | undefined;
  /** Connections per user. */
  readonly maxConnectionsPerUser?: number | undefined;
  /** Connections per IPv6 prefix of `ipv6PrefixBits`. */
  readonly maxConnectionsPerPrefix?: number | undefined;
  /** Connections without a user. */
  readonly maxAnonymousConnections?: number | undefined;
  /** Connections without a user, per address. */
  readonly maxAnonymousConnectionsPerIp?: number | undefined;
  /** Connections from what is no address, all together. Default: `maxConnectionsPerIp`. */
  readonly maxUnknownIpConnections?: number | undefined;
  /** Bits of the prefix: 1 to 128; fixed for the life of the index. Default 64. */
  readonly ipv6PrefixBits?: number | undefined;
  /** Connects per address. */
  readonly connectRatePerIp?: ConnectRate | undefined;
  /** Connects per user. */
  readonly connectRatePerUser?: ConnectRate | undefined;
  /** Messages of each connection. */
  readonly messageRate?: MessageRate | undefined;
  /** Bytes of each connection. */
  readonly byteRate?: MessageRate | undefined;
  /** Idle time after which a connection is closed: 1 to 2^30 ms. Only what is received counts as activity; behind an adapter that includes pings and pongs. */
  readonly connectionTimeoutMs?: number | undefined;
  /** How often to look for idle connections: 1 to 2^30 ms. Default 5000. */
  readonly cleanupIntervalMs?: number | undefined;
}

/** No limit, as the core takes it. @internal */
export const NEVER = 0xffff_ffff;
const RATE_MAX = 1e6;
const BYTES_MAX = 2 ** 30;

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

/** Milliseconds per event, and events at once: 0 and 0 for no rate. */
function checkedConnectRate(
  field: string,
  rate: ConnectRate | MessageRate | undefined,
  most: number,
): [number, number] {
  if (rate === undefined) return [0, 0];
  if (typeof rate !== 'object' || rate === null)
    throw wrongType(field, rate, 'an object { limit, windowMs, burst? }');
  const limit = wholeNumber(`${field}.limit`, rate.limit, 1, most);
  return [
    wholeNumber(`${field}.windowMs`, rate.windowMs, 1, TIME_MAX_MS) / limit,
    wholeNumber(`${field}.burst`, rate.burst, 1, most, limit),
  ];
}

const RATES: readonly string[] = [
  'connectRatePerIp',
  'connectRatePerUser',
  'messageRate',
  'byteRate',
];

/**
 * A copy that neither the caller nor who reads `getStats()` can change, rates included. Each limit is
 * read once, so that what is checked is what is kept, whatever a getter or a Proxy says next.
 * @throws ERR_INVALID_ARG_TYPE, ERR_UNKNOWN_OPTION; nothing else has been checked
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
      RATES.includes(name) && typeof limit === 'object' && limit !== null
        ? Object.freeze({ ...limit })
        : limit;
  }
  return Object.freeze(copy);
}

/** A checked message or byte rate. @internal */
export interface Rate {
  readonly intervalMs: number;
  readonly burst: number;
  readonly action: RateAction;
}

/** @internal */
export function checkedMessageRate(field: string, rate: MessageRate | undefined): Rate | undefined {
  if (rate === undefined) return undefined;
  const [intervalMs, burst] = checkedConnectRate(field, rate, BYTES_MAX);
  knownOptions(field, rate, ['limit', 'windowMs', 'burst', 'action']);
  const action = rate.action ?? 'close';
  if (action !== 'drop' && action !== 'close' && action !== 'report')
    throw outOfRange(`${field}.action`, action, "'drop', 'close' or 'report'");
  return { intervalMs, burst, action };
}

/**
 * The limits as the core takes them.
 * @param limits what `frozenLimits` made
 * @throws ERR_INVALID_ARG_TYPE, ERR_OUT_OF_RANGE, ERR_UNKNOWN_OPTION, naming the field
 * @internal
 */
export function checkedLimits(limits: ConnectionLimits): number[] {
  const count = (field: keyof ConnectionLimits): number =>
    Math.min(wholeNumber(field, limits[field], 0, NEVER - 1, Infinity), NEVER);
  wholeNumber('connectionTimeoutMs', limits.connectionTimeoutMs, 1, TIME_MAX_MS, Infinity);
  wholeNumber('cleanupIntervalMs', limits.cleanupIntervalMs, 1, TIME_MAX_MS, 5000);
  checkedMessageRate('messageRate', limits.messageRate);
  checkedMessageRate('byteRate', limits.byteRate);
  for (const field of ['connectRatePerIp', 'connectRatePerUser'] as const) {
    const rate = limits[field];
    if (typeof rate === 'object' && rate !== null)
      knownOptions(field, rate, ['limit', 'windowMs', 'burst']);
  }
  return [
    count('maxTotalConnections'),
    count('maxConnectionsPerIp'),
    count('maxConnectionsPerPrefix'),
    count('maxConnectionsPerUser'),
    count('maxAnonymousConnections'),
    count('maxAnonymousConnectionsPerIp'),
    limits.maxUnknownIpConnections === undefined
      ? count('maxConnectionsPerIp')
      : count('maxUnknownIpConnections'),
    wholeNumber('ipv6PrefixBits', limits.ipv6PrefixBits, 1, 128, 64),
    ...checkedConnectRate('connectRatePerIp', limits.connectRatePerIp, RATE_MAX),
    ...checkedConnectRate('connectRatePerUser', limits.connectRatePerUser, RATE_MAX),
  ];
}
