/** Options of a monitor, checked. */
import { isMainThread, threadId } from 'node:worker_threads';
import { outOfRange, wrongType } from '../base/errors.js';
import { knownOptions, TIME_MAX_MS, wholeNumber } from '../base/options.js';
import type { CollectionRecord, Stall, StateChange } from './figures.js';

/** Where lines about transitions go. */
export type ResourceLog = (
  level: 'info' | 'warn' | 'error',
  message: string,
  details: Readonly<Record<string, unknown>>,
) => void;

/** Counts open connections: a `ConnectionManager`, or any object with the same property. */
export interface CountsConnections {
  /** Open connections and leases. */
  readonly total: number;
}

/** True for an object that counts connections. @internal */
export function countsConnections(value: unknown): value is CountsConnections {
  return (
    typeof value === 'object' &&
    value !== null &&
    'total' in value &&
    typeof value.total === 'number'
  );
}

/** Options of a monitor. */
export interface ResourceMonitorOptions {
  /** The thread's name in reports: 1 to 100 characters. Default `main`, in workers `worker` and its number. */
  readonly name?: string | undefined;
  /** Whose connections are counted. A manager made with the option `monitor` adds itself. Managers that share a name share their count: give one of them. Default: none. */
  readonly connections?: CountsConnections | readonly CountsConnections[] | undefined;
  /** The stall watch; `false` for none. Default: on. */
  readonly stalls?:
    | {
        /** From how long on a block is a stall: 20 to 60000 ms. Default 100. */
        readonly thresholdMs?: number | undefined;
        /** Where a line is written when one is noticed and when it is over, at most 20 at once and then one a second. Default: nowhere. */
        readonly log?:
          | 'stderr'
          | {
              /** A file that lines are appended to; opened at construction. */
              readonly file: string;
            }
          | undefined;
      }
    | false
    | undefined;
  /** Called when a stall is over. */
  readonly onStall?: ((stall: Stall) => void) | undefined;
  /** Called after a change of state. */
  readonly onStateChange?: ((change: StateChange) => void) | undefined;
  /** Called after a collection that the monitor asked for. */
  readonly onCollect?: ((record: CollectionRecord) => void) | undefined;
  /** Where one line per transition goes; `false` for nowhere. Default: the console. */
  readonly log?: ResourceLog | false | undefined;
  /** Whether garbage collection is asked for at `critical`; `false` for never. Default: on. */
  readonly gc?:
    | {
        /** The most of all time that it may take, a share: above 0, at most 0.5. Default 0.01. */
        readonly budget?: number | undefined;
      }
    | false
    | undefined;
  /** Whether `shedMs()` refuses. Default `false`. */
  readonly shedding?:
    | boolean
    | {
        /** About how long clients are told to stay away, up to half more or less: 1 to 2^30 ms. Default 5000. */
        readonly retryAfterMs?: number | undefined;
      }
    | undefined;
  /** Put before `/proc` and `/sys`, for tests with files of their own. Default: nothing. */
  readonly root?: string | undefined;
}

/** Options, complete. @internal */
export interface CheckedOptions {
  /** A copy, each option read once: what is checked is what is used. */
  readonly given: ResourceMonitorOptions;
  readonly name: string;
  readonly managers: readonly CountsConnections[];
  readonly stallMs: number | undefined;
  readonly log: string | undefined;
  readonly gcBudget: number;
  readonly retryAfterMs: number;
}

const HOOKS = ['onStall', 'onStateChange', 'onCollect'] as const;
const OPTIONS = [
  'name',
  'connections',
  'stalls',
  ...HOOKS,
  'log',
  'gc',
  'shedding',
  'root',
] as const;

/** @throws ERR_INVALID_ARG_TYPE, ERR_OUT_OF_RANGE, ERR_UNKNOWN_OPTION, naming the field @internal */
export function checkOptions(options: ResourceMonitorOptions): CheckedOptions {
  if (typeof options !== 'object' || options === null)
    throw wrongType('options', options, 'an object');
  knownOptions('ResourceMonitor', options, OPTIONS);
  const given = Object.fromEntries(
    OPTIONS.map((option) => [option, options[option]]),
  ) as ResourceMonitorOptions;
  const { name = defaultName(), connections, log, root } = given;
  if (typeof name !== 'string' || name === '' || name.length > 100)
    throw wrongType('name', name, 'a string of 1 to 100 characters');
  const managers =
    connections === undefined
      ? []
      : Array.isArray(connections)
        ? [...(connections as readonly CountsConnections[])]
        : [connections as CountsConnections];
  for (const manager of managers) {
    if (!countsConnections(manager))
      throw wrongType('connections', manager, 'a ConnectionManager, or an array of them');
  }
  for (const hook of HOOKS) {
    if (given[hook] !== undefined && typeof given[hook] !== 'function')
      throw wrongType(hook, given[hook], 'a function');
  }
  if (log !== undefined && log !== false && typeof log !== 'function')
    throw wrongType('log', log, 'a function or false');
  if (root !== undefined && typeof root !== 'string') throw wrongType('root', root, 'a path');
  return {
    given,
    name: name.replaceAll(/\p{Cc}/gu, '?'),
    managers,
    ...checkStalls(given.stalls),
    gcBudget: checkGc(given.gc),
    retryAfterMs: checkShedding(given.shedding),
  };
}

function defaultName(): string {
  return isMainThread ? 'main' : `worker ${threadId}`;
}

function checkStalls(
  stalls: ResourceMonitorOptions['stalls'],
): Pick<CheckedOptions, 'stallMs' | 'log'> {
  if (stalls === false) return { stallMs: undefined, log: undefined };
  if (stalls === undefined) return { stallMs: 100, log: undefined };
  if (typeof stalls !== 'object' || stalls === null)
    throw wrongType('stalls', stalls, 'an object or false');
  knownOptions('stalls', stalls, ['thresholdMs', 'log']);
  const stallMs = wholeNumber('stalls.thresholdMs', stalls.thresholdMs, 20, 60_000, 100);
  const { log } = stalls;
  if (log === undefined || log === 'stderr')
    return { stallMs, log: log === undefined ? undefined : '' };
  const allowed = "'stderr' or { file }";
  if (typeof log !== 'object' || log === null) throw wrongType('stalls.log', log, allowed);
  knownOptions('stalls.log', log, ['file']);
  if (typeof log.file !== 'string' || log.file === '' || log.file.includes('\0'))
    throw wrongType('stalls.log.file', log.file, 'a path');
  return { stallMs, log: log.file };
}

function checkGc(gc: ResourceMonitorOptions['gc']): number {
  if (gc === undefined || gc === false) return 0.01;
  if (typeof gc !== 'object' || gc === null) throw wrongType('gc', gc, 'an object or false');
  knownOptions('gc', gc, ['budget']);
  const { budget = 0.01 } = gc;
  const allowed = 'a number above 0, at most 0.5';
  if (typeof budget !== 'number') throw wrongType('gc.budget', budget, allowed);
  if (!(budget > 0 && budget <= 0.5)) throw outOfRange('gc.budget', budget, allowed);
  return budget;
}

function checkShedding(shedding: ResourceMonitorOptions['shedding']): number {
  if (shedding === undefined || shedding === false) return 0;
  if (shedding === true) return 5000;
  if (typeof shedding !== 'object' || shedding === null)
    throw wrongType('shedding', shedding, 'a boolean or an object');
  knownOptions('shedding', shedding, ['retryAfterMs']);
  return wholeNumber('shedding.retryAfterMs', shedding.retryAfterMs, 1, TIME_MAX_MS, 5000);
}
