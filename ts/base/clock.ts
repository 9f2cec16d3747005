/** The only file that reads time or arms a host timer: always through `globalThis` at call time, so that fake timers work. */
import { jsc } from './jsc.js';

/** What drives timers: a clock and one alarm. */
export interface Clock {
  /** Monotonic milliseconds. */
  now(): number;
  /** Calls `wake` after `delayMs`; returns what takes it back and what holds the process. */
  arm(wake: () => void, delayMs: number): ClockAlarm;
  /** Calls `wake` in the next turn. */
  soon(wake: () => void): void;
  /** Changes when the host's timers were replaced (fake timers installed or removed). */
  identity(): unknown;
  /** Runs pending microtasks, as hosts do between two timers. */
  checkpoint(): void;
}

/** An armed alarm. */
export interface ClockAlarm {
  cancel(): void;
  ref(): void;
  unref(): void;
}

const native = globalThis.setTimeout;
const tickCallback = (process as unknown as { _tickCallback?: () => void })._tickCallback;
const drain: () => void =
  jsc?.drainMicrotasks ??
  (typeof tickCallback === 'function' ? () => tickCallback.call(process) : () => undefined);

/** Bun's fake timers keep the function and mark it. */
const faked = (): boolean =>
  globalThis.setTimeout !== native || Object.hasOwn(globalThis.setTimeout, 'clock');

/** The host's own clock and timers. */
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
  // Fake clocks run timers inside of the test's own turn, where the host would not run microtasks either.
  checkpoint: () => {
    if (!faked()) drain();
  },
};

/** Wall-clock milliseconds, for timestamps in reports. */
export const wallClockMs = (): number => globalThis.Date.now();
