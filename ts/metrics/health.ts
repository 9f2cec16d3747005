/** How healthy it is, why, and what to do: pure functions of figures. */
import type { Totals } from './ledger.js';
import type {
  ErrorBudget,
  ProductionFigures,
  ProductionTargets,
  Recommendation,
  ScorePart,
  ScorePartName,
  TargetResult,
} from './report.js';

/** What is judged. `null` is "not known". @internal */
export interface Observed {
  readonly requests: number;
  readonly errorRate: number | null;
  readonly meanMs: number | null;
  readonly p50Ms: number | null;
  readonly p95Ms: number | null;
  readonly p99Ms: number | null;
  readonly loopDelayMs: number | null;
  readonly memoryMb: number | null;
  readonly cpuPercent: number | null;
  /** Share of the connections' limit that is taken. */
  readonly saturation: number | null;
  readonly refusedShare: number | null;
  /** The event loop is blocked, or was a moment ago. */
  readonly stall: {
    readonly cause: string;
    readonly label: string | null;
    readonly durationMs: number;
  } | null;
  readonly wasKilled: boolean;
  readonly memoryState: 'ok' | 'warning' | 'critical';
  readonly memoryPercent: number | null;
  readonly routesOverflowed: number;
  readonly maxRoutes: number;
}

/** Weights of the parts. */
export const WEIGHTS: Readonly<Record<ScorePartName, number>> = {
  errors: 0.3,
  latency: 0.25,
  loop: 0.15,
  memory: 0.15,
  cpu: 0.1,
  saturation: 0.05,
};

/** The 99th percentile of the loop's delay, from which on it shows in answers. */
const LOOP_DELAY_MS = 50;
const SATURATION = 0.8;
/** Fewer requests than this say little. @internal */
export const SAMPLES_MIN = 20;
const BURN_SAMPLES_MIN = 100;

function part(
  observed: number | null,
  target: number,
  zeroAt: number,
  weight: number,
  unit: ScorePart['unit'],
): ScorePart {
  const share =
    observed === null
      ? null
      : observed <= target
        ? 1
        : observed >= zeroAt
          ? 0
          : (zeroAt - observed) / (zeroAt - target);
  return {
    score: share === null ? null : tenths(share * 100),
    weight,
    observed,
    target,
    zeroAt,
    unit,
  };
}

const tenths = (value: number): number => Math.round(value * 10) / 10;

/** The parts of the score: 100 up to the target, from there down to 0. @internal */
export function scoreParts(
  seen: Observed,
  targets: ProductionTargets,
  weights: Readonly<Record<ScorePartName, number>>,
): Record<ScorePartName, ScorePart> {
  const { maxErrorRate, maxResponseTime, maxMemoryUsage, maxCpuUsage } = targets;
  return {
    errors: part(
      seen.errorRate,
      maxErrorRate,
      Math.min(1, maxErrorRate === 0 ? 0.01 : maxErrorRate * 5),
      weights.errors,
      'share',
    ),
    latency: part(seen.p95Ms, maxResponseTime, maxResponseTime * 2, weights.latency, 'ms'),
    loop: part(seen.loopDelayMs, LOOP_DELAY_MS, LOOP_DELAY_MS * 2, weights.loop, 'ms'),
    memory: part(seen.memoryMb, maxMemoryUsage, maxMemoryUsage * 2, weights.memory, 'MB'),
    // Beyond all of it there is nothing: at 100 percent nothing is left.
    cpu: part(seen.cpuPercent, maxCpuUsage, 100, weights.cpu, 'percent'),
    saturation: part(seen.saturation, SATURATION, 1, weights.saturation, 'share'),
  };
}

/** The weighted mean of the parts that are known, at most 25 above the worst; some states cap it lower. @internal */
export function healthScore(
  parts: Readonly<Record<ScorePartName, ScorePart>>,
  seen: Observed,
  targets: ProductionTargets,
): number | null {
  let [sum, weights, worst] = [0, 0, 100];
  for (const { score, weight } of Object.values(parts)) {
    if (score === null || weight === 0) continue;
    sum += score * weight;
    weights += weight;
    worst = Math.min(worst, score);
  }
  if (weights === 0) return null;
  let score = Math.min(sum / weights, worst + 25);
  if (seen.wasKilled) score = Math.min(score, 40);
  if (seen.stall !== null) score = Math.min(score, 20);
  if (
    seen.requests >= SAMPLES_MIN &&
    (seen.errorRate ?? 0) > Math.max(0.01, targets.maxErrorRate) * 10
  )
    score = Math.min(score, 10);
  return tenths(score);
}

const LATENCY = 'Consider optimizing middleware chain execution';
const MEMORY = 'Investigate memory leaks and increase GC frequency';
const ERRORS = 'Review error handling and input validation';

const STALL_ACTIONS: Readonly<Record<string, string>> = {
  busy: 'Move the work that blocks the event loop to a worker, or split it',
  blocked: 'Replace synchronous file, process and DNS calls by asynchronous ones',
  starved: 'Give the process more CPU: it is ready to run and has to wait',
  throttled: 'Raise the CPU quota: the process is throttled',
};

/** What is wrong, the worst first. @internal */
export function findingsOf(
  seen: Observed,
  targets: ProductionTargets,
  budgets: readonly ErrorBudget[],
): Recommendation[] {
  const found: Recommendation[] = [];
  const above = (
    id: string,
    figure: string,
    observed: number | null,
    threshold: number,
    criticalAt: number,
    action: string,
  ): void => {
    if (observed !== null && observed > threshold)
      found.push({
        id,
        severity: observed > criticalAt ? 'critical' : 'warning',
        figure,
        observed,
        threshold,
        action,
      });
  };
  const { maxResponseTime, maxMemoryUsage, maxErrorRate, maxCpuUsage } = targets;
  above(
    'latency',
    'average response time, ms',
    seen.meanMs,
    maxResponseTime,
    maxResponseTime * 2,
    LATENCY,
  );
  above('memory', 'resident memory, MB', seen.memoryMb, maxMemoryUsage, maxMemoryUsage * 2, MEMORY);
  above(
    'errors',
    'share of requests that failed',
    seen.errorRate,
    maxErrorRate,
    maxErrorRate * 5,
    ERRORS,
  );
  above(
    'cpu',
    'CPU, percent of what is allowed',
    seen.cpuPercent,
    maxCpuUsage,
    95,
    'Add CPUs or processes, or profile what takes the CPU',
  );
  above(
    'loop_delay',
    '99th percentile of the event loop delay, ms',
    seen.loopDelayMs,
    LOOP_DELAY_MS,
    500,
    'Find what blocks the event loop: the stalls name its routes',
  );
  above(
    'saturation',
    'share of the connection limit that is taken',
    seen.saturation,
    SATURATION,
    0.99,
    'Raise the limit of connections or add servers',
  );
  above(
    'refusals',
    'share of arrivals that were refused',
    seen.refusedShare,
    0.05,
    0.5,
    'Look at the refusals by code: limits are too low, or a client misbehaves',
  );
  if (seen.stall !== null) {
    const { cause, label, durationMs } = seen.stall;
    const action = STALL_ACTIONS[cause] ?? 'Find what blocks the event loop';
    found.push({
      id: `stall_${cause}`,
      severity: 'critical',
      figure: 'block of the event loop, ms',
      observed: durationMs,
      threshold: 100,
      action: label === null ? action : `${action} (${label})`,
    });
  }
  if (seen.wasKilled)
    found.push({
      id: 'oom_kill',
      severity: 'critical',
      figure: 'processes killed for memory',
      observed: 1,
      threshold: 0,
      action: 'Raise the memory limit or lower what the processes keep',
    });
  if (seen.memoryState !== 'ok' && seen.memoryPercent !== null) {
    const severity = seen.memoryState;
    found.push({
      id: 'memory_limit',
      severity,
      figure: 'percent of the binding memory limit',
      observed: seen.memoryPercent,
      threshold: 0,
      action: 'Raise the memory limit or shed load before the process is killed',
    });
  }
  if (
    seen.requests >= BURN_SAMPLES_MIN &&
    seen.p50Ms !== null &&
    seen.p99Ms !== null &&
    seen.p50Ms > 0
  ) {
    above(
      'tail',
      '99th percentile over the median',
      seen.p99Ms / seen.p50Ms,
      20,
      Infinity,
      'Look at the slowest routes: a few requests take far longer than the rest',
    );
  }
  if (seen.routesOverflowed > 0) {
    found.push({
      id: 'routes_overflow',
      severity: 'info',
      figure: 'requests of routes beyond the cap',
      observed: seen.routesOverflowed,
      threshold: 0,
      action: `Record patterns instead of paths, or raise maxRoutes (${seen.maxRoutes})`,
    });
  }
  for (const { id, alert, burnRate } of budgets) {
    if (alert === null) continue;
    const observed = (alert === 'page' ? burnRate['1h'] : burnRate['3d']) ?? 0;
    const action = `The budget of ${id === 'errors' ? 'failed' : 'slow'} requests is running out: ${alert === 'page' ? 'act now' : 'plan a fix'}`;
    found.push({
      id: `burn_${id}`,
      severity: alert === 'page' ? 'critical' : 'warning',
      figure: 'burn rate of the budget',
      observed,
      threshold: alert === 'page' ? 6 : 1,
      action,
    });
  }
  const order = ['critical', 'warning', 'info'];
  return found.toSorted((a, b) => order.indexOf(a.severity) - order.indexOf(b.severity));
}

/** Minutes of the windows of budgets. @internal */
export const BURN_MINUTES = { '5m': 5, '30m': 30, '1h': 60, '6h': 360, '3d': 4320 } as const;

type BurnWindow = keyof typeof BURN_MINUTES;

/**
 * Burn rates after the SRE workbook, chapter 5: the share of bad requests over the share that may
 * be (`allowed`). An alert needs both of its windows, and 100 requests in the longer one.
 * @internal
 */
export function budgetOf(
  id: ErrorBudget['id'],
  allowed: number,
  totals: Readonly<Record<BurnWindow, Totals>>,
): ErrorBudget {
  const bad = (window: BurnWindow): number =>
    id === 'errors' ? totals[window].errors : totals[window].slow;
  const burn = (window: BurnWindow): number | null =>
    totals[window].requests === 0 || allowed === 0
      ? null
      : bad(window) / totals[window].requests / allowed;
  const burnRate = {
    '5m': burn('5m'),
    '30m': burn('30m'),
    '1h': burn('1h'),
    '6h': burn('6h'),
    '3d': burn('3d'),
  };
  const burns = (long: BurnWindow, short: BurnWindow, rate: number): boolean =>
    totals[long].requests >= BURN_SAMPLES_MIN &&
    (burnRate[long] ?? 0) >= rate &&
    (burnRate[short] ?? 0) >= rate;
  const isPage = burns('1h', '5m', 14.4) || burns('6h', '30m', 6);
  const rate = burnRate['3d'];
  return {
    id,
    objective: 1 - allowed,
    burnRate,
    remaining:
      rate === null ? (totals['3d'].requests === 0 ? null : bad('3d') === 0 ? 1 : 0) : 1 - rate,
    alert: isPage ? 'page' : burns('3d', '6h', 1) ? 'ticket' : null,
  };
}

/** Each target against its figure. @internal */
export function resultsOf(metrics: ProductionFigures, targets: ProductionTargets): TargetResult[] {
  const judged = (
    target: TargetResult['target'],
    observed: number | null,
    isMet: (value: number) => boolean,
  ): TargetResult => ({
    target,
    observed,
    threshold: targets[target],
    result: observed === null ? 'unknown' : isMet(observed) ? 'pass' : 'fail',
  });
  return [
    judged(
      'maxResponseTime',
      metrics.averageResponseTime,
      (value) => value <= targets.maxResponseTime,
    ),
    judged('maxErrorRate', metrics.errorRate, (value) => value <= targets.maxErrorRate),
    judged('maxMemoryUsage', metrics.memoryUsage, (value) => value <= targets.maxMemoryUsage),
    judged('maxCpuUsage', metrics.cpuUsage, (value) => value <= targets.maxCpuUsage),
    judged('minHealthScore', metrics.healthScore, (value) => value >= targets.minHealthScore),
  ];
}

/** Whether every target that can be judged is met. @internal */
export function isHealthy(results: readonly TargetResult[]): boolean {
  return results.every(({ result }) => result !== 'fail');
}
