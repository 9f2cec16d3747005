/** What a report says. Sizes in MB of 2^20 bytes, times in milliseconds; `null` is "not known (yet)"; never NaN or infinite. */

/** Names of the windows. */
export type WindowName = '10s' | '1m' | '5m' | '15m' | 'lifetime';

/** Quantiles by nearest rank, in milliseconds. */
export interface LatencyQuantiles {
  /** Half of all are not above it. */
  readonly p50: number;
  /** Nine of ten are not above it. */
  readonly p90: number;
  /** 95 of 100 are not above it. */
  readonly p95: number;
  /** 99 of 100 are not above it. */
  readonly p99: number;
  /** 999 of 1,000 are not above it. */
  readonly p999: number;
  /** The longest. */
  readonly max: number;
  /** The arithmetic mean. */
  readonly mean: number;
}

/** One route in the last one to two minutes. */
export interface RouteFigures {
  /** The pattern; `''` for requests without one, `other` for all beyond the cap. */
  readonly route: string;
  /** `''` if it was not said. */
  readonly method: string;
  /** Requests that ended. */
  readonly requests: number;
  /** The same a second, on average. */
  readonly requestsPerSecond: number;
  /** Share of requests that failed, 0 to 1; `null` without requests. */
  readonly errorRate: number | null;
  /** Durations; `null` without requests. */
  readonly latencyMs: LatencyQuantiles | null;
  /** Since the beginning. */
  readonly total: number;
}

/** The plan's figures, over the report's window. */
export interface ProductionFigures {
  /** Milliseconds, on average; `null` without requests. */
  averageResponseTime: number | null;
  /** Requests a second, on average over the window. */
  requestsPerSecond: number;
  /** Share of requests that failed by the server's fault, 0 to 1. */
  errorRate: number;
  /** Resident memory of the process, MB; `null` where it cannot be read. */
  memoryUsage: number | null;
  /** Percent of the CPUs that the process is allowed; `null` without a monitor, and until it has two samples. */
  cpuUsage: number | null;
  /** Open connections and leases of the managers that were given. */
  connectionCount: number;
  /** Users connected, or seen in the last 15 minutes. */
  activeUsers: number;
  /** WebSocket messages a second, both ways. */
  messagesThroughput: number;
  /** 0 to 100; `null` without data. */
  healthScore: number | null;
}

/** The plan's targets. */
export interface ProductionTargets {
  /** Milliseconds, above 0. Default 100. */
  maxResponseTime: number;
  /** A share, 0 to 1. Default 0.01. */
  maxErrorRate: number;
  /** MB, above 0. Default 512. */
  maxMemoryUsage: number;
  /** Percent, above 0, at most 100. Default 70. */
  maxCpuUsage: number;
  /** 0 to 100. Default 95. */
  minHealthScore: number;
}

/** The parts of the health score. */
export type ScorePartName = 'errors' | 'latency' | 'loop' | 'memory' | 'cpu' | 'saturation';

/** One part of the health score, and why it is what it is. */
export interface ScorePart {
  /** 0 to 100; `null` without data: it does not count then. */
  readonly score: number | null;
  /** How much it counts, relative to the others. */
  readonly weight: number;
  /** The figure, in `unit`; `null` without data. */
  readonly observed: number | null;
  /** At and below this the part is 100. */
  readonly target: number;
  /** At and above this it is 0. */
  readonly zeroAt: number;
  /** Of `observed`, `target` and `zeroAt`. */
  readonly unit: 'share' | 'ms' | 'MB' | 'percent';
}

/** One of the targets, judged. */
export interface TargetResult {
  /** Its name. */
  readonly target: keyof ProductionTargets;
  /** The figure; `null` without data. */
  readonly observed: number | null;
  /** What was wanted. */
  readonly threshold: number;
  /** `unknown` without data. */
  readonly result: 'pass' | 'fail' | 'unknown';
}

/** What is wrong, by how much, and what to do. */
export interface Recommendation {
  /** Stable. */
  readonly id: string;
  /** How bad it is. */
  readonly severity: 'info' | 'warning' | 'critical';
  /** The figure, as a sentence names it. */
  readonly figure: string;
  /** The figure, in the unit of its sentence. */
  readonly observed: number;
  /** What it passed. */
  readonly threshold: number;
  /** What to do; the text in `recommendations`. */
  readonly action: string;
}

/** How fast the budget of an objective is spent: 1 spends it exactly within its period. */
export interface ErrorBudget {
  /** Of which promise. */
  readonly id: 'errors' | 'latency';
  /** The share of good requests that is promised, 0 to 1. */
  readonly objective: number;
  /** By window; `null` without requests, or where nothing may go wrong. */
  readonly burnRate: Readonly<Record<'5m' | '30m' | '1h' | '6h' | '3d', number | null>>;
  /** Share of the budget of the last three days that is left, below 0 when overspent; `null` without requests. */
  readonly remaining: number | null;
  /** `page`: 14.4 times over 1 h and 5 min, or 6 times over 6 h and 30 min; `ticket`: 1 time over 3 d and 6 h. */
  readonly alert: 'page' | 'ticket' | null;
}

/** One window. */
export interface WindowFigures {
  /** Time it covers: less than its name says, just after the start. */
  readonly coveredMs: number;
  /** Requests that ended. */
  readonly requests: number;
  /** The same a second, on average; within the first second as if it were one. */
  readonly requestsPerSecond: number;
  /** Of these, failures by the server's fault: 5xx, and what was recorded with `error`. */
  readonly errors: number;
  /** `errors` / `requests`, 0 to 1; 0 without requests. */
  readonly errorRate: number;
  /** Answers of 400 to 499, which are the client's. */
  readonly clientErrors: number;
  /** Requests and connections that were turned away by limits: in none of the other figures. */
  readonly refused: number;
  /** Durations; `null` without requests. */
  readonly latencyMs: LatencyQuantiles | null;
  /** WebSocket messages received. */
  readonly messagesIn: number;
  /** WebSocket messages sent. */
  readonly messagesOut: number;
  /** Bytes of those received. */
  readonly bytesIn: number;
  /** Bytes of those sent. */
  readonly bytesOut: number;
  /** Messages both ways a second, on average. */
  readonly messagesPerSecond: number;
  /** (satisfied + tolerating / 2) / all, of T = `maxResponseTime` and 4 T; a failure satisfies nobody. `null` without requests. */
  readonly apdex: number | null;
}

/** The report. The first five are the plan's. */
export interface ProductionReport {
  /** When it was made, ISO 8601. */
  readonly timestamp: string;
  /** The plan's figures. */
  readonly metrics: ProductionFigures;
  /** What they are compared with. */
  readonly targets: ProductionTargets;
  /** Whether every target that can be judged is met. */
  readonly healthy: boolean;
  /** The actions of `findings`, each once. */
  readonly recommendations: string[];
  /** Version of this shape. */
  readonly schema: 1;
  /** What `metrics` covers. */
  readonly window: WindowName;
  /** Time that `window` covers so far, milliseconds. */
  readonly coveredMs: number;
  /** Requests in it. */
  readonly samples: number;
  /** `low` below 20 requests. */
  readonly confidence: 'low' | 'high';
  /** What the health score is made of. */
  readonly scoreParts: Readonly<Record<ScorePartName, ScorePart>>;
  /** Each target, judged. */
  readonly targetResults: readonly TargetResult[];
  /** The worst first. */
  readonly findings: readonly Recommendation[];
  /** Of the requests in `window`; `null` without requests. */
  readonly latencyMs: LatencyQuantiles | null;
  /** As in `WindowFigures`, of `window`. */
  readonly apdex: number | null;
  /** The budgets of errors and of slow requests. */
  readonly slo: readonly ErrorBudget[];
  /** Requests in flight on this thread. */
  readonly inFlight: number;
  /** Every window. */
  readonly windows: Readonly<Record<WindowName, WindowFigures>>;
  /** The busiest 12. */
  readonly routes: readonly RouteFigures[];
  /** Since the beginning, by code: the 20 most frequent. */
  readonly refusals: Readonly<Record<string, number>>;
  /** What `recordError` was told, since the beginning: the 20 most frequent. */
  readonly errors: Readonly<Record<string, number>>;
}

/** Everything, for a page: the report, the busiest 100 routes, and the requests of the last minute by duration. */
export interface ProductionSnapshot extends ProductionReport {
  /** Milliseconds since the metrics were made. */
  readonly uptimeMs: number;
  /** Requests of the last minute by duration. */
  readonly heat: {
    /** Upper edges of the bands; there is one more band than edges, which is open. */
    readonly edgesMs: readonly number[];
    /** A row to each complete second, at most 60, the oldest first: requests by band. */
    readonly seconds: readonly (readonly number[])[];
  };
  /** Users connected or seen, by window. */
  readonly activeUsers: Readonly<Record<'1m' | '5m' | '15m', number>>;
  /** Pairs of route and method that are told apart. */
  readonly routesKnown: number;
  /** Requests that were counted as `other`, because there were too many routes. */
  readonly routesOverflowed: number;
}
