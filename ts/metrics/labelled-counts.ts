/**
 * Counts by label. Clients may cause any number of labels, so labels beyond a cap share `other`.
 */
import { wrongType } from '../base/errors.js';
import { cleaned, OTHER } from './routes.js';

const LABELS_MAX = 100;
const LABEL_MAX = 60;

/** @internal */
export class LabelledCounts {
  readonly #counts = new Map<string, number>();

  /**
   * Adds to the count of a label.
   * @param field name of the argument in an error
   * @throws ERR_INVALID_ARG_TYPE unless the label is a string that is not empty
   */
  add(field: string, label: unknown, count = 1): void {
    if (typeof label !== 'string' || label === '')
      throw wrongType(field, label, 'a string that is not empty');
    let key = label.length > LABEL_MAX ? label.slice(0, LABEL_MAX) : label;
    let known = this.#counts.get(key);
    if (known === undefined) {
      key = cleaned(key);
      if (!this.#counts.has(key) && this.#counts.size >= LABELS_MAX - 1) key = OTHER;
      known = this.#counts.get(key) ?? 0;
    }
    this.#counts.set(key, known + count);
  }

  entries(): [string, number][] {
    return [...this.#counts];
  }
}

/** Returns the entries with the highest counts, the highest first. @internal */
export function topOf(entries: [string, number][], count: number): Record<string, number> {
  return Object.fromEntries(entries.toSorted((a, b) => b[1] - a[1]).slice(0, count));
}
