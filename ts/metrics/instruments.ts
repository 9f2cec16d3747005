/** Metrics of the application: counters, gauges and histograms with labels. */
import { boundText, type Format, Instrument, seriesLine } from './instrument.js';
import { CounterSeries, GaugeSeries, HistogramSeries, type HistogramShape } from './series.js';

/**
 * Counter of the application, from `ProductionMetrics.counter()`.
 *
 * @example
 * const orders = metrics.counter('shop_orders_total', 'Orders by outcome', ['outcome']);
 * const paid = orders.labels('paid');
 * paid.inc();
 */
export class Counter extends Instrument<CounterSeries> {
  /** @internal */
  readonly kind = 'counter';
  /** @internal */
  protected lineCount(): number {
    return 1;
  }

  /** @internal */
  constructor(name: string, help: string, labelNames: readonly string[], maxSeries: number) {
    super(name, help, labelNames, maxSeries, 1, (cells, at) => new CounterSeries(cells, at));
  }

  /**
   * Adds to the count of a counter without labels.
   * @param by a finite number of at least 0. Default 1
   * @throws ERR_INVALID_ARG_TYPE, ERR_OUT_OF_RANGE, also for a counter with labels
   */
  inc(by = 1): void {
    (this.only ?? this.labels()).inc(by);
  }

  /** @internal */
  protected lines(labels: string): string {
    return seriesLine(this.name, labels);
  }

  /** @internal */
  protected write({ cells, at }: CounterSeries, into: Float64Array, to: number): number {
    into[to] = cells[at]!;
    return to + 1;
  }
}

/**
 * Gauge of the application, from `ProductionMetrics.gauge()`.
 *
 * @example
 * const depth = metrics.gauge('shop_queue_depth', 'Waiting orders');
 * depth.set(queue.length);
 */
export class Gauge extends Instrument<GaugeSeries> {
  /** @internal */
  readonly kind = 'gauge';
  /** @internal */
  protected lineCount(): number {
    return 1;
  }

  /** @internal */
  constructor(name: string, help: string, labelNames: readonly string[], maxSeries: number) {
    super(name, help, labelNames, maxSeries, 1, (cells, at) => new GaugeSeries(cells, at));
  }

  /**
   * Sets the value of a gauge without labels.
   * @param value any number
   * @throws ERR_INVALID_ARG_TYPE; ERR_OUT_OF_RANGE for a gauge with labels
   */
  set(value: number): void {
    (this.only ?? this.labels()).set(value);
  }

  /**
   * Adds to the value of a gauge without labels.
   * @param by any number. Default 1
   * @throws ERR_INVALID_ARG_TYPE; ERR_OUT_OF_RANGE for a gauge with labels
   */
  inc(by = 1): void {
    (this.only ?? this.labels()).inc(by);
  }

  /**
   * Subtracts from the value of a gauge without labels.
   * @param by any number. Default 1
   * @throws ERR_INVALID_ARG_TYPE; ERR_OUT_OF_RANGE for a gauge with labels
   */
  dec(by = 1): void {
    (this.only ?? this.labels()).dec(by);
  }

  /** @internal */
  protected lines(labels: string): string {
    return seriesLine(this.name, labels);
  }

  /** @internal */
  protected write({ cells, at }: GaugeSeries, into: Float64Array, to: number): number {
    into[to] = cells[at]!;
    return to + 1;
  }
}

/**
 * Histogram of the application, from `ProductionMetrics.histogram()`.
 *
 * @example
 * const sizes = metrics.histogram('shop_order_euros', 'Orders', [], { buckets: [10, 100, 1000] });
 * sizes.observe(42);
 */
export class Histogram extends Instrument<HistogramSeries> {
  /** @internal */
  readonly kind = 'histogram';
  /** @internal */
  readonly shape: HistogramShape;
  /** Whether the lines of OpenMetrics have no sums. */
  #lacksSums: boolean;

  /** @internal */
  constructor(
    name: string,
    help: string,
    labelNames: readonly string[],
    maxSeries: number,
    buckets: readonly number[],
  ) {
    const bounds = Float64Array.from(buckets);
    const shape: HistogramShape = { bounds, hasNegatives: bounds[0]! < 0 };
    super(
      name,
      help,
      labelNames,
      maxSeries,
      bounds.length + 2,
      (cells, at) => new HistogramSeries(cells, at, shape),
    );
    this.shape = shape;
    this.#lacksSums = shape.hasNegatives;
  }

  /**
   * Whether a series has the lines `_sum` and `_count`. In OpenMetrics both belong together, and a sum is a counter:
   * where values are below 0 it might fall, and strict parsers reject the text.
   */
  #hasSums(format: Format): boolean {
    return format === 'prometheus' || !this.shape.hasNegatives;
  }

  /** @internal */
  override template(format: Format): string {
    if (this.#lacksSums !== this.shape.hasNegatives) {
      this.#lacksSums = this.shape.hasNegatives;
      this.rewrite();
    }
    return super.template(format);
  }

  /** @internal */
  protected lineCount(format: Format): number {
    return this.shape.bounds.length + (this.#hasSums(format) ? 3 : 1);
  }

  /**
   * Counts a value of a histogram without labels.
   * @param value a finite number
   * @throws ERR_INVALID_ARG_TYPE, ERR_OUT_OF_RANGE, also for a histogram with labels
   */
  observe(value: number): void {
    (this.only ?? this.labels()).observe(value);
  }

  /** @internal */
  protected lines(labels: string, format: Format): string {
    const comma = labels === '' ? '' : ',';
    let text = '';
    for (const bound of [...this.shape.bounds, Infinity])
      text += `${this.name}_bucket{${labels}${comma}le="${boundText(bound, format)}"}\n`;
    if (!this.#hasSums(format)) return text;
    return `${text}${seriesLine(`${this.name}_sum`, labels)}${seriesLine(`${this.name}_count`, labels)}`;
  }

  /** @internal */
  protected write(
    { cells, at }: HistogramSeries,
    into: Float64Array,
    to: number,
    format: Format,
  ): number {
    const buckets = this.shape.bounds.length + 1;
    let count = 0;
    for (let bucket = 0; bucket < buckets; bucket++)
      into[to + bucket] = count += cells[at + bucket]!;
    if (!this.#hasSums(format)) return to + buckets;
    into[to + buckets] = cells[at + buckets]!;
    into[to + buckets + 1] = count;
    return to + buckets + 2;
  }
}

/** @internal */
export type AnyInstrument = Counter | Gauge | Histogram;
