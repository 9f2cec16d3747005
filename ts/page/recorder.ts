/** Looks at the server once a second, keeps the last ten minutes, and puts together what viewers see. */
import { wallClockMs } from '../base/clock.js';
import type { ConnectionManager } from '../connections/manager.js';
import type { WebSocketStats } from '../connections/open-sockets.js';
import type { ConnectionStats } from '../connections/stats.js';
import type { RequestStats } from '../http/limiter.js';
import { HEAT_EDGES_MS } from '../metrics/ledger.js';
import type { ProductionMetrics } from '../metrics/metrics.js';
import type { ChainReport } from '../middleware/contract.js';
import type { ResourceSnapshot, Stall } from '../resources/figures.js';
import type { ResourceMonitor } from '../resources/monitor.js';
import type { TimerManager } from '../timers/manager.js';
import { Journal } from './journal.js';
import { kpiOf, type PageKpi } from './metrics.js';
import {
  type PageAdvice,
  type PageCount,
  type PageHistory,
  type PageRow,
  type PageSnapshot,
  type PageStall,
  type PageState,
  short,
} from './snapshot.js';
import { Tally } from './tally.js';

/** What there is to be looked at; what is absent is not in use. */
export interface PageSources {
  readonly connections: ConnectionManager;
  readonly timers: TimerManager;
  /** Refusals of requests and WebSockets. */
  readonly stats?:
    | (() => {
        readonly requests: RequestStats | undefined;
        readonly websockets: WebSocketStats;
        readonly authDenials?: Readonly<Record<string, number>>;
        readonly invalidMessages?: Readonly<Record<string, number>>;
      })
    | undefined;
  readonly monitor?: ResourceMonitor | undefined;
  readonly metrics?: ProductionMetrics | undefined;
  readonly chain?: { report(): ChainReport } | undefined;
}

const ROWS_MAX = 600;
const STALLS_MAX = 64;
const STALLS_SHOWN = 4;
const NAMES_MAX = 12;
const TIMERS_LISTED_MAX = 10_000;
const runtime =
  process.versions['bun'] === undefined
    ? `Node ${process.versions.node}`
    : `Bun ${process.versions['bun']}`;

const finite = (limit: number | undefined): number | null =>
  limit === undefined || limit === Infinity ? null : limit;
const times = (count: number, what: string): string =>
  `${count.toLocaleString('en')} ${what}${count === 1 ? '' : 's'}`;

/** What the recorder remembers of the second before. */
interface Before {
  readonly connections: ConnectionStats;
  readonly refused: ReadonlyMap<string, number>;
  readonly state: PageState;
}

/** @internal */
export class Recorder {
  readonly #sources: PageSources;
  readonly #title: string;
  readonly #maxViewers: number;
  readonly #journal = new Journal();
  readonly #tally: Tally;
  readonly #rows: PageRow[] = [];
  readonly #heat: (readonly number[] | null)[] = [];
  #stalls: PageStall[] = [];
  #lastStall = 0;
  #lastCollectionAt = 0;
  #sequence = 0;
  #before: Before | undefined;
  #isDraining = false;
  readonly #startedAt: number;

  constructor(sources: PageSources, title: string, maxViewers: number) {
    this.#sources = sources;
    this.#title = title;
    this.#maxViewers = maxViewers;
    this.#tally = new Tally(sources.connections.connections);
    this.#startedAt = wallClockMs();
    this.#journal.add(this.#startedAt, 'server', 'info', `Page set up on ${runtime}`);
  }

  history(): PageHistory {
    return { rows: this.#rows, heat: this.#heat, stalls: this.#stalls, heatEdgesMs: HEAT_EDGES_MS };
  }

  /** The server refuses newcomers from now on. */
  drain(): void {
    if (this.#isDraining) return;
    this.#isDraining = true;
    this.#journal.add(wallClockMs(), 'server', 'warning', 'Draining: newcomers are refused');
  }

  /**
   * Looks once.
   * @param isSeen whether anybody looks: if not, what takes long is left out
   */
  look(viewers: number, denied: number, isSeen: boolean): PageSnapshot {
    const at = wallClockMs();
    const { connections: manager, monitor, metrics } = this.#sources;
    const connections = manager.snapshot();
    const resources = monitor?.snapshot();
    const kpi = metrics === undefined ? undefined : kpiOf(metrics.snapshot());
    const refusals = this.#refusals(connections);
    const [state, reason] = this.#stateOf(resources, kpi);
    this.#watchStalls(monitor);
    this.#watchCollections(resources);
    this.#watchCounts(at, connections, refusals, state, reason);
    const row = rowOf(at, connections, refusals, this.#before, resources, kpi);
    this.#before = {
      connections,
      refused: new Map(refusals.map(({ name, count }) => [name, count])),
      state,
    };
    this.#keep(row, kpi);
    if (!isSeen) this.#tally.reset();
    return {
      version: 1,
      sequence: ++this.#sequence,
      at,
      server: {
        title: this.#title,
        runtime,
        pid: process.pid,
        uptimeMs: Math.round(process.uptime() * 1000),
        viewers,
        maxViewers: this.#maxViewers,
        denied,
      },
      state,
      reason,
      health: kpi === undefined ? null : { score: kpi.score, parts: kpi.parts },
      advice: adviceOf(resources, kpi),
      requests: kpi?.requests ?? null,
      budgets: kpi?.burn ?? null,
      messages: kpi?.messages ?? null,
      connections: this.#connections(connections, isSeen, at),
      refusals,
      loop: loopOf(resources),
      memory: memoryOf(resources, monitor),
      cpu: cpuOf(resources),
      timers: this.#timers(isSeen),
      layers: this.#layers(),
      events: this.#journal.events,
      stalls: this.#stalls.slice(-STALLS_SHOWN),
      row,
      heat: kpi?.heat ?? null,
    };
  }

  /** The same look with what is left out while nobody looks, as it is now. */
  completed(look: PageSnapshot, viewers: number, denied: number): PageSnapshot {
    const stats = this.#sources.connections.snapshot();
    return {
      ...look,
      server: { ...look.server, viewers, denied },
      connections: this.#connections(stats, true, wallClockMs()),
      refusals: this.#refusals(stats),
      timers: this.#timers(true),
    };
  }

  #keep(row: PageRow, kpi: PageKpi | undefined): void {
    this.#rows.push(row);
    this.#heat.push(kpi?.heat ?? null);
    if (this.#rows.length <= ROWS_MAX) return;
    this.#rows.shift();
    this.#heat.shift();
  }

  #stateOf(
    resources: ResourceSnapshot | undefined,
    kpi: PageKpi | undefined,
  ): readonly [PageState, string] {
    if (this.#isDraining) return ['draining', 'Newcomers are refused; connections are being ended'];
    const percent = resources?.memory.effectiveLimit?.percent;
    const memory =
      percent === undefined ? 'Memory' : `Memory at ${Math.round(percent)} % of its limit`;
    if (resources?.state === 'critical') return ['critical', memory];
    const score = kpi?.score ?? null;
    const worst = kpi?.parts
      .filter((part) => part.score !== null)
      .toSorted((a, b) => a.score! - b.score!)[0];
    const why =
      worst === undefined
        ? ''
        : `${worst.name} ${short(worst.observed) ?? ''} ${worst.unit}, target ${short(worst.target) ?? ''} ${worst.unit}`;
    const grave = kpi?.advice.find(({ severity }) => severity === 'critical');
    if (score !== null && score < 50) return ['critical', grave?.detail ?? why];
    if (resources?.state === 'warning') return ['warning', memory];
    if (kpi !== undefined && score !== null && score < kpi.minScore) return ['warning', why];
    if (resources === undefined && kpi === undefined)
      return ['unknown', 'Neither a monitor nor metrics are in use'];
    return ['ok', ''];
  }

  #watchStalls(monitor: ResourceMonitor | undefined): void {
    for (const stall of monitor?.stalls() ?? []) {
      if (stall.id <= this.#lastStall) continue;
      this.#lastStall = stall.id;
      const { startedAt, durationMs, cause, label } = stall;
      this.#stalls.push({
        startedAt: Math.round(startedAt),
        durationMs: Math.round(durationMs),
        cause,
        label,
      });
      this.#journal.add(
        Math.round(startedAt),
        'stall',
        durationMs >= 1000 ? 'critical' : 'warning',
        stallText(stall),
      );
    }
    this.#stalls = this.#stalls.slice(-STALLS_MAX);
  }

  #watchCollections(resources: ResourceSnapshot | undefined): void {
    for (const { at, durationMs, freedMb } of resources?.collections ?? []) {
      if (at <= this.#lastCollectionAt) continue;
      this.#lastCollectionAt = at;
      this.#journal.add(
        Math.round(at),
        'collection',
        'info',
        `Garbage collected at critical memory: ${Math.round(freedMb)} MB freed in ${Math.round(durationMs)} ms`,
      );
    }
  }

  #watchCounts(
    at: number,
    now: ConnectionStats,
    refusals: readonly PageCount[],
    state: PageState,
    reason: string,
  ): void {
    const before = this.#before;
    if (before === undefined) return;
    for (const { name, count } of refusals) {
      const more = count - (before.refused.get(name) ?? 0);
      if (more > 0)
        this.#journal.count(
          at,
          'refused',
          name,
          more,
          (sum) => `${times(sum, 'refusal')}: ${name.replaceAll('_', ' ')}`,
        );
    }
    const evicted = now.evicted - before.connections.evicted;
    if (evicted > 0)
      this.#journal.count(
        at,
        'evicted',
        '',
        evicted,
        (sum) => `${times(sum, 'idle connection')} closed`,
      );
    if (state === before.state) return;
    const severity = state === 'critical' ? 'critical' : state === 'warning' ? 'warning' : 'info';
    if (state !== 'draining')
      this.#journal.add(
        at,
        'state',
        severity,
        `State ${before.state} → ${state}${reason === '' ? '' : `: ${reason}`}`,
      );
  }

  #refusals({ refused }: ConnectionStats): readonly PageCount[] {
    const stats = this.#sources.stats?.();
    const { pongTimeouts = 0, slowConsumers = 0, messagesTooLarge = 0 } = stats?.websockets ?? {};
    const all = [
      ...Object.entries(refused),
      ...Object.entries(stats?.authDenials ?? {}),
      ...Object.entries(stats?.invalidMessages ?? {}).map(
        ([name, count]) => [`message: ${name}`, count] as const,
      ),
      ...Object.entries(stats?.requests?.refused ?? {}).map(
        ([name, count]) => [`request: ${name}`, count] as const,
      ),
      ['socket: pong_timeout', pongTimeouts] as const,
      ['socket: slow_consumer', slowConsumers] as const,
      ['socket: message_too_large', messagesTooLarge] as const,
    ];
    return all
      .filter(([, count]) => count > 0)
      .map(([name, count]) => ({ name, count }))
      .sort((a, b) => b.count - a.count);
  }

  #connections(stats: ConnectionStats, isSeen: boolean, at: number): PageSnapshot['connections'] {
    const { limits } = stats;
    const found = isSeen ? this.#tally.step(at) : undefined;
    const open = this.#sources.connections.connections.size;
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

  #timers(isSeen: boolean): PageSnapshot['timers'] {
    const active = this.#sources.timers.getActiveTimersCount();
    // To list very many would hold up the loop.
    if (!isSeen || active > TIMERS_LISTED_MAX) return { active, byName: null };
    const names = new Map<string, number>();
    for (const { name = 'unnamed' } of this.#sources.timers.report().timers)
      names.set(name, (names.get(name) ?? 0) + 1);
    const byName = [...names]
      .map(([name, count]) => ({ name, count }))
      .sort((a, b) => b.count - a.count);
    return { active, byName: byName.slice(0, NAMES_MAX) };
  }

  #layers(): PageSnapshot['layers'] {
    const report = this.#sources.chain?.report();
    if (report === undefined) return null;
    return report.layers
      .slice(0, 32)
      .map(({ name, enabled, count, errors, timeouts, self, optional }) => ({
        name: name.slice(0, 64),
        enabled,
        count,
        // Of an optional layer they are counted apart, and all of them.
        errors: optional === null ? errors : optional.failures,
        timeouts,
        p50Ms: short(self?.p50Ms),
        p99Ms: short(self?.p99Ms),
        breaker: optional?.breaker ?? null,
      }));
  }
}

function stallText({ durationMs, cause, systemCall, label }: Stall): string {
  const how = {
    busy: 'busy on the CPU',
    blocked: 'blocked in a system call',
    starved: 'waiting for a CPU',
    throttled: 'CPU quota used up',
    unknown: 'cause unknown',
  };
  const where = label === null ? '' : `, in ${label}`;
  return `Event loop blocked for ${Math.round(durationMs)} ms: ${how[cause]}${systemCall === null ? '' : ` (${systemCall})`}${where}`;
}

function rowOf(
  at: number,
  connections: ConnectionStats,
  refusals: readonly PageCount[],
  before: Before | undefined,
  resources: ResourceSnapshot | undefined,
  kpi: PageKpi | undefined,
): PageRow {
  const refused = refusals.reduce(
    (sum, { name, count }) => sum + count - (before?.refused.get(name) ?? 0),
    0,
  );
  const { effectiveLimit = null, rssMb = null } = resources?.memory ?? {};
  const { utilization = null, delayMs = null } = resources?.loop ?? {};
  return [
    at,
    kpi?.requests.perSecond ?? null,
    short(kpi?.recent.errorsPerSecond),
    kpi?.recent.p50Ms ?? null,
    kpi?.recent.p95Ms ?? null,
    kpi?.recent.p99Ms ?? null,
    short(kpi?.messages.inPerSecond),
    short(kpi?.messages.outPerSecond),
    connections.totalConnections,
    before === undefined ? null : connections.admitted - before.connections.admitted,
    before === undefined ? null : refused,
    short(delayMs?.p50),
    short(delayMs?.p99),
    short(utilization === null ? null : utilization * 100),
    short(effectiveLimit?.usedMb),
    short(rssMb),
    short(effectiveLimit?.limitMb),
    short(resources?.cpu.percentOfAllowed),
    short(resources?.cpu.jsThreadPercent),
    short(kpi?.score),
  ];
}

function adviceOf(
  resources: ResourceSnapshot | undefined,
  kpi: PageKpi | undefined,
): readonly PageAdvice[] | null {
  if (kpi !== undefined) return kpi.advice;
  if (resources === undefined) return null;
  const { effectiveLimit } = resources.memory;
  if (resources.state === 'ok' || effectiveLimit === null) return [];
  const detail = `${Math.round(effectiveLimit.usedMb)} of ${Math.round(effectiveLimit.limitMb)} MB (${effectiveLimit.source})`;
  return [
    {
      id: 'memory',
      severity: resources.state,
      text: 'Investigate memory leaks and increase GC frequency',
      detail,
    },
  ];
}

function loopOf(resources: ResourceSnapshot | undefined): PageSnapshot['loop'] {
  if (resources === undefined) return null;
  const { delayMs, utilization, stalls, watch } = resources.loop;
  return {
    p50Ms: short(delayMs?.p50),
    p99Ms: short(delayMs?.p99),
    maxMs: short(delayMs?.max),
    utilizationPercent: short(utilization === null ? null : utilization * 100),
    stalls,
    watch,
  };
}

function memoryOf(
  resources: ResourceSnapshot | undefined,
  monitor: ResourceMonitor | undefined,
): PageSnapshot['memory'] {
  if (resources === undefined || monitor === undefined) return null;
  const { rssMb, heapUsedMb, effectiveLimit } = resources.memory;
  return {
    rssMb: short(rssMb),
    heapUsedMb: short(heapUsedMb) ?? 0,
    usedMb: short(effectiveLimit?.usedMb),
    limitMb: short(effectiveLimit?.limitMb),
    limitSource: effectiveLimit?.source ?? null,
    percent: short(effectiveLimit?.percent),
    warningPercent: monitor.memoryLimits.warningThreshold,
    criticalPercent: monitor.memoryLimits.criticalThreshold,
  };
}

function cpuOf(resources: ResourceSnapshot | undefined): PageSnapshot['cpu'] {
  if (resources === undefined) return null;
  const { percentOfAllowed, jsThreadPercent, allowedCpus, throttledPercent } = resources.cpu;
  return {
    percent: short(percentOfAllowed),
    jsThreadPercent: short(jsThreadPercent),
    allowedCpus: short(allowedCpus),
    throttledPercent: short(throttledPercent),
  };
}
