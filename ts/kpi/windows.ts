/**
 * What was counted in the last seconds, minutes, days: slices of one second and of ten, and of five
 * minutes for the budgets. Recording writes into the current slice and reads no clock; `advance`
 * closes slices as time passes.
 *
 * ```text
 *  current ──1 s──▶ seconds (60) ──10 s──▶ tens (90) ──5 min──▶ spans (864: three days)
 *     └────────────▶ lifetime
 * ```
 * A window of N slices is the last N-1 that are complete and what has come since: nothing in it is
 * older than it says. How much time it covers is told with it.
 */
import { BUCKETS, type LatencyQuantiles, quantilesOf } from './histogram.js';

/** Columns of a slice. @internal */
export const REQUESTS = 0;
/** @internal */
export const SUM = 1;
/** @internal */
export const ERRORS = 2;
/** @internal */
export const SLOW = 3;
/** @internal */
export const SATISFIED = 4;
/** @internal */
export const TOLERATING = 5;
/** @internal */
export const CLIENT_ERRORS = 6;
/** @internal */
export const REFUSED = 7;
/** @internal */
export const IN = 8;
/** @internal */
export const BYTES_IN = 9;
/** @internal */
export const OUT = 10;
/** @internal */
export const BYTES_OUT = 11;
/** @internal */
export const OTHER_ERRORS = 12;
/** The longest: the only column that is not a sum. @internal */
export const MAX = 13;
/** @internal */
export const COLUMNS = 14;

const SECOND_MS = 1000;
const SECONDS = 60;
const TEN = 10;
const TENS = 90;
const SPAN = 300;
const SPANS = 864;
const HORIZON = SPAN * SPANS;

/** A closed slice: its columns, and the buckets that are not empty. */
interface Slice {
  readonly columns: Float64Array;
  readonly buckets: Uint16Array;
  readonly counts: Uint32Array;
}

const NOTHING: Slice = { columns: new Float64Array(COLUMNS), buckets: new Uint16Array(0), counts: new Uint32Array(0) };

function add(into: Float64Array, from: Float64Array): void {
  for (let at = 0; at < MAX; at++) into[at]! += from[at]!;
  if (from[MAX]! > into[MAX]!) into[MAX] = from[MAX]!;
}

/** The last `length` slices. */
class Ring {
  readonly #slices: Slice[];
  #end = 0;
  #filled = 0;

  constructor(length: number) {
    this.#slices = Array.from({ length }, () => NOTHING);
  }

  get filled(): number {
    return this.#filled;
  }

  push(slice: Slice): void {
    this.#slices[this.#end] = slice;
    this.#end = (this.#end + 1) % this.#slices.length;
    this.#filled = Math.min(this.#filled + 1, this.#slices.length);
  }

  /** The `age`-th before the newest, which is 0. */
  last(age: number): Slice {
    const { length } = this.#slices;
    return this.#slices[(this.#end - 1 - age + 2 * length) % length]!;
  }

  /** Empties it; as many slices count as known. */
  clear(): void {
    this.#slices.fill(NOTHING);
    this.#filled = this.#slices.length;
  }
}

/** Sums over a window. @internal */
export interface Sums {
  readonly coveredMs: number;
  /** Shared: valid until the next call. */
  readonly columns: Float64Array;
  readonly latency: LatencyQuantiles | null;
}

/** Names of the windows. */
export type WindowName = '10s' | '1m' | '5m' | '15m' | 'lifetime';

/** Requests over minutes to days, for the budgets. @internal */
export interface Totals {
  readonly requests: number;
  readonly errors: number;
  readonly slow: number;
}

/** @internal */
export class Windows {
  /** The current slice. */
  readonly columns = new Float64Array(COLUMNS);
  readonly buckets = new Uint32Array(BUCKETS);
  readonly #seconds = new Ring(SECONDS);
  readonly #tens = new Ring(TENS);
  readonly #spans = new Float64Array(SPANS * 3);
  readonly #lifetime = new Float64Array(COLUMNS);
  readonly #lifetimeBuckets = new Float64Array(BUCKETS);
  readonly #startMs: number;
  readonly #merged = new Float64Array(BUCKETS);
  readonly #sums = new Float64Array(COLUMNS);
  #elapsed = 0;
  #nowMs: number;

  constructor(nowMs: number) {
    this.#startMs = nowMs;
    this.#nowMs = nowMs;
  }

  get uptimeMs(): number {
    return this.#nowMs - this.#startMs;
  }

  /** Closes the slices that are over; a clock that goes back changes nothing. */
  advance(nowMs: number): void {
    if (!(nowMs > this.#nowMs)) return;
    this.#nowMs = nowMs;
    const target = Math.floor((nowMs - this.#startMs) / SECOND_MS);
    if (target - this.#elapsed > HORIZON) {
      this.#close();
      this.#seconds.clear();
      this.#tens.clear();
      this.#spans.fill(0);
      this.#elapsed = target;
    }
    while (this.#elapsed < target) this.#close();
  }

  #close(): void {
    this.#seconds.push(this.#closed());
    this.#elapsed++;
    if (this.#elapsed % TEN !== 0) return;
    this.#tens.push(this.#joined());
    if (this.#elapsed % SPAN !== 0) return;
    const at = ((this.#elapsed / SPAN - 1) % SPANS) * 3;
    const { requests, errors, slow } = this.#overTens(SPAN / TEN);
    this.#spans[at] = requests;
    this.#spans[at + 1] = errors;
    this.#spans[at + 2] = slow;
  }

  /** The current slice as a closed one; the current one is empty then. */
  #closed(): Slice {
    const { columns, buckets } = this;
    if (columns.every((figure) => figure === 0)) return NOTHING;
    const used: number[] = [];
    if (columns[REQUESTS]! > 0) for (let at = 0; at < BUCKETS; at++) if (buckets[at]! > 0) used.push(at);
    const slice: Slice = { columns: columns.slice(), buckets: Uint16Array.from(used), counts: Uint32Array.from(used, (at) => buckets[at]!) };
    add(this.#lifetime, columns);
    for (const at of used) this.#lifetimeBuckets[at]! += buckets[at]!;
    columns.fill(0);
    buckets.fill(0);
    return slice;
  }

  /** The last ten seconds as one slice. */
  #joined(): Slice {
    const columns = new Float64Array(COLUMNS);
    const merged = this.#merged.fill(0);
    let isEmpty = true;
    for (let age = 0; age < TEN; age++) {
      const slice = this.#seconds.last(age);
      if (slice === NOTHING) continue;
      isEmpty = false;
      add(columns, slice.columns);
      for (let at = 0; at < slice.buckets.length; at++) merged[slice.buckets[at]!]! += slice.counts[at]!;
    }
    if (isEmpty) return NOTHING;
    const used: number[] = [];
    for (let at = 0; at < BUCKETS; at++) if (merged[at]! > 0) used.push(at);
    return { columns, buckets: Uint16Array.from(used), counts: Uint32Array.from(used, (at) => merged[at]!) };
  }

  #overTens(count: number): Totals {
    let [requests, errors, slow] = [0, 0, 0];
    for (let age = 0; age < count; age++) {
      const { columns } = this.#tens.last(age);
      requests += columns[REQUESTS]!;
      errors += columns[ERRORS]!;
      slow += columns[SLOW]!;
    }
    return { requests, errors, slow };
  }

  /** Sums and quantiles of a window. */
  sums(name: WindowName): Sums {
    const columns = this.#sums.fill(0);
    const merged = this.#merged;
    let coveredMs = this.uptimeMs;
    if (name === 'lifetime') {
      merged.set(this.#lifetimeBuckets);
      columns.set(this.#lifetime);
    } else {
      merged.fill(0);
      const isShort = name === '10s' || name === '1m';
      const sinceTen = isShort ? 0 : this.#elapsed % TEN;
      const seconds = isShort ? Math.min(this.#seconds.filled, (name === '10s' ? 10 : 60) - 1) : sinceTen;
      const tens = isShort ? 0 : Math.min(this.#tens.filled, (name === '5m' ? 30 : 90) - 1);
      for (let age = 0; age < seconds; age++) this.#take(this.#seconds.last(age), columns, merged);
      for (let age = 0; age < tens; age++) this.#take(this.#tens.last(age), columns, merged);
      coveredMs = (seconds + tens * TEN) * SECOND_MS + (this.uptimeMs - this.#elapsed * SECOND_MS);
    }
    add(columns, this.columns);
    if (columns[REQUESTS] === 0) return { coveredMs, columns, latency: null };
    const { buckets } = this;
    for (let at = 0; at < BUCKETS; at++) merged[at]! += buckets[at]!;
    return { coveredMs, columns, latency: quantilesOf(merged, columns[SUM]!, columns[MAX]!) };
  }

  /** Columns since the beginning. */
  lifetime(): Float64Array {
    const columns = this.#lifetime.slice();
    add(columns, this.columns);
    return columns;
  }

  #take(slice: Slice, columns: Float64Array, merged: Float64Array): void {
    if (slice === NOTHING) return;
    add(columns, slice.columns);
    const { buckets, counts } = slice;
    for (let at = 0; at < buckets.length; at++) merged[buckets[at]!]! += counts[at]!;
  }

  /** Requests of the last `minutes`, a multiple of 5 up to three days. */
  totals(minutes: number): Totals {
    const since = Math.floor((this.#elapsed % SPAN) / TEN);
    let { requests, errors, slow } = this.#overTens(since);
    for (let age = 0; age < this.#elapsed % TEN; age++) {
      const { columns } = this.#seconds.last(age);
      requests += columns[REQUESTS]!;
      errors += columns[ERRORS]!;
      slow += columns[SLOW]!;
    }
    requests += this.columns[REQUESTS]!;
    errors += this.columns[ERRORS]!;
    slow += this.columns[SLOW]!;
    const complete = Math.floor(this.#elapsed / SPAN);
    for (let age = 0; age < Math.min(complete, minutes / 5 - 1, SPANS); age++) {
      const at = ((complete - 1 - age) % SPANS) * 3;
      requests += this.#spans[at]!;
      errors += this.#spans[at + 1]!;
      slow += this.#spans[at + 2]!;
    }
    return { requests, errors, slow };
  }

  /** Requests of each of the last `count` complete seconds, the oldest first, by band. */
  heat(count: number, bandOf: Uint8Array, bands: number): number[][] {
    const known = Math.min(count, this.#seconds.filled);
    return Array.from({ length: known }, (_, at) => {
      const row = Array.from({ length: bands }, () => 0);
      const { buckets, counts } = this.#seconds.last(known - 1 - at);
      for (let i = 0; i < buckets.length; i++) row[bandOf[buckets[i]!]!]! += counts[i]!;
      return row;
    });
  }
}
