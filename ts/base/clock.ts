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

/** The function `setTimeout`. Fake timers of sinon, jest and vitest, and those of Bun, mark theirs. */
interface MarkedSetTimeout {
  /** The clock of `@sinonjs/fake-timers`, which jest and vitest use too; `true` on Bun. */
  readonly clock?: FakeClock | true;
}

/** The part of a clock of `@sinonjs/fake-timers` that is read here. */
interface FakeClock {
  /** Fake time since the installation. Unlike `now`, it is not moved by `setSystemTime()`. */
  readonly hrtime?: () => [seconds: number, nanoseconds: number];
  readonly performance?: { readonly now: () => number };
  readonly now: number;
  /** The host's own function and object, if the clock has replaced them. */
  readonly _setTimeout?: typeof globalThis.setTimeout;
  readonly _performance?: Performance;
}

// The module may be loaded while fake timers are installed (`enableGlobally` of jest).
const installed = (globalThis.setTimeout as MarkedSetTimeout).clock;
const replaced: Partial<FakeClock> = typeof installed === 'object' ? installed : {};
const hostSetTimeout = replaced._setTimeout ?? globalThis.setTimeout;
const hostPerformance = replaced._performance ?? globalThis.performance;
// The function is kept too, since sinon replaces it on the host's own object. A bound one costs less
// on Bun than a lookup through `globalThis` (52 and 57 ns), and less on Node, too (88 and 105 ns).
const hostPerformanceNow = hostPerformance.now;
const hostNow: () => number =
  installed === undefined ? hostPerformanceNow.bind(hostPerformance) : () => hostPerformance.now();
const hostDateNow = globalThis.Date.now;

/**
 * Returns Node's function that runs pending ticks and microtasks. With `--pending-deprecation` Node
 * wraps it in one that warns (DEP0134), and has the function itself as its prototype.
 */
function tickCallback(): (() => void) | undefined {
  const callback = (process as unknown as { _tickCallback?: () => void })._tickCallback;
  if (typeof callback !== 'function') return undefined;
  const inner: unknown = Object.getPrototypeOf(callback);
  // A function that is not wrapped has `Function.prototype` there, in Jest that of another realm. It
  // is a function, too, but its own prototype is none.
  const isWrapped =
    typeof inner === 'function' && typeof Object.getPrototypeOf(inner) === 'function';
  return isWrapped ? (inner as () => void) : callback;
}

const ticks = tickCallback();
const runMicrotasks: () => void =
  jsc?.drainMicrotasks ?? (ticks === undefined ? () => undefined : () => ticks.call(process));

/**
 * Whether fake timers have replaced the host's `setTimeout`. Those of Bun keep the function and mark
 * it.
 */
export function hasFakeTimers(): boolean {
  const current = globalThis.setTimeout;
  return current !== hostSetTimeout || (current as MarkedSetTimeout).clock !== undefined;
}

/**
 * Time of fake timers that show none: neither a clock nor a fake `performance` or `Date`. It moves
 * to the time of each alarm that they ring.
 */
let rungMs = 0;

/**
 * Returns the time of the installed fake timers, in whole milliseconds: their timers are due at
 * whole milliseconds, whatever fraction the clock shows.
 */
function fakeNow(): number {
  const { clock } = globalThis.setTimeout as MarkedSetTimeout;
  if (clock === true) return Math.floor(hostNow());
  if (clock?.hrtime !== undefined) {
    const [seconds, nanoseconds] = clock.hrtime();
    return seconds * 1000 + Math.floor(nanoseconds / 1e6);
  }
  if (clock !== undefined) return Math.floor(clock.performance?.now() ?? clock.now);
  if (globalThis.performance.now !== hostPerformanceNow)
    return Math.floor(globalThis.performance.now());
  if (globalThis.Date.now !== hostDateNow) return globalThis.Date.now();
  return rungMs;
}

/** A marker, as the identity of Bun's fake timers. */
const BUN_FAKE = {};

/**
 * The clock and the timers of the host. Its time is the time of `setTimeout`: with fake timers it is
 * theirs, also if they leave `performance` or `Date` real, and without them it is real, also if
 * `performance` or `Date` is fake.
 */
export const hostClock: Clock = {
  now: () => (hasFakeTimers() ? fakeNow() : hostNow()),
  arm(wake, delayMs) {
    const clear = globalThis.clearTimeout;
    const handle = globalThis.setTimeout(
      hasFakeTimers() ? ringing(wake, rungMs + delayMs) : wake,
      delayMs,
    );
    return {
      cancel: () => clear(handle),
      ref: () => void handle.ref?.(),
      unref: () => void handle.unref?.(),
    };
  },
  soon: (wake) => void globalThis.setImmediate(wake),
  identity() {
    const current = globalThis.setTimeout;
    return (current as MarkedSetTimeout).clock === true ? BUN_FAKE : current;
  },
  // Fake clocks run timers within the test's own turn, in which the host runs no microtasks either.
  checkpoint: () => {
    if (!hasFakeTimers()) runMicrotasks();
  },
};

/** Returns `wake` for fake timers: a fake alarm that rings has reached its time. */
const ringing = (wake: () => void, atMs: number) => (): void => {
  rungMs = Math.max(rungMs, atMs);
  wake();
};

/** Returns wall-clock time, ms since 1970, for timestamps in reports. */
export const wallClockMs = (): number => globalThis.Date.now();

/**
 * Returns a wait in whole ms, rounded up, for messages to clients. Less than a microsecond above a
 * whole number is the rounding of a sum of times: a minute does not become 61 seconds.
 */
export const wholeMs = (ms: number): number => Math.max(0, Math.ceil(ms - 0.001));
