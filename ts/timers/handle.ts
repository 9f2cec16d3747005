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
  ): number;
}

/**
 * Handle of one timer. It works wherever the host's `Timeout` does. It need not be kept: a timer
 * goes on without its handle.
 *
 * @example
 * const timer = timers.setTimeout(() => flush(), 1000).unref();
 * timer.refresh(); // the second begins anew
 * timer.close();
 */
export class TimerHandle {
  readonly #owner: TimerOwner;
  /** Kind of timer. */
  readonly kind: 'timeout' | 'interval';
  readonly #spec: TimerSpec | TimerCallback;
  readonly #delayMs: number;
  /** Slot and generation of the timer. Generation 0 stands for a timer that was never armed. */
  #slot: number;
  #generation: number;
  #isRefed: boolean;
  #isCleared = false;

  /** @internal */
  constructor(
    owner: TimerOwner,
    kind: 'timeout' | 'interval',
    spec: TimerSpec | TimerCallback,
    delayMs: number,
    slot: number,
    isRefed: boolean,
  ) {
    this.#owner = owner;
    this.kind = kind;
    this.#spec = spec;
    this.#delayMs = delayMs;
    this.#slot = slot;
    this.#generation = slot < 0 ? 0 : owner.driver.generation(slot);
    this.#isRefed = isRefed;
  }

  /** Whether a value is a handle. A copy or a Proxy of one is not. @internal */
  static is(value: unknown): value is TimerHandle {
    return typeof value === 'object' && value !== null && #slot in value;
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
    this.#isRefed = true;
    this.#owner.driver.setRefed(this.#slot, this.#generation, true);
    return this;
  }

  /**
   * Lets the process end while the timer is pending.
   *
   * @returns this handle
   */
  unref(): this {
    this.#isRefed = false;
    this.#owner.driver.setRefed(this.#slot, this.#generation, false);
    return this;
  }

  /** Whether the timer keeps the process alive while it is pending. */
  hasRef(): boolean {
    return this.#isRefed;
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
    if (this.#generation !== 0 && !this.#isCleared && !isAborted && this.#owner.isOpen()) {
      this.#slot = this.#owner.arm(this.kind, this.#spec, this.#delayMs, this.#isRefed);
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
    this.#isCleared = true;
    this.#owner.driver.remove(this.#slot, this.#generation);
    return this;
  }

  /** Calls `close()`, for `using`. */
  [Symbol.dispose](): void {
    this.close();
  }

  /** Returns the timer's number, which `clearTimeout` takes in the place of the handle. */
  [Symbol.toPrimitive](): number {
    return this.#generation * SLOTS_MAX + Math.max(0, this.#slot);
  }
}
