import type { Clock, ClockAlarm } from '../base/clock.js';
import { outOfRange } from '../base/errors.js';
import { driverOf } from '../timers/driver.js';

/**
 * A clock that stands still until it is told to go on.
 * @example
 * const clock = new ManualClock();
 * const timers = new TimerManager({ clock });
 * clock.advance(1000);
 */
export class ManualClock implements Clock {
  #nowMs = 0;
  #alarm: { wake: () => void; at: number } | undefined;

  /** Milliseconds since it was made. */
  now(): number {
    return this.#nowMs;
  }
  /** Called by timers: rings at most one alarm, when it is told to go on. */
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
  /** Called by timers: rings at the next `advance`, also by 0. */
  soon(wake: () => void): void {
    this.arm(wake, 0);
  }
  /** Called by timers: itself, since it is never exchanged. */
  identity(): unknown {
    return this;
  }
  /** Called by timers: does nothing, microtasks run when the test awaits. */
  checkpoint(): void {
    // The test's own turn.
  }

  /**
   * Moves on by `byMs` and runs what becomes due, each timer at its own time.
   * @throws ERR_OUT_OF_RANGE unless `byMs` is a finite number of at least 0
   */
  advance(byMs: number): void {
    if (typeof byMs !== 'number' || !(byMs >= 0) || byMs === Infinity)
      throw outOfRange('byMs', byMs, 'a number of at least 0');
    const until = this.#nowMs + byMs;
    while (this.#alarm !== undefined && this.#alarm.at <= until) this.#ring(this.#alarm);
    this.#nowMs = until;
  }

  /** Moves on to the next timer and runs it; `false` if there is none. */
  runNext(): boolean {
    const driver = driverOf(this);
    if (driver.next() === Infinity) return false;
    // An alarm may be early, when the next deadline is far off.
    while (this.#alarm !== undefined && this.#alarm.at < this.#nowMs + driver.next() - driver.now())
      this.#ring(this.#alarm);
    if (this.#alarm !== undefined) this.#ring(this.#alarm);
    return true;
  }

  #ring(alarm: { wake: () => void; at: number }): void {
    this.#alarm = undefined;
    this.#nowMs = Math.max(this.#nowMs, alarm.at);
    alarm.wake();
  }
}
