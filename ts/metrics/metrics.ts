/**
 * What the server does, counted as it happens; how healthy that is; what to do about it. The counting, its windows and its judging
 * are elsewhere: this is long for the methods that are public, and for the one list of figures that report and exposition share.
 */
import { wallClockMs } from '../base/clock.js';
import { outOfRange, wrongType } from '../base/errors.js';
import { wholeNumber } from '../base/options.js';
import type { ConnectionManager } from '../connections/manager.js';
import { createUsers } from '../native/addon.js';
import type { ResourceSnapshot } from '../resources/figures.js';
import { processStartMs, residentBytes } from '../resources/heap.js';
import type { TimerHandle } from '../timers/handle.js';
import { TimerManager } from '../timers/manager.js';
import { Conditions } from './conditions.js';
import { exposed, type ExpositionOptions, namingOf, type Sample } from './exposition.js';
import {
  budgetOf,
  BURN_MINUTES,
  findingsOf,
  healthScore,
  isHealthy,
  type Observed,
  resultsOf,
  SAMPLES_MIN,
  scoreParts,
} from './health.js';
import {
  HEAT_EDGES_MS,
  IN,
  Ledger,
  OTHER_ERRORS,
  OUT,
  REFUSED,
  type Totals,
  WINDOWS,
} from './ledger.js';
import { type ProductionMetricsOptions, type Settings, settingsOf } from './options.js';
import type {
  ErrorBudget,
  ProductionFigures,
  ProductionReport,
  ProductionSnapshot,
  WindowFigures,
  WindowName,
} from './report.js';
import {
  NO_DETAILS,
  type RequestDetails,
  type RequestEnd,
  RequestTimer,
  wrongDuration,
  wrongStatus,
} from './request.js';
import { Sources } from './sources.js';
import { most, Tally } from './tally.js';

const TICK_MS = 1000;
const USERS_MINUTES = 15;
const MINUTE_MS = 60_000;
const REPORTED_ROUTES = 12;
const LISTED_ROUTES = 100;
const LISTED_NAMES = 20;
const HEAT_SECONDS = 60;
const MB = 2 ** 20;

/**
 * Counts requests, messages, users and errors, and reports on them. The adapters call it when it is
 * given to them as `metrics`; whatever they do not see is recorded by hand.
 *
 * Recording costs some nanoseconds and reads no clock. Quantiles are within 0.4 %, those of single
 * routes within 0.8 %.
 *
 * @example
 * const metrics = new ProductionMetrics({ monitor, timers });
 * portcullis({ limits, metrics }).attach(server, webSocketServer);
 * metrics.recordRequest(12.5, { route: '/users/:id', method: 'GET', status: 200 });
 * metrics.generateReport().recommendations;
 */
export class ProductionMetrics {
  readonly #settings: Settings;
  readonly #timers: TimerManager;
  /** The default manager, which nobody else closes. */
  readonly #ownTimers: TimerManager | undefined;
  readonly #ledger: Ledger;
  /** Of the ledger, for the hot path. */
  readonly #traffic: Float64Array;
  readonly #errors = new Tally();
  readonly #refusals = new Tally();
  readonly #sources = new Sources((userId) => this.recordUser(userId));
  readonly #conditions: Conditions;
  readonly #labels: number[] = [];
  readonly #tick: TimerHandle;
  readonly #unsubscribe: () => void;
  readonly #users = createUsers();
  #inFlight = 0;
  #isClosed = false;

  /**
   * @param options see `ProductionMetricsOptions`
   * @throws ERR_INVALID_ARG_TYPE, ERR_OUT_OF_RANGE, ERR_UNKNOWN_OPTION, naming the field
   */
  constructor(options: ProductionMetricsOptions = {}) {
    const settings = settingsOf(options);
    this.#settings = settings;
    if (settings.timers === undefined) this.#ownTimers = new TimerManager({ name: 'metrics' });
    this.#timers = settings.timers ?? this.#ownTimers!;
    this.#ledger = new Ledger(
      this.#timers.driver.now(),
      settings.targets.maxResponseTime,
      settings.maxRoutes,
    );
    this.#traffic = this.#ledger.traffic;
    this.#conditions = new Conditions(settings.monitor, this.#timers);
    this.#tick = this.#timers.setInterval(() => this.#turn(), {
      delayMs: TICK_MS,
      ref: false,
      name: 'metrics.tick',
    });
    this.#unsubscribe = this.#timers.onCleanup(() => this.close());
    try {
      for (const manager of settings.managers) this.attach(manager);
    } catch (error) {
      // One manager is invalid: unsubscribe from the others.
      this.close();
      throw error;
    }
  }

  /**
   * Counts a request that is over.
   * @param durationMs milliseconds, of at least 0
   * @param details see `RequestDetails`
   * @throws ERR_INVALID_ARG_TYPE, ERR_OUT_OF_RANGE; then nothing was counted
   */
  recordRequest(durationMs: number, details: RequestDetails = NO_DETAILS): void {
    if (typeof durationMs !== 'number' || !(durationMs >= 0 && durationMs < Infinity))
      throw wrongDuration(durationMs);
    const { route, method } = details;
    this.#count(durationMs, this.#ledger.routes.rowOf(route, method), details);
  }

  #count(durationMs: number, row: number, { status, error }: RequestDetails): void {
    const code =
      status === undefined
        ? 0
        : (status | 0) === status && status >= 100 && status <= 599
          ? status
          : wrongStatus(status);
    if (typeof error === 'string') this.#errors.add('error', error);
    this.#ledger.record(
      row,
      durationMs,
      code,
      code >= 500 || (error !== undefined && error !== false),
    );
  }

  /**
   * Begins a request: it is in flight until `end()`, and a stall meanwhile is told with its route.
   * @throws ERR_INVALID_ARG_TYPE
   * @example
   * const request = metrics.startRequest({ route: '/import', method: 'POST' });
   * try { await work(); request.end({ status: 200 }); } catch { request.end({ status: 500 }); }
   */
  startRequest(details: Pick<RequestDetails, 'route' | 'method'> = NO_DETAILS): RequestTimer {
    const { route, method } = details;
    return new RequestTimer(this, this.#ledger.routes.rowOf(route, method));
  }

  /** Counts one in flight; returns when. @internal */
  begin(id: number, tells: boolean): number {
    this.#inFlight++;
    if (tells) this.#settings.monitor?.requestStarted(id === 0 ? 0 : this.#label(id));
    return this.#timers.driver.now();
  }

  /** What the router found: the row of a request under way. @internal */
  found(route: string, method: string, tells: boolean): number {
    const id = this.#ledger.routes.rowOf(route, method);
    if (tells) this.#settings.monitor?.mark(this.#label(id));
    return id;
  }

  /** Counts one that has begun; one whose client went away has no time worth counting. @internal */
  finish(startMs: number, id: number, status: number, isAborted: boolean, tells: boolean): void {
    this.left(tells);
    if (isAborted) return;
    this.#ledger.record(id, this.#since(startMs), status, status >= 500);
  }

  /** As `finish`, with what the caller says. @internal */
  end(startMs: number, id: number, details: RequestEnd): void {
    const durationMs = this.#since(startMs);
    this.left(true);
    const { route, method, refused } = details;
    if (refused !== undefined) return this.recordRefusal(refused);
    this.#count(
      durationMs,
      route === undefined && method === undefined ? id : this.#ledger.routes.rowOf(route, method),
      details,
    );
  }

  #since(startMs: number): number {
    return Math.max(0, this.#timers.driver.now() - startMs);
  }

  /** One in flight less. @internal */
  left(tells: boolean): void {
    this.#inFlight--;
    if (tells) this.#settings.monitor?.requestEnded();
  }

  #label(id: number): number {
    const { monitor } = this.#settings;
    const known = this.#labels[id];
    if (known !== undefined || monitor === undefined) return known ?? 0;
    const { route, method } = this.#ledger.routes.names[id]!;
    return (this.#labels[id] = monitor.label(`${method} ${route}`.trim() || '-'));
  }

  /**
   * Counts a WebSocket message. The managers that were given count theirs.
   * @param bytes a whole number of at least 0
   * @throws ERR_INVALID_ARG_TYPE, ERR_OUT_OF_RANGE
   */
  recordMessage(direction: 'in' | 'out', bytes: number): void {
    if (typeof bytes !== 'number' || bytes >>> 0 !== bytes)
      wholeNumber('bytes', bytes, 0, Number.MAX_SAFE_INTEGER);
    const at = direction === 'in' ? IN : direction === 'out' ? OUT : -1;
    if (at < 0) throw outOfRange('direction', direction, "'in' or 'out'");
    this.#traffic[at]!++;
    this.#traffic[at + 1]! += bytes;
  }

  /**
   * Counts a user as active. Users of the managers that were given are, as long as they are connected.
   * @param id a string of 1 to 1024 characters; only a hash of it is kept
   * @throws ERR_INVALID_ARG_TYPE
   */
  recordUser(id: string): void {
    if (typeof id !== 'string' || id === '' || id.length > 1024)
      throw wrongType('id', id, 'a string of 1 to 1024 characters');
    this.#users.record(id, this.#minute());
  }

  /**
   * Counts an error outside of requests, such as of a message's handler. It shows by its kind, and
   * not in the error rate, which is a share of requests.
   * @param kind of at most 60 characters, never what a client chose; of more than 99 kinds, all others are `other`
   * @throws ERR_INVALID_ARG_TYPE
   */
  recordError(kind: string): void {
    this.#errors.add('kind', kind);
    this.#traffic[OTHER_ERRORS]!++;
  }

  /**
   * Counts what a limit has turned away: it is in no other figure. The refusals of the managers that
   * were given are counted already.
   * @param code as for `recordError`
   * @throws ERR_INVALID_ARG_TYPE
   */
  recordRefusal(code: string): void {
    this.#refusals.add('code', code);
    this.#traffic[REFUSED]!++;
  }

  /**
   * Counts a manager's connections, messages, refusals and users from now on. Repeated calls have no
   * effect.
   * @throws ERR_INVALID_ARG_TYPE unless it is a `ConnectionManager`
   */
  attach(manager: ConnectionManager): void {
    this.#sources.attach(manager);
  }

  /**
   * Undoes `attach`: a manager's connections leave the figures at once, its messages and refusals so
   * far stay counted. Unknown managers are ignored.
   */
  detach(manager: ConnectionManager): void {
    this.#sources.detach(manager, this.#traffic);
  }

  /** Whether every target that can be judged is met. */
  checkTargets(): boolean {
    return isHealthy(this.#judge().targetResults);
  }

  /** The report: some 100 µs and a few KB. */
  generateReport(): ProductionReport {
    return this.#report(REPORTED_ROUTES);
  }

  /** Everything, for a page that shows it. */
  snapshot(): ProductionSnapshot {
    const report = this.#report(LISTED_ROUTES);
    return {
      ...report,
      uptimeMs: this.#ledger.uptimeMs,
      heat: { edgesMs: HEAT_EDGES_MS, seconds: this.#ledger.heat(HEAT_SECONDS) },
      activeUsers: {
        '1m': this.#activeUsers(1),
        '5m': this.#activeUsers(5),
        '15m': this.#activeUsers(15),
      },
      routesKnown: this.#ledger.routes.names.length,
      routesOverflowed: this.#ledger.overflowed,
    };
  }

  /**
   * The figures in the OpenMetrics text format 1.0, to be sent as
   * `application/openmetrics-text; version=1.0.0; charset=utf-8`. Written on another thread.
   * @throws ERR_INVALID_ARG_TYPE, ERR_OUT_OF_RANGE, ERR_UNKNOWN_OPTION for the options
   */
  toOpenMetrics(options: ExpositionOptions = {}): Promise<string> {
    return this.#render('openmetrics', options);
  }

  /**
   * The figures in Prometheus' text format, to be sent as `text/plain; version=0.0.4; charset=utf-8`.
   * Written on another thread.
   * @throws as `toOpenMetrics`
   */
  toPrometheus(options: ExpositionOptions = {}): Promise<string> {
    return this.#render('prometheus', options);
  }

  /**
   * Ends the timer. Later records still count, and windows move when the figures are read. May be
   * called again.
   */
  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#tick.close();
    this.#unsubscribe();
    this.#sources.close();
    this.#ownTimers?.cleanup();
  }

  /** Alias of `close()`. */
  stop(): void {
    this.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #activeUsers(minutes: number): number {
    return this.#users.count(this.#minute(), minutes);
  }

  /** Of the timers' clock, whose beginning is anyone's. */
  #minute(): number {
    return Math.max(0, Math.floor(this.#timers.driver.now() / MINUTE_MS));
  }

  #turn(): void {
    this.#sources.scanUsers();
    this.#advance();
  }

  #advance(): void {
    // What the managers counted belongs to the slice that is over.
    this.#sources.read(this.#traffic);
    this.#ledger.advance(this.#timers.driver.now());
  }

  #report(routes: number): ProductionReport {
    const judged = this.#judge();
    const { window, chosen, seen, slo, metrics, targetResults } = judged;
    const { targets } = this.#settings;
    const windows = Object.fromEntries(
      WINDOWS.map((name) => [name, name === window ? chosen : this.#ledger.window(name)]),
    );
    const findings = findingsOf(seen, targets, slo);
    return {
      timestamp: new Date(wallClockMs()).toISOString(),
      metrics,
      targets: { ...targets },
      healthy: isHealthy(targetResults),
      recommendations: [...new Set(findings.map(({ action }) => action))],
      schema: 1,
      window,
      coveredMs: chosen.coveredMs,
      samples: chosen.requests,
      confidence: chosen.requests < SAMPLES_MIN ? 'low' : 'high',
      scoreParts: judged.parts,
      targetResults,
      findings,
      latencyMs: chosen.latencyMs,
      apdex: chosen.apdex,
      slo,
      inFlight: this.#inFlight,
      windows: windows as Record<WindowName, WindowFigures>,
      routes: this.#ledger.busiest(this.#timers.driver.now(), routes),
      refusals: Object.fromEntries(
        most(this.#sources.refusals(this.#refusals.entries()), LISTED_NAMES),
      ),
      errors: this.#errors.top(LISTED_NAMES),
    };
  }

  /** What the report and the exposition have in common. */
  #judge() {
    this.#advance();
    const { targets, window, weights, monitor } = this.#settings;
    const resources = this.#conditions.resources();
    const chosen = this.#ledger.window(window);
    const seen = this.#observe(chosen, resources);
    const parts = scoreParts(seen, targets, weights);
    // Memory alone, read in passing, says nothing of a server that nobody has asked anything yet.
    const score =
      chosen.requests > 0 || monitor !== undefined ? healthScore(parts, seen, targets) : null;
    const metrics: ProductionFigures = {
      averageResponseTime: chosen.latencyMs?.mean ?? null,
      requestsPerSecond: chosen.requestsPerSecond,
      errorRate: chosen.errorRate,
      memoryUsage: seen.memoryMb,
      cpuUsage: seen.cpuPercent,
      connectionCount: this.#sources.connections,
      activeUsers: this.#activeUsers(USERS_MINUTES),
      messagesThroughput: chosen.messagesPerSecond,
      healthScore: score,
    };
    return {
      window,
      chosen,
      resources,
      seen,
      parts,
      slo: this.#budgets(),
      metrics,
      targetResults: resultsOf(metrics, targets),
    };
  }

  /** The figures as numbers of the exposition. */
  #render(format: 'openmetrics' | 'prometheus', options: ExpositionOptions): Promise<string> {
    const naming = namingOf(options);
    const { chosen, resources, slo, metrics, targetResults } = this.#judge();
    const seconds = (ms: number | undefined): number | null =>
      ms === undefined ? null : ms / 1000;
    const bytes = (mb: number | null | undefined): number | null =>
      mb === null || mb === undefined ? null : mb * MB;
    const delays = resources?.loop.delayMs;
    const { messagesIn, messagesOut, bytesIn, bytesOut } = this.#ledger.window('lifetime');
    const scalars = {
      inFlight: this.#inFlight,
      memoryBytes: bytes(metrics.memoryUsage),
      cpuRatio: metrics.cpuUsage === null ? null : metrics.cpuUsage / 100,
      startSeconds: processStartMs() / 1000,
      uptimeSeconds: (wallClockMs() - processStartMs()) / 1000,
      heapUsedBytes: bytes(resources?.memory.heapUsedMb),
      heapLimitBytes: bytes(resources?.memory.heapLimitMb),
      loopUtilization: resources?.loop.utilization ?? null,
      loopDelayP50: seconds(delays?.p50),
      loopDelayP90: seconds(delays?.p90),
      loopDelayP99: seconds(delays?.p99),
      loopDelayMax: seconds(delays?.max),
      loopDelayMean: seconds(delays?.mean),
      stalls: resources?.loop.stalls ?? null,
      connections: metrics.connectionCount,
      activeUsers: metrics.activeUsers,
      healthScore: metrics.healthScore,
      healthy: isHealthy(targetResults) ? 1 : 0,
      apdex: chosen.apdex,
      routesOverflowed: this.#ledger.overflowed,
    };
    const samples: Sample[] = [
      ['messages', ['in'], messagesIn],
      ['messages', ['out'], messagesOut],
      ['messageBytes', ['in'], bytesIn],
      ['messageBytes', ['out'], bytesOut],
      ...this.#sources
        .refusals(this.#refusals.entries())
        .map(([code, count]): Sample => ['refusals', [code], count]),
      ...this.#errors.entries().map(([kind, count]): Sample => ['errors', [kind], count]),
      ...slo.flatMap(({ id, burnRate, remaining }): Sample[] => [
        ...Object.entries(burnRate).map(([window, rate]): Sample => [
          'burnRate',
          [id, window],
          rate,
        ]),
        ['budgetRemaining', [id], remaining],
      ]),
    ];
    return exposed(this.#ledger, format, naming, scalars, samples);
  }

  #budgets(): ErrorBudget[] {
    const totals = Object.fromEntries(
      Object.entries(BURN_MINUTES).map(([name, minutes]) => [name, this.#ledger.totals(minutes)]),
    ) as Record<keyof typeof BURN_MINUTES, Totals>;
    return [
      budgetOf('errors', this.#settings.targets.maxErrorRate, totals),
      budgetOf('latency', this.#settings.slowShare, totals),
    ];
  }

  #observe(figures: WindowFigures, resources: ResourceSnapshot | undefined): Observed {
    const { latencyMs, requests, refused } = figures;
    const memoryMb = resources?.memory.rssMb ?? residentBytes() / MB;
    const arrivals = requests + refused;
    return {
      requests,
      errorRate: requests === 0 ? null : figures.errorRate,
      meanMs: latencyMs?.mean ?? null,
      p50Ms: latencyMs?.p50 ?? null,
      p95Ms: latencyMs?.p95 ?? null,
      p99Ms: latencyMs?.p99 ?? null,
      loopDelayMs: resources?.loop.delayMs?.p99 ?? null,
      memoryMb,
      cpuPercent: resources?.cpu.percentOfAllowed ?? null,
      saturation: this.#sources.saturation,
      refusedShare: arrivals < SAMPLES_MIN ? null : refused / arrivals,
      stall: this.#conditions.stall(),
      wasKilled: this.#conditions.wasKilled(resources?.memory.oomKills ?? null),
      memoryState: resources?.state ?? 'ok',
      memoryPercent: resources?.memory.effectiveLimit?.percent ?? null,
      routesOverflowed: this.#ledger.overflowed,
      maxRoutes: this.#settings.maxRoutes,
    };
  }
}
