import { AsyncResource } from 'node:async_hooks';
import { createWheel } from '../native/loader.js';
import type { Alarm, Clock } from './clock.js';
import { PortcullisError } from './errors.js';

/** How many callbacks run in one turn of the loop. */
const BATCH_MAX = 1024;
const SLOT_BITS = 22;
const SLOTS_MAX = 2 ** SLOT_BITS;
/** The longest delay a host's timer takes. */
const ALARM_MAX_MS = 2 ** 31 - 1;
const DELAY_MAX_MS = 2 ** 47;

/** What a due timer does. One object a timer, shared with nobody. @internal */
export interface Task {
  /** Runs the callback; its slot is armed again if it is an interval. */
  run(driver: Driver, id: number, dueMs: number): void;
}

/** A timer's place: slot and generation in one number, never used twice. @internal */
export type TimerId = number;

/**
 * All timers of one clock: a timing wheel, driven by one alarm.
 * @internal
 */
export class Driver {
  readonly clock: Clock;
  readonly #wheel = createWheel();
  readonly #due = new Uint32Array(BATCH_MAX);
  readonly #tasks: (Task | undefined)[] = [];
  readonly #contexts: (AsyncResource | undefined)[] = [];
  #generations = new Uint32Array(1024);
  #deadlines = new Float64Array(1024);
  #refed = new Uint8Array(1024);
  readonly #free: number[] = [];
  #refs = 0;
  #active = 0;
  #alarm: Alarm | undefined;
  #alarmAt = Infinity;
  #alarmRefed = true;
  #identity: unknown;
  /** Added to the clock's time: keeps ours continuous when the clock is exchanged under us. */
  #offset = 0;
  #last = 0;

  constructor(clock: Clock) {
    this.clock = clock;
    this.#wheel.share(this.#due);
    this.#identity = clock.identity();
    this.#offset = -Math.floor(clock.now()) + 1;
  }

  /** Driver time: monotonic milliseconds that survive an exchange of the clock. */
  now(): number {
    const identity = this.clock.identity();
    let now = this.clock.now() + this.#offset;
    if (identity !== this.#identity) {
      this.#identity = identity;
      this.#offset += this.#last - now;
      now = this.#last;
      this.#disarm();
      this.#rearm();
    } else if (now < this.#last) {
      this.#offset += this.#last - now;
      now = this.#last;
      this.#disarm();
      this.#rearm();
    }
    this.#last = now;
    return now;
  }

  /** Arms a new timer. */
  add(task: Task, delayMs: number, ref: boolean, context: AsyncResource | undefined): TimerId {
    const slot = this.#free.pop() ?? this.#tasks.length;
    if (slot >= SLOTS_MAX) throw new PortcullisError('ERR_TOO_MANY_TIMERS', `no more than ${SLOTS_MAX} timers can be pending`);
    if (slot >= this.#generations.length) this.#grow();
    this.#tasks[slot] = task;
    this.#contexts[slot] = context;
    const generation = ((this.#generations[slot] ?? 0) + 1) % 2 ** 31 || 1;
    this.#generations[slot] = generation;
    this.#active++;
    this.#refed[slot] = ref ? 1 : 0;
    if (ref) this.#refs++;
    this.#arm(slot, this.now() + Math.min(delayMs, DELAY_MAX_MS));
    return generation * SLOTS_MAX + slot;
  }

  /** Removes a timer; `false` when it is gone already. */
  remove(id: TimerId): boolean {
    const slot = this.#slotOf(id);
    if (slot < 0) return false;
    this.#wheel.cancel(slot);
    this.#tasks[slot] = undefined;
    this.#contexts[slot] = undefined;
    this.#deadlines[slot] = 0;
    this.#active--;
    if (this.#refed[slot] === 1) this.#refs--;
    this.#refed[slot] = 0;
    this.#free.push(slot);
    if (this.#active === 0) this.#disarm();
    else if (this.#refs === 0) this.#hold();
    return true;
  }

  /** Arms a pending timer anew, `delayMs` from now. */
  refresh(id: TimerId, delayMs: number): void {
    const slot = this.#slotOf(id);
    if (slot >= 0) this.#arm(slot, this.now() + Math.min(delayMs, DELAY_MAX_MS));
  }

  /** Arms a pending timer anew for that moment of driver time. */
  armAt(id: TimerId, whenMs: number): void {
    const slot = this.#slotOf(id);
    if (slot >= 0) this.#arm(slot, whenMs);
  }

  has(id: TimerId): boolean {
    return this.#slotOf(id) >= 0;
  }

  isRefed(id: TimerId): boolean {
    const slot = this.#slotOf(id);
    return slot >= 0 && this.#refed[slot] === 1;
  }

  setRefed(id: TimerId, ref: boolean): void {
    const slot = this.#slotOf(id);
    if (slot < 0 || this.#refed[slot] === (ref ? 1 : 0)) return;
    this.#refed[slot] = ref ? 1 : 0;
    this.#refs += ref ? 1 : -1;
    this.#hold();
  }

  deadline(id: TimerId): number {
    const slot = this.#slotOf(id);
    return slot < 0 ? Infinity : (this.#deadlines[slot] ?? Infinity);
  }

  /** The earliest moment at which a timer may be due, or `Infinity`. */
  next(): number {
    const next = this.#wheel.next();
    return next < 0 ? Infinity : next;
  }

  /**
   * Runs what is due, in the order of deadlines; at most one batch. It may be entered again from
   * within: a microtask that runs between two callbacks may install and advance fake timers.
   */
  readonly run = (): void => {
    this.#disarm();
    const count = this.#wheel.advance(Math.floor(this.now()));
    let at = 0;
    try {
      // A timer that an earlier one of the batch removed has no deadline or another generation.
      const ids = Array.from(this.#due.subarray(0, count), (slot) => (this.#generations[slot] ?? 0) * SLOTS_MAX + slot);
      const dueAt = ids.map((id) => this.deadline(id));
      while (at < count) {
        const id = ids[at] ?? 0;
        const due = dueAt[at++] ?? 0;
        const slot = this.#slotOf(id);
        if (slot < 0 || this.#deadlines[slot] !== due) continue;
        const task = this.#tasks[slot];
        const context = this.#contexts[slot];
        try {
          if (context === undefined) task?.run(this, id, due);
          else context.runInAsyncScope(() => task?.run(this, id, due));
        } catch (error) {
          // The rest of the batch is due still: it runs in the next turn, as on the host.
          for (let rest = at; rest < count; rest++) {
            const other = ids[rest] ?? 0;
            if (this.has(other) && this.deadline(other) === dueAt[rest]) this.#wheel.arm(this.#slotOf(other), dueAt[rest] ?? 0);
          }
          throw error;
        }
        this.clock.checkpoint();
      }
    } finally {
      if (count === BATCH_MAX || at < count) this.clock.soon(this.run);
      else this.#rearm();
    }
  };

  #slotOf(id: TimerId): number {
    const slot = id % SLOTS_MAX;
    return this.#tasks[slot] !== undefined && this.#generations[slot] === (id - slot) / SLOTS_MAX ? slot : -1;
  }

  #arm(slot: number, whenMs: number): void {
    const when = Math.ceil(whenMs);
    this.#deadlines[slot] = when;
    this.#wheel.arm(slot, when);
    if (when < this.#alarmAt) this.#rearm(when);
    else if (this.#refs > 0 && !this.#alarmRefed) this.#hold();
  }

  #rearm(when = this.next()): void {
    this.#disarm();
    if (when === Infinity) return;
    this.#alarmAt = when;
    const delay = Math.min(Math.max(1, Math.ceil(when - this.clock.now() - this.#offset)), ALARM_MAX_MS);
    this.#alarm = this.clock.arm(this.run, delay);
    this.#alarmRefed = true;
    this.#hold();
  }

  #disarm(): void {
    this.#alarm?.cancel();
    this.#alarm = undefined;
    this.#alarmAt = Infinity;
  }

  #hold(): void {
    const ref = this.#refs > 0;
    if (ref === this.#alarmRefed || this.#alarm === undefined) return;
    this.#alarmRefed = ref;
    if (ref) this.#alarm.ref();
    else this.#alarm.unref();
  }

  #grow(): void {
    const length = Math.min(this.#generations.length * 2, SLOTS_MAX);
    const grown = <T extends Uint32Array | Float64Array | Uint8Array>(to: T, from: T): T => (to.set(from), to);
    this.#generations = grown(new Uint32Array(length), this.#generations);
    this.#deadlines = grown(new Float64Array(length), this.#deadlines);
    this.#refed = grown(new Uint8Array(length), this.#refed);
  }
}

const drivers = new WeakMap<Clock, Driver>();

/** The one driver of a clock. @internal */
export function driverOf(clock: Clock): Driver {
  let driver = drivers.get(clock);
  if (driver === undefined) {
    driver = new Driver(clock);
    drivers.set(clock, driver);
  }
  return driver;
}

/** The async context of the caller, as an object that runs callbacks in it. @internal */
export const captureContext = (): AsyncResource => new AsyncResource('PortcullisTimer', { requireManualDestroy: true });
