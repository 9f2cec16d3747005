/**
 * Runs a compiled chain: one loop for most runs, which does nothing but hand on, and one for those
 * that are observed. Which one is decided once a run.
 */
import { type Channel, type TracingChannel, tracingChannel } from 'node:diagnostics_channel';
import { PortcullisError, wrongType } from '../errors.js';
import { COUNT, DETACHED, ERRORS, type Figures, IN_FLIGHT, OBSERVED } from './figures.js';
import { type Step, isThenable, openSignal, signalOf } from './layers.js';

/** What a diagnostics subscriber sees of a layer. The context is the run's own: it is not copied. */
export interface MiddlewareTrace {
  readonly chain: string;
  readonly version: number;
  readonly layer: string;
  readonly index: number;
  readonly context: unknown;
  error?: unknown;
  result?: unknown;
}

const tracing: TracingChannel<unknown, MiddlewareTrace> = tracingChannel('portcullis.middleware');

function isTraced({ start, end, asyncStart, asyncEnd, error }: Record<'start' | 'end' | 'asyncStart' | 'asyncEnd' | 'error', Channel>): boolean {
  return start.hasSubscribers || asyncEnd.hasSubscribers || error.hasSubscribers || end.hasSubscribers || asyncStart.hasSubscribers;
}

/** Which runs are observed: none when `every` is 0. Shared by the versions of a chain. @internal */
export interface Sampler {
  readonly every: number;
  /** Runs until the next observed one. */
  left: number;
  /** Observed runs to come without a pause between them. */
  warmUp: number;
}

/** A layer of a compiled chain. @internal */
export interface CompiledLayer {
  readonly name: string;
  readonly label: string;
  readonly figures: Figures;
  readonly step: Step;
}

/** What a compiled chain runs on. @internal */
export interface Plan {
  readonly chain: string;
  readonly version: number;
  readonly layers: readonly CompiledLayer[];
  readonly sampler: Sampler;
  readonly now: () => number;
  /** Whether some layer may abort the run. */
  readonly hasSignal: boolean;
}

/** A compiled chain, whatever its types. @internal */
export type Runner = (context: unknown, finalNext?: Step) => Promise<unknown>;

/** One run. `index` is the layer it has reached: whoever asks for one it has reached asks twice. */
class Run {
  index = -1;
  constructor(
    readonly context: unknown,
    readonly final: Step | undefined,
    readonly signal: AbortSignal | undefined,
  ) {}
}

/** What an observed run knows of one layer. */
class Frame {
  /** When it called `next()`, and when that settled. NaN: not yet. */
  nextMs = Number.NaN;
  belowMs = Number.NaN;
  hasFailedBelow = false;
  belowError: unknown;
}

const promised = (value: unknown): Promise<unknown> => (value instanceof Promise ? value : Promise.resolve(value));

/** @internal */
export function runner(plan: Plan): Runner {
  const { layers, sampler, now } = plan;
  const count = layers.length;
  const steps = layers.map((layer) => layer.step);
  const counters = layers.map((layer) => layer.figures.counters);

  const twice = (index: number): Promise<never> => {
    const label = layers[index]?.label ?? 'the final next';
    return Promise.reject(new PortcullisError('ERR_NEXT_CALLED_TWICE', `next() called multiple times in ${label}`, { field: label }));
  };

  const go = (run: Run, index: number): Promise<unknown> => {
    if (index <= run.index) return twice(index - 1);
    run.index = index;
    const { signal } = run;
    if (signal !== undefined && signal.aborted) return Promise.reject(signal.reason);
    try {
      let result: unknown;
      if (index < count) {
        counters[index]![COUNT]!++;
        result = steps[index]!(run.context, () => go(run, index + 1));
      } else if (index === count && run.final !== undefined) {
        result = run.final(run.context, () => go(run, index + 1));
      }
      return result instanceof Promise ? result : Promise.resolve(result);
    } catch (error) {
      return Promise.reject(error);
    }
  };

  /** `above` is the frame of the layer that called `next()`. */
  const observe = (run: Run, index: number, above: Frame | undefined, traced: boolean): Promise<unknown> => {
    if (index <= run.index) return twice(index - 1);
    run.index = index;
    const startMs = now();
    if (above !== undefined) above.nextMs = startMs;
    if (run.signal?.aborted === true) {
      if (above !== undefined) leave(above, true, run.signal.reason);
      return Promise.reject(run.signal.reason);
    }
    const layer = layers[index];
    if (layer === undefined) {
      const final = index === count ? run.final : undefined;
      try {
        const result = promised(final?.(run.context, () => observe(run, index + 1, undefined, traced)));
        return above === undefined ? result : settled(result, (hasFailed, error) => leave(above, hasFailed, error));
      } catch (error) {
        if (above !== undefined) leave(above, true, error);
        return Promise.reject(error);
      }
    }
    const { figures, step } = layer;
    const frame = new Frame();
    const end = (hasFailed: boolean, error: unknown): void => {
      const endMs = above === undefined ? now() : leave(above, hasFailed, error);
      const isDetached = !Number.isNaN(frame.nextMs) && Number.isNaN(frame.belowMs);
      const belowMs = Number.isNaN(frame.nextMs) ? 0 : (isDetached ? endMs : frame.belowMs) - frame.nextMs;
      if (isDetached) figures.counters[DETACHED]!++;
      if (hasFailed && !(frame.hasFailedBelow && frame.belowError === error)) figures.counters[ERRORS]!++;
      figures.counters[IN_FLIGHT]!--;
      figures.settle(endMs - startMs - belowMs, endMs - startMs);
    };
    const next = (): Promise<unknown> => observe(run, index + 1, frame, traced);
    figures.counters[COUNT]!++;
    figures.counters[OBSERVED]!++;
    figures.counters[IN_FLIGHT]!++;
    try {
      const result = traced
        ? tracing.tracePromise(
            () => promised(step(run.context, next)),
            { chain: plan.chain, version: plan.version, layer: layer.name, index, context: run.context },
            undefined,
          )
        : step(run.context, next);
      if (isThenable(result)) return settled(promised(result), end);
      end(false, undefined);
      return Promise.resolve(result);
    } catch (error) {
      end(true, error);
      return Promise.reject(error);
    }
  };

  const leave = (above: Frame, hasFailed: boolean, error: unknown): number => {
    above.belowMs = now();
    above.hasFailedBelow = hasFailed;
    above.belowError = error;
    return above.belowMs;
  };

  const begin = (run: Run): Promise<unknown> => {
    const traced = isTraced(tracing);
    if (sampler.every !== 0 && --sampler.left <= 0) {
      if (sampler.warmUp > 0) sampler.warmUp--;
      sampler.left = sampler.warmUp > 0 ? 1 : sampler.every;
      return observe(run, 0, undefined, traced);
    }
    return traced ? observe(run, 0, undefined, true) : go(run, 0);
  };

  // By the number of arguments: to give no final next is koa's way to say that nothing follows, to
  // give one that is not there is a mistake.
  return function (context: unknown, finalNext?: Step): Promise<unknown> {
    if (typeof finalNext !== 'function' && arguments.length > 1) return Promise.reject(wrongType('finalNext', finalNext, 'a function'));
    let close: (() => void) | undefined;
    try {
      const signal = signalOf(context);
      if (signal?.aborted === true) return Promise.reject(signal.reason);
      if (!plan.hasSignal) return begin(new Run(context, finalNext, signal));
      if (typeof context !== 'object' || context === null) throw wrongType('context', context, 'an object, as a layer of the chain has timeoutMs');
      close = openSignal(context);
      return begin(new Run(context, finalNext, signalOf(context))).finally(close);
    } catch (error) {
      close?.();
      return Promise.reject(error);
    }
  };
}

/** The same promise, of which `end` hears first. One of our own, so that nobody's rejection counts as handled because we looked. */
function settled(promise: Promise<unknown>, end: (hasFailed: boolean, error: unknown) => void): Promise<unknown> {
  return promise.then(
    (value) => {
      end(false, undefined);
      return value;
    },
    (error: unknown) => {
      end(true, error);
      throw error;
    },
  );
}
