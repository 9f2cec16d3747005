/** What the process uses, whether it is healthy, and when its event loop is blocked. */
import { isMainThread, threadId } from 'node:worker_threads';
import { ResourceWatch, resourceCells, type StallFigures, type WatchFigures } from './native.js';
import { wallClockMs } from './clock.js';
import { ConnectionManager } from './connections.js';
import { GcPacer, collector, heap } from './engine.js';
import { PortcullisError, knownOptions, outOfRange, wholeNumber, wrongType } from './errors.js';
import { Hooks } from './hooks.js';
import { type MemoryLimits, type ResourceLimitsInput, resourceLimits } from './resource-limits.js';
import { type TimerHandle, TimerManager } from './timers.js';
import { listen } from './waker.js';

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
    }[];
  };
  /** The last 64 collections that were asked for. */
  readonly collections: readonly CollectionRecord[];
  /** The watcher's own CPU, percent of one core. */
  readonly watcherCpuPercent: number | null;
}

/** Where lines about transitions go. */
export type ResourceLog = (level: 'info' | 'warn' | 'error', message: string, details: Readonly<Record<string, unknown>>) => void;

/** Options of a monitor. */
export interface ResourceMonitorOptions {
  /** The thread's name in reports: 1 to 100 characters. Default `main`, in workers `worker` and its number. */
  readonly name?: string | undefined;
  /** Whose connections are counted. A manager made with the option `monitor` adds itself. Managers that share a name share their count: give one of them. */
  readonly connections?: ConnectionManager | readonly ConnectionManager[] | undefined;
  /** The stall watch; `false` for none. */
  readonly stalls?:
    | {
        /** From how long on a block is a stall: 20 to 60000 ms. Default 100. */
        readonly thresholdMs?: number | undefined;
        /** Where a line is written when one is noticed and when it is over, at most 20 at once and then one a second. Default: nowhere. */
        readonly log?: 'stderr' | { readonly file: string } | undefined;
      }
    | false
    | undefined;
  /** Called when a stall is over. */
  readonly onStall?: ((stall: Stall) => void) | undefined;
  /** Called after a change of state. */
  readonly onStateChange?: ((change: StateChange) => void) | undefined;
  /** Called after a collection that the monitor asked for. */
  readonly onCollect?: ((record: CollectionRecord) => void) | undefined;
  /** Where one line per transition goes; `false` for nowhere. Default: the console. */
  readonly log?: ResourceLog | false | undefined;
  /** Whether garbage collection is asked for at `critical`, and the most of all time it may take: above 0, at most 0.5. Default 0.01. */
  readonly gc?: { readonly budget?: number | undefined } | false | undefined;
  /** Whether `shedMs()` refuses, and about how long clients are told to stay away: 1 to 2^30 ms, by default 5000, up to half more or less. Default `false`. */
  readonly shedding?: boolean | { readonly retryAfterMs?: number | undefined } | undefined;
  /** Put before `/proc` and `/sys`, for tests with files of their own. */
  readonly root?: string | undefined;
}

// The cells shared with the watcher: where they are is said once, by the core.
const NAMES = resourceCells();
const [IN_FLIGHT, REQUESTS, BEGUN, LABEL] = [cell('IN_FLIGHT'), cell('REQUESTS'), cell('BEGUN'), cell('LABEL')];
const [HEAP_USED, HEAP_LIMIT, LEVEL, PERCENT] = [cell('HEAP_USED'), cell('HEAP_LIMIT'), cell('LEVEL'), cell('PERCENT')];
const [RSS, CPU_PERCENT, OTHERS_IN_FLIGHT] = [cell('RSS'), cell('CPU_PERCENT'), cell('OTHERS_IN_FLIGHT')];

function cell(name: string): number {
  const at = NAMES.indexOf(name);
  if (at < 0) throw new PortcullisError('ERR_INTERNAL', `the native core has no cell ${name}`);
  return at;
}

const NEWS_LEVEL = 1;
const NEWS_STALL = 2;
const CRITICAL = 2;
const STATES: readonly ResourceState[] = ['ok', 'warning', 'critical'];
const MB = 2 ** 20;
/** As often as in the plan. */
const POLL_MS = 5000;
const HEAP_EVERY_MS = 1000;
const KEPT = 64;
const LABELS_MAX = 1024;
const OTHER = 'other';
const TIME_MAX_MS = 2 ** 30;

/**
 * Watches what the process uses and whether this thread's event loop turns. A native thread does
 * the work: `isHealthy()` and `getMetrics()` read what it wrote, and a blocked loop is noticed while
 * it is blocked. Every worker makes a monitor of its own; process-wide figures cover them all.
 *
 * Linux has every figure. Elsewhere there are no cgroups, CPU or thread figures: they are `null`.
 *
 * @example
 * const monitor = new ResourceMonitor({ memory: { maxHeapSize: 512 } }, timers, {
 *   stalls: { thresholdMs: 100, log: 'stderr' },
 *   onStall: (stall) => console.warn(stall.durationMs, stall.cause, stall.label),
 * });
 * monitor.isHealthy();
 */
export class ResourceMonitor {
  readonly #cells = new Float64Array(new SharedArrayBuffer(NAMES.length * 8));
  readonly #watch: ResourceWatch;
  readonly #memory: Readonly<MemoryLimits>;
  readonly #options: ResourceMonitorOptions;
  readonly #managers = new Set<ConnectionManager>();
  readonly #labels = new Map<string, number>();
  readonly #pacer: GcPacer | undefined;
  readonly #collections: CollectionRecord[] = [];
  readonly #hooks = new Hooks();
  readonly #retryAfterMs: number;
  readonly #poll: TimerHandle;
  readonly #closeWaker: () => void;
  readonly #forget: () => void;
  /** Refusals owed: one is made for each whole. */
  #owed = 0;
  #heapAtMs = 0;
  #lastStall = 0;
  #state: ResourceState = 'ok';
  #isStopped = false;

  /**
   * @param limits the plan's limits, some or all; `memory` is what is watched
   * @param timerManager owns the timer with which JavaScript looks at the results; its `cleanup()` stops the monitor
   * @param options see `ResourceMonitorOptions`
   * @throws ERR_INVALID_ARG_TYPE, ERR_OUT_OF_RANGE, ERR_UNKNOWN_OPTION, naming the field
   */
  constructor(limits: ResourceLimitsInput, timerManager: TimerManager, options: ResourceMonitorOptions = {}) {
    if (limits === undefined) throw wrongType('limits', limits, 'an object');
    this.#memory = resourceLimits(limits).memory;
    if (!(timerManager instanceof TimerManager)) throw wrongType('timerManager', timerManager, 'a TimerManager');
    const checked = checkOptions(options);
    this.#options = options;
    this.#retryAfterMs = checked.retryAfterMs;
    this.#pacer = options.gc === false ? undefined : new GcPacer(this.#memory.gcInterval, checked.gcBudget);
    for (const manager of checked.managers) this.#managers.add(manager);
    this.#cells.fill(Number.NaN, HEAP_USED);
    this.#measureHeap();
    this.#watch = open(this.#cells, this.#memory, options, checked);
    this.#closeWaker = listen(this.#watch.takeDescriptor(), () => this.#look());
    this.#poll = timerManager.setInterval(() => this.#tick(), { delayMs: POLL_MS, ref: false, name: 'resources.poll' });
    this.#forget = timerManager.onCleanup(() => this.stop());
    this.#checkMaxHeapSize();
    this.#look();
  }

  /** The plan's four figures. No native call but for counting connections, no system call. */
  getMetrics(): ResourceMetrics {
    const cells = this.#cells;
    return {
      memoryUsage: known(cells[RSS]! / MB),
      activeConnections: this.#connections(),
      activeRequests: cells[IN_FLIGHT]! + (known(cells[OTHERS_IN_FLIGHT]!) ?? 0),
      cpuUsage: known(cells[CPU_PERCENT]!),
    };
  }

  /** Whether memory is below the critical threshold: one load. True while memory cannot be read. */
  isHealthy(): boolean {
    return !(this.#cells[LEVEL]! >= CRITICAL);
  }

  /** What is watched of memory. */
  get memoryLimits(): Readonly<MemoryLimits> {
    return this.#memory;
  }

  /** The state, with hysteresis: it does not flap at a threshold. */
  get state(): ResourceState {
    return STATES[this.#cells[LEVEL]!] ?? 'ok';
  }

  /** Everything that is known. Some 10 to 100 µs: not for hot paths. */
  snapshot(): ResourceSnapshot {
    const figures = this.#watch.figures();
    if (figures === null) throw new PortcullisError('ERR_CLOSED', 'the monitor was stopped: there is no snapshot');
    const { nowMs } = figures;
    const pressures = [figures.memoryPressure, figures.cpuPressure, figures.ioPressure].map(pressureOf);
    const [memoryPressure = null, cpuPressure = null, ioPressure = null] = pressures;
    const megabytes = (bytes: number | undefined): number | null => (bytes === undefined ? null : bytes / MB);
    const percent = (share: number | undefined): number | null => (share === undefined ? null : share * 100);
    return {
      state: STATES[figures.level] ?? 'ok',
      isHealthy: figures.level < CRITICAL,
      activeConnections: this.#connections(),
      activeRequests: figures.threads.reduce((sum, thread) => sum + thread.inFlight, 0),
      memory: {
        ageMs: nowMs - figures.sampledAtMs,
        rssMb: megabytes(figures.rss),
        anonymousMb: megabytes(figures.anonymous),
        workingSetMb: megabytes(figures.workingSet),
        hostTotalMb: megabytes(figures.total),
        hostAvailableMb: megabytes(figures.available),
        heapUsedMb: this.#cells[HEAP_USED]! / MB,
        heapLimitMb: known(this.#cells[HEAP_LIMIT]! / MB),
        heapAgeMs: nowMs - this.#heapAtMs,
        effectiveLimit: figures.binding === undefined ? null : limitOf(figures.binding),
        limits: figures.limits.map(limitOf),
        cgroupVersion: figures.cgroupVersion ?? null,
        oomKills: figures.oomKills ?? null,
        pressure: memoryPressure,
      },
      cpu: {
        ageMs: figures.usedCpus === undefined ? null : nowMs - figures.cpuAtMs,
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
        threads: figures.threads.map(({ name, inFlight, cpu, utilization, stalls }) => ({
          name,
          inFlight,
          cpuPercent: percent(cpu),
          utilization: utilization ?? null,
          stalls,
        })),
      },
      collections: [...this.#collections],
      watcherCpuPercent: percent(figures.ownCpu),
    };
  }

  /** The last 64 stalls, the oldest first; none once the monitor was stopped. */
  stalls(): readonly Stall[] {
    const nowMs = this.#watch.nowMs();
    return this.#watch.stalls(0).map((stall) => stallOf(stall, nowMs));
  }

  /**
   * The number of a label, to be given to `requestStarted` and `mark`: the pattern of a route or the
   * type of a message, never what a client chose. Of more than 1,022 all others share one number.
   * @param text cut to 200 characters
   * @throws ERR_INVALID_ARG_TYPE unless it is a string that is not empty
   */
  label(text: string): number {
    if (typeof text !== 'string' || text === '') throw wrongType('label', text, 'a string that is not empty');
    const key = text.slice(0, 200);
    const present = this.#labels.get(key);
    if (present !== undefined) return present;
    if (this.#labels.size < LABELS_MAX - 2) return this.#name(key);
    return this.#labels.get(OTHER) ?? this.#name(OTHER);
  }

  #name(text: string): number {
    const number = this.#labels.size + 1;
    this.#labels.set(text, number);
    this.#watch.label(number, text);
    return number;
  }

  /**
   * Counts a request that begins. A few stores.
   * @param label from `label()`; 0 for none
   */
  requestStarted(label = 0): void {
    const cells = this.#cells;
    cells[IN_FLIGHT]!++;
    cells[REQUESTS]!++;
    cells[BEGUN]!++;
    cells[LABEL] = label >>> 0;
  }

  /** Counts a request that is over. Calls too many are ignored. */
  requestEnded(): void {
    const cells = this.#cells;
    if (cells[IN_FLIGHT]! > 0) cells[IN_FLIGHT]!--;
    if (cells[IN_FLIGHT] === 0) cells[LABEL] = 0;
  }

  /**
   * Says what runs from now on, such as the handler of a message: a stall is told with it.
   * @param label from `label()`; 0 for nothing
   */
  mark(label: number): void {
    this.#cells[BEGUN]!++;
    this.#cells[LABEL] = label >>> 0;
  }

  /**
   * Whether to refuse what comes now: 0 to let it in, or the milliseconds after which it may come
   * again. Between the warning and the critical threshold so many of a hundred are refused as memory
   * has come of the way, at and above the critical threshold all. Always 0 unless `shedding` is on.
   * Not for liveness probes: a server that refuses is alive.
   */
  shedMs(): number {
    if (this.#retryAfterMs === 0) return 0;
    const { warningThreshold, criticalThreshold } = this.#memory;
    const share = (this.#cells[PERCENT]! - warningThreshold) / (criticalThreshold - warningThreshold);
    // NaN is no pressure.
    if (!(share > 0)) return 0;
    this.#owed += Math.min(1, share);
    if (this.#owed < 1 - 1e-9) return 0;
    this.#owed -= 1;
    // Not all at once: those refused together come back apart.
    return Math.ceil(this.#retryAfterMs * (0.5 + Math.random()));
  }

  /**
   * Counts a manager's connections, too.
   * @throws ERR_INVALID_ARG_TYPE
   */
  attach(manager: ConnectionManager): void {
    if (!(manager instanceof ConnectionManager)) throw wrongType('manager', manager, 'a ConnectionManager');
    this.#managers.add(manager);
  }

  /** Counts a manager's connections no longer. */
  detach(manager: ConnectionManager): void {
    this.#managers.delete(manager);
  }

  /** Ends the watch at once; the figures stay as they are. May be called again. */
  stop(): void {
    if (this.#isStopped) return;
    this.#isStopped = true;
    this.#poll.close();
    this.#forget();
    this.#watch.close();
    this.#closeWaker();
  }

  [Symbol.dispose](): void {
    this.stop();
  }

  #connections(): number {
    let sum = 0;
    for (const manager of this.#managers) sum += manager.total;
    return sum;
  }

  #measureHeap(): void {
    const { usedBytes, limitBytes } = heap();
    this.#cells[HEAP_USED] = usedBytes;
    this.#cells[HEAP_LIMIT] = limitBytes;
  }

  #tick(): void {
    this.#measureHeap();
    this.#heapAtMs = this.#watch.nowMs();
    this.#look();
    if (this.#state === 'critical' && !this.#isStopped) this.#collect(this.#watch.nowMs());
  }

  /** The loop turns: says so, and takes in what is new. */
  #look(): void {
    if (this.#isStopped) return;
    const news = this.#watch.answer();
    if (this.#heapAtMs === 0) this.#heapAtMs = this.#watch.nowMs();
    if (news === 0) return;
    if ((news & NEWS_STALL) !== 0) this.#takeStalls();
    if ((news & NEWS_LEVEL) !== 0) this.#takeLevels();
    if (this.#isStopped) return;
    const nowMs = this.#watch.nowMs();
    if (nowMs - this.#heapAtMs >= HEAP_EVERY_MS) {
      this.#measureHeap();
      this.#heapAtMs = nowMs;
    }
    if (this.#state === 'critical') this.#collect(nowMs);
  }

  #takeStalls(): void {
    const nowMs = this.#watch.nowMs();
    for (const figures of this.#watch.stalls(this.#lastStall)) {
      this.#lastStall = figures.id;
      const stall = stallOf(figures, nowMs);
      this.#hooks.run('onStall', () => this.#options.onStall?.(stall));
    }
  }

  #takeLevels(): void {
    const nowMs = this.#watch.nowMs();
    for (const { atMs, from, to, percent } of this.#watch.levels()) {
      const change = { from: STATES[from] ?? 'ok', to: STATES[to] ?? 'ok', percent, at: wallClockMs() - (nowMs - atMs) };
      this.#state = change.to;
      this.#tell(change);
      this.#hooks.run('onStateChange', () => this.#options.onStateChange?.(change));
    }
  }

  #tell({ from, to, percent }: StateChange): void {
    const binding = this.#watch.figures()?.binding;
    const details = { current: (binding?.used ?? Number.NaN) / MB, limit: (binding?.limit ?? Number.NaN) / MB, percent, source: binding?.source, from };
    if (to === 'critical') this.#log('error', 'CRITICAL: Memory usage exceeds threshold', details);
    else if (to === 'warning') this.#log('warn', 'WARNING: Memory usage high', details);
    else this.#log('info', 'Memory usage back to normal', details);
  }

  #log(level: 'info' | 'warn' | 'error', message: string, details: Readonly<Record<string, unknown>>): void {
    const { log = toConsole } = this.#options;
    if (log === false) return;
    this.#hooks.run('log', () => log(level, message, details));
  }

  #collect(nowMs: number): void {
    if (this.#pacer?.isDue(nowMs) !== true) return;
    const collect = collector();
    if (collect === undefined) return;
    const before = heap().usedBytes;
    const label = this.#cells[LABEL]!;
    this.mark(this.label('garbage collection'));
    collect();
    this.mark(label);
    const endedMs = this.#watch.nowMs();
    const freed = before - heap().usedBytes;
    this.#pacer.done(endedMs, endedMs - nowMs, freed / before);
    const record = { at: wallClockMs(), durationMs: endedMs - nowMs, freedMb: freed / MB };
    if (this.#collections.push(record) > KEPT) this.#collections.shift();
    this.#hooks.run('onCollect', () => this.#options.onCollect?.(record));
  }

  /** A limit that the process never reaches before it is killed protects nothing. */
  #checkMaxHeapSize(): void {
    const { maxHeapSize } = this.#memory;
    const lowest = this.#watch
      .figures()
      ?.limits.filter(({ source }) => source !== 'cgroup_high')
      .toSorted((a, b) => a.limit - b.limit)[0];
    if (lowest === undefined || lowest.limit >= maxHeapSize * MB) return;
    const limit = lowest.limit / MB;
    this.#log('warn', `memory.maxHeapSize is above the limit of the ${lowest.source}, which binds first`, { maxHeapSize, limit, source: lowest.source });
  }
}

const known = (figure: number): number | null => (Number.isNaN(figure) ? null : figure);

function toConsole(level: 'info' | 'warn' | 'error', message: string, details: Readonly<Record<string, unknown>>): void {
  globalThis.console[level](message, details);
}

function stallOf(figures: StallFigures, nowMs: number): Stall {
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

interface Checked {
  readonly name: string;
  readonly managers: readonly ConnectionManager[];
  readonly stallMs: number | undefined;
  readonly log: string | undefined;
  readonly gcBudget: number;
  readonly retryAfterMs: number;
}

function open(cells: Float64Array, memory: Readonly<MemoryLimits>, options: ResourceMonitorOptions, checked: Checked): ResourceWatch {
  const { name, stallMs, log } = checked;
  try {
    return new ResourceWatch(cells, {
      name,
      root: options.root ?? '',
      maxHeapBytes: memory.maxHeapSize * MB,
      warning: memory.warningThreshold,
      critical: memory.criticalThreshold,
      ...(stallMs === undefined ? {} : { stallMs }),
      ...(log === undefined ? {} : { log }),
    });
  } catch (error) {
    if (log === undefined || log === '') throw error;
    const said = error instanceof Error ? error.message : String(error);
    throw new PortcullisError('ERR_OUT_OF_RANGE', `stalls.log.file cannot be written: ${said}`, {
      field: 'stalls.log.file',
      value: JSON.stringify(log.slice(0, 40)),
      allowed: 'a file that can be appended to',
    });
  }
}

const HOOKS = ['onStall', 'onStateChange', 'onCollect'] as const;

function checkOptions(options: ResourceMonitorOptions): Checked {
  if (typeof options !== 'object' || options === null) throw wrongType('options', options, 'an object');
  knownOptions('ResourceMonitor', options, ['name', 'connections', 'stalls', ...HOOKS, 'log', 'gc', 'shedding', 'root']);
  const { name = defaultName(), connections, log, root } = options;
  if (typeof name !== 'string' || name === '' || name.length > 100) throw wrongType('name', name, 'a string of 1 to 100 characters');
  const managers =
    connections === undefined ? [] : Array.isArray(connections) ? (connections as readonly ConnectionManager[]) : [connections as ConnectionManager];
  for (const manager of managers) {
    if (!(manager instanceof ConnectionManager)) throw wrongType('connections', manager, 'a ConnectionManager, or an array of them');
  }
  for (const hook of HOOKS) {
    if (options[hook] !== undefined && typeof options[hook] !== 'function') throw wrongType(hook, options[hook], 'a function');
  }
  if (log !== undefined && log !== false && typeof log !== 'function') throw wrongType('log', log, 'a function or false');
  if (root !== undefined && typeof root !== 'string') throw wrongType('root', root, 'a path');
  return {
    name: name.replaceAll(/\p{Cc}/gu, '?'),
    managers,
    ...checkStalls(options.stalls),
    gcBudget: checkGc(options.gc),
    retryAfterMs: checkShedding(options.shedding),
  };
}

function defaultName(): string {
  return isMainThread ? 'main' : `worker ${threadId}`;
}

function checkStalls(stalls: ResourceMonitorOptions['stalls']): Pick<Checked, 'stallMs' | 'log'> {
  if (stalls === false) return { stallMs: undefined, log: undefined };
  if (stalls === undefined) return { stallMs: 100, log: undefined };
  if (typeof stalls !== 'object' || stalls === null) throw wrongType('stalls', stalls, 'an object or false');
  knownOptions('stalls', stalls, ['thresholdMs', 'log']);
  const stallMs = wholeNumber('stalls.thresholdMs', stalls.thresholdMs, 20, 60_000, 100);
  const { log } = stalls;
  if (log === undefined || log === 'stderr') return { stallMs, log: log === undefined ? undefined : '' };
  const allowed = "'stderr' or { file }";
  if (typeof log !== 'object' || log === null) throw wrongType('stalls.log', log, allowed);
  knownOptions('stalls.log', log, ['file']);
  if (typeof log.file !== 'string' || log.file === '' || log.file.includes('\0')) throw wrongType('stalls.log.file', log.file, 'a path');
  return { stallMs, log: log.file };
}

function checkGc(gc: ResourceMonitorOptions['gc']): number {
  if (gc === undefined || gc === false) return 0.01;
  if (typeof gc !== 'object' || gc === null) throw wrongType('gc', gc, 'an object or false');
  knownOptions('gc', gc, ['budget']);
  const { budget = 0.01 } = gc;
  const allowed = 'a number above 0, at most 0.5';
  if (typeof budget !== 'number') throw wrongType('gc.budget', budget, allowed);
  if (!(budget > 0 && budget <= 0.5)) throw outOfRange('gc.budget', budget, allowed);
  return budget;
}

function checkShedding(shedding: ResourceMonitorOptions['shedding']): number {
  if (shedding === undefined || shedding === false) return 0;
  if (shedding === true) return 5000;
  if (typeof shedding !== 'object' || shedding === null) throw wrongType('shedding', shedding, 'a boolean or an object');
  knownOptions('shedding', shedding, ['retryAfterMs']);
  return wholeNumber('shedding.retryAfterMs', shedding.retryAfterMs, 1, TIME_MAX_MS, 5000);
}
