/** The owner of a server's timers. */
import { hostClock } from '../base/clock.js';
import { describe, PortcullisError, wrongType } from '../base/errors.js';
import {
  type Action,
  captureContext,
  type Driver,
  driverOf,
  type Extra,
  newOwner,
  SLOTS_MAX,
} from './driver.js';
import { type Recipe, TimerHandle } from './handle.js';
import {
  checkedManagerOptions,
  checkedTimerOptions,
  checkOptions,
  delayOf,
  type TimerManagerOptions,
  type TimerOptions,
} from './options.js';

/** Timers cleared by `close()`. */
export interface CleanupResult {
  /** Cleared timeouts. */
  readonly timeouts: number;
  /** Cleared intervals. */
  readonly intervals: number;
}

/** One pending timer of a `TimerSnapshot`. */
export interface TimerSnapshotEntry {
  /** Name from the timer's options. */
  readonly name: string | undefined;
  /** Name of the manager or scope that holds the timer. */
  readonly owner: string;
  /** Kind of timer. */
  readonly kind: 'timeout' | 'interval';
  /** Milliseconds since the timer was set. */
  readonly ageMs: number;
  /** Milliseconds until it fires next; 0 if it is due. */
  readonly nextInMs: number;
  /** Whether it keeps the process alive. */
  readonly ref: boolean;
}

/** The pending timers of a manager, those of its scopes included. */
export interface TimerSnapshot {
  /** Pending timers. */
  readonly active: number;
  /** Pending timeouts. */
  readonly timeouts: number;
  /** Pending intervals. */
  readonly intervals: number;
  /** Timers that were set after `close()` and never fire. */
  readonly inert: number;
  /** Milliseconds until the next timer fires. `null` if none is pending. */
  readonly nextInMs: number | null;
  /** Age of the oldest timer, ms. `null` if none is pending. */
  readonly oldestAgeMs: number | null;
  /** At most 1,000 timers, the oldest first. */
  readonly timers: readonly TimerSnapshotEntry[];
}

type Callback<A extends unknown[]> = (...args: A) => unknown;

const SNAPSHOT_MAX = 1000;

/**
 * Owns a server's timers, so that one call ends them all.
 *
 * All managers of a thread share one timing wheel and one host timer. Timers fire in the order of
 * their deadlines, never early; an error thrown by a callback becomes an uncaught exception and
 * the rest still run.
 *
 * @example
 * const timers = new TimerManager();
 * timers.setInterval(() => flush(), 1000);
 * timers.close(); // { timeouts: 0, intervals: 1 }
 */
export class TimerManager {
  /** @internal */
  readonly driver: Driver;
  /** Owner shown in reports. */
  readonly name: string;
  readonly #strict: boolean;
  readonly #capture: boolean;
  readonly #timers = newOwner();
  readonly #scopes = new Set<TimerManager>();
  readonly #closers = new Set<() => void>();
  readonly #options: TimerManagerOptions;
  #parent: TimerManager | undefined;
  #isClosed = false;
  #inert = 0;

  constructor(options: TimerManagerOptions = {}) {
    const { clock, strict, name } = checkedManagerOptions(options);
    this.#options = options;
    this.#strict = strict ?? false;
    this.#capture = options.context !== 'none';
    this.name = name ?? 'timers';
    this.driver = driverOf(clock ?? hostClock);
  }

  /**
   * Calls `callback` once, after `delay`.
   * @param delay milliseconds, or options
   * @throws ERR_INVALID_ARG_TYPE if `callback` is no function; ERR_CLOSED after `close()` if `strict`
   */
  setTimeout<A extends unknown[]>(
    callback: Callback<A>,
    delay?: number | TimerOptions,
    ...args: A
  ): TimerHandle {
    return this.#set('timeout', callback as Callback<unknown[]>, delay, args);
  }

  /**
   * Calls `callback` every `delay` on a grid that does not drift; ticks that were missed are skipped.
   * @param delay milliseconds, or options
   * @throws ERR_INVALID_ARG_TYPE if `callback` is no function; ERR_CLOSED after `close()` if `strict`
   */
  setInterval<A extends unknown[]>(
    callback: Callback<A>,
    delay?: number | TimerOptions,
    ...args: A
  ): TimerHandle {
    return this.#set('interval', callback as Callback<unknown[]>, delay, args);
  }

  #set(
    kind: 'timeout' | 'interval',
    callback: Callback<unknown[]>,
    delay: number | TimerOptions | undefined,
    args: unknown[],
  ): TimerHandle {
    if (typeof callback !== 'function') throw wrongType('callback', callback, 'a function');
    let recipe: Recipe | Action = callback;
    let delayMs: number;
    let isRefed = true;
    if (typeof delay === 'object' && delay !== null) {
      // Each is read once. None is inherited: our own timers of connections must not fail for what
      // somebody has put on Object.prototype.
      const options = checkedTimerOptions(kind, delay);
      delayMs = delayOf(options.delayMs);
      isRefed = options.ref ?? true;
      recipe = {
        action: callback,
        args: args.length === 0 ? undefined : args,
        name: options.name,
        overlap: options.overlap ?? 'allow',
        signal: options.signal,
      };
    } else {
      delayMs = delayOf(delay);
      if (args.length > 0)
        recipe = { action: callback, args, name: undefined, overlap: 'allow', signal: undefined };
    }
    if (this.#isClosed) {
      if (this.#strict)
        throw new PortcullisError(
          'ERR_CLOSED',
          `the timer manager ${describe(this.name)} is closed: it takes no new timers`,
        );
      this.#inert++;
      return new TimerHandle(this, kind, recipe, delayMs, -1, isRefed);
    }
    const isAborted = typeof recipe !== 'function' && recipe.signal?.aborted === true;
    return new TimerHandle(
      this,
      kind,
      recipe,
      delayMs,
      isAborted ? -1 : this.arm(kind, recipe, delayMs, isRefed),
      isRefed,
    );
  }

  /** @internal */
  arm(
    kind: 'timeout' | 'interval',
    recipe: Recipe | Action,
    delayMs: number,
    isRefed: boolean,
  ): number {
    const context = this.#capture ? captureContext() : undefined;
    if (typeof recipe === 'function')
      return this.driver.add(
        this.#timers,
        recipe,
        delayMs,
        kind === 'interval',
        isRefed,
        context,
        undefined,
      );
    const { action, args, name, overlap, signal } = recipe;
    const extra: Extra = {
      args,
      name,
      overlap,
      isPending: false,
      isQueued: false,
      unlisten: undefined,
    };
    const slot = this.driver.add(
      this.#timers,
      action,
      delayMs,
      kind === 'interval',
      isRefed,
      context,
      extra,
    );
    if (signal !== undefined) {
      const generation = this.driver.generation(slot);
      const abort = (): void => void this.driver.remove(slot, generation);
      signal.addEventListener('abort', abort, { once: true });
      extra.unlisten = () => signal.removeEventListener('abort', abort);
    }
    return slot;
  }

  /** Clears a timer of either kind, by handle or by number; anything else is ignored, as on the host. */
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

  /** The same as `clearTimeout`. */
  clearInterval(timer: TimerHandle | number | string | null | undefined): void {
    this.clearTimeout(timer);
  }

  /**
   * Clears all timers, those of its scopes included. A timer that is set later is inert: it is
   * counted and never fires. May be called again, and from a callback.
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
    for (const close of this.#closers) close();
    if (this.#parent !== undefined) this.#parent.#scopes.delete(this);
    return { timeouts, intervals };
  }

  /** The same as `close()`: its name in the same design in plain JavaScript. */
  cleanup(): CleanupResult {
    return this.close();
  }

  /** Registers a function that `close()` calls; returns a function that takes it back. @internal */
  onCleanup(close: () => void): () => void {
    if (typeof close !== 'function') throw wrongType('close', close, 'a function');
    this.#closers.add(close);
    return () => void this.#closers.delete(close);
  }

  /** How many timers are pending, those of its scopes too. */
  getActiveTimersCount(): number {
    let { count } = this.#timers;
    for (const scope of this.#scopes) count += scope.getActiveTimersCount();
    return count;
  }

  /** Returns a child manager: its `close()` clears its own timers, this one's `close()` both. */
  scope(name?: string): TimerManager {
    if (name !== undefined && typeof name !== 'string') throw wrongType('name', name, 'a string');
    const child = new TimerManager({ ...this.#options, name: name ?? `${this.name}.scope` });
    child.#parent = this;
    if (this.#isClosed) child.#isClosed = true;
    else this.#scopes.add(child);
    return child;
  }

  /** Calls `close()`, for `using`. */
  [Symbol.dispose](): void {
    this.close();
  }

  /**
   * Resolves after `delayMs`; rejects with `AbortError` if `signal` aborts, with `ERR_CLOSED` at
   * `close()`, and for wrong options with ERR_INVALID_ARG_TYPE or ERR_UNKNOWN_OPTION.
   */
  sleep(
    delayMs: number,
    options: { readonly signal?: AbortSignal; readonly ref?: boolean } = {},
  ): Promise<void> {
    return new Promise((resolve, reject) => {
      checkOptions('sleep', options, ['signal', 'ref']);
      const { signal } = options;
      if (signal?.aborted === true) return reject(aborted(signal));
      if (this.#isClosed)
        return reject(
          new PortcullisError('ERR_CLOSED', `the timer manager ${describe(this.name)} is closed`),
        );
      const end = (): void => {
        this.#closers.delete(close);
        signal?.removeEventListener('abort', abort);
      };
      const close = (): void => {
        end();
        reject(
          new PortcullisError('ERR_CLOSED', `the timer manager ${describe(this.name)} is closed`),
        );
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
        reject(aborted(signal));
      };
      this.#closers.add(close);
      signal?.addEventListener('abort', abort, { once: true });
    });
  }

  /** Yields the number of ticks since the last one, every `delayMs`, until `signal` aborts or `close()`. */
  async *interval(
    delayMs: number,
    options: { readonly signal?: AbortSignal } = {},
  ): AsyncGenerator<number, void, undefined> {
    checkOptions('interval', options, ['signal']);
    const { signal } = options;
    const check = (): void => {
      if (signal?.aborted === true) throw aborted(signal);
    };
    check();
    let ticks = 0;
    let wake: (() => void) | undefined;
    let over = this.#isClosed;
    const stop = (): void => {
      over = true;
      wake?.();
    };
    const timer = this.setInterval(() => {
      ticks++;
      wake?.();
    }, delayMs);
    this.#closers.add(stop);
    signal?.addEventListener('abort', stop, { once: true });
    try {
      for (;;) {
        if (ticks === 0 && !over) await new Promise<void>((resolve) => (wake = resolve));
        check();
        if (over) return;
        const passed = ticks;
        ticks = 0;
        yield passed;
      }
    } finally {
      timer.close();
      this.#closers.delete(stop);
      signal?.removeEventListener('abort', stop);
    }
  }

  /** Returns the pending timers, the oldest first. */
  snapshot(): TimerSnapshot {
    const timers = this.#describe();
    // They are listed the youngest first, and the sort is stable.
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
          : timers.reduce((least, timer) => Math.min(least, timer.nextInMs), Infinity),
      oldestAgeMs: timers[0]?.ageMs ?? null,
      timers: timers.slice(0, SNAPSHOT_MAX),
    };
  }

  #describe(): TimerSnapshotEntry[] {
    const now = this.driver.now();
    const own = Array.from(
      this.driver.of(this.#timers),
      ({ name, isInterval, isRefed, createdMs, dueMs }): TimerSnapshotEntry => ({
        name,
        owner: this.name,
        kind: isInterval ? 'interval' : 'timeout',
        // Births are kept rounded, and may be rounded up.
        ageMs: Math.max(0, now - createdMs),
        nextInMs: Math.max(0, dueMs - now),
        ref: isRefed,
      }),
    );
    return [...own, ...[...this.#scopes].flatMap((scope) => scope.#describe())];
  }

  /** @throws ERR_TIMER_LEAK, naming them, if timers are pending */
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
}

function aborted(signal: AbortSignal | undefined): Error {
  const error = new Error('The operation was aborted', { cause: signal?.reason });
  error.name = 'AbortError';
  return Object.assign(error, { code: 'ABORT_ERR' });
}
