/** What the monitor knows that bears on health: its figures, a stall, a process killed for memory. */
import { wallClockMs } from '../base/clock.js';
import { PortcullisError } from '../base/errors.js';
import type { ResourceSnapshot } from '../resources/figures.js';
import type { ResourceMonitor } from '../resources/monitor.js';
import type { TimerManager } from '../timers/manager.js';
import type { Observed } from './health.js';

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

  resources(): ResourceSnapshot | undefined {
    try {
      return this.#monitor?.snapshot();
    } catch (error) {
      // A monitor that was stopped knows nothing any more.
      if (error instanceof PortcullisError && error.code === 'ERR_CLOSED') return undefined;
      throw error;
    }
  }

  /** One that lasts, or ended a moment ago. */
  stall(): Observed['stall'] {
    const last = this.#monitor?.stalls().at(-1);
    if (last === undefined || wallClockMs() - (last.startedAt + last.durationMs) > STALL_MEMORY_MS)
      return null;
    return { cause: last.cause, label: last.label, durationMs: last.durationMs };
  }

  /** Whether the count of kills has risen in the last minutes. */
  wasKilled(kills: number | null): boolean {
    const nowMs = this.#timers.driver.now();
    if (kills !== null) {
      if (this.#kills !== null && kills > this.#kills) this.#killedMs = nowMs;
      this.#kills = kills;
    }
    return nowMs - this.#killedMs < KILL_MEMORY_MS;
  }
}
