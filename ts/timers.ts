import { type Clock, hostClock } from './clock.js';
import { type Driver, type TimerId, captureContext, driverOf } from './driver.js';
import { PortcullisError, knownOptions, outOfRange, wrongType } from './errors.js';

/** Options of a timer, given in the place of its delay. */
export interface TimerOptions {
  /** Milliseconds; fractions are cut, less than 1 is 1, as on the host. Beyond 2^31-1 works. */
  readonly delayMs?: number;
  /** Shown by `report()` and `assertNoLeaks()`. */
  readonly name?: string;
  /** Clears the timer when it aborts. */
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
  /** Whether a new timer after `cleanup()` throws `ERR_CLOSED` instead of being inert. Default `false`. */
  readonly strict?: boolean;
  /** Owner shown in reports. */
  readonly name?: string;
  /** `capture` keeps AsyncLocalStorage context as the host does, `none` saves its cost. Default `capture`. */
  readonly context?: 'capture' | 'none';
}

/** What `cleanup()` cleared. */
export interface CleanupResult {
  readonly timeouts: number;
  readonly intervals: number;
}

/** One pending timer in a report. */
export interface TimerReportEntry {
  readonly name: string | undefined;
  readonly owner: string;
  readonly kind: 'timeout' | 'interval';
  readonly ageMs: number;
  readonly nextInMs: number;
  readonly ref: boolean;
}

/** What a manager holds. */
export interface TimerReport {
  readonly active: number;
  readonly timeouts: number;
  readonly intervals: number;
  /** How many timers were asked for after `cleanup()`. */
  readonly inert: number;
  readonly nextInMs: number | null;
  readonly oldestAgeMs: number | null;
  /** At most 1,000, the oldest first. */
  readonly timers: readonly TimerReportEntry[];
}

type Callback<A extends unknown[]> = (...args: A) => unknown;

const DELAY_MAX_MS = 2 ** 47;
const REPORT_MAX = 1000;

function delayOf(delay: unknown): number {
  const number = typeof delay === 'number' || typeof delay === 'string' ? Math.trunc(Number(delay)) : 1;
  return number >= 1 ? Math.min(number, DELAY_MAX_MS) : 1;
}

/** A pending timer; works wherever the host's `Timeout` does. */
export class TimerHandle {
  readonly #manager: TimerManager;
  readonly #callback: (...args: unknown[]) => unknown;
  readonly #args: unknown[];
  readonly #delayMs: number;
  readonly #overlap: 'allow' | 'skip' | 'queue';
  readonly #createdMs: number;
  /** Its kind. */
  readonly kind: 'timeout' | 'interval';
  /** Its name, if it was given one. */
  readonly name: string | undefined;
  #id: TimerId = 0;
  #ref: boolean;
  #pending = false;
  #queued = false;
  #cleared = false;
  #unlisten: (() => void) | undefined;

  /** @internal */
  constructor(
    manager: TimerManager,
    kind: 'timeout' | 'interval',
    callback: (...args: unknown[]) => unknown,
    delayMs: number,
    args: unknown[],
    options: TimerOptions,
  ) {
    this.#manager = manager;
    this.kind = kind;
    this.#callback = callback;
    this.#args = args;
    this.#delayMs = delayMs;
    this.#overlap = options.overlap ?? 'allow';
    this.name = options.name;
    this.#ref = options.ref ?? true;
    this.#createdMs = manager.driver.now();
  }

  /** @internal */
  start(signal: AbortSignal | undefined): void {
    if (signal?.aborted === true) return;
    this.#id = this.#manager.driver.add(this, this.#delayMs, this.#ref, this.#manager.capture());
    this.#manager.track(this.#id, this);
    if (signal !== undefined) {
      const abort = (): void => this.close() as unknown as void;
      signal.addEventListener('abort', abort, { once: true });
      this.#unlisten = () => signal.removeEventListener('abort', abort);
    }
  }

  /** @internal */
  run(driver: Driver, id: TimerId, dueMs: number): void {
    if (this.kind === 'timeout') {
      this.#drop();
      this.#callback(...this.#args);
      return;
    }
    try {
      this.#tick();
    } finally {
      // On its grid: ticks that were missed are skipped. Not if the callback cleared or moved it.
      if (driver.has(id) && driver.deadline(id) === dueMs) {
        const missed = Math.max(0, Math.floor((driver.now() - dueMs) / this.#delayMs));
        driver.armAt(id, dueMs + (missed + 1) * this.#delayMs);
      }
    }
  }

  #tick(): void {
    if (this.#pending && this.#overlap !== 'allow') {
      this.#queued = this.#overlap === 'queue';
      return;
    }
    const result = this.#callback(...this.#args);
    if (this.#overlap === 'allow' || !(result instanceof Promise)) return;
    this.#pending = true;
    const settled = (): void => {
      this.#pending = false;
      if (this.#queued && this.#manager.driver.has(this.#id)) {
        this.#queued = false;
        this.#tick();
      }
    };
    // A rejection stays unhandled, as on the host: `finally` hands it on.
    void result.finally(settled);
  }

  #drop(): boolean {
    this.#unlisten?.();
    this.#unlisten = undefined;
    this.#manager.untrack(this.#id);
    return this.#manager.driver.remove(this.#id);
  }

  /** Lets the timer hold the process. */
  ref(): this {
    this.#ref = true;
    this.#manager.driver.setRefed(this.#id, true);
    return this;
  }

  /** Lets the process end while the timer is pending. */
  unref(): this {
    this.#ref = false;
    this.#manager.driver.setRefed(this.#id, false);
    return this;
  }

  /** Whether the timer holds the process. */
  hasRef(): boolean {
    return this.#ref;
  }

  /** Starts the delay anew; a timeout that has fired fires again. */
  refresh(): this {
    if (this.#manager.driver.has(this.#id)) this.#manager.driver.refresh(this.#id, this.#delayMs);
    else if (this.#id !== 0 && !this.#cleared && this.#manager.isOpen()) this.start(undefined);
    return this;
  }

  /** Clears the timer. */
  close(): this {
    this.#drop();
    this.#cleared = true;
    return this;
  }

  [Symbol.dispose](): void {
    this.close();
  }

  /** The timer's number, which `clearTimeout` takes too. */
  [Symbol.toPrimitive](): number {
    return this.#id;
  }

  /** @internal */
  describe(owner: string): TimerReportEntry {
    const now = this.#manager.driver.now();
    return {
      name: this.name,
      owner,
      kind: this.kind,
      ageMs: now - this.#createdMs,
      nextInMs: Math.max(0, this.#manager.driver.deadline(this.#id) - now),
      ref: this.#ref,
    };
  }
}

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
 * timers.cleanup(); // { timeouts: 0, intervals: 1 }
 */
export class TimerManager {
  /** @internal */
  readonly driver: Driver;
  /** Owner shown in reports. */
  readonly name: string;
  readonly #strict: boolean;
  readonly #capture: boolean;
  readonly #timers = new Map<TimerId, TimerHandle>();
  readonly #scopes = new Set<TimerManager>();
  readonly #closers = new Set<() => void>();
  readonly #options: TimerManagerOptions;
  #parent: TimerManager | undefined;
  #isClosed = false;
  #inert = 0;

  constructor(options: TimerManagerOptions = {}) {
    if (typeof options !== 'object' || options === null) throw wrongType('options', options, 'an object');
    knownOptions('TimerManager', options, ['clock', 'strict', 'name', 'context']);
    if (options.context !== undefined && options.context !== 'capture' && options.context !== 'none') {
      throw outOfRange('context', options.context, "'capture' or 'none'");
    }
    this.#options = options;
    this.#strict = options.strict ?? false;
    this.#capture = options.context !== 'none';
    this.name = options.name ?? 'timers';
    this.driver = driverOf(options.clock ?? hostClock);
  }

  /**
   * Calls `callback` once, after `delay`.
   * @param delay milliseconds, or options
   * @throws ERR_INVALID_ARG_TYPE if `callback` is no function; ERR_CLOSED after `cleanup()` if `strict`
   */
  setTimeout<A extends unknown[]>(callback: Callback<A>, delay?: number | TimerOptions, ...args: A): TimerHandle {
    return this.#set('timeout', callback as Callback<unknown[]>, delay, args);
  }

  /**
   * Calls `callback` every `delay` on a grid that does not drift; ticks that were missed are skipped.
   * @param delay milliseconds, or options
   * @throws ERR_INVALID_ARG_TYPE if `callback` is no function; ERR_CLOSED after `cleanup()` if `strict`
   */
  setInterval<A extends unknown[]>(callback: Callback<A>, delay?: number | TimerOptions, ...args: A): TimerHandle {
    return this.#set('interval', callback as Callback<unknown[]>, delay, args);
  }

  #set(kind: 'timeout' | 'interval', callback: Callback<unknown[]>, delay: number | TimerOptions | undefined, args: unknown[]): TimerHandle {
    if (typeof callback !== 'function') throw wrongType('callback', callback, 'a function');
    let options: TimerOptions = {};
    if (typeof delay === 'object' && delay !== null) {
      options = delay;
      knownOptions(`set${kind === 'timeout' ? 'Timeout' : 'Interval'}`, options, ['delayMs', 'name', 'signal', 'ref', 'overlap']);
      if (options.overlap !== undefined && !['allow', 'skip', 'queue'].includes(options.overlap)) {
        throw outOfRange('overlap', options.overlap, "'allow', 'skip' or 'queue'");
      }
      if (options.signal !== undefined && !(options.signal instanceof AbortSignal)) throw wrongType('signal', options.signal, 'an AbortSignal');
    }
    const handle = new TimerHandle(this, kind, callback, delayOf(typeof delay === 'object' && delay !== null ? delay.delayMs : delay), args, options);
    if (this.#isClosed) {
      if (this.#strict) throw new PortcullisError('ERR_CLOSED', `${this.name} was cleaned up: no new timers`);
      this.#inert++;
      return handle;
    }
    handle.start(options.signal);
    return handle;
  }

  /** Clears a timer of either kind, by handle or by number; anything else is ignored, as on the host. */
  clearTimeout(timer: TimerHandle | number | string | null | undefined): void {
    if (timer instanceof TimerHandle) timer.close();
    else if (typeof timer === 'number' || typeof timer === 'string') this.#timers.get(Number(timer))?.close();
  }

  /** The same as `clearTimeout`. */
  clearInterval(timer: TimerHandle | number | string | null | undefined): void {
    this.clearTimeout(timer);
  }

  /**
   * Clears all timers, those of its scopes too; later ones are inert and counted. May be called
   * again and from a callback.
   * @returns how many were cleared
   */
  cleanup(): CleanupResult {
    this.#isClosed = true;
    let timeouts = 0;
    let intervals = 0;
    for (const scope of this.#scopes) {
      const cleared = scope.cleanup();
      timeouts += cleared.timeouts;
      intervals += cleared.intervals;
    }
    for (const timer of this.#timers.values()) {
      if (timer.kind === 'timeout') timeouts++;
      else intervals++;
      timer.close();
    }
    for (const close of this.#closers) close();
    if (this.#parent !== undefined) this.#parent.#scopes.delete(this);
    return { timeouts, intervals };
  }

  /** How many timers are pending, those of its scopes too. */
  getActiveTimersCount(): number {
    let count = this.#timers.size;
    for (const scope of this.#scopes) count += scope.getActiveTimersCount();
    return count;
  }

  /** A child manager: its `cleanup()` clears its own timers, this one's clears both. */
  scope(name?: string): TimerManager {
    const child = new TimerManager({ ...this.#options, name: name ?? `${this.name}.scope` });
    child.#parent = this;
    if (this.#isClosed) child.#isClosed = true;
    else this.#scopes.add(child);
    return child;
  }

  [Symbol.dispose](): void {
    this.cleanup();
  }

  /**
   * Resolves after `delayMs`; rejects with `AbortError` if `signal` aborts, with `ERR_CLOSED` at `cleanup()`.
   */
  sleep(delayMs: number, options: { readonly signal?: AbortSignal; readonly ref?: boolean } = {}): Promise<void> {
    const { signal } = options;
    return new Promise((resolve, reject) => {
      if (signal?.aborted === true) return reject(aborted(signal));
      if (this.#isClosed) return reject(new PortcullisError('ERR_CLOSED', `${this.name} was cleaned up`));
      const end = (): void => {
        this.#closers.delete(close);
        signal?.removeEventListener('abort', abort);
      };
      const close = (): void => {
        end();
        reject(new PortcullisError('ERR_CLOSED', `${this.name} was cleaned up`));
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

  /** Yields the number of ticks since the last one, every `delayMs`, until `signal` aborts or `cleanup()`. */
  async *interval(delayMs: number, options: { readonly signal?: AbortSignal } = {}): AsyncGenerator<number, void, undefined> {
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

  /** What is pending, the oldest first. */
  report(): TimerReport {
    const timers = this.#describe();
    timers.sort((a, b) => b.ageMs - a.ageMs);
    const intervals = timers.filter((timer) => timer.kind === 'interval').length;
    return {
      active: timers.length,
      timeouts: timers.length - intervals,
      intervals,
      inert: this.#inert,
      nextInMs: timers.length === 0 ? null : timers.reduce((least, timer) => Math.min(least, timer.nextInMs), Infinity),
      oldestAgeMs: timers[0]?.ageMs ?? null,
      timers: timers.slice(0, REPORT_MAX),
    };
  }

  #describe(): TimerReportEntry[] {
    return [...[...this.#timers.values()].map((timer) => timer.describe(this.name)), ...[...this.#scopes].flatMap((scope) => scope.#describe())];
  }

  /** @throws ERR_TIMER_LEAK, naming them, if timers are pending */
  assertNoLeaks(): void {
    const { active, timers } = this.report();
    if (active === 0) return;
    const names = timers.slice(0, 10).map((timer) => `${timer.owner}/${timer.name ?? timer.kind} (${Math.round(timer.ageMs)} ms old)`);
    throw new PortcullisError('ERR_TIMER_LEAK', `${active} timers are pending: ${names.join(', ')}`);
  }

  /** @internal */
  capture(): ReturnType<typeof captureContext> | undefined {
    return this.#capture ? captureContext() : undefined;
  }

  /** @internal */
  track(id: TimerId, timer: TimerHandle): void {
    this.#timers.set(id, timer);
  }

  /** @internal */
  untrack(id: TimerId): void {
    this.#timers.delete(id);
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
