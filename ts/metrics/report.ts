/**
 * Types of a report. Sizes in MB of 2^20 bytes, times in ms; `null` means "not known (yet)"; never
 * NaN or infinite.
 */
import type { ResourceSnapshot } from '../resources/figures.js';

/** Names of the windows. */
export type WindowName = '10s' | '1m' | '5m' | '15m' | 'lifetime';

/** Quantiles of durations by nearest rank, ms. */
export interface LatencyQuantiles {
  /** Median. */
  readonly p50: number;
  /** 90th percentile. */
  readonly p90: number;
  /** 95th percentile. */
  readonly p95: number;
  /** 99th percentile. */
  readonly p99: number;
  /** 99.9th percentile. */
  readonly p999: number;
  /** Longest duration. */
  readonly max: number;
  /** Arithmetic mean. */
  readonly mean: number;
}

/** Figures of one route in the last one to two minutes. */
export interface RouteFigures {
  /**
   * Pattern of the route; `''` for requests without one, `other` for all routes beyond `maxRoutes`.
   */
  readonly route: string;
  /** HTTP method; `''` if it was not recorded. */
  readonly method: string;
  /** Requests that ended. */
  readonly requests: number;
  /** Requests that ended per second, on average. */
  readonly requestsPerSecond: number;
  /** Share of failed requests, 0 to 1; `null` without requests. */
  readonly errorRate: number | null;
  /** Durations; `null` without requests. */
  readonly latencyMs: LatencyQuantiles | null;
  /** Requests since the start. */
  readonly total: number;
}

/** Key figures of the service, over the report's window. */
export interface ProductionFigures {
  /** Mean duration of a request, ms; `null` without requests. */
  averageResponseTime: number | null;
  /** Requests per second, on average over the window. */
  requestsPerSecond: number;
  /** Share of requests that failed on the server's side, 0 to 1. */
  errorRate: number;
  /** Resident memory of the process, MB; `null` where it cannot be read. */
  memoryUsage: number | null;
  /** Percent of the allowed CPUs in use; `null` without a monitor, and until it has two samples. */
  cpuUsage: number | null;
  /** Open connections and leases of the attached managers. */
  connectionCount: number;
  /** Users who are connected, or were seen in the last 15 minutes. */
  activeUsers: number;
  /** WebSocket messages per second, both directions. */
  messagesThroughput: number;
  /** Health score, 0 to 100; `null` without data. */
  healthScore: number | null;
}

/** Targets of the key figures. */
export interface ProductionTargets {
  /** Greatest mean duration of a request, ms: 0.000001 to 2^53 - 1. Default 100. */
  maxResponseTime: number;
  /** Greatest share of failed requests: 0 to 1. Default 0.01. */
  maxErrorRate: number;
  /** Greatest resident memory, MB: 0.000001 to 2^53 - 1. Default 512. */
  maxMemoryUsage: number;
  /** Greatest CPU use, percent of the allowed CPUs: 1 to 100. Default 70. */
  maxCpuUsage: number;
  /** Least health score: 0 to 100. Default 95. */
  minHealthScore: number;
}

/** Names of the parts of the health score that have a weight. */
export type ScoreWeightName =
  | 'errors'
  | 'latency'
  | 'loop'
  | 'utilization'
  | 'stalls'
  | 'stallCount'
  | 'memory'
  | 'cpu'
  | 'saturation';

/** Names of the parts of the health score; the last two have no weight and only cap it. */
export type ScorePartName = ScoreWeightName | 'failing' | 'outOfMemory';

/** One part of the health score, with the figures behind it. */
export interface ScorePart {
  /** Score of the part, 0 to 100; `null` without data: the part then does not count. */
  readonly score: number | null;
  /** Weight relative to the other parts; 0 for a part that only caps the score, or is left out. */
  readonly weight: number;
  /** The observed figure, in `unit`; `null` without data. */
  readonly observed: number | null;
  /** Greatest value that scores 100. */
  readonly target: number;
  /** Least value that scores 0. */
  readonly zeroAt: number;
  /** Unit of `observed`, `target` and `zeroAt`. */
  readonly unit: 'share' | 'ms' | 'MB' | 'percent' | 'count';
  /** Greatest health score while the part is as it is; `null` if it does not cap the score. */
  readonly cap: number | null;
  /**
   * Time at which the cap ends, unless its cause recurs, wall-clock milliseconds; `null` without a
   * cap, and for a figure without a window, such as memory.
   */
  readonly capEndsAt: number | null;
}

/** One target and whether it is met. */
export interface TargetResult {
  /** Name of the target. */
  readonly target: keyof ProductionTargets;
  /** The observed figure; `null` without data. */
  readonly observed: number | null;
  /** The target's value. */
  readonly threshold: number;
  /** `unknown` without data. */
  readonly result: 'pass' | 'fail' | 'unknown';
}

/** A finding: a figure beyond its threshold, and the recommended action. */
export interface Recommendation {
  /** Stable id of the finding. */
  readonly id: string;
  /** Severity. */
  readonly severity: 'info' | 'warning' | 'critical';
  /** Name of the figure, with its unit. */
  readonly figure: string;
  /** The observed figure. */
  readonly observed: number;
  /** The threshold that it passed. */
  readonly threshold: number;
  /** Recommended action, as in `recommendations`. */
  readonly action: string;
}

/** The error budget of an objective, and its burn rate: at 1 it lasts exactly for its period. */
export interface ErrorBudget {
  /** The objective: requests without errors, or requests in time. */
  readonly id: 'errors' | 'latency';
  /** Promised share of good requests, 0 to 1. */
  readonly objective: number;
  /** Burn rate by window; `null` without requests, or if the objective allows no bad request. */
  readonly burnRate: Readonly<Record<'5m' | '30m' | '1h' | '6h' | '3d', number | null>>;
  /**
   * Remaining share of the last three days' budget, below 0 when overspent; `null` without
   * requests.
   */
  readonly remaining: number | null;
  /**
   * `page`: burn rate 14.4 over 1 h and 5 min, or 6 over 6 h and 30 min; `ticket`: 1 over 3 d and 6
   * h.
   */
  readonly alert: 'page' | 'ticket' | null;
}

/** Figures of one window. */
export interface WindowFigures {
  /** Covered time, ms: just after the start, less than the window's length. */
  readonly coveredMs: number;
  /** Requests that ended. */
  readonly requests: number;
  /** Requests that ended per second, on average; the first second counts as a whole one. */
  readonly requestsPerSecond: number;
  /** Failed requests: status 5xx, or recorded with `error`. */
  readonly errors: number;
  /** `errors` / `requests`, 0 to 1; 0 without requests. */
  readonly errorRate: number;
  /** Responses with status 400 to 499 that are not recorded with `error`: the client's errors. */
  readonly clientErrors: number;
  /** Requests and connections that limits refused; they are in no other figure. */
  readonly refused: number;
  /** Durations; `null` without requests. */
  readonly latencyMs: LatencyQuantiles | null;
  /** WebSocket messages received. */
  readonly messagesIn: number;
  /** WebSocket messages sent. */
  readonly messagesOut: number;
  /** Bytes of received messages. */
  readonly bytesIn: number;
  /** Bytes of sent messages. */
  readonly bytesOut: number;
  /** Messages per second, both directions, on average. */
  readonly messagesPerSecond: number;
  /**
   * Apdex: (satisfied + tolerating / 2) / all, with T = `maxResponseTime` and 4 T; a failed request
   * counts as frustrated. `null` without requests.
   */
  readonly apdex: number | null;
}

/** Report on the health of the service. */
export interface ProductionReport {
  /** Time of the report, ISO 8601. */
  readonly timestamp: string;
  /** Key figures. */
  readonly metrics: ProductionFigures;
  /** Targets of the key figures. */
  readonly targets: ProductionTargets;
  /** True if every target with data is met. */
  readonly healthy: boolean;
  /** Actions of `findings`, each once. */
  readonly recommendations: string[];
  /** Version of this type. */
  readonly schema: 1;
  /** Window of `metrics`. */
  readonly window: WindowName;
  /** Covered time of the window, ms. */
  readonly coveredMs: number;
  /** Requests in the window. */
  readonly samples: number;
  /** `low` below 20 requests. */
  readonly confidence: 'low' | 'high';
  /** Parts of the health score. */
  readonly scoreParts: Readonly<Record<ScorePartName, ScorePart>>;
  /** Every target and its result. */
  readonly targetResults: readonly TargetResult[];
  /** Findings, the most severe first. */
  readonly findings: readonly Recommendation[];
  /** Durations of the window's requests; `null` without requests. */
  readonly latencyMs: LatencyQuantiles | null;
  /** Apdex of the window, as in `WindowFigures`. */
  readonly apdex: number | null;
  /** Error budgets of the two objectives. */
  readonly slo: readonly ErrorBudget[];
  /** Requests in flight on this thread. */
  readonly inFlight: number;
  /** Figures of every window. */
  readonly windows: Readonly<Record<WindowName, WindowFigures>>;
  /** The 12 busiest routes. */
  readonly routes: readonly RouteFigures[];
  /** Refusals since the start by code, the 20 most frequent. */
  readonly refusals: Readonly<Record<string, number>>;
  /**
   * Errors of `recordError` and `RequestDetails.error` since the start by kind, the 20 most
   * frequent.
   */
  readonly errors: Readonly<Record<string, number>>;
}

/**
 * A report with more detail, for a page: the 100 busiest routes, and a heat map of the last minute.
 */
export interface ProductionSnapshot extends ProductionReport {
  /** Time since the metrics were created, ms. */
  readonly uptimeMs: number;
  /** Heat map: requests of the last minute by second and duration. */
  readonly heat: {
    /** Upper edges of the bands, ms; one more band is open. */
    readonly edgesMs: readonly number[];
    /** Requests by band, one row per complete second, at most 60, the oldest first. */
    readonly seconds: readonly (readonly number[])[];
  };
  /** Users who are connected or were seen, by window. */
  readonly activeUsers: Readonly<Record<'1m' | '5m' | '15m', number>>;
  /** Pairs of route and method that are counted separately. */
  readonly routesKnown: number;
  /** Requests counted as `other`, because their route was beyond `maxRoutes`. */
  readonly routesOverflowed: number;
}

/** The part of a snapshot that the live page keeps of each second, and the monitor's figures. @internal */
export interface ProductionGlance extends Pick<
  ProductionSnapshot,
  'metrics' | 'scoreParts' | 'targets' | 'findings'
> {
  readonly windows: Pick<ProductionSnapshot['windows'], '10s'>;
  readonly heat: Pick<ProductionSnapshot['heat'], 'seconds'>;
  /** Figures of the monitor that the metrics have; `undefined` without one. */
  readonly resources: ResourceSnapshot | undefined;
}
