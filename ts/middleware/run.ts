/**
 * Runs a compiled chain: one loop, which does nothing but hand on. Runs that are observed have
 * steps that time the layers; which runs these are is decided once a run.
 */
// By its default: that an old runtime lacks a name would be said before `runtime.ts` can speak.
import channels, { type Channel, type TracingChannel } from 'node:diagnostics_channel';
import { PortcullisError, wrongType } from '../base/errors.js';
import { isThenable } from '../base/hooks.js';
import { COUNT, DETACHED, ERRORS, type Figures, IN_FLIGHT, OBSERVED } from './figures.js';
import { openSignal, signalOf, type Step } from './layers.js';

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

const tracing: TracingChannel<unknown, MiddlewareTrace> =
  channels.tracingChannel('portcullis.middleware');

function isTraced({
  start,
  end,
  asyncStart,
  asyncEnd,
  error,
}: Record<'start' | 'end' | 'asyncStart' | 'asyncEnd' | 'error', Channel>): boolean {
  return (
    start.hasSubscribers ||
    asyncEnd.hasSubscribers ||
    error.hasSubscribers ||
    end.hasSubscribers ||
    asyncStart.hasSubscribers
  );
}

/** Which runs are observed: none when `every` is 0. Shared by the versions of a chain. @internal */
export interface Sampler {
  readonly every: number;
  /** Runs until the next observed one. */
  left: number;
  /** Observed runs to come without a pause between them. */
  warmUp: number;
}

/** A layer of a compiled chain. */
interface CompiledLayer {
  readonly name: string;
  readonly label: string;
  readonly figures: Figures;
  readonly step: Step;
}

/** What a compiled chain runs on. */
interface Plan {
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
    readonly steps: readonly ObservedStep[],
    readonly observation: Observation | undefined,
  ) {}
}

/** A step around another, which times it. */
type ObservedStep = (
  context: unknown,
  next: () => Promise<unknown>,
  observation: Observation | undefined,
) => unknown;

/** What is known of an observed run: a frame for each layer it has reached. */
interface Observation {
  readonly frames: Frame[];
  readonly isTraced: boolean;
  readonly signal: AbortSignal | undefined;
}

/** What an observed run knows of one layer. */
class Frame {
  /** When it called `next()`, and when that settled. -1: not yet. */
  nextMs = -1;
  belowMs = -1;
  hasFailedBelow = false;
  belowError: unknown;
}

const promised = (value: unknown): Promise<unknown> =>
  value instanceof Promise ? value : Promise.resolve(value);

/** @internal */
export function runner(plan: Plan): Runner {
  const { layers, sampler, now } = plan;
  const count = layers.length;
  const steps = layers.map((layer) => layer.step);
  const counters = layers.map((layer) => layer.figures.counters);

  const twice = (index: number): Promise<never> => {
    const label = layers[index]?.label ?? 'the final next';
    return Promise.reject(
      new PortcullisError('ERR_NEXT_CALLED_TWICE', `next() called multiple times in ${label}`, {
        field: label,
      }),
    );
  };

  // The same for all runs, and without a branch for the observed ones: one that is taken once in 64
  // times costs the engines more than what is done there. Those have other steps.
  const go = (run: Run, index: number): Promise<unknown> => {
    if (index <= run.index) return twice(index - 1);
    run.index = index;
    const { signal } = run;
    if (signal !== undefined && signal.aborted) return Promise.reject(signal.reason);
    try {
      let result: unknown;
      if (index < count) {
        counters[index]![COUNT]!++;
        result = run.steps[index]!(run.context, () => go(run, index + 1), run.observation);
      } else if (index === count && run.final !== undefined) {
        result = run.final(run.context, () => go(run, index + 1));
      }
      return result instanceof Promise ? result : Promise.resolve(result);
    } catch (error) {
      return Promise.reject(error);
    }
  };

  const leave = (above: Frame, hasFailed: boolean, error: unknown): number => {
    above.belowMs = now();
    above.hasFailedBelow = hasFailed;
    above.belowError = error;
    return above.belowMs;
  };

  const observed = ({ figures, step, name }: CompiledLayer, index: number): ObservedStep => {
    const { counters: own } = figures;
    return (context, next, observation) => {
      const { frames, isTraced, signal } = observation!;
      const startMs = now();
      /** Of the layer that called `next()`. One moment is its end of work and our beginning, and on the way back. */
      const above = index === 0 ? undefined : frames[index - 1]!;
      if (above !== undefined) above.nextMs = startMs;
      const frame = new Frame();
      frames.push(frame);
      own[OBSERVED]!++;
      own[IN_FLIGHT]!++;
      const end = (hasFailed: boolean, error: unknown): void => {
        const endMs = above === undefined ? now() : leave(above, hasFailed, error);
        const hasCalled = frame.nextMs >= 0;
        const isDetached = hasCalled && frame.belowMs < 0;
        const belowMs = hasCalled ? (isDetached ? endMs : frame.belowMs) - frame.nextMs : 0;
        if (isDetached) own[DETACHED]!++;
        if (
          hasFailed &&
          !(frame.hasFailedBelow && frame.belowError === error) &&
          !(signal?.aborted === true && signal.reason === error)
        )
          own[ERRORS]!++;
        own[IN_FLIGHT]!--;
        figures.settle(endMs - startMs - belowMs, endMs - startMs);
      };
      try {
        const result = isTraced
          ? tracing.tracePromise(
              () => promised(step(context, next)),
              { chain: plan.chain, version: plan.version, layer: name, index, context },
              undefined,
            )
          : step(context, next);
        if (isThenable(result)) return settled(promised(result), end);
        end(false, undefined);
        return result;
      } catch (error) {
        end(true, error);
        throw error;
      }
    };
  };
  const observedSteps = layers.map(observed);

  /** The time of the final next is none of the last layer's. */
  const observedFinal =
    (final: Step, frames: readonly Frame[]): Step =>
    (context, next) => {
      const above = frames[count - 1]!;
      above.nextMs = now();
      try {
        return settled(promised(final(context, next)), (hasFailed, error) =>
          leave(above, hasFailed, error),
        );
      } catch (error) {
        leave(above, true, error);
        throw error;
      }
    };

  const observe = (
    context: unknown,
    final: Step | undefined,
    signal: AbortSignal | undefined,
    traced: boolean,
  ): Run => {
    const frames: Frame[] = [];
    const last = final === undefined || count === 0 ? final : observedFinal(final, frames);
    return new Run(context, last, signal, observedSteps, { frames, isTraced: traced, signal });
  };

  const begin = (
    context: unknown,
    final: Step | undefined,
    signal: AbortSignal | undefined,
  ): Promise<unknown> => {
    const traced = isTraced(tracing);
    let isObserved = traced;
    if (sampler.every !== 0 && --sampler.left <= 0) {
      if (sampler.warmUp > 0) sampler.warmUp--;
      sampler.left = sampler.warmUp > 0 ? 1 : sampler.every;
      isObserved = true;
    }
    return go(
      isObserved
        ? observe(context, final, signal, traced)
        : new Run(context, final, signal, steps, undefined),
      0,
    );
  };

  // By the number of arguments: to give no final next is koa's way to say that nothing follows, to
  // give one that is not there is a mistake.
  return function (context: unknown, finalNext?: Step): Promise<unknown> {
    if (typeof finalNext !== 'function' && arguments.length > 1)
      return Promise.reject(wrongType('finalNext', finalNext, 'a function'));
    let close: (() => void) | undefined;
    try {
      const signal = signalOf(context);
      if (signal?.aborted === true) return Promise.reject(signal.reason);
      if (!plan.hasSignal) return begin(context, finalNext, signal);
      if (typeof context !== 'object' || context === null)
        throw wrongType('context', context, 'an object, as a layer of the chain has timeoutMs');
      close = openSignal(context);
      return begin(context, finalNext, signalOf(context)).finally(close);
    } catch (error) {
      close?.();
      return Promise.reject(error);
    }
  };
}

/** The same promise, of which `end` hears first. One of our own, so that nobody's rejection counts as handled because we looked. */
function settled(
  promise: Promise<unknown>,
  end: (hasFailed: boolean, error: unknown) => void,
): Promise<unknown> {
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
