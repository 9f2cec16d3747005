/** How old each figure of a snapshot is. */
import type { WatchFigures } from './native.js';
import type { OwnFigures, ResourceSnapshot } from './resource-figures.js';

type AgesOf<Figures> = { readonly [Name in keyof Figures]: number | null };

/**
 * The age of every figure of a snapshot, under the figure's own name: `ages.memory.rssMb` is how
 * many milliseconds ago `memory.rssMb` was found. `null` where there is no figure yet. A figure that
 * can be read no longer keeps its last value, and its age grows: 0 to 1000 ms are usual, up to 5000
 * for what changes rarely (limits, quota, PSI, the machine's memory), up to 60000 for
 * `cgroupVersion`. What JavaScript itself counts is always new.
 */
export interface ResourceAges {
  /** Since memory was last compared with its limits. */
  readonly state: number | null;
  readonly isHealthy: number | null;
  readonly activeConnections: number | null;
  readonly activeRequests: number | null;
  readonly memory: AgesOf<Omit<ResourceSnapshot['memory'], 'ageMs' | 'heapAgeMs'>>;
  readonly cpu: AgesOf<Omit<ResourceSnapshot['cpu'], 'ageMs'>>;
  readonly io: AgesOf<ResourceSnapshot['io']>;
  /** What is counted of stalls is as old as the last look at the loop; `null` if it is not watched. */
  readonly loop: AgesOf<Omit<ResourceSnapshot['loop'], 'watch'>>;
  /** Of what is counted over all threads, the oldest. Each thread has its own `ageMs`. */
  readonly process: AgesOf<Omit<ResourceSnapshot['process'], 'threads'>>;
  readonly watcherCpuPercent: number | null;
}

/** @internal */
export function agesOf(figures: WatchFigures, own: OwnFigures): ResourceAges {
  const { nowMs, dates } = figures;
  const age = (atMs: number | undefined): number | null => (atMs === undefined ? null : Math.max(0, nowMs - atMs));
  const looked = age(dates.looked);
  const allLooked = age(dates.allLooked);
  const sampled = age(figures.sampledAtMs);
  const heap = age(own.heapAtMs);
  const judged = age(dates.binding);
  return {
    state: judged,
    isHealthy: judged,
    activeConnections: 0,
    activeRequests: 0,
    memory: {
      rssMb: age(dates.rss),
      anonymousMb: age(dates.anonymous),
      workingSetMb: age(dates.workingSet),
      hostTotalMb: age(dates.total),
      hostAvailableMb: age(dates.available),
      heapUsedMb: heap,
      heapLimitMb: Number.isNaN(own.heapLimit) ? null : heap,
      effectiveLimit: judged,
      limits: sampled,
      cgroupVersion: age(dates.cgroupVersion),
      oomKills: age(dates.oomKills),
      pressure: age(dates.memoryPressure),
    },
    cpu: {
      percentOfAllowed: figures.cpuPercent === undefined ? null : age(dates.usedCpus),
      usedCpus: age(dates.usedCpus),
      allowedCpus: age(dates.allowedCpus),
      cpus: age(dates.cpus),
      quotaCpus: age(dates.quotaCpus),
      throttledPercent: age(dates.throttledPercent),
      jsThreadPercent: age(dates.threadCpu),
      pressure: age(dates.cpuPressure),
    },
    io: { pressure: age(dates.ioPressure) },
    loop: { utilization: age(dates.utilization), delayMs: age(dates.delays), stalls: looked, stall: looked, pauses: looked },
    process: {
      requests: 0,
      stalls: allLooked,
      stalledMs: allLooked,
      delayMs: age(dates.processDelays),
      lifetimeDelayMs: age(dates.lifetimeDelays),
    },
    watcherCpuPercent: age(dates.ownCpu),
  };
}
