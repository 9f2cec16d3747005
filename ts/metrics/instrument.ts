/**
 * A family of series with the same label names: lookup with a limit, and its text. Series beyond the
 * limit share one whose labels are all `other`.
 */
import { outOfRange, wrongType } from '../base/errors.js';
import { cleaned, OTHER } from './routes.js';
import type { AnySeries } from './series.js';

/** Value of a label. Numbers and booleans count as their text. */
export type LabelValue = string | number | boolean;

/** Values of labels: one for each name. */
export type LabelValues = Readonly<Record<string, LabelValue>>;

/** Series that share an array. An array is never replaced, since series refer to it. */
const CHUNK = 64;
/** Longest value of a label; longer ones are cut. */
const VALUE_MAX = 200;

type Place = Map<string, Place | AnySeries>;
/** Format of an exposition. */
export type Format = 'openmetrics' | 'prometheus';

/** One series as it is read. @internal */
export interface SeriesReading<S> {
  readonly series: S;
  readonly labels: readonly string[];
}

/** Family of series with the same label names. */
export abstract class Instrument<S extends AnySeries> {
  /** Name in the exposition; that of a counter ends with `_total`. */
  readonly name: string;
  /** @internal */
  readonly help: string;
  /** @internal */
  readonly labelNames: readonly string[];
  /** All series in the order of their creation. @internal */
  readonly all: SeriesReading<S>[] = [];
  /** Cells of a series. @internal */
  readonly width: number;
  /** @internal */
  readonly chunks: Float64Array[] = [];
  readonly #maxSeries: number;
  readonly #places: Place = new Map();
  /** The only series of a family without labels. @internal */
  protected readonly only: S | undefined;
  #overflow: S | undefined;
  readonly #templates: Record<Format, { text: string; count: number }> = {
    openmetrics: { text: '', count: 0 },
    prometheus: { text: '', count: 0 },
  };

  /** @internal */
  constructor(
    name: string,
    help: string,
    labelNames: readonly string[],
    maxSeries: number,
    width: number,
    make: (cells: Float64Array, at: number) => S,
  ) {
    this.name = name;
    this.help = help;
    this.labelNames = labelNames;
    this.width = width;
    this.#maxSeries = maxSeries;
    this.#make = make;
    if (labelNames.length === 0) this.only = this.#append([]);
  }

  readonly #make: (cells: Float64Array, at: number) => S;

  /**
   * Returns the series of label values, creating it if there is room. Keep it: a lookup costs more
   * than a count. Beyond `maxSeries`, all others share one series whose labels are all `other`.
   * @param values one value for each label name, in their order, or one object with all of them.
   *   Cut to 200 characters; control characters become `?`
   * @throws ERR_INVALID_ARG_TYPE for wrong values, ERR_OUT_OF_RANGE for too many, too few, missing or
   *   unknown names
   */
  labels(...values: readonly LabelValue[] | readonly [LabelValues]): S {
    const [first] = values;
    const given =
      typeof first === 'object' && first !== null
        ? this.#ordered(first)
        : (values as readonly LabelValue[]);
    let place: Place | S | undefined = this.#places;
    if (given.length !== this.labelNames.length) throw this.#wrongCount(given.length);
    if (given.length === 0) return this.only!;
    for (let at = 0; at < given.length; at++) {
      const value = given[at]!;
      place = (place as Place).get(typeof value === 'string' ? value : textOf(value)) as
        Place | S | undefined;
      if (place === undefined) return this.#find(given);
    }
    return place as S;
  }

  #ordered(values: LabelValues): readonly LabelValue[] {
    for (const name of Object.keys(values))
      if (!this.labelNames.includes(name))
        throw outOfRange('labels', name, `the names ${this.labelNames.join(', ') || '(none)'}`);
    return this.labelNames.map((name) => {
      const value = Object.hasOwn(values, name) ? values[name] : undefined;
      if (value === undefined) throw outOfRange(`labels.${name}`, value, 'a value of this label');
      return value;
    });
  }

  #wrongCount(count: number): Error {
    return outOfRange(
      'labels',
      count,
      `${this.labelNames.length} values: ${this.labelNames.join(', ') || 'none'}`,
    );
  }

  /** Returns the series of values that were not found as they are. */
  #find(given: readonly LabelValue[]): S {
    const values = given.map((value) => cleaned(textOf(value).slice(0, VALUE_MAX)));
    const known = this.#lookup(values);
    if (known !== undefined) return known;
    if (this.all.length < this.#maxSeries) return this.#insert(values);
    // The application may have used the value `other` itself.
    const others = values.map(() => OTHER);
    return (this.#overflow ??= this.#lookup(others) ?? this.#insert(others));
  }

  #lookup(values: readonly string[]): S | undefined {
    let place: Place | AnySeries | undefined = this.#places;
    for (const value of values) {
      if (place === undefined) return undefined;
      place = (place as Place).get(value);
    }
    return place as S | undefined;
  }

  #insert(values: readonly string[]): S {
    const series = this.#append(values);
    let place = this.#places;
    for (const value of values.slice(0, -1)) {
      const next = (place.get(value) as Place | undefined) ?? (new Map() as Place);
      place.set(value, next);
      place = next;
    }
    place.set(values.at(-1)!, series);
    return series;
  }

  #append(labels: readonly string[]): S {
    const at = this.all.length % CHUNK;
    if (at === 0) this.chunks.push(new Float64Array(CHUNK * this.width));
    const series = this.#make(this.chunks.at(-1)!, at * this.width);
    this.all.push({ series, labels });
    return series;
  }

  /** Word of the type in the exposition. @internal */
  abstract readonly kind: 'counter' | 'gauge' | 'histogram';
  /** Returns the lines of one series without values. @internal */
  protected abstract lines(labels: string, format: Format): string;
  /** Writes the values of the lines of one series; returns the place after them. @internal */
  protected abstract write(series: S, into: Float64Array, at: number, format: Format): number;
  /** Returns the number of lines of a series. @internal */
  protected abstract lineCount(format: Format): number;

  /** Returns the lines of the family without values; only new series are written. @internal */
  template(format: Format): string {
    const known = this.#templates[format];
    if (known.text === '') known.text = this.#head(format);
    if (known.count < this.all.length) {
      let added = '';
      for (const { labels } of this.all.slice(known.count))
        added += this.lines(labelText(this.labelNames, labels), format);
      known.text += added;
      known.count = this.all.length;
    }
    return known.text;
  }

  #head(format: Format): string {
    const isOpen = format === 'openmetrics';
    const name =
      isOpen && this.kind === 'counter' ? this.name.slice(0, -'_total'.length) : this.name;
    return `# HELP ${name} ${helpText(this.help, isOpen)}\n# TYPE ${name} ${this.kind}\n`;
  }

  /** Has all lines written anew. @internal */
  protected rewrite(): void {
    for (const known of Object.values(this.#templates)) {
      known.text = '';
      known.count = 0;
    }
  }

  /** Returns the number of values that the template lacks. @internal */
  valueCount(format: Format): number {
    return this.all.length * this.lineCount(format);
  }

  /** Writes the values that the template lacks. @internal */
  values(into: Float64Array, start: number, format: Format): number {
    let at = start;
    for (const { series } of this.all) at = this.write(series, into, at, format);
    return at;
  }
}

function textOf(value: LabelValue): string {
  if (typeof value === 'string') return value;
  if (typeof value === 'number' || typeof value === 'boolean') return String(value);
  throw wrongType('labels', value, 'strings, numbers or booleans');
}

/** Returns the line of a series without its value. @internal */
export const seriesLine = (name: string, labels: string): string =>
  labels === '' ? `${name}\n` : `${name}{${labels}}\n`;

/**
 * Returns a bucket's bound: OpenMetrics requires a float, Prometheus writes whole numbers so.
 * @internal
 */
export function boundText(bound: number, format: Format): string {
  if (bound === Infinity) return '+Inf';
  return format === 'openmetrics' && Number.isInteger(bound) && Math.abs(bound) < 1e21
    ? `${bound}.0`
    : String(bound);
}

/** Returns the labels of a series as text. @internal */
export function labelText(names: readonly string[], values: readonly string[]): string {
  return names.map((name, at) => `${name}="${escaped(values[at]!)}"`).join(',');
}

function escaped(text: string): string {
  return text.replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('\n', '\\n');
}

/** Returns a help text on one line; only OpenMetrics escapes quotes. @internal */
export function helpText(help: string, isOpenMetrics: boolean): string {
  return isOpenMetrics ? escaped(help) : help.replaceAll('\\', '\\\\').replaceAll('\n', '\\n');
}
