/** What the JavaScript engine says of its heap, and how it is asked to collect. */
import v8 from 'node:v8';
import vm from 'node:vm';
import { jsc } from '../base/jsc.js';

/** What the engine says of its heap. */
interface Heap {
  readonly usedBytes: number;
  /** What the engine allows itself; NaN where it has no ceiling. */
  readonly limitBytes: number;
}

const bun = (globalThis as { Bun?: { gc(force: boolean): unknown } }).Bun;

/** @internal */
export function heap(): Heap {
  // `v8.getHeapStatistics()` walks the heap on Bun, and makes its limit up.
  if (jsc !== undefined) return { usedBytes: jsc.heapSize(), limitBytes: Number.NaN };
  const { used_heap_size: usedBytes, heap_size_limit: limitBytes } = v8.getHeapStatistics();
  return { usedBytes, limitBytes };
}

let exposed: (() => void) | undefined;

/**
 * A full collection, at once; `undefined` where there is none to be had. On Node without
 * `--expose-gc` the function is taken from a new context made with the flag set.
 * @internal
 */
export function collector(): (() => void) | undefined {
  if (bun !== undefined) return () => void bun.gc(true);
  const given = (globalThis as { gc?: () => void }).gc;
  if (typeof given === 'function') return () => given();
  if (exposed === undefined) {
    try {
      v8.setFlagsFromString('--expose-gc');
      const found: unknown = vm.runInNewContext('gc');
      v8.setFlagsFromString('--no-expose-gc');
      if (typeof found === 'function') exposed = found as () => void;
    } catch {
      // An engine that does not let its flags be changed: nothing is collected.
    }
  }
  return exposed;
}

/**
 * When a collection may be asked for: not before `intervalMs` after the last one, nor so often that
 * collecting takes more than `budget` of all time; each that frees less than a twentieth doubles the
 * interval, up to 64 times.
 * @internal
 */
export class GcPacer {
  readonly #intervalMs: number;
  readonly #budget: number;
  #nextMs = -Infinity;
  #backOff = 0;

  constructor(intervalMs: number, budget: number) {
    this.#intervalMs = intervalMs;
    this.#budget = budget;
  }

  isDue(nowMs: number): boolean {
    return nowMs >= this.#nextMs && this.#intervalMs !== Infinity;
  }

  done(endedMs: number, durationMs: number, freedShare: number): void {
    this.#backOff = freedShare < 0.05 ? Math.min(this.#backOff + 1, 6) : 0;
    this.#nextMs =
      endedMs + Math.max(this.#intervalMs * 2 ** this.#backOff, durationMs / this.#budget);
  }
}

/** Resident memory of the process, for those who have no monitor. @internal */
export const residentBytes = (): number => process.memoryUsage.rss();

/** When the process began, wall-clock milliseconds. @internal */
export const processStartMs = (): number => globalThis.performance.timeOrigin;
