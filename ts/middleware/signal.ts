/** The signal of a run, which a layer's timeout aborts. */
import { ArgumentTypeError, describe } from '../base/errors.js';

/** Controllers of the runs in progress that have layers with a timeout, by their signals. */
const controllers = new WeakMap<AbortSignal, AbortController>();
/** Signals of runs that are over. One that is left on a context must not abort the next run. */
const ended = new WeakSet<AbortSignal>();

/** Returns the signal of a context, unless it is that of a run that is over. @internal */
export function signalOf(context: unknown): AbortSignal | undefined {
  const signal = (context as { signal?: AbortSignal } | null | undefined)?.signal;
  if (signal === undefined || typeof signal?.aborted !== 'boolean' || ended.has(signal))
    return undefined;
  return signal;
}

/**
 * Takes the signal of a chain in the layer of another chain, which is over, from a context whose run goes on: a later
 * layer would take it for that of its own run.
 * @internal
 */
export function dropEnded(context: unknown): void {
  const signal = (context as { signal?: unknown } | null | undefined)?.signal;
  if (ended.has(signal as AbortSignal)) Reflect.deleteProperty(context as object, 'signal');
}

/** Returns the controller of a run, if `openSignal` has given the context a signal. @internal */
export function controllerOf(context: unknown): AbortController | undefined {
  return controllers.get(signalOf(context) as AbortSignal);
}

/**
 * Gives `context` a signal for one run. It follows the signal that the context has.
 *
 * @returns a function that takes the signal back at the end of the run
 * @throws ERR_INVALID_ARG_TYPE if the property cannot be defined
 * @internal
 */
export function openSignal(context: object): () => void {
  const outer = signalOf(context);
  const before = Reflect.getOwnPropertyDescriptor(context, 'signal');
  const controller = new AbortController();
  const { signal } = controller;
  const isDefined = Reflect.defineProperty(context, 'signal', {
    value: signal,
    writable: true,
    enumerable: true,
    configurable: true,
  });
  if (!isDefined)
    throw new ArgumentTypeError(
      'ERR_INVALID_ARG_TYPE',
      'context.signal must be writable: a layer of the chain has timeoutMs',
      {
        field: 'context.signal',
        value: describe(outer),
        allowed: 'writable, or absent from a context that can be extended',
      },
    );
  controllers.set(signal, controller);
  const forward = (): void => controller.abort(outer?.reason);
  // Optional calls: the signals of some frameworks only look like an AbortSignal.
  outer?.addEventListener?.('abort', forward, { once: true });
  return () => {
    outer?.removeEventListener?.('abort', forward);
    ended.add(signal);
    // A context that had no signal keeps this one, which shows whether the run was aborted.
    if (outer === undefined || (context as { signal?: unknown }).signal !== signal) return;
    if (before === undefined) Reflect.deleteProperty(context, 'signal');
    else Reflect.defineProperty(context, 'signal', before);
  };
}
