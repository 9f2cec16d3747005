/** Options of timers and of their managers, and the checks of them. */
import type { Clock } from '../base/clock.js';
import { outOfRange, wrongType } from '../base/errors.js';
import { knownOptions, optionsObject } from '../base/options.js';

/** Options of a timer, in the place of its delay. Each is read once; only own properties count. */
export interface TimerOptions {
  /**
   * Delay: 1 to 2^47 ms. Fractions are cut; anything less, and anything that is not a number, is 1,
   * as on the host. Anything more, and `Infinity`, is 2^47; on the host it is 1. Default 1.
   */
  readonly delayMs?: number | undefined;
  /** Name that `snapshot()` and `assertNoLeaks()` show. Default: none. */
  readonly name?: string | undefined;
  /** Clears the timer when it aborts. Default: none. */
  readonly signal?: AbortSignal | undefined;
  /** Whether the timer keeps the process alive. Default `true`. */
  readonly ref?: boolean | undefined;
  /**
   * Behaviour of an interval at a tick while the promise of the last tick is pending: `allow` calls
   * the callback again, as the host does, `skip` leaves the tick out, `queue` runs one tick once the
   * promise has settled. Default `allow`.
   */
  readonly overlap?: 'allow' | 'skip' | 'queue' | undefined;
}

/** Options of a `TimerManager`. */
export interface TimerManagerOptions {
  /** Clock that drives the timers. Default: the host's. */
  readonly clock?: Clock | undefined;
  /**
   * Whether setting a timer after `close()` throws `ERR_CLOSED`; if not, the timer is inert.
   * Default `false`.
   */
  readonly strict?: boolean | undefined;
  /** Owner that `snapshot()` shows. Default `timers`. */
  readonly name?: string | undefined;
  /**
   * `capture` runs callbacks in the AsyncLocalStorage context in which they were set, as the host
   * does; `none` saves the cost. Default `capture`.
   */
  readonly context?: 'capture' | 'none' | undefined;
}

const DELAY_MAX_MS = 2 ** 47;
const TIMER_OPTIONS = ['delayMs', 'name', 'signal', 'ref', 'overlap'] as const;
const { hasOwn } = Object;

/** Returns a delay as the host reads it: a whole number of at least 1. */
export function delayOf(delay: unknown): number {
  if (typeof delay === 'number' && delay >= 1 && delay <= 0x7fff_ffff) return delay | 0;
  const number =
    typeof delay === 'number' || typeof delay === 'string' ? Math.trunc(Number(delay)) : 1;
  return number >= 1 ? Math.min(number, DELAY_MAX_MS) : 1;
}

/**
 * Returns the checked options of a manager. Each is read once, so that the checked value is the
 * used one.
 */
export function checkedManagerOptions(options: TimerManagerOptions) {
  optionsObject('options', options);
  knownOptions('TimerManager', options, ['clock', 'strict', 'name', 'context']);
  const { clock, strict = false, name = 'timers', context = 'capture' } = options;
  if (context !== 'capture' && context !== 'none')
    throw outOfRange('context', context, "'capture' or 'none'");
  if (typeof strict !== 'boolean') throw wrongType('strict', strict, 'a boolean');
  if (typeof name !== 'string') throw wrongType('name', name, 'a string');
  if (clock !== undefined && !isClock(clock))
    throw wrongType('clock', clock, 'a clock: now, arm, soon, identity, checkpoint');
  return { clock, strict, name, context };
}

/**
 * Returns the checked options of a timer. They are copied by name: a spread costs as much as the
 * timer.
 */
export function checkedTimerOptions(
  kind: 'timeout' | 'interval',
  given: TimerOptions,
): TimerOptions {
  const options = {
    delayMs: hasOwn(given, 'delayMs') ? given.delayMs : undefined,
    name: hasOwn(given, 'name') ? given.name : undefined,
    signal: hasOwn(given, 'signal') ? given.signal : undefined,
    ref: hasOwn(given, 'ref') ? given.ref : undefined,
    overlap: hasOwn(given, 'overlap') ? given.overlap : undefined,
  };
  knownOptions(kind === 'timeout' ? 'setTimeout' : 'setInterval', given, TIMER_OPTIONS);
  const { overlap, name } = options;
  if (name !== undefined && typeof name !== 'string') throw wrongType('name', name, 'a string');
  if (overlap !== undefined && overlap !== 'allow' && overlap !== 'skip' && overlap !== 'queue') {
    throw outOfRange('overlap', overlap, "'allow', 'skip' or 'queue'");
  }
  checkSignalAndRef(options);
  return options;
}

/** Checks the options of `sleep` and `interval`. */
export function checkOptions(
  method: string,
  options: { readonly signal?: AbortSignal | undefined; readonly ref?: boolean | undefined },
  known: readonly string[],
): void {
  optionsObject('options', options);
  knownOptions(method, options, known);
  checkSignalAndRef(options);
}

function checkSignalAndRef({
  signal,
  ref,
}: {
  readonly signal?: AbortSignal | undefined;
  readonly ref?: boolean | undefined;
}): void {
  if (signal !== undefined && !(signal instanceof AbortSignal))
    throw wrongType('signal', signal, 'an AbortSignal');
  if (ref !== undefined && typeof ref !== 'boolean') throw wrongType('ref', ref, 'a boolean');
}

function isClock(clock: unknown): clock is Clock {
  const methods = (typeof clock === 'object' && clock !== null ? clock : {}) as Partial<
    Record<string, unknown>
  >;
  return (['now', 'arm', 'soon', 'identity', 'checkpoint'] as const).every(
    (name) => typeof methods[name] === 'function',
  );
}
