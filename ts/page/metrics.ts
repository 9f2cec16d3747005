/** The figures of `ProductionMetrics` as the page shows them: rounded, shares as percentages. */
import type {
  ProductionGlance,
  ProductionReport,
  ProductionSnapshot,
  Recommendation,
  RouteFigures,
  ScorePart,
  ScorePartName,
} from '../metrics/report.js';
import {
  type PageAdvice,
  type PageRoute,
  type PageScorePart,
  type PageSnapshot,
  rounded,
} from './snapshot.js';

/** The figures that each second is kept of, and the state of the server. @internal */
export interface PageGlance {
  readonly score: number | null;
  readonly minScore: number;
  readonly parts: readonly PageScorePart[];
  readonly advice: readonly PageAdvice[];
  readonly requests: Pick<NonNullable<PageSnapshot['requests']>, 'perSecond'>;
  readonly messages: NonNullable<PageSnapshot['messages']>;
  /** Requests of the last complete second by duration; empty before there is one. */
  readonly heat: readonly number[];
  /** Figures of the last ten seconds, for the charts. */
  readonly recent: {
    readonly errorsPerSecond: number;
    readonly p50Ms: number | null;
    readonly p95Ms: number | null;
    readonly p99Ms: number | null;
  };
}

/** @internal */
export interface PageMetrics extends PageGlance {
  readonly requests: NonNullable<PageSnapshot['requests']>;
  readonly budgets: NonNullable<PageSnapshot['budgets']>;
}

const NAMES: Readonly<Record<ScorePartName, string>> = {
  errors: 'Error rate',
  latency: 'Latency p95',
  loop: 'Loop delay p99',
  utilization: 'Loop busy',
  stalls: 'Time in stalls',
  stallCount: 'Stalls a minute',
  memory: 'Memory',
  cpu: 'CPU',
  saturation: 'Connections',
  failing: 'Failing',
  outOfMemory: 'OOM kills',
};
const ROUTES_SHOWN = 20;
const ADVICE_SHOWN = 12;

const percentOf = (share: number | null): number | null =>
  rounded(share === null ? null : share * 100);

function partOf(
  name: ScorePartName,
  { score, weight, observed, target, zeroAt, unit, cap, capEndsAt }: ScorePart,
): PageScorePart {
  const isShare = unit === 'share';
  return {
    id: name,
    name: NAMES[name],
    // Not rounded: the score of the page is the function of its parts that docs/kpi.md states.
    score,
    weight,
    observed: isShare ? percentOf(observed) : rounded(observed),
    target: isShare ? percentOf(target) : rounded(target),
    zeroAt: isShare ? percentOf(zeroAt) : rounded(zeroAt),
    unit: isShare || unit === 'percent' ? '%' : unit === 'count' ? '' : unit,
    cap,
    capEndsAt: capEndsAt === null ? null : Math.round(capEndsAt),
  };
}

/**
 * Turns a finding into advice. Its figure, such as `share of failed requests`, becomes `Failed
 * requests: 50 %`.
 */
function adviceOf({
  id,
  severity,
  figure,
  observed,
  threshold,
  action,
}: Recommendation): PageAdvice {
  const isShare = figure.startsWith('share ');
  const unit = isShare ? '%' : (/, (ms|MB)$/.exec(figure)?.[1] ?? '');
  const withUnit = (value: number): string =>
    `${rounded(isShare ? value * 100 : value)} ${unit}`.trim();
  const name = figure
    .replace(/^share of /, '')
    .replace(/, (?:ms|MB)$/, '')
    .replace(/^./, (first) => first.toUpperCase());
  return {
    id,
    severity,
    text: action,
    detail: `${name}: ${withUnit(observed)}${threshold === 0 ? '' : `, threshold ${withUnit(threshold)}`}`,
  };
}

const routeOf = ({
  route,
  method,
  requestsPerSecond,
  errorRate,
  latencyMs,
}: RouteFigures): PageRoute => ({
  route: `${method} ${route === '' ? 'without a pattern' : route}`.trim(),
  perSecond: rounded(requestsPerSecond) ?? 0,
  errorPercent: percentOf(errorRate),
  p50Ms: rounded(latencyMs?.p50),
  p99Ms: rounded(latencyMs?.p99),
});

const budgetsOf = (slo: ProductionReport['slo']): PageMetrics['budgets'] =>
  slo.map(({ id, objective, burnRate, remaining, alert }) => ({
    id,
    name: id === 'errors' ? 'without error' : 'in time',
    objectivePercent: objective * 100,
    leftPercent: percentOf(remaining),
    burn5m: rounded(burnRate['5m']),
    burn1h: rounded(burnRate['1h']),
    burn6h: rounded(burnRate['6h']),
    alert,
  }));

/** Returns the figures that the page takes from metrics. @internal */
export function pageMetricsOf(snapshot: ProductionSnapshot): PageMetrics {
  const glance = pageGlanceOf(snapshot);
  return {
    ...glance,
    requests: { ...requestsOf(snapshot), ...glance.requests },
    budgets: budgetsOf(snapshot.slo),
  };
}

/** Returns the figures that the page keeps of each second. @internal */
export function pageGlanceOf({
  metrics,
  scoreParts,
  targets,
  findings,
  windows,
  heat,
}: Omit<ProductionGlance, 'resources'>): PageGlance {
  const recent = windows['10s'];
  const seconds = Math.max(1, recent.coveredMs / 1000);
  const lastSecond = heat.seconds.at(-1) ?? [];
  return {
    score: metrics.healthScore,
    minScore: targets.minHealthScore,
    parts: (Object.keys(NAMES) as ScorePartName[]).map((name) => partOf(name, scoreParts[name])),
    advice: findings.slice(0, ADVICE_SHOWN).map(adviceOf),
    requests: { perSecond: lastSecond.reduce((sum, count) => sum + count, 0) },
    messages: {
      inPerSecond: rounded(recent.messagesIn / seconds) ?? 0,
      outPerSecond: rounded(recent.messagesOut / seconds) ?? 0,
      inBytesPerSecond: rounded(recent.bytesIn / seconds) ?? 0,
      outBytesPerSecond: rounded(recent.bytesOut / seconds) ?? 0,
    },
    heat: lastSecond,
    recent: {
      errorsPerSecond: recent.errors / seconds,
      p50Ms: rounded(recent.latencyMs?.p50),
      p95Ms: rounded(recent.latencyMs?.p95),
      p99Ms: rounded(recent.latencyMs?.p99),
    },
  };
}

function requestsOf({
  windows,
  latencyMs,
  apdex,
  inFlight,
  routes,
  metrics,
}: ProductionSnapshot): Omit<PageMetrics['requests'], 'perSecond'> {
  const minute = windows['1m'];
  return {
    errorPercent: minute.requests === 0 ? null : percentOf(minute.errorRate),
    inFlight,
    p50Ms: rounded(latencyMs?.p50),
    p95Ms: rounded(latencyMs?.p95),
    p99Ms: rounded(latencyMs?.p99),
    p999Ms: rounded(latencyMs?.p999),
    maxMs: rounded(latencyMs?.max),
    apdex: rounded(apdex),
    activeUsers: metrics.activeUsers,
    routes: routes.slice(0, ROUTES_SHOWN).map(routeOf),
  };
}
