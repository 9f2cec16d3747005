/**
 * The sweep for idle connections and expired leases, and the two timers of a manager: one ticks the
 * loop clock, the other starts a sweep.
 */
import type { TimerHandle } from '../timers/handle.js';
import type { TimerManager } from '../timers/manager.js';
import { NEVER } from './limits.js';
import { type LoopClock, TICK_MAX_MS } from './loop-clock.js';
import type { Seats } from './seats.js';

const TICK_MIN_MS = 5;
/** Ticks in an idle timeout, unless they became too short or too long. */
const TICKS_A_TIMEOUT = 64;
/** Shortest sweep interval that a short lease timeout causes. */
const LEASE_SWEEP_MIN_MS = 100;

/** Finds idle connections in batches and hands them to `evict`. @internal */
export class Sweep<C> {
  readonly #timers: TimerManager;
  readonly #seats: Seats<C>;
  readonly #loop: LoopClock;
  readonly #leaseTimeoutMs: number;
  readonly #evict: (connection: C) => void;
  #idleMs = NEVER;
  #intervalMs = 0;
  #tick: TimerHandle | undefined;
  #interval: TimerHandle | undefined;
  /** Connections of the latest batch. */
  #found = 0;
  /** True while the latest batch has ended before the last slot. */
  #isMidway = false;
  #isClosed = false;
  /** Time that a client has to be identified, ms: its lease lasts no shorter. */
  pendingTimeoutMs = 0;

  /** @param evict closes a connection unless it is closed already; must not throw */
  constructor(
    timers: TimerManager,
    seats: Seats<C>,
    loop: LoopClock,
    leaseTimeoutMs: number,
    evict: (connection: C) => void,
  ) {
    this.#timers = timers;
    this.#seats = seats;
    this.#loop = loop;
    this.#leaseTimeoutMs = leaseTimeoutMs;
    this.#evict = evict;
  }

  /**
   * Puts limits into effect.
   * @param timeoutMs idle timeout, or `Infinity`
   * @throws ERR_CLOSED if strict timers were closed before the first call
   */
  setLimits(timeoutMs: number, cleanupIntervalMs: number): void {
    this.#idleMs = timeoutMs === Infinity ? NEVER : timeoutMs;
    // Books the time so far at the old tick.
    this.#advance();
    const tickMs = Math.min(
      TICK_MAX_MS,
      Math.max(TICK_MIN_MS, Math.ceil(timeoutMs / TICKS_A_TIMEOUT)),
    );
    this.#loop.allow(tickMs);
    // Closed timers take no new ones: idle eviction has ended with them.
    if (this.#tick !== undefined && !this.#timers.isOpen()) return;
    // A timer is replaced only if its interval changes: limits that change often must not put off the
    // sweep.
    if (this.#tick === undefined || tickMs !== this.#loop.tickMs) {
      this.#loop.tickMs = tickMs;
      this.#tick?.close();
      this.#tick = this.#timers.setInterval(() => this.#advance(), {
        delayMs: tickMs,
        ref: false,
        name: 'connections.tick',
      });
    }
    // The sweep expires leases, too.
    const intervalMs = Math.min(
      cleanupIntervalMs,
      Math.max(LEASE_SWEEP_MIN_MS, this.#leaseTimeoutMs),
    );
    if (this.#interval === undefined || intervalMs !== this.#intervalMs) {
      this.#intervalMs = intervalMs;
      this.#interval?.close();
      this.#interval = this.#timers.setInterval(() => this.#run(1), {
        delayMs: intervalMs,
        ref: false,
        name: 'connections.cleanup',
      });
    }
  }

  /** Ticks the loop clock, and caches the tick beside the stamps of each segment. */
  #advance(): void {
    const ticked = this.#loop.tick();
    for (const segment of this.#seats.segments) segment.tick(ticked);
  }

  /**
   * Evicts one batch of the idle connections, and the others in the next turns.
   * @returns the number of idle connections
   */
  runNow(): number {
    const idle = this.#isClosed ? 0 : this.#seats.idle(this.#idleTimeoutMs());
    // A pass that is under way does not visit the slots before its cursor, so a second pass follows.
    let passes = this.#isMidway ? 2 : 1;
    do {
      if (!this.#batch()) passes--;
      // Timers that are closed have no next turn.
    } while (passes > 0 && (this.#found === 0 || !this.#timers.isOpen()));
    if (passes > 0 && !this.#isClosed) this.#later(passes);
    return idle;
  }

  /** Evicts one batch, and the next one in the next turn, until all passes are complete. */
  #run(passes: number): void {
    const left = this.#batch() ? passes : passes - 1;
    // A hook may have closed the manager, or its timers.
    if (left > 0 && !this.#isClosed && this.#timers.isOpen()) this.#later(left);
  }

  #later(passes: number): void {
    this.#timers.setTimeout(() => this.#run(passes), {
      delayMs: 1,
      ref: false,
      name: 'connections.cleanup',
    });
  }

  /** Milliseconds after which a connection is idle, or `NEVER`. */
  #idleTimeoutMs(): number {
    return this.#idleMs === NEVER ? NEVER : this.#idleMs + this.#loop.graceMs;
  }

  /** Evicts one batch; true if there may be more. */
  #batch(): boolean {
    this.#found = 0;
    if (this.#isClosed) return false;
    const { graceMs } = this.#loop;
    const { idle, hasMore } = this.#seats.sweep(
      this.#idleTimeoutMs(),
      this.#leaseTimeoutMs + graceMs,
      Math.max(this.#leaseTimeoutMs, this.pendingTimeoutMs) + graceMs,
    );
    this.#found = idle.length;
    for (const connection of idle) if (connection !== undefined) this.#evict(connection);
    return (this.#isMidway = hasMore);
  }

  /** Ends both timers. */
  close(): void {
    this.#isClosed = true;
    this.#tick?.close();
    this.#interval?.close();
  }
}
