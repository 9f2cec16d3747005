/** Options of timers and of their managers, checked. */
import type { Clock } from '../base/clock.js';
import { outOfRange, wrongType } from '../base/errors.js';
import { knownOptions } from '../base/options.js';

/** Options of a timer, given in the place of its delay: own properties, which are read once. */
export interface TimerOptions {
  /** Milliseconds: 1 to 2^47; fractions are cut, and what is less or no number is 1, as on the host. Default 1. */
  readonly delayMs?: number;
  /** Shown by `snapshot()` and `assertNoLeaks()`. Default: none. */
  readonly name?: string;
  /** Clears the timer when it aborts. Default: none. */
  readonly signal?: AbortSignal;
  /** Whether the timer holds the process. Default `true`. */
  readonly ref?: boolean;
  /**
   * For an interval whose callback returns a promise that is still pending at the next tick:
   * `allow` calls it again (the host's way), `skip` leaves the tick out, `queue` runs one tick
   * when the promise settles. Default `allow`.
   */
  readonly overlap?: 'allow' | 'skip' | 'queue';
}

/** Options of a manager. */
export interface TimerManagerOptions {
  /** The clock that drives it. Default: the host's. */
  readonly clock?: Clock;
  /** Whether a new timer after `close()` throws `ERR_CLOSED` instead of being inert. Default `false`. */
  readonly strict?: boolean;
  /** Owner shown in reports. Default `timers`. */
  readonly name?: string;
  /** `capture` keeps AsyncLocalStorage context as the host does, `none` saves its cost. Default `capture`. */
  readonly context?: 'capture' | 'none';
}

const DELAY_MAX_MS = 2 ** 47;
const TIMER_OPTIONS = ['delayMs', 'name', 'signal', 'ref', 'overlap'] as const;
const { hasOwn } = Object;

export function delayOf(delay: unknown): number {
  if (typeof delay === 'number' && delay >= 1 && delay <= 0x7fff_ffff) return delay | 0;
  const number =
    typeof delay === 'number' || typeof delay === 'string' ? Math.trunc(Number(delay)) : 1;
  return number >= 1 ? Math.min(number, DELAY_MAX_MS) : 1;
}

/** What was checked is what is used: each is read once. */
export function checkedManagerOptions(options: TimerManagerOptions) {
  if (typeof options !== 'object' || options === null)
    throw wrongType('options', options, 'an object');
  knownOptions('TimerManager', options, ['clock', 'strict', 'name', 'context']);
  if (
    options.context !== undefined &&
    options.context !== 'capture' &&
    options.context !== 'none'
  ) {
    throw outOfRange('context', options.context, "'capture' or 'none'");
  }
  const { clock, strict, name } = options;
  if (strict !== undefined && typeof strict !== 'boolean')
    throw wrongType('strict', strict, 'a boolean');
  if (name !== undefined && typeof name !== 'string') throw wrongType('name', name, 'a string');
  if (clock !== undefined && !isClock(clock))
    throw wrongType('clock', clock, 'a clock: now, arm, soon, identity, checkpoint');
  return { clock, strict, name };
}

/** What a timer was given, checked. Name by name: a spread costs as much as the timer. */
export function checkedTimerOptions(
  kind: 'timeout' | 'interval',
  given: TimerOptions,
): { [K in keyof TimerOptions]: TimerOptions[K] | undefined } {
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
  checkCommon(options);
  return options;
}

/** What every call with options has in common. */
export function checkOptions(
  what: string,
  options: { readonly signal?: AbortSignal; readonly ref?: boolean },
  known: readonly string[],
): void {
  if (typeof options !== 'object' || options === null)
    throw wrongType('options', options, 'an object');
  knownOptions(what, options, known);
  checkCommon(options);
}

function checkCommon({
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
