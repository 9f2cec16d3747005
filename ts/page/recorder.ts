/**
 * Looks at the server once a second, builds the snapshot that viewers see, and keeps ten minutes of
 * rows.
 */
import { wallClockMs } from '../base/clock.js';
import type { ConnectionManager } from '../connections/manager.js';
import type { ConnectionStats } from '../connections/stats.js';
import { HEAT_EDGES_MS } from '../metrics/ledger.js';
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
import type { ClientNames } from './mask.js';
import { type PageMetrics, pageMetricsOf } from './metrics.js';
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

  /**
   * Looks at all sources once; called once a second.
   * @param viewers open streams
   * @param denied refused requests for the page
   * @param isSeen false without viewers: the slow parts (scan of connections, list of timers) are
   *   left out
   */
  look(viewers: number, denied: number, isSeen: boolean): PageSnapshot {
    const at = wallClockMs();
    const { connections: manager, timers, monitor, metrics, chain } = this.#sources;
    const connections = manager.getStats();
    const resources = monitor?.snapshot();
    const figures = metrics === undefined ? undefined : pageMetricsOf(metrics.snapshot());
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
    if (!isSeen) this.#scan.reset();
    return {
      version: 1,
      sequence: ++this.#sequence,
      at,
      server: this.#server(viewers, denied),
      state,
      reason,
      health: figures === undefined ? null : { score: figures.score, parts: figures.parts },
      advice: adviceOf(resources, figures),
      requests: figures?.requests ?? null,
      budgets: figures?.budgets ?? null,
      messages: figures?.messages ?? null,
      connections: this.#connections(connections, isSeen, at),
      bans: bansOf(manager, connections, isSeen, this.#names),
      cluster: this.#cluster.look(isSeen),
      refusals,
      loop: loopOf(resources),
      shedding: sheddingOf(pressure),
      memory: memoryOf(resources, monitor),
      cpu: cpuOf(resources),
      timers: timersOf(timers, isSeen),
      layers: layersOf(chain?.snapshot()),
      events: this.#events.all,
      stalls: this.#events.stalls.slice(-STALLS_SHOWN),
      row,
      heat: figures?.heat ?? null,
    };
  }

  /**
   * Completes an unseen snapshot for its first viewer: with the slow parts and the current counts
   * of connections.
   */
  completed(snapshot: PageSnapshot, viewers: number, denied: number): PageSnapshot {
    const stats = this.#sources.connections.getStats();
    return {
      ...snapshot,
      server: { ...snapshot.server, viewers, denied },
      connections: this.#connections(stats, true, wallClockMs()),
      bans: bansOf(this.#sources.connections, stats, true, this.#names),
      cluster: this.#cluster.look(true),
      refusals: refusalsOf(stats, this.#sources.stats?.()),
      timers: timersOf(this.#sources.timers, true),
    };
  }

  #state(
    resources: ResourceSnapshot | undefined,
    metrics: PageMetrics | undefined,
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

  #keep(row: PageRow, metrics: PageMetrics | undefined): void {
    this.#rows.push(row);
    this.#heat.push(metrics?.heat ?? null);
    if (this.#rows.length <= ROWS_MAX) return;
    this.#rows.shift();
    this.#heat.shift();
  }
}
