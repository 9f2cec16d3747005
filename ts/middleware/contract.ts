/** What a layer, an item and a chain are, as types. */
import type { TimerManager } from '../timers/manager.js';

/** Runs the rest of the chain; may be called once. Resolves to what the rest returns. */
export type MiddlewareNext<R = void> = () => Promise<R>;

/** What a layer may return: anything, unless the chain says what its runs return. */
export type MiddlewareResult<R> = [R] extends [void] ? unknown : R | PromiseLike<R>;

/** What a run hands from layer to layer, when the chain does not say more. */
export interface MiddlewareContext {
  /** Aborts the run: no further layer begins. */
  signal?: AbortSignal | undefined;
  [name: string]: unknown;
}

/** A layer: does its part, and calls `next` for the rest. */
export type MiddlewareFunction<C extends object = MiddlewareContext, R = void> = (
  context: C,
  next: MiddlewareNext<NoInfer<R>>,
) => MiddlewareResult<NoInfer<R>>;

/** Makes a layer, once per configuration. */
export interface MiddlewareObject<C extends object = MiddlewareContext, R = void> {
  /** Called when the chain is compiled, not per run. */
  middleware(): MiddlewareFunction<C, R>;
  /** Read at every `execute()`: another value makes the layer anew. */
  getConfigHash?(): unknown;
}

/** When an optional layer that fails is left out for a while. */
export interface BreakerOptions {
  /** Failures in a row that open the breaker: 1 to 1,000,000. Default 5. */
  readonly failures?: number | undefined;
  /** How long it stays open before one run tries the layer again: 1 to 2^31-1 ms. Default 30,000. */
  readonly cooldownMs?: number | undefined;
}

/** A layer and how it takes part. */
export interface MiddlewareItem<C extends object = MiddlewareContext, R = void> {
  /** Unique in its chain: figures, errors and `remove()` speak of it by this name. */
  name: string;
  /** What it does: a function, or an object that makes one, once per configuration. */
  middleware: MiddlewareFunction<C, R> | MiddlewareObject<C, R>;
  /** Higher runs first (outermost), ties in the order given: any finite number, also below 0. Default 0. */
  priority?: number | undefined;
  /** Whether it takes part. Default `true`. */
  enabled?: boolean | undefined;
  /** How long the layer's own work may take, the time in `next()` not counted: 1 to 2^31-1 ms. Default: no limit. */
  timeoutMs?: number | undefined;
  /** Whether the run goes on without the layer when it fails. Default `false`. */
  optional?: boolean | undefined;
  /** When it is left out for a while; only for optional layers. Default: as in `BreakerOptions`. */
  breaker?: BreakerOptions | undefined;
}

/** What runs after the last layer. */
export type FinalNext<C extends object = MiddlewareContext, R = void> = (
  context: C,
  next: MiddlewareNext<NoInfer<R>>,
) => MiddlewareResult<NoInfer<R>>;

/**
 * A compiled chain. It is a layer itself, and can be one of another chain.
 *
 * Without a second argument nothing follows the last layer; a second argument that is no function
 * is an error.
 */
export interface CompiledChain<
  In extends object = MiddlewareContext,
  Out extends object = In,
  R = void,
> {
  (context: In): Promise<R | undefined>;
  (context: In, finalNext: FinalNext<Out, R>): Promise<R>;
}

/** An error that would reach nobody: what failed is not what anyone waits for. */
export interface StrayError {
  /** Name of the layer. */
  readonly layer: string;
  /**
   * `detached`: the layer called `next()`, did not wait, and the rest failed. `late`: the layer
   * failed after its timeout. `optional`: an optional layer failed and the run went on.
   */
  readonly kind: 'detached' | 'late' | 'optional';
}

/** Options of a chain. */
export interface MiddlewareChainOptions {
  /** Shown in warnings and diagnostics. Default `middleware`. */
  readonly name?: string | undefined;
  /** Its clock times the layers, its timers end those with `timeoutMs`. Default: a manager of its own, which `close()` closes. */
  readonly timers?: TimerManager | undefined;
  /**
   * Which runs are observed (timed, errors and runs in flight counted): `sampled`, the first 64 and
   * then one in `sampleEvery`; `always`, all; `off`, none. Default `sampled`.
   */
  readonly timing?: 'off' | 'sampled' | 'always' | undefined;
  /** One run in so many is observed: 1 to 1,000,000. Default 64. */
  readonly sampleEvery?: number | undefined;
  /** Told of errors that would reach nobody. Default: a process warning, once for a layer and kind. */
  readonly onError?: ((error: unknown, stray: StrayError) => void) | undefined;
}

/** Times of a layer: milliseconds. Quantiles are exact to 3.2 % and weigh the last thousand or two. */
export interface LayerTimes {
  /** Moving average; each new one weighs a tenth. */
  readonly emaMs: number;
  readonly p50Ms: number;
  readonly p90Ms: number;
  readonly p99Ms: number;
  readonly maxMs: number;
}

/** What is known of a layer. */
export interface LayerSnapshot {
  readonly name: string;
  readonly priority: number;
  readonly enabled: boolean;
  /** Runs that reached it: all of them, whatever `timing` is. */
  readonly count: number;
  /** Runs of it that were observed. The four below count these. */
  readonly observed: number;
  /** Observed runs in which it failed by itself, and did not hand on what the rest threw. */
  readonly errors: number;
  /** Observed runs that are in it now, or in what it waits for. */
  readonly inFlight: number;
  /** Observed runs in which it ended before the `next()` it called. */
  readonly detached: number;
  /** Time of its own, without `next()`. `null` while none was observed. */
  readonly self: LayerTimes | null;
  /** Time until it ended, with `next()`. */
  readonly total: LayerTimes | null;
  /** How often it ran out of `timeoutMs`, and how often it ended after that; all of them. */
  readonly timeouts: number;
  readonly lateSettles: number;
  /** Failures that nobody awaited, of what it called `next()` for; all of them. */
  readonly strayErrors: number;
  /** For an optional layer: its breaker, how often it failed and how often it was left out; all of them. */
  readonly optional: {
    readonly breaker: 'closed' | 'open' | 'halfOpen';
    readonly failures: number;
    readonly skipped: number;
  } | null;
}

/** What is known of a chain. */
export interface ChainSnapshot {
  readonly name: string;
  /** Goes up with every change. */
  readonly version: number;
  readonly timing: 'off' | 'sampled' | 'always';
  /** In the order in which they run; disabled ones in their places. */
  readonly layers: readonly LayerSnapshot[];
}
