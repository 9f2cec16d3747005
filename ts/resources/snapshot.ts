/** Builds snapshots, stalls and ages of figures from the figures of the native watch. */
import { wallClockMs } from '../base/clock.js';
import type { StallFigures, WatchFigures } from '../native/addon.js';
import type {
  CollectionRecord,
  MemoryLimit,
  PressureStall,
  ResourceAges,
  ResourceSnapshot,
  ResourceState,
  Stall,
  StallCause,
} from './figures.js';

/** Bytes of one MB. @internal */
export const MB = 2 ** 20;
/** States by the number of their native level. @internal */
export const STATES: readonly ResourceState[] = ['ok', 'warning', 'critical'];

/** Returns the figure, or `null` for NaN, which stands for "not known" in shared cells. @internal */
export const nullIfNaN = (figure: number): number | null => (Number.isNaN(figure) ? null : figure);

/** Figures of the monitor's own thread; sizes in bytes. */
interface OwnFigures {
  readonly activeConnections: number;
  readonly heapUsed: number;
  readonly heapLimit: number;
  readonly heapAtMs: number;
  readonly collections: readonly CollectionRecord[];
}

/** Builds a snapshot. @internal */
export function snapshotOf(figures: WatchFigures, own: OwnFigures): ResourceSnapshot {
  const { nowMs } = figures;
  const ages = agesOf(figures, own);
  const pressures = [figures.memoryPressure, figures.cpuPressure, figures.ioPressure].map(
    pressureOf,
  );
  const [memoryPressure = null, cpuPressure = null, ioPressure = null] = pressures;
  const megabytes = (bytes: number | undefined): number | null =>
    bytes === undefined ? null : bytes / MB;
  const percent = (share: number | undefined): number | null =>
    share === undefined ? null : share * 100;
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
      heapLimitMb: nullIfNaN(own.heapLimit / MB),
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
      threads: figures.threads.map(
        ({ name, inFlight, cpu, utilization, stalls, measuredAtMs }) => ({
          name,
          inFlight,
          cpuPercent: percent(cpu),
          utilization: utilization ?? null,
          stalls,
          ageMs: measuredAtMs === undefined ? null : Math.max(0, nowMs - measuredAtMs),
        }),
      ),
    },
    collections: own.collections,
    watcherCpuPercent: percent(figures.ownCpu),
    ages,
  };
}

/**
 * Builds the record of a stall.
 * @param nowMs the time of the watch's own clock, to convert its times to wall-clock time
 * @internal
 */
export function stallOf(figures: StallFigures, nowMs: number): Stall {
  const {
    id,
    thread,
    sinceMs,
    durationMs,
    noticedAfterMs,
    cause,
    systemCall,
    onCpu,
    waiting,
    label,
    inFlight,
  } = figures;
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

function limitOf({
  source,
  limit,
  used,
  percent,
  level,
}: WatchFigures['limits'][number]): MemoryLimit {
  return {
    source: source as MemoryLimit['source'],
    limitMb: limit / MB,
    usedMb: used / MB,
    percent,
    level,
  };
}

function pressureOf(figures: WatchFigures['memoryPressure']): PressureStall | null {
  if (figures === undefined) return null;
  const { some10, some60, full10, isOwn } = figures;
  return {
    some10Percent: some10,
    some60Percent: some60,
    full10Percent: full10 ?? null,
    scope: isOwn ? 'cgroup' : 'system',
  };
}

/** Returns the age of each figure, ms. */
function agesOf(figures: WatchFigures, own: OwnFigures): ResourceAges {
  const { nowMs, dates } = figures;
  const age = (atMs: number | undefined): number | null =>
    atMs === undefined ? null : Math.max(0, nowMs - atMs);
  const looked = age(dates.looked);
  const allLooked = age(dates.allLooked);
  const sampled = age(figures.sampledAtMs);
  const heap = age(own.heapAtMs);
  // State and health are as old as the last comparison with the limits.
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
    loop: {
      utilization: age(dates.utilization),
      delayMs: age(dates.delays),
      stalls: looked,
      stall: looked,
      pauses: looked,
    },
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
