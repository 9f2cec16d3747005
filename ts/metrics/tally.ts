/** Counts by name, of names that strangers may choose: a cap, then `other`. */
import { wrongType } from '../base/errors.js';
import { OTHER } from './routes.js';

const NAMES_MAX = 100;
const NAME_MAX = 60;

/** @internal */
export class Tally {
  readonly #counts = new Map<string, number>();

  add(field: string, name: unknown, count = 1): void {
    if (typeof name !== 'string' || name === '')
      throw wrongType(field, name, 'a string that is not empty');
    let key = name.length > NAME_MAX ? name.slice(0, NAME_MAX) : name;
    let known = this.#counts.get(key);
    if (known === undefined) {
      key = key.replaceAll(/\p{Cc}/gu, '?').replaceAll(/\p{Cs}/gu, '\u{fffd}');
      if (!this.#counts.has(key) && this.#counts.size >= NAMES_MAX - 1) key = OTHER;
      known = this.#counts.get(key) ?? 0;
    }
    this.#counts.set(key, known + count);
  }

  entries(): [string, number][] {
    return [...this.#counts];
  }

  /** The most frequent. */
  top(count: number): Record<string, number> {
    return Object.fromEntries(most(this.entries(), count));
  }
}

/** The greatest, the greatest first. @internal */
export function most(entries: [string, number][], count: number): [string, number][] {
  return entries.toSorted((a, b) => b[1] - a[1]).slice(0, count);
}
