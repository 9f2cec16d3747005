/** Conditions that the monitor knows and that bear on health: its figures, stalls, OOM kills. */
import { wallClockMs } from '../base/clock.js';
import { PortcullisError } from '../base/errors.js';
import type { ResourceSnapshot } from '../resources/figures.js';
import type { ResourceMonitor } from '../resources/monitor.js';
import type { TimerManager } from '../timers/manager.js';
import type { Observed } from './health-score.js';

/** Time after an OOM kill, and after a stall, for which it still counts. */
const KILL_MEMORY_MS = 300_000;
const STALL_MEMORY_MS = 10_000;

/** @internal */
export class Conditions {
  readonly #monitor: ResourceMonitor | undefined;
  readonly #timers: TimerManager;
  #kills: number | null = null;
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

  /** Returns the last stall if it lasts, or ended within `STALL_MEMORY_MS`. */
  stall(): Observed['stall'] {
    const last = this.#monitor?.stalls().at(-1);
    if (last === undefined || wallClockMs() - (last.startedAt + last.durationMs) > STALL_MEMORY_MS)
      return null;
    return { cause: last.cause, label: last.label, durationMs: last.durationMs };
  }

  /** True if the count of OOM kills rose within `KILL_MEMORY_MS`. @param kills the count now */
  wasKilled(kills: number | null): boolean {
    const nowMs = this.#timers.driver.now();
    if (kills !== null) {
      if (this.#kills !== null && kills > this.#kills) this.#killedMs = nowMs;
      this.#kills = kills;
    }
    return nowMs - this.#killedMs < KILL_MEMORY_MS;
  }
}
