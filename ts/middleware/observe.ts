/** Observed runs: their layers are timed, counted and traced. */
// The default import: with a named one that an old runtime lacks, the import would fail before
// `native/runtime.ts` can tell its version.
import channels, { type Channel, type TracingChannel } from 'node:diagnostics_channel';
import { isThenable } from '../base/hooks.js';
import { DETACHED, ERRORS, type Figures, IN_FLIGHT, OBSERVED } from './figures.js';
import type { CompiledLayer, LayerFunction } from './layers.js';

/**
 * Message that subscribers of the diagnostics channel `portcullis.middleware` get for a layer of a
 * run.
 */
export interface MiddlewareTrace {
  /** Name of the chain. */
  readonly chain: string;
  /** Version of the chain. */
  readonly version: number;
  /** Name of the layer. */
  readonly layer: string;
  /** Index of the layer in the order in which they run, from 0. */
  readonly index: number;
  /** Context of the run: the object itself, not a copy. */
  readonly context: unknown;
  /** Error of the layer, once it has failed. */
  error?: unknown;
  /** Result of the layer, once it has ended. */
  result?: unknown;
}

const tracing: TracingChannel<unknown, MiddlewareTrace> =
  channels.tracingChannel('portcullis.middleware');
const subscribable: Record<'start' | 'end' | 'asyncStart' | 'asyncEnd' | 'error', Channel> =
  tracing;

/** Whether the diagnostics channel has a subscriber. @internal */
export function isTraced(): boolean {
  const { start, end, asyncStart, asyncEnd, error } = subscribable;
  return (
    start.hasSubscribers ||
    asyncEnd.hasSubscribers ||
    error.hasSubscribers ||
    end.hasSubscribers ||
    asyncStart.hasSubscribers
  );
}

/** The part of a compiled chain that its observed runs need. @internal */
export interface ObservedChain {
  readonly name: string;
  readonly version: number;
  readonly now: () => number;
}

/** State of one observed run. @internal */
export interface Observation {
  /** A frame for each layer that the run has reached. */
  readonly frames: Frame[];
  readonly isTraced: boolean;
  readonly signal: AbortSignal | undefined;
}

/** A layer as runs call it. Runs that are not observed pass no observation. @internal */
export type ObservedLayer = (
  context: unknown,
  next: () => Promise<unknown>,
  observation: Observation | undefined,
) => unknown;

/** One layer of an observed run. Times are those of the chain's clock, ms. */
class Frame {
  readonly startMs: number;
  /** When the layer called `next()`, and when that settled; -1 before. */
  nextMs = -1;
  restMs = -1;
  hasRestFailed = false;
  restError: unknown;

  /** @param above frame of the layer that has called `next()`; `undefined` for the first layer */
  constructor(
    readonly figures: Figures,
    readonly now: () => number,
    readonly signal: AbortSignal | undefined,
    readonly above: Frame | undefined,
  ) {
    // One time is the end of the work above and the beginning of the work here. So it is on the way
    // back, in `end`.
    this.startMs = now();
    if (above !== undefined) above.nextMs = this.startMs;
    figures.counters[OBSERVED]!++;
    figures.counters[IN_FLIGHT]!++;
  }

  /**
   * Ends the frame when `promise` settles. Returns a promise of its own, so that an unhandled
   * rejection of the caller's stays one.
   */
  endAfter(promise: Promise<unknown>): Promise<unknown> {
    return promise.then(
      (value) => {
        this.end(false, undefined);
        return value;
      },
      (error: unknown) => {
        this.end(true, error);
        throw error;
      },
    );
  }

  end(hasFailed: boolean, error: unknown): void {
    const { counters } = this.figures;
    const endMs = this.now();
    this.above?.restEnded(endMs, hasFailed, error);
    const hasCalledNext = this.nextMs >= 0;
    const isDetached = hasCalledNext && this.restMs < 0;
    const inNextMs = hasCalledNext ? (isDetached ? endMs : this.restMs) - this.nextMs : 0;
    if (isDetached) counters[DETACHED]!++;
    if (hasFailed && !this.#isPassedOn(error)) counters[ERRORS]!++;
    counters[IN_FLIGHT]!--;
    this.figures.record(endMs - this.startMs - inNextMs, endMs - this.startMs);
  }

  /** Notes that `next()` has settled. */
  restEnded(atMs: number, hasFailed: boolean, error: unknown): void {
    this.restMs = atMs;
    this.hasRestFailed = hasFailed;
    this.restError = error;
  }

  /** Whether an error is that of `next()`, or the reason for which the run was aborted. */
  #isPassedOn(error: unknown): boolean {
    const { signal } = this;
    return (
      (this.hasRestFailed && this.restError === error) ||
      (signal?.aborted === true && signal.reason === error)
    );
  }
}

/** Returns a layer that times itself. @internal */
export function observedLayer(
  chain: ObservedChain,
  { figures, run, name }: CompiledLayer,
  index: number,
): ObservedLayer {
  const { now } = chain;
  return (context, next, observation) => {
    const { frames, signal } = observation!;
    const frame = new Frame(figures, now, signal, index === 0 ? undefined : frames[index - 1]!);
    frames.push(frame);
    try {
      const result = observation!.isTraced
        ? tracing.tracePromise(
            () => promised(run(context, next)),
            { chain: chain.name, version: chain.version, layer: name, index, context },
            undefined,
          )
        : run(context, next);
      if (isThenable(result)) return frame.endAfter(promised(result));
      frame.end(false, undefined);
      return result;
    } catch (error) {
      frame.end(true, error);
      throw error;
    }
  };
}

/**
 * Returns a final next that notes its end in the frame of the last layer, whose own time it is not.
 * @internal
 */
export function observedFinal(
  { now }: ObservedChain,
  final: LayerFunction,
  frames: readonly Frame[],
): LayerFunction {
  return (context, next) => {
    const last = frames[frames.length - 1]!;
    last.nextMs = now();
    try {
      return promised(final(context, next)).then(
        (value) => {
          last.restEnded(now(), false, undefined);
          return value;
        },
        (error: unknown) => {
          last.restEnded(now(), true, error);
          throw error;
        },
      );
    } catch (error) {
      last.restEnded(now(), true, error);
      throw error;
    }
  };
}

const promised = (value: unknown): Promise<unknown> =>
  value instanceof Promise ? value : Promise.resolve(value);
