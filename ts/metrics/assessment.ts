/**
 * Assessment of the service: the figures, judgements and budgets that report and exposition share.
 */
import { wallClockMs } from '../base/clock.js';
import { residentBytes } from '../resources/heap.js';
import type { ResourceSnapshot } from '../resources/figures.js';
import type { TimerManager } from '../timers/manager.js';
import { Conditions } from './conditions.js';
import { BURN_MINUTES, errorBudgetOf } from './error-budgets.js';
import {
  healthScore,
  type Observed,
  SAMPLES_MIN,
  scoreParts,
  targetResultsOf,
  unscored,
} from './health-score.js';
import { type Ledger, type Totals, WINDOW_MS } from './ledger.js';
import type { Settings } from './options.js';
import type {
  ErrorBudget,
  ProductionFigures,
  ScorePart,
  ScorePartName,
  TargetResult,
  WindowFigures,
} from './report.js';
import type { Sources } from './sources.js';

const MB = 2 ** 20;

function residentMb(): number | null {
  const bytes = residentBytes();
  return bytes === null ? null : bytes / MB;
}

/** @internal */
export interface Assessment {
  /** Figures of the option `window`. */
  readonly figures: WindowFigures;
  /** The monitor's snapshot; `undefined` without one. */
  readonly resources: ResourceSnapshot | undefined;
  readonly observed: Observed;
  readonly parts: Readonly<Record<ScorePartName, ScorePart>>;
  readonly budgets: readonly ErrorBudget[];
  readonly metrics: ProductionFigures;
  readonly targetResults: readonly TargetResult[];
}

/** @internal */
export class Assessor {
  readonly #settings: Settings;
  readonly #ledger: Ledger;
  readonly #sources: Sources;
  readonly #conditions: Conditions;

  constructor(settings: Settings, ledger: Ledger, sources: Sources, timers: TimerManager) {
    this.#settings = settings;
    this.#ledger = ledger;
    this.#sources = sources;
    this.#conditions = new Conditions(settings.monitor, timers);
  }

  /** Assesses the figures as they are now. @param activeUsers users of the last 15 minutes */
  assess(activeUsers: number): Assessment {
    const { targets, window, weights, monitor } = this.#settings;
    const resources = this.#conditions.resources();
    const figures = this.#ledger.window(window);
    const observed = this.#observe(figures, resources);
    // Without a monitor, memory is always known: alone it must not score a server without requests.
    const hasData = figures.requests > 0 || monitor !== undefined;
    const scored = scoreParts(observed, targets, weights);
    const parts = hasData ? scored : unscored(scored);
    const metrics: ProductionFigures = {
      averageResponseTime: observed.meanMs,
      requestsPerSecond: figures.requestsPerSecond,
      errorRate: figures.errorRate,
      memoryUsage: observed.memoryMb,
      cpuUsage: observed.cpuPercent,
      connectionCount: this.#sources.connections,
      activeUsers,
      messagesThroughput: figures.messagesPerSecond,
      healthScore: healthScore(parts),
    };
    const targetResults = targetResultsOf(metrics, targets);
    return {
      figures,
      resources,
      observed,
      parts,
      budgets: this.#budgets(),
      metrics,
      targetResults,
    };
  }

  #observe(figures: WindowFigures, resources: ResourceSnapshot | undefined): Observed {
    const { latencyMs, requests, refused } = figures;
    const arrivals = requests + refused;
    const at = wallClockMs();
    const windowMs = WINDOW_MS[this.#settings.window];
    return {
      at,
      windowEndsAt: windowMs === null ? null : at + windowMs,
      requests,
      errorRate: requests === 0 ? null : figures.errorRate,
      meanMs: latencyMs?.mean ?? null,
      p50Ms: latencyMs?.p50 ?? null,
      p95Ms: latencyMs?.p95 ?? null,
      p99Ms: latencyMs?.p99 ?? null,
      loopDelayMs: resources?.loop.delayMs?.p99 ?? null,
      utilization: resources?.loop.utilization10s ?? null,
      memoryMb: resources?.memory.rssMb ?? residentMb(),
      cpuPercent: resources?.cpu.percentOfAllowed ?? null,
      saturation: this.#sources.saturation,
      refusedShare: arrivals < SAMPLES_MIN ? null : refused / arrivals,
      ...this.#conditions.stalls(resources !== undefined && resources.loop.watch !== 'off'),
      kills: this.#conditions.kills(resources?.memory.oomKills ?? null),
      memoryState: resources?.state ?? 'ok',
      memoryPercent: resources?.memory.effectiveLimit?.percent ?? null,
      routesOverflowed: this.#ledger.overflowed,
      maxRoutes: this.#settings.maxRoutes,
    };
  }

  #budgets(): readonly ErrorBudget[] {
    const totals = Object.fromEntries(
      Object.entries(BURN_MINUTES).map(([name, minutes]) => [name, this.#ledger.totals(minutes)]),
    ) as Record<keyof typeof BURN_MINUTES, Totals>;
    const { targets, slowShare } = this.#settings;
    return [
      errorBudgetOf('errors', targets.maxErrorRate, totals),
      errorBudgetOf('latency', slowShare, totals),
    ];
  }
}
