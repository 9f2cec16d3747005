/** Time as the event loop has it: while it is stalled, clients are not idle for want of anybody to hear them. */
import type { Driver } from '../timers/driver.js';
import { TICK_MAX_MS } from './connection.js';

/** Milliseconds in which the loop turned, modulo 2^32, noted every `tickMs`. */
export class LoopClock {
  readonly #driver: Driver;
  /** Loop time at the latest tick. */
  ticked = 0;
  #tickedAtMs: number;
  tickMs = TICK_MAX_MS;
  /** How far stamps may lie before the true activity: two of the slowest ticks there were. */
  graceMs = 0;

  constructor(driver: Driver) {
    this.#driver = driver;
    this.#tickedAtMs = driver.now();
  }

  /** How far it has come since the last tick: a stalled loop counts for two ticks at most. */
  #elapsed(): number {
    return Math.min(this.#driver.now() - this.#tickedAtMs, 2 * this.tickMs);
  }

  now(): number {
    return (this.ticked + Math.floor(this.#elapsed())) >>> 0;
  }

  /** Notes a tick; returns it. */
  tick(): number {
    const elapsed = this.#elapsed();
    const whole = Math.floor(elapsed);
    // The fraction is kept: a tick's share of a millisecond adds up to seconds in an hour.
    this.#tickedAtMs = this.#driver.now() - (elapsed - whole);
    return (this.ticked = (this.ticked + whole) >>> 0);
  }

  /** Stamps of before and of ticks as slow as this are no further off than the grace. */
  allow(tickMs: number): void {
    this.graceMs = Math.max(this.graceMs, 2 * tickMs);
  }
}
