/** Series of the application's metrics: places in a typed array, whose counting is one store. */
import { outOfRange, wrongType } from '../base/errors.js';

/** Counts or measurements of one combination of label values. */
export interface AnySeries {
  /** @internal */
  readonly cells: Float64Array;
  /** @internal */
  readonly at: number;
}

/** A series of a counter. */
export class CounterSeries implements AnySeries {
  /** @internal */
  constructor(
    /** @internal */
    readonly cells: Float64Array,
    /** @internal */
    readonly at: number,
  ) {}

  /**
   * Adds to the count.
   * @param by a finite number of at least 0. Default 1
   * @throws ERR_INVALID_ARG_TYPE, ERR_OUT_OF_RANGE; nothing is counted then
   */
  inc(by = 1): void {
    if (typeof by !== 'number' || !(by >= 0 && by < Infinity)) throw wrongStep(by);
    this.cells[this.at]! += by;
  }
}

/** A series of a gauge. */
export class GaugeSeries implements AnySeries {
  /** @internal */
  constructor(
    /** @internal */
    readonly cells: Float64Array,
    /** @internal */
    readonly at: number,
  ) {}

  /**
   * Sets the value.
   * @param value any number
   * @throws ERR_INVALID_ARG_TYPE
   */
  set(value: number): void {
    if (typeof value !== 'number') throw wrongType('value', value, 'a number');
    this.cells[this.at] = value;
  }

  /**
   * Adds to the value.
   * @param by any number. Default 1
   * @throws ERR_INVALID_ARG_TYPE
   */
  inc(by = 1): void {
    if (typeof by !== 'number') throw wrongType('by', by, 'a number');
    this.cells[this.at]! += by;
  }

  /**
   * Subtracts from the value.
   * @param by any number. Default 1
   * @throws ERR_INVALID_ARG_TYPE
   */
  dec(by = 1): void {
    if (typeof by !== 'number') throw wrongType('by', by, 'a number');
    this.cells[this.at]! -= by;
  }
}

/** State that all series of a histogram share. @internal */
export interface HistogramShape {
  /** Upper bounds of the buckets but the last, which is open. */
  readonly bounds: Float64Array;
  /** Whether a bound or a value so far is below 0. */
  hasNegatives: boolean;
}

/** A series of a histogram. */
export class HistogramSeries implements AnySeries {
  /** @internal */
  constructor(
    /** @internal */
    readonly cells: Float64Array,
    /** @internal */
    readonly at: number,
    /** @internal */
    readonly shape: HistogramShape,
  ) {}

  /**
   * Counts a value in its bucket and adds it to the sum.
   * @param value a finite number
   * @throws ERR_INVALID_ARG_TYPE, ERR_OUT_OF_RANGE; nothing is counted then
   */
  observe(value: number): void {
    // The difference of a number that is not finite is NaN.
    if (typeof value !== 'number' || value - value !== 0) throw wrongObservation(value);
    const { shape, cells, at } = this;
    const { bounds } = shape;
    if (value < 0) shape.hasNegatives = true;
    const last = bounds.length;
    let bucket = 0;
    while (bucket < last && value > bounds[bucket]!) bucket++;
    cells[at + bucket]!++;
    cells[at + last + 1]! += value;
  }
}

function wrongStep(by: unknown): Error {
  const allowed = 'a finite number of at least 0';
  return typeof by === 'number' ? outOfRange('by', by, allowed) : wrongType('by', by, allowed);
}

function wrongObservation(value: unknown): Error {
  return typeof value === 'number'
    ? outOfRange('value', value, 'a finite number')
    : wrongType('value', value, 'a finite number');
}
