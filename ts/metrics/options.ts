/** What a `ProductionMetrics` may be told, and what it makes of it. */
import { outOfRange, wrongType } from '../base/errors.js';
import { knownOptions, wholeNumber } from '../base/options.js';
import type { ConnectionManager } from '../connections/manager.js';
import { ResourceMonitor } from '../resources/monitor.js';
import { TimerManager } from '../timers/manager.js';
import { WEIGHTS } from './health.js';
import { WINDOWS } from './ledger.js';
import type { ProductionTargets, ScorePartName, WindowName } from './report.js';

/** Options of `ProductionMetrics`. */
export interface ProductionMetricsOptions {
  /** What is wanted. Default: the values in `ProductionTargets`. */
  readonly targets?: Partial<ProductionTargets> | undefined;
  /** Owner of the timer that moves the windows, by its clock; its `close()` closes the metrics. Default: a new one, which the metrics' `close()` closes. */
  readonly timers?: TimerManager | undefined;
  /** Where memory, CPU, event loop and stalls come from. Told of requests in flight, so that a stall is told with its route. Default: none; then memory is the resident set and CPU `null`. */
  readonly monitor?: ResourceMonitor | undefined;
  /** Whose connections, messages, refusals and users are counted. Adapters with the option `metrics` add theirs. Default: none. */
  readonly connections?: ConnectionManager | readonly ConnectionManager[] | undefined;
  /** What `metrics` of a report covers. Default `1m`. */
  readonly window?: WindowName | undefined;
  /** Pairs of route and method that are told apart: 1 to 10000. All others share `other`. Default 500. */
  readonly maxRoutes?: number | undefined;
  /** The share of requests that shall take no longer than `maxResponseTime`: above 0, below 1. Default 0.95. */
  readonly latencyObjective?: number | undefined;
  /** Weights of the health score's parts, of at least 0; 0 leaves a part out. Default: errors 0.3, latency 0.25, loop 0.15, memory 0.15, cpu 0.1, saturation 0.05. */
  readonly weights?: Partial<Record<ScorePartName, number>> | undefined;
}

/** @internal */
export interface Settings {
  readonly targets: Readonly<ProductionTargets>;
  readonly weights: Readonly<Record<ScorePartName, number>>;
  readonly timers: TimerManager | undefined;
  readonly monitor: ResourceMonitor | undefined;
  readonly managers: readonly ConnectionManager[];
  readonly window: WindowName;
  readonly maxRoutes: number;
  readonly slowShare: number;
}

const TARGETS: Readonly<ProductionTargets> = {
  maxResponseTime: 100,
  maxErrorRate: 0.01,
  maxMemoryUsage: 512,
  maxCpuUsage: 70,
  minHealthScore: 95,
};

type Range = readonly [allowed: string, isAllowed: (value: number) => boolean];
const POSITIVE: Range = ['a finite number above 0', (value) => value > 0 && value < Infinity];
const RANGES: Readonly<Record<keyof ProductionTargets, Range>> = {
  maxResponseTime: POSITIVE,
  maxErrorRate: ['a share from 0 to 1', (value) => value >= 0 && value <= 1],
  maxMemoryUsage: POSITIVE,
  maxCpuUsage: ['a percentage above 0, at most 100', (value) => value > 0 && value <= 100],
  minHealthScore: ['a number from 0 to 100', (value) => value >= 0 && value <= 100],
};
const WEIGHT: Range = ['a finite number of at least 0', (value) => value >= 0 && value < Infinity];

function numberIn(field: string, value: unknown, [allowed, isAllowed]: Range): number {
  if (typeof value !== 'number') throw wrongType(field, value, allowed);
  if (!isAllowed(value)) throw outOfRange(field, value, allowed);
  return value;
}

/** `defaults` with what was given, checked by name and range. */
function merged<K extends string>(
  what: string,
  defaults: Readonly<Record<K, number>>,
  given: unknown,
  rangeOf: (name: K) => Range,
): Readonly<Record<K, number>> {
  if (given === undefined) return defaults;
  if (typeof given !== 'object' || given === null || Array.isArray(given))
    throw wrongType(what, given, 'an object');
  knownOptions(what, given, Object.keys(defaults));
  const result: Record<K, number> = { ...defaults };
  for (const name of Object.keys(defaults) as K[]) {
    const value = (given as Partial<Record<K, unknown>>)[name];
    if (value !== undefined) result[name] = numberIn(`${what}.${name}`, value, rangeOf(name));
  }
  return Object.freeze(result);
}

/** @internal */
export function settingsOf(options: ProductionMetricsOptions): Settings {
  if (typeof options !== 'object' || options === null)
    throw wrongType('options', options, 'an object');
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
  const {
    targets,
    timers,
    monitor,
    connections,
    window = '1m',
    maxRoutes,
    latencyObjective = 0.95,
    weights,
  } = options;
  if (timers !== undefined && !(timers instanceof TimerManager))
    throw wrongType('timers', timers, 'a TimerManager');
  if (monitor !== undefined && !(monitor instanceof ResourceMonitor))
    throw wrongType('monitor', monitor, 'a ResourceMonitor');
  if (!WINDOWS.includes(window))
    throw outOfRange('window', window, WINDOWS.map((name) => `'${name}'`).join(', '));
  const objective = numberIn('latencyObjective', latencyObjective, [
    'a number above 0 and below 1',
    (value) => value > 0 && value < 1,
  ]);
  return {
    targets: merged(
      'targets',
      TARGETS as Readonly<Record<keyof ProductionTargets, number>>,
      targets,
      (name) => RANGES[name],
    ),
    weights: merged('weights', WEIGHTS, weights, () => WEIGHT),
    maxRoutes: wholeNumber('maxRoutes', maxRoutes, 1, 10_000, 500),
    timers,
    monitor,
    managers:
      connections === undefined
        ? []
        : Array.isArray(connections)
          ? (connections as readonly ConnectionManager[])
          : [connections as ConnectionManager],
    window,
    slowShare: 1 - objective,
  };
}
