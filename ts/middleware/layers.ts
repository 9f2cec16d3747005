/**
 * Functions around a layer for needs that few layers have. Each returns a layer again, so the loop
 * that runs a chain knows nothing of them, and the other layers do not pay for them. The timeout and
 * the breaker have files of their own.
 */
import { isThenable } from '../base/hooks.js';
import type { StrayError } from './contract.js';
import { type Figures, STRAY_ERRORS } from './figures.js';

/** A layer as the loop calls it, whatever its types. @internal */
export type LayerFunction = (context: unknown, next: () => Promise<unknown>) => unknown;

/** The layer inside a wrapper: its name for messages, its counters, and the way for stray errors. @internal */
export interface WrappedLayer {
  /** Name as in messages: `middleware "auth"`. */
  readonly label: string;
  readonly figures: Figures;
  reportStray(error: unknown, kind: StrayError['kind']): void;
}

/** A layer of a compiled chain. @internal */
export interface CompiledLayer {
  readonly name: string;
  /** Name as in messages: `middleware "auth"`. */
  readonly label: string;
  readonly figures: Figures;
  readonly run: LayerFunction;
}

const nothing = (): undefined => undefined;

/** Returns a rejected promise that causes no unhandled rejection. @internal */
export function rejected(error: unknown): Promise<never> {
  const promise = Promise.reject(error);
  promise.catch(nothing);
  return promise;
}

/** What is known of a promise that `next()` has returned. */
interface Tracking {
  /** Whether the layer has awaited the promise, returned it, or called its `then`. */
  isUsed: boolean;
  isReported: boolean;
}

const TRACKING: unique symbol = Symbol('portcullis.tracking');
type TrackedPromise = Promise<unknown> & { [TRACKING]: Tracking };

/**
 * Prototype of tracked promises. `await`, `then` and a return from an async function all read the
 * `constructor` of a promise, and this getter notes it. A subclass of Promise would change the order
 * of microtasks. A property of the promise itself would take V8's fast paths from every promise of
 * the process; a prototype of our own does not.
 */
const trackedPrototype: object = Object.create(Promise.prototype, {
  constructor: {
    get(this: Partial<TrackedPromise>): PromiseConstructor {
      if (this[TRACKING] !== undefined) this[TRACKING].isUsed = true;
      return Promise;
    },
  },
}) as object;

/**
 * Reports failures of `next()` that the layer does not await (`detached`). They would be unhandled
 * rejections, which end a Node process.
 * @internal
 */
export function withDetachedErrors(layer: LayerFunction, wrapped: WrappedLayer): LayerFunction {
  return (context, next) => {
    let result: unknown;
    const trackedNext = (): Promise<unknown> => {
      const tracking: Tracking = { isUsed: false, isReported: false };
      // A new promise: the one from below may belong to the layer there, and must not change.
      const promise = next().then((value) => value) as TrackedPromise;
      promise.catch((error: unknown) => {
        const report = (): void => {
          if (tracking.isUsed || tracking.isReported || promise === result) return;
          tracking.isReported = true;
          wrapped.figures.counters[STRAY_ERRORS]!++;
          wrapped.reportStray(error, 'detached');
        };
        // Until the layer ends, it may still await the promise.
        if (result instanceof Promise) result.then(report, report);
        else report();
      });
      promise[TRACKING] = tracking;
      Object.setPrototypeOf(promise, trackedPrototype);
      return promise;
    };
    const returned = layer(context, trackedNext);
    // Resolved once, here: a lazy thenable does its work whenever its `then` is called.
    result =
      isThenable(returned) && !(returned instanceof Promise) ? Promise.resolve(returned) : returned;
    return result;
  };
}

const BREAK_EVERY = 256;

/**
 * Lets every 256th layer call the next one in a new microtask. Layers that call `next()` without
 * awaiting anything before are all on one call stack, which thousands of them would overflow.
 * @internal
 */
export function hopped(step: Step, index: number): Step {
  if (index % HOP_EVERY !== HOP_EVERY - 1) return step;
  return (context, next) => step(context, () => Promise.resolve().then(next));
}

/** The controllers of the runs in progress that have layers with a timeout, by their signals. */
const controllers = new WeakMap<AbortSignal, AbortController>();
/** Signals of runs that are over: what is left of one on a context says nothing about the next run. */
const spent = new WeakSet<AbortSignal>();

/** The signal a run begins with. @internal */
export function signalOf(context: unknown): AbortSignal | undefined {
  const signal = (context as { signal?: AbortSignal } | null | undefined)?.signal;
  if (signal === undefined || typeof signal?.aborted !== 'boolean' || spent.has(signal))
    return undefined;
  return signal;
}

/**
 * Gives `context` a signal for one run, which follows the one it had.
 * @returns what takes it back at the end of the run
 * @internal
 */
export function openSignal(context: unknown): () => void {
  const had = signalOf(context);
  const before = Reflect.getOwnPropertyDescriptor(context as object, 'signal');
  const controller = new AbortController();
  const { signal } = controller;
  if (
    !Reflect.defineProperty(context as object, 'signal', {
      value: signal,
      writable: true,
      enumerable: true,
      configurable: true,
    })
  ) {
    throw new ArgumentTypeError(
      'ERR_INVALID_ARG_TYPE',
      'context.signal must be writable: a layer of the chain has timeoutMs',
      { field: 'context.signal' },
    );
  }
  controllers.set(signal, controller);
  const forward = (): void => controller.abort(had?.reason);
  // Some frameworks' signals are look-alikes.
  had?.addEventListener?.('abort', forward, { once: true });
  return () => {
    had?.removeEventListener?.('abort', forward);
    spent.add(signal);
    // A context that had none keeps it: it says whether the run was aborted.
    if (had === undefined || (context as { signal?: unknown }).signal !== signal) return;
    if (before === undefined) Reflect.deleteProperty(context as object, 'signal');
    else Reflect.defineProperty(context as object, 'signal', before);
  };
}

/** Ends a layer that takes longer than `timeoutMs`, not counting the time in `next()`. @internal */
export function timed(
  step: Step,
  owner: StepOwner,
  timers: TimerManager,
  timeoutMs: number,
  isOptional: boolean,
): Step {
  const now = (): number => timers.driver.now();
  const counters = owner.figures.counters;
  return (context, next) => {
    const controller = isOptional ? undefined : controllers.get(signalOf(context) as AbortSignal);
    let leftMs = timeoutMs;
    let sinceMs = now();
    let below = 0;
    let isEnded = false;
    let timeout: PortcullisError | undefined;
    let timer: TimerHandle | undefined;
    let end: ((error: unknown) => void) | undefined;

    const ring = (): void => {
      timeout = new PortcullisError(
        'ERR_MIDDLEWARE_TIMEOUT',
        `${owner.label} took longer than ${timeoutMs} ms`,
        {
          field: 'timeoutMs',
          value: String(timeoutMs),
        },
      );
      counters[TIMEOUTS]!++;
      end?.(timeout);
      // An optional layer is left behind, and the run goes on.
      controller?.abort(timeout);
    };
    // Without a promise to settle there is nothing to end; after `close()` there is nothing to wait with.
    const resume = (): void => {
      sinceMs = now();
      if (end === undefined || isEnded || timeout !== undefined || !timers.isOpen()) return;
      try {
        timer = timers.setTimeout(ring, { delayMs: Math.ceil(leftMs), name: owner.label });
      } catch (error) {
        end(error);
      }
    };
    const pause = (): void => {
      leftMs -= now() - sinceMs;
      timer?.close();
      timer = undefined;
    };

    const result = step(context, () => {
      if (timeout !== undefined) return rejected(timeout);
      if (below++ === 0) pause();
      const rest = next();
      const over = (): void => {
        if (--below === 0) resume();
      };
      rest.then(over, over);
      return rest;
    });
    if (!isThenable(result)) return result;
    return new Promise((resolve, reject) => {
      end = reject;
      if (below === 0) {
        leftMs -= now() - sinceMs;
        resume();
      }
      const settle = (how: () => void): void => {
        isEnded = true;
        timer?.close();
        if (timeout === undefined) return how();
        counters[LATE_SETTLES]!++;
      };
      result.then(
        (value) => settle(() => resolve(value)),
        (error: unknown) => {
          settle(() => reject(error));
          // To end because of the abort is what it was asked to do.
          const isAbort =
            error === timeout || (error instanceof Error && error.name === 'AbortError');
          if (timeout !== undefined && !isAbort) owner.stray(error, 'late');
        },
      );
    });
  };
}

/** Whether an optional layer that keeps failing is let in. @internal */
export class Breaker {
  readonly #failuresMax: number;
  readonly #cooldownMs: number;
  #failures = 0;
  /** When the next run may try, while it is open. */
  #retryAtMs = 0;

  constructor(failuresMax: number, cooldownMs: number) {
    this.#failuresMax = failuresMax;
    this.#cooldownMs = cooldownMs;
  }

  /** One run tries at a time; one that never ends is given up after another cool-down. */
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
 * Goes on without the layer when it fails. What it had begun stands: if it called `next()`, its
 * result is that of `next()`.
 * @internal
 */
export function optional(
  step: Step,
  owner: StepOwner,
  breaker: Breaker,
  timers: TimerManager,
): Step {
  const counters = owner.figures.counters;
  const fail = (error: unknown): void => {
    counters[FAILURES]!++;
    breaker.failed(timers.driver.now());
    owner.stray(error, 'optional');
  };
  return (context, next) => {
    if (!breaker.admits(timers.driver.now())) {
      counters[SKIPPED]!++;
      return next();
    }
    let below: Promise<unknown> | undefined;
    let isLeft = false;
    const goOn = (error: unknown): Promise<unknown> => {
      isLeft = true;
      if (below !== undefined) {
        // The layer may hand on what the rest threw: that is no failure of its own.
        below.then(
          () => fail(error),
          (reason: unknown) => (reason === error ? breaker.succeeded() : fail(error)),
        );
        return below;
      }
      // An aborted run fails by itself, in `next()`.
      if (signalOf(context)?.aborted !== true) fail(error);
      return next();
    };
    let result: unknown;
    try {
      result = step(context, () => {
        if (isLeft)
          return rejected(
            new PortcullisError(
              'ERR_NEXT_CALLED_TWICE',
              `${owner.label} called next() after it had failed`,
              { field: owner.label },
            ),
          );
        const rest = next();
        below ??= rest;
        return rest;
      });
    } catch (error) {
      return goOn(error);
    }
    if (!isThenable(result)) {
      breaker.succeeded();
      return result;
    }
    return Promise.resolve(result).then((value) => {
      breaker.succeeded();
      return value;
    }, goOn);
  };
}
