/** The owner of a server's timers. */
import { hostClock } from '../base/clock.js';
import { describe, PortcullisError, wrongType } from '../base/errors.js';
import {
  captureContext,
  type Driver,
  driverOf,
  newTimerList,
  SLOTS_MAX,
  type TimerCallback,
  type TimerExtras,
} from './driver.js';
import { TimerHandle, type TimerSpec } from './handle.js';
import {
  checkedManagerOptions,
  checkedTimerOptions,
  checkOptions,
  delayOf,
  type TimerManagerOptions,
  type TimerOptions,
} from './options.js';
import type { CleanupResult, TimerSnapshot, TimerSnapshotEntry } from './snapshot.js';

type Callback<A extends unknown[]> = (this: TimerHandle, ...args: A) => unknown;

/** Timers that a snapshot lists, at most. */
const LISTED_MAX = 1000;

/**
 * Owns a server's timers, so that one call ends them all.
 *
 * All managers of a thread share one timing wheel and one host timer. Timers fire in the order of
 * their deadlines and never early. An error thrown by a callback becomes an uncaught exception, and
 * the other due timers still run.
 *
 * @example
 * const timers = new TimerManager();
 * timers.setInterval(() => flush(), 1000);
 * timers.close(); // { timeouts: 0, intervals: 1 }
 */
export class TimerManager {
  /** @internal */
  readonly driver: Driver;
  /** Owner that `snapshot()` shows. */
  readonly name: string;
  readonly #strict: boolean;
  readonly #context: 'capture' | 'none';
  readonly #timers = newTimerList();
  readonly #scopes = new Set<TimerManager>();
  readonly #closers = new Set<() => void>();
  #parent: TimerManager | undefined;
  #isClosed = false;
  #inert = 0;

  /**
   * @param options see `TimerManagerOptions`
   * @throws ERR_INVALID_ARG_TYPE, ERR_OUT_OF_RANGE, ERR_UNKNOWN_OPTION, naming the option
   */
  constructor(options: TimerManagerOptions = {}) {
    const { clock, strict, name, context } = checkedManagerOptions(options);
    this.#strict = strict;
    this.#context = context;
    this.name = name;
    this.driver = driverOf(clock ?? hostClock);
  }

  /**
   * Calls `callback` once, after a delay.
   *
   * @param callback the function to call; `this` in it is the handle
   * @param delay 1 to 2^47 ms, or options; default 1
   * @param args arguments of the callback
   * @returns the handle of the timer
   * @throws ERR_INVALID_ARG_TYPE, ERR_OUT_OF_RANGE, ERR_UNKNOWN_OPTION for the callback or an
   * option; ERR_CLOSED after `close()` if `strict`; ERR_TOO_MANY_TIMERS
   */
  setTimeout<A extends unknown[]>(
    callback: Callback<A>,
    delay?: number | TimerOptions,
    ...args: A
  ): TimerHandle {
    return this.#set('timeout', callback as TimerCallback, delay, args);
  }

  /**
   * Calls `callback` again and again. The ticks are on a grid that does not drift; missed ticks are
   * skipped.
   *
   * @param callback the function to call; `this` in it is the handle
   * @param delay the time between two ticks, 1 to 2^47 ms, or options; default 1
   * @param args arguments of the callback
   * @returns the handle of the timer
   * @throws ERR_INVALID_ARG_TYPE, ERR_OUT_OF_RANGE, ERR_UNKNOWN_OPTION for the callback or an
   * option; ERR_CLOSED after `close()` if `strict`; ERR_TOO_MANY_TIMERS
   */
  setInterval<A extends unknown[]>(
    callback: Callback<A>,
    delay?: number | TimerOptions,
    ...args: A
  ): TimerHandle {
    return this.#set('interval', callback as TimerCallback, delay, args);
  }

  #set(
    kind: 'timeout' | 'interval',
    callback: TimerCallback,
    delay: number | TimerOptions | undefined,
    args: unknown[],
  ): TimerHandle {
    if (typeof callback !== 'function') throw wrongType('callback', callback, 'a function');
    let spec: TimerSpec | TimerCallback = callback;
    let delayMs: number;
    let isRefed = true;
    if (typeof delay === 'object' && delay !== null) {
      // Own properties only: timers that adapters set for connections must not fail because of a
      // property that someone has added to Object.prototype.
      const options = checkedTimerOptions(kind, delay);
      delayMs = delayOf(options.delayMs);
      isRefed = options.ref ?? true;
      spec = {
        callback,
        args: args.length === 0 ? undefined : args,
        name: options.name,
        overlap: options.overlap ?? 'allow',
        signal: options.signal,
      };
    } else {
      delayMs = delayOf(delay);
      if (args.length > 0)
        spec = { callback, args, name: undefined, overlap: 'allow', signal: undefined };
    }
    if (this.#isClosed) return this.#inertHandle(kind, spec, delayMs, isRefed);
    const isAborted = typeof spec !== 'function' && spec.signal?.aborted === true;
    return new TimerHandle(this, kind, spec, delayMs, isRefed, !isAborted);
  }

  /** Returns the handle of a timer that is set after `close()`, which never fires. */
  #inertHandle(
    kind: 'timeout' | 'interval',
    spec: TimerSpec | TimerCallback,
    delayMs: number,
    isRefed: boolean,
  ): TimerHandle {
    if (this.#strict) throw this.#closedError();
    this.#inert++;
    return new TimerHandle(this, kind, spec, delayMs, isRefed, false);
  }

  /** @internal */
  arm(
    kind: 'timeout' | 'interval',
    spec: TimerSpec | TimerCallback,
    delayMs: number,
    isRefed: boolean,
    timer: TimerHandle,
  ): number {
    const { driver } = this;
    const isInterval = kind === 'interval';
    const context = this.#context === 'capture' ? captureContext() : undefined;
    if (typeof spec === 'function')
      return driver.add(this.#timers, timer, delayMs, isInterval, isRefed, context, undefined);
    const { args, name, overlap, signal } = spec;
    const extras: TimerExtras = {
      args,
      name,
      overlap,
      isPending: false,
      isQueued: false,
      unlisten: undefined,
    };
    const slot = driver.add(this.#timers, timer, delayMs, isInterval, isRefed, context, extras);
    if (signal !== undefined) {
      const generation = driver.generation(slot);
      const abort = (): void => void driver.remove(slot, generation);
      signal.addEventListener('abort', abort, { once: true });
      extras.unlisten = () => signal.removeEventListener('abort', abort);
    }
    return slot;
  }

  /**
   * Clears a timer of either kind.
   *
   * @param timer its handle, or its number as a number or text; any other value is ignored, as on
   * the host
   */
  clearTimeout(timer: TimerHandle | number | string | null | undefined): void {
    if (TimerHandle.is(timer)) {
      timer.close();
      return;
    }
    if (typeof timer !== 'number' && typeof timer !== 'string') return;
    const id = Number(timer);
    const generation = Math.floor(id / SLOTS_MAX);
    const slot = id - generation * SLOTS_MAX;
    if (this.driver.has(slot, generation, this.#timers)) this.driver.remove(slot, generation);
  }

  /**
   * The same as `clearTimeout()`.
   *
   * @param timer as for `clearTimeout()`
   */
  clearInterval(timer: TimerHandle | number | string | null | undefined): void {
    this.clearTimeout(timer);
  }

  /**
   * Clears all timers, those of its scopes included, and ends the manager. A timer that is set
   * later is inert: it is counted and never fires. May be called again, and from a callback.
   *
   * @returns the numbers of timers cleared
   */
  close(): CleanupResult {
    this.#isClosed = true;
    let timeouts = 0;
    let intervals = 0;
    for (const scope of this.#scopes) {
      const cleared = scope.close();
      timeouts += cleared.timeouts;
      intervals += cleared.intervals;
    }
    const own = this.driver.clear(this.#timers);
    timeouts += own.timeouts;
    intervals += own.intervals;
    for (const closer of this.#closers) closer();
    if (this.#parent !== undefined) this.#parent.#scopes.delete(this);
    return { timeouts, intervals };
  }

  /**
   * The same as `close()`, under the name it has in the same design in plain JavaScript.
   *
   * @returns the numbers of timers cleared
   */
  cleanup(): CleanupResult {
    return this.close();
  }

  /** Calls `close()`, for `using`. */
  [Symbol.dispose](): void {
    this.close();
  }

  /** Calls `closer` at `close()`. Returns a function that takes it back. @internal */
  onCleanup(closer: () => void): () => void {
    if (typeof closer !== 'function') throw wrongType('closer', closer, 'a function');
    this.#closers.add(closer);
    return () => void this.#closers.delete(closer);
  }

  /** Returns the number of pending timers, those of its scopes included. */
  getActiveTimersCount(): number {
    let { count } = this.#timers;
    for (const scope of this.#scopes) count += scope.getActiveTimersCount();
    return count;
  }

  /**
   * Makes a child manager with the same clock and options. Its `close()` clears its own timers; the
   * `close()` of this manager clears both.
   *
   * @param name owner that `snapshot()` shows; default: this manager's name and `.scope`
   * @returns the child
   * @throws ERR_INVALID_ARG_TYPE if `name` is not a string
   */
  scope(name?: string): TimerManager {
    if (name !== undefined && typeof name !== 'string') throw wrongType('name', name, 'a string');
    const child = new TimerManager({
      clock: this.driver.clock,
      strict: this.#strict,
      context: this.#context,
      name: name ?? `${this.name}.scope`,
    });
    child.#parent = this;
    if (this.#isClosed) child.#isClosed = true;
    else this.#scopes.add(child);
    return child;
  }

  /**
   * Waits for a time.
   *
   * @param delayMs 1 to 2^47 ms
   * @param options `signal` ends the wait; `ref: false` lets the process end meanwhile
   * @returns a promise that resolves after the delay
   * @throws by rejection: an `AbortError` if `signal` aborts; ERR_CLOSED at `close()`;
   * ERR_INVALID_ARG_TYPE, ERR_UNKNOWN_OPTION for the options
   */
  sleep(
    delayMs: number,
    options: { readonly signal?: AbortSignal | undefined; readonly ref?: boolean | undefined } = {},
  ): Promise<void> {
    return new Promise((resolve, reject) => {
      checkOptions('sleep', options, ['signal', 'ref']);
      const { signal } = options;
      if (signal?.aborted === true) return reject(abortError(signal));
      if (this.#isClosed) return reject(this.#closedError());
      const end = (): void => {
        this.#closers.delete(close);
        signal?.removeEventListener('abort', abort);
      };
      const close = (): void => {
        end();
        reject(this.#closedError());
      };
      const timer = this.setTimeout(
        () => {
          end();
          resolve();
        },
        { delayMs, ...(options.ref === undefined ? {} : { ref: options.ref }) },
      );
      const abort = (): void => {
        timer.close();
        end();
        reject(abortError(signal));
      };
      this.#closers.add(close);
      signal?.addEventListener('abort', abort, { once: true });
    });
  }

  /**
   * Iterates over the ticks of an interval, until `close()`.
   *
   * @param delayMs the time between two ticks, 1 to 2^47 ms
   * @param options `signal` ends the iteration
   * @returns an iterator, whose values are the numbers of ticks since the last one
   * @throws by rejection: an `AbortError` when `signal` aborts; ERR_INVALID_ARG_TYPE,
   * ERR_UNKNOWN_OPTION for the options
   */
  async *interval(
    delayMs: number,
    options: { readonly signal?: AbortSignal | undefined } = {},
  ): AsyncGenerator<number, void, undefined> {
    checkOptions('interval', options, ['signal']);
    const { signal } = options;
    const throwIfAborted = (): void => {
      if (signal?.aborted === true) throw abortError(signal);
    };
    throwIfAborted();
    let ticks = 0;
    let wake: (() => void) | undefined;
    let isEnded = this.#isClosed;
    const end = (): void => {
      isEnded = true;
      wake?.();
    };
    const timer = this.setInterval(() => {
      ticks++;
      wake?.();
    }, delayMs);
    this.#closers.add(end);
    signal?.addEventListener('abort', end, { once: true });
    try {
      for (;;) {
        if (ticks === 0 && !isEnded) await new Promise<void>((resolve) => (wake = resolve));
        throwIfAborted();
        if (isEnded) return;
        const passed = ticks;
        ticks = 0;
        yield passed;
      }
    } finally {
      timer.close();
      this.#closers.delete(end);
      signal?.removeEventListener('abort', end);
    }
  }

  /** Returns the pending timers, those of its scopes included. */
  snapshot(): TimerSnapshot {
    const timers = this.#entries();
    // Each manager lists its youngest timer first, and the sort is stable.
    timers.reverse().sort((a, b) => b.ageMs - a.ageMs);
    const intervals = timers.filter((timer) => timer.kind === 'interval').length;
    return {
      active: timers.length,
      timeouts: timers.length - intervals,
      intervals,
      inert: this.#inert,
      nextInMs:
        timers.length === 0
          ? null
          : timers.reduce((nearest, timer) => Math.min(nearest, timer.nextInMs), Infinity),
      oldestAgeMs: timers[0]?.ageMs ?? null,
      timers: timers.slice(0, LISTED_MAX),
    };
  }

  #entries(): TimerSnapshotEntry[] {
    const now = this.driver.now();
    const own = Array.from(
      this.driver.timersOf(this.#timers),
      ({ name, isInterval, isRefed, createdMs, dueMs }): TimerSnapshotEntry => ({
        name,
        owner: this.name,
        kind: isInterval ? 'interval' : 'timeout',
        // The driver keeps times of creation as 32-bit floats, which may be rounded up.
        ageMs: Math.max(0, now - createdMs),
        nextInMs: Math.max(0, dueMs - now),
        ref: isRefed,
      }),
    );
    return [...own, ...[...this.#scopes].flatMap((scope) => scope.#entries())];
  }

  /**
   * Checks at the end of a test that no timer is pending.
   *
   * @throws ERR_TIMER_LEAK, naming up to ten pending timers
   */
  assertNoLeaks(): void {
    const { active, timers } = this.snapshot();
    if (active === 0) return;
    const names = timers
      .slice(0, 10)
      .map(
        (timer) => `${timer.owner}/${timer.name ?? timer.kind} (${Math.round(timer.ageMs)} ms old)`,
      );
    throw new PortcullisError(
      'ERR_TIMER_LEAK',
      `${active} timers are pending: ${names.join(', ')}`,
    );
  }

  /** @internal */
  isOpen(): boolean {
    return !this.#isClosed;
  }

  #closedError(): PortcullisError {
    return new PortcullisError(
      'ERR_CLOSED',
      `the timer manager ${describe(this.name)} is closed and takes no new timers`,
    );
  }
}

function abortError(signal: AbortSignal | undefined): Error {
  const error = new Error('The operation was aborted', { cause: signal?.reason });
  error.name = 'AbortError';
  return Object.assign(error, { code: 'ABORT_ERR' });
}
