/**
 * Looks at the server once a second, builds the snapshot that viewers see, and keeps ten minutes of
 * rows. While nobody looks it only glances: at the figures of the row, the state and the events.
 */
import { wallClockMs } from '../base/clock.js';
import type { ConnectionManager } from '../connections/manager.js';
import type { ConnectionStats } from '../connections/stats.js';
import { HEAT_EDGES_MS } from '../metrics/heat-edges.js';
import type { ProductionMetrics } from '../metrics/metrics.js';
import type { ChainSnapshot } from '../middleware/contract.js';
import type { ResourceSnapshot } from '../resources/figures.js';
import type { ResourceMonitor } from '../resources/monitor.js';
import type { PressureFigures } from '../resources/pressure.js';
import type { TimerManager } from '../timers/manager.js';
import { bansOf } from './bans.js';
import { ClusterWatch } from './cluster-watch.js';
import { ConnectionScan } from './connection-scan.js';
import { PageEvents } from './events.js';
import { limitersOf, type PageLimiter } from './limiters.js';
import type { ClientNames } from './mask.js';
import { type PageGlance, pageGlanceOf, type PageMetrics, pageMetricsOf } from './metrics.js';
import {
  adviceOf,
  connectionsOf,
  cpuOf,
  type GuardRefusals,
  layersOf,
  loopOf,
  memoryOf,
  refusalsOf,
  rowOf,
  sheddingOf,
  timersOf,
} from './sections.js';
import type { PageHistory, PageRow, PageSnapshot, PageState } from './snapshot.js';
import { stateOf } from './state.js';

/** Sources of a page that adapters provide. */
export interface PageSources {
  /** Connections to show. */
  readonly connections: ConnectionManager;
  /** Timers to show. One of them drives the page; the manager's `close()` closes it. */
  readonly timers: TimerManager;
  /** Returns refusals of requests, sockets and messages. Default: none are shown. */
  readonly stats?: (() => GuardRefusals) | undefined;
  /** Returns rate limiters to show, beside those that the metrics know. Default: none. */
  readonly limiters?: (() => readonly PageLimiter[]) | undefined;
}

/** All sources of a page; absent ones are not in use. @internal */
export interface RecorderSources extends PageSources {
  readonly monitor?: ResourceMonitor | undefined;
  readonly metrics?: ProductionMetrics | undefined;
  readonly chain?: { snapshot(): ChainSnapshot } | undefined;
}

/** Rows of the charts: ten minutes. */
const ROWS_MAX = 600;
const STALLS_SHOWN = 4;

/** The figures of one second, which stay after it. */
type Moment = Pick<
  PageSnapshot,
  'sequence' | 'at' | 'state' | 'reason' | 'refusals' | 'row' | 'heat'
>;

const { bun, node } = process.versions as { readonly bun?: string; readonly node: string };
const runtime = bun === undefined ? `Node ${node}` : `Bun ${bun}`;

/** @internal */
export class Recorder {
  readonly #sources: RecorderSources;
  readonly #title: string;
  readonly #maxViewers: number;
  readonly #events = new PageEvents();
  readonly #scan: ConnectionScan;
  readonly #cluster: ClusterWatch;
  readonly #names: ClientNames;
  readonly #rows: PageRow[] = [];
  readonly #heat: (readonly number[] | null)[] = [];
  #sequence = 0;
  #moment: Moment | undefined;
  #isDraining = false;

  constructor(sources: RecorderSources, title: string, maxViewers: number, names: ClientNames) {
    this.#sources = sources;
    this.#title = title;
    this.#maxViewers = maxViewers;
    this.#scan = new ConnectionScan(sources.connections.connections, names);
    this.#cluster = new ClusterWatch(sources.connections);
    this.#names = names;
    this.#events.addServerEvent(wallClockMs(), 'info', `Page set up on ${runtime}`);
  }

  /** Returns the rows, heat map and stalls of the last ten minutes. */
  history(): PageHistory {
    return {
      rows: this.#rows,
      heat: this.#heat,
      stalls: this.#events.stalls,
      heatEdgesMs: HEAT_EDGES_MS,
    };
  }

  /** Notes that the server refuses newcomers from now on. */
  drain(): void {
    if (this.#isDraining) return;
    this.#isDraining = true;
    this.#events.addServerEvent(wallClockMs(), 'warning', 'Draining: newcomers are refused');
  }

  /** Looks at the sources of the row, the state and the events; called once a second without viewers. */
  glance(): void {
    const { metrics, monitor } = this.#sources;
    const glance = metrics?.glance();
    // The monitor of the metrics is that of the page, as a rule, and costs more than all others.
    const resources = metrics?.monitor === monitor ? glance?.resources : monitor?.snapshot();
    this.#note(
      this.#sources.connections.getStats(),
      resources,
      glance === undefined ? undefined : pageGlanceOf(glance),
    );
    this.#scan.reset();
  }

  /**
   * Looks at all sources; called once a second.
   * @param viewers open streams
   * @param denied refused requests for the page
   * @param isSeen false without viewers: the slow parts (scan of connections, list of timers) are
   *   left out
   */
  look(viewers: number, denied: number, isSeen: boolean): PageSnapshot {
    const { connections: manager, monitor, metrics } = this.#sources;
    const connections = manager.getStats();
    const resources = monitor?.snapshot();
    const figures = metrics === undefined ? undefined : pageMetricsOf(metrics.snapshot());
    const moment = this.#note(connections, resources, figures);
    if (!isSeen) this.#scan.reset();
    return this.#shown(moment, connections, resources, figures, viewers, denied, isSeen);
  }

  /** Notes the state, the events and the row of this second. */
  #note(
    connections: ConnectionStats,
    resources: ResourceSnapshot | undefined,
    figures: PageGlance | undefined,
  ): Moment {
    const at = wallClockMs();
    const { monitor } = this.#sources;
    const refusals = refusalsOf(connections, this.#sources.stats?.());
    const pressure = monitor?.pressure();
    const [state, reason] = this.#state(resources, figures, pressure);
    this.#events.addStalls(monitor?.stalls() ?? []);
    this.#events.addCollections(resources?.collections ?? []);
    const changes = this.#events.addChanges(at, connections, refusals, state, reason);
    const { totalConnections } = connections;
    const { admitted, refused } = changes;
    const row = rowOf(at, totalConnections, admitted, refused, resources, figures);
    this.#keep(row, figures);
    const heat = figures?.heat ?? null;
    return (this.#moment = { sequence: ++this.#sequence, at, state, reason, refusals, row, heat });
  }

  /** Returns all figures of the latest second. */
  #shown(
    moment: Moment,
    connections: ConnectionStats,
    resources: ResourceSnapshot | undefined,
    figures: PageMetrics | undefined,
    viewers: number,
    denied: number,
    isSeen: boolean,
  ): PageSnapshot {
    const { timers, monitor, chain } = this.#sources;
    return {
      version: 1,
      ...moment,
      server: this.#server(viewers, denied),
      health: figures === undefined ? null : { score: figures.score, parts: figures.parts },
      advice: adviceOf(resources, figures),
      requests: figures?.requests ?? null,
      budgets: figures?.budgets ?? null,
      messages: figures?.messages ?? null,
      connections: this.#connections(connections, isSeen, wallClockMs()),
      bans: bansOf(this.#sources.connections, connections, isSeen, this.#names),
      limiters: limitersOf(this.#limiters(), isSeen, wallClockMs(), this.#names),
      cluster: this.#cluster.look(isSeen),
      loop: loopOf(resources),
      shedding: sheddingOf(monitor?.pressure()),
      memory: memoryOf(resources, monitor),
      cpu: cpuOf(resources),
      timers: timersOf(timers, isSeen),
      layers: layersOf(chain?.snapshot()),
      events: this.#events.all,
      stalls: this.#events.stalls.slice(-STALLS_SHOWN),
    };
  }

  /**
   * Completes the latest second, at which nobody looked, by the figures as they are now.
   * @param isSeen as in `look`
   */
  completed(viewers: number, denied: number, isSeen: boolean): PageSnapshot {
    if (this.#moment === undefined) return this.look(viewers, denied, isSeen);
    const { connections: manager, monitor, metrics } = this.#sources;
    const connections = manager.getStats();
    const moment = { ...this.#moment, refusals: refusalsOf(connections, this.#sources.stats?.()) };
    const figures = metrics === undefined ? undefined : pageMetricsOf(metrics.snapshot());
    const resources = monitor?.snapshot();
    return this.#shown(moment, connections, resources, figures, viewers, denied, isSeen);
  }

  #state(
    resources: ResourceSnapshot | undefined,
    metrics: PageGlance | undefined,
    pressure: PressureFigures | undefined,
  ): readonly [PageState, string] {
    if (this.#isDraining)
      return ['draining', 'Newcomers are refused; connections are being closed'];
    return stateOf(resources, metrics, pressure);
  }

  #server(viewers: number, denied: number): PageSnapshot['server'] {
    return {
      title: this.#title,
      runtime,
      pid: process.pid,
      uptimeMs: Math.round(process.uptime() * 1000),
      viewers,
      maxViewers: this.#maxViewers,
      denied,
    };
  }

  #connections(stats: ConnectionStats, isSeen: boolean, at: number): PageSnapshot['connections'] {
    const { size } = this.#sources.connections.connections;
    return connectionsOf(stats, size, isSeen ? this.#scan.step(at) : undefined);
  }

  *#limiters(): Generator<PageLimiter> {
    const { metrics, limiters } = this.#sources;
    for (const [limiter, label] of metrics?.attachedLimiters() ?? []) yield { limiter, label };
    yield* limiters?.() ?? [];
  }

  #keep(row: PageRow, metrics: PageGlance | undefined): void {
    this.#rows.push(row);
    this.#heat.push(metrics?.heat ?? null);
    if (this.#rows.length <= ROWS_MAX) return;
    this.#rows.shift();
    this.#heat.shift();
  }
}
