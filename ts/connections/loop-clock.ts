/** Event-loop time: stops during a stall, so that clients do not look idle. */
import type { Driver } from '../timers/driver.js';

/** The slowest tick. @internal */
export const TICK_MAX_MS = 250;

/**
 * Counts the milliseconds in which the event loop turned, modulo 2^32. A tick notes the time every
 * `tickMs`; between two ticks, two tick lengths count at most, however long the loop was blocked or
 * the process stopped.
 * @internal
 */
export class LoopClock {
  readonly #driver: Driver;
  /** Loop time at the latest tick. */
  ticked = 0;
  #tickedAtMs: number;
  tickMs = TICK_MAX_MS;
  /** Farthest distance of a stamp from the true activity: twice the slowest tick so far. */
  graceMs = 0;

  constructor(driver: Driver) {
    this.#driver = driver;
    this.#tickedAtMs = driver.now();
  }

  /** Returns the loop time since the latest tick, at most two ticks. */
  #elapsed(): number {
    return Math.min(this.#driver.now() - this.#tickedAtMs, 2 * this.tickMs);
  }

  /** Returns the loop time, which reads the clock. */
  now(): number {
    return (this.ticked + Math.floor(this.#elapsed())) >>> 0;
  }

  /** Notes a tick and returns it. */
  tick(): number {
    const elapsed = this.#elapsed();
    const whole = Math.floor(elapsed);
    // Keeps the fraction of a millisecond: dropped at every tick, it adds up to seconds in an hour.
    this.#tickedAtMs = this.#driver.now() - (elapsed - whole);
    return (this.ticked = (this.ticked + whole) >>> 0);
  }

  /** Widens the grace, so that stamps of ticks as slow as `tickMs` stay valid. */
  allow(tickMs: number): void {
    this.graceMs = Math.max(this.graceMs, 2 * tickMs);
  }
}
