/**
 * Figures of each route: lifetime columns for the exposition, and a histogram of the last minutes.
 * A route is a pattern and a method; of more than `maxRoutes`, all others share one row.
 */
import { BUCKETS, type LatencyQuantiles, bucketOf, lowerEdge, quantilesOf } from './histogram.js';

/** Upper edges of the classic buckets, in milliseconds: those that OpenTelemetry advises, in seconds. @internal */
export const EDGES_MS = [5, 10, 25, 50, 75, 100, 250, 500, 750, 1000, 2500, 5000, 7500, 10_000] as const;

/** Columns of a row: one to each classic bucket, the last open; then these. @internal */
export const ROW_SUM = EDGES_MS.length + 1;
/** @internal */
export const ROW_ERRORS = ROW_SUM + 1;
/** @internal */
export const ROW_STATUSES = ROW_ERRORS + 1;
/** Place 0 is for requests without a status, and for those of statuses beyond the 30th. @internal */
export const STATUSES = 31;
/** @internal */
export const ROW = ROW_STATUSES + STATUSES;

/** The first classic bucket that a fine one may belong to; the exact edge is compared. */
const EDGE_OF = Uint8Array.from({ length: BUCKETS }, (_, at) => {
  const edge = EDGES_MS.findIndex((edgeMs) => lowerEdge(at) <= edgeMs);
  return edge < 0 ? EDGES_MS.length : edge;
});
const EDGE_VALUES = Float64Array.from([...EDGES_MS, Infinity]);

const GENERATION_MS = 60_000;
const ROUTE_MAX = 200;
const FIRST_ROWS = 16;
/** What is counted under the names of others. @internal */
export const OTHER = 'other';
/** The methods that are told apart; the rest is `_OTHER`, as OpenTelemetry has it. */
const METHODS = new Set(['GET', 'HEAD', 'POST', 'PUT', 'DELETE', 'PATCH', 'OPTIONS', 'CONNECT', 'TRACE']);
const OTHER_METHOD = '_OTHER';

/** One route in the last one to two minutes. */
export interface RouteFigures {
  /** The pattern; `''` for requests without one, `other` for all beyond the cap. */
  readonly route: string;
  /** `''` if it was not said. */
  readonly method: string;
  /** Requests that ended. */
  readonly requests: number;
  /** The same a second, on average. */
  readonly requestsPerSecond: number;
  /** Share of requests that failed, 0 to 1; `null` without requests. */
  readonly errorRate: number | null;
  /** Durations; `null` without requests. */
  readonly latencyMs: LatencyQuantiles | null;
  /** Since the beginning. */
  readonly total: number;
}

/** What is told of a new row. @internal */
export interface Registry {
  row(route: string, method: string): void;
  status(place: number, status: number): void;
}

interface Row {
  readonly method: string;
  readonly id: number;
}

function methodOf(method: string): string {
  if (method === '' || METHODS.has(method)) return method;
  const upper = method.slice(0, 10).toUpperCase();
  return METHODS.has(upper) ? upper : OTHER_METHOD;
}

interface Names {
  readonly route: string;
  readonly method: string;
}

/** Control characters and halves of characters have no place in a label. */
function cleaned(text: string): string {
  const cut = text.length > ROUTE_MAX ? text.slice(0, ROUTE_MAX) : text;
  return cut.replaceAll(/\p{Cc}/gu, '?').replaceAll(/\p{Cs}/gu, '\u{fffd}');
}

/** @internal */
export class Series {
  /** All rows, one after the other. */
  columns = new Float64Array(ROW * FIRST_ROWS);
  readonly names: Names[] = [];
  readonly statuses: number[] = [0];
  /** Requests of routes beyond the cap. */
  overflowed = 0;
  readonly #maxRoutes: number;
  readonly #registry: Registry;
  /** Rows by pattern: one to each method, of which there are few. */
  readonly #ids = new Map<string, Row[]>();
  readonly #statusPlace = new Uint8Array(600);
  /** Buckets of the last minute that is complete, and of this one. */
  readonly #current: Uint32Array[] = [];
  readonly #previous: Uint32Array[] = [];
  /** Columns at the beginning of both. */
  #marks: readonly [older: Float64Array, newer: Float64Array] = [new Float64Array(0), new Float64Array(0)];
  #longest: readonly [older: Float64Array, newer: Float64Array];
  #rotatedMs: readonly [older: number, newer: number];
  #other = -1;

  constructor(nowMs: number, maxRoutes: number, registry: Registry) {
    this.#maxRoutes = maxRoutes;
    this.#registry = registry;
    this.#rotatedMs = [nowMs, nowMs];
    this.#longest = [new Float64Array(maxRoutes + 1), new Float64Array(maxRoutes + 1)];
    this.#add('', '');
  }

  /** The row of a route. */
  idOf(route: string, method: string): number {
    const rows = this.#ids.get(route);
    if (rows !== undefined) for (let at = 0; at < rows.length; at++) if (rows[at]!.method === method) return rows[at]!.id;
    return this.#find(cleaned(route), methodOf(method));
  }

  #find(route: string, method: string): number {
    const known = this.#ids.get(route)?.find((row) => row.method === method);
    if (known !== undefined) return known.id;
    if (this.names.length < this.#maxRoutes) return this.#add(route, method);
    if (this.#other < 0) this.#other = this.#row(OTHER, '');
    return this.#other;
  }

  #add(route: string, method: string): number {
    const id = this.#row(route, method);
    const rows = this.#ids.get(route);
    if (rows === undefined) this.#ids.set(route, [{ method, id }]);
    else rows.push({ method, id });
    return id;
  }

  #row(route: string, method: string): number {
    const id = this.names.length;
    if ((id + 1) * ROW > this.columns.length) {
      const grown = new Float64Array(Math.min(this.columns.length * 2, ROW * (this.#maxRoutes + 1)));
      grown.set(this.columns);
      this.columns = grown;
    }
    this.names.push({ route, method });
    this.#current.push(new Uint32Array(BUCKETS / 2));
    this.#previous.push(new Uint32Array(BUCKETS / 2));
    this.#registry.row(route, method);
    return id;
  }

  /** The place of a status from 100 to 599, 0 for none. */
  placeOf(status: number): number {
    const place = this.#statusPlace[status]!;
    if (place !== 0 || status === 0 || this.statuses.length === STATUSES) return place;
    this.#registry.status(this.statuses.length, status);
    return (this.#statusPlace[status] = this.statuses.push(status) - 1);
  }

  /** Counts a request; returns its fine bucket. */
  record(id: number, durationMs: number, status: number, isError: boolean): number {
    const bucket = bucketOf(durationMs);
    const { columns } = this;
    const at = id * ROW;
    let edge = EDGE_OF[bucket]!;
    if (durationMs > EDGE_VALUES[edge]!) edge++;
    columns[at + edge]!++;
    columns[at + ROW_SUM]! += durationMs;
    if (isError) columns[at + ROW_ERRORS]!++;
    const place = this.#statusPlace[status]!;
    columns[at + ROW_STATUSES + (place === 0 && status !== 0 ? this.placeOf(status) : place)]!++;
    this.#current[id]![bucket >> 1]!++;
    const longest = this.#longest[1];
    if (durationMs > longest[id]!) longest[id] = durationMs;
    if (id === this.#other) this.overflowed++;
    return bucket;
  }

  /** Begins a new minute when one is over. */
  advance(nowMs: number): void {
    const passed = nowMs - this.#rotatedMs[1];
    if (passed < GENERATION_MS) return;
    const isLong = passed >= 2 * GENERATION_MS;
    for (let id = 0; id < this.#current.length; id++) {
      const reused = this.#previous[id]!.fill(0);
      this.#previous[id] = this.#current[id]!;
      this.#current[id] = reused;
      if (isLong) this.#previous[id]!.fill(0);
    }
    const mark = this.columns.slice();
    this.#marks = [isLong ? mark : this.#marks[1], mark];
    const [older, newer] = this.#longest;
    older.fill(0);
    if (isLong) newer.fill(0);
    this.#longest = [newer, older];
    this.#rotatedMs = [isLong ? nowMs : this.#rotatedMs[1], nowMs];
  }

  #total(columns: Float64Array, id: number): number {
    let sum = 0;
    // Rows that came later are not in an older mark.
    for (let at = id * ROW; at <= id * ROW + EDGES_MS.length; at++) sum += columns[at] ?? 0;
    return sum;
  }

  /** The routes with the most requests lately. */
  figures(nowMs: number, count: number): RouteFigures[] {
    const [marks] = this.#marks;
    const rows = this.names.map((_, id) => ({ id, total: this.#total(this.columns, id), before: this.#total(marks, id) }));
    const busiest = rows.filter(({ total }) => total > 0).toSorted((a, b) => b.total - b.before - (a.total - a.before) || b.total - a.total);
    return busiest.slice(0, count).map(({ id, total, before }) => this.#figures(id, total, before, nowMs));
  }

  #figures(id: number, total: number, before: number, nowMs: number): RouteFigures {
    const { route, method } = this.names[id]!;
    const at = id * ROW;
    const [marks] = this.#marks;
    const requests = total - before;
    const errors = this.columns[at + ROW_ERRORS]! - (marks[at + ROW_ERRORS] ?? 0);
    const sum = this.columns[at + ROW_SUM]! - (marks[at + ROW_SUM] ?? 0);
    const counts = this.#current[id]!.slice();
    const previous = this.#previous[id]!;
    for (let bucket = 0; bucket < counts.length; bucket++) counts[bucket]! += previous[bucket]!;
    const max = Math.max(this.#longest[0][id]!, this.#longest[1][id]!);
    const coveredMs = Math.max(1000, nowMs - this.#rotatedMs[0]);
    return {
      route,
      method,
      requests,
      requestsPerSecond: (requests * 1000) / coveredMs,
      errorRate: requests === 0 ? null : errors / requests,
      latencyMs: quantilesOf(counts, sum, max),
      total,
    };
  }
}
