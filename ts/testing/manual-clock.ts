import type { Clock, ClockAlarm } from '../base/clock.js';
import { outOfRange } from '../base/errors.js';
import { driverOf } from '../timers/driver.js';

interface Alarm {
  readonly wake: () => void;
  readonly at: number;
}

/**
 * A clock that stands still until a test advances it.
 *
 * @example
 * const clock = new ManualClock();
 * const timers = new TimerManager({ clock });
 * timers.setTimeout(() => console.log('a second'), 1000);
 * clock.advance(1000);
 */
export class ManualClock implements Clock {
  #nowMs = 0;
  #alarm: Alarm | undefined;

  /** Returns the milliseconds by which the clock has been advanced. */
  now(): number {
    return this.#nowMs;
  }
  /**
   * Arms the alarm, for timers. There is one alarm: a new one replaces it.
   *
   * @param wake called when `advance()` or `runNext()` reaches the time
   * @param delayMs milliseconds from now
   * @returns the alarm; its `ref()` and `unref()` do nothing
   */
  arm(wake: () => void, delayMs: number): ClockAlarm {
    const alarm = { wake, at: this.#nowMs + delayMs };
    this.#alarm = alarm;
    return {
      cancel: () => {
        if (this.#alarm === alarm) this.#alarm = undefined;
      },
      ref: () => undefined,
      unref: () => undefined,
    };
  }
  /**
   * Arms the alarm for the next `advance()`, also one by 0. For timers.
   *
   * @param wake called then
   */
  soon(wake: () => void): void {
    this.arm(wake, 0);
  }
  /** Returns the clock itself, since nothing replaces it. For timers. */
  identity(): unknown {
    return this;
  }
  /** Does nothing: microtasks run when the test awaits. For timers. */
  checkpoint(): void {
    // A call of `advance()` is one turn of the test.
  }

  /**
   * Advances the clock and runs the timers that become due, each at its own time. May be called from a callback. A
   * callback that throws does not stop the others: the first error is thrown at the end.
   *
   * @param byMs milliseconds, a finite number of at least 0. Timers count whole milliseconds, as those of the host: one
   * that is set after a fraction runs up to 1 ms late, never early
   * @throws ERR_OUT_OF_RANGE; the first error of a callback
   */
  advance(byMs: number): void {
    if (typeof byMs !== 'number' || !(byMs >= 0) || byMs === Infinity)
      throw outOfRange('byMs', byMs, 'a number of at least 0');
    this.#runUntil(this.#nowMs + byMs);
  }

  /**
   * Advances the clock to the next timer, and runs it and the others of that time.
   *
   * @returns `false` if no timer is pending
   * @throws the first error of a callback, as `advance()` does
   */
  runNext(): boolean {
    const driver = driverOf(this);
    if (driver.next() === Infinity) return false;
    // The alarm can be too early if the next deadline is far off: rung then, it is armed again.
    while (this.#alarm !== undefined && this.#alarm.at < this.#nowMs + driver.next() - driver.now())
      this.#ring(this.#alarm);
    this.#runUntil(this.#alarm?.at ?? this.#nowMs + Math.ceil(driver.next() - driver.now()));
    return true;
  }

  #runUntil(untilMs: number): void {
    let failed: { readonly error: unknown } | undefined;
    // Within a callback no alarm is set. To ring at once runs the other due timers, and sets it.
    this.#alarm ??= { wake: driverOf(this).run, at: this.#nowMs };
    while (this.#alarm !== undefined && this.#alarm.at <= untilMs) {
      try {
        this.#ring(this.#alarm);
      } catch (error) {
        failed ??= { error };
      }
    }
    // A callback may have advanced it further.
    this.#nowMs = Math.max(this.#nowMs, untilMs);
    if (failed !== undefined) throw failed.error;
  }

  #ring(alarm: Alarm): void {
    this.#alarm = undefined;
    this.#nowMs = Math.max(this.#nowMs, alarm.at);
    alarm.wake();
  }
}
