/** The health score and the results of the targets: pure functions of the observed figures. */
import type {
  ProductionFigures,
  ProductionTargets,
  ScorePart,
  ScorePartName,
  TargetResult,
} from './report.js';

/** The observed figures behind score and findings; `null` means "not known". @internal */
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
  /** Share of the connection limit in use. */
  readonly saturation: number | null;
  readonly refusedShare: number | null;
  /** A stall of the event loop that lasts or has just ended. */
  readonly stall: {
    readonly cause: string;
    readonly label: string | null;
    readonly durationMs: number;
  } | null;
  /** True if the OOM killer killed a process of the group recently. */
  readonly wasKilled: boolean;
  readonly memoryState: 'ok' | 'warning' | 'critical';
  readonly memoryPercent: number | null;
  readonly routesOverflowed: number;
  readonly maxRoutes: number;
}

/** Default weights of the parts. */
export const WEIGHTS: Readonly<Record<ScorePartName, number>> = {
  errors: 0.3,
  latency: 0.25,
  loop: 0.15,
  memory: 0.15,
  cpu: 0.1,
  saturation: 0.05,
};

/** 99th percentile of the loop's delay above which users notice it in response times. @internal */
export const LOOP_DELAY_MAX_MS = 50;
/** Share of the connection limit above which it is nearly used up. @internal */
export const SATURATION_MAX = 0.8;
/** Fewer requests than this give no reliable rate. @internal */
export const SAMPLES_MIN = 20;

const tenths = (value: number): number => Math.round(value * 10) / 10;

/** 100 up to the target, then falling linearly to 0 at `zeroAt`. */
function part(
  observed: number | null,
  target: number,
  zeroAt: number,
  weight: number,
  unit: ScorePart['unit'],
): ScorePart {
  const scored = { weight, observed, target, zeroAt, unit };
  if (observed === null) return { score: null, ...scored };
  if (observed <= target) return { score: 100, ...scored };
  if (observed >= zeroAt) return { score: 0, ...scored };
  return { score: tenths(((zeroAt - observed) / (zeroAt - target)) * 100), ...scored };
}

/** Returns the parts of the health score. @internal */
export function scoreParts(
  seen: Observed,
  targets: ProductionTargets,
  weights: Readonly<Record<ScorePartName, number>>,
): Record<ScorePartName, ScorePart> {
  const { maxErrorRate, maxResponseTime, maxMemoryUsage, maxCpuUsage } = targets;
  const errorsZeroAt = Math.min(1, maxErrorRate === 0 ? 0.01 : maxErrorRate * 5);
  return {
    errors: part(seen.errorRate, maxErrorRate, errorsZeroAt, weights.errors, 'share'),
    latency: part(seen.p95Ms, maxResponseTime, maxResponseTime * 2, weights.latency, 'ms'),
    loop: part(seen.loopDelayMs, LOOP_DELAY_MAX_MS, LOOP_DELAY_MAX_MS * 2, weights.loop, 'ms'),
    memory: part(seen.memoryMb, maxMemoryUsage, maxMemoryUsage * 2, weights.memory, 'MB'),
    // Not twice the target, as for the others: CPU cannot exceed 100 percent.
    cpu: part(seen.cpuPercent, maxCpuUsage, 100, weights.cpu, 'percent'),
    saturation: part(seen.saturation, SATURATION_MAX, 1, weights.saturation, 'share'),
  };
}

/**
 * Returns the weighted mean of the known parts, at most 25 above the worst part, so that one bad
 * part cannot hide behind the others. A kill by the OOM killer caps it at 40, a stall at 20, an
 * error rate of ten times the target at 10.
 * @returns 0 to 100, or `null` if no part is known
 * @internal
 */
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
  const isBroken =
    seen.requests >= SAMPLES_MIN &&
    (seen.errorRate ?? 0) > Math.max(0.01, targets.maxErrorRate) * 10;
  if (isBroken) score = Math.min(score, 10);
  return tenths(score);
}

/** Compares each target with its figure. @internal */
export function targetResultsOf(
  metrics: ProductionFigures,
  targets: ProductionTargets,
): TargetResult[] {
  const result = (
    target: TargetResult['target'],
    observed: number | null,
    isMet: (observed: number, threshold: number) => boolean,
  ): TargetResult => ({
    target,
    observed,
    threshold: targets[target],
    result: observed === null ? 'unknown' : isMet(observed, targets[target]) ? 'pass' : 'fail',
  });
  const atMost = (observed: number, threshold: number): boolean => observed <= threshold;
  const atLeast = (observed: number, threshold: number): boolean => observed >= threshold;
  return [
    result('maxResponseTime', metrics.averageResponseTime, atMost),
    result('maxErrorRate', metrics.errorRate, atMost),
    result('maxMemoryUsage', metrics.memoryUsage, atMost),
    result('maxCpuUsage', metrics.cpuUsage, atMost),
    result('minHealthScore', metrics.healthScore, atLeast),
  ];
}

/** True if no target is missed; a target without data is not. @internal */
export function areMet(results: readonly TargetResult[]): boolean {
  return results.every(({ result }) => result !== 'fail');
}
