/**
 * Pressure besides memory: the delay of the event loop, its utilization, and checks of the application.
 * Each cause has a share of newcomers to refuse. `Threshold` and `DelayWindow` take time as an argument.
 */
import { wallClockMs } from '../base/clock.js';
import { PortcullisError } from '../base/errors.js';
import type { Hooks } from '../base/hooks.js';
import { isThenable } from '../base/hooks.js';
import type { TimerHandle } from '../timers/handle.js';
import type { TimerManager } from '../timers/manager.js';

/** Cause of load shedding. `check:NAME` is a check of the application. */
export type PressureCause =
  'memory' | 'event_loop_delay' | 'event_loop_utilization' | `check:${string}`;

/** Load shedding at one moment. */
export interface PressureFigures {
  /** Share of newcomers that is refused: the greatest share of a cause. */
  readonly share: number;
  /** Share that each cause asks for, above 0 up to 1; other causes are absent. */
  readonly causes: Readonly<Partial<Record<PressureCause, number>>>;
  /** Refusals so far, by cause; causes without one are absent. */
  readonly refused: Readonly<Partial<Record<PressureCause, number>>>;
  /** Every cause that is watched, whether it lasts or not; none without the option `shedding`. */
  readonly limits: readonly PressureLimit[];
}

/** A cause of load shedding with its limit and its present value. */
export interface PressureLimit {
  /** The cause. */
  readonly cause: PressureCause;
  /**
   * Limit above which newcomers are refused: percent of the binding memory limit (`memory.warningThreshold`),
   * milliseconds of `event_loop_delay`, a share of `event_loop_utilization`; `null` for a check.
   */
  readonly limit: number | null;
  /** Present value in the unit of the limit; `null` while it is not known, and for a check. */
  readonly value: number | null;
  /** Share of newcomers that the cause refuses, 0 to 1; 1 for a check that fails. */
  readonly share: number;
  /** Time since which the cause refuses newcomers, wall-clock milliseconds; `null` while it does not. */
  readonly since: number | null;
}

/**
 * A check of the application: `false`, or a promise of it, says that newcomers are too much. So do an error, a
 * rejection, and a promise that has not settled at the next sample. After `checkTimeoutMs` such a promise is given up:
 * `signal` aborts, and the check is begun again.
 */
export type PressureCheck = (signal: AbortSignal) => unknown;

/** Checked options of the causes besides memory. @internal */
export interface PressureOptions {
  readonly maxEventLoopDelayMs: number | undefined;
  readonly maxEventLoopUtilization: number | undefined;
  readonly checks: readonly (readonly [name: string, check: PressureCheck])[];
  readonly sampleIntervalMs: number;
  readonly checkTimeoutMs: number;
}

/** Share of the limit at which a cause ends. */
const LEAVE = 0.8;
/** Share of the limit at which everything is refused. */
const FULL = 1.2;
/** Interval at which the delay of the event loop is measured. */
const TICK_MS = 20;
/** Time that the quantile of the delay covers. */
const WINDOW_MS = 1000;
/** Share of arrivals that may wait longer than the 99th percentile. */
const TAIL = 0.01;

/**
 * One limit with hysteresis. Its cause begins above the limit, and ends at 80 % of it. Meanwhile the refused
 * share rises linearly from 0 at 80 % to 1 at 120 % of the limit, or at `max`.
 * @internal
 */
export class Threshold {
  /** Share to refuse; 0 while the cause does not last. */
  share = 0;
  /** The latest value; `null` while it is not known. */
  value: number | null = null;
  readonly limit: number;
  readonly #leave: number;
  readonly #full: number;

  /** @param max the greatest value that the figure can have */
  constructor(limit: number, max = Infinity) {
    this.limit = limit;
    this.#leave = LEAVE * limit;
    this.#full = Math.min(FULL * limit, max);
  }

  /** Notes a new value; an unknown one is no cause. */
  update(given: number | null): void {
    this.value = given;
    const value = given ?? 0;
    const isOver = value > (this.share > 0 ? this.#leave : this.limit);
    this.share = isOver ? Math.min(1, (value - this.#leave) / (this.#full - this.#leave)) : 0;
  }
}

/**
 * The delay of the event loop in the last second, from ticks that are late. An event that arrives while the loop
 * is blocked waits for the rest of the block: the 99th percentile is over all times of arrival, so that one long
 * block weighs as much as it lasts.
 * @internal
 */
export class DelayWindow {
  #lastMs: number | undefined;
  #startMs = 0;
  /** Ends of the late ticks of the window, and their delays. */
  readonly #late: { readonly endMs: number; readonly delayMs: number }[] = [];

  /**
   * Notes a tick, which was due `TICK_MS` after the one before.
   * @returns the 99th percentile of the delay of an event, ms
   */
  tick(nowMs: number): number {
    const lastMs = this.#lastMs;
    this.#lastMs = nowMs;
    if (lastMs === undefined) {
      this.#startMs = nowMs;
      return 0;
    }
    const delayMs = nowMs - lastMs - TICK_MS;
    if (delayMs > 0) this.#late.push({ endMs: nowMs, delayMs });
    const from = nowMs - WINDOW_MS;
    while (this.#late.length > 0 && this.#late[0]!.endMs <= from) this.#late.shift();
    const oldest = this.#late[0];
    if (oldest === undefined) return 0;
    // The window reaches back to the beginning of a block that ended in it.
    const beginMs = Math.min(from, oldest.endMs - oldest.delayMs - TICK_MS);
    return this.#quantile(nowMs - Math.max(this.#startMs, beginMs));
  }

  /** Returns the delay that events exceed in one hundredth of a time. */
  #quantile(spanMs: number): number {
    // An event waits longer than x if it arrives in the first `delayMs - x` of a block: these sum up to the tail.
    const tailMs = TAIL * spanMs;
    const delays = this.#late.map(({ delayMs }) => delayMs).toSorted((a, b) => b - a);
    let sumMs = 0;
    for (const [index, delayMs] of delays.entries()) {
      sumMs += delayMs;
      const found = (sumMs - tailMs) / (index + 1);
      if (found >= (delays[index + 1] ?? 0)) return found;
    }
    return 0;
  }
}

/** A run of a check whose promise has not settled. */
interface PendingRun {
  readonly beganMs: number;
  readonly controller: AbortController;
}

/** One check of the application, with its last outcome. */
class Check {
  isFailing = false;
  /** The run under way. The result of a run that was given up is ignored. */
  #pending: PendingRun | undefined;
  readonly cause: PressureCause;
  readonly #hook: string;
  readonly #run: PressureCheck;
  readonly #timeoutMs: number;
  readonly #hooks: Hooks;

  constructor(name: string, run: PressureCheck, timeoutMs: number, hooks: Hooks) {
    this.cause = `check:${name}`;
    this.#hook = `shedding.checks.${name}`;
    this.#run = run;
    this.#timeoutMs = timeoutMs;
    this.#hooks = hooks;
  }

  /**
   * Runs the check. While its last run is under way it counts as failed; after the timeout it runs again.
   * @param done called when a promise has settled
   */
  sample(nowMs: number, done: () => void): void {
    if (this.#pending !== undefined) {
      this.isFailing = true;
      if (nowMs - this.#pending.beganMs < this.#timeoutMs) return;
      this.#giveUp(this.#pending);
    }
    const controller = new AbortController();
    try {
      const result: unknown = this.#run(controller.signal);
      if (isThenable(result)) this.#await(result, { beganMs: nowMs, controller }, done);
      else this.isFailing = result === false;
    } catch (error) {
      this.#fail(error);
    }
  }

  #await(result: PromiseLike<unknown>, run: PendingRun, done: () => void): void {
    this.#pending = run;
    const settle = (note: () => void): void => {
      if (this.#pending !== run) return;
      this.#pending = undefined;
      note();
      done();
    };
    void Promise.resolve(result).then(
      (value) => settle(() => (this.isFailing = value === false)),
      (error: unknown) => settle(() => this.#fail(error)),
    );
  }

  /** Gives up a run that has exceeded its timeout: a promise that never settles would fail the check for ever. */
  #giveUp({ controller }: PendingRun): void {
    this.#pending = undefined;
    const problem = `${this.#hook} took more than ${this.#timeoutMs} ms`;
    this.#fail(new PortcullisError('ERR_TIMEOUT', problem, { field: this.#hook }));
    controller.abort(new DOMException('The check took too long', 'TimeoutError'));
  }

  #fail(error: unknown): void {
    this.isFailing = true;
    this.#hooks.warn(this.#hook, error);
  }
}

/** Watches the causes besides memory. @internal */
export class Pressure {
  /** The greatest share that a cause asks for. A field, since each newcomer reads it. */
  share = 0;
  /** The cause that asks for it. */
  cause: PressureCause | undefined;
  readonly #delay: Threshold | undefined;
  readonly #utilization: Threshold | undefined;
  readonly #checks: readonly Check[];
  readonly #window = new DelayWindow();
  /** Beginnings of the causes that last, wall-clock ms. */
  readonly #since = new Map<PressureCause, number>();
  readonly #timers: readonly TimerHandle[];
  #isClosed = false;

  /**
   * @param utilization returns that of the event loop since its last call; `null` while it is not known
   * @throws ERR_CLOSED for strict timers that are closed
   */
  constructor(
    options: PressureOptions,
    timers: TimerManager,
    hooks: Hooks,
    utilization: () => number | null,
  ) {
    const { maxEventLoopDelayMs, maxEventLoopUtilization, sampleIntervalMs, checkTimeoutMs } =
      options;
    if (maxEventLoopDelayMs !== undefined) this.#delay = new Threshold(maxEventLoopDelayMs);
    if (maxEventLoopUtilization !== undefined)
      this.#utilization = new Threshold(maxEventLoopUtilization, 1);
    this.#checks = options.checks.map(
      ([name, check]) => new Check(name, check, checkTimeoutMs, hooks),
    );
    const every = (delayMs: number, name: string, run: () => void): TimerHandle =>
      timers.setInterval(run, { delayMs, ref: false, name });
    const { driver } = timers;
    this.#window.tick(driver.now());
    const update = (): void => this.#update();
    const isSampled = this.#utilization !== undefined || this.#checks.length > 0;
    this.#timers = [
      ...(this.#delay === undefined
        ? []
        : [
            every(TICK_MS, 'resources.delay', () => {
              this.#delay?.update(this.#window.tick(driver.now()));
              update();
            }),
          ]),
      ...(isSampled
        ? [
            every(sampleIntervalMs, 'resources.pressure', () => {
              if (this.#utilization !== undefined) this.#utilization.update(utilization());
              for (const check of this.#checks) check.sample(driver.now(), update);
              update();
            }),
          ]
        : []),
    ];
  }

  /** Returns every cause that is watched, also once the watch has ended: then none has a share. */
  limits(): PressureLimit[] {
    const limits = this.#limits();
    return this.#isClosed ? limits.map((limit) => ({ ...limit, share: 0 })) : limits;
  }

  #limits(): PressureLimit[] {
    const since = (cause: PressureCause): number | null => this.#since.get(cause) ?? null;
    const limits: PressureLimit[] = [];
    const add = (cause: PressureCause, threshold: Threshold | undefined): void => {
      if (threshold === undefined) return;
      const { limit, value, share } = threshold;
      limits.push({ cause, limit, value, share, since: since(cause) });
    };
    add('event_loop_delay', this.#delay);
    add('event_loop_utilization', this.#utilization);
    for (const { cause, isFailing } of this.#checks)
      limits.push({
        cause,
        limit: null,
        value: null,
        share: isFailing ? 1 : 0,
        since: since(cause),
      });
    return limits;
  }

  #update(): void {
    // A check may settle after the watch has ended.
    if (this.#isClosed) return;
    this.share = 0;
    this.cause = undefined;
    this.#judge('event_loop_delay', this.#delay?.share ?? 0);
    this.#judge('event_loop_utilization', this.#utilization?.share ?? 0);
    for (const { cause, isFailing } of this.#checks) this.#judge(cause, isFailing ? 1 : 0);
  }

  /** Notes the share of one cause. */
  #judge(cause: PressureCause, share: number): void {
    if (share === 0) return void this.#since.delete(cause);
    if (!this.#since.has(cause)) this.#since.set(cause, wallClockMs());
    if (share <= this.share) return;
    this.share = share;
    this.cause = cause;
  }

  /** Ends the watch; nothing is refused any more. */
  close(): void {
    this.#isClosed = true;
    for (const timer of this.#timers) timer.close();
    this.#since.clear();
    this.share = 0;
    this.cause = undefined;
  }
}
