/** Options of a monitor and their checks. */
import { lazily } from '../base/builtin.js';
import { outOfRange, PortcullisError, wrongType } from '../base/errors.js';
import {
  knownOptions,
  namedFunctions,
  optionsObject,
  readOptions,
  TIME_MAX_MS,
  wholeNumber,
} from '../base/options.js';
import { TimerManager } from '../timers/manager.js';
import type { CollectionRecord, Stall, StateChange } from './figures.js';
import type { PressureCheck, PressureOptions } from './pressure.js';

const workers = lazily(() => process.getBuiltinModule('node:worker_threads'));

/**
 * Receives the log lines of a monitor.
 * @param level `error` for `critical`, `warn` for `warning`, `info` for `ok`
 * @param message a fixed text
 * @param details the figures behind it; sizes in MB
 */
export type ResourceLog = (
  level: 'info' | 'warn' | 'error',
  message: string,
  details: Readonly<Record<string, unknown>>,
) => void;

/** Counts open connections: a `ConnectionManager`, or any object with the same property. */
export interface CountsConnections {
  /** Open connections and leases. */
  readonly total: number;
  /** Name of what is counted: of objects with one name, the greatest total counts. Default: each counts. */
  readonly indexName?: string | undefined;
}

/** True for an object with a number `total`. @internal */
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
  /**
   * Owner of the monitor's timer; its `close()` closes the monitor. Default: a new one, which the
   * monitor's `close()` closes.
   */
  readonly timers?: TimerManager | undefined;
  /**
   * Name of the thread in reports: 1 to 100 characters. Default `main`, in workers `worker` and its
   * number.
   */
  readonly name?: string | undefined;
  /**
   * Connection managers to count. A manager with the option `monitor` adds itself. The connections of
   * managers with one `name` count once. Default: none.
   */
  readonly connections?: CountsConnections | readonly CountsConnections[] | undefined;
  /** Detection of stalls; `false` turns it off. Default: on. */
  readonly stalls?:
    | {
        /** Least duration of a stall: 20 to 60000 ms. Default 100. */
        readonly thresholdMs?: number | undefined;
        /**
         * Destination of one line when a stall is noticed and one when it ends; at most 20 lines at
         * once, then one a second. A thread of its own writes: lines that cannot be written, as into
         * a full pipe, are dropped, and the next one tells how many. Default: nowhere.
         */
        readonly log?:
          | 'stderr'
          | {
              /** Path of a file to append to; opened at construction. A FIFO needs a reader by then. */
              readonly file: string;
            }
          | undefined;
      }
    | false
    | undefined;
  /** Called after a stall has ended. */
  readonly onStall?: ((stall: Stall) => void) | undefined;
  /** Called after a change of state. */
  readonly onStateChange?: ((change: StateChange) => void) | undefined;
  /** Called after a garbage collection that the monitor requested. */
  readonly onCollect?: ((record: CollectionRecord) => void) | undefined;
  /** Receives one line per change of state; `false` writes none. Default: the console. */
  readonly log?: ResourceLog | false | undefined;
  /**
   * Garbage collection on request while the state is `critical`; `false` turns it off. Default: on.
   */
  readonly gc?:
    | {
        /** Greatest share of all time for it: above 0, at most 0.5. Default 0.01. */
        readonly budget?: number | undefined;
      }
    | false
    | undefined;
  /**
   * Load shedding: refuses newcomers while memory is short, and for the further causes that are set here.
   * Default `false`.
   */
  readonly shedding?:
    | boolean
    | {
        /**
         * Time after which a refused client may come back, varied by up to half: 1 to 2^30 ms.
         * Default 5000.
         */
        readonly retryAfterMs?: number | undefined;
        /**
         * Delay of the event loop above which newcomers are refused, ms: 10 to 60000. It is the 99th
         * percentile of the time that an event waits, over the last second. Default: no such limit.
         */
        readonly maxEventLoopDelayMs?: number | undefined;
        /**
         * Utilization of the event loop above which newcomers are refused: above 0, below 1. On Bun it needs
         * Linux and `stalls`. Default: no such limit.
         */
        readonly maxEventLoopUtilization?: number | undefined;
        /**
         * Checks of the application, by name: `{ queue: () => queue.length < 1000 }`. Newcomers are refused
         * while one of them fails: it returns `false`, throws, or has not settled at the next sample. It is called
         * with a signal, which aborts after `checkTimeoutMs`. Clients see its name. At most 32, with names of 1 to 64
         * letters, digits, ".", "_" and "-". Default: none.
         */
        readonly checks?: Readonly<Record<string, PressureCheck>> | undefined;
        /** Interval at which utilization and checks are sampled, ms: 100 to 60000. Default 1000. */
        readonly sampleIntervalMs?: number | undefined;
        /**
         * Time after which a check that has not settled is given up and begun again, at the next sample: 1 to 2^30
         * ms. Default 10000.
         */
        readonly checkTimeoutMs?: number | undefined;
      }
    | undefined;
  /** Prefix of `/proc` and `/sys`, for tests with files of their own. Default: empty. */
  readonly root?: string | undefined;
}

/** Options, checked and complete. @internal */
export interface CheckedOptions {
  /** A copy that read each option once, so that the checked value is the value in use. */
  readonly given: ResourceMonitorOptions;
  readonly timers: TimerManager | undefined;
  readonly name: string;
  readonly managers: readonly CountsConnections[];
  readonly stallMs: number | undefined;
  /** `undefined` for none, empty for stderr, else a path. */
  readonly stallLog: string | undefined;
  readonly gcBudget: number;
  /** 0 without `shedding`. */
  readonly retryAfterMs: number;
  /** Causes of shedding besides memory. */
  readonly pressure: PressureOptions | undefined;
}

const HOOKS = ['onStall', 'onStateChange', 'onCollect'] as const;
const SHEDDING_OPTIONS = [
  'retryAfterMs',
  'maxEventLoopDelayMs',
  'maxEventLoopUtilization',
  'checks',
  'sampleIntervalMs',
  'checkTimeoutMs',
] as const;
const OPTIONS = [
  'timers',
  'name',
  'connections',
  'stalls',
  ...HOOKS,
  'log',
  'gc',
  'shedding',
  'root',
] as const;

/**
 * Checks the constructor's arguments after `limits`: `(options)`, or `(timerManager, options)`.
 * @throws as `checkOptions`; ERR_INVALID_ARG_TYPE for timers that are given twice
 * @internal
 */
export function checkArguments(
  second: TimerManager | ResourceMonitorOptions | undefined,
  third: ResourceMonitorOptions | undefined,
): CheckedOptions {
  if (second instanceof TimerManager) {
    const checked = checkOptions(third === undefined ? {} : third);
    if (checked.timers !== undefined)
      throw wrongType('timers', checked.timers, 'absent when timerManager is given');
    return { ...checked, timers: second };
  }
  if (third !== undefined) throw wrongType('timerManager', second, 'a TimerManager');
  return checkOptions(second === undefined ? {} : second);
}

/**
 * Checks options and fills in the defaults.
 * @throws ERR_INVALID_ARG_TYPE, ERR_OUT_OF_RANGE, ERR_UNKNOWN_OPTION, naming the field
 * @internal
 */
export function checkOptions(options: ResourceMonitorOptions): CheckedOptions {
  optionsObject('options', options);
  const given = readOptions('ResourceMonitor', options, OPTIONS);
  const { timers, name = defaultName(), log, root } = given;
  if (timers !== undefined && !(timers instanceof TimerManager))
    throw wrongType('timers', timers, 'a TimerManager');
  if (typeof name !== 'string' || name === '' || name.length > 100)
    throw wrongType('name', name, 'a string of 1 to 100 characters');
  for (const hook of HOOKS) {
    if (given[hook] !== undefined && typeof given[hook] !== 'function')
      throw wrongType(hook, given[hook], 'a function');
  }
  if (log !== undefined && log !== false && typeof log !== 'function')
    throw wrongType('log', log, 'a function or false');
  if (root !== undefined && typeof root !== 'string') throw wrongType('root', root, 'a path');
  return {
    given,
    timers,
    name: name.replaceAll(/\p{Cc}/gu, '?'),
    managers: checkManagers(given.connections),
    ...checkStalls(given.stalls),
    gcBudget: checkGc(given.gc),
    ...checkShedding(given.shedding, given.stalls),
  };
}

function checkManagers(
  connections: ResourceMonitorOptions['connections'],
): readonly CountsConnections[] {
  if (connections === undefined) return [];
  const managers: readonly unknown[] = Array.isArray(connections)
    ? [...connections]
    : [connections];
  return managers.map((manager) => {
    if (countsConnections(manager)) return manager;
    throw wrongType('connections', manager, 'a ConnectionManager, or an array of them');
  });
}

function defaultName(): string {
  const { isMainThread, threadId } = workers();
  return isMainThread ? 'main' : `worker ${threadId}`;
}

function checkStalls(
  stalls: ResourceMonitorOptions['stalls'],
): Pick<CheckedOptions, 'stallMs' | 'stallLog'> {
  if (stalls === false) return { stallMs: undefined, stallLog: undefined };
  if (stalls === undefined) return { stallMs: 100, stallLog: undefined };
  optionsObject('stalls', stalls, 'an object or false');
  knownOptions('stalls', stalls, ['thresholdMs', 'log'], 'stalls.');
  const stallMs = wholeNumber('stalls.thresholdMs', stalls.thresholdMs, 20, 60_000, 100);
  const { log } = stalls;
  if (log === undefined) return { stallMs, stallLog: undefined };
  if (log === 'stderr') return { stallMs, stallLog: '' };
  const allowed = "'stderr' or { file }";
  optionsObject('stalls.log', log, allowed);
  knownOptions('stalls.log', log, ['file'], 'stalls.log.');
  const { file } = log;
  if (typeof file !== 'string' || file === '' || file.includes('\0'))
    throw wrongType('stalls.log.file', file, 'a path');
  return { stallMs, stallLog: file };
}

function checkGc(gc: ResourceMonitorOptions['gc']): number {
  if (gc === undefined || gc === false) return 0.01;
  optionsObject('gc', gc, 'an object or false');
  knownOptions('gc', gc, ['budget'], 'gc.');
  const { budget = 0.01 } = gc;
  const allowed = 'a number above 0, at most 0.5';
  if (typeof budget !== 'number') throw wrongType('gc.budget', budget, allowed);
  if (!(budget > 0 && budget <= 0.5)) throw outOfRange('gc.budget', budget, allowed);
  return budget;
}

type CheckedShedding = Pick<CheckedOptions, 'retryAfterMs' | 'pressure'>;

function checkShedding(
  given: ResourceMonitorOptions['shedding'],
  stalls: ResourceMonitorOptions['stalls'],
): CheckedShedding {
  if (given === undefined || given === false) return { retryAfterMs: 0, pressure: undefined };
  if (given === true) return { retryAfterMs: 5000, pressure: undefined };
  optionsObject('shedding', given, 'a boolean or an object');
  const shedding = readOptions('shedding', given, SHEDDING_OPTIONS, 'shedding.');
  type TimeOption = (typeof SHEDDING_OPTIONS)[number] & `${string}Ms`;
  const time = (name: TimeOption, min: number, max: number, fallback: number): number =>
    wholeNumber(`shedding.${name}`, shedding[name], min, max, fallback);
  const retryAfterMs = time('retryAfterMs', 1, TIME_MAX_MS, 5000);
  const maxEventLoopDelayMs = time('maxEventLoopDelayMs', 10, 60_000, 0) || undefined;
  const maxEventLoopUtilization = checkUtilization(shedding.maxEventLoopUtilization, stalls);
  const checks = namedFunctions('shedding.checks', shedding.checks) as readonly (readonly [
    string,
    PressureCheck,
  ])[];
  const sampleIntervalMs = time('sampleIntervalMs', 100, 60_000, 1000);
  const checkTimeoutMs = time('checkTimeoutMs', 1, TIME_MAX_MS, 10_000);
  const isSet =
    maxEventLoopDelayMs !== undefined || maxEventLoopUtilization !== undefined || checks.length > 0;
  if (!isSet) return { retryAfterMs, pressure: undefined };
  return {
    retryAfterMs,
    pressure: {
      maxEventLoopDelayMs,
      maxEventLoopUtilization,
      checks,
      sampleIntervalMs,
      checkTimeoutMs,
    },
  };
}

function checkUtilization(
  limit: number | undefined,
  stalls: ResourceMonitorOptions['stalls'],
): number | undefined {
  const field = 'shedding.maxEventLoopUtilization';
  if (limit === undefined) return undefined;
  const allowed = 'a number above 0, below 1';
  if (typeof limit !== 'number') throw wrongType(field, limit, allowed);
  if (!(limit > 0 && limit < 1)) throw outOfRange(field, limit, allowed);
  // Bun's `eventLoopUtilization()` is always 0: the watcher measures it there, from the kernel's figures.
  if (process.versions['bun'] === undefined) return limit;
  if (process.platform === 'linux' && stalls !== false) return limit;
  throw new PortcullisError(
    'ERR_UNSUPPORTED',
    `${field} needs Linux and the option stalls on Bun`,
    {
      field,
    },
  );
}
