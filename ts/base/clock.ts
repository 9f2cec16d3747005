/**
 * Time and host timers. No other file reads the time or sets a timer of the host. Both go through
 * `globalThis` at the time of the call, so that fake timers work.
 */
import { jsc } from './jsc.js';

/** A source of time with one alarm. It drives the timers of a `TimerManager`. */
export interface Clock {
  /** Returns monotonic time, ms. */
  now(): number;
  /** Arms the alarm: calls `wake` once, after `delayMs` milliseconds. Returns the armed alarm. */
  arm(wake: () => void, delayMs: number): ClockAlarm;
  /** Calls `wake` in the next turn of the event loop. */
  soon(wake: () => void): void;
  /** Returns a value that changes when fake timers replace the host's timers, or are removed. */
  identity(): unknown;
  /** Runs pending microtasks, as hosts do between two timers. */
  checkpoint(): void;
}

/** An armed alarm of a `Clock`. */
export interface ClockAlarm {
  /** Disarms the alarm. */
  cancel(): void;
  /** Keeps the process alive while the alarm is armed. */
  ref(): void;
  /** Lets the process end while the alarm is armed. */
  unref(): void;
}

const hostSetTimeout = globalThis.setTimeout;
const tickCallback = (process as unknown as { _tickCallback?: () => void })._tickCallback;
const runMicrotasks: () => void =
  jsc?.drainMicrotasks ??
  (typeof tickCallback === 'function' ? () => tickCallback.call(process) : () => undefined);

/** Whether fake timers are installed. Those of Bun keep the function and mark it by `clock`. */
const hasFakeTimers = (): boolean =>
  globalThis.setTimeout !== hostSetTimeout || Object.hasOwn(globalThis.setTimeout, 'clock');

/** The clock and the timers of the host. */
export const hostClock: Clock = {
  now: () => globalThis.performance.now(),
  arm(wake, delayMs) {
    const clear = globalThis.clearTimeout;
    const handle = globalThis.setTimeout(wake, delayMs);
    return {
      cancel: () => clear(handle),
      ref: () => void handle.ref?.(),
      unref: () => void handle.unref?.(),
    };
  },
  soon: (wake) => void globalThis.setImmediate(wake),
  identity: () => globalThis.setTimeout,
  // Fake clocks run timers within the test's own turn, in which the host runs no microtasks either.
  checkpoint: () => {
    if (!hasFakeTimers()) runMicrotasks();
  },
};

/** Returns wall-clock time, ms since 1970, for timestamps in reports. */
export const wallClockMs = (): number => globalThis.Date.now();
