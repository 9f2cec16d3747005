/** JavaScript's heap: its size, and garbage collections on request. */
import { lazily } from '../base/builtin.js';
import { jsc } from '../base/jsc.js';

const vm = lazily(() => process.getBuiltinModule('node:vm'));
const v8 = lazily(() => process.getBuiltinModule('node:v8'));

interface HeapFigures {
  readonly usedBytes: number;
  /** The engine's own limit; NaN where it has none. */
  readonly limitBytes: number;
}

const bun = (globalThis as { Bun?: { gc(force: boolean): unknown } }).Bun;

/** Returns the engine's figures of this thread's heap. @internal */
export function heapFigures(): HeapFigures {
  // Bun's `v8.getHeapStatistics()` walks the whole heap and invents the limit.
  if (jsc !== undefined) return { usedBytes: jsc.heapSize(), limitBytes: Number.NaN };
  const { used_heap_size: usedBytes, heap_size_limit: limitBytes } = v8().getHeapStatistics();
  return { usedBytes, limitBytes };
}

let exposedGc: (() => void) | undefined;

/**
 * Returns a function that runs a full garbage collection at once, or `undefined` where the engine
 * offers none. On Node without `--expose-gc`, the function comes from a new context that is created
 * while the flag is set.
 * @internal
 */
export function garbageCollector(): (() => void) | undefined {
  if (bun !== undefined) return () => void bun.gc(true);
  const given = (globalThis as { gc?: () => void }).gc;
  if (typeof given === 'function') return () => given();
  if (exposedGc === undefined) {
    try {
      v8().setFlagsFromString('--expose-gc');
      const gc: unknown = vm().runInNewContext('gc');
      v8().setFlagsFromString('--no-expose-gc');
      if (typeof gc === 'function') exposedGc = gc as () => void;
    } catch {
      // The engine does not allow its flags to change: there is no garbage collection on request.
    }
  }
  return exposedGc;
}

/**
 * Decides when the next garbage collection may be requested: at least `intervalMs` after the last
 * one, and so late that collections stay within `budget`, their share of all time. Each collection
 * that frees less than 5 % of the heap doubles the interval, up to 64 times.
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

  /** Notes a garbage collection and the share of the heap that it freed. */
  done(endedMs: number, durationMs: number, freedShare: number): void {
    this.#backOff = freedShare < 0.05 ? Math.min(this.#backOff + 1, 6) : 0;
    this.#nextMs =
      endedMs + Math.max(this.#intervalMs * 2 ** this.#backOff, durationMs / this.#budget);
  }
}

/**
 * Returns the resident set of the process, bytes, for metrics without a monitor; `null` where it
 * cannot be read. Hosts read it from a file, which takes a descriptor.
 * @internal
 */
export function residentBytes(): number | null {
  try {
    return process.memoryUsage.rss();
  } catch {
    return null;
  }
}

/** Returns the start of the process, wall-clock milliseconds. @internal */
export const processStartMs = (): number => globalThis.performance.timeOrigin;
