/** What a monitor tells: the shapes, and how they are made of what the native watch knows. */
import type { StallFigures, WatchFigures } from '../native/loader.js';
import { wallClockMs } from './clock.js';
import { type ResourceAges, agesOf } from './resource-ages.js';

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
  readonly limitMb: number;
  readonly usedMb: number;
  readonly percent: number;
  /** For a control group: how many steps above the process's own. */
  readonly level: number;
}

/** Delays in milliseconds. */
export interface DelayQuantiles {
  readonly p50: number;
  readonly p90: number;
  readonly p99: number;
  readonly p999: number;
  readonly max: number;
  readonly mean: number;
  readonly count: number;
}

/** Percent of time in which some task, or all of them, waited for a resource. */
export interface PressureStall {
  readonly some10: number;
  readonly some60: number;
  readonly full10: number | null;
  /** `cgroup`, or `system` where the group has none of its own. */
  readonly scope: 'cgroup' | 'system';
}

/** Everything a monitor knows; `null` is "not known (yet)". All sizes in MB of 2^20 bytes. */
export interface ResourceSnapshot {
  readonly state: ResourceState;
  readonly isHealthy: boolean;
  readonly activeConnections: number;
  readonly activeRequests: number;
  readonly memory: {
    readonly ageMs: number;
    readonly rssMb: number | null;
    readonly anonymousMb: number | null;
    /** What the control group is charged less droppable page cache: what the kernel kills for. */
    readonly workingSetMb: number | null;
    readonly hostTotalMb: number | null;
    readonly hostAvailableMb: number | null;
    readonly heapUsedMb: number;
    /** V8's ceiling; `null` on Bun, which has none. */
    readonly heapLimitMb: number | null;
    readonly heapAgeMs: number;
    /** The limit that binds; `null` where memory cannot be read. */
    readonly effectiveLimit: MemoryLimit | null;
    /** All limits of control groups and machine. */
    readonly limits: readonly MemoryLimit[];
    readonly cgroupVersion: number | null;
    readonly oomKills: number | null;
    readonly pressure: PressureStall | null;
  };
  readonly cpu: {
    readonly ageMs: number | null;
    /** Percent of the CPUs allowed. */
    readonly percentOfAllowed: number | null;
    /** CPUs in use. */
    readonly usedCpus: number | null;
    /** The lesser of affinity and quota. */
    readonly allowedCpus: number | null;
    readonly cpus: number | null;
    readonly quotaCpus: number | null;
    /** Percent of time for which the quota denied the CPU. */
    readonly throttledPercent: number | null;
    /** Of this JavaScript thread, percent of one core. */
    readonly jsThreadPercent: number | null;
    readonly pressure: PressureStall | null;
  };
  readonly io: { readonly pressure: PressureStall | null };
  readonly loop: {
    /** How stalls are noticed: by the kernel's figures, by asking alone, or not. */
    readonly watch: 'kernel' | 'challenge' | 'off';
    /** Share of time in which the loop was not waiting for events, 0 to 1. */
    readonly utilization: number | null;
    /** What an event waits until the loop turns, in the last minute. */
    readonly delayMs: DelayQuantiles | null;
    readonly stalls: number;
    /** The block under way, if one is. Only another thread can see its own here. */
    readonly stall: Stall | null;
    /** Times at which the whole process was stopped (SIGSTOP, a suspended machine): no stalls. */
    readonly pauses: number;
  };
  /** Over all threads that have a monitor; totals include those that have ended. */
  readonly process: {
    readonly requests: number;
    readonly stalls: number;
    readonly stalledMs: number;
    readonly delayMs: DelayQuantiles | null;
    readonly lifetimeDelayMs: DelayQuantiles | null;
    readonly threads: readonly {
      readonly name: string;
      readonly inFlight: number;
      readonly cpuPercent: number | null;
      readonly utilization: number | null;
      readonly stalls: number;
      /** Of `cpuPercent` and `utilization`. */
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

/** Bytes. @internal */
export const MB = 2 ** 20;
/** In the order of the native levels. @internal */
export const STATES: readonly ResourceState[] = ['ok', 'warning', 'critical'];

/** @internal */
export const known = (figure: number): number | null => (Number.isNaN(figure) ? null : figure);

/** What only the monitor's own thread knows; sizes in bytes. @internal */
export interface OwnFigures {
  readonly activeConnections: number;
  readonly heapUsed: number;
  readonly heapLimit: number;
  readonly heapAtMs: number;
  readonly collections: readonly CollectionRecord[];
}

/** @internal */
export function snapshotOf(figures: WatchFigures, own: OwnFigures): ResourceSnapshot {
  const { nowMs } = figures;
  const ages = agesOf(figures, own);
  const pressures = [figures.memoryPressure, figures.cpuPressure, figures.ioPressure].map(pressureOf);
  const [memoryPressure = null, cpuPressure = null, ioPressure = null] = pressures;
  const megabytes = (bytes: number | undefined): number | null => (bytes === undefined ? null : bytes / MB);
  const percent = (share: number | undefined): number | null => (share === undefined ? null : share * 100);
  return {
    state: STATES[figures.level] ?? 'ok',
    isHealthy: figures.level < STATES.length - 1,
    activeConnections: own.activeConnections,
    activeRequests: figures.threads.reduce((sum, thread) => sum + thread.inFlight, 0),
    memory: {
      ageMs: Math.max(0, nowMs - figures.sampledAtMs),
      rssMb: megabytes(figures.rss),
      anonymousMb: megabytes(figures.anonymous),
      workingSetMb: megabytes(figures.workingSet),
      hostTotalMb: megabytes(figures.total),
      hostAvailableMb: megabytes(figures.available),
      heapUsedMb: own.heapUsed / MB,
      heapLimitMb: known(own.heapLimit / MB),
      heapAgeMs: Math.max(0, nowMs - own.heapAtMs),
      effectiveLimit: figures.binding === undefined ? null : limitOf(figures.binding),
      limits: figures.limits.map(limitOf),
      cgroupVersion: figures.cgroupVersion ?? null,
      oomKills: figures.oomKills ?? null,
      pressure: memoryPressure,
    },
    cpu: {
      ageMs: ages.cpu.usedCpus,
      percentOfAllowed: figures.cpuPercent ?? null,
      usedCpus: figures.usedCpus ?? null,
      allowedCpus: figures.allowedCpus ?? null,
      cpus: figures.cpus ?? null,
      quotaCpus: figures.quotaCpus ?? null,
      throttledPercent: figures.throttledPercent ?? null,
      jsThreadPercent: percent(figures.threadCpu),
      pressure: cpuPressure,
    },
    io: { pressure: ioPressure },
    loop: {
      watch: !figures.isWatched ? 'off' : figures.isSeen ? 'kernel' : 'challenge',
      utilization: figures.utilization ?? null,
      delayMs: figures.delays ?? null,
      stalls: figures.stalls,
      stall: figures.stall === undefined ? null : stallOf(figures.stall, nowMs),
      pauses: figures.pauses,
    },
    process: {
      requests: figures.processRequests,
      stalls: figures.processStalls,
      stalledMs: figures.processStalledMs,
      delayMs: figures.processDelays ?? null,
      lifetimeDelayMs: figures.lifetimeDelays ?? null,
      threads: figures.threads.map(({ name, inFlight, cpu, utilization, stalls, measuredAtMs }) => ({
        name,
        inFlight,
        cpuPercent: percent(cpu),
        utilization: utilization ?? null,
        stalls,
        ageMs: measuredAtMs === undefined ? null : Math.max(0, nowMs - measuredAtMs),
      })),
    },
    collections: own.collections,
    watcherCpuPercent: percent(figures.ownCpu),
    ages,
  };
}

/** @internal */
export function stallOf(figures: StallFigures, nowMs: number): Stall {
  const { id, thread, sinceMs, durationMs, noticedAfterMs, cause, systemCall, onCpu, waiting, label, inFlight } = figures;
  return Object.freeze({
    id,
    thread,
    startedAt: wallClockMs() - (nowMs - sinceMs),
    durationMs,
    noticedAfterMs,
    cause: cause as StallCause,
    systemCall: systemCall ?? null,
    onCpu: onCpu ?? null,
    waiting: waiting ?? null,
    label: label === '' ? null : label,
    inFlight,
  });
}

function limitOf({ source, limit, used, percent, level }: WatchFigures['limits'][number]): MemoryLimit {
  return { source: source as MemoryLimit['source'], limitMb: limit / MB, usedMb: used / MB, percent, level };
}

function pressureOf(figures: WatchFigures['memoryPressure']): PressureStall | null {
  if (figures === undefined) return null;
  const { some10, some60, full10, isOwn } = figures;
  return { some10, some60, full10: full10 ?? null, scope: isOwn ? 'cgroup' : 'system' };
}
