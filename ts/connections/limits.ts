/** Limits of a connection manager, and their checks. */
import { outOfRange } from '../base/errors.js';
import { optionsObject, readOptions, TIME_MAX_MS, wholeNumber } from '../base/options.js';
import {
  checkedConnectRate,
  checkedControlRate,
  checkedMessageRate,
  type ConnectRate,
  frozenRate,
  type MessageRate,
} from './connect-rates.js';

/** Whether limits are enforced, or only observed. */
export type LimitMode = 'enforce' | 'observe';

/** Limits of a connection manager. `0` admits none; `Infinity` or absent is no limit. */
export interface ConnectionLimits {
  /**
   * `enforce` refuses the clients over a limit. `observe` admits them, counts them in
   * `snapshot().observed` and calls `onObserve`: limits are tried on real traffic before they refuse
   * anybody. Message and byte rates are then reported, too (`onRateExceeded`). Draining, shedding,
   * the eviction of idle connections (`connectionTimeoutMs`) and the bounds of closing sockets hold in both. Each manager has its own, also among those of one
   * `name`, and of one host. Default `enforce`.
   */
  readonly mode?: LimitMode | undefined;
  /**
   * Connections in all, over every worker that shares the name. One manager holds at most 4,194,304, whatever this
   * limit is: the next one is refused with `total_limit`.
   */
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
  /** Connections without a user, per address; clients without a valid address count as one address. */
  readonly maxAnonymousConnectionsPerIp?: number | undefined;
  /** Connections of all clients without a valid address, together. Default: `maxConnectionsPerIp`. */
  readonly maxUnknownIpConnections?: number | undefined;
  /**
   * Bits of the IPv6 prefix by which connections and connects are counted: 1 to 128; fixed for the life of the
   * index. 128 counts by address. Default 64.
   */
  readonly ipv6PrefixBits?: number | undefined;
  /**
   * Sockets of an address that are closing and whose peer has not answered. Above it sockets are
   * terminated in the place of a close: their clients see 1006. Default: `maxConnectionsPerIp`. `Bun.serve` keeps a
   * closed socket for some time, and does not tell whether its peer has answered: there each of them counts for
   * 16.5 s, and the default is eight times `maxConnectionsPerIp`.
   */
  readonly maxClosingPerIp?: number | undefined;
  /** The same of all addresses together; 0 terminates every socket. Default: `maxTotalConnections`. */
  readonly maxClosingConnections?: number | undefined;
  /** Rate of connects per address, of IPv6 per prefix of `ipv6PrefixBits`. */
  readonly connectRatePerIp?: ConnectRate | undefined;
  /** Rate of connects per user. */
  readonly connectRatePerUser?: ConnectRate | undefined;
  /** Rate of the messages of each connection. */
  readonly messageRate?: MessageRate | undefined;
  /**
   * Rate of the messages of all connections of a user together, over all managers of the name in this process.
   * A client without a user has none. A user that connects anew does not begin anew.
   */
  readonly messageRatePerUser?: MessageRate | undefined;
  /**
   * Rate of the messages of all connections of an address together, of IPv6 of a prefix of `ipv6PrefixBits`, over
   * all managers of the name in this process. Clients without a valid address share one. A client that connects
   * anew does not begin anew. Holds for `exempt` clients, too.
   */
  readonly messageRatePerIp?: MessageRate | undefined;
  /** Rate of the bytes of each connection. */
  readonly byteRate?: MessageRate | undefined;
  /**
   * Rate of the pings and pongs that a connection may send; `Infinity`, and no other number, for none. Default
   * `{ limit: 20, windowMs: 1000, burst: 100 }`: no client that pings every few seconds meets it.
   */
  readonly controlRate?: MessageRate | number | undefined;
  /**
   * Idle timeout of a connection: 1 to 2^30 ms, or `Infinity` for none. Only received data counts as activity; behind an
   * adapter this includes pings and pongs. A client is not idle while the server has paused its
   * socket, nor, with `ws` on Node, while one long message arrives.
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
  'mode',
  'maxTotalConnections',
  'maxConnectionsPerIp',
  'maxConnectionsPerUser',
  'maxConnectionsPerPrefix',
  'maxAnonymousConnections',
  'maxAnonymousConnectionsPerIp',
  'maxUnknownIpConnections',
  'ipv6PrefixBits',
  'maxClosingPerIp',
  'maxClosingConnections',
  'connectRatePerIp',
  'connectRatePerUser',
  'messageRate',
  'messageRatePerUser',
  'messageRatePerIp',
  'byteRate',
  'controlRate',
  'connectionTimeoutMs',
  'cleanupIntervalMs',
] as const;

const CONNECT_RATES: readonly string[] = ['connectRatePerIp', 'connectRatePerUser'];
const MESSAGE_RATES: readonly string[] = [
  'messageRate',
  'messageRatePerUser',
  'messageRatePerIp',
  'byteRate',
  'controlRate',
];

/**
 * Returns a plain copy of the given limits; see `readOptions`.
 * @throws ERR_INVALID_ARG_TYPE, ERR_UNKNOWN_OPTION; the values are not checked yet
 * @internal
 */
export function readLimits(limits: ConnectionLimits): ConnectionLimits {
  optionsObject('limits', limits);
  return readOptions('ConnectionLimits', limits, LIMIT_NAMES);
}

/**
 * Returns a plain copy of changes. Those that are `undefined` lift a limit, and stay.
 * @throws ERR_INVALID_ARG_TYPE, ERR_UNKNOWN_OPTION; the values are not checked yet
 * @internal
 */
export function readChanges(changes: ConnectionLimits): ConnectionLimits {
  const lifted = LIMIT_NAMES.filter((name) => name in changes).map((name) => [name, undefined]);
  return { ...Object.fromEntries(lifted), ...readLimits(changes) } as ConnectionLimits;
}

/**
 * Returns a frozen copy, rates included, which neither the caller nor a reader of `snapshot()` can change.
 * @throws ERR_INVALID_ARG_TYPE, ERR_UNKNOWN_OPTION; the values are not checked yet
 * @internal
 */
export function frozenLimits(limits: ConnectionLimits): Readonly<ConnectionLimits> {
  const copy = readLimits(limits) as Record<string, unknown>;
  for (const name of Object.keys(copy)) {
    if (CONNECT_RATES.includes(name)) copy[name] = frozenRate(name, copy[name], 'connects');
    if (MESSAGE_RATES.includes(name)) copy[name] = frozenRate(name, copy[name], 'messages');
  }
  return Object.freeze(copy as ConnectionLimits);
}

/** Returns a message rate as the core takes it, or zeros for no rate. */
function sharedRate(
  field: string,
  given: MessageRate | undefined,
): [intervalMs: number, burst: number] {
  const rate = checkedMessageRate(field, given);
  return rate === undefined ? [0, 0] : [rate.intervalMs, rate.burst];
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
  checkedControlRate(limits.controlRate);
  count('maxClosingPerIp');
  count('maxClosingConnections');
  const { mode = 'enforce' } = limits;
  if (mode !== 'enforce' && mode !== 'observe')
    throw outOfRange('mode', mode, "'enforce' or 'observe'");
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
    mode === 'observe' ? 1 : 0,
    ...sharedRate('messageRatePerUser', limits.messageRatePerUser),
    ...sharedRate('messageRatePerIp', limits.messageRatePerIp),
  ];
}
