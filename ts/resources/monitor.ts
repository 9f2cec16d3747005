/**
 * The monitor of one thread: reads the figures of the native watcher, reports stalls and changes of
 * state, requests garbage collections and sheds load. Its length comes from the documented public
 * methods; options, log lines, heap and snapshot have modules of their own.
 */
import { wallClockMs } from '../base/clock.js';
import { ArgumentRangeError, messageOf, PortcullisError, wrongType } from '../base/errors.js';
import { Hooks } from '../base/hooks.js';
import type { PossibleTrace } from '../base/trace.js';
import { ResourceWatch } from '../native/addon.js';
import type { TimerHandle } from '../timers/handle.js';
import { TimerManager } from '../timers/manager.js';
import { AT, cellOf, createCells } from './cells.js';
import type {
  CollectionRecord,
  ResourceMetrics,
  ResourceSnapshot,
  ResourceState,
  Stall,
} from './figures.js';
import { garbageCollector, GcPacer, heapFigures } from './heap.js';
import { type MemoryLimits, resourceLimits, type ResourceLimitsInput } from './resource-limits.js';
import { MonitorLog } from './log.js';
import { utilizationOf } from './utilization.js';
import {
  checkArguments,
  type CheckedOptions,
  type CountsConnections,
  countsConnections,
  type ResourceMonitorOptions,
} from './options.js';
import {
  Pressure,
  type PressureCause,
  type PressureFigures,
  type PressureLimit,
} from './pressure.js';
import { type RunningRequest, RunningRequests, StalledRequests } from './running.js';
import { snapshotOf, stallOf, STATES } from './snapshot.js';
import { MB, nullIfNaN, WatchFigures } from './watch-figures.js';
import { readWakeSocket, type WakeSocket } from '../native/wake-socket.js';

// Offsets of cells. Constants of this module, because V8 folds those, but loads imported ones: a
// request cost 12 ns instead of 8 (requestStarted, mark, requestEnded).
const IN_FLIGHT = cellOf('IN_FLIGHT');
const REQUESTS = cellOf('REQUESTS');
const BEGUN = cellOf('BEGUN');
const LABEL = cellOf('LABEL');
const HEAP_USED = cellOf('HEAP_USED');
const HEAP_LIMIT = cellOf('HEAP_LIMIT');
const LEVEL = cellOf('LEVEL');
const PERCENT = cellOf('PERCENT');
const RSS = cellOf('RSS');
const CPU_PERCENT = cellOf('CPU_PERCENT');
const OTHERS_IN_FLIGHT = cellOf('OTHERS_IN_FLIGHT');
const STALL = cellOf('STALL');

// Bits of the watcher's news.
const LEVEL_CHANGED = 1;
const STALL_ENDED = 2;
/** Index in `STATES`. */
const CRITICAL = 2;
/** Interval of the monitor's own timer. For news, the watcher wakes the loop earlier. */
const POLL_MS = 5000;
const HEAP_INTERVAL_MS = 1000;
const COLLECTIONS_MAX = 64;
/** Labels of the native side, where 0 stands for none; one is kept for `OTHER`. */
const LABELS_MAX = 1024;
const LABEL_MAX = 200;
const OTHER = 'other';

/**
 * Watches the resources of the process and the event loop of this thread. A native thread does the
 * work: `isHealthy()` and `getMetrics()` only read its results, and a stall is noticed while it
 * lasts. Every worker creates its own monitor; process-wide figures cover them all. A monitor does
 * not keep the process alive.
 *
 * All figures are available on Linux. Other systems provide memory and CPU of the process and the
 * machine's memory; figures of cgroups, PSI and threads are `null`.
 *
 * @example
 * const monitor = new ResourceMonitor({ memory: { maxHeapSizeMb: 512 } }, {
 *   timers,
 *   stalls: { thresholdMs: 100, log: 'stderr' },
 *   onStall: (stall) => console.warn(stall.durationMs, stall.cause, stall.label, stall.requests),
 * });
 * monitor.isHealthy();
 */
export class ResourceMonitor {
  readonly #cells = createCells();
  readonly #watch: ResourceWatch;
  readonly #memory: Readonly<MemoryLimits>;
  readonly #options: ResourceMonitorOptions;
  readonly #managers = new Set<CountsConnections>();
  readonly #labels = new Map<string, number>();
  readonly #gcPacer: GcPacer | undefined;
  readonly #collections: CollectionRecord[] = [];
  readonly #hooks = new Hooks();
  readonly #log: MonitorLog;
  readonly #retryAfterMs: number;
  /** The manager that the constructor created; `close()` closes it. */
  readonly #ownTimers: TimerManager | undefined;
  readonly #poll: TimerHandle;
  readonly #wakeSocket: WakeSocket;
  readonly #unsubscribe: () => void;
  /** Sum of the shares to refuse; one refusal is made for each whole. */
  #refusalsOwed = 0;
  /** Causes of shedding besides memory. */
  readonly #pressure: Pressure | undefined;
  readonly #shed: Partial<Record<PressureCause, number>> = {};
  /** Since when memory is a cause of shedding, wall-clock ms. */
  #memorySince: number | undefined;
  /** Cause of the latest refusal by `shedMs()`. @internal */
  shedCause: PressureCause = 'memory';
  readonly #running = new RunningRequests();
  readonly #stalledRequests = new StalledRequests();
  /** Trace of the latest handshake, or connection of the latest message; `undefined` if a request began after it. */
  #latest: PossibleTrace | undefined;
  /** Number of the latest stall whose requests are noted. */
  #notedStall = 0;
  #heapAtMs = 0;
  #lastStallId = 0;
  #state: ResourceState = 'ok';
  #isClosed = false;

  /**
   * Starts watching this thread and the process.
   * @param limits resource limits, some or all; the section `memory` is watched
   * @param options see `ResourceMonitorOptions`
   * @throws ERR_INVALID_ARG_TYPE, ERR_OUT_OF_RANGE, ERR_UNKNOWN_OPTION, naming the field;
   *   ERR_CLOSED if strict `timers` are closed; ERR_NO_THREAD if the system starts no further thread
   */
  constructor(limits: ResourceLimitsInput, options?: ResourceMonitorOptions);
  /**
   * The same with the timers in second place.
   * @param limits as above
   * @param timerManager the option `timers`
   * @param options the other options
   * @throws as above; ERR_INVALID_ARG_TYPE if `options.timers` is given, too
   */
  constructor(
    limits: ResourceLimitsInput,
    timerManager: TimerManager,
    options?: ResourceMonitorOptions,
  );
  constructor(
    limits: ResourceLimitsInput,
    second?: TimerManager | ResourceMonitorOptions,
    third?: ResourceMonitorOptions,
  ) {
    if (limits === undefined) throw wrongType('limits', limits, 'an object');
    this.#memory = resourceLimits(limits).memory;
    const checked = checkArguments(second, third);
    this.#options = checked.given;
    this.#log = new MonitorLog(checked.given.log, this.#hooks);
    this.#retryAfterMs = checked.retryAfterMs;
    this.#gcPacer =
      checked.given.gc === false
        ? undefined
        : new GcPacer(this.#memory.gcIntervalMs, checked.gcBudget);
    for (const manager of checked.managers) this.#managers.add(manager);
    this.#measureHeap();
    this.#watch = openWatch(this.#cells, this.#memory, checked);
    this.#wakeSocket = readWakeSocket(this.#watch.takeDescriptor(), () => this.#answer());
    if (checked.timers === undefined) this.#ownTimers = new TimerManager({ name: 'resources' });
    const timers = checked.timers ?? this.#ownTimers!;
    try {
      this.#poll = timers.setInterval(() => this.#pollWatch(), {
        delayMs: POLL_MS,
        ref: false,
        name: 'resources.poll',
      });
      if (checked.pressure !== undefined)
        this.#pressure = new Pressure(
          checked.pressure,
          timers,
          this.#hooks,
          utilizationOf(() => this.#figures()?.value(AT.utilization) ?? null),
        );
    } catch (error) {
      // Strict timers that are closed: nothing would ever end the watch.
      this.#watch.close();
      this.#wakeSocket.close();
      throw error;
    }
    this.#unsubscribe = timers.onCleanup(() => this.close());
    const found = this.#figures();
    if (found !== undefined) this.#log.checkMaxHeapSize(this.#memory.maxHeapSizeMb, found.limits());
    this.#answer();
  }

  /**
   * Returns memory, connections, requests and CPU, without a system call. Connections cost one
   * native call per manager; the rest is read from shared memory.
   */
  getMetrics(): ResourceMetrics {
    const cells = this.#cells;
    return {
      memoryUsage: nullIfNaN(cells[RSS]! / MB),
      activeConnections: this.#connections(),
      activeRequests: cells[IN_FLIGHT]! + (nullIfNaN(cells[OTHERS_IN_FLIGHT]!) ?? 0),
      cpuUsage: nullIfNaN(cells[CPU_PERCENT]!),
    };
  }

  /**
   * Returns true while memory is below the critical threshold, or cannot be read. It judges memory
   * alone, and stays true while the event loop is saturated: `isUnderPressure()` has the other causes,
   * and the health score of `ProductionMetrics` shows the load of the loop. Costs one memory load.
   */
  isHealthy(): boolean {
    // Not `<`: the level is NaN until memory is known.
    return !(this.#cells[LEVEL]! >= CRITICAL);
  }

  /**
   * Returns true while newcomers are refused, some or all; without the option `shedding` never. Costs a few
   * memory loads. `pressure()` names the causes.
   * @example
   * if (monitor.isUnderPressure()) return cachedAnswer();
   */
  isUnderPressure(): boolean {
    return this.isPressed;
  }

  /**
   * Returns the causes for which newcomers are refused, their shares, and the refusals so far; each watched cause with
   * its limit and its present value.
   */
  pressure(): PressureFigures {
    const limits = [...this.#memoryLimit(), ...(this.#pressure?.limits() ?? [])];
    const causes = limits.filter(({ share }) => share > 0);
    return {
      share: Math.max(0, ...causes.map(({ share }) => share)),
      causes: Object.fromEntries(causes.map(({ cause, share }) => [cause, share])),
      refused: { ...this.#shed },
      limits,
    };
  }

  /** Returns memory as a cause of shedding, if there is shedding. */
  #memoryLimit(): PressureLimit[] {
    if (this.#retryAfterMs === 0) return [];
    const share = this.#memoryShare();
    this.#dateMemory(share);
    return [
      {
        cause: 'memory',
        limit: this.#memory.warningThreshold,
        value: nullIfNaN(this.#cells[PERCENT]!),
        share,
        since: this.#memorySince ?? null,
      },
    ];
  }

  /** Notes when memory began to be a cause. The watcher wakes the loop with each sample above the threshold. */
  #dateMemory(share: number): void {
    if (share === 0) this.#memorySince = undefined;
    else this.#memorySince ??= wallClockMs();
  }

  /** Memory limits in use, with their defaults. */
  get memoryLimits(): Readonly<MemoryLimits> {
    return this.#memory;
  }

  /** State of memory. Hysteresis keeps it from flapping at a threshold. */
  get state(): ResourceState {
    return STATES[this.#cells[LEVEL]!] ?? 'ok';
  }

  /**
   * Returns every figure. Takes 10 to 100 µs: not for hot paths.
   * @throws ERR_CLOSED after `close()`
   */
  snapshot(): ResourceSnapshot {
    this.#noteStall();
    const figures = this.#figures();
    if (figures === undefined)
      throw new PortcullisError('ERR_CLOSED', 'the monitor is closed: there is no snapshot');
    return snapshotOf(figures, {
      activeConnections: this.#connections(),
      heapUsed: this.#cells[HEAP_USED]!,
      heapLimit: this.#cells[HEAP_LIMIT]!,
      heapAtMs: this.#heapAtMs,
      collections: [...this.#collections],
      requestsOf: (stall) => this.#stalledRequests.of(stall),
    });
  }

  /** Returns the figures as they are now; `undefined` after `close()`. */
  #figures(): WatchFigures | undefined {
    const tables = this.#watch.figures();
    return tables === null ? undefined : new WatchFigures(this.#cells, tables);
  }

  /** Returns the last 64 stalls, the oldest first; none after `close()`. */
  stalls(): readonly Stall[] {
    const nowMs = this.#watch.nowMs();
    return this.#watch
      .stalls(0)
      .map((stall) => stallOf(stall, nowMs, this.#stalledRequests.of(stall.id)));
  }

  /**
   * Returns the number of a label, for `requestStarted` and `mark`. Beyond 1,022 labels, all others
   * share one number.
   * @param text pattern of a route or type of a message, never text from a client; cut to 200
   *   characters
   * @throws ERR_INVALID_ARG_TYPE unless it is a string that is not empty
   * @internal
   */
  label(text: string): number {
    if (typeof text !== 'string' || text === '')
      throw wrongType('label', text, 'a string that is not empty');
    const key = text.slice(0, LABEL_MAX);
    const known = this.#labels.get(key);
    if (known !== undefined) return known;
    if (this.#labels.size < LABELS_MAX - 2) return this.#addLabel(key);
    return this.#labels.get(OTHER) ?? this.#addLabel(OTHER);
  }

  #addLabel(text: string): number {
    const number = this.#labels.size + 1;
    this.#labels.set(text, number);
    this.#watch.label(number, text);
    return number;
  }

  /**
   * Counts a request that starts, by a few stores.
   * @param label from `label()`; 0 for none
   * @param request the request, if stalls are to be reported with its trace
   * @internal
   */
  requestStarted(label = 0, request?: RunningRequest): void {
    const cells = this.#cells;
    if (cells[STALL]! > this.#notedStall) this.#noteStall();
    cells[IN_FLIGHT]!++;
    cells[REQUESTS]!++;
    cells[BEGUN]!++;
    cells[LABEL] = label >>> 0;
    this.#latest = undefined;
    if (request !== undefined) this.#running.add(request);
  }

  /**
   * Counts a request that ended. Surplus calls are ignored.
   * @param request as it was given to `requestStarted`
   * @internal
   */
  requestEnded(request?: RunningRequest): void {
    const cells = this.#cells;
    if (cells[STALL]! > this.#notedStall) this.#noteStall();
    if (cells[IN_FLIGHT]! > 0) cells[IN_FLIGHT]!--;
    if (cells[IN_FLIGHT] === 0) cells[LABEL] = 0;
    if (request !== undefined) this.#running.remove(request);
  }

  /**
   * Names the code that runs next, such as the handler of a message; a stall is reported with it.
   * @param label from `label()`; 0 for none
   * @param trace of the handshake, or the connection of the message, so that a message need not load the trace. The
   * monitor holds it until the next message, handshake or request
   * @internal
   */
  mark(label: number, trace?: PossibleTrace): void {
    this.markWithin(label);
    this.#latest = trace;
  }

  /** As `mark`, for code that belongs to the message or request that was marked before. @internal */
  markWithin(label: number): void {
    const cells = this.#cells;
    if (cells[STALL]! > this.#notedStall) this.#noteStall();
    cells[BEGUN]!++;
    cells[LABEL] = label >>> 0;
  }

  /**
   * Notes the requests of a stall that the watcher has seen, before one of them ends or another one begins.
   * The cell holds the number of the stall until the loop has answered: each of these calls, and the
   * answer itself, comes first.
   */
  #noteStall(): void {
    const stall = this.#cells[STALL]!;
    if (!(stall > this.#notedStall)) return;
    this.#notedStall = stall;
    this.#stalledRequests.note(stall, this.#latest, this.#running);
  }

  /** True if `shedMs()` refuses some newcomers. Reading it does not count as one. @internal */
  get isPressed(): boolean {
    // The figures of a closed monitor are its last ones: they would refuse for ever.
    if (this.#retryAfterMs === 0 || this.#isClosed) return false;
    // False for NaN, an unknown percentage.
    if (this.#cells[PERCENT]! > this.#memory.warningThreshold) return true;
    return this.#pressure !== undefined && this.#pressure.share > 0;
  }

  /** Returns the share of newcomers to refuse for want of memory. */
  #memoryShare(): number {
    const { warningThreshold, criticalThreshold } = this.#memory;
    const percent = this.#cells[PERCENT]!;
    return this.#retryAfterMs !== 0 && !this.#isClosed && percent > warningThreshold
      ? Math.min(1, (percent - warningThreshold) / (criticalThreshold - warningThreshold))
      : 0;
  }

  /**
   * Decides whether to refuse one newcomer. Between the warning and the critical threshold the
   * refused share rises linearly from 0 to 100 %; other causes have shares of their own, and the greatest
   * counts. Without the option `shedding` it is 0. `shedCause` names the cause of a refusal. Must not gate liveness probes: a server that refuses is alive.
   * @returns 0 to admit, else the time after which to come back, ms
   * @internal
   */
  shedMs(): number {
    if (!this.isPressed) return 0;
    const memory = this.#memoryShare();
    const other = this.#pressure?.share ?? 0;
    this.#refusalsOwed += Math.max(memory, other);
    if (this.#refusalsOwed < 1 - 1e-9) return 0;
    this.#refusalsOwed -= 1;
    this.shedCause = other > memory ? (this.#pressure?.cause ?? 'memory') : 'memory';
    this.#shed[this.shedCause] = (this.#shed[this.shedCause] ?? 0) + 1;
    // Random, so that clients refused together do not come back together.
    return Math.ceil(this.#retryAfterMs * (0.5 + Math.random()));
  }

  /**
   * Adds a connection manager to the counted ones. Repeated calls have no effect.
   * @param manager a `ConnectionManager`, or any object with a number `total`
   * @throws ERR_INVALID_ARG_TYPE for anything else
   */
  attach(manager: CountsConnections): void {
    if (!countsConnections(manager)) throw wrongType('manager', manager, 'a ConnectionManager');
    this.#managers.add(manager);
  }

  /** Removes a connection manager from the counted ones; unknown ones are ignored. */
  detach(manager: CountsConnections): void {
    this.#managers.delete(manager);
  }

  /**
   * Ends the watch at once, and sheds no load any more. The figures of `getMetrics()`, `isHealthy()` and
   * `state` keep their last values. May be called again.
   */
  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#poll.close();
    this.#pressure?.close();
    this.#unsubscribe();
    this.#watch.close();
    this.#wakeSocket.close();
    this.#ownTimers?.close();
  }

  /** Alias of `close()`. */
  stop(): void {
    this.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #connections(): number {
    let sum = 0;
    const named = new Map<string, number>();
    for (const { total, indexName } of this.#managers) {
      if (indexName === undefined) sum += total;
      // A closed manager tells 0, while others of its name go on.
      else named.set(indexName, Math.max(named.get(indexName) ?? 0, total));
    }
    for (const total of named.values()) sum += total;
    return sum;
  }

  #measureHeap(): void {
    const { usedBytes, limitBytes } = heapFigures();
    this.#cells[HEAP_USED] = usedBytes;
    this.#cells[HEAP_LIMIT] = limitBytes;
  }

  #pollWatch(): void {
    this.#measureHeap();
    this.#heapAtMs = this.#watch.nowMs();
    this.#answer();
    if (this.#state === 'critical' && !this.#isClosed) this.#collect(this.#watch.nowMs());
  }

  /** Tells the watcher that the loop turns, and handles its news. */
  #answer(): void {
    if (this.#isClosed) return;
    this.#noteStall();
    const news = this.#watch.answer();
    this.#dateMemory(this.#memoryShare());
    if (this.#heapAtMs === 0) this.#heapAtMs = this.#watch.nowMs();
    if (news === 0) return;
    if ((news & STALL_ENDED) !== 0) this.#reportStalls();
    if ((news & LEVEL_CHANGED) !== 0) this.#reportStates();
    // A hook may have closed the monitor.
    if (this.#isClosed) return;
    const nowMs = this.#watch.nowMs();
    if (nowMs - this.#heapAtMs >= HEAP_INTERVAL_MS) {
      this.#measureHeap();
      this.#heapAtMs = nowMs;
    }
    if (this.#state === 'critical') this.#collect(nowMs);
  }

  #reportStalls(): void {
    const nowMs = this.#watch.nowMs();
    for (const figures of this.#watch.stalls(this.#lastStallId)) {
      this.#lastStallId = figures.id;
      const stall = stallOf(figures, nowMs, this.#stalledRequests.of(figures.id));
      this.#hooks.run('onStall', () => this.#options.onStall?.(stall));
    }
  }

  #reportStates(): void {
    const nowMs = this.#watch.nowMs();
    for (const { atMs, from, to, percent } of this.#watch.levels()) {
      const change = {
        from: STATES[from] ?? 'ok',
        to: STATES[to] ?? 'ok',
        percent,
        at: wallClockMs() - (nowMs - atMs),
      };
      this.#state = change.to;
      this.#log.stateChanged(change, this.#figures()?.binding() ?? null);
      this.#hooks.run('onStateChange', () => this.#options.onStateChange?.(change));
    }
  }

  #collect(nowMs: number): void {
    if (this.#gcPacer?.isDue(nowMs) !== true) return;
    const collect = garbageCollector();
    if (collect === undefined) return;
    const before = heapFigures().usedBytes;
    const label = this.#cells[LABEL]!;
    this.mark(this.label('garbage collection'));
    collect();
    this.mark(label);
    const endedMs = this.#watch.nowMs();
    const freed = before - heapFigures().usedBytes;
    this.#gcPacer.done(endedMs, endedMs - nowMs, freed / before);
    const record = { at: wallClockMs(), durationMs: endedMs - nowMs, freedMb: freed / MB };
    if (this.#collections.push(record) > COLLECTIONS_MAX) this.#collections.shift();
    this.#hooks.run('onCollect', () => this.#options.onCollect?.(record));
  }
}

function openWatch(
  cells: Float64Array,
  memory: Readonly<MemoryLimits>,
  { given, name, stallMs, stallLog }: CheckedOptions,
): ResourceWatch {
  try {
    return new ResourceWatch(cells, {
      name,
      root: given.root ?? '',
      maxHeapBytes: memory.maxHeapSizeMb * MB,
      warning: memory.warningThreshold,
      critical: memory.criticalThreshold,
      ...(stallMs === undefined ? {} : { stallMs }),
      ...(stallLog === undefined ? {} : { log: stallLog }),
    });
  } catch (error) {
    const cause = messageOf(error);
    const prefix = 'ERR_NO_THREAD: ';
    if (cause.startsWith(prefix))
      throw new PortcullisError('ERR_NO_THREAD', cause.slice(prefix.length));
    if (stallLog === undefined || stallLog === '') throw error;
    throw new ArgumentRangeError(`stalls.log.file cannot be written: ${cause}`, {
      field: 'stalls.log.file',
      value: JSON.stringify(stallLog.slice(0, 40)),
      allowed: 'a file that can be appended to',
    });
  }
}
