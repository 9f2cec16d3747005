/** The health score and the results of the targets: pure functions of the observed figures. */
import type {
  ProductionFigures,
  ProductionTargets,
  ScorePart,
  ScorePartName,
  ScoreWeightName,
  TargetResult,
} from './report.js';

/** A figure with the time at which it no longer caps the score, unless its cause recurs. @internal */
export interface Dated {
  readonly value: number;
  readonly capEndsAt: number | null;
}

/** The observed figures behind score and findings; `null` means "not known". @internal */
export interface Observed {
  readonly requests: number;
  readonly errorRate: number | null;
  readonly meanMs: number | null;
  readonly p50Ms: number | null;
  readonly p95Ms: number | null;
  readonly p99Ms: number | null;
  readonly loopDelayMs: number | null;
  /** Mean of the loop's utilization over the last 10 s, 0 to 1. */
  readonly utilization: number | null;
  readonly memoryMb: number | null;
  readonly cpuPercent: number | null;
  /** Share of the connection limit in use. */
  readonly saturation: number | null;
  readonly refusedShare: number | null;
  /** The last stall of the event loop, if it has just ended. */
  readonly stall: {
    readonly cause: string;
    readonly label: string | null;
    readonly durationMs: number;
  } | null;
  /** Share of the last 10 s in stalls, and the time at which it no longer caps. */
  readonly stalledShare: Dated | null;
  /** Long stalls of the last minute, and the time at which their number no longer caps. */
  readonly stallCount: Dated | null;
  /** Processes of the group that the OOM killer killed recently. */
  readonly kills: Dated | null;
  /** Time at which the report's window holds no present request any more; `null` for none. */
  readonly windowEndsAt: number | null;
  /** Time of the observation, wall-clock milliseconds. */
  readonly at: number;
  readonly memoryState: 'ok' | 'warning' | 'critical';
  readonly memoryPercent: number | null;
  readonly routesOverflowed: number;
  readonly maxRoutes: number;
}

/** Default weights of the parts. */
export const WEIGHTS: Readonly<Record<ScoreWeightName, number>> = {
  errors: 0.3,
  latency: 0.25,
  loop: 0.05,
  utilization: 0.05,
  stalls: 0.025,
  stallCount: 0.025,
  memory: 0.15,
  cpu: 0.1,
  saturation: 0.05,
};

/** 99th percentile of the loop's delay above which users notice it in response times. @internal */
export const LOOP_DELAY_MAX_MS = 50;
/** Window of the loop's delays, ms. */
const LOOP_DELAY_WINDOW_MS = 60_000;
/** Utilization of the loop above which events queue up. @internal */
export const UTILIZATION_MAX = 0.95;
/** Window of the utilization, ms. */
const UTILIZATION_WINDOW_MS = 10_000;
/** Share of the connection limit above which it is nearly used up. @internal */
export const SATURATION_MAX = 0.8;
/** Fewer requests than this give no reliable rate. @internal */
export const SAMPLES_MIN = 20;
/** Least error rate, as a multiple of the target, at which the service is failing. */
const FAILING_TIMES = 10;
/** Each part caps the score at this above its own score, so that none can hide behind the others. */
const CAP_ABOVE = 25;

/** Limits of a figure: the greatest value that scores 100, and the least that scores 0. @internal */
export interface Range {
  readonly target: number;
  readonly zeroAt: number;
}
/** Limits of the share of time in stalls. @internal */
export const STALLED_SHARE: Range = { target: 0.05, zeroAt: 0.2 };
/** Limits of the number of stalls in a minute. @internal */
export const STALL_COUNT: Range = { target: 3, zeroAt: 10 };

/** Returns the greatest figure that does not cap the score. @internal */
export const uncappedUpTo = ({ target, zeroAt }: Range): number =>
  target + ((zeroAt - target) * CAP_ABOVE) / 100;

const tenths = (value: number): number => Math.round(value * 10) / 10;

/** 100 up to the target, then falling linearly to 0 at `zeroAt`. */
function scoreOf(observed: number | null, { target, zeroAt }: Range): number | null {
  if (observed === null) return null;
  if (observed <= target) return 100;
  if (observed >= zeroAt) return 0;
  return tenths(((zeroAt - observed) / (zeroAt - target)) * 100);
}

/** A part that is yet to be scored. */
interface Draft extends Range {
  readonly observed: number | null;
  readonly weight: number;
  readonly unit: ScorePart['unit'];
  /** The cap at a score of 0, if it is lower than that of the other parts. */
  readonly capAtZero?: number;
  /** True for a part without a weight, which only caps. */
  readonly onlyCaps?: boolean;
  readonly capEndsAt?: number | null | undefined;
}

function scored(draft: Draft): ScorePart {
  const { observed, target, zeroAt, weight, unit, capAtZero, onlyCaps, capEndsAt } = draft;
  const score = scoreOf(observed, draft);
  const cap = weight === 0 && onlyCaps !== true ? null : capOf(score, capAtZero);
  const endsAt = cap === null ? null : (capEndsAt ?? null);
  return { score, weight, observed, target, zeroAt, unit, cap, capEndsAt: endsAt };
}

function capOf(score: number | null, capAtZero: number | undefined): number | null {
  if (score === null || score >= 100 - CAP_ABOVE) return null;
  return score === 0 && capAtZero !== undefined ? capAtZero : tenths(score + CAP_ABOVE);
}

/**
 * Returns the parts of the health score. Three conditions cap it lower than the other parts: stalls
 * at 20, a kill by the OOM killer at 40, an error rate of ten times the target at 10.
 * @internal
 */
export function scoreParts(
  seen: Observed,
  targets: ProductionTargets,
  weights: Readonly<Record<ScoreWeightName, number>>,
): Record<ScorePartName, ScorePart> {
  return Object.assign(
    {},
    serviceParts(seen, targets, weights),
    loopParts(seen, weights),
    resourceParts(seen, targets, weights),
    conditionParts(seen, targets),
  );
}

type Parts<Name extends ScorePartName> = Record<Name, ScorePart>;
type Weights = Readonly<Record<ScoreWeightName, number>>;

function serviceParts(
  seen: Observed,
  { maxErrorRate, maxResponseTime }: ProductionTargets,
  weights: Weights,
): Parts<'errors' | 'latency'> {
  const capEndsAt = seen.windowEndsAt;
  return {
    errors: scored({
      observed: seen.errorRate,
      target: maxErrorRate,
      zeroAt: Math.min(1, maxErrorRate === 0 ? 0.01 : maxErrorRate * 5),
      weight: weights.errors,
      unit: 'share',
      capEndsAt,
    }),
    latency: scored({
      observed: seen.p95Ms,
      target: maxResponseTime,
      zeroAt: maxResponseTime * 2,
      weight: weights.latency,
      unit: 'ms',
      capEndsAt,
    }),
  };
}

function loopParts(
  seen: Observed,
  weights: Weights,
): Parts<'loop' | 'utilization' | 'stalls' | 'stallCount'> {
  return {
    loop: scored({
      observed: seen.loopDelayMs,
      target: LOOP_DELAY_MAX_MS,
      zeroAt: LOOP_DELAY_MAX_MS * 2,
      weight: weights.loop,
      unit: 'ms',
      capEndsAt: seen.at + LOOP_DELAY_WINDOW_MS,
    }),
    utilization: scored({
      observed: seen.utilization,
      target: UTILIZATION_MAX,
      zeroAt: 1,
      weight: weights.utilization,
      unit: 'share',
      capEndsAt: seen.at + UTILIZATION_WINDOW_MS,
    }),
    stalls: scored({
      observed: seen.stalledShare?.value ?? null,
      ...STALLED_SHARE,
      weight: weights.stalls,
      unit: 'share',
      capAtZero: 20,
      capEndsAt: seen.stalledShare?.capEndsAt,
    }),
    stallCount: scored({
      observed: seen.stallCount?.value ?? null,
      ...STALL_COUNT,
      weight: weights.stallCount,
      unit: 'count',
      capAtZero: 20,
      capEndsAt: seen.stallCount?.capEndsAt,
    }),
  };
}

function resourceParts(
  seen: Observed,
  { maxMemoryUsage, maxCpuUsage }: ProductionTargets,
  weights: Weights,
): Parts<'memory' | 'cpu' | 'saturation'> {
  return {
    memory: scored({
      observed: seen.memoryMb,
      target: maxMemoryUsage,
      zeroAt: maxMemoryUsage * 2,
      weight: weights.memory,
      unit: 'MB',
    }),
    cpu: scored({
      observed: seen.cpuPercent,
      target: maxCpuUsage,
      // Not twice the target, as for the others: CPU cannot exceed 100 percent.
      zeroAt: 100,
      weight: weights.cpu,
      unit: 'percent',
    }),
    saturation: scored({
      observed: seen.saturation,
      target: SATURATION_MAX,
      zeroAt: 1,
      weight: weights.saturation,
      unit: 'share',
    }),
  };
}

function conditionParts(
  seen: Observed,
  { maxErrorRate }: ProductionTargets,
): Parts<'failing' | 'outOfMemory'> {
  const failingAt = Math.max(0.01, maxErrorRate) * FAILING_TIMES;
  const onlyCaps = { weight: 0, onlyCaps: true };
  return {
    failing: scored({
      observed: seen.requests < SAMPLES_MIN ? null : seen.errorRate,
      target: failingAt,
      zeroAt: failingAt,
      ...onlyCaps,
      unit: 'share',
      capAtZero: 10,
      capEndsAt: seen.windowEndsAt,
    }),
    outOfMemory: scored({
      observed: seen.kills?.value ?? null,
      target: 0,
      zeroAt: 1,
      ...onlyCaps,
      unit: 'count',
      capAtZero: 40,
      capEndsAt: seen.kills?.capEndsAt,
    }),
  };
}

/** Returns the parts as they are without data: none has a score. @internal */
export function unscored(
  parts: Readonly<Record<ScorePartName, ScorePart>>,
): Record<ScorePartName, ScorePart> {
  const entries = Object.entries(parts).map(([name, part]) => [
    name,
    { ...part, score: null, cap: null, capEndsAt: null },
  ]);
  return Object.fromEntries(entries) as Record<ScorePartName, ScorePart>;
}

/**
 * Returns the weighted mean of the known parts, or the least cap, whichever is lower.
 * @returns 0 to 100, in tenths; `null` if no part with a weight is known
 * @internal
 */
export function healthScore(parts: Readonly<Record<ScorePartName, ScorePart>>): number | null {
  let [sum, weights, least] = [0, 0, 100];
  for (const { score, weight, cap } of Object.values(parts)) {
    if (cap !== null) least = Math.min(least, cap);
    if (score === null) continue;
    sum += score * weight;
    weights += weight;
  }
  return weights === 0 ? null : tenths(Math.min(sum / weights, least));
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
