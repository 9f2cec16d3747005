/** Public types of middleware: layers, the items of a chain, its options and its figures. */
import type { TimerManager } from '../timers/manager.js';

/** Runs the rest of the chain. A layer may call it once. Resolves to the result of the rest. */
export type MiddlewareNext<R = void> = () => Promise<R>;

/** Return type of a layer: anything, unless the chain names the result of its runs. */
export type MiddlewareResult<R> = [R] extends [void] ? unknown : R | PromiseLike<R>;

/** Context that a run passes from layer to layer, unless the chain names a type of its own. */
export interface MiddlewareContext {
  /** Aborts the run: no further layer begins. */
  signal?: AbortSignal | undefined;
  [name: string]: unknown;
}

/** A layer. It does its own work, and calls `next` to run the rest of the chain. */
export type MiddlewareFunction<C extends object = MiddlewareContext, R = void> = (
  context: C,
  next: MiddlewareNext<NoInfer<R>>,
) => MiddlewareResult<NoInfer<R>>;

/** An object that makes a layer, once per configuration. */
export interface MiddlewareObject<C extends object = MiddlewareContext, R = void> {
  /** Returns the layer. Called when the chain is compiled, not once per run. */
  middleware(): MiddlewareFunction<C, R>;
  /** Read at every `execute()`. If the value has changed, `middleware()` is called again. */
  getConfigHash?(): unknown;
}

/** When an optional layer that keeps failing is skipped for a while. */
export interface BreakerOptions {
  /** Failures in a row that open the breaker: 1 to 1,000,000. Default 5. */
  readonly failures?: number | undefined;
  /**
   * Time for which the breaker stays open, until one run tries the layer again: 1 to 2^31-1 ms.
   * Default 30,000.
   */
  readonly cooldownMs?: number | undefined;
}

/** An item of a chain: a layer, its name and its options. */
export interface MiddlewareItem<C extends object = MiddlewareContext, R = void> {
  /** Name of the layer, unique in its chain. Figures, errors and `remove()` use it. */
  name: string;
  /** The layer, or an object that makes it, once per configuration. */
  middleware: MiddlewareFunction<C, R> | MiddlewareObject<C, R>;
  /**
   * Order of the layers, the highest first (outermost), ties in the order given: any finite number,
   * also below 0. Default 0.
   */
  priority?: number | undefined;
  /** Whether the layer runs. Default `true`. */
  enabled?: boolean | undefined;
  /**
   * Timeout for the layer's own work, without the time in `next()`: 1 to 2^31-1 ms. Default: no
   * limit.
   */
  timeoutMs?: number | undefined;
  /** Whether a run goes on without the layer if it fails. Default `false`. */
  optional?: boolean | undefined;
  /**
   * When the layer is skipped because it keeps failing. Only for optional layers. Default: as in
   * `BreakerOptions`.
   */
  breaker?: BreakerOptions | undefined;
}

/** The function that runs after the last layer. */
export type FinalNext<C extends object = MiddlewareContext, R = void> = (
  context: C,
  next: MiddlewareNext<NoInfer<R>>,
) => MiddlewareResult<NoInfer<R>>;

/**
 * A compiled chain. It is a layer itself, so it can be an item of another chain.
 *
 * Without a second argument, nothing runs after the last layer. A second argument that is not a
 * function is an error.
 */
export interface CompiledChain<
  In extends object = MiddlewareContext,
  Out extends object = In,
  R = void,
> {
  (context: In): Promise<R | undefined>;
  (context: In, finalNext: FinalNext<Out, R>): Promise<R>;
}

/** An error that reaches no caller, because no caller awaits the promise that failed. */
export interface StrayError {
  /** Name of the layer. */
  readonly layer: string;
  /**
   * `detached`: the layer called `next()` without awaiting it, and the rest failed. `late`: the
   * layer failed after its timeout. `optional`: an optional layer failed, and the run went on.
   */
  readonly kind: 'detached' | 'late' | 'optional';
}

/** Options of a chain. */
export interface MiddlewareChainOptions {
  /** Name in warnings and diagnostics. Default `middleware`. */
  readonly name?: string | undefined;
  /**
   * Manager whose clock times the layers and whose timers end those with `timeoutMs`. Default: a
   * manager of the chain's own, which `close()` closes.
   */
  readonly timers?: TimerManager | undefined;
  /**
   * Which runs are observed, so that their layers' times, errors and runs in flight are counted:
   * `sampled`, the first 64 and then one in `sampleEvery`; `always`, all; `off`, none. Default
   * `sampled`.
   */
  readonly timing?: 'off' | 'sampled' | 'always' | undefined;
  /** Observes one run in this many: 1 to 1,000,000. Default 64. */
  readonly sampleEvery?: number | undefined;
  /**
   * Called with each error that reaches no caller. Default: a process warning, once for each layer
   * and kind.
   */
  readonly onError?: ((error: unknown, stray: StrayError) => void) | undefined;
}

/**
 * Times of a layer, ms. Quantiles are exact to 3.2 %; the weight of older samples halves every
 * 1,024 samples.
 */
export interface LayerTimes {
  /** Moving average. Each sample weighs a tenth. */
  readonly emaMs: number;
  /** Median. */
  readonly p50Ms: number;
  /** 90th percentile. */
  readonly p90Ms: number;
  /** 99th percentile. */
  readonly p99Ms: number;
  /** Maximum of all samples. */
  readonly maxMs: number;
}

/** Figures of a layer. */
export interface LayerSnapshot {
  /** Name of the layer. */
  readonly name: string;
  /** Its priority. */
  readonly priority: number;
  /** Whether it runs. */
  readonly enabled: boolean;
  /** Runs that have reached the layer: all of them, whatever `timing` is. */
  readonly count: number;
  /**
   * Observed runs that have reached the layer. `errors`, `inFlight`, `detached` and the times are
   * of these.
   */
  readonly observed: number;
  /**
   * Observed runs in which the layer itself failed. An error from `next()` that it passes on does
   * not count.
   */
  readonly errors: number;
  /** Observed runs that are in the layer now, or in the layers below it. */
  readonly inFlight: number;
  /** Observed runs in which the layer ended before the `next()` it had called. */
  readonly detached: number;
  /** Time of the layer's own work, without `next()`. `null` before the first observed run. */
  readonly self: LayerTimes | null;
  /** Time until the layer ended, with `next()`. `null` before the first observed run. */
  readonly total: LayerTimes | null;
  /** Runs in which the layer exceeded `timeoutMs`: all of them. */
  readonly timeouts: number;
  /** Runs in which the layer ended after its timeout: all of them. */
  readonly lateSettles: number;
  /** Runs in which the layer did not await `next()`, and the rest failed: all of them. */
  readonly strayErrors: number;
  /** Figures of an optional layer, of all runs. `null` if the layer is not optional. */
  readonly optional: {
    /**
     * State of its breaker: `closed` runs the layer, `open` skips it, `halfOpen` lets one run try
     * it.
     */
    readonly breaker: 'closed' | 'open' | 'halfOpen';
    /** Runs in which the layer failed. */
    readonly failures: number;
    /** Runs that skipped the layer. */
    readonly skipped: number;
  } | null;
}

/** Figures of a chain. */
export interface ChainSnapshot {
  /** Name of the chain. */
  readonly name: string;
  /** Number that goes up with every change of the chain. */
  readonly version: number;
  /** The option `timing`. */
  readonly timing: 'off' | 'sampled' | 'always';
  /** The layers in the order in which they run, disabled ones included. */
  readonly layers: readonly LayerSnapshot[];
}
