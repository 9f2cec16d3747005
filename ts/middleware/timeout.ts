/** The timeout of a layer. */
import { PortcullisError } from '../base/errors.js';
import { isThenable } from '../base/hooks.js';
import type { TimerHandle } from '../timers/handle.js';
import type { TimerManager } from '../timers/manager.js';
import { LATE_SETTLES, TIMEOUTS } from './figures.js';
import { type LayerFunction, rejected, type WrappedLayer } from './layers.js';
import { controllerOf } from './signal.js';

/** A timeout for the layer's own work: the time in `next()` does not count. */
interface Timeout {
  readonly timeoutMs: number;
  readonly timers: TimerManager;
  readonly wrapped: WrappedLayer;
}

/** Ends a layer that exceeds `timeoutMs`, not counting the time in `next()`. @internal */
export function withTimeout(
  layer: LayerFunction,
  wrapped: WrappedLayer,
  timers: TimerManager,
  timeoutMs: number,
  isOptional: boolean,
): LayerFunction {
  const timeout: Timeout = { timeoutMs, timers, wrapped };
  return (context, next) => {
    // The run goes on without an optional layer, so its signal must not abort.
    const controller = isOptional ? undefined : controllerOf(context);
    return new TimedCall(timeout, controller).run(layer, context, next);
  };
}

/** One call of a layer with a timeout. */
class TimedCall {
  readonly #timeout: Timeout;
  readonly #controller: AbortController | undefined;
  #leftMs: number;
  /** When the layer's own work began, or began again after `next()`. */
  #sinceMs: number;
  /** Calls of `next()` under way. */
  #inNext = 0;
  #isEnded = false;
  /** Set once the layer has exceeded its time. */
  #error: PortcullisError | undefined;
  #timer: TimerHandle | undefined;
  /** Rejects the promise of the call. Set once the layer has returned a promise. */
  #reject: ((error: unknown) => void) | undefined;

  constructor(timeout: Timeout, controller: AbortController | undefined) {
    this.#timeout = timeout;
    this.#controller = controller;
    this.#leftMs = timeout.timeoutMs;
    this.#sinceMs = this.#now();
  }

  run(layer: LayerFunction, context: unknown, next: () => Promise<unknown>): unknown {
    const result = layer(context, () => this.#next(next));
    if (!isThenable(result)) return result;
    return new Promise((resolve, reject) => {
      this.#reject = reject;
      if (this.#inNext === 0) {
        this.#leftMs -= this.#now() - this.#sinceMs;
        this.#resume();
      }
      // `Promise.resolve` turns a `then` that throws into a rejection. Without it the timer would outlive the call.
      Promise.resolve(result).then(
        (value) => {
          if (this.#end()) resolve(value);
        },
        (error: unknown) => {
          if (this.#end()) reject(error);
          else this.#reportLate(error);
        },
      );
    });
  }

  #next(next: () => Promise<unknown>): Promise<unknown> {
    if (this.#error !== undefined) return rejected(this.#error);
    if (this.#inNext++ === 0) this.#pause();
    const rest = next();
    const settled = (): void => {
      if (--this.#inNext === 0) this.#resume();
    };
    rest.then(settled, settled);
    return rest;
  }

  #pause(): void {
    this.#leftMs -= this.#now() - this.#sinceMs;
    this.#timer?.close();
    this.#timer = undefined;
  }

  #resume(): void {
    const { timers, wrapped } = this.#timeout;
    this.#sinceMs = this.#now();
    // A layer that has not returned a promise cannot be ended, and a closed manager sets no timers.
    if (this.#reject === undefined || this.#isEnded || this.#error !== undefined) return;
    if (!timers.isOpen()) return;
    try {
      this.#timer = timers.setTimeout(() => this.#expire(), {
        delayMs: Math.ceil(this.#leftMs),
        name: wrapped.label,
      });
    } catch (error) {
      this.#reject(error);
    }
  }

  #expire(): void {
    const { timeoutMs, wrapped } = this.#timeout;
    this.#error = new PortcullisError(
      'ERR_MIDDLEWARE_TIMEOUT',
      `${wrapped.label} took longer than ${timeoutMs} ms`,
      { field: 'timeoutMs', value: String(timeoutMs) },
    );
    wrapped.figures.counters[TIMEOUTS]!++;
    this.#reject?.(this.#error);
    this.#controller?.abort(this.#error);
  }

  /** Notes that the layer has ended. Returns whether it did so in time. */
  #end(): boolean {
    this.#isEnded = true;
    this.#timer?.close();
    if (this.#error === undefined) return true;
    this.#timeout.wrapped.figures.counters[LATE_SETTLES]!++;
    return false;
  }

  /** Reports a late failure, unless the layer failed because it was aborted, as it should. */
  #reportLate(error: unknown): void {
    const isAbort =
      error === this.#error || (error instanceof Error && error.name === 'AbortError');
    if (!isAbort) this.#timeout.wrapped.reportStray(error, 'late');
  }

  #now(): number {
    return this.#timeout.timers.driver.now();
  }
}
