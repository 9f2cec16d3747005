/**
 * The figures as a `MetricProducer` of OpenTelemetry's SDK, whose readers export them. The types are
 * structural: this package imports nothing of OpenTelemetry.
 */
import { jsc } from '../base/jsc.js';
import type { Sample } from './host-figures.js';
import type { AnyInstrument } from './instruments.js';
import type { Ledger } from './ledger.js';

/** Seconds and nanoseconds since the epoch. */
export type HighResolutionTime = [seconds: number, nanoseconds: number];

/** One point of a metric. */
export interface MetricPoint<T> {
  readonly startTime: HighResolutionTime;
  readonly endTime: HighResolutionTime;
  readonly attributes: Record<string, string | number>;
  readonly value: T;
}

/** Counts by bucket. */
export interface HistogramValue {
  buckets: { boundaries: number[]; counts: number[] };
  /** Sum of all values; absent where values may be below 0, as the data model asks for. */
  sum?: number;
  count: number;
}

interface MetricBase {
  /** Value type 1 is a double. */
  readonly descriptor: {
    readonly name: string;
    readonly description: string;
    readonly unit: string;
    readonly valueType: 1;
  };
  /** Cumulative. */
  readonly aggregationTemporality: 1;
}

/** A metric in the form of the SDK's `MetricData`. */
export type ProducedMetric = MetricBase &
  (
    | { readonly dataPointType: 0; readonly dataPoints: MetricPoint<HistogramValue>[] }
    | { readonly dataPointType: 2; readonly dataPoints: MetricPoint<number>[] }
    | {
        readonly dataPointType: 3;
        readonly isMonotonic: boolean;
        readonly dataPoints: MetricPoint<number>[];
      }
  );

/** Resource of the produced metrics; the SDK's readers put that of the `MeterProvider` in its place. */
export interface ProducedResource {
  readonly attributes: Record<string, string | number>;
  /** Returns the other resource, or this one for `null`. */
  merge<R>(other: R): R;
  /** Returns the attributes as pairs. */
  getRawAttributes(): [key: string, value: string | number][];
}

/** The result of one collection. */
export interface ProducedMetrics {
  readonly resourceMetrics: {
    readonly resource: ProducedResource;
    readonly scopeMetrics: {
      readonly scope: { readonly name: string };
      readonly metrics: ProducedMetric[];
    }[];
  };
  readonly errors: unknown[];
}

/** Source of metrics for readers of OpenTelemetry's SDK: its interface `MetricProducer`. */
export interface OpenTelemetryProducer {
  /** Collects the figures as they are now. Never rejects: failures are in `errors`. */
  collect(): Promise<ProducedMetrics>;
}

/** Inputs of one collection. @internal */
export interface Collected {
  readonly scalars: Readonly<Record<string, number | null>>;
  readonly samples: readonly Sample[];
  readonly ledger: Ledger;
  readonly instruments: readonly AnyInstrument[];
}

/** `sum` only increases, `updown` is a sum of parts, `gauge` is neither. */
type Kind = 'sum' | 'updown' | 'gauge';
type Row = readonly [
  name: string,
  unit: string,
  kind: Kind,
  description: string,
  attributes?: readonly string[],
];

/** Names of the figures: those of the semantic conventions where they have one. */
const FIGURES: Readonly<Record<string, Row>> = {
  inFlight: ['http.server.active_requests', '{request}', 'updown', 'Requests in flight'],
  memoryBytes: ['process.memory.usage', 'By', 'updown', 'Resident memory of the process'],
  cpuRatio: ['process.cpu.utilization', '1', 'gauge', 'Share of the allowed CPUs in use'],
  cpuTime: ['process.cpu.time', 's', 'sum', 'CPU time of the process', ['cpu.mode']],
  uptimeSeconds: ['process.uptime', 's', 'gauge', 'Uptime of the process'],
  heapUsedBytes: ['v8js.memory.heap.used', 'By', 'updown', 'Heap in use'],
  heapLimitBytes: ['v8js.memory.heap.limit', 'By', 'updown', 'Size limit of the heap'],
  loopUtilization: [
    'nodejs.eventloop.utilization',
    '1',
    'gauge',
    'Share of time the loop was busy',
  ],
  loopDelayMin: ['nodejs.eventloop.delay.min', 's', 'gauge', 'Shortest delay, last minute'],
  loopDelayP50: ['nodejs.eventloop.delay.p50', 's', 'gauge', 'Median delay, last minute'],
  loopDelayP90: ['nodejs.eventloop.delay.p90', 's', 'gauge', '90th percentile, last minute'],
  loopDelayP99: ['nodejs.eventloop.delay.p99', 's', 'gauge', '99th percentile, last minute'],
  loopDelayMax: ['nodejs.eventloop.delay.max', 's', 'gauge', 'Longest delay, last minute'],
  loopDelayMean: ['nodejs.eventloop.delay.mean', 's', 'gauge', 'Mean delay, last minute'],
  loopDelayDeviation: ['nodejs.eventloop.delay.stddev', 's', 'gauge', 'Deviation, last minute'],
  stalls: ['portcullis.eventloop.stalls', '{stall}', 'sum', 'Stalls of the event loop'],
  connections: ['portcullis.connections', '{connection}', 'updown', 'Open connections'],
  activeUsers: ['portcullis.active_users', '{user}', 'gauge', 'Users of the last 15 minutes'],
  healthScore: ['portcullis.health_score', '1', 'gauge', 'Health score from 0 to 100'],
  healthy: ['portcullis.targets_met', '1', 'gauge', '1 if every target with data is met'],
  apdex: ['portcullis.apdex', '1', 'gauge', 'Application performance index from 0 to 1'],
  bannedAddresses: ['portcullis.bans.active', '{address}', 'updown', 'Addresses that are banned'],
  bans: ['portcullis.bans', '{ban}', 'sum', 'Bans of addresses'],
  banFailures: ['portcullis.bans.failures', '{failure}', 'sum', 'Failures that count for a ban'],
  routesOverflowed: [
    'portcullis.routes.overflowed',
    '{request}',
    'sum',
    'Requests of further routes',
  ],
  messages: ['portcullis.websocket.messages', '{message}', 'sum', 'Messages', ['direction']],
  messageBytes: ['portcullis.websocket.message.size', 'By', 'sum', 'Payloads', ['direction']],
  refusals: ['portcullis.refusals', '{refusal}', 'sum', 'Refusals by limits', ['code']],
  errors: ['portcullis.errors', '{error}', 'sum', 'Recorded errors', ['kind']],
  burnRate: ['portcullis.slo.burn_rate', '1', 'gauge', 'Burn rate of a budget', ['slo', 'window']],
  budgetRemaining: ['portcullis.slo.budget.remaining', '1', 'gauge', 'Budget left', ['slo']],
  clusterState: ['portcullis.cluster.state', '1', 'gauge', 'State: 1 is it', ['manager', 'state']],
  clusterMembers: ['portcullis.cluster.members', '{process}', 'gauge', 'Processes', ['manager']],
  clusterSeats: ['portcullis.cluster.connections', '{connection}', 'updown', 'Seats', ['manager']],
  clusterWaiting: ['portcullis.cluster.waiting', '{client}', 'gauge', 'Waiting', ['manager']],
  clusterAdmissions: [
    'portcullis.cluster.admissions',
    '{admission}',
    'sum',
    'Admissions by outcome',
    ['manager', 'outcome'],
  ],
  clusterConnects: ['portcullis.cluster.connects', '{connect}', 'sum', 'Connects', ['manager']],
  clusterLosses: ['portcullis.cluster.losses', '{loss}', 'sum', 'Losses', ['manager']],
  clusterDrift: ['portcullis.cluster.drift', '{seat}', 'sum', 'Corrected counts', ['manager']],
  limiterCosts: [
    'portcullis.limiter.costs',
    '{cost}',
    'sum',
    'Costs of rate limiters by outcome',
    ['limiter', 'outcome'],
  ],
  limiterBlocks: ['portcullis.limiter.blocks', '{block}', 'sum', 'Blocked keys', ['limiter']],
  limiterKeys: ['portcullis.limiter.keys', '{key}', 'updown', 'Known keys', ['limiter']],
  limiterEvictions: ['portcullis.limiter.evictions', '{key}', 'sum', 'Evictions', ['limiter']],
  limiterBytes: ['portcullis.limiter.memory', 'By', 'updown', 'Memory of keys', ['limiter']],
};

/** Upper bounds of the requests' histogram, s, as in `src/metrics/routes.rs`. */
const DURATION_BOUNDS = [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10];
const UNITS: readonly (readonly [suffix: string, unit: string])[] = [
  ['_seconds', 's'],
  ['_bytes', 'By'],
  ['_ratio', '1'],
];
const SCOPE = { name: 'portcullis' };

/** Returns a time of the wall clock in the SDK's form. */
function timeOf(ms: number): HighResolutionTime {
  const whole = Math.floor(ms / 1000);
  return [whole, Math.round((ms - whole * 1000) * 1e6)];
}

/** @internal */
export class Producer implements OpenTelemetryProducer {
  readonly #collect: () => Collected;
  readonly #now: () => number;
  readonly #start: HighResolutionTime;

  /**
   * @param collect reads all figures
   * @param startMs start of all counts, wall-clock ms
   * @param now reads the wall clock
   */
  constructor(collect: () => Collected, startMs: number, now: () => number) {
    this.#collect = collect;
    this.#start = timeOf(startMs);
    this.#now = now;
  }

  collect(): Promise<ProducedMetrics> {
    const errors: unknown[] = [];
    let metrics: ProducedMetric[] = [];
    try {
      const collected = this.#collect();
      const points = new Points(this.#start, timeOf(this.#now()));
      metrics = [
        ...points.figures(collected),
        ...points.requests(collected.ledger),
        ...collected.instruments.map((instrument) => points.instrument(instrument)),
      ].filter(({ dataPoints }) => dataPoints.length > 0);
    } catch (error) {
      errors.push(error);
    }
    const resourceMetrics = { resource: resource(), scopeMetrics: [{ scope: SCOPE, metrics }] };
    return Promise.resolve({ resourceMetrics, errors });
  }
}

/** Makes the points of one collection, which share their times. */
class Points {
  readonly #start: HighResolutionTime;
  readonly #end: HighResolutionTime;

  constructor(start: HighResolutionTime, end: HighResolutionTime) {
    this.#start = start;
    this.#end = end;
  }

  #point<T>(attributes: Record<string, string | number>, value: T): MetricPoint<T> {
    return { startTime: this.#start, endTime: this.#end, attributes, value };
  }

  figures({ scalars, samples }: Collected): ProducedMetric[] {
    const { user, system } = process.cpuUsage();
    const all: readonly Sample[] = [
      ...Object.entries(scalars).map(([key, value]): Sample => [key, [], value]),
      ['cpuTime', ['user'], user / 1e6],
      ['cpuTime', ['system'], system / 1e6],
      ...samples,
    ];
    const points = new Map<string, MetricPoint<number>[]>();
    for (const [key, labels, value] of all) {
      const names = FIGURES[key]?.[4] ?? [];
      if (value === null || !Number.isFinite(value)) continue;
      const attributes = Object.fromEntries(names.map((name, at) => [name, labels[at] ?? '']));
      const known = points.get(key);
      const point = this.#point(attributes, value);
      if (known === undefined) points.set(key, [point]);
      else known.push(point);
    }
    return Object.entries(FIGURES).map(([key, [name, unit, kind, description]]) =>
      numbers(name, unit, kind, description, points.get(key) ?? []),
    );
  }

  /** The histogram of durations by route and method, and the requests by status. */
  requests(ledger: Ledger): ProducedMetric[] {
    const { cells, statuses } = ledger.counts();
    const buckets = DURATION_BOUNDS.length + 1;
    const width = buckets + 2 + statuses.length;
    const durations: MetricPoint<HistogramValue>[] = [];
    const counts: MetricPoint<number>[] = [];
    ledger.routes.names.forEach(({ route, method }, row) => {
      const start = row * width;
      const inBuckets = cells.slice(start, start + buckets);
      const count = inBuckets.reduce((total, one) => total + one, 0);
      if (count === 0) return;
      const attributes = requestAttributes(route, method);
      const value = { boundaries: [...DURATION_BOUNDS], counts: inBuckets };
      const sum = cells[start + buckets]! / 1000;
      durations.push(this.#point(attributes, { buckets: value, sum, count }));
      for (let place = 0; place <= statuses.length; place++) {
        const requests = cells[start + buckets + 1 + place]!;
        if (requests === 0) continue;
        const status = place === 0 ? {} : { 'http.response.status_code': statuses[place - 1]! };
        counts.push(this.#point(Object.assign({}, attributes, status), requests));
      }
    });
    return [
      {
        dataPointType: 0,
        dataPoints: durations,
        ...base('http.server.request.duration', 's', 'Duration of HTTP server requests.'),
      },
      numbers('http.server.requests', '{request}', 'sum', 'HTTP requests by status', counts),
    ];
  }

  instrument(instrument: AnyInstrument): ProducedMetric {
    const { kind, help, labelNames } = instrument;
    const name = kind === 'counter' ? instrument.name.slice(0, -'_total'.length) : instrument.name;
    const unit = UNITS.find(([suffix]) => name.endsWith(suffix))?.[1] ?? '';
    const attributes = (labels: readonly string[]): Record<string, string> =>
      Object.fromEntries(labelNames.map((label, at) => [label, labels[at]!]));
    if (instrument.kind === 'histogram') {
      const { shape } = instrument;
      const boundaries = [...shape.bounds];
      const dataPoints = instrument.all.map(({ series, labels }) => {
        const end = series.at + boundaries.length + 1;
        const counts = [...series.cells.subarray(series.at, end)];
        const count = counts.reduce((sum, one) => sum + one, 0);
        const buckets = { boundaries: [...boundaries], counts };
        const sum = shape.hasNegatives ? {} : { sum: series.cells[end]! };
        return this.#point(attributes(labels), { buckets, ...sum, count });
      });
      return { dataPointType: 0, dataPoints, ...base(name, unit, help) };
    }
    const points = instrument.all
      .map(({ series, labels }) => this.#point(attributes(labels), series.cells[series.at]!))
      .filter(({ value }) => Number.isFinite(value));
    return numbers(name, unit, kind === 'counter' ? 'sum' : 'gauge', help, points);
  }
}

function base(name: string, unit: string, description: string): MetricBase {
  return {
    descriptor: { name, description, unit, valueType: 1 },
    aggregationTemporality: 1,
  };
}

function numbers(
  name: string,
  unit: string,
  kind: Kind,
  description: string,
  dataPoints: MetricPoint<number>[],
): ProducedMetric {
  const common = base(name, unit, description);
  return kind === 'gauge'
    ? { dataPointType: 2, dataPoints, ...common }
    : { dataPointType: 3, isMonotonic: kind === 'sum', dataPoints, ...common };
}

function requestAttributes(route: string, method: string): Record<string, string | number> {
  const attributes: Record<string, string> = {};
  if (method !== '') attributes['http.request.method'] = method;
  if (route !== '') attributes['http.route'] = route;
  return attributes;
}

function resource(): ProducedResource {
  const attributes = {
    'process.pid': process.pid,
    'process.runtime.name': jsc === undefined ? 'nodejs' : 'bun',
    'process.runtime.version': process.version.slice(1),
  };
  const own = {
    attributes,
    merge: <R>(other: R): R => other ?? (own as unknown as R),
    getRawAttributes: () => Object.entries(attributes),
  };
  return own;
}
