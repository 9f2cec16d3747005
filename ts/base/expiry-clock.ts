/**
 * The clock that decides when an entry may be forgotten. The wall clock alone must not: if it is set
 * forward for a moment, all that has expired at that false time would be lost for good.
 */
import { hostClock, wallClockMs } from './clock.js';

/**
 * Time for which a step forward must last before it is believed, ms. It is longer than the longest pause between two queries
 * of a time server: 17 minutes for ntpd, 34 for systemd-timesyncd.
 */
export const SETTLE_MS = 3_600_000;

/**
 * Follows the wall clock back at once, and forward with monotonic time. A step forward, or a sleep of the machine, counts once
 * it has lasted an hour, so that a machine that has slept forgets again. Entries are kept longer by it, never shorter.
 * @internal
 */
export class ExpiryClock {
  readonly #wallMs: () => number;
  readonly #monotonicMs: () => number;
  readonly #startMs: number;
  /** Wall-clock time less monotonic time, as it is believed. */
  #offsetMs: number;
  /** Since when the wall clock has been ahead, and by how much at least. */
  #aheadSinceMs: number | undefined;
  #leastMs = 0;

  constructor(wallMs = wallClockMs, monotonicMs: () => number = () => hostClock.now()) {
    this.#wallMs = wallMs;
    this.#monotonicMs = monotonicMs;
    this.#startMs = monotonicMs();
    const offsetMs = wallMs() - this.#startMs;
    // A clock that shows no number: nothing has expired.
    this.#offsetMs = Number.isFinite(offsetMs) ? offsetMs : -this.#startMs;
  }

  /** Returns the time, ms since 1970: no entry that expires later is forgotten. */
  nowMs(): number {
    const now = this.#monotonicMs();
    const offsetMs = this.#wallMs() - now;
    if (offsetMs <= this.#offsetMs) {
      this.#offsetMs = offsetMs;
      this.#aheadSinceMs = undefined;
    } else if (offsetMs > this.#offsetMs) this.#ahead(now, offsetMs);
    return now + this.#offsetMs;
  }

  #ahead(now: number, offsetMs: number): void {
    if (this.#aheadSinceMs === undefined) {
      this.#aheadSinceMs = now;
      this.#leastMs = offsetMs;
    }
    this.#leastMs = Math.min(this.#leastMs, offsetMs);
    if (now - this.#aheadSinceMs < SETTLE_MS) return;
    this.#offsetMs = this.#leastMs;
    this.#aheadSinceMs = undefined;
  }

  /**
   * Returns the time as `nowMs` does, and no time at all in the first hour: the time at the start may be wrong, too. For
   * entries that need not be forgotten yet, since there is room for more.
   */
  settledMs(): number {
    const now = this.nowMs();
    return this.#monotonicMs() - this.#startMs < SETTLE_MS ? -Infinity : now;
  }
}
