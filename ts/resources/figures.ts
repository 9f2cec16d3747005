/**
 * Types of a monitor's figures: metrics, snapshots, stalls, changes of state, garbage collections.
 */

/** State of memory: below the warning threshold, above it, or above the critical threshold. */
export type ResourceState = 'ok' | 'warning' | 'critical';

/** Reason why an event loop did not turn. */
export type StallCause = 'busy' | 'blocked' | 'starved' | 'throttled' | 'unknown';

/** A stall: a block of one event loop. */
export interface Stall {
  /** Number of the stall within its monitor, from 1. */
  readonly id: number;
  /** The monitor's `name`. */
  readonly thread: string;
  /** Start, wall-clock milliseconds. */
  readonly startedAt: number;
  /** Duration; the time so far for a stall under way. */
  readonly durationMs: number;
  /** Time from the start until the watcher noticed the stall. */
  readonly noticedAfterMs: number;
  /**
   * `busy`: JavaScript or native code on the CPU, garbage collection included; `blocked`: asleep in
   * a system call; `starved`: runnable, but without a CPU; `throttled`: starved because the CPU
   * quota is used up; `unknown`: no figures from the kernel.
   */
  readonly cause: StallCause;
  /** System call in which the thread was first seen asleep, by name or number. */
  readonly systemCall: string | null;
  /** Share of the time on a CPU, 0 to 1. */
  readonly onCpuShare: number | null;
  /** Share of the time waiting for a CPU, 0 to 1. */
  readonly waitingShare: number | null;
  /** Label of the route or message type that started last; `null` without one. */
  readonly label: string | null;
  /** Requests in flight on that thread. */
  readonly inFlight: number;
  /**
   * Requests that the block may belong to, at most 8: the socket of the message that started last, if it started
   * after all requests, then the requests in flight, the newest first. Empty without a guard.
   */
  readonly requests: readonly StalledRequest[];
}

/** A request of a stall. */
export interface StalledRequest {
  /** Id of the request, or of the handshake of a socket; see `RequestTrace`. */
  readonly requestId: string;
  /** Its `traceparent` (W3C Trace Context); `null` without a valid one. */
  readonly traceparent: string | null;
}

/** A change of the memory state. */
export interface StateChange {
  /** State before. */
  readonly from: ResourceState;
  /** State from now on. */
  readonly to: ResourceState;
  /** Percent of the binding limit in use. */
  readonly percent: number;
  /** Time of the change, wall-clock milliseconds. */
  readonly at: number;
}

/** A garbage collection that the monitor requested. */
export interface CollectionRecord {
  /** End, wall-clock milliseconds. */
  readonly at: number;
  /** Duration; the event loop is blocked for as long. */
  readonly durationMs: number;
  /** Freed part of JavaScript's heap, MB. */
  readonly freedMb: number;
}

/** Memory, connections, requests and CPU at one moment. */
export interface ResourceMetrics {
  /** Resident memory of the process, MB (2^20 bytes); `null` where it cannot be read. */
  memoryUsage: number | null;
  /** Open connections and leases of the attached managers. */
  activeConnections: number;
  /** Requests in flight over all threads; those of other threads up to a second old. */
  activeRequests: number;
  /** Percent of the allowed CPUs in use; `null` until there are two samples. */
  cpuUsage: number | null;
}

/** A memory limit. The limit with the highest percentage binds. */
export interface MemoryLimit {
  /**
   * Origin: `maxHeapSizeMb` and `host` limit the resident set, `v8` limits V8's heap, `cgroup` and
   * `cgroup_high` (above which the kernel throttles the group) limit the group's working set.
   */
  readonly source: 'maxHeapSizeMb' | 'v8' | 'cgroup' | 'cgroup_high' | 'host';
  /** The limit, MB. */
  readonly limitMb: number;
  /** The limited memory in use, MB. */
  readonly usedMb: number;
  /** Percent of the limit in use. */
  readonly percent: number;
  /** For a control group: number of levels above the process's own group. */
  readonly level: number;
}

/** Quantiles of delays, ms. */
export interface DelayQuantiles {
  /** Median. */
  readonly p50: number;
  /** 90th percentile. */
  readonly p90: number;
  /** 99th percentile. */
  readonly p99: number;
  /** 99.9th percentile. */
  readonly p999: number;
  /** Longest delay. */
  readonly max: number;
  /** Arithmetic mean. */
  readonly mean: number;
  /** Shortest delay. */
  readonly min: number;
  /** Standard deviation. */
  readonly deviation: number;
  /** Number of measured delays. */
  readonly count: number;
}

/** Pressure stall information (PSI): percent of time in which tasks waited for a resource. */
export interface PressureStall {
  /** At least one task waited, last 10 s. */
  readonly some10Percent: number;
  /** At least one task waited, last 60 s. */
  readonly some60Percent: number;
  /** All tasks waited, last 10 s; `null` where the kernel has no such figure. */
  readonly full10Percent: number | null;
  /** `cgroup`, or `system` if the group has no figures of its own. */
  readonly scope: 'cgroup' | 'system';
}

/** All figures of a monitor; `null` means "not known (yet)". Sizes in MB of 2^20 bytes. */
export interface ResourceSnapshot {
  /** State of memory, with hysteresis. */
  readonly state: ResourceState;
  /** True while memory is below the critical threshold, or cannot be read. */
  readonly isHealthy: boolean;
  /** Open connections and leases of the attached managers. */
  readonly activeConnections: number;
  /** Requests in flight over all threads. */
  readonly activeRequests: number;
  /** Memory of the process, its control groups and the machine. */
  readonly memory: {
    /** Milliseconds since the last sample of memory. */
    readonly ageMs: number;
    /** Resident set of the process; `null` where it cannot be read. */
    readonly rssMb: number | null;
    /** Part of the resident set that no file backs; `null` where the kernel has no such figure. */
    readonly anonymousMb: number | null;
    /**
     * Memory charged to the control group minus droppable page cache; the kernel kills when it
     * reaches the limit.
     */
    readonly workingSetMb: number | null;
    /** Memory of the machine. */
    readonly hostTotalMb: number | null;
    /** Memory that the machine can still allocate without swapping. */
    readonly hostAvailableMb: number | null;
    /** JavaScript heap of this thread in use. */
    readonly heapUsedMb: number;
    /** V8's heap limit; `null` on Bun, which has none. */
    readonly heapLimitMb: number | null;
    /** Milliseconds since the heap was measured. */
    readonly heapAgeMs: number;
    /** The binding limit; `null` where memory cannot be read. */
    readonly effectiveLimit: MemoryLimit | null;
    /** All limits of control groups and machine. */
    readonly limits: readonly MemoryLimit[];
    /** Version of the control group, 1 or 2; `null` outside of one. */
    readonly cgroupVersion: number | null;
    /**
     * Processes of the group killed by the OOM killer since the group exists; `null` outside of a
     * group.
     */
    readonly oomKills: number | null;
    /** Time that tasks waited for memory; `null` without PSI. */
    readonly pressure: PressureStall | null;
  };
  /** CPU of the process, averaged between the last two samples. */
  readonly cpu: {
    /** Milliseconds since the last sample of the CPU; `null` until there are two. */
    readonly ageMs: number | null;
    /** Percent of the allowed CPUs in use. */
    readonly percentOfAllowed: number | null;
    /** CPUs in use. */
    readonly usedCpus: number | null;
    /** The lesser of affinity and quota. */
    readonly allowedCpus: number | null;
    /** CPUs in the affinity mask; outside of Linux, CPUs of the machine. */
    readonly cpus: number | null;
    /** CPUs of the control group's quota; `null` without a quota. */
    readonly quotaCpus: number | null;
    /** Percent of time in which the quota denied the CPU. */
    readonly throttledPercent: number | null;
    /** CPU of this JavaScript thread, percent of one core. */
    readonly jsThreadPercent: number | null;
    /** Time that tasks waited for a CPU; `null` without PSI. */
    readonly pressure: PressureStall | null;
  };
  /** The machine, and the process as a whole. */
  readonly host: {
    /** CPUs of the machine; `cpu.allowedCpus` has those that the process may use. */
    readonly cpus: number | null;
    /** Load average of the last minute; `null` on Windows, as the next two. */
    readonly load1: number | null;
    /** Load average of the last 5 minutes. */
    readonly load5: number | null;
    /** Load average of the last 15 minutes. */
    readonly load15: number | null;
    /** Swap of the machine, MB; 0 without swap. */
    readonly swapTotalMb: number | null;
    /** Swap in use, MB. */
    readonly swapUsedMb: number | null;
    /** Start of the process, wall-clock milliseconds, to a second. */
    readonly startedAt: number | null;
    /** Open files of the process, sockets included; above 1,024 counted once a minute. */
    readonly openFiles: number | null;
    /** Greatest number of open files. */
    readonly maxOpenFiles: number | null;
  };
  /** Disks. */
  readonly io: {
    /** Time that tasks waited for a disk; `null` without PSI. */
    readonly pressure: PressureStall | null;
  };
  /** This thread's event loop. */
  readonly loop: {
    /** Detection of stalls: by the kernel's figures, by challenges alone, or off. */
    readonly watch: 'kernel' | 'challenge' | 'off';
    /** Share of time in which the loop did not wait for events, 0 to 1. */
    readonly utilization: number | null;
    /** Mean of `utilization` over the last 10 s. */
    readonly utilization10s: number | null;
    /** Delay of an event until the loop turns, last minute. */
    readonly delayMs: DelayQuantiles | null;
    /** Noticed stalls since the monitor was created. */
    readonly stalls: number;
    /**
     * The stall under way. A thread cannot run during its own stall, so only other threads see one
     * here.
     */
    readonly stall: Stall | null;
    /** Pauses of the whole process (SIGSTOP, a suspended machine), which are no stalls. */
    readonly pauses: number;
  };
  /** All threads with a monitor; totals include ended threads. */
  readonly process: {
    /** Started requests. */
    readonly requests: number;
    /** Noticed stalls. */
    readonly stalls: number;
    /** Duration of all stalls, ms. */
    readonly stalledMs: number;
    /** Delays of all watched loops, last minute. */
    readonly delayMs: DelayQuantiles | null;
    /** Delays of all loops so far, ended ones included. */
    readonly lifetimeDelayMs: DelayQuantiles | null;
    /** One row per monitor. */
    readonly threads: readonly {
      /** The monitor's name. */
      readonly name: string;
      /** Requests in flight. */
      readonly inFlight: number;
      /**
       * CPU of the thread, percent of one core; `null` until there are two samples, and outside of
       * Linux.
       */
      readonly cpuPercent: number | null;
      /**
       * Share of time in which its loop did not wait for events, 0 to 1; `null` without kernel
       * figures.
       */
      readonly utilization: number | null;
      /** Noticed stalls. */
      readonly stalls: number;
      /** Age of `cpuPercent` and `utilization`, ms. */
      readonly ageMs: number | null;
    }[];
  };
  /** The last 64 requested garbage collections. */
  readonly collections: readonly CollectionRecord[];
  /** CPU of the watcher's own thread, percent of one core. */
  readonly watcherCpuPercent: number | null;
  /** Age of each of these figures, ms. */
  readonly ages: ResourceAges;
}

type AgesOf<Figures> = { readonly [Name in keyof Figures]: number | null };

/**
 * Age of every figure of a snapshot, ms, under the figure's own name: `ages.memory.rssMb` belongs
 * to `memory.rssMb`. `null` where there is no figure yet, and for stalls where no loop is watched.
 *
 * A figure that can no longer be read keeps its last value, and its age grows. Usual ages are 0 to
 * 1000 ms; up to 5000 for figures that change rarely (heap, limits, working set of the group, OOM
 * kills, quota, PSI, the machine's memory, load and swap); up to 60000 for `cgroupVersion`, the
 * CPUs of the machine, the start of the process, and its open files; 0 for JavaScript's own counts. Records (`collections`), settings (`loop.watch`) and threads, which have their own
 * `ageMs`, are left out.
 */
export interface ResourceAges {
  /** Time since memory was last compared with its limits. */
  readonly state: number | null;
  readonly isHealthy: number | null;
  readonly activeConnections: number | null;
  readonly activeRequests: number | null;
  readonly memory: AgesOf<Omit<ResourceSnapshot['memory'], 'ageMs' | 'heapAgeMs'>>;
  readonly cpu: AgesOf<Omit<ResourceSnapshot['cpu'], 'ageMs'>>;
  readonly host: AgesOf<ResourceSnapshot['host']>;
  readonly io: AgesOf<ResourceSnapshot['io']>;
  /** Counts of stalls are as old as the last look at the loop; `null` if it is not watched. */
  readonly loop: AgesOf<Omit<ResourceSnapshot['loop'], 'watch'>>;
  /** For sums over all threads, the age of the oldest part. Each thread has its own `ageMs`. */
  readonly process: AgesOf<Omit<ResourceSnapshot['process'], 'threads'>>;
  readonly watcherCpuPercent: number | null;
}
