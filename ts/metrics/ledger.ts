/**
 * Recorded requests. A request is two numbers in memory of this thread; the native side
 * (`src/metrics/ledger.rs`) folds them into windows and routes, some 2,000 at a time or when the
 * figures are read.
 */
import { PortcullisError } from '../base/errors.js';
import { metricLayout, RequestLedger } from '../native/addon.js';
import { HEAT_EDGES_MS } from './heat-edges.js';
import type { RouteFigures, WindowFigures, WindowName } from './report.js';
import { Routes } from './routes.js';

// Offsets of the traffic counters, in the order of `src/metrics/windows.rs`: each direction has its
// messages, then its bytes.
/** @internal */
export const IN = 0;
/** @internal */
export const OUT = 2;
/** @internal */
export const OTHER_ERRORS = 4;
/** @internal */
export const REFUSED = 5;
const TRAFFIC_LENGTH = 6;

/** Requests that are recorded before they are folded. */
const PENDING_MAX = 2048;
/** Bits of a key, from the lowest: one for a failure, ten for the status, the rest for the row. */
const ROW_SHIFT = 11;

/** The windows, in the native side's order. @internal */
export const WINDOWS: readonly WindowName[] = ['10s', '1m', '5m', '15m', 'lifetime'];
/** Lengths of the windows, ms; `null` for the one that never moves. @internal */
export const WINDOW_MS: Readonly<Record<WindowName, number | null>> = {
  '10s': 10_000,
  '1m': 60_000,
  '5m': 300_000,
  '15m': 900_000,
  lifetime: null,
};
/** Least divisor of rates: a window of 10 ms would turn one request into 100 a second. */
const COVERED_MIN_MS = 1000;

/** Sums over the window of an error budget. @internal */
export interface Totals {
  readonly requests: number;
  readonly errors: number;
  readonly slow: number;
}

/** Names of the exposed figures, in the order that the native side expects. @internal */
export const LAYOUT = metricLayout();
if (LAYOUT.traffic !== TRAFFIC_LENGTH)
  throw new PortcullisError('ERR_INTERNAL', 'the addon is of another version than its JavaScript');

/** Figures in the form that the native renderer expects. @internal */
export interface ExpositionContent {
  /** Figures without labels, in the order of `LAYOUT.scalars`; NaN for unknown ones. */
  readonly scalars: Float64Array;
  /** The values of `texts.samples`. */
  readonly values: Float64Array;
  /** The values of `texts.template`. */
  readonly templateValues: Float64Array;
  readonly texts: Parameters<RequestLedger['render']>[3];
}

/** @internal */
export class Ledger {
  /** Counts of messages, errors and refusals since time last advanced. */
  readonly traffic = new Float64Array(TRAFFIC_LENGTH);
  /** The same counts since the start. */
  readonly lifetimeTraffic = new Float64Array(TRAFFIC_LENGTH);
  readonly routes: Routes;
  readonly #native: RequestLedger;
  readonly #durations = new Float64Array(PENDING_MAX);
  readonly #keys = new Uint32Array(PENDING_MAX);
  #pending = 0;

  /** @param satisfiedMs Apdex's T */
  constructor(nowMs: number, satisfiedMs: number, maxRoutes: number) {
    this.#native = new RequestLedger(nowMs, satisfiedMs, Float64Array.from(HEAT_EDGES_MS));
    this.routes = new Routes(maxRoutes, (route, method) => this.#native.addRow(route, method));
  }

  /** Records a request. @param status 0 for an unknown one */
  record(row: number, durationMs: number, status: number, isError: boolean): void {
    const at = this.#pending;
    this.#durations[at] = durationMs;
    this.#keys[at] = (row << ROW_SHIFT) | (status << 1) | (isError ? 1 : 0);
    if ((this.#pending = at + 1) === PENDING_MAX) this.#fold();
  }

  #fold(): void {
    const count = this.#pending;
    this.#pending = 0;
    this.#native.fold(this.#durations, this.#keys, count);
  }

  /** Moves the windows to `nowMs`. Everything recorded before belongs to the time before. */
  advance(nowMs: number): void {
    this.#fold();
    const { traffic, lifetimeTraffic } = this;
    this.#native.advance(nowMs, traffic);
    for (let at = 0; at < TRAFFIC_LENGTH; at++) lifetimeTraffic[at]! += traffic[at]!;
    traffic.fill(0);
  }

  /** Time since the metrics were created, ms. */
  get uptimeMs(): number {
    return this.#native.uptimeMs();
  }

  /** Requests counted as `other`, beyond `maxRoutes`. */
  get overflowed(): number {
    const { otherRow } = this.routes;
    return otherRow < 0 ? 0 : this.#native.total(otherRow);
  }

  /** Returns the figures of one window. */
  window(name: WindowName): WindowFigures {
    const {
      coveredMs,
      requests,
      errors,
      clientErrors,
      refused,
      messagesIn,
      messagesOut,
      bytesIn,
      bytesOut,
      apdex,
      latencyMs,
    } = this.#native.window(WINDOWS.indexOf(name));
    const seconds = Math.max(coveredMs, COVERED_MIN_MS) / 1000;
    return {
      coveredMs,
      requests,
      requestsPerSecond: requests / seconds,
      errors,
      errorRate: requests === 0 ? 0 : errors / requests,
      clientErrors,
      refused,
      latencyMs,
      messagesIn,
      messagesOut,
      bytesIn,
      bytesOut,
      messagesPerSecond: (messagesIn + messagesOut) / seconds,
      apdex,
    };
  }

  /** Returns sums over the last minutes. @param minutes a multiple of 5, up to 4320 (three days) */
  totals(minutes: number): Totals {
    return this.#native.totals(minutes);
  }

  /** Returns requests by band, one row per complete second, the oldest first. */
  heat(seconds: number): number[][] {
    return this.#native.heat(seconds);
  }

  /** Returns the counts of all routes since the start, in the native side's order. */
  counts(): ReturnType<RequestLedger['counts']> {
    return this.#native.counts();
  }

  /** Returns the routes with the most recent requests. */
  busiest(nowMs: number, count: number): RouteFigures[] {
    return this.#native.routes(nowMs, count).map((figures) => {
      const { requests, requestsPerSecond, errorRate, latencyMs, total } = figures;
      const { route, method } = this.routes.names[figures.row]!;
      return { route, method, requests, requestsPerSecond, errorRate, latencyMs, total };
    });
  }

  /** Renders the text of an exposition on another thread. */
  render({ scalars, values, templateValues, texts }: ExpositionContent): Promise<string> {
    return this.#native.render(scalars, values, templateValues, texts);
  }

  /**
   * Renders the same as bytes, whose memory is that of the other thread: an `ArrayBuffer`, which the types
   * of a response's body demand.
   */
  renderBytes(
    { scalars, values, templateValues, texts }: ExpositionContent,
    isCompressed: boolean,
  ): Promise<Buffer & { readonly buffer: ArrayBuffer }> {
    return this.#native.renderBytes(
      scalars,
      values,
      templateValues,
      texts,
      isCompressed,
    ) as Promise<Buffer & { readonly buffer: ArrayBuffer }>;
  }
}
