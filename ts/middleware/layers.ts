/**
 * Functions around a layer for needs that few layers have. Each returns a layer again, so the loop
 * that runs a chain knows nothing of them, and the other layers do not pay for them. The timeout
 * and the breaker have files of their own.
 */
import { isThenable } from '../base/hooks.js';
import type { StrayError } from './contract.js';
import { type Figures, STRAY_ERRORS } from './figures.js';

/** A layer as the loop calls it, whatever its types. @internal */
export type LayerFunction = (context: unknown, next: () => Promise<unknown>) => unknown;

/**
 * The layer inside a wrapper: its name for messages, its counters, and the way for stray errors.
 * @internal
 */
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

/** State of a promise that `next()` has returned. */
interface Tracking {
  /** Whether the layer has awaited the promise, returned it, or called its `then`. */
  isUsed: boolean;
  isReported: boolean;
}

const TRACKING: unique symbol = Symbol('portcullis.tracking');
type TrackedPromise = Promise<unknown> & { [TRACKING]: Tracking };

/**
 * Prototype of tracked promises. `await`, `then` and a return from an async function all read the
 * `constructor` of a promise, and this getter notes it. A subclass of Promise would change the
 * order of microtasks. A property of the promise itself would take V8's fast paths from every
 * promise of the process; a prototype of our own does not.
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
export function withStackBreak(layer: LayerFunction, index: number): LayerFunction {
  if (index % BREAK_EVERY !== BREAK_EVERY - 1) return layer;
  return (context, next) => layer(context, () => Promise.resolve().then(next));
}
