/**
 * Checks of the values of other libraries. A parser of OpenMetrics refuses a whole text for a histogram that contradicts
 * itself, or for a value that its type cannot have.
 */

/** One value of a family, as far as it can be read. */
interface Sample {
  readonly metricName?: unknown;
  readonly value?: unknown;
  readonly labels?: Readonly<Record<string, unknown>> | null | undefined;
}

/** A number of OpenMetrics. */
const NUMBER = /^[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:e[+-]?\d+)?$/i;

/** Returns the number of a label `le` or `quantile`, which may be text; NaN for any other value. */
export function boundOf(value: unknown): number {
  if (typeof value === 'number') return value;
  if (value === '+Inf') return Infinity;
  return typeof value === 'string' && NUMBER.test(value) ? Number(value) : NaN;
}

/** The series of a histogram with the same labels besides `le`. */
class Buckets {
  #bound = -Infinity;
  #below = 0;
  #count: number | undefined;
  #hasSum = false;

  /** Notes a series. Returns false if it contradicts those before it. */
  add(suffix: string, le: unknown, value: number): boolean {
    if (suffix === '_bucket') {
      const bound = boundOf(le);
      const rises = bound > this.#bound && value >= this.#below;
      this.#bound = bound;
      this.#below = value;
      return rises;
    }
    if (suffix === '_count') this.#count = value;
    if (suffix === '_sum') this.#hasSum = true;
    return suffix !== '' && le === undefined;
  }

  /** True if the last bucket holds all values, as many as `_count` says, and neither it nor `_sum` stands alone. */
  get isWhole(): boolean {
    return (
      this.#bound === Infinity &&
      this.#hasSum === (this.#count !== undefined) &&
      (this.#count ?? this.#below) === this.#below
    );
  }
}

/** True if the series of a family stand together by their labels, and each histogram agrees with itself. */
export function isConsistent(kind: string, family: string, values: readonly unknown[]): boolean {
  const groups = new Map<string, Buckets>();
  let last: Buckets | undefined;
  for (const given of values) {
    const { metricName = family, value, labels } = given as Sample;
    const { le, quantile, ...others } = labels ?? {};
    const key = Object.entries(kind === 'histogram' ? { ...others, quantile } : { ...others, le })
      .map(([name, text]) => JSON.stringify([name, String(text)]))
      .toSorted()
      .join();
    const group = groups.get(key) ?? new Buckets();
    if (groups.has(key) && group !== last) return false;
    groups.set(key, group);
    last = group;
    const suffix = String(metricName).slice(family.length);
    if (kind === 'histogram' && !group.add(suffix, le, value as number)) return false;
  }
  return kind !== 'histogram' || [...groups.values()].every(({ isWhole }) => isWhole);
}

/** True unless a summary has a quantile that is no number. */
export function hasQuantiles(values: readonly unknown[]): boolean {
  return (values as readonly Sample[]).every(({ labels }) => {
    const { quantile } = labels ?? {};
    return quantile === undefined || !Number.isNaN(boundOf(quantile));
  });
}

/** True if OpenMetrics allows the values of a family for its type. Sums and quantiles below 0 are left out elsewhere. */
export function areAllowed(kind: string, family: string, values: readonly unknown[]): boolean {
  return (values as readonly Sample[]).every(({ metricName = family, value, labels }) => {
    const suffix = String(metricName).slice(family.length);
    if (kind === 'counter') return Number(value) >= 0;
    if (kind !== 'histogram' && kind !== 'summary') return true;
    if (suffix === '_bucket' || suffix === '_count')
      return Number.isInteger(value) && Number(value) >= 0;
    if (suffix === '_sum') return !Number.isNaN(value);
    const quantile = boundOf(labels?.['quantile']);
    return kind === 'histogram' || suffix !== '' || (quantile >= 0 && quantile <= 1);
  });
}
