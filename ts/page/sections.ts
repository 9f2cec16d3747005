/** Sections of a page snapshot, each built from the figures of one source. */
import type { ConnectionStats } from '../connections/stats.js';
import type { WebSocketStats } from '../connections/open-sockets.js';
import type { RequestStats } from '../http/request-limiter.js';
import type { ChainSnapshot } from '../middleware/contract.js';
import type { ResourceSnapshot } from '../resources/figures.js';
import type { ResourceMonitor } from '../resources/monitor.js';
import type { PressureFigures } from '../resources/pressure.js';
import type { TimerManager } from '../timers/manager.js';
import type { ConnectionScan } from './connection-scan.js';
import type { PageGlance } from './metrics.js';
import {
  type PageAdvice,
  type PageCount,
  type PageRow,
  type PageSnapshot,
  rounded,
} from './snapshot.js';

/** Refusals that a guard counts beside those of its manager. */
export interface GuardRefusals {
  /** Requests; `undefined` if they are not limited. */
  readonly requests: RequestStats | undefined;
  /** Sockets. */
  readonly websockets: WebSocketStats;
  /** Upgrades refused by authentication, by code. Default: none. */
  readonly authDenials?: Readonly<Record<string, number>>;
  /** Refused messages, by code. Default: none. */
  readonly invalidMessages?: Readonly<Record<string, number>>;
}

const LAYERS_SHOWN = 32;
const LAYER_NAME_SHOWN = 64;
const TIMER_NAMES_SHOWN = 12;
/** Listing more timers than this would hold the event loop for milliseconds. */
const TIMERS_LISTED_MAX = 10_000;

const finite = (limit: number | undefined): number | null =>
  limit === undefined || limit === Infinity ? null : limit;
const percentOf = (share: number | null): number | null =>
  rounded(share === null ? null : share * 100);

function sorted(counts: Iterable<readonly [name: string, count: number]>): PageCount[] {
  return Array.from(counts, ([name, count]) => ({ name, count })).sort((a, b) => b.count - a.count);
}

function prefixed(prefix: string, counts: object | undefined): [string, number][] {
  return Object.entries(counts ?? {}).map(([name, count]) => [`${prefix}: ${name}`, count]);
}

/** Returns all refusals by reason, the most frequent first. @internal */
export function refusalsOf(
  { refused }: ConnectionStats,
  guard: GuardRefusals | undefined,
): readonly PageCount[] {
  const { pongTimeouts = 0, slowConsumers = 0, messagesTooLarge = 0 } = guard?.websockets ?? {};
  const all: [string, number][] = [
    ...Object.entries(refused),
    ...Object.entries(guard?.authDenials ?? {}),
    ...prefixed('message', guard?.invalidMessages),
    ...prefixed('request', guard?.requests?.refused),
    ['socket: pong_timeout', pongTimeouts],
    ['socket: slow_consumer', slowConsumers],
    ['socket: message_too_large', messagesTooLarge],
  ];
  return sorted(all.filter(([, count]) => count > 0));
}

/**
 * Returns the section of connections.
 * @param open connections of this thread
 * @param found result of the last scan; `undefined` without viewers
 * @internal
 */
export function connectionsOf(
  stats: ConnectionStats,
  open: number,
  found: ReturnType<ConnectionScan['step']>,
): PageSnapshot['connections'] {
  const { limits } = stats;
  return {
    total: stats.totalConnections,
    addresses: stats.connectionsByIp,
    users: stats.connectionsByUser,
    anonymous: stats.anonymousConnections,
    admitted: stats.admitted,
    evicted: stats.evicted,
    messagesOverRate: stats.messagesOverRate,
    maxTotal: finite(limits.maxTotalConnections),
    maxPerIp: finite(limits.maxConnectionsPerIp),
    maxPerUser: finite(limits.maxConnectionsPerUser),
    states:
      found === undefined
        ? null
        : {
            opening: Math.max(0, stats.totalConnections - open),
            active: found.active,
            quiet: found.quiet,
          },
    topAddresses: found?.topAddresses ?? null,
    topUsers: found?.topUsers ?? null,
    topError: found?.topError ?? 0,
  };
}

/** Returns the section of timers. @param isSeen false leaves out the list by name @internal */
export function timersOf(timers: TimerManager, isSeen: boolean): PageSnapshot['timers'] {
  const active = timers.getActiveTimersCount();
  if (!isSeen || active > TIMERS_LISTED_MAX) return { active, byName: null };
  const counts = new Map<string, number>();
  for (const { name = 'unnamed' } of timers.snapshot().timers)
    counts.set(name, (counts.get(name) ?? 0) + 1);
  return { active, byName: sorted(counts).slice(0, TIMER_NAMES_SHOWN) };
}

/** Returns the section of middleware layers. @internal */
export function layersOf(chain: ChainSnapshot | undefined): PageSnapshot['layers'] {
  if (chain === undefined) return null;
  return chain.layers
    .slice(0, LAYERS_SHOWN)
    .map(({ name, enabled, count, errors, timeouts, self, optional }) => ({
      name: name.slice(0, LAYER_NAME_SHOWN),
      enabled,
      count,
      // The failures of an optional layer are counted apart.
      errors: optional === null ? errors : optional.failures,
      timeouts,
      p50Ms: rounded(self?.p50Ms),
      p99Ms: rounded(self?.p99Ms),
      breaker: optional?.breaker ?? null,
    }));
}

/**
 * Returns the recommended actions: those of the metrics, or the monitor's about memory.
 * @internal
 */
export function adviceOf(
  resources: ResourceSnapshot | undefined,
  metrics: PageGlance | undefined,
): readonly PageAdvice[] | null {
  if (metrics !== undefined) return metrics.advice;
  if (resources === undefined) return null;
  const { effectiveLimit } = resources.memory;
  if (resources.state === 'ok' || effectiveLimit === null) return [];
  const { usedMb, limitMb, source } = effectiveLimit;
  return [
    {
      id: 'memory',
      severity: resources.state,
      text: 'Investigate memory leaks and increase GC frequency',
      detail: `${Math.round(usedMb)} of ${Math.round(limitMb)} MB (${source})`,
    },
  ];
}

/** Returns the section of the event loop. @internal */
export function loopOf(resources: ResourceSnapshot | undefined): PageSnapshot['loop'] {
  if (resources === undefined) return null;
  const { delayMs, utilization, stalls, watch } = resources.loop;
  return {
    p50Ms: rounded(delayMs?.p50),
    p99Ms: rounded(delayMs?.p99),
    maxMs: rounded(delayMs?.max),
    utilizationPercent: percentOf(utilization),
    stalls,
    watch,
  };
}

/** Units of the causes of shedding, and the factor from their figures. */
const SHEDDING_UNITS: Readonly<Record<string, readonly [unit: '%' | 'ms', factor: number]>> = {
  memory: ['%', 1],
  event_loop_delay: ['ms', 1],
  event_loop_utilization: ['%', 100],
};

/** Returns the section of load shedding. @internal */
export function sheddingOf(pressure: PressureFigures | undefined): PageSnapshot['shedding'] {
  if (pressure === undefined || pressure.limits.length === 0) return null;
  const { share, limits, refused } = pressure;
  return {
    percent: percentOf(share) ?? 0,
    causes: limits.map(({ cause, limit, value, share, since }) => {
      const [unit = null, factor = 1] = SHEDDING_UNITS[cause] ?? [];
      const figure = (given: number | null): number | null =>
        rounded(given === null ? null : given * factor);
      return {
        name: cause,
        unit,
        value: figure(value),
        limit: figure(limit),
        percent: percentOf(share) ?? 0,
        since: since === null ? null : Math.round(since),
        refused: refused[cause] ?? 0,
      };
    }),
  };
}

/** Returns the section of memory. @internal */
export function memoryOf(
  resources: ResourceSnapshot | undefined,
  monitor: ResourceMonitor | undefined,
): PageSnapshot['memory'] {
  if (resources === undefined || monitor === undefined) return null;
  const { rssMb, heapUsedMb, effectiveLimit } = resources.memory;
  return {
    rssMb: rounded(rssMb),
    heapUsedMb: rounded(heapUsedMb) ?? 0,
    usedMb: rounded(effectiveLimit?.usedMb),
    limitMb: rounded(effectiveLimit?.limitMb),
    limitSource: effectiveLimit?.source ?? null,
    percent: rounded(effectiveLimit?.percent),
    warningPercent: monitor.memoryLimits.warningThreshold,
    criticalPercent: monitor.memoryLimits.criticalThreshold,
  };
}

/** Returns the section of the CPU. @internal */
export function cpuOf(resources: ResourceSnapshot | undefined): PageSnapshot['cpu'] {
  if (resources === undefined) return null;
  const { percentOfAllowed, jsThreadPercent, allowedCpus, throttledPercent } = resources.cpu;
  return {
    percent: rounded(percentOfAllowed),
    jsThreadPercent: rounded(jsThreadPercent),
    allowedCpus: rounded(allowedCpus),
    throttledPercent: rounded(throttledPercent),
  };
}

/**
 * Returns one row of the charts, in the order of `PAGE_COLUMNS`.
 * @param admitted connections admitted in the last second; `null` in the first row
 * @param refused refusals in the last second; `null` in the first row
 * @internal
 */
export function rowOf(
  at: number,
  total: number,
  admitted: number | null,
  refused: number | null,
  resources: ResourceSnapshot | undefined,
  metrics: PageGlance | undefined,
): PageRow {
  const { effectiveLimit = null, rssMb = null } = resources?.memory ?? {};
  const { utilization = null, delayMs = null } = resources?.loop ?? {};
  return [
    at,
    metrics?.requests.perSecond ?? null,
    rounded(metrics?.recent.errorsPerSecond),
    metrics?.recent.p50Ms ?? null,
    metrics?.recent.p95Ms ?? null,
    metrics?.recent.p99Ms ?? null,
    rounded(metrics?.messages.inPerSecond),
    rounded(metrics?.messages.outPerSecond),
    total,
    admitted,
    refused,
    rounded(delayMs?.p50),
    rounded(delayMs?.p99),
    percentOf(utilization),
    rounded(effectiveLimit?.usedMb),
    rounded(rssMb),
    rounded(effectiveLimit?.limitMb),
    rounded(resources?.cpu.percentOfAllowed),
    rounded(resources?.cpu.jsThreadPercent),
    rounded(metrics?.score),
  ];
}
