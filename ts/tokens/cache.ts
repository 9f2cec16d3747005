/** Cached results of good tokens, each until its token expires. */

interface Entry<R> {
  readonly token: string;
  readonly fromMs: number;
  readonly untilMs: number;
  readonly result: R;
}

/**
 * A cache of results by token, in two generations. A hit moves an entry to the younger generation;
 * when that holds half of the capacity, the older one is dropped. @internal
 */
export class ResultCache<R> {
  readonly #capacity: number;
  readonly #half: number;
  #young = new Map<string, Entry<R>>();
  #old = new Map<string, Entry<R>>();

  constructor(capacity: number) {
    this.#capacity = capacity;
    this.#half = Math.max(1, capacity >> 1);
  }

  get size(): number {
    return this.#young.size + this.#old.size;
  }

  get(token: string, nowMs: number): R | undefined {
    const key = keyOf(token);
    let entry = this.#young.get(key);
    if (entry === undefined) {
      entry = this.#old.get(key);
      if (entry === undefined) return undefined;
      this.#old.delete(key);
      this.#put(key, entry);
    }
    // Another token can end in the same signature text: compare the whole.
    if (entry.token !== token) return undefined;
    // A clock that shows no number is within no time.
    return nowMs >= entry.fromMs && nowMs < entry.untilMs ? entry.result : undefined;
  }

  add(token: string, fromMs: number, untilMs: number, result: R): void {
    this.#put(keyOf(token), { token, fromMs, untilMs, result });
  }

  clear(): void {
    this.#young = new Map();
    this.#old = new Map();
  }

  #put(key: string, entry: Entry<R>): void {
    if (this.#young.size >= this.#half && !this.#young.has(key)) {
      this.#old = this.#capacity > 1 ? this.#young : new Map();
      this.#young = new Map();
    }
    this.#young.set(key, entry);
  }
}

/** Returns the end of the signature: hashing 40 characters costs a seventh of hashing all. */
const keyOf = (token: string): string => token.slice(-40);

/** Freezes a parsed value and everything in it, since all callers share it. @internal */
export function deepFreeze<T>(value: T): T {
  if (typeof value === 'object' && value !== null && !Object.isFrozen(value)) {
    Object.freeze(value);
    for (const member of Object.values(value)) deepFreeze(member);
  }
  return value;
}
