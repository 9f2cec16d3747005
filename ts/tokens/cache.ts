/** Results that are kept: each until the moment its token ends, and none for another token. */

interface Kept<R> {
  readonly token: string;
  readonly fromMs: number;
  readonly untilMs: number;
  readonly result: R;
}

/**
 * Results of good tokens: two generations, of which the older is dropped when the younger is half
 * of the whole. @internal
 */
export class Cache<R> {
  readonly #size: number;
  readonly #half: number;
  #young = new Map<string, Kept<R>>();
  #old = new Map<string, Kept<R>>();

  constructor(size: number) {
    this.#size = size;
    this.#half = Math.max(1, size >> 1);
  }

  get size(): number {
    return this.#young.size + this.#old.size;
  }

  get(token: string, nowMs: number): R | undefined {
    const key = keyOfToken(token);
    let kept = this.#young.get(key);
    if (kept === undefined) {
      kept = this.#old.get(key);
      if (kept === undefined) return undefined;
      this.#old.delete(key);
      this.#put(key, kept);
    }
    // Whoever has the same signature text over another content is somebody else.
    if (kept.token !== token || nowMs < kept.fromMs || nowMs >= kept.untilMs) return undefined;
    return kept.result;
  }

  add(token: string, fromMs: number, untilMs: number, result: R): void {
    this.#put(keyOfToken(token), { token, fromMs, untilMs, result });
  }

  #put(key: string, kept: Kept<R>): void {
    if (this.#young.size >= this.#half && !this.#young.has(key)) {
      this.#old = this.#size > 1 ? this.#young : new Map();
      this.#young = new Map();
    }
    this.#young.set(key, kept);
  }

  clear(): void {
    this.#young = new Map();
    this.#old = new Map();
  }
}

/** The end of its signature: as good a key as the whole, and a seventh of its hashing. */
const keyOfToken = (token: string): string => token.slice(-40);

/** Freezes a parsed value, as deep as it goes: all callers get the same. @internal */
export function deepFreeze<T>(value: T): T {
  if (typeof value === 'object' && value !== null && !Object.isFrozen(value)) {
    Object.freeze(value);
    for (const member of Object.values(value)) deepFreeze(member);
  }
  return value;
}
