/** Optional layers, and the breaker that skips one that keeps failing. */
import { PortcullisError } from '../base/errors.js';
import { isThenable } from '../base/hooks.js';
import type { TimerManager } from '../timers/manager.js';
import { FAILURES, SKIPPED } from './figures.js';
import { type LayerFunction, rejected, type WrappedLayer } from './layers.js';
import { dropEnded, signalOf } from './signal.js';

/** Decides whether a run calls an optional layer. @internal */
export class Breaker {
  readonly #failuresMax: number;
  readonly #cooldownMs: number;
  /** Failures in a row. */
  #failures = 0;
  /** While the breaker is open: the time at which one run may try the layer again. */
  #retryAtMs = 0;

  constructor(failuresMax: number, cooldownMs: number) {
    this.#failuresMax = failuresMax;
    this.#cooldownMs = cooldownMs;
  }

  /**
   * Whether a run may call the layer. While the breaker is open, one run at a time may try it; a
   * try that has not ended after another cool-down is given up.
   */
  admits(nowMs: number): boolean {
    if (this.#failures < this.#failuresMax) return true;
    if (nowMs < this.#retryAtMs) return false;
    this.#retryAtMs = nowMs + this.#cooldownMs;
    return true;
  }

  succeeded(): void {
    this.#failures = 0;
  }

  failed(nowMs: number): void {
    this.#failures++;
    if (this.#failures >= this.#failuresMax) this.#retryAtMs = nowMs + this.#cooldownMs;
  }

  state(nowMs: number): 'closed' | 'open' | 'halfOpen' {
    if (this.#failures < this.#failuresMax) return 'closed';
    return nowMs < this.#retryAtMs ? 'open' : 'halfOpen';
  }
}

/**
 * Makes a layer optional: a run goes on without it if it fails. A rest that the layer has begun by
 * `next()` is not run again; its result is that of the layer. One closure holds the state of a
 * call, because an object with methods costs 5 % more.
 * @internal
 */
export function optional(
  layer: LayerFunction,
  wrapped: WrappedLayer,
  breaker: Breaker,
  timers: TimerManager,
): LayerFunction {
  const { counters } = wrapped.figures;
  const failed = (error: unknown): void => {
    counters[FAILURES]!++;
    breaker.failed(timers.driver.now());
    wrapped.reportStray(error, 'optional');
  };
  return (context, next) => {
    if (!breaker.admits(timers.driver.now())) {
      counters[SKIPPED]!++;
      return next();
    }
    /** Result of the first `next()`. */
    let rest: Promise<unknown> | undefined;
    let hasFailed = false;
    const goOn = (error: unknown): Promise<unknown> => {
      hasFailed = true;
      dropEnded(context);
      if (rest !== undefined) {
        // An error of the rest that the layer passes on is no failure of the layer.
        rest.then(
          () => failed(error),
          (reason: unknown) => (reason === error ? breaker.succeeded() : failed(error)),
        );
        return rest;
      }
      // A layer may fail because the run was aborted. The run itself then fails in `next()`.
      if (signalOf(context)?.aborted !== true) failed(error);
      return next();
    };
    let result: unknown;
    let isLater: boolean;
    try {
      result = layer(context, () => {
        if (hasFailed) return calledAfterFailure(wrapped);
        const called = next();
        rest ??= called;
        return called;
      });
      isLater = isThenable(result);
    } catch (error) {
      return goOn(error);
    }
    if (!isLater) {
      breaker.succeeded();
      return result;
    }
    return Promise.resolve(result).then((value) => {
      breaker.succeeded();
      return value;
    }, goOn);
  };
}

/** Rejects a `next()` of a layer that has failed, which the run has left behind. */
function calledAfterFailure({ label }: WrappedLayer): Promise<never> {
  return rejected(
    new PortcullisError('ERR_NEXT_CALLED_TWICE', `${label} called next() after it had failed`, {
      field: label,
    }),
  );
}
