/** Options of a connection manager, checked. */
import { outOfRange, wrongType } from '../base/errors.js';
import { knownOptions } from '../base/options.js';
import type { ResourceMonitor } from '../resources/monitor.js';
import { ID_MAX, type ManagedConnection, type ManagedSocket } from './connection.js';
import type { RateAction } from './limits.js';
import type { Refusal } from './refusal.js';

/** Options of a connection manager. */
export interface ConnectionManagerOptions<S extends ManagedSocket = ManagedSocket> {
  /** Shares the counts with every manager of that name in this process, over all workers. Default: none, the counts are this manager's own. */
  readonly name?: string | undefined;
  /** How long a lease holds its seat, at least: 1 to 2^30 ms. It is given back within as long again and a second. Default 10000. */
  readonly leaseTimeoutMs?: number | undefined;
  /** After a close frame, how long to wait before `terminate()`: 1 to 2^30 ms. Default 5000. */
  readonly closeTimeoutMs?: number | undefined;
  /**
   * What happens at `maxConnectionsPerUser`: `reject` refuses the newcomer, `closeOldest` closes the
   * user's oldest connection of this manager with 4001 and admits it. Default `reject`.
   */
  readonly onFull?: 'reject' | 'closeOldest' | undefined;
  /**
   * What happens when an id is in use: `reject` refuses the newcomer, `takeover` closes the old
   * connection with 4001 first. Default `reject`.
   */
  readonly onDuplicateId?: 'reject' | 'takeover' | undefined;
  /**
   * Counts this manager's connections and, with its option `shedding`, decides which newcomers to
   * refuse for want of memory (`overload`). Default: none.
   */
  readonly monitor?: ResourceMonitor | undefined;
  /** Called after a connection was closed because it had gone quiet. */
  readonly onEvict?: ((connection: ManagedConnection<S>) => void) | undefined;
  /** Called for every refusal. */
  readonly onRefuse?:
    ((refusal: Refusal, ip: string, userId: string | undefined) => void) | undefined;
  /** Called for every message over a rate, before the action is taken. */
  readonly onRateExceeded?:
    | ((
        connection: ManagedConnection<S>,
        meter: 'message_rate' | 'byte_rate',
        action: RateAction,
      ) => void)
    | undefined;
}

const HOOKS = ['onEvict', 'onRefuse', 'onRateExceeded'] as const;

/** A copy, each option read once: what is checked is what is used. */
export function checkedOptions<S extends ManagedSocket>(
  options: ConnectionManagerOptions<S>,
): ConnectionManagerOptions<S> {
  if (typeof options !== 'object' || options === null)
    throw wrongType('options', options, 'an object');
  knownOptions('ConnectionManager', options, [
    'name',
    'leaseTimeoutMs',
    'closeTimeoutMs',
    'onFull',
    'onDuplicateId',
    'monitor',
    ...HOOKS,
  ]);
  const {
    name,
    leaseTimeoutMs,
    closeTimeoutMs,
    onFull,
    onDuplicateId,
    monitor,
    onEvict,
    onRefuse,
    onRateExceeded,
  } = options;
  const given = {
    name,
    leaseTimeoutMs,
    closeTimeoutMs,
    onFull,
    onDuplicateId,
    monitor,
    onEvict,
    onRefuse,
    onRateExceeded,
  };
  if (monitor !== undefined && !isMonitor(monitor))
    throw wrongType('monitor', monitor, 'a ResourceMonitor');
  if (name !== undefined && (typeof name !== 'string' || name === '' || name.length > ID_MAX)) {
    throw wrongType('name', name, `a string of 1 to ${ID_MAX} characters`);
  }
  if (onFull !== undefined && onFull !== 'reject' && onFull !== 'closeOldest')
    throw outOfRange('onFull', onFull, "'reject' or 'closeOldest'");
  if (onDuplicateId !== undefined && onDuplicateId !== 'reject' && onDuplicateId !== 'takeover') {
    throw outOfRange('onDuplicateId', onDuplicateId, "'reject' or 'takeover'");
  }
  for (const hook of HOOKS) {
    if (given[hook] !== undefined && typeof given[hook] !== 'function')
      throw wrongType(hook, given[hook], 'a function');
  }
  return given;
}

function isMonitor(value: unknown): boolean {
  const { shedMs, attach, detach } = (value ?? {}) as Partial<
    Record<'shedMs' | 'attach' | 'detach', unknown>
  >;
  return (
    typeof shedMs === 'function' && typeof attach === 'function' && typeof detach === 'function'
  );
}
