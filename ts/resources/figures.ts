/** The shapes of what a monitor tells. */

/** How much of its memory the process uses, in words. */
export type ResourceState = 'ok' | 'warning' | 'critical';

/** Why an event loop does not turn. */
export type StallCause = 'busy' | 'blocked' | 'starved' | 'throttled' | 'unknown';

/** A block of an event loop. */
export interface Stall {
  /** Counts the stalls of a monitor, from 1. */
  readonly id: number;
  /** The monitor's `name`. */
  readonly thread: string;
  /** Wall-clock milliseconds at which it began. */
  readonly startedAt: number;
  /** How long it lasted; how long so far, for one under way. */
  readonly durationMs: number;
  /** How long it had lasted when the watcher noticed it. */
  readonly noticedAfterMs: number;
  /**
   * `busy`: JavaScript, or native code, on the CPU; `blocked`: asleep in a system call; `starved`:
   * ready, without a CPU; `throttled`: the same, because the quota is used up; `unknown`: the kernel
   * does not say.
   */
  readonly cause: StallCause;
  /** The system call it was first seen asleep in, by name or number. */
  readonly systemCall: string | null;
  /** Share of the time on a CPU, 0 to 1. */
  readonly onCpu: number | null;
  /** Share of the time waiting for a CPU, 0 to 1. */
  readonly waiting: number | null;
  /** What had begun last: the label of a route or message type; `null` if nothing was said. */
  readonly label: string | null;
  /** Requests in flight on that thread. */
  readonly inFlight: number;
}

/** A change of state. */
export interface StateChange {
  readonly from: ResourceState;
  readonly to: ResourceState;
  /** Percent of the binding limit in use. */
  readonly percent: number;
  /** Wall-clock milliseconds. */
  readonly at: number;
}

/** A garbage collection that the monitor asked for. */
export interface CollectionRecord {
  /** Wall-clock milliseconds at its end. */
  readonly at: number;
  readonly durationMs: number;
  /** MB of JavaScript's heap that it freed. */
  readonly freedMb: number;
}

/** The plan's four figures. */
export interface ResourceMetrics {
  /** Resident memory of the process, MB (2^20 bytes); `null` where it cannot be read. */
  memoryUsage: number | null;
  /** Open connections and leases of the managers that were given. */
  activeConnections: number;
  /** Requests in flight, over all threads; those of other threads up to a second old. */
  activeRequests: number;
  /** Percent of the CPUs that the process is allowed; `null` until there are two samples. */
  cpuUsage: number | null;
}

/** A limit of memory; the one of which most is used binds. */
export interface MemoryLimit {
  /**
   * `maxHeapSize` and `host` are compared with the resident set, `v8` with V8's heap, `cgroup` and
   * `cgroup_high` (where the kernel begins to slow the group down) with the group's working set.
   */
  readonly source: 'maxHeapSize' | 'v8' | 'cgroup' | 'cgroup_high' | 'host';
  /** The limit, MB. */
  readonly limitMb: number;
  /** What is compared with it, MB. */
  readonly usedMb: number;
  /** How much of it is used. */
  readonly percent: number;
  /** For a control group: how many steps above the process's own. */
  readonly level: number;
}

/** Delays in milliseconds. */
export interface DelayQuantiles {
  /** Half of all are not above it. */
  readonly p50: number;
  /** Nine of ten are not above it. */
  readonly p90: number;
  /** 99 of 100 are not above it. */
  readonly p99: number;
  /** 999 of 1,000 are not above it. */
  readonly p999: number;
  /** The longest. */
  readonly max: number;
  /** The arithmetic mean. */
  readonly mean: number;
  /** How many were measured. */
  readonly count: number;
}

/** Percent of time in which some task, or all of them, waited for a resource. */
export interface PressureStall {
  /** Some task waited, in the last 10 s. */
  readonly some10: number;
  /** Some task waited, in the last 60 s. */
  readonly some60: number;
  /** All tasks waited, in the last 10 s; `null` where the kernel does not say. */
  readonly full10: number | null;
  /** `cgroup`, or `system` where the group has none of its own. */
  readonly scope: 'cgroup' | 'system';
}

/** Everything a monitor knows; `null` is "not known (yet)". All sizes in MB of 2^20 bytes. */
export interface ResourceSnapshot {
  /** How memory stands, with hysteresis. */
  readonly state: ResourceState;
  /** Whether memory is below the critical threshold; true while it cannot be read. */
  readonly isHealthy: boolean;
  /** Open connections and leases of the managers that were given. */
  readonly activeConnections: number;
  /** Requests in flight, over all threads. */
  readonly activeRequests: number;
  /** Of the process, its control groups and the machine. */
  readonly memory: {
    /** Milliseconds since memory was read. */
    readonly ageMs: number;
    /** Resident set of the process; `null` outside of Linux. */
    readonly rssMb: number | null;
    /** Part of it that no file backs; `null` where the kernel does not say. */
    readonly anonymousMb: number | null;
    /** What the control group is charged less droppable page cache: what the kernel kills for. */
    readonly workingSetMb: number | null;
    /** Memory of the machine. */
    readonly hostTotalMb: number | null;
    /** What the machine could still hand out without swapping. */
    readonly hostAvailableMb: number | null;
    /** JavaScript's heap in use, of this thread. */
    readonly heapUsedMb: number;
    /** V8's ceiling; `null` on Bun, which has none. */
    readonly heapLimitMb: number | null;
    /** Milliseconds since the heap was asked. */
    readonly heapAgeMs: number;
    /** The limit that binds; `null` where memory cannot be read. */
    readonly effectiveLimit: MemoryLimit | null;
    /** All limits of control groups and machine. */
    readonly limits: readonly MemoryLimit[];
    /** 1 or 2; `null` outside of a control group. */
    readonly cgroupVersion: number | null;
    /** Processes of the group that the kernel has killed for want of memory, since the group exists; `null` without such a group. */
    readonly oomKills: number | null;
    /** Time in which tasks waited for memory; `null` where the kernel does not say. */
    readonly pressure: PressureStall | null;
  };
  /** Of the process, averaged between the last two samples. */
  readonly cpu: {
    /** Milliseconds since the CPU was read; `null` until there are two samples. */
    readonly ageMs: number | null;
    /** Percent of the CPUs allowed. */
    readonly percentOfAllowed: number | null;
    /** CPUs in use. */
    readonly usedCpus: number | null;
    /** The lesser of affinity and quota. */
    readonly allowedCpus: number | null;
    /** CPUs that the affinity mask allows; outside of Linux those of the machine. */
    readonly cpus: number | null;
    /** CPUs that the control group's quota allows; `null` without a quota. */
    readonly quotaCpus: number | null;
    /** Percent of time for which the quota denied the CPU. */
    readonly throttledPercent: number | null;
    /** Of this JavaScript thread, percent of one core. */
    readonly jsThreadPercent: number | null;
    /** Time in which tasks waited for a CPU; `null` where the kernel does not say. */
    readonly pressure: PressureStall | null;
  };
  /** Of disks. */
  readonly io: {
    /** Time in which tasks waited for a disk; `null` where the kernel does not say. */
    readonly pressure: PressureStall | null;
  };
  /** Of this thread's event loop. */
  readonly loop: {
    /** How stalls are noticed: by the kernel's figures, by asking alone, or not. */
    readonly watch: 'kernel' | 'challenge' | 'off';
    /** Share of time in which the loop was not waiting for events, 0 to 1. */
    readonly utilization: number | null;
    /** What an event waits until the loop turns, in the last minute. */
    readonly delayMs: DelayQuantiles | null;
    /** Blocks that were noticed, since the monitor was made. */
    readonly stalls: number;
    /** The block under way, if one is. Only another thread can see its own here. */
    readonly stall: Stall | null;
    /** Times at which the whole process was stopped (SIGSTOP, a suspended machine): no stalls. */
    readonly pauses: number;
  };
  /** Over all threads that have a monitor; totals include those that have ended. */
  readonly process: {
    /** Requests that began. */
    readonly requests: number;
    /** Blocks that were noticed. */
    readonly stalls: number;
    /** Milliseconds of all of them. */
    readonly stalledMs: number;
    /** Delays of all loops that are watched, in the last minute. */
    readonly delayMs: DelayQuantiles | null;
    /** Delays of all loops that there were, of all time. */
    readonly lifetimeDelayMs: DelayQuantiles | null;
    /** A row for each monitor. */
    readonly threads: readonly {
      /** The monitor's name. */
      readonly name: string;
      /** Requests in flight. */
      readonly inFlight: number;
      /** Percent of one core; `null` until there are two samples, and outside of Linux. */
      readonly cpuPercent: number | null;
      /** Share of time in which its loop was not waiting for events, 0 to 1; `null` where the kernel does not say. */
      readonly utilization: number | null;
      /** Blocks that were noticed. */
      readonly stalls: number;
      /** Of `cpuPercent` and `utilization`, milliseconds. */
      readonly ageMs: number | null;
    }[];
  };
  /** The last 64 collections that were asked for. */
  readonly collections: readonly CollectionRecord[];
  /** The watcher's own CPU, percent of one core. */
  readonly watcherCpuPercent: number | null;
  /** How many milliseconds old each of these figures is. */
  readonly ages: ResourceAges;
}

type AgesOf<Figures> = { readonly [Name in keyof Figures]: number | null };

/**
 * The age of every figure of a snapshot, under the figure's own name: `ages.memory.rssMb` is how
 * many milliseconds ago `memory.rssMb` was found. `null` where there is no figure yet, and for counts
 * of stalls where no loop is watched. A figure that can be read no longer keeps its last value, and
 * its age grows: 0 to 1000 ms are usual, up to 5000 for what changes rarely (the heap, limits, the
 * working set of the group, kills, quota, PSI, the machine's memory), up to 60000 for `cgroupVersion`.
 * What JavaScript itself counts is always new. Records (`collections`), settings (`loop.watch`) and
 * threads, which have their own `ageMs`, are left out.
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
