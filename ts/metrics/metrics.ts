/**
 * Production metrics of one thread: records requests, messages, users and errors, and reports on
 * them. Counting, windows, score and text have modules of their own; most of this file's length is
 * the documentation of its public methods.
 */
import { wallClockMs } from '../base/clock.js';
import { outOfRange, wrongType } from '../base/errors.js';
import { wholeNumber } from '../base/options.js';
import type { ConnectionManager } from '../connections/manager.js';
import type { RateLimiter } from '../limiter/limiter.js';
import { createUsers } from '../native/addon.js';
import type { ResourceMonitor } from '../resources/monitor.js';
import type { RunningRequest } from '../resources/running.js';
import type { TimerHandle } from '../timers/handle.js';
import { TimerManager } from '../timers/manager.js';
import { type Assessment, Assessor } from './assessment.js';
import {
  contentOf,
  type Counts,
  encodingOf,
  type ExpositionBytesOptions,
  type ExpositionOptions,
  type Naming,
  namingOf,
  samplesOf,
  scalarsOf,
} from './exposition.js';
import { findingsOf } from './findings.js';
import { areMet, SAMPLES_MIN } from './health-score.js';
import { type MergeOptions, MergedRegistries, type MetricRegistry } from './merged-registries.js';
import { LabelledCounts, topOf } from './labelled-counts.js';
import { HEAT_EDGES_MS } from './heat-edges.js';
import { HostFigures } from './host-figures.js';
import {
  type HistogramOptions,
  type InstrumentOptions,
  InstrumentRegistry,
  type Template,
} from './instrument-registry.js';
import type { Format } from './instrument.js';
import type { Counter, Gauge, Histogram } from './instruments.js';
import {
  type ExpositionContent,
  IN,
  Ledger,
  OTHER_ERRORS,
  OUT,
  REFUSED,
  WINDOWS,
} from './ledger.js';
import { type ProductionMetricsOptions, type Settings, settingsOf } from './options.js';
import type {
  ProductionGlance,
  ProductionReport,
  ProductionSnapshot,
  WindowFigures,
  WindowName,
} from './report.js';
import {
  checkDetails,
  isFailed,
  NO_DETAILS,
  type RequestDetails,
  type RequestEnd,
  RequestTimer,
  statusOf,
  wrongDuration,
} from './request.js';
import { type Collected, type OpenTelemetryProducer, Producer } from './open-telemetry.js';
import { LimiterSources } from './limiters.js';
import { Sources } from './sources.js';

const TICK_MS = 1000;
const USERS_MINUTES = 15;
const MINUTE_MS = 60_000;
const REPORTED_ROUTES = 12;
const SNAPSHOT_ROUTES = 100;
const LABELS_LISTED = 20;
const HEAT_SECONDS = 60;
const USER_ID_MAX = 1024;

/**
 * Counts requests, messages, users and errors, and reports on the health of the service. Adapters
 * with the option `metrics` record by themselves; everything else is recorded by hand.
 *
 * Recording takes some 15 ns and reads no clock (`node bench/metrics.mjs`). Quantiles of all
 * requests are within 0.4 % of the true value, those of one route within 0.8 %.
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
  /** The manager that the constructor created; `close()` closes it. */
  readonly #ownTimers: TimerManager | undefined;
  readonly #ledger: Ledger;
  /** The ledger's counters; a field of this object saves the hot path one load. */
  readonly #traffic: Float64Array;
  readonly #errors = new LabelledCounts();
  readonly #refusals = new LabelledCounts();
  readonly #sources = new Sources((userId) => this.recordUser(userId));
  readonly #limiters = new LimiterSources();
  readonly #assessor: Assessor;
  /** The monitor's label numbers, by row of the ledger. */
  readonly #labels: number[] = [];
  readonly #startMs = wallClockMs();
  readonly #tick: TimerHandle;
  readonly #unsubscribe: () => void;
  readonly #users = createUsers();
  readonly #host = new HostFigures();
  readonly #instruments = new InstrumentRegistry();
  readonly #merged: MergedRegistries;
  #inFlight = 0;
  #isClosed = false;

  /**
   * Creates metrics and starts their timer.
   * @param options see `ProductionMetricsOptions`
   * @throws ERR_INVALID_ARG_TYPE, ERR_OUT_OF_RANGE, ERR_UNKNOWN_OPTION, naming the field;
   *   ERR_CLOSED if strict `timers` are closed
   */
  constructor(options: ProductionMetricsOptions = {}) {
    const settings = settingsOf(options);
    this.#settings = settings;
    if (settings.timers === undefined) this.#ownTimers = new TimerManager({ name: 'metrics' });
    this.#timers = settings.timers ?? this.#ownTimers!;
    this.#merged = new MergedRegistries(this.#timers.driver.clock);
    const { maxResponseTime } = settings.targets;
    this.#ledger = new Ledger(this.#timers.driver.now(), maxResponseTime, settings.maxRoutes);
    this.#traffic = this.#ledger.traffic;
    this.#assessor = new Assessor(settings, this.#ledger, this.#sources, this.#timers);
    this.#tick = this.#timers.setInterval(() => this.#onTick(), {
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
   * Records a request that ended.
   * @param durationMs duration, ms: finite, at least 0
   * @param details see `RequestDetails`
   * @throws ERR_INVALID_ARG_TYPE, ERR_OUT_OF_RANGE; nothing is recorded then
   */
  recordRequest(durationMs: number, details: RequestDetails = NO_DETAILS): void {
    if (typeof durationMs !== 'number' || !(durationMs >= 0 && durationMs < Infinity))
      throw wrongDuration(durationMs);
    checkDetails(details);
    this.#record(durationMs, -1, details);
  }

  /** Records a request. Its details are checked first: a refused one takes no row. @param knownRow -1 for that of the details */
  #record(
    durationMs: number,
    knownRow: number,
    { route, method, status, error }: RequestDetails,
  ): void {
    const code = statusOf(status);
    const hasFailed = isFailed(error);
    const row = knownRow >= 0 ? knownRow : this.#ledger.routes.rowOf(route, method);
    if (typeof error === 'string') this.#errors.add('error', error);
    this.#ledger.record(row, durationMs, code, hasFailed || code >= 500);
  }

  /**
   * Starts a request. It is in flight until the timer's `end()`, and a stall meanwhile is reported
   * with its route.
   * @param details route and method, if they are known already
   * @returns the timer of the request
   * @throws ERR_INVALID_ARG_TYPE; no request has started then
   * @example
   * const request = metrics.startRequest({ route: '/import', method: 'POST' });
   * try { await work(); request.end({ status: 200 }); } catch { request.end({ status: 500 }); }
   */
  startRequest(details: Pick<RequestDetails, 'route' | 'method'> = NO_DETAILS): RequestTimer {
    checkDetails(details);
    const { route, method } = details;
    return new RequestTimer(this, this.#ledger.routes.rowOf(route, method));
  }

  /** Counts one more request in flight; returns the time at its start. @internal */
  begin(row: number, notifiesMonitor: boolean, request?: RunningRequest): number {
    this.#inFlight++;
    if (notifiesMonitor)
      this.#settings.monitor?.requestStarted(row === 0 ? 0 : this.#label(row), request);
    return this.#timers.driver.now();
  }

  /** Returns the row of the route that the router found for a request in flight. @internal */
  routeFound(route: string, method: string, notifiesMonitor: boolean): number {
    const row = this.#ledger.routes.rowOf(route, method);
    if (notifiesMonitor) this.#settings.monitor?.mark(this.#label(row));
    return row;
  }

  /**
   * Records a request that began. An aborted one is not recorded: its duration says nothing about
   * the server.
   * @internal
   */
  finish(
    startMs: number,
    row: number,
    status: number,
    isAborted: boolean,
    notifiesMonitor: boolean,
    request?: RunningRequest,
  ): void {
    this.leave(notifiesMonitor, request);
    if (isAborted) return;
    this.#ledger.record(row, this.#since(startMs), status, status >= 500);
  }

  /** Records a request that began, with the details of its timer's `end()`. @internal */
  end(startMs: number, row: number, details: RequestEnd): void {
    const durationMs = this.#since(startMs);
    this.leave(true);
    checkDetails(details);
    const { route, method, refused } = details;
    if (refused !== undefined) return this.recordRefusal(refused);
    const isSameRoute = route === undefined && method === undefined;
    this.#record(durationMs, isSameRoute ? row : -1, details);
  }

  #since(startMs: number): number {
    return Math.max(0, this.#timers.driver.now() - startMs);
  }

  /** Counts one request in flight less. @internal */
  leave(notifiesMonitor: boolean, request?: RunningRequest): void {
    this.#inFlight--;
    if (notifiesMonitor) this.#settings.monitor?.requestEnded(request);
  }

  #label(row: number): number {
    const { monitor } = this.#settings;
    const known = this.#labels[row];
    if (known !== undefined || monitor === undefined) return known ?? 0;
    const { route, method } = this.#ledger.routes.names[row]!;
    return (this.#labels[row] = monitor.label(`${method} ${route}`.trim() || '-'));
  }

  /**
   * Counts a WebSocket message. Messages of attached managers are counted without it.
   * @param direction `in` for a received message, `out` for a sent one
   * @param bytes length of the message: a whole number of at least 0
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
   * Counts a user as active now. Users of attached managers are active while they are connected.
   * @param id a string of 1 to 1024 characters; only its keyed hash is kept
   * @throws ERR_INVALID_ARG_TYPE
   */
  recordUser(id: string): void {
    if (typeof id !== 'string' || id === '' || id.length > USER_ID_MAX)
      throw wrongType('id', id, 'a string of 1 to 1024 characters');
    this.#users.record(id, this.#minute());
  }

  /**
   * Counts an error outside of requests, such as one of a message handler. It is reported by its
   * kind, but not in the error rate, which is a share of requests.
   * @param kind a fixed name, never text from a client; cut to 60 characters; beyond 99 kinds, all
   *   others count as `other`
   * @throws ERR_INVALID_ARG_TYPE unless it is a string that is not empty
   */
  recordError(kind: string): void {
    this.#errors.add('kind', kind);
    this.#traffic[OTHER_ERRORS]!++;
  }

  /**
   * Counts a refusal by a limit; it is in no other figure. Refusals of attached managers are
   * counted without it.
   * @param code a fixed name, as for `recordError`
   * @throws ERR_INVALID_ARG_TYPE unless it is a string that is not empty
   */
  recordRefusal(code: string): void {
    this.#refusals.add('code', code);
    this.#traffic[REFUSED]!++;
  }

  /**
   * Counts a manager's connections, messages, refusals, bans and users from now on; connections and bans of
   * managers with one name count once. Repeated calls have no effect.
   * @param manager the manager to add
   * @throws ERR_INVALID_ARG_TYPE unless it is a `ConnectionManager`
   */
  attach(manager: ConnectionManager): void {
    this.#sources.attach(manager);
  }

  /**
   * Undoes `attach`: the manager's connections leave the figures at once; its messages, refusals and bans
   * so far stay counted.
   * @param manager the manager to remove; unknown ones are ignored
   */
  detach(manager: ConnectionManager): void {
    this.#sources.detach(manager, this.#traffic);
  }

  /**
   * Exposes the counts of a rate limiter from now on. Guards with the option `metrics` attach the
   * limiters of `requests.rate`, by their name or as `requests.ip`, `requests.route`, `requests.key`
   * and `requests.user`, and those of single routes of Elysia, by their name or the route. Limiters with one label
   * are added up. Repeated calls have no effect.
   * @param limiter the limiter to add
   * @param label value of the label `limiter`: 1 to 128 characters; tabs and line ends become spaces,
   *   other control characters `?`. Default: the limiter's name. From the hundredth label on, all share `other`
   * @throws ERR_INVALID_ARG_TYPE, also without a label for a limiter without a name; ERR_OUT_OF_RANGE
   * @example
   * metrics.attachLimiter(logins, 'logins');
   */
  attachLimiter(limiter: RateLimiter, label?: string): void {
    this.#limiters.attach(limiter, label);
  }

  /**
   * Undoes `attachLimiter`: the limiter's keys leave the figures at once; its other counts so far stay.
   * @param limiter the limiter to remove; unknown ones are ignored
   */
  detachLimiter(limiter: RateLimiter): void {
    this.#limiters.detach(limiter);
  }

  /** The attached limiters, each with its label. @internal */
  attachedLimiters(): ReadonlyMap<RateLimiter, string> {
    return this.#limiters.attached();
  }

  /** Returns true if every target with data is met. */
  checkTargets(): boolean {
    return areMet(this.#assess().targetResults);
  }

  /**
   * Returns a report on the health of the service: key figures, score, findings, recommendations.
   * Takes some 100 µs; the report has at most 16 KB as JSON, or 24 KB if names have characters that JSON escapes or that
   * are not ASCII.
   */
  generateReport(): ProductionReport {
    return this.#report(REPORTED_ROUTES);
  }

  /**
   * Returns the report with more routes, a heat map and counts of users; the live page is made of
   * it.
   */
  snapshot(): ProductionSnapshot {
    return Object.assign(this.#report(SNAPSHOT_ROUTES), {
      uptimeMs: this.#ledger.uptimeMs,
      heat: { edgesMs: HEAT_EDGES_MS, seconds: this.#ledger.heat(HEAT_SECONDS) },
      activeUsers: {
        '1m': this.#activeUsers(1),
        '5m': this.#activeUsers(5),
        '15m': this.#activeUsers(15),
      },
      routesKnown: this.#ledger.routes.names.length,
      routesOverflowed: this.#ledger.overflowed,
    });
  }

  /** Returns what the live page keeps of each second: a third of the work of a snapshot. @internal */
  glance(): ProductionGlance {
    const { figures, observed, parts, budgets, metrics, resources } = this.#assess();
    const { targets, window } = this.#settings;
    return {
      metrics,
      scoreParts: parts,
      targets,
      findings: findingsOf(observed, targets, budgets),
      windows: { '10s': window === '10s' ? figures : this.#ledger.window('10s') },
      heat: { seconds: this.#ledger.heat(1) },
      resources,
    };
  }

  /** Monitor of the application, if there is one. @internal */
  get monitor(): ResourceMonitor | undefined {
    return this.#settings.monitor;
  }

  /**
   * Renders the figures in the OpenMetrics text format 1.0, on another thread. Its content type is
   * `application/openmetrics-text; version=1.0.0; charset=utf-8`.
   * @param options see `ExpositionOptions`
   * @returns the text, with the counts at the time of the call
   * @throws ERR_INVALID_ARG_TYPE, ERR_OUT_OF_RANGE, ERR_UNKNOWN_OPTION for the options, at once
   */
  toOpenMetrics(options: ExpositionOptions = {}): Promise<string> {
    return this.#render('openmetrics', options, (content) => this.#ledger.render(content));
  }

  /**
   * Renders the figures in Prometheus' text format 0.0.4, on another thread. Its content type is
   * `text/plain; version=0.0.4; charset=utf-8`.
   * @param options see `ExpositionOptions`
   * @returns the text, with the counts at the time of the call
   * @throws as `toOpenMetrics`
   */
  toPrometheus(options: ExpositionOptions = {}): Promise<string> {
    return this.#render('prometheus', options, (content) => this.#ledger.render(content));
  }

  /**
   * Renders the same as `toOpenMetrics`, as bytes of UTF-8. They are handed over without a copy, so
   * that the JavaScript thread does not work in proportion to their number: with 10,000 routes, a
   * string takes it 40 ms.
   * @param options see `ExpositionBytesOptions`
   * @returns the bytes, with the counts at the time of the call; they belong to the caller
   * @throws as `toOpenMetrics`
   * @example
   * // For a client whose Accept-Encoding names gzip:
   * const headers = {
   *   'content-type': 'application/openmetrics-text; version=1.0.0; charset=utf-8',
   *   'content-encoding': 'gzip',
   *   vary: 'accept-encoding',
   * };
   * new Response(await metrics.toOpenMetricsBytes({ encoding: 'gzip' }), { headers });
   */
  toOpenMetricsBytes(
    options: ExpositionBytesOptions = {},
  ): Promise<Buffer & { readonly buffer: ArrayBuffer }> {
    return this.#renderBytes('openmetrics', options);
  }

  /**
   * Renders the same as `toPrometheus`, as bytes of UTF-8; see `toOpenMetricsBytes`.
   * @param options see `ExpositionBytesOptions`
   * @returns the bytes, with the counts at the time of the call; they belong to the caller
   * @throws as `toOpenMetrics`
   */
  toPrometheusBytes(
    options: ExpositionBytesOptions = {},
  ): Promise<Buffer & { readonly buffer: ArrayBuffer }> {
    return this.#renderBytes('prometheus', options);
  }

  #renderBytes(
    format: Format,
    options: ExpositionBytesOptions,
  ): Promise<Buffer & { readonly buffer: ArrayBuffer }> {
    const isCompressed = encodingOf(options) === 'gzip';
    return this.#render(format, { naming: options.naming }, (content) =>
      this.#ledger.renderBytes(content, isCompressed),
    );
  }

  /**
   * Creates a counter of the application. It is in both text formats and all namings.
   * @param name a name of letters, digits, `_` and `:`, 1 to 200; `_total` is appended if it is
   *   missing. Names that begin with `portcullis_` are reserved
   * @param help description, 1 to 1000 characters
   * @param labelNames at most 20 different names of letters, digits and `_`. Default: none
   * @param options see `InstrumentOptions`
   * @throws ERR_INVALID_ARG_TYPE, ERR_OUT_OF_RANGE, ERR_UNKNOWN_OPTION; ERR_DUPLICATE_NAME if the
   *   name is in use
   * @example
   * const orders = metrics.counter('shop_orders_total', 'Orders by outcome', ['outcome']);
   * const paid = orders.labels('paid');
   * paid.inc();
   */
  counter(
    name: string,
    help: string,
    labelNames: readonly string[] = [],
    options: InstrumentOptions = {},
  ): Counter {
    return this.#instruments.counter(name, help, labelNames, options);
  }

  /**
   * Creates a gauge of the application. It is in both text formats and all namings.
   * @param name as for `counter`, without `_total`
   * @param help description, 1 to 1000 characters
   * @param labelNames at most 20 different names of letters, digits and `_`. Default: none
   * @param options see `InstrumentOptions`
   * @throws as `counter`
   */
  gauge(
    name: string,
    help: string,
    labelNames: readonly string[] = [],
    options: InstrumentOptions = {},
  ): Gauge {
    return this.#instruments.gauge(name, help, labelNames, options);
  }

  /**
   * Creates a histogram of the application. It is in both text formats and all namings.
   * @param name as for `counter`, without `_total`
   * @param help description, 1 to 1000 characters
   * @param labelNames at most 20 different names of letters, digits and `_`, but not `le`. Default:
   *   none
   * @param options see `HistogramOptions`
   * @throws as `counter`
   */
  histogram(
    name: string,
    help: string,
    labelNames: readonly string[] = [],
    options: HistogramOptions = {},
  ): Histogram {
    return this.#instruments.histogram(name, help, labelNames, options);
  }

  /**
   * Shows the metrics of another registry, such as prom-client's, in both text formats. It is read
   * at each exposition. A family whose name is in use is left out: this package's names win, then
   * the application's, then those of the registry merged first. So is a histogram that contradicts itself, such as one
   * without a bucket `+Inf`, and in OpenMetrics a family with a value that its type cannot have, such as a negative
   * counter: a parser would refuse the whole text. A summary with negative sums or quantiles lacks only these.
   * `portcullis_merge_failures_total` counts families and readings left out, by reason. Repeated calls have no effect.
   * @param registry an object with `getMetricsAsJSON()`, such as a `Registry` of prom-client
   * @param options see `MergeOptions`
   * @throws ERR_INVALID_ARG_TYPE, ERR_OUT_OF_RANGE, ERR_UNKNOWN_OPTION
   * @example
   * metrics.merge(promClient.register, { timeoutMs: 500 });
   */
  merge(registry: MetricRegistry, options: MergeOptions = {}): void {
    this.#merged.add(registry, options);
  }

  /**
   * Returns a source of the figures for OpenTelemetry's SDK, whose readers export them, by OTLP for
   * example. Names are those of the semantic conventions, counts are cumulative. Merged registries
   * are not in it. Nothing is computed between collections.
   * @returns a `MetricProducer` of `@opentelemetry/sdk-metrics` 2
   * @example
   * const reader = new PeriodicExportingMetricReader({
   *   exporter: new OTLPMetricExporter(),
   *   metricProducers: [metrics.openTelemetry()],
   * });
   * new MeterProvider({ readers: [reader] });
   */
  openTelemetry(): OpenTelemetryProducer {
    return new Producer(() => this.#collect(), this.#startMs, wallClockMs);
  }

  /**
   * Ends the timer. Later records still count, and windows then move when the figures are read. May
   * be called again.
   */
  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#tick.close();
    this.#unsubscribe();
    this.#sources.close();
    this.#host.close();
    this.#ownTimers?.close();
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

  /** Minutes of the timers' clock, whose origin is arbitrary. */
  #minute(): number {
    return Math.max(0, Math.floor(this.#timers.driver.now() / MINUTE_MS));
  }

  #onTick(): void {
    this.#sources.scanUsers();
    this.#host.tick(this.#timers.driver.now());
    this.#advance();
  }

  #advance(): void {
    // First: the managers' counts belong to the time before.
    this.#sources.read(this.#traffic);
    this.#ledger.advance(this.#timers.driver.now());
  }

  #assess(): Assessment {
    this.#advance();
    return this.#assessor.assess(this.#activeUsers(USERS_MINUTES));
  }

  #report(routes: number): ProductionReport {
    const { figures, observed, parts, budgets, metrics, targetResults } = this.#assess();
    const { targets, window } = this.#settings;
    const findings = findingsOf(observed, targets, budgets);
    return {
      timestamp: new Date(wallClockMs()).toISOString(),
      metrics,
      targets: { ...targets },
      healthy: areMet(targetResults),
      recommendations: [...new Set(findings.map(({ action }) => action))],
      schema: 1,
      window,
      coveredMs: figures.coveredMs,
      samples: figures.requests,
      confidence: figures.requests < SAMPLES_MIN ? 'low' : 'high',
      scoreParts: parts,
      targetResults,
      findings,
      latencyMs: figures.latencyMs,
      apdex: figures.apdex,
      slo: budgets,
      inFlight: this.#inFlight,
      windows: this.#windows(window, figures),
      routes: this.#ledger.busiest(this.#timers.driver.now(), routes),
      refusals: topOf(this.#refusalCounts(), LABELS_LISTED),
      errors: topOf(this.#errors.entries(), LABELS_LISTED),
    };
  }

  /** Returns the figures of every window, and does not read those of `known` again. */
  #windows(known: WindowName, figures: WindowFigures): Record<WindowName, WindowFigures> {
    return Object.fromEntries(
      WINDOWS.map((name) => [name, name === known ? figures : this.#ledger.window(name)]),
    ) as Record<WindowName, WindowFigures>;
  }

  #refusalCounts(): [code: string, count: number][] {
    return this.#sources.refusals(this.#refusals.entries());
  }

  /** @param deliver renders the content on another thread */
  #render<T>(
    format: Format,
    options: ExpositionOptions,
    deliver: (content: ExpositionContent) => Promise<T>,
  ): Promise<T> {
    const naming = namingOf(options);
    if (this.#merged.isEmpty) return deliver(this.#content(format, naming));
    return this.#merged
      .read(format, (name) => this.#instruments.isTaken(name))
      .then((merged) => deliver(this.#content(format, naming, merged)));
  }

  /** @param withHost whether prom-client's figures of the host are wanted */
  #counts(withHost: boolean): Counts {
    return {
      inFlight: this.#inFlight,
      bans: this.#sources.bans(),
      refusals: this.#refusalCounts(),
      errors: this.#errors.entries(),
      clusters: this.#sources.clusters(),
      limiters: this.#limiters.figures(),
      pressure: this.#settings.monitor?.pressure(),
      host: this.#host.read(withHost, this.#timers.driver.now()),
      mergeFailures: this.#merged.failures,
    };
  }

  #collect(): Collected {
    const assessment = this.#assess();
    const counts = this.#counts(false);
    return {
      scalars: scalarsOf(this.#ledger, assessment, counts),
      samples: samplesOf(this.#ledger, assessment, counts),
      ledger: this.#ledger,
      instruments: this.#instruments.all,
    };
  }

  #content(format: Format, naming: Naming, merged?: Template): ExpositionContent {
    const counts = this.#counts(naming !== 'otel');
    const template = joined(this.#instruments.template(format, [counts.host.gc]), merged);
    return contentOf(this.#ledger, format, naming, this.#assess(), counts, template);
  }
}

/** Returns one template after the other. */
function joined(first: Template, second: Template | undefined): Template {
  if (second === undefined) return first;
  const values = new Float64Array(first.values.length + second.values.length);
  values.set(first.values);
  values.set(second.values, first.values.length);
  return { text: first.text + second.text, values };
}
