/** The timers of all managers that share a clock. */
import { AsyncResource } from 'node:async_hooks';
import { type Clock, type ClockAlarm, hasFakeTimers, hostClock } from '../base/clock.js';
import { PortcullisError } from '../base/errors.js';
import { isThenable } from '../base/hooks.js';
import { Wheel } from './wheel.js';

/** Callbacks that run in one turn of the event loop, at most. */
const BATCH_MAX = 1024;
const SLOT_BITS = 22;
/** Timers that can be pending on one clock, at most. @internal */
export const SLOTS_MAX = 2 ** SLOT_BITS;
/** The longest delay of a host timer, ms. */
const ALARM_MAX_MS = 2 ** 31 - 1;
// -1 in an Int32Array. With 2^32-1 in a Uint32Array, engines would convert slots to doubles.
const NIL = -1;
const FIRST_CAPACITY = 1024;
/**
 * Slots by which the columns grow at most: to double a larger table would leave half of it idle.
 */
const GROWTH_MAX = 2 ** 17;
/** Bits of a slot's flags. */
const REF = 1;
const INTERVAL = 2;

/** Callback of a timer. @internal */
export type TimerCallback = (...args: unknown[]) => unknown;

/** The part of a handle that the driver uses. @internal */
export interface PendingTimer {
  /** The callback. It is called as a method, so that `this` is the handle, as on the host. */
  readonly _onTimeout: TimerCallback;
}

/** State that few timers have. The others have no such object. @internal */
export interface TimerExtras {
  readonly args: unknown[] | undefined;
  readonly name: string | undefined;
  readonly overlap: 'allow' | 'skip' | 'queue';
  /** Whether the last promise of an interval is still pending. */
  isPending: boolean;
  /** Whether a tick runs once that promise has settled. */
  isQueued: boolean;
  /** Removes the listener from the timer's signal. */
  unlisten: (() => void) | undefined;
}

/** The timers of one manager: the first slot of a linked list, and its length. */
interface TimerList {
  first: number;
  count: number;
}

/** Returns an empty list. @internal */
export const newTimerList = (): TimerList => ({ first: NIL, count: 0 });

/** One batch of due timers. */
class Batch {
  readonly slots = new Uint32Array(BATCH_MAX);
  readonly generations = new Int32Array(BATCH_MAX);
  readonly due = new Float64Array(BATCH_MAX);
  count = 0;
  /** The next timer to run. */
  at = 0;
}

/**
 * The timers of one clock: a timing wheel with one alarm. A timer is a slot in columns, 57 bytes.
 * Its arguments, name and signal, which few timers have, are kept apart.
 *
 * A slot and its generation name one timer for good: the generation goes up whenever the slot is
 * used again.
 * @internal
 */
export class Driver {
  readonly clock: Clock;
  readonly #wheel = new Wheel(FIRST_CAPACITY);
  /** Handles by slot, of pending timers only. */
  readonly #timers: (PendingTimer | undefined)[] = [];
  readonly #lists: (TimerList | undefined)[] = [];
  /** Contexts by slot. It grows only when a context is captured. */
  readonly #contexts: (AsyncResource | undefined)[] = [];
  readonly #extras = new Map<number, TimerExtras>();
  #capacity = FIRST_CAPACITY;
  #generations = new Int32Array(FIRST_CAPACITY);
  #delays = new Float64Array(FIRST_CAPACITY);
  /**
   * For snapshots only. Exact to a 16-millionth of the driver's age: a tenth of a second in three
   * weeks.
   */
  #created = new Float32Array(FIRST_CAPACITY);
  #flags = new Uint8Array(FIRST_CAPACITY);
  /** The next slot of the list, or the next free slot. */
  #next = new Int32Array(FIRST_CAPACITY);
  #previous = new Int32Array(FIRST_CAPACITY);
  #free = NIL;
  /** Pending timers that keep the process alive. */
  #refs = 0;
  #active = 0;
  /** One batch for each `run` under way: runs can nest. */
  readonly #batches: Batch[] = [new Batch()];
  #depth = 0;
  #alarm: ClockAlarm | undefined;
  #alarmAt = Infinity;
  #alarmRefed = true;
  #identity: unknown;
  /**
   * Added to the clock's time, so that driver time is continuous when fake timers change the clock.
   */
  #offset = 0;
  #last = 0;

  constructor(clock: Clock) {
    this.clock = clock;
    this.#identity = clock.identity();
    this.#offset = -Math.floor(clock.now()) + 1;
  }

  /** Returns driver time, ms: monotonic, also when the clock is changed or goes back. */
  now(): number {
    const identity = this.clock.identity();
    const now = this.clock.now() + this.#offset;
    if (identity !== this.#identity || now < this.#last) return this.#resume(identity);
    this.#last = now;
    return now;
  }

  /**
   * Goes on from the last time with a clock that was changed or set back, and returns the time.
   *
   * Fake clocks show whole milliseconds. Driver time is whole then, too: with the fraction of the
   * real time before, each deadline would be rounded up, and timers would fire 1 ms late.
   */
  #resume(identity: unknown): number {
    const now = this.clock.now();
    this.#identity = identity;
    if (Number.isInteger(now)) this.#last = wholeAbove(this.#last);
    this.#offset = this.#last - now;
    this.#disarm();
    this.#rearm();
    return this.#last;
  }

  /**
   * Arms a new timer of `list`.
   *
   * @returns its slot
   * @throws ERR_TOO_MANY_TIMERS
   */
  add(
    list: TimerList,
    timer: PendingTimer,
    delayMs: number,
    isInterval: boolean,
    isRefed: boolean,
    context: AsyncResource | undefined,
    extras: TimerExtras | undefined,
  ): number {
    let slot = this.#free;
    if (slot === NIL) slot = this.#newSlot();
    else this.#free = this.#next[slot]!;
    const now = this.now();
    this.#timers[slot] = timer;
    this.#lists[slot] = list;
    if (context !== undefined) {
      while (this.#contexts.length <= slot) this.#contexts.push(undefined);
      this.#contexts[slot] = context;
    }
    if (extras !== undefined) this.#extras.set(slot, extras);
    const generation = (this.#generations[slot]! + 1) & 0x7fff_ffff || 1;
    this.#generations[slot] = generation;
    this.#delays[slot] = delayMs;
    this.#created[slot] = now;
    this.#flags[slot] = (isRefed ? REF : 0) | (isInterval ? INTERVAL : 0);
    const { first } = list;
    this.#next[slot] = first;
    this.#previous[slot] = NIL;
    if (first !== NIL) this.#previous[first] = slot;
    list.first = slot;
    list.count++;
    this.#active++;
    if (isRefed) this.#refs++;
    this.#arm(slot, now + delayMs);
    return slot;
  }

  #newSlot(): number {
    const slot = this.#timers.length;
    if (slot >= SLOTS_MAX)
      throw new PortcullisError(
        'ERR_TOO_MANY_TIMERS',
        `no more than ${SLOTS_MAX} timers can be pending`,
      );
    if (slot >= this.#capacity) this.#grow();
    this.#timers.push(undefined);
    this.#lists.push(undefined);
    return slot;
  }

  /** Returns the generation of a slot. */
  generation(slot: number): number {
    return this.#generations[slot]!;
  }

  /** Removes a timer. Returns `false` if it is gone already. */
  remove(slot: number, generation: number): boolean {
    if (!this.has(slot, generation)) return false;
    this.#remove(slot);
    return true;
  }

  #remove(slot: number): void {
    this.#wheel.cancel(slot);
    const list = this.#lists[slot]!;
    const next = this.#next[slot]!;
    const previous = this.#previous[slot]!;
    if (previous === NIL) list.first = next;
    else this.#next[previous] = next;
    if (next !== NIL) this.#previous[next] = previous;
    list.count--;
    this.#timers[slot] = undefined;
    this.#lists[slot] = undefined;
    if (slot < this.#contexts.length) {
      // Node calls the hooks later, after those of a callback that runs next.
      this.#contexts[slot]?.emitDestroy();
      this.#contexts[slot] = undefined;
    }
    if (this.#extras.size > 0) {
      this.#extras.get(slot)?.unlisten?.();
      this.#extras.delete(slot);
    }
    this.#next[slot] = this.#free;
    this.#free = slot;
    this.#active--;
    if ((this.#flags[slot]! & REF) !== 0) this.#refs--;
    if (this.#active === 0) this.#disarm();
    else if (this.#refs === 0) this.#refAlarm();
  }

  /** Removes all timers of `list`. Returns their numbers. */
  clear(list: TimerList): { timeouts: number; intervals: number } {
    const cleared = { timeouts: 0, intervals: 0 };
    while (list.first !== NIL) {
      if ((this.#flags[list.first]! & INTERVAL) === 0) cleared.timeouts++;
      else cleared.intervals++;
      this.#remove(list.first);
    }
    return cleared;
  }

  /** Yields the timers of `list`, the youngest first. */
  *timersOf(list: TimerList): Generator<{
    name: string | undefined;
    isInterval: boolean;
    isRefed: boolean;
    createdMs: number;
    dueMs: number;
  }> {
    for (let slot = list.first; slot !== NIL; slot = this.#next[slot]!) {
      const flags = this.#flags[slot]!;
      yield {
        name: this.#extras.get(slot)?.name,
        isInterval: (flags & INTERVAL) !== 0,
        isRefed: (flags & REF) !== 0,
        createdMs: this.#created[slot]!,
        dueMs: this.#wheel.deadline(slot),
      };
    }
  }

  /** Starts the delay of a pending timer anew. Returns `false` if it is not pending. */
  refresh(slot: number, generation: number): boolean {
    const isPending = this.has(slot, generation);
    if (isPending) this.#arm(slot, this.now() + this.#delays[slot]!);
    return isPending;
  }

  /**
   * Whether a timer is pending, and in `list`. The caller may pass any number: it may come from the
   * application.
   */
  has(slot: number, generation: number, list?: TimerList): boolean {
    return (
      this.#generations[slot] === generation &&
      this.#timers[slot] !== undefined &&
      (list === undefined || this.#lists[slot] === list)
    );
  }

  /** Sets whether a pending timer keeps the process alive. */
  setRefed(slot: number, generation: number, isRefed: boolean): void {
    if (!this.has(slot, generation) || ((this.#flags[slot]! & REF) !== 0) === isRefed) return;
    this.#flags[slot]! ^= REF;
    this.#refs += isRefed ? 1 : -1;
    this.#refAlarm();
  }

  /** Returns the time at which a timer may be due next, or `Infinity`. */
  next(): number {
    return this.#wheel.next();
  }

  /**
   * Runs the due timers in the order of their deadlines, at most one batch. It can be entered again
   * from within: a microtask between two callbacks may install fake timers and advance them.
   */
  readonly run = (): void => {
    if (this.clock === hostClock && hasFakeTimers()) this.#runFaked();
    else this.#runBatch(false);
  };

  /**
   * Runs all due timers, and throws the first error then. Fake timers do the same with their own: a
   * later turn would be 1 ms late, or would not come before the test ends.
   */
  #runFaked(): void {
    const errors: unknown[] = [];
    do {
      try {
        this.#runBatch(true);
      } catch (error) {
        errors.push(error);
      }
    } while (this.next() <= this.now());
    if (errors.length > 0) throw errors[0];
  }

  /** Runs one batch. If timers are left, it asks for the next turn, unless the clock is faked. */
  #runBatch(isFaked: boolean): void {
    this.#disarm();
    // A callback has entered again. The rest of its batch goes back into the wheel, so that all due timers run in order.
    if (this.#depth > 0) this.#armRest(this.#batches[this.#depth - 1]!);
    const batch = (this.#batches[this.#depth] ??= new Batch());
    this.#depth++;
    const { slots, generations, due } = batch;
    const count = (batch.count = this.#wheel.advance(Math.floor(this.now()), slots));
    batch.at = 0;
    try {
      // A callback may remove a later timer of the batch, which then has another generation or no
      // callback, or refresh it, which arms it.
      for (let i = 0; i < count; i++) {
        generations[i] = this.#generations[slots[i]!]!;
        due[i] = this.#wheel.deadline(slots[i]!);
      }
      while (batch.at < count) {
        const at = batch.at++;
        const slot = slots[at]!;
        const generation = generations[at]!;
        if (!this.#isDue(slot, generation)) continue;
        try {
          this.#fire(slot, generation, due[at]!);
          // A tick of the process may throw here.
          this.clock.checkpoint();
        } catch (error) {
          this.#armRest(batch);
          throw error;
        }
      }
    } finally {
      this.#depth--;
      if (count < BATCH_MAX && batch.at >= count) this.#rearm();
      else if (!isFaked) this.clock.soon(this.run);
    }
  }

  /** Arms the due timers behind the one that runs. Behind one that has thrown they run in the next turn, as on the host. */
  #armRest({ slots, generations, due, at: from, count }: Batch): void {
    for (let at = from; at < count; at++)
      if (this.#isDue(slots[at]!, generations[at]!)) this.#wheel.arm(slots[at]!, due[at]!);
  }

  /** Whether a timer of the batch is neither removed nor armed again. */
  #isDue(slot: number, generation: number): boolean {
    return (
      this.#generations[slot] === generation &&
      this.#timers[slot] !== undefined &&
      !this.#wheel.isArmed(slot)
    );
  }

  #fire(slot: number, generation: number, dueMs: number): void {
    const timer = this.#timers[slot]!;
    const context = this.#contexts[slot];
    const extras = this.#extras.size === 0 ? undefined : this.#extras.get(slot);
    if ((this.#flags[slot]! & INTERVAL) === 0) {
      this.#remove(slot);
      call(timer, context, extras?.args);
      return;
    }
    try {
      this.#tick(timer, context, extras, slot, generation);
    } finally {
      // The next tick is on the interval's grid, missed ticks are skipped. None follows if the
      // callback has cleared the interval, or has armed it itself.
      if (this.#isDue(slot, generation)) {
        const delayMs = this.#delays[slot]!;
        const missed = Math.max(0, Math.floor((this.now() - dueMs) / delayMs));
        this.#arm(slot, dueMs + (missed + 1) * delayMs);
      }
    }
  }

  /** Calls an interval's callback, as its option `overlap` has it. */
  #tick(
    timer: PendingTimer,
    context: AsyncResource | undefined,
    extras: TimerExtras | undefined,
    slot: number,
    generation: number,
  ): void {
    if (extras === undefined || extras.overlap === 'allow')
      return void call(timer, context, extras?.args);
    if (extras.isPending) {
      extras.isQueued = extras.overlap === 'queue';
      return;
    }
    const result = call(timer, context, extras.args);
    if (!isThenable(result)) return;
    extras.isPending = true;
    const settled = (): void => {
      extras.isPending = false;
      if (!extras.isQueued || !this.has(slot, generation)) return;
      extras.isQueued = false;
      // An error of the callback is an uncaught exception, as in every other tick, and no rejection.
      queueMicrotask(() => {
        if (this.has(slot, generation)) this.#tick(timer, context, extras, slot, generation);
      });
    };
    // `finally` passes a rejection on, so that it stays unhandled, as on the host.
    void Promise.resolve(result).finally(settled);
  }

  #arm(slot: number, whenMs: number): void {
    const when = wholeAbove(whenMs);
    this.#wheel.arm(slot, when);
    if (when < this.#alarmAt) this.#rearm(when);
    else if (this.#refs > 0 && !this.#alarmRefed) this.#refAlarm();
  }

  #rearm(when = this.next()): void {
    this.#disarm();
    if (when === Infinity) return;
    this.#alarmAt = when;
    const delay = Math.min(
      Math.max(1, Math.ceil(when - this.clock.now() - this.#offset)),
      ALARM_MAX_MS,
    );
    this.#alarm = this.clock.arm(this.run, delay);
    this.#alarmRefed = true;
    this.#refAlarm();
  }

  #disarm(): void {
    this.#alarm?.cancel();
    this.#alarm = undefined;
    this.#alarmAt = Infinity;
  }

  /** Lets the alarm keep the process alive if, and only if, a pending timer does. */
  #refAlarm(): void {
    const ref = this.#refs > 0;
    if (ref === this.#alarmRefed || this.#alarm === undefined) return;
    this.#alarmRefed = ref;
    if (ref) this.#alarm.ref();
    else this.#alarm.unref();
  }

  #grow(): void {
    const capacity = Math.min(this.#capacity * 2, this.#capacity + GROWTH_MAX, SLOTS_MAX);
    const grown = <T extends Int32Array | Float32Array | Float64Array | Uint8Array>(
      to: T,
      from: T,
    ): T => (to.set(from), to);
    this.#wheel.grow(capacity);
    this.#generations = grown(new Int32Array(capacity), this.#generations);
    this.#delays = grown(new Float64Array(capacity), this.#delays);
    this.#created = grown(new Float32Array(capacity), this.#created);
    this.#flags = grown(new Uint8Array(capacity), this.#flags);
    this.#next = grown(new Int32Array(capacity), this.#next);
    this.#previous = grown(new Int32Array(capacity), this.#previous);
    this.#capacity = capacity;
  }
}

const HALF = 2 ** 30;

/**
 * Rounds up a number from 0 to 2^48, in integers: on Bun, `Math.ceil` costs more than the wheel's
 * work.
 */
function wholeAbove(ms: number): number {
  const high = (ms * (1 / HALF)) | 0;
  const rest = ms - high * HALF;
  const low = rest | 0;
  return high * HALF + (low < rest ? low + 1 : low);
}

/** Calls a timer's callback in the context that was captured for it. */
function call(
  timer: PendingTimer,
  context: AsyncResource | undefined,
  args: unknown[] | undefined,
): unknown {
  if (context !== undefined)
    return context.runInAsyncScope(timer._onTimeout, timer, ...(args ?? NO_ARGS));
  return args === undefined ? timer._onTimeout() : timer._onTimeout(...args);
}

const NO_ARGS: readonly unknown[] = [];

const drivers = new WeakMap<Clock, Driver>();

/** Returns the driver that all managers of a clock share. @internal */
export function driverOf(clock: Clock): Driver {
  let driver = drivers.get(clock);
  if (driver === undefined) {
    driver = new Driver(clock);
    drivers.set(clock, driver);
  }
  return driver;
}

/** Captures the async context of the caller, as an object that runs callbacks in it. @internal */
export const captureContext = (): AsyncResource =>
  new AsyncResource('PortcullisTimer', { requireManualDestroy: true });
