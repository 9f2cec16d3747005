/** Options of a connection manager, and their checks. */
import { outOfRange, wrongSecretType, wrongType } from '../base/errors.js';
import { optionsObject, readOptions, TIME_MAX_MS, wholeNumber } from '../base/options.js';
import { checkWellFormed } from '../native/strings.js';
import type { ResourceMonitor } from '../resources/monitor.js';
import { Cluster } from '../cluster/cluster.js';
import { TimerManager } from '../timers/manager.js';
import { ID_MAX } from './arguments.js';
import type { ManagedConnection, ManagedSocket } from './connection.js';
import { type BanOptions, checkedBans, type CheckedBans } from './ban-options.js';
import { exemptClients } from './exempt-clients.js';
import type { RateAction } from './connect-rates.js';
import type { TracedRefusal } from './refusal.js';

/** Options of a connection manager. */
export interface ConnectionManagerOptions<S extends ManagedSocket = ManagedSocket> {
  /**
   * Shares the counts with every manager of that name in this process, over all workers: 1 to 1024
   * characters, none of them NUL or a lone surrogate. Default: none, the counts are this manager's own.
   */
  readonly name?: string | undefined;
  /**
   * Cluster whose processes count together: limits of connections hold over all of them, per `name`, which it
   * needs. `drain` and idle eviction stay this process's. Admission is asynchronous then: use `admit` and
   * `connection.identify`; `reserve`, `addConnection` and `bindUser` are optimistic. Excludes the limits'
   * `mode: 'observe'`. Default: none.
   *
   * `'host'` counts over all processes of this user on one Linux host, in a file in `/dev/shm`, without a server:
   * `reserve` and `addConnection` stay synchronous and exact. It needs a `name`, too. Rates, `mode`, bans,
   * `drain`, takeovers and `snapshot()` stay this process's.
   */
  readonly cluster?: Cluster | 'host' | undefined;
  /**
   * With `cluster: 'host'`: keys (addresses, prefixes, users) that can be counted at once, in all processes: 1024 to
   * 2^24. The file takes about `(12 + 6 * hostProcesses)` bytes for each, of memory. A client whose keys find no
   * place is refused with `host_full`. Default 65536.
   */
  readonly hostCapacity?: number | undefined;
  /**
   * With `cluster: 'host'`: processes that can count at once: 2 to 256, rounded up to a multiple of 16. During a
   * rolling restart the old ones count, too. One more is ERR_CLUSTER_FULL. Default 32.
   */
  readonly hostProcesses?: number | undefined;
  /**
   * Owner of the manager's timers. Default: a `TimerManager` of its own, which ends with the
   * manager.
   */
  readonly timers?: TimerManager | undefined;
  /**
   * Shortest time that a lease holds its seat: 1 to 2^30 ms. An unused lease gives it back within as
   * long again and a second. Default 10000.
   */
  readonly leaseTimeoutMs?: number | undefined;
  /** Time from a close frame to `terminate()`: 1 to 2^30 ms. Default 5000. */
  readonly closeTimeoutMs?: number | undefined;
  /**
   * Action at `maxConnectionsPerUser`: `reject` refuses the newcomer, `closeOldest` admits the
   * newcomer and closes the user's oldest connection of this manager with 4001 once the newcomer opens: the connection
   * that has been this user's for the longest time. At most as many leases may wait for that as the user has
   * connections. With a `cluster` the oldest connection of all processes is closed while the newcomer waits, at most
   * `admitTimeoutMs`; all processes need the same value. Default `reject`.
   */
  readonly onFull?: 'reject' | 'closeOldest' | undefined;
  /**
   * Action when an id is in use: `reject` refuses the newcomer, `takeover` closes the old
   * connection with 4001 first. Default `reject`.
   */
  readonly onDuplicateId?: 'reject' | 'takeover' | undefined;
  /**
   * Monitor that counts this manager's connections. With its option `shedding` it also decides
   * which newcomers to refuse when memory is short (`overload`). Default: none.
   */
  readonly monitor?: ResourceMonitor | undefined;
  /**
   * Clients that are counted, but never refused by the limits of an address or a prefix, of clients without an
   * address, and of connect rates, such as monitors and internal services. Draining, short memory, the totals and
   * the limit of a user hold for them too. Networks (`10.0.0.0/8`) or addresses, at most 1,000, with `unix` for the
   * peer of a Unix socket; or a function of the client's address: only `true` exempts. Default: none.
   */
  readonly exempt?: readonly string[] | ((ip: string) => boolean) | undefined;
  /**
   * Bans an address after so many failures within a minute: 1 to 65536, or `Infinity` for bans by `manager.ban()`
   * only; or as `BanOptions` say. It is refused first of all, for a time that doubles with each further ban. Loopback,
   * `exempt` clients, trusted proxies of a guard and clients without an address are never banned. Open connections
   * stay. With a `name`, all threads of the process share the bans, and with a `cluster` all processes; failures are
   * counted by each process. Default: no bans.
   */
  readonly banAfter?: BanOptions | number | undefined;
  /** Called after an idle connection was closed. */
  readonly onEvict?: ((connection: ManagedConnection<S>) => void) | undefined;
  /** Called for every refusal. */
  readonly onRefuse?:
    ((refusal: TracedRefusal, ip: string, userId: string | undefined) => void) | undefined;
  /** Called for every admission that a limit would have refused, while the limits are only observed. */
  readonly onObserve?:
    ((refusal: TracedRefusal, ip: string, userId: string | undefined) => void) | undefined;
  /** Called for every message, ping or pong over a rate, before the action is taken. */
  readonly onRateExceeded?:
    | ((
        connection: ManagedConnection<S>,
        rate:
          'message_rate' | 'user_message_rate' | 'ip_message_rate' | 'byte_rate' | 'control_rate',
        action: RateAction,
      ) => void)
    | undefined;
}

/** Keys and processes of a host's counts. @internal */
export type HostSizes = readonly [capacity: number, processes: number];

/** Options, complete. @internal */
export interface CheckedOptions<S extends ManagedSocket> {
  readonly name: string | undefined;
  readonly cluster: Cluster | undefined;
  /** Sizes of the counts of this host, if the seats are counted there. */
  readonly host: HostSizes | undefined;
  readonly timers: TimerManager;
  /** True if nobody else has these timers: they end with the manager. */
  readonly ownsTimers: boolean;
  readonly leaseTimeoutMs: number;
  readonly closeTimeoutMs: number;
  readonly closesOldest: boolean;
  readonly takesOver: boolean;
  readonly monitor: ResourceMonitor | undefined;
  readonly exempt: ((ip: string) => boolean) | undefined;
  readonly bans: CheckedBans | undefined;
  readonly onEvict: ConnectionManagerOptions<S>['onEvict'];
  readonly onRefuse: ConnectionManagerOptions<S>['onRefuse'];
  readonly onObserve: ConnectionManagerOptions<S>['onObserve'];
  readonly onRateExceeded: ConnectionManagerOptions<S>['onRateExceeded'];
}

const HOOKS = ['onEvict', 'onRefuse', 'onObserve', 'onRateExceeded'] as const;
const OPTIONS = [
  'name',
  'cluster',
  'hostCapacity',
  'hostProcesses',
  'timers',
  'leaseTimeoutMs',
  'closeTimeoutMs',
  'onFull',
  'onDuplicateId',
  'monitor',
  'exempt',
  'banAfter',
  ...HOOKS,
] as const;

/**
 * Tells `(limits, options)` from `(limits, timerManager, options)`, and checks the options. Each is
 * read once, so that the checked value is the one in use.
 * @param second options, or a `TimerManager`
 * @param third options after a `TimerManager`
 * @throws ERR_INVALID_ARG_TYPE, ERR_OUT_OF_RANGE, ERR_UNKNOWN_OPTION, naming the field
 * @internal
 */
export function checkedArguments<S extends ManagedSocket>(
  second: TimerManager | ConnectionManagerOptions<S> = {},
  third?: ConnectionManagerOptions<S>,
): CheckedOptions<S> {
  if (second instanceof TimerManager)
    return checkedOptions(third === undefined ? {} : third, second);
  if (third !== undefined) throw wrongType('timerManager', second, 'a TimerManager');
  return checkedOptions(second, undefined);
}

function checkedOptions<S extends ManagedSocket>(
  options: ConnectionManagerOptions<S>,
  timerManager: TimerManager | undefined,
): CheckedOptions<S> {
  optionsObject('options', options);
  const given = readOptions('ConnectionManager', options, OPTIONS);
  const { name, cluster, timers, onFull = 'reject', onDuplicateId = 'reject', monitor } = given;
  if (timers !== undefined && timerManager !== undefined)
    throw wrongType('timers', timers, 'absent when a timerManager is given');
  if (timers !== undefined && !(timers instanceof TimerManager))
    throw wrongType('timers', timers, 'a TimerManager');
  if (monitor !== undefined && !isMonitor(monitor))
    throw wrongType('monitor', monitor, 'a ResourceMonitor');
  if (name !== undefined && (typeof name !== 'string' || name === '' || name.length > ID_MAX))
    throw wrongType('name', name, `a string of 1 to ${ID_MAX} characters`);
  // A cluster keeps such names for its own counts.
  if (name?.includes('\0') === true) throw outOfRange('name', name, 'characters other than NUL');
  if (name !== undefined) checkWellFormed('name', name);
  if (cluster !== undefined && cluster !== 'host' && !(cluster instanceof Cluster))
    throw wrongSecretType('cluster', cluster, "a Cluster or 'host'");
  if (cluster !== undefined && name === undefined)
    throw wrongType('name', name, 'a string: a cluster counts the managers of one name together');
  if (onFull !== 'reject' && onFull !== 'closeOldest')
    throw outOfRange('onFull', onFull, "'reject' or 'closeOldest'");
  if (onDuplicateId !== 'reject' && onDuplicateId !== 'takeover')
    throw outOfRange('onDuplicateId', onDuplicateId, "'reject' or 'takeover'");
  for (const hook of HOOKS) {
    if (given[hook] !== undefined && typeof given[hook] !== 'function')
      throw wrongType(hook, given[hook], 'a function');
  }
  const time = (field: 'leaseTimeoutMs' | 'closeTimeoutMs', fallback: number): number =>
    wholeNumber(field, given[field], 1, TIME_MAX_MS, fallback);
  const exempt = exemptClients(given.exempt);
  const bans = checkedBans(given.banAfter);
  const shared = timers ?? timerManager;
  return {
    name,
    cluster: cluster === 'host' ? undefined : cluster,
    host: hostSizes(given),
    timers: shared ?? new TimerManager({ name: 'connections' }),
    ownsTimers: shared === undefined,
    leaseTimeoutMs: time('leaseTimeoutMs', 10_000),
    closeTimeoutMs: time('closeTimeoutMs', 5000),
    closesOldest: onFull === 'closeOldest',
    takesOver: onDuplicateId === 'takeover',
    monitor,
    exempt,
    bans,
    onEvict: given.onEvict,
    onRefuse: given.onRefuse,
    onObserve: given.onObserve,
    onRateExceeded: given.onRateExceeded,
  };
}

/** Checks the sizes of a host's counts. */
function hostSizes({
  cluster,
  hostCapacity,
  hostProcesses,
}: Pick<ConnectionManagerOptions, 'cluster' | 'hostCapacity' | 'hostProcesses'>):
  HostSizes | undefined {
  const sizes = [
    wholeNumber('hostCapacity', hostCapacity, 1024, 2 ** 24, 65_536),
    wholeNumber('hostProcesses', hostProcesses, 2, 256, 32),
  ] as const;
  if (cluster === 'host') return sizes;
  for (const [field, size] of Object.entries({ hostCapacity, hostProcesses })) {
    if (size !== undefined) throw outOfRange(field, size, "absent without cluster: 'host'");
  }
  return undefined;
}

/** True for a monitor, of another copy of this package too. */
function isMonitor(value: unknown): boolean {
  const { shedMs, attach, detach } = (value ?? {}) as Partial<
    Record<'shedMs' | 'attach' | 'detach', unknown>
  >;
  return (
    typeof shedMs === 'function' && typeof attach === 'function' && typeof detach === 'function'
  );
}
