/** The most frequent keys of a stream, in bounded memory. */

const KEYS_MAX = 2048;

/**
 * Counts keys by the algorithm of Misra and Gries (1982): at most 2,048 keys are kept. A count is
 * too low by at most `error`; with no more than 2,048 different keys, all counts are exact.
 * @internal
 */
export class HeavyHitters {
  readonly #counts = new Map<string, number>();
  #error = 0;

  add(key: string): void {
    const count = this.#counts.get(key);
    if (count !== undefined) this.#counts.set(key, count + 1);
    else if (this.#counts.size < KEYS_MAX) this.#counts.set(key, 1);
    else this.#decrementAll();
  }

  /** Makes room: keys whose count reaches 0 are dropped. */
  #decrementAll(): void {
    this.#error++;
    for (const [key, count] of this.#counts) {
      if (count === 1) this.#counts.delete(key);
      else this.#counts.set(key, count - 1);
    }
  }

  get error(): number {
    return this.#error;
  }

  /**
   * Returns the keys with the highest counts, the highest first; equal counts in the order of keys.
   */
  top(count: number): (readonly [key: string, count: number])[] {
    return [...this.#counts].sort((a, b) => b[1] - a[1] || (a[0] < b[0] ? -1 : 1)).slice(0, count);
  }
}
