/**
 * Registries of other libraries, such as prom-client's, whose metrics the exposition shows. A
 * registry is code of the application: it may be late, throw, or report anything.
 */
import type { Clock } from '../base/clock.js';
import { wrongType } from '../base/errors.js';
import { isThenable } from '../base/hooks.js';
import { knownOptions, optionsObject, TIME_MAX_MS, wholeNumber } from '../base/options.js';
import { TimerManager } from '../timers/manager.js';
import { areAllowed, boundOf, hasQuantiles, isConsistent } from './merged-histograms.js';
import { isLabelName, isMetricName, namesOf, type Template } from './instrument-registry.js';
import { type Format, helpText, labelText, seriesLine } from './instrument.js';

/** Registry of another library. prom-client's `Registry` is one. */
export interface MetricRegistry {
  /** Returns the metrics, or a promise of them: an array in the form of prom-client. */
  getMetricsAsJSON(): unknown;
}

/** Options of `merge`. */
export interface MergeOptions {
  /**
   * Time for the registry's answer, 1 to 2^30 ms. An exposition goes without a registry that is
   * late. Default 1000.
   */
  readonly timeoutMs?: number | undefined;
  /** Series that are shown, 1 to 1000000; families beyond them are left out. Default 10000. */
  readonly maxSeries?: number | undefined;
}

interface Merged {
  readonly registry: MetricRegistry;
  readonly timeoutMs: number;
  readonly maxSeries: number;
  isBusy: boolean;
}

type Reason = 'timeout' | 'error' | 'conflict' | 'invalid' | 'limit';

const KINDS = ['counter', 'gauge', 'histogram', 'summary'];
const LATE = Symbol('late');
const NOTHING: Template = { text: '', values: new Float64Array() };

/** @internal */
export class MergedRegistries {
  readonly #all: Merged[] = [];
  readonly #failures = new Map<Reason, number>();
  /** On the clock of the metrics, whose own timers end before the last exposition does. */
  readonly #timers: TimerManager;

  constructor(clock: Clock) {
    this.#timers = new TimerManager({ clock, name: 'metrics.merge' });
  }

  get isEmpty(): boolean {
    return this.#all.length === 0;
  }

  /** Failures so far by reason. */
  get failures(): [reason: string, count: number][] {
    return [...this.#failures];
  }

  /**
   * Adds a registry; repeated calls have no effect.
   * @throws ERR_INVALID_ARG_TYPE, ERR_OUT_OF_RANGE, ERR_UNKNOWN_OPTION
   */
  add(registry: MetricRegistry, options: MergeOptions): void {
    if (typeof (registry as Partial<MetricRegistry> | null)?.getMetricsAsJSON !== 'function')
      throw wrongType('registry', registry, 'an object with getMetricsAsJSON()');
    optionsObject('options', options);
    knownOptions('merge', options, ['timeoutMs', 'maxSeries']);
    const timeoutMs = wholeNumber('timeoutMs', options.timeoutMs, 1, TIME_MAX_MS, 1000);
    const maxSeries = wholeNumber('maxSeries', options.maxSeries, 1, 1_000_000, 10_000);
    if (this.#all.some((merged) => merged.registry === registry)) return;
    this.#all.push({ registry, timeoutMs, maxSeries, isBusy: false });
  }

  /**
   * Reads all registries at once; never rejects.
   * @param isTaken tells the names of other families, which win
   */
  async read(format: Format, isTaken: (name: string) => boolean): Promise<Template> {
    const answers = await Promise.all(this.#all.map((merged) => this.#ask(merged)));
    const writer = new TemplateWriter(format, isTaken, (reason) => this.#count(reason));
    answers.forEach((families, at) => writer.add(families, this.#all[at]!.maxSeries));
    return answers.length === 0 ? NOTHING : writer.template();
  }

  #count(reason: Reason): void {
    this.#failures.set(reason, (this.#failures.get(reason) ?? 0) + 1);
  }

  async #ask(merged: Merged): Promise<readonly unknown[]> {
    // An answer of the last exposition is still to come: a second question would wait, too.
    if (merged.isBusy) {
      this.#count('timeout');
      return [];
    }
    merged.isBusy = true;
    try {
      const answer = await this.#inTime(merged);
      if (Array.isArray(answer)) return answer as readonly unknown[];
      this.#count(answer === LATE ? 'timeout' : 'invalid');
    } catch {
      this.#count('error');
    }
    return [];
  }

  async #inTime(merged: Merged): Promise<unknown> {
    const free = (): void => void (merged.isBusy = false);
    let settled: Promise<unknown>;
    try {
      const answer: unknown = merged.registry.getMetricsAsJSON();
      if (!isThenable(answer)) {
        free();
        return answer;
      }
      settled = Promise.resolve(answer);
    } catch (error) {
      free();
      throw error;
    }
    settled.then(free, free);
    let ring: () => void = () => undefined;
    const late = new Promise<typeof LATE>((resolve) => (ring = () => resolve(LATE)));
    const timer = this.#timers.setTimeout(ring, merged.timeoutMs);
    try {
      return await Promise.race([settled, late]);
    } finally {
      timer.close();
    }
  }
}

/** Writes families in the form of prom-client's `getMetricsAsJSON()`. */
class TemplateWriter {
  readonly #isOpen: boolean;
  readonly #isTaken: (name: string) => boolean;
  readonly #onProblem: (reason: Reason) => void;
  /** Names of the families so far: those of an earlier registry win. */
  readonly #names = new Set<string>();
  readonly #values: number[] = [];
  /** Series of the family under way: a second one of the same labels would spoil the text. */
  readonly #series = new Set<string>();
  #text = '';

  constructor(
    format: Format,
    isTaken: (name: string) => boolean,
    onProblem: (reason: Reason) => void,
  ) {
    this.#isOpen = format === 'openmetrics';
    this.#isTaken = isTaken;
    this.#onProblem = onProblem;
  }

  template(): Template {
    return { text: this.#text, values: Float64Array.from(this.#values) };
  }

  add(families: readonly unknown[], maxSeries: number): void {
    const end = this.#values.length + maxSeries;
    for (const family of families) {
      const length = this.#values.length;
      const text = this.#text;
      let problem: Reason | undefined;
      try {
        problem = this.#family(family, end);
      } catch {
        // A getter of the family threw.
        problem = 'invalid';
      }
      if (problem === undefined) continue;
      this.#onProblem(problem);
      // All or nothing: half a histogram would be wrong.
      this.#values.length = length;
      this.#text = text;
    }
  }

  #family(family: unknown, end: number): Reason | undefined {
    const { name, help, type, values } = family as Readonly<Record<string, unknown>>;
    if (!isMetricName(name) || typeof help !== 'string' || !Array.isArray(values)) return 'invalid';
    const kind = KINDS.includes(type as string) ? (type as string) : 'unknown';
    const names = namesOf(kind, name);
    if (names.some((one) => this.#isTaken(one) || this.#names.has(one))) return 'conflict';
    if (this.#values.length + values.length > end) return 'limit';
    if (names.includes('')) return 'invalid';
    if (hasBounds(kind) && !isConsistent(kind, name, values)) return 'invalid';
    if (kind === 'summary' && !hasQuantiles(values)) return 'invalid';
    if (this.#isOpen && !areAllowed(kind, name, values)) return 'invalid';
    const base = kind === 'counter' && this.#isOpen ? name.replace(/_total$/, '') : name;
    const word = kind === 'unknown' && !this.#isOpen ? 'untyped' : kind;
    const description = helpText(help.replaceAll('\r', ' '), this.#isOpen);
    this.#text += `# HELP ${base} ${description}\n# TYPE ${base} ${word}\n`;
    this.#series.clear();
    for (const value of this.#isOpen ? withoutNegatives(kind, values, name) : values)
      if (!this.#write(value, name, kind, names)) return 'invalid';
    for (const one of names) this.#names.add(one);
    return undefined;
  }

  #write(given: unknown, family: string, kind: string, names: readonly string[]): boolean {
    const { labels, value, metricName } = given as Readonly<Record<string, unknown>>;
    const isCounter = kind === 'counter' && this.#isOpen;
    const name = isCounter ? names[1]! : (metricName ?? family);
    if (typeof value !== 'number' || typeof name !== 'string' || !names.includes(name))
      return false;
    const entries = Object.entries((labels as object | undefined) ?? {});
    if (!entries.every(([label]) => isLabelName(label))) return false;
    const texts = entries.map(([label, text]) =>
      hasBounds(kind) && (label === 'le' || label === 'quantile')
        ? boundText(text, this.#isOpen)
        : labelValue(text),
    );
    const pairs = entries.map(([label], at) => labelText([label], [texts[at]!]));
    // The same labels in another order are the same series.
    const key = `${name}{${pairs.toSorted().join(',')}}`;
    if (this.#series.has(key)) return false;
    this.#series.add(key);
    this.#text += seriesLine(name, pairs.join(','));
    this.#values.push(value);
    return true;
  }
}

/** One value of a family, as far as it can be read. */
interface Sample {
  readonly metricName?: unknown;
  readonly value?: unknown;
  readonly labels?: { readonly le?: unknown } | undefined;
}

/** True for `_sum` and `_count`, which OpenMetrics wants together. */
function isSum(given: unknown, family: string): boolean {
  const { metricName } = given as Sample;
  return metricName === `${family}_sum` || metricName === `${family}_count`;
}

/** Returns the values without negative sums and quantiles, which OpenMetrics does not allow. */
function withoutNegatives(
  kind: string,
  values: readonly unknown[],
  family: string,
): readonly unknown[] {
  if (kind === 'histogram')
    return hasNegatives(values, family) ? values.filter((one) => !isSum(one, family)) : values;
  return kind === 'summary'
    ? (values as readonly Sample[]).filter(({ value }) => !(Number(value) < 0))
    : values;
}

/** Whether a histogram has a bound or a sum below 0: its sum is no counter, and OpenMetrics forbids it. */
function hasNegatives(values: readonly unknown[], family: string): boolean {
  return (values as readonly Sample[]).some(({ metricName, value, labels }) =>
    metricName === `${family}_sum` ? Number(value) < 0 : Number(labels?.le) < 0,
  );
}

const hasBounds = (kind: string): boolean => kind === 'histogram' || kind === 'summary';

// A lone surrogate has no form in UTF-8.
const labelValue = (value: unknown): string => String(value).replaceAll(/\p{Cs}/gu, '\u{fffd}');

/** Returns the text of a label `le` or `quantile`: OpenMetrics wants a number with a point. */
function boundText(value: unknown, isOpen: boolean): string {
  const bound = boundOf(value);
  if (Number.isNaN(bound)) return labelValue(value);
  if (bound === Infinity) return '+Inf';
  return isOpen && /^-?\d+$/.test(String(bound)) ? `${bound}.0` : String(bound);
}
