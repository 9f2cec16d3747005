/** The handle of a timer, which `setTimeout` and `setInterval` return. */
import { type Driver, SLOTS_MAX, type TimerCallback } from './driver.js';

/**
 * Everything but the delay from which a timer is armed; `refresh()` arms a fired timeout from it
 * again.
 * @internal
 */
export interface TimerSpec {
  readonly callback: TimerCallback;
  readonly args: unknown[] | undefined;
  readonly name: string | undefined;
  readonly overlap: 'allow' | 'skip' | 'queue';
  readonly signal: AbortSignal | undefined;
}

/** The part of a manager that its handles use. @internal */
export interface TimerOwner {
  readonly driver: Driver;
  isOpen(): boolean;
  /** Arms a timer and returns its slot. A bare callback stands for a spec without anything else. */
  arm(
    kind: 'timeout' | 'interval',
    spec: TimerSpec | TimerCallback,
    delayMs: number,
    isRefed: boolean,
    timer: TimerHandle,
  ): number;
}

/** Bits of a handle. */
const REF = 1;
const INTERVAL = 2;
const CLEARED = 4;

/**
 * Handle of one timer, and `this` in its callback. It need not be kept: a timer goes on without it.
 *
 * On Node it works wherever the host's `Timeout` does: the host's `clearTimeout(handle)` and
 * `clearInterval(handle)` clear the timer. On Bun they do nothing, because Bun knows its own timers
 * only: use `close()` or the manager's `clearTimeout()` there. With Bun's types a handle is not
 * assignable to the host's type, so that the compiler finds such calls.
 *
 * @example
 * const timer = timers.setTimeout(() => flush(), 1000).unref();
 * timer.refresh(); // the second begins anew
 * timer.close();
 */
export class TimerHandle {
  readonly #owner: TimerOwner;
  #spec: TimerSpec | TimerCallback;
  readonly #delayMs: number;
  /** Slot and generation of the timer. Generation 0 stands for a timer that was never armed. */
  #slot: number;
  #generation: number;
  /** Bits. The driver keeps a handle as long as its timer is pending: three fields would cost memory. */
  #flags: number;

  /** @internal */
  constructor(
    owner: TimerOwner,
    kind: 'timeout' | 'interval',
    spec: TimerSpec | TimerCallback,
    delayMs: number,
    isRefed: boolean,
    isArmed: boolean,
  ) {
    this.#owner = owner;
    this.#spec = spec;
    this.#delayMs = delayMs;
    this.#slot = -1;
    this.#generation = 0;
    this.#flags = (kind === 'interval' ? INTERVAL : 0) | (isRefed ? REF : 0);
    if (isArmed) {
      // Not in a private method: Bun marks each object of a class that has one, which costs a
      // quarter of the time of setting and clearing a timer.
      const armed = owner.arm(kind, spec, delayMs, isRefed, this);
      this.#slot = armed;
      this.#generation = owner.driver.generation(armed);
    }
  }

  /** Whether a value is a handle. A copy or a Proxy of one is not. @internal */
  static is(value: unknown): value is TimerHandle {
    return typeof value === 'object' && value !== null && #slot in value;
  }

  /** Kind of timer. */
  get kind(): 'timeout' | 'interval' {
    return (this.#flags & INTERVAL) === 0 ? 'timeout' : 'interval';
  }

  /** Name from the timer's options, or `undefined`. */
  get name(): string | undefined {
    return typeof this.#spec === 'function' ? undefined : this.#spec.name;
  }

  /**
   * Lets the timer keep the process alive.
   *
   * @returns this handle
   */
  ref(): this {
    this.#flags |= REF;
    this.#owner.driver.setRefed(this.#slot, this.#generation, true);
    return this;
  }

  /**
   * Lets the process end while the timer is pending.
   *
   * @returns this handle
   */
  unref(): this {
    this.#flags &= ~REF;
    this.#owner.driver.setRefed(this.#slot, this.#generation, false);
    return this;
  }

  /** Whether the timer keeps the process alive while it is pending. */
  hasRef(): boolean {
    return (this.#flags & REF) !== 0;
  }

  /**
   * Starts the delay anew. A timeout that has fired is armed again; a timer that was cleared, or
   * whose signal has aborted, is not.
   *
   * @returns this handle
   */
  refresh(): this {
    if (this.#owner.driver.refresh(this.#slot, this.#generation)) return this;
    const isAborted = typeof this.#spec !== 'function' && this.#spec.signal?.aborted === true;
    if (
      this.#generation !== 0 &&
      (this.#flags & CLEARED) === 0 &&
      !isAborted &&
      this.#owner.isOpen()
    ) {
      this.#slot = this.#owner.arm(this.kind, this.#spec, this.#delayMs, this.hasRef(), this);
      this.#generation = this.#owner.driver.generation(this.#slot);
    }
    return this;
  }

  /**
   * Clears the timer. May be called again.
   *
   * @returns this handle
   */
  close(): this {
    this.#flags |= CLEARED;
    this.#owner.driver.remove(this.#slot, this.#generation);
    return this;
  }

  /** Calls `close()`, for `using`. */
  [Symbol.dispose](): void {
    this.close();
  }

  /**
   * The callback, under the name that the host's timers have for it; `null` once the timer is
   * cleared. Node's `clearTimeout()` reads it and sets it to `null`: that clears this timer, too.
   * Another function replaces the callback.
   */
  get _onTimeout(): (...args: unknown[]) => unknown {
    const spec = this.#spec;
    // The type of the host has no `null` either.
    if ((this.#flags & CLEARED) !== 0) return null as unknown as TimerCallback;
    return typeof spec === 'function' ? spec : spec.callback;
  }
  set _onTimeout(callback: ((...args: unknown[]) => unknown) | null) {
    if (typeof callback !== 'function') this.close();
    else if (typeof this.#spec === 'function') this.#spec = callback;
    else this.#spec = { ...this.#spec, callback };
  }

  /** Whether the timer is not pending. Node's `clearTimeout()` then leaves the rest alone. @internal */
  get _destroyed(): boolean {
    return !this.#owner.driver.has(this.#slot, this.#generation);
  }

  /**
   * Returns the timer's number, which the manager's `clearTimeout` takes in the place of the handle.
   * With the types of Bun, the type is wider than the host's: no handle is assignable to a timer of
   * the host then.
   */
  [Symbol.toPrimitive](): typeof globalThis extends { readonly Bun: unknown }
    ? number | bigint
    : number {
    return this.#generation * SLOTS_MAX + Math.max(0, this.#slot);
  }
}
