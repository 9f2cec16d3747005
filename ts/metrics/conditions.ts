/** Conditions that the monitor knows and that bear on health: its figures, stalls, OOM kills. */
import { wallClockMs } from '../base/clock.js';
import { PortcullisError } from '../base/errors.js';
import type { ResourceSnapshot, Stall } from '../resources/figures.js';
import type { ResourceMonitor } from '../resources/monitor.js';
import type { TimerManager } from '../timers/manager.js';
import {
  type Dated,
  type Observed,
  STALL_COUNT,
  STALLED_SHARE,
  uncappedUpTo,
} from './health-score.js';

/** Time after an OOM kill for which it still counts. */
const KILL_MEMORY_MS = 300_000;
/** Window of the share of time in stalls. */
const STALLED_WINDOW_MS = 10_000;
/** Window of the number of stalls, and the least duration of those that count. */
const STALL_COUNT_WINDOW_MS = 60_000;
const STALL_COUNTS_FROM_MS = 100;

/** @internal */
export class Conditions {
  readonly #monitor: ResourceMonitor | undefined;
  readonly #timers: TimerManager;
  #kills: number | null = null;
  #newKills = 0;
  #killedMs = -Infinity;

  constructor(monitor: ResourceMonitor | undefined, timers: TimerManager) {
    this.#monitor = monitor;
    this.#timers = timers;
  }

  /** Returns the monitor's snapshot; `undefined` without a monitor, and after it was closed. */
  resources(): ResourceSnapshot | undefined {
    try {
      return this.#monitor?.snapshot();
    } catch (error) {
      if (error instanceof PortcullisError && error.code === 'ERR_CLOSED') return undefined;
      throw error;
    }
  }

  /**
   * Returns the last stall, if it ended within the last 10 s, and the load of stalls; `null` for
   * each figure that is not known.
   * @param isWatched whether stalls are noticed at all
   */
  stalls(isWatched: boolean): Pick<Observed, 'stall' | 'stalledShare' | 'stallCount'> {
    if (!isWatched || this.#monitor === undefined)
      return { stall: null, stalledShare: null, stallCount: null };
    const stalls = this.#monitor.stalls();
    const now = wallClockMs();
    const last = stalls.at(-1);
    const isRecent = last !== undefined && now - endOf(last) <= STALLED_WINDOW_MS;
    return {
      stall: isRecent
        ? { cause: last.cause, label: last.label, durationMs: last.durationMs }
        : null,
      stalledShare: stalledShare(stalls, now),
      stallCount: stallCount(stalls, now),
    };
  }

  /**
   * Returns the OOM kills noticed within `KILL_MEMORY_MS`; `null` if they are not known.
   * @param kills the count of the control group now
   */
  kills(kills: number | null): Dated | null {
    const nowMs = this.#timers.driver.now();
    if (nowMs - this.#killedMs >= KILL_MEMORY_MS) this.#newKills = 0;
    if (kills !== null) {
      if (this.#kills !== null && kills > this.#kills) {
        this.#killedMs = nowMs;
        this.#newKills += kills - this.#kills;
      }
      this.#kills = kills;
    }
    if (this.#kills === null) return null;
    const leftMs = this.#killedMs + KILL_MEMORY_MS - nowMs;
    return { value: this.#newKills, capEndsAt: leftMs > 0 ? wallClockMs() + leftMs : null };
  }
}

const endOf = ({ startedAt, durationMs }: Stall): number => startedAt + durationMs;

/** Returns the share of the last 10 s in stalls. @internal */
export function stalledShare(stalls: readonly Stall[], now: number): Dated {
  const from = now - STALLED_WINDOW_MS;
  const spans = stalls
    .filter((stall) => endOf(stall) > from)
    .map((stall) => ({ from: Math.max(from, stall.startedAt), to: Math.min(now, endOf(stall)) }));
  const stalledMs = spans.reduce((sum, span) => sum + span.to - span.from, 0);
  let surplusMs = stalledMs - uncappedUpTo(STALLED_SHARE) * STALLED_WINDOW_MS;
  let capEndsAt: number | null = null;
  // The window leaves the oldest stall first.
  for (const span of spans) {
    if (surplusMs <= 0) break;
    capEndsAt = span.from + Math.min(surplusMs, span.to - span.from) + STALLED_WINDOW_MS;
    surplusMs -= span.to - span.from;
  }
  return { value: Math.min(1, Math.max(0, stalledMs) / STALLED_WINDOW_MS), capEndsAt };
}

/** Returns the number of stalls of at least 100 ms that ended in the last minute. @internal */
export function stallCount(stalls: readonly Stall[], now: number): Dated {
  const counted = stalls.filter(
    (stall) =>
      stall.durationMs >= STALL_COUNTS_FROM_MS && now - endOf(stall) < STALL_COUNT_WINDOW_MS,
  );
  const surplus = counted.length - Math.floor(uncappedUpTo(STALL_COUNT));
  const decisive = surplus > 0 ? counted[surplus - 1] : undefined;
  return {
    value: counted.length,
    capEndsAt: decisive === undefined ? null : endOf(decisive) + STALL_COUNT_WINDOW_MS,
  };
}
