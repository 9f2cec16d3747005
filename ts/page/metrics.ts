/** What the page takes from metrics, in its own words. */
import type {
  ProductionReport,
  ProductionSnapshot,
  Recommendation,
  ScorePart,
  ScorePartName,
} from '../metrics/report.js';
import { type PageAdvice, type PageScorePart, type PageSnapshot, short } from './snapshot.js';

/** Metrics, as the page sees them. @internal */
export interface PageKpi {
  readonly score: number | null;
  readonly minScore: number;
  readonly parts: readonly PageScorePart[];
  readonly advice: readonly PageAdvice[];
  readonly requests: NonNullable<PageSnapshot['requests']>;
  readonly messages: NonNullable<PageSnapshot['messages']>;
  readonly burn: NonNullable<PageSnapshot['budgets']>;
  /** Requests of the last whole second by their latency; empty before there is one. */
  readonly heat: readonly number[];
  /** Of the last ten seconds. */
  readonly recent: {
    readonly errorsPerSecond: number;
    readonly p50Ms: number | null;
    readonly p95Ms: number | null;
    readonly p99Ms: number | null;
  };
}

const NAMES: Readonly<Record<ScorePartName, string>> = {
  errors: 'Error rate',
  latency: 'Latency p95',
  loop: 'Loop delay p99',
  memory: 'Memory',
  cpu: 'CPU',
  saturation: 'Connections',
};
const ROUTES_SHOWN = 20;

const percentOf = (share: number | null): number | null =>
  short(share === null ? null : share * 100);

function partOf(
  name: ScorePartName,
  { score, weight, observed, target, unit }: ScorePart,
): PageScorePart {
  const isShare = unit === 'share';
  return {
    id: name,
    name: NAMES[name],
    score: short(score),
    weight,
    observed: isShare ? percentOf(observed) : short(observed),
    target: isShare ? percentOf(target) : short(target),
    unit: isShare || unit === 'percent' ? '%' : unit,
  };
}

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
  const said = (value: number): string => `${short(isShare ? value * 100 : value)} ${unit}`.trim();
  const text = figure
    .replace(/^share of /, '')
    .replace(/, (?:ms|MB)$/, '')
    .replace(/^./, (first) => first.toUpperCase());
  return {
    id,
    severity,
    text: action,
    detail: `${text}: ${said(observed)}${threshold === 0 ? '' : `, threshold ${said(threshold)}`}`,
  };
}

function budgetsOf(slo: ProductionReport['slo']): PageKpi['burn'] {
  return slo.map(({ id, objective, burnRate, remaining, alert }) => ({
    id,
    name: id === 'errors' ? 'without error' : 'in time',
    objectivePercent: objective * 100,
    leftPercent: percentOf(remaining),
    burn5m: short(burnRate['5m']),
    burn1h: short(burnRate['1h']),
    burn6h: short(burnRate['6h']),
    alert,
  }));
}

/** @internal */
export function kpiOf(snapshot: ProductionSnapshot): PageKpi {
  const {
    metrics,
    targets,
    scoreParts,
    findings,
    windows,
    latencyMs,
    apdex,
    inFlight,
    routes,
    heat,
    slo,
  } = snapshot;
  const [recent, minute] = [windows['10s'], windows['1m']];
  const seconds = Math.max(1, recent.coveredMs / 1000);
  const second = heat.seconds.at(-1) ?? [];
  return {
    score: short(metrics.healthScore),
    minScore: targets.minHealthScore,
    parts: (Object.keys(NAMES) as ScorePartName[]).map((name) => partOf(name, scoreParts[name])),
    advice: findings.slice(0, 12).map(adviceOf),
    requests: {
      perSecond: second.reduce((sum, count) => sum + count, 0),
      errorPercent: minute.requests === 0 ? null : percentOf(minute.errorRate),
      inFlight,
      p50Ms: short(latencyMs?.p50),
      p95Ms: short(latencyMs?.p95),
      p99Ms: short(latencyMs?.p99),
      p999Ms: short(latencyMs?.p999),
      maxMs: short(latencyMs?.max),
      apdex: short(apdex),
      activeUsers: metrics.activeUsers,
      routes: routes
        .slice(0, ROUTES_SHOWN)
        .map(({ route, method, requestsPerSecond, errorRate, latencyMs: latency }) => ({
          route: `${method} ${route === '' ? 'without a pattern' : route}`.trim(),
          perSecond: short(requestsPerSecond) ?? 0,
          errorPercent: percentOf(errorRate),
          p50Ms: short(latency?.p50),
          p99Ms: short(latency?.p99),
        })),
    },
    messages: {
      inPerSecond: short(recent.messagesIn / seconds) ?? 0,
      outPerSecond: short(recent.messagesOut / seconds) ?? 0,
      inBytesPerSecond: short(recent.bytesIn / seconds) ?? 0,
      outBytesPerSecond: short(recent.bytesOut / seconds) ?? 0,
    },
    burn: budgetsOf(slo),
    heat: second,
    recent: {
      errorsPerSecond: recent.errors / seconds,
      p50Ms: short(recent.latencyMs?.p50),
      p95Ms: short(recent.latencyMs?.p95),
      p99Ms: short(recent.latencyMs?.p99),
    },
  };
}
