/** What the process uses, whether it is healthy, and when its event loop is blocked. */
import { wallClockMs } from '../base/clock.js';
import { ArgumentRangeError, PortcullisError, wrongType } from '../base/errors.js';
import { Hooks } from '../base/hooks.js';
import { resourceCells, ResourceWatch } from '../native/addon.js';
import type { TimerHandle } from '../timers/handle.js';
import { TimerManager } from '../timers/manager.js';
import type {
  CollectionRecord,
  ResourceMetrics,
  ResourceSnapshot,
  ResourceState,
  Stall,
  StateChange,
} from './figures.js';
import { collector, GcPacer, heap } from './heap.js';
import { type MemoryLimits, resourceLimits, type ResourceLimitsInput } from './limits.js';
import {
  type CheckedOptions,
  checkOptions,
  type CountsConnections,
  countsConnections,
  type ResourceMonitorOptions,
} from './options.js';
import { known, MB, snapshotOf, stallOf, STATES } from './snapshot.js';
import { readWakeSocket } from './wake-socket.js';

// The cells shared with the watcher: where they are is said once, by the core.
const NAMES = resourceCells();
const [IN_FLIGHT, REQUESTS, BEGUN, LABEL] = [
  cell('IN_FLIGHT'),
  cell('REQUESTS'),
  cell('BEGUN'),
  cell('LABEL'),
];
const [HEAP_USED, HEAP_LIMIT, LEVEL, PERCENT] = [
  cell('HEAP_USED'),
  cell('HEAP_LIMIT'),
  cell('LEVEL'),
  cell('PERCENT'),
];
const [RSS, CPU_PERCENT, OTHERS_IN_FLIGHT] = [
  cell('RSS'),
  cell('CPU_PERCENT'),
  cell('OTHERS_IN_FLIGHT'),
];

function cell(name: string): number {
  const at = NAMES.indexOf(name);
  if (at < 0) throw new PortcullisError('ERR_INTERNAL', `the native core has no cell ${name}`);
  return at;
}

const NEWS_LEVEL = 1;
const NEWS_STALL = 2;
const CRITICAL = 2;
/** As often as in the plan. */
const POLL_MS = 5000;
const HEAP_EVERY_MS = 1000;
const KEPT = 64;
const LABELS_MAX = 1024;
const OTHER = 'other';

/**
 * Watches what the process uses and whether this thread's event loop turns. A native thread does
 * the work: `isHealthy()` and `getMetrics()` read what it wrote, and a blocked loop is noticed while
 * it is blocked. Every worker makes a monitor of its own; process-wide figures cover them all.
 *
 * Linux has every figure. Elsewhere there are memory and CPU of the process, and the machine's
 * memory; figures of cgroups, PSI and threads are `null`.
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
  readonly #managers = new Set<CountsConnections>();
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
  constructor(
    limits: ResourceLimitsInput,
    timerManager: TimerManager,
    options: ResourceMonitorOptions = {},
  ) {
    if (limits === undefined) throw wrongType('limits', limits, 'an object');
    this.#memory = resourceLimits(limits).memory;
    if (!(timerManager instanceof TimerManager))
      throw wrongType('timerManager', timerManager, 'a TimerManager');
    const checked = checkOptions(options);
    this.#options = checked.given;
    this.#retryAfterMs = checked.retryAfterMs;
    this.#pacer =
      checked.given.gc === false
        ? undefined
        : new GcPacer(this.#memory.gcInterval, checked.gcBudget);
    for (const manager of checked.managers) this.#managers.add(manager);
    this.#cells.fill(Number.NaN, HEAP_USED);
    this.#measureHeap();
    this.#watch = open(this.#cells, this.#memory, checked);
    this.#closeWaker = readWakeSocket(this.#watch.takeDescriptor(), () => this.#look());
    try {
      this.#poll = timerManager.setInterval(() => this.#tick(), {
        delayMs: POLL_MS,
        ref: false,
        name: 'resources.poll',
      });
    } catch (error) {
      // Strict timers that were cleaned up: nobody would ever end the watch.
      this.#watch.close();
      this.#closeWaker();
      throw error;
    }
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

  /**
   * Everything that is known. Some 10 to 100 µs: not for hot paths.
   * @throws ERR_CLOSED once it was stopped
   */
  snapshot(): ResourceSnapshot {
    const figures = this.#watch.figures();
    if (figures === null)
      throw new PortcullisError('ERR_CLOSED', 'the monitor was stopped: there is no snapshot');
    return snapshotOf(figures, {
      activeConnections: this.#connections(),
      heapUsed: this.#cells[HEAP_USED]!,
      heapLimit: this.#cells[HEAP_LIMIT]!,
      heapAtMs: this.#heapAtMs,
      collections: [...this.#collections],
    });
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
    if (typeof text !== 'string' || text === '')
      throw wrongType('label', text, 'a string that is not empty');
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

  /** Whether `shedMs()` refuses any: to ask this does not count as one that comes. @internal */
  get isPressed(): boolean {
    // NaN is no pressure.
    return this.#retryAfterMs !== 0 && this.#cells[PERCENT]! > this.#memory.warningThreshold;
  }

  /**
   * Whether to refuse what comes now: 0 to let it in, or the milliseconds after which it may come
   * again. Between the warning and the critical threshold so many of a hundred are refused as memory
   * has come of the way, at and above the critical threshold all. Always 0 unless `shedding` is on.
   * Not for liveness probes: a server that refuses is alive.
   */
  shedMs(): number {
    if (!this.isPressed) return 0;
    const { warningThreshold, criticalThreshold } = this.#memory;
    const share =
      (this.#cells[PERCENT]! - warningThreshold) / (criticalThreshold - warningThreshold);
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
  attach(manager: CountsConnections): void {
    if (!countsConnections(manager)) throw wrongType('manager', manager, 'a ConnectionManager');
    this.#managers.add(manager);
  }

  /** Counts a manager's connections no longer. */
  detach(manager: CountsConnections): void {
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
      const change = {
        from: STATES[from] ?? 'ok',
        to: STATES[to] ?? 'ok',
        percent,
        at: wallClockMs() - (nowMs - atMs),
      };
      this.#state = change.to;
      this.#tell(change);
      this.#hooks.run('onStateChange', () => this.#options.onStateChange?.(change));
    }
  }

  #tell({ from, to, percent }: StateChange): void {
    const binding = this.#watch.figures()?.binding;
    const details = {
      current: (binding?.used ?? Number.NaN) / MB,
      limit: (binding?.limit ?? Number.NaN) / MB,
      percent,
      source: binding?.source,
      from,
    };
    if (to === 'critical') this.#log('error', 'CRITICAL: Memory usage exceeds threshold', details);
    else if (to === 'warning') this.#log('warn', 'WARNING: Memory usage high', details);
    else this.#log('info', 'Memory usage back to normal', details);
  }

  #log(
    level: 'info' | 'warn' | 'error',
    message: string,
    details: Readonly<Record<string, unknown>>,
  ): void {
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
    this.#log(
      'warn',
      `memory.maxHeapSize is above the limit of the ${lowest.source}, which binds first`,
      { maxHeapSize, limit, source: lowest.source },
    );
  }
}

function toConsole(
  level: 'info' | 'warn' | 'error',
  message: string,
  details: Readonly<Record<string, unknown>>,
): void {
  globalThis.console[level](message, details);
}

function open(
  cells: Float64Array,
  memory: Readonly<MemoryLimits>,
  checked: CheckedOptions,
): ResourceWatch {
  const { given, name, stallMs, log } = checked;
  try {
    return new ResourceWatch(cells, {
      name,
      root: given.root ?? '',
      maxHeapBytes: memory.maxHeapSize * MB,
      warning: memory.warningThreshold,
      critical: memory.criticalThreshold,
      ...(stallMs === undefined ? {} : { stallMs }),
      ...(log === undefined ? {} : { log }),
    });
  } catch (error) {
    if (log === undefined || log === '') throw error;
    const said = error instanceof Error ? error.message : String(error);
    throw new ArgumentRangeError(`stalls.log.file cannot be written: ${said}`, {
      field: 'stalls.log.file',
      value: JSON.stringify(log.slice(0, 40)),
      allowed: 'a file that can be appended to',
    });
  }
}
