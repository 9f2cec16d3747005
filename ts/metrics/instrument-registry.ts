/** The application's metrics: their names, and their text. */
import { describe, outOfRange, PortcullisError, wrongType } from '../base/errors.js';
import { knownOptions, optionsObject, wholeNumber } from '../base/options.js';
import type { Format } from './instrument.js';
import { type AnyInstrument, Counter, Gauge, Histogram } from './instruments.js';
import { LAYOUT } from './ledger.js';

/** Options of a counter or gauge. */
export interface InstrumentOptions {
  /**
   * Series with values of their own: 1 to 100000. Beyond, all others share one series whose labels
   * are all `other`. Default 1000.
   */
  readonly maxSeries?: number | undefined;
}

/** Options of a histogram. */
export interface HistogramOptions extends InstrumentOptions {
  /**
   * Upper bounds of the buckets, ascending: 1 to 100 finite numbers. One more bucket is open. With a
   * bound or a value below 0, OpenMetrics forbids a sum: its text then has buckets only.
   * Default: 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5 and 10, as in prom-client.
   */
  readonly buckets?: readonly number[] | undefined;
}

/** Lines without values, and the values. @internal */
export interface Template {
  readonly text: string;
  readonly values: Float64Array;
}

const NAME = /^[a-zA-Z_:][a-zA-Z0-9_:]{0,199}$/;
const LABEL = /^(?!__)[a-zA-Z_][a-zA-Z0-9_]{0,99}$/;
const NAME_RULE = 'a name such as shop_orders_total: letters, digits, _ and :, 200 at most';
/** End of the name of each counter. */
const TOTAL = '_total';
const LABELS_MAX = 20;
const HELP_MAX = 1000;
const SERIES_MAX = 100_000;
const BUCKETS_MAX = 100;
const BUCKETS: readonly number[] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10];
/** Beginning of names that later versions may use. */
const RESERVED = 'portcullis_';
const SUFFIXES = ['', '_total', '_bucket', '_sum', '_count', '_created'];

/** True if a name follows the grammar of metrics. @internal */
export const isMetricName = (name: unknown): name is string =>
  typeof name === 'string' && NAME.test(name);
/** True if a name follows the grammar of labels and is not reserved. @internal */
export const isLabelName = (name: unknown): name is string =>
  typeof name === 'string' && LABEL.test(name);

/** Names of all series that the families of this package may have. */
const BUILT_IN: ReadonlySet<string> = new Set(
  LAYOUT.families.flatMap((name) => SUFFIXES.map((suffix) => name + suffix)),
);

/** Returns all names that a family takes in an exposition. @internal */
export function namesOf(kind: string, name: string): readonly string[] {
  if (kind === 'counter') {
    const base = name.replace(/_total$/, '');
    return [base, `${base}_total`, `${base}_created`];
  }
  if (kind === 'histogram' || kind === 'summary')
    return [name, ...['_bucket', '_sum', '_count', '_created'].map((suffix) => name + suffix)];
  return [name];
}

/** @internal */
export class InstrumentRegistry {
  readonly #instruments: AnyInstrument[] = [];
  readonly #names = new Set<string>();

  /** All families in the order of their creation. */
  get all(): readonly AnyInstrument[] {
    return this.#instruments;
  }

  /** True if the name is one of this package or of the application. */
  isTaken(name: string): boolean {
    return name.startsWith(RESERVED) || BUILT_IN.has(name) || this.#names.has(name);
  }

  counter(name: unknown, help: unknown, labels: unknown, options: InstrumentOptions): Counter {
    const checked = check(name, help, labels, options, ['maxSeries']);
    // The name of the family is without the ending, and would be empty.
    if (checked.name === TOTAL) throw outOfRange('name', name, NAME_RULE);
    const fullName = checked.name.endsWith(TOTAL) ? checked.name : `${checked.name}${TOTAL}`;
    this.#take('counter', fullName);
    return this.#add(new Counter(fullName, checked.help, checked.labels, checked.maxSeries));
  }

  gauge(name: unknown, help: unknown, labels: unknown, options: InstrumentOptions): Gauge {
    const checked = check(name, help, labels, options, ['maxSeries']);
    this.#take('gauge', checked.name);
    return this.#add(new Gauge(checked.name, checked.help, checked.labels, checked.maxSeries));
  }

  histogram(name: unknown, help: unknown, labels: unknown, options: HistogramOptions): Histogram {
    const checked = check(name, help, labels, options, ['maxSeries', 'buckets']);
    if (checked.labels.includes('le'))
      throw outOfRange('labelNames', 'le', 'names other than `le`, the label of its buckets');
    const buckets = bucketsOf(options.buckets);
    this.#take('histogram', checked.name);
    return this.#add(
      new Histogram(checked.name, checked.help, checked.labels, checked.maxSeries, buckets),
    );
  }

  #take(kind: string, name: string): void {
    const names = namesOf(kind, name);
    const taken = names.find((one) => this.isTaken(one));
    if (taken !== undefined)
      throw new PortcullisError(
        'ERR_DUPLICATE_NAME',
        `the name ${taken} belongs to another metric, or to this package`,
        { field: 'name', value: taken, allowed: 'a name that is not in use' },
      );
    for (const one of names) this.#names.add(one);
  }

  #add<I extends AnyInstrument>(instrument: I): I {
    this.#instruments.push(instrument);
    return instrument;
  }

  /** Returns the text of all families, and of `more`, with their values of this moment. */
  template(format: Format, more: readonly (AnyInstrument | undefined)[]): Template {
    const all = [...more.filter((one) => one !== undefined), ...this.#instruments];
    let count = 0;
    for (const instrument of all) count += instrument.valueCount(format);
    const values = new Float64Array(count);
    let at = 0;
    let text = '';
    for (const instrument of all) {
      if (instrument.all.length === 0) continue;
      text += instrument.template(format);
      at = instrument.values(values, at, format);
    }
    return { text, values };
  }
}

interface Checked {
  readonly name: string;
  readonly help: string;
  readonly labels: readonly string[];
  readonly maxSeries: number;
}

function check(
  name: unknown,
  help: unknown,
  labels: unknown,
  options: InstrumentOptions,
  known: readonly string[],
): Checked {
  if (typeof name !== 'string') throw wrongType('name', name, NAME_RULE);
  if (!NAME.test(name)) throw outOfRange('name', name, NAME_RULE);
  const helpRule = `a text of 1 to ${HELP_MAX} characters`;
  if (typeof help !== 'string') throw wrongType('help', help, helpRule);
  if (help === '' || help.length > HELP_MAX) throw outOfRange('help', help, helpRule);
  optionsObject('options', options);
  knownOptions('the metric', options, known);
  return {
    name,
    help: help.replaceAll('\r', ' '),
    labels: labelNamesOf(labels),
    maxSeries: wholeNumber('maxSeries', options.maxSeries, 1, SERIES_MAX, 1000),
  };
}

function labelNamesOf(given: unknown): readonly string[] {
  const rule = `at most ${LABELS_MAX} different names of letters, digits and _, without __ in front`;
  if (!Array.isArray(given)) throw wrongType('labelNames', given, `an array of ${rule}`);
  const names: readonly unknown[] = [...(given as readonly unknown[])];
  if (names.length > LABELS_MAX) throw outOfRange('labelNames', names.length, rule);
  for (const name of names) {
    if (typeof name !== 'string') throw wrongType('labelNames', name, rule);
    if (!LABEL.test(name)) throw outOfRange('labelNames', name, rule);
  }
  if (new Set(names).size !== names.length) throw outOfRange('labelNames', names.join(', '), rule);
  return names as readonly string[];
}

/** Returns a bound as in messages: text is not quoted, since the list of them is. */
const boundOf = (bound: unknown): string => (typeof bound === 'string' ? bound : describe(bound));

function bucketsOf(given: unknown): readonly number[] {
  const rule = `1 to ${BUCKETS_MAX} finite numbers, ascending`;
  if (given === undefined) return BUCKETS;
  if (!Array.isArray(given)) throw wrongType('buckets', given, `an array of ${rule}`);
  const bounds: readonly unknown[] = [...(given as readonly unknown[])];
  const isRight =
    bounds.length > 0 &&
    bounds.length <= BUCKETS_MAX &&
    bounds.every(
      (bound, at) =>
        typeof bound === 'number' &&
        Number.isFinite(bound) &&
        (at === 0 || bound > (bounds[at - 1] as number)),
    );
  if (!isRight) throw outOfRange('buckets', bounds.slice(0, 5).map(boundOf).join(', '), rule);
  return bounds as readonly number[];
}
