/** Log lines of a monitor: changes of state, and a memory limit that never binds. */
import type { Hooks } from '../base/hooks.js';
import type { MemoryLimit, StateChange } from './figures.js';
import type { ResourceLog } from './options.js';

/** @internal */
export class MonitorLog {
  readonly #log: ResourceLog | false;
  readonly #hooks: Hooks;

  constructor(log: ResourceLog | false | undefined, hooks: Hooks) {
    this.#log = log ?? toConsole;
    this.#hooks = hooks;
  }

  /** Writes one line for a change of state. */
  stateChanged({ from, to, percent }: StateChange, binding: MemoryLimit | null): void {
    const details = {
      current: binding?.usedMb ?? Number.NaN,
      limit: binding?.limitMb ?? Number.NaN,
      percent,
      source: binding?.source,
      from,
    };
    if (to === 'critical')
      this.#write('error', 'CRITICAL: Memory usage exceeds threshold', details);
    else if (to === 'warning') this.#write('warn', 'WARNING: Memory usage high', details);
    else this.#write('info', 'Memory usage back to normal', details);
  }

  /**
   * Warns if another limit is below `maxHeapSizeMb`: the kernel kills the process before it reaches
   * it.
   */
  checkMaxHeapSize(maxHeapSizeMb: number, limits: readonly MemoryLimit[]): void {
    // `memory.high` of a control group only throttles.
    const hard = limits.filter(({ source }) => source !== 'cgroup_high');
    const lowest = hard.toSorted((a, b) => a.limitMb - b.limitMb)[0];
    if (lowest === undefined || lowest.limitMb >= maxHeapSizeMb) return;
    this.#write(
      'warn',
      `memory.maxHeapSizeMb is above the limit of the ${lowest.source}, which binds first`,
      { maxHeapSizeMb, limitMb: lowest.limitMb, source: lowest.source },
    );
  }

  #write(
    level: 'info' | 'warn' | 'error',
    message: string,
    details: Readonly<Record<string, unknown>>,
  ): void {
    const log = this.#log;
    if (log === false) return;
    this.#hooks.run('log', () => log(level, message, details));
  }
}

function toConsole(
  level: 'info' | 'warn' | 'error',
  message: string,
  details: Readonly<Record<string, unknown>>,
): void {
  globalThis.console[level](message, details);
}
