/**
 * Runs a compiled chain. The loop dispatches from layer to layer and counts; everything else is
 * done by wrappers of the layers that need it.
 */
import { PortcullisError, wrongType } from '../base/errors.js';
import { COUNT } from './figures.js';
import type { CompiledLayer, LayerFunction } from './layers.js';
import {
  isTraced,
  type Observation,
  type ObservedChain,
  observedFinal,
  type ObservedLayer,
  observedLayer,
} from './observe.js';
import { openSignal, signalOf } from './signal.js';

/** Decides which runs are observed. All versions of a chain share it. @internal */
export interface Sampler {
  /** Observes one run in this many; 0 for none. */
  readonly every: number;
  /** Runs until the next observed one. */
  left: number;
  /** Observed runs that are still to come one after the other. */
  warmUp: number;
}

/** Everything that a compiled chain needs to run. @internal */
export interface ChainPlan extends ObservedChain {
  readonly layers: readonly CompiledLayer[];
  readonly sampler: Sampler;
  /** Whether a layer may abort the run. */
  readonly hasSignal: boolean;
}

/** A compiled chain, whatever its types. @internal */
export type ChainFunction = (context: unknown, finalNext?: LayerFunction) => Promise<unknown>;

/** One run of a chain. */
class Run {
  /**
   * Index of the last layer that the run has reached. To reach a layer again is to call `next()`
   * twice.
   */
  index = -1;

  constructor(
    readonly context: unknown,
    readonly final: LayerFunction | undefined,
    readonly signal: AbortSignal | undefined,
    readonly layers: readonly ObservedLayer[],
    readonly observation: Observation | undefined,
  ) {}
}

/**
 * Compiles layers to the function that runs them. The loop is a closure and not a class: with
 * `this`, a layer costs 5 % more on Node and up to 15 % more on Bun
 * (`node bench/middleware.mjs sync`).
 * @internal
 */
export function compile(plan: ChainPlan): ChainFunction {
  const { layers, sampler } = plan;
  const count = layers.length;
  const plain = layers.map((layer) => layer.run);
  const observed = layers.map((layer, index) => observedLayer(plan, layer, index));
  const counters = layers.map((layer) => layer.figures.counters);

  // The same code for all runs. Observed runs have other layers, instead of a branch in here:
  // engines pay more for a branch that is taken once in 64 times than for the work behind it.
  const dispatch = (run: Run, index: number): Promise<unknown> => {
    if (index <= run.index) return calledTwice(layers[index - 1]);
    run.index = index;
    const { signal } = run;
    if (signal !== undefined && signal.aborted) return Promise.reject(signal.reason);
    try {
      let result: unknown;
      if (index < count) {
        counters[index]![COUNT]!++;
        result = run.layers[index]!(run.context, () => dispatch(run, index + 1), run.observation);
      } else if (index === count && run.final !== undefined) {
        result = run.final(run.context, () => dispatch(run, index + 1));
      }
      return result instanceof Promise ? result : Promise.resolve(result);
    } catch (error) {
      return Promise.reject(error);
    }
  };

  return entryOf(plan, (context, final, signal) => {
    const traced = isTraced();
    const isObserved = isSampled(sampler) || traced;
    if (!isObserved) return dispatch(new Run(context, final, signal, plain, undefined), 0);
    const observation: Observation = { frames: [], isTraced: traced, signal };
    const last =
      final === undefined || count === 0 ? final : observedFinal(plan, final, observation.frames);
    return dispatch(new Run(context, last, signal, observed, observation), 0);
  });
}

/**
 * Returns the function that checks the arguments of a run and gives it a signal, if it needs one.
 */
function entryOf(
  { hasSignal }: ChainPlan,
  start: (
    context: unknown,
    final: LayerFunction | undefined,
    signal: AbortSignal | undefined,
  ) => Promise<unknown>,
): ChainFunction {
  // The number of arguments counts: without a final next nothing follows, as in koa, but a final
  // next that is not a function is a mistake.
  return function (context: unknown, finalNext?: LayerFunction): Promise<unknown> {
    if (typeof finalNext !== 'function' && arguments.length > 1)
      return Promise.reject(wrongType('finalNext', finalNext, 'a function'));
    let closeSignal: (() => void) | undefined;
    try {
      const signal = signalOf(context);
      if (signal?.aborted === true) return Promise.reject(signal.reason);
      if (!hasSignal) return start(context, finalNext, signal);
      if (typeof context !== 'object' || context === null)
        throw wrongType('context', context, 'an object, as a layer of the chain has timeoutMs');
      closeSignal = openSignal(context);
      return start(context, finalNext, signalOf(context)).finally(closeSignal);
    } catch (error) {
      closeSignal?.();
      return Promise.reject(error);
    }
  };
}

/** Counts a run. Returns whether it is to be observed. */
function isSampled(sampler: Sampler): boolean {
  if (sampler.every === 0 || --sampler.left > 0) return false;
  if (sampler.warmUp > 0) sampler.warmUp--;
  sampler.left = sampler.warmUp > 0 ? 1 : sampler.every;
  return true;
}

/** Rejects the second `next()` of a layer, or of the final next. */
function calledTwice(layer: CompiledLayer | undefined): Promise<never> {
  const label = layer?.label ?? 'the final next';
  return Promise.reject(
    new PortcullisError('ERR_NEXT_CALLED_TWICE', `next() called multiple times in ${label}`, {
      field: label,
    }),
  );
}
