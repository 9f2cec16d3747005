/** Options of `ProductionMetrics` and their checks. */
import { outOfRange, wrongType } from '../base/errors.js';
import { type Given, knownOptions, optionsObject, wholeNumber } from '../base/options.js';
import type { ConnectionManager } from '../connections/manager.js';
import { ResourceMonitor } from '../resources/monitor.js';
import { TimerManager } from '../timers/manager.js';
import { WEIGHTS } from './health-score.js';
import { WINDOWS } from './ledger.js';
import type { ProductionTargets, ScoreWeightName, WindowName } from './report.js';

/** Options of `ProductionMetrics`. */
export interface ProductionMetricsOptions {
  /** Targets of the key figures, some or all. Default: the values in `ProductionTargets`. */
  readonly targets?: Given<ProductionTargets> | undefined;
  /**
   * Owner of the timer that moves the windows, by its clock; its `close()` closes the metrics.
   * Default: a new one, which the metrics' `close()` closes.
   */
  readonly timers?: TimerManager | undefined;
  /**
   * Source of memory, CPU, event loop and stalls. It learns of requests in flight, so that a stall
   * is reported with its route. Default: none, and memory is then the resident set, CPU `null`.
   */
  readonly monitor?: ResourceMonitor | undefined;
  /**
   * Connection managers whose connections, messages, refusals and users are counted; connections and bans of
   * managers with one `name` count once. Adapters with the option `metrics` add their own. Default: none.
   */
  readonly connections?: ConnectionManager | readonly ConnectionManager[] | undefined;
  /** Window of the report's key figures. Default `1m`. */
  readonly window?: WindowName | undefined;
  /**
   * Pairs of route and method that are counted separately: 1 to 10000. All others share `other`. Requests
   * without a route are counted by method beside them. Default 500.
   */
  readonly maxRoutes?: number | undefined;
  /** Promised share of requests within `maxResponseTime`: above 0, below 1. Default 0.95. */
  readonly latencyObjective?: number | undefined;
  /**
   * Weights of the health score's parts: 0 to 1000000; 0 leaves a part and its cap out. Default:
   * errors 0.3, latency 0.25, memory 0.15, cpu 0.1, loop 0.05, utilization 0.05, saturation 0.05,
   * stalls 0.025, stallCount 0.025.
   */
  readonly weights?: Given<Record<ScoreWeightName, number>> | undefined;
}

/** Options, checked and complete. @internal */
export interface Settings {
  readonly targets: Readonly<ProductionTargets>;
  readonly weights: Readonly<Record<ScoreWeightName, number>>;
  readonly timers: TimerManager | undefined;
  readonly monitor: ResourceMonitor | undefined;
  readonly managers: readonly ConnectionManager[];
  readonly window: WindowName;
  readonly maxRoutes: number;
  /** Share of slow requests that `latencyObjective` allows. */
  readonly slowShare: number;
}

const TARGETS: Readonly<Record<keyof ProductionTargets, number>> = {
  maxResponseTime: 100,
  maxErrorRate: 0.01,
  maxMemoryUsage: 512,
  maxCpuUsage: 70,
  minHealthScore: 95,
};

type Range = readonly [allowed: string, isAllowed: (value: number) => boolean];
// Ratios and sums of such numbers are finite.
const LEAST = 1e-6;
const MOST = Number.MAX_SAFE_INTEGER;
const POSITIVE: Range = [
  `a number from ${LEAST} to 2^53 - 1`,
  (value) => value >= LEAST && value <= MOST,
];
const RANGES: Readonly<Record<keyof ProductionTargets, Range>> = {
  maxResponseTime: POSITIVE,
  maxErrorRate: ['a share from 0 to 1', (value) => value >= 0 && value <= 1],
  maxMemoryUsage: POSITIVE,
  maxCpuUsage: ['per cent: a number from 1 to 100', (value) => value >= 1 && value <= 100],
  minHealthScore: ['a number from 0 to 100', (value) => value >= 0 && value <= 100],
};
const WEIGHT: Range = ['a number from 0 to 1000000', (value) => value >= 0 && value <= 1e6];
const OBJECTIVE: Range = ['a number above 0 and below 1', (value) => value > 0 && value < 1];

function numberIn(field: string, value: unknown, [allowed, isAllowed]: Range): number {
  if (typeof value !== 'number') throw wrongType(field, value, allowed);
  if (!isAllowed(value)) throw outOfRange(field, value, allowed);
  return value;
}

/** Returns `defaults` overridden by the given numbers, checked by name and range. */
function merged<K extends string>(
  option: string,
  defaults: Readonly<Record<K, number>>,
  given: unknown,
  rangeOf: (name: K) => Range,
): Readonly<Record<K, number>> {
  if (given === undefined) return defaults;
  optionsObject(option, given);
  knownOptions(option, given, Object.keys(defaults), `${option}.`);
  const result: Record<K, number> = { ...defaults };
  for (const name of Object.keys(defaults) as K[]) {
    const value = (given as Partial<Record<K, unknown>>)[name];
    if (value !== undefined) result[name] = numberIn(`${option}.${name}`, value, rangeOf(name));
  }
  return Object.freeze(result);
}

/**
 * Checks options and fills in the defaults. Managers are checked where they are attached.
 * @throws ERR_INVALID_ARG_TYPE, ERR_OUT_OF_RANGE, ERR_UNKNOWN_OPTION, naming the field
 * @internal
 */
export function settingsOf(options: ProductionMetricsOptions): Settings {
  optionsObject('options', options);
  knownOptions('ProductionMetrics', options, [
    'targets',
    'timers',
    'monitor',
    'connections',
    'window',
    'maxRoutes',
    'latencyObjective',
    'weights',
  ]);
  const { targets, timers, monitor, connections, window = '1m', maxRoutes, weights } = options;
  if (timers !== undefined && !(timers instanceof TimerManager))
    throw wrongType('timers', timers, 'a TimerManager');
  if (monitor !== undefined && !(monitor instanceof ResourceMonitor))
    throw wrongType('monitor', monitor, 'a ResourceMonitor');
  if (!WINDOWS.includes(window))
    throw outOfRange('window', window, WINDOWS.map((name) => `'${name}'`).join(', '));
  const { latencyObjective = 0.95 } = options;
  return {
    targets: merged('targets', TARGETS, targets, (name) => RANGES[name]),
    weights: merged('weights', WEIGHTS, weights, () => WEIGHT),
    maxRoutes: wholeNumber('maxRoutes', maxRoutes, 1, 10_000, 500),
    timers,
    monitor,
    managers: asArray(connections),
    window,
    slowShare: 1 - numberIn('latencyObjective', latencyObjective, OBJECTIVE),
  };
}

function asArray(
  connections: ProductionMetricsOptions['connections'],
): readonly ConnectionManager[] {
  if (connections === undefined) return [];
  return Array.isArray(connections)
    ? (connections as readonly ConnectionManager[])
    : [connections as ConnectionManager];
}
