/** The figures of the native watch at one time, as they stand in the cells. */
import { boundNames, type FigureTables } from '../native/addon.js';
import { AT } from './cells.js';
import type { DelayQuantiles, MemoryLimit, PressureStall, ResourceSnapshot } from './figures.js';

/** Bytes of one MB. @internal */
export const MB = 2 ** 20;

/**
 * Returns the figure, or `null` for NaN, which stands for "not known" in shared cells.
 * @internal
 */
export const nullIfNaN = (figure: number): number | null => (Number.isNaN(figure) ? null : figure);

const BOUNDS = boundNames() as readonly MemoryLimit['source'][];
/** Numbers of a row in `FigureTables`. */
const LIMIT_NUMBERS = 5;
const THREAD_NUMBERS = 5;

/** Reads figures by their places in `AT`. Valid until the watch writes the next figures. @internal */
export class WatchFigures {
  /** Time of the figures, by the watch's clock. */
  readonly nowMs: number;
  readonly #cells: Float64Array;
  readonly #tables: FigureTables;

  constructor(cells: Float64Array, tables: FigureTables) {
    this.#cells = cells;
    this.#tables = tables;
    this.nowMs = cells[AT.now + 1]!;
  }

  /** The stall under way. */
  get stall(): FigureTables['stall'] {
    return this.#tables.stall;
  }

  /** Returns a figure; NaN for an unknown one. @param nth which of its values, from 1 */
  number(place: number, nth = 1): number {
    return this.#cells[place + nth]!;
  }

  /** Returns a figure; `null` for an unknown one. @param nth which of its values, from 1 */
  value(place: number, nth = 1): number | null {
    return nullIfNaN(this.number(place, nth));
  }

  /** Returns a number of bytes as MB. */
  megabytes(place: number): number | null {
    return nullIfNaN(this.number(place) / MB);
  }

  /** Returns a share as percent. */
  percent(place: number): number | null {
    return nullIfNaN(this.number(place) * 100);
  }

  /** Returns the age of a figure, ms; `null` for an unknown one. */
  age(place: number): number | null {
    return this.ageOf(this.#cells[place]!);
  }

  /** Returns the age of a time of the watch's clock, ms; `null` for NaN. */
  ageOf(atMs: number): number | null {
    return nullIfNaN(Math.max(0, this.nowMs - atMs));
  }

  /** Returns quantiles of delays. */
  delays(place: number): DelayQuantiles | null {
    const cells = this.#cells;
    if (Number.isNaN(cells[place]!)) return null;
    return {
      p50: cells[place + 1]!,
      p90: cells[place + 2]!,
      p99: cells[place + 3]!,
      p999: cells[place + 4]!,
      max: cells[place + 5]!,
      mean: cells[place + 6]!,
      min: cells[place + 7]!,
      deviation: cells[place + 8]!,
      count: cells[place + 9]!,
    };
  }

  /** Returns pressure stall information. */
  pressure(place: number): PressureStall | null {
    if (Number.isNaN(this.#cells[place]!)) return null;
    return {
      some10Percent: this.number(place, 1),
      some60Percent: this.number(place, 2),
      full10Percent: this.value(place, 3),
      scope: this.number(place, 4) === 1 ? 'cgroup' : 'system',
    };
  }

  /** Returns the memory limit of which most is used. */
  binding(): MemoryLimit | null {
    if (Number.isNaN(this.#cells[AT.binding]!)) return null;
    return limitOf(this.#cells, AT.binding + 1);
  }

  /** Returns the limits of control groups and of the machine. */
  limits(): MemoryLimit[] {
    const { limits } = this.#tables;
    return Array.from({ length: limits.length / LIMIT_NUMBERS }, (_, row) =>
      limitOf(limits, row * LIMIT_NUMBERS),
    );
  }

  /** Returns the watched threads. */
  threads(): ResourceSnapshot['process']['threads'] {
    const { threads, names } = this.#tables;
    return names.map((name, row) => {
      const at = row * THREAD_NUMBERS;
      return {
        name,
        inFlight: threads[at]!,
        cpuPercent: nullIfNaN(threads[at + 1]! * 100),
        utilization: nullIfNaN(threads[at + 2]!),
        stalls: threads[at + 3]!,
        ageMs: this.ageOf(threads[at + 4]!),
      };
    });
  }
}

function limitOf(row: ArrayLike<number>, at: number): MemoryLimit {
  return {
    source: BOUNDS[row[at]!]!,
    limitMb: row[at + 1]! / MB,
    usedMb: row[at + 2]! / MB,
    percent: row[at + 3]!,
    level: row[at + 4]!,
  };
}
