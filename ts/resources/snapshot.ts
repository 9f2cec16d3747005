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
  StalledRequest,
} from './figures.js';

/** Bytes of one MB. @internal */
export const MB = 2 ** 20;
/** States by the number of their native level. @internal */
export const STATES: readonly ResourceState[] = ['ok', 'warning', 'critical'];

/**
 * Returns the figure, or `null` for NaN, which stands for "not known" in shared cells.
 * @internal
 */
export const nullIfNaN = (figure: number): number | null => (Number.isNaN(figure) ? null : figure);

/** Figures of the monitor's own thread; sizes in bytes. */
interface OwnFigures {
  readonly activeConnections: number;
  readonly heapUsed: number;
  readonly heapLimit: number;
  readonly heapAtMs: number;
  readonly collections: readonly CollectionRecord[];
  /** Returns the requests of a stall. */
  readonly requestsOf: (stall: number) => readonly StalledRequest[];
}

/** Builds a snapshot. @internal */
export function snapshotOf(figures: WatchFigures, own: OwnFigures): ResourceSnapshot {
  const ages = agesOf(figures, own);
  return {
    state: STATES[figures.level] ?? 'ok',
    isHealthy: figures.level < STATES.length - 1,
    activeConnections: own.activeConnections,
    activeRequests: figures.threads.reduce((sum, thread) => sum + thread.inFlight, 0),
    memory: memoryOf(figures, own),
    cpu: cpuOf(figures, ages.cpu.usedCpus),
    host: hostOf(figures),
    io: { pressure: pressureOf(figures.ioPressure) },
    loop: loopOf(figures, own),
    process: processOf(figures),
    collections: own.collections,
    watcherCpuPercent: percent(figures.ownCpu),
    ages,
  };
}

const megabytes = (bytes: number | undefined): number | null =>
  bytes === undefined ? null : bytes / MB;
const percent = (share: number | undefined): number | null =>
  share === undefined ? null : share * 100;

function memoryOf(figures: WatchFigures, own: OwnFigures): ResourceSnapshot['memory'] {
  const { nowMs } = figures;
  return {
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
    pressure: pressureOf(figures.memoryPressure),
  };
}

function cpuOf(figures: WatchFigures, ageMs: number | null): ResourceSnapshot['cpu'] {
  return {
    ageMs,
    percentOfAllowed: figures.cpuPercent ?? null,
    usedCpus: figures.usedCpus ?? null,
    allowedCpus: figures.allowedCpus ?? null,
    cpus: figures.cpus ?? null,
    quotaCpus: figures.quotaCpus ?? null,
    throttledPercent: figures.throttledPercent ?? null,
    jsThreadPercent: percent(figures.threadCpu),
    pressure: pressureOf(figures.cpuPressure),
  };
}

function hostOf(figures: WatchFigures): ResourceSnapshot['host'] {
  const [load1 = null, load5 = null, load15 = null] = figures.load ?? [];
  return {
    cpus: figures.machineCpus ?? null,
    load1,
    load5,
    load15,
    swapTotalMb: megabytes(figures.swapTotal),
    swapUsedMb: megabytes(figures.swapUsed),
    startedAt: figures.started === undefined ? null : figures.started * 1000,
    openFiles: figures.openFiles ?? null,
    maxOpenFiles: figures.openFilesLimit ?? null,
  };
}

function hostAgesOf({ dates }: WatchFigures, age: AgeOf): ResourceAges['host'] {
  const load = age(dates.load);
  return {
    cpus: age(dates.machineCpus),
    load1: load,
    load5: load,
    load15: load,
    swapTotalMb: age(dates.swapTotal),
    swapUsedMb: age(dates.swapUsed),
    startedAt: age(dates.started),
    openFiles: age(dates.openFiles),
    maxOpenFiles: age(dates.openFilesLimit),
  };
}

function loopOf(figures: WatchFigures, { requestsOf }: OwnFigures): ResourceSnapshot['loop'] {
  const { stall, nowMs } = figures;
  return {
    watch: !figures.isWatched ? 'off' : figures.isSeen ? 'kernel' : 'challenge',
    utilization: figures.utilization ?? null,
    utilization10s: figures.recentUtilization ?? null,
    delayMs: figures.delays ?? null,
    stalls: figures.stalls,
    stall: stall === undefined ? null : stallOf(stall, nowMs, requestsOf(stall.id)),
    pauses: figures.pauses,
  };
}

function processOf(figures: WatchFigures): ResourceSnapshot['process'] {
  return {
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
      ageMs: measuredAtMs === undefined ? null : Math.max(0, figures.nowMs - measuredAtMs),
    })),
  };
}

/**
 * Builds the record of a stall.
 * @param nowMs the time of the watch's own clock, to convert its times to wall-clock time
 * @param requests the requests that it may belong to
 * @internal
 */
export function stallOf(
  figures: StallFigures,
  nowMs: number,
  requests: readonly StalledRequest[],
): Stall {
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
    onCpuShare: onCpu ?? null,
    waitingShare: waiting ?? null,
    label: label === '' ? null : label,
    inFlight,
    requests,
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
  const age: AgeOf = (atMs) => (atMs === undefined ? null : Math.max(0, nowMs - atMs));
  // State and health are as old as the last comparison with the limits.
  const judged = age(dates.binding);
  const looked = age(dates.looked);
  const allLooked = age(dates.allLooked);
  return {
    state: judged,
    isHealthy: judged,
    activeConnections: 0,
    activeRequests: 0,
    memory: memoryAgesOf(figures, own, age),
    cpu: cpuAgesOf(figures, age),
    host: hostAgesOf(figures, age),
    io: { pressure: age(dates.ioPressure) },
    loop: {
      utilization: age(dates.utilization),
      utilization10s: age(dates.utilization),
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

/** Returns the age of a figure that was found at a time of the watch's clock. */
type AgeOf = (atMs: number | undefined) => number | null;

function memoryAgesOf(
  { dates, sampledAtMs }: WatchFigures,
  own: OwnFigures,
  age: AgeOf,
): ResourceAges['memory'] {
  const heap = age(own.heapAtMs);
  return {
    rssMb: age(dates.rss),
    anonymousMb: age(dates.anonymous),
    workingSetMb: age(dates.workingSet),
    hostTotalMb: age(dates.total),
    hostAvailableMb: age(dates.available),
    heapUsedMb: heap,
    heapLimitMb: Number.isNaN(own.heapLimit) ? null : heap,
    effectiveLimit: age(dates.binding),
    limits: age(sampledAtMs),
    cgroupVersion: age(dates.cgroupVersion),
    oomKills: age(dates.oomKills),
    pressure: age(dates.memoryPressure),
  };
}

function cpuAgesOf({ dates, cpuPercent }: WatchFigures, age: AgeOf): ResourceAges['cpu'] {
  return {
    percentOfAllowed: cpuPercent === undefined ? null : age(dates.usedCpus),
    usedCpus: age(dates.usedCpus),
    allowedCpus: age(dates.allowedCpus),
    cpus: age(dates.cpus),
    quotaCpus: age(dates.quotaCpus),
    throttledPercent: age(dates.throttledPercent),
    jsThreadPercent: age(dates.threadCpu),
    pressure: age(dates.cpuPressure),
  };
}
