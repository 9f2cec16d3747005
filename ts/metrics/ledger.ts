/**
 * What was counted. A request is written down as two numbers in memory of this thread, and folded
 * into windows and routes by the native side (`src/metrics/ledger.rs`) a few thousand at a time, or when
 * somebody asks.
 */
import { PortcullisError } from '../base/errors.js';
import { metricLayout, RequestLedger } from '../native/addon.js';
import type { RouteFigures, WindowFigures, WindowName } from './report.js';
import { Routes } from './routes.js';

/** Places of the figures that are counted beside requests, in the order of `src/metrics/windows.rs`. @internal */
export const IN = 0;
/** @internal */
export const OUT = 2;
/** @internal */
export const OTHER_ERRORS = 4;
/** @internal */
export const REFUSED = 5;
const TRAFFIC = 6;

/** How many requests are written down before they are folded. */
const PENDING = 2048;
/** Bits of a key: the row above the status, the status above whether it failed. */
const ROW_SHIFT = 11;

/** The windows, in the native side's order. @internal */
export const WINDOWS: readonly WindowName[] = ['10s', '1m', '5m', '15m', 'lifetime'];
/** Less than a second would make one request a hundred a second. */
const COVERED_MIN_MS = 1000;

/** Upper edges of the heat map's bands, in milliseconds, finer below than those of the exposition; one more band is open. */
export const HEAT_EDGES_MS: readonly number[] = [
  0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 250, 500, 1000, 2500,
];

/** Requests of the last minutes to days, for the budgets. @internal */
export interface Totals {
  readonly requests: number;
  readonly errors: number;
  readonly slow: number;
}

/** What the exposition needs. @internal */
export const LAYOUT = metricLayout();
if (LAYOUT.traffic !== TRAFFIC)
  throw new PortcullisError('ERR_INTERNAL', 'the addon is of another version than its JavaScript');

/** @internal */
export class Ledger {
  /** What was counted beside requests since time last advanced. */
  readonly traffic = new Float64Array(TRAFFIC);
  readonly routes: Routes;
  readonly #native: RequestLedger;
  readonly #durations = new Float64Array(PENDING);
  readonly #keys = new Uint32Array(PENDING);
  #pending = 0;

  /** @param satisfiedMs Apdex's T */
  constructor(nowMs: number, satisfiedMs: number, maxRoutes: number) {
    this.#native = new RequestLedger(nowMs, satisfiedMs, Float64Array.from(HEAT_EDGES_MS));
    this.routes = new Routes(maxRoutes, (route, method) => this.#native.addRow(route, method));
  }

  /** Writes a request down; its status is 0 where there is none. */
  record(row: number, durationMs: number, status: number, isError: boolean): void {
    const at = this.#pending;
    this.#durations[at] = durationMs;
    this.#keys[at] = (row << ROW_SHIFT) | (status << 1) | (isError ? 1 : 0);
    if ((this.#pending = at + 1) === PENDING) this.#fold();
  }

  #fold(): void {
    const count = this.#pending;
    this.#pending = 0;
    this.#native.fold(this.#durations, this.#keys, count);
  }

  /** Lets time pass: what was written down belongs to the time before. */
  advance(nowMs: number): void {
    this.#fold();
    this.#native.advance(nowMs, this.traffic);
    this.traffic.fill(0);
  }

  get uptimeMs(): number {
    return this.#native.uptimeMs();
  }

  /** Requests beyond the cap of routes. */
  get overflowed(): number {
    const { other } = this.routes;
    return other < 0 ? 0 : this.#native.total(other);
  }

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

  /** @param minutes a multiple of 5, up to three days */
  totals(minutes: number): Totals {
    return this.#native.totals(minutes);
  }

  /** Requests of each of the last complete seconds, the oldest first, by band. */
  heat(seconds: number): number[][] {
    return this.#native.heat(seconds);
  }

  /** The routes with the most requests lately. */
  busiest(nowMs: number, count: number): RouteFigures[] {
    return this.#native
      .routes(nowMs, count)
      .map(({ row, ...figures }) => ({ ...this.routes.names[row]!, ...figures }));
  }

  /** The text of the exposition, written on another thread. */
  render(
    scalars: Float64Array,
    lines: string,
    values: Float64Array,
    format: string,
    naming: string,
  ): Promise<string> {
    return this.#native.render(scalars, lines, values, format, naming);
  }
}
