/** Builds snapshots, stalls and ages of figures from the figures of the native watch. */
import { wallClockMs } from '../base/clock.js';
import type { StallFigures } from '../native/addon.js';
import { AT } from './cells.js';
import type {
  CollectionRecord,
  ResourceAges,
  ResourceSnapshot,
  ResourceState,
  Stall,
  StallCause,
  StalledRequest,
} from './figures.js';
import { MB, nullIfNaN, type WatchFigures } from './watch-figures.js';

/** States by the number of their native level. @internal */
export const STATES: readonly ResourceState[] = ['ok', 'warning', 'critical'];

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
  const level = figures.number(AT.level);
  const process = processOf(figures);
  return {
    state: STATES[level] ?? 'ok',
    isHealthy: level < STATES.length - 1,
    activeConnections: own.activeConnections,
    activeRequests: process.threads.reduce((sum, thread) => sum + thread.inFlight, 0),
    memory: memoryOf(figures, own),
    cpu: cpuOf(figures),
    host: hostOf(figures),
    io: { pressure: figures.pressure(AT.ioPressure) },
    loop: loopOf(figures, own),
    process,
    collections: own.collections,
    watcherCpuPercent: figures.percent(AT.ownCpu),
    ages: agesOf(figures, own),
  };
}

function memoryOf(figures: WatchFigures, own: OwnFigures): ResourceSnapshot['memory'] {
  return {
    ageMs: figures.age(AT.sampledAt) ?? 0,
    rssMb: figures.megabytes(AT.rss),
    anonymousMb: figures.megabytes(AT.anonymous),
    workingSetMb: figures.megabytes(AT.workingSet),
    hostTotalMb: figures.megabytes(AT.total),
    hostAvailableMb: figures.megabytes(AT.available),
    heapUsedMb: own.heapUsed / MB,
    heapLimitMb: nullIfNaN(own.heapLimit / MB),
    heapAgeMs: Math.max(0, figures.nowMs - own.heapAtMs),
    effectiveLimit: figures.binding(),
    limits: figures.limits(),
    cgroupVersion: figures.value(AT.cgroupVersion),
    oomKills: figures.value(AT.oomKills),
    pressure: figures.pressure(AT.memoryPressure),
  };
}

function cpuOf(figures: WatchFigures): ResourceSnapshot['cpu'] {
  return {
    ageMs: figures.age(AT.usedCpus),
    percentOfAllowed: figures.value(AT.cpuPercent),
    usedCpus: figures.value(AT.usedCpus),
    allowedCpus: figures.value(AT.allowedCpus),
    cpus: figures.value(AT.cpus),
    quotaCpus: figures.value(AT.quotaCpus),
    throttledPercent: figures.value(AT.throttledPercent),
    jsThreadPercent: figures.percent(AT.threadCpu),
    pressure: figures.pressure(AT.cpuPressure),
  };
}

function hostOf(figures: WatchFigures): ResourceSnapshot['host'] {
  return {
    cpus: figures.value(AT.machineCpus),
    load1: figures.value(AT.load, 1),
    load5: figures.value(AT.load, 2),
    load15: figures.value(AT.load, 3),
    swapTotalMb: figures.megabytes(AT.swapTotal),
    swapUsedMb: figures.megabytes(AT.swapUsed),
    startedAt: nullIfNaN(figures.number(AT.started) * 1000),
    openFiles: figures.value(AT.openFiles),
    maxOpenFiles: figures.value(AT.openFilesLimit),
  };
}

function hostAgesOf(figures: WatchFigures): ResourceAges['host'] {
  const load = figures.age(AT.load);
  return {
    cpus: figures.age(AT.machineCpus),
    load1: load,
    load5: load,
    load15: load,
    swapTotalMb: figures.age(AT.swapTotal),
    swapUsedMb: figures.age(AT.swapUsed),
    startedAt: figures.age(AT.started),
    openFiles: figures.age(AT.openFiles),
    maxOpenFiles: figures.age(AT.openFilesLimit),
  };
}

function loopOf(figures: WatchFigures, { requestsOf }: OwnFigures): ResourceSnapshot['loop'] {
  const { stall, nowMs } = figures;
  const isWatched = figures.number(AT.isWatched) === 1;
  const isSeen = figures.number(AT.isSeen) === 1;
  return {
    watch: !isWatched ? 'off' : isSeen ? 'kernel' : 'challenge',
    utilization: figures.value(AT.utilization),
    utilization10s: figures.value(AT.recentUtilization),
    delayMs: figures.delays(AT.delays),
    stalls: figures.number(AT.stalls),
    stall: stall === undefined ? null : stallOf(stall, nowMs, requestsOf(stall.id)),
    pauses: figures.number(AT.pauses),
  };
}

function processOf(figures: WatchFigures): ResourceSnapshot['process'] {
  return {
    requests: figures.number(AT.processRequests),
    stalls: figures.number(AT.processStalls),
    stalledMs: figures.number(AT.processStalledMs),
    delayMs: figures.delays(AT.processDelays),
    lifetimeDelayMs: figures.delays(AT.lifetimeDelays),
    threads: figures.threads(),
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

/** Returns the age of each figure, ms. */
function agesOf(figures: WatchFigures, own: OwnFigures): ResourceAges {
  // State and health are as old as the last comparison with the limits.
  const judged = figures.age(AT.binding);
  return {
    state: judged,
    isHealthy: judged,
    activeConnections: 0,
    activeRequests: 0,
    memory: memoryAgesOf(figures, own),
    cpu: cpuAgesOf(figures),
    host: hostAgesOf(figures),
    io: { pressure: figures.age(AT.ioPressure) },
    loop: {
      utilization: figures.age(AT.utilization),
      utilization10s: figures.age(AT.recentUtilization),
      delayMs: figures.age(AT.delays),
      stalls: figures.age(AT.stalls),
      stall: figures.age(AT.stalls),
      pauses: figures.age(AT.pauses),
    },
    process: {
      requests: 0,
      stalls: figures.age(AT.processStalls),
      stalledMs: figures.age(AT.processStalledMs),
      delayMs: figures.age(AT.processDelays),
      lifetimeDelayMs: figures.age(AT.lifetimeDelays),
    },
    watcherCpuPercent: figures.age(AT.ownCpu),
  };
}

function memoryAgesOf(figures: WatchFigures, own: OwnFigures): ResourceAges['memory'] {
  const heap = figures.ageOf(own.heapAtMs);
  return {
    rssMb: figures.age(AT.rss),
    anonymousMb: figures.age(AT.anonymous),
    workingSetMb: figures.age(AT.workingSet),
    hostTotalMb: figures.age(AT.total),
    hostAvailableMb: figures.age(AT.available),
    heapUsedMb: heap,
    heapLimitMb: Number.isNaN(own.heapLimit) ? null : heap,
    effectiveLimit: figures.age(AT.binding),
    limits: figures.age(AT.sampledAt),
    cgroupVersion: figures.age(AT.cgroupVersion),
    oomKills: figures.age(AT.oomKills),
    pressure: figures.age(AT.memoryPressure),
  };
}

function cpuAgesOf(figures: WatchFigures): ResourceAges['cpu'] {
  return {
    percentOfAllowed: figures.age(AT.cpuPercent),
    usedCpus: figures.age(AT.usedCpus),
    allowedCpus: figures.age(AT.allowedCpus),
    cpus: figures.age(AT.cpus),
    quotaCpus: figures.age(AT.quotaCpus),
    throttledPercent: figures.age(AT.throttledPercent),
    jsThreadPercent: figures.age(AT.threadCpu),
    pressure: figures.age(AT.cpuPressure),
  };
}
