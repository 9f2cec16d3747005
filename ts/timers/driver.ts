import { AsyncResource } from 'node:async_hooks';
import type { Clock, ClockAlarm } from '../base/clock.js';
import { PortcullisError } from '../base/errors.js';
import { Wheel } from './wheel.js';

/** How many callbacks run in one turn of the loop. */
const BATCH_MAX = 1024;
const SLOT_BITS = 22;
/** How many timers can be pending. @internal */
export const SLOTS_MAX = 2 ** SLOT_BITS;
/** The longest delay a host's timer takes. */
const ALARM_MAX_MS = 2 ** 31 - 1;
// -1 in an Int32Array: 2^32-1 in a Uint32Array would make the engines turn slots into doubles.
const NIL = -1;
const FIRST_CAPACITY = 1024;
/** Beyond this many slots the columns grow by as many: doubling would hold half of them idle. */
const GROWTH_MAX = 2 ** 17;
const REF = 1;
const INTERVAL = 2;

/** A timer's callback. @internal */
export type Action = (...args: unknown[]) => unknown;

/** What few timers have; the others have none of it. @internal */
export interface Extra {
  readonly args: unknown[] | undefined;
  readonly name: string | undefined;
  readonly overlap: 'allow' | 'skip' | 'queue';
  /** Whether the last promise of an interval is still pending, and whether a tick waits for it. */
  isPending: boolean;
  isQueued: boolean;
  /** Takes back what listens to the timer's signal. */
  unlisten: (() => void) | undefined;
}

/** Holds timers: the head of a list of slots, and their number. */
interface Owner {
  first: number;
  count: number;
}

/** A new owner, of nothing. @internal */
export const newOwner = (): Owner => ({ first: NIL, count: 0 });

/** One batch of due timers. */
class Batch {
  readonly slots = new Uint32Array(BATCH_MAX);
  readonly generations = new Int32Array(BATCH_MAX);
  readonly due = new Float64Array(BATCH_MAX);
}

/**
 * All timers of one clock: a timing wheel, driven by one alarm. A timer is a slot in columns, 57
 * bytes; what few have (arguments, a name, a signal) is kept apart.
 * @internal
 */
export class Driver {
  readonly clock: Clock;
  readonly #wheel = new Wheel(FIRST_CAPACITY);
  readonly #actions: (Action | undefined)[] = [];
  readonly #owners: (Owner | undefined)[] = [];
  /** Made as long as needed, and only if contexts are captured. */
  readonly #contexts: (AsyncResource | undefined)[] = [];
  readonly #extras = new Map<number, Extra>();
  #capacity = FIRST_CAPACITY;
  #generations = new Int32Array(FIRST_CAPACITY);
  #delays = new Float64Array(FIRST_CAPACITY);
  /** Only for reports, and exact to a 16-millionth of the driver's age: a tenth of a second in three weeks. */
  #created = new Float32Array(FIRST_CAPACITY);
  #flags = new Uint8Array(FIRST_CAPACITY);
  /** The next slot of the owner, or the next free one. */
  #next = new Int32Array(FIRST_CAPACITY);
  #previous = new Int32Array(FIRST_CAPACITY);
  #free = NIL;
  #refs = 0;
  #active = 0;
  /** One for each run under way: they nest. */
  readonly #batches: Batch[] = [new Batch()];
  #depth = 0;
  #alarm: ClockAlarm | undefined;
  #alarmAt = Infinity;
  #alarmRefed = true;
  #identity: unknown;
  /** Added to the clock's time: keeps ours continuous when the clock is exchanged under us. */
  #offset = 0;
  #last = 0;

  constructor(clock: Clock) {
    this.clock = clock;
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

  /** Arms a new timer of `owner`; returns its slot. */
  add(
    owner: Owner,
    action: Action,
    delayMs: number,
    isInterval: boolean,
    isRefed: boolean,
    context: AsyncResource | undefined,
    extra: Extra | undefined,
  ): number {
    let slot = this.#free;
    if (slot !== NIL) this.#free = this.#next[slot]!;
    else {
      slot = this.#actions.length;
      if (slot >= SLOTS_MAX)
        throw new PortcullisError(
          'ERR_TOO_MANY_TIMERS',
          `no more than ${SLOTS_MAX} timers can be pending`,
        );
      if (slot >= this.#capacity) this.#grow();
      this.#actions.push(undefined);
      this.#owners.push(undefined);
    }
    const now = this.now();
    this.#actions[slot] = action;
    this.#owners[slot] = owner;
    if (context !== undefined) {
      while (this.#contexts.length <= slot) this.#contexts.push(undefined);
      this.#contexts[slot] = context;
    }
    if (extra !== undefined) this.#extras.set(slot, extra);
    const generation = (this.#generations[slot]! + 1) & 0x7fff_ffff || 1;
    this.#generations[slot] = generation;
    this.#delays[slot] = delayMs;
    this.#created[slot] = now;
    this.#flags[slot] = (isRefed ? REF : 0) | (isInterval ? INTERVAL : 0);
    const { first } = owner;
    this.#next[slot] = first;
    this.#previous[slot] = NIL;
    if (first !== NIL) this.#previous[first] = slot;
    owner.first = slot;
    owner.count++;
    this.#active++;
    if (isRefed) this.#refs++;
    this.#arm(slot, now + delayMs);
    return slot;
  }

  /** The generation of a slot: with it, a place that is never used twice. */
  generation(slot: number): number {
    return this.#generations[slot]!;
  }

  /** Removes a timer; `false` when it is gone already. */
  remove(slot: number, generation: number): boolean {
    if (!this.has(slot, generation)) return false;
    this.#remove(slot);
    return true;
  }

  #remove(slot: number): void {
    this.#wheel.cancel(slot);
    const owner = this.#owners[slot]!;
    const next = this.#next[slot]!;
    const previous = this.#previous[slot]!;
    if (previous === NIL) owner.first = next;
    else this.#next[previous] = next;
    if (next !== NIL) this.#previous[next] = previous;
    owner.count--;
    this.#actions[slot] = undefined;
    this.#owners[slot] = undefined;
    if (slot < this.#contexts.length) this.#contexts[slot] = undefined;
    if (this.#extras.size > 0) {
      this.#extras.get(slot)?.unlisten?.();
      this.#extras.delete(slot);
    }
    this.#next[slot] = this.#free;
    this.#free = slot;
    this.#active--;
    if ((this.#flags[slot]! & REF) !== 0) this.#refs--;
    if (this.#active === 0) this.#disarm();
    else if (this.#refs === 0) this.#hold();
  }

  /** Removes all timers of `owner`. */
  clear(owner: Owner): { timeouts: number; intervals: number } {
    const cleared = { timeouts: 0, intervals: 0 };
    while (owner.first !== NIL) {
      if ((this.#flags[owner.first]! & INTERVAL) === 0) cleared.timeouts++;
      else cleared.intervals++;
      this.#remove(owner.first);
    }
    return cleared;
  }

  /** The timers of `owner`, the youngest first. */
  *of(owner: Owner): Generator<{
    name: string | undefined;
    isInterval: boolean;
    isRefed: boolean;
    createdMs: number;
    dueMs: number;
  }> {
    for (let slot = owner.first; slot !== NIL; slot = this.#next[slot]!) {
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

  /** Arms a pending timer anew, its delay from now. */
  refresh(slot: number, generation: number): boolean {
    const isPending = this.has(slot, generation);
    if (isPending) this.#arm(slot, this.now() + this.#delays[slot]!);
    return isPending;
  }

  /** Whether the timer is pending, and `owner`'s. Slots come from outside: they may be anything. */
  has(slot: number, generation: number, owner?: Owner): boolean {
    return (
      this.#generations[slot] === generation &&
      this.#actions[slot] !== undefined &&
      (owner === undefined || this.#owners[slot] === owner)
    );
  }

  setRefed(slot: number, generation: number, isRefed: boolean): void {
    if (!this.has(slot, generation) || ((this.#flags[slot]! & REF) !== 0) === isRefed) return;
    this.#flags[slot]! ^= REF;
    this.#refs += isRefed ? 1 : -1;
    this.#hold();
  }

  /** The earliest moment at which a timer may be due, or `Infinity`. */
  next(): number {
    return this.#wheel.next();
  }

  /**
   * Runs what is due, in the order of deadlines; at most one batch. It may be entered again from
   * within: a microtask that runs between two callbacks may install and advance fake timers.
   */
  readonly run = (): void => {
    this.#disarm();
    const batch = (this.#batches[this.#depth] ??= new Batch());
    this.#depth++;
    const { slots, generations, due } = batch;
    const count = this.#wheel.advance(Math.floor(this.now()), slots);
    let at = 0;
    try {
      // A timer that an earlier one of the batch removed has another generation or no action, and
      // one that it refreshed is armed.
      for (let i = 0; i < count; i++) {
        generations[i] = this.#generations[slots[i]!]!;
        due[i] = this.#wheel.deadline(slots[i]!);
      }
      while (at < count) {
        const slot = slots[at]!;
        const generation = generations[at]!;
        const dueMs = due[at++]!;
        if (!this.#isDue(slot, generation)) continue;
        try {
          this.#fire(slot, generation, dueMs);
        } catch (error) {
          // The rest of the batch is due still: it runs in the next turn, as on the host.
          for (let rest = at; rest < count; rest++) {
            if (this.#isDue(slots[rest]!, generations[rest]!))
              this.#wheel.arm(slots[rest]!, due[rest]!);
          }
          throw error;
        }
        this.clock.checkpoint();
      }
    } finally {
      this.#depth--;
      if (count === BATCH_MAX || at < count) this.clock.soon(this.run);
      else this.#rearm();
    }
  };

  #isDue(slot: number, generation: number): boolean {
    return (
      this.#generations[slot] === generation &&
      this.#actions[slot] !== undefined &&
      !this.#wheel.isArmed(slot)
    );
  }

  #fire(slot: number, generation: number, dueMs: number): void {
    const action = this.#actions[slot]!;
    const context = this.#contexts[slot];
    const extra = this.#extras.size === 0 ? undefined : this.#extras.get(slot);
    if ((this.#flags[slot]! & INTERVAL) === 0) {
      this.#remove(slot);
      call(action, context, extra?.args);
      return;
    }
    try {
      this.#tick(action, context, extra, slot, generation);
    } finally {
      // On its grid: ticks that were missed are skipped. Not if the callback cleared or moved it.
      if (this.#isDue(slot, generation)) {
        const delayMs = this.#delays[slot]!;
        const missed = Math.max(0, Math.floor((this.now() - dueMs) / delayMs));
        this.#arm(slot, dueMs + (missed + 1) * delayMs);
      }
    }
  }

  #tick(
    action: Action,
    context: AsyncResource | undefined,
    extra: Extra | undefined,
    slot: number,
    generation: number,
  ): void {
    if (extra === undefined || extra.overlap === 'allow')
      return void call(action, context, extra?.args);
    if (extra.isPending) {
      extra.isQueued = extra.overlap === 'queue';
      return;
    }
    const result = call(action, context, extra.args);
    if (!(result instanceof Promise)) return;
    extra.isPending = true;
    const settled = (): void => {
      extra.isPending = false;
      if (!extra.isQueued || !this.has(slot, generation)) return;
      extra.isQueued = false;
      this.#tick(action, context, extra, slot, generation);
    };
    // A rejection stays unhandled, as on the host: `finally` hands it on.
    void result.finally(settled);
  }

  #arm(slot: number, whenMs: number): void {
    const when = wholeAbove(whenMs);
    this.#wheel.arm(slot, when);
    if (when < this.#alarmAt) this.#rearm(when);
    else if (this.#refs > 0 && !this.#alarmRefed) this.#hold();
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

/** `Math.ceil` for 0 to 2^48, in integers: the library's costs more than the wheel's work on Bun. */
function wholeAbove(ms: number): number {
  const high = (ms * (1 / HALF)) | 0;
  const rest = ms - high * HALF;
  const low = rest | 0;
  return high * HALF + (low < rest ? low + 1 : low);
}

function call(
  action: Action,
  context: AsyncResource | undefined,
  args: unknown[] | undefined,
): unknown {
  if (context !== undefined)
    return context.runInAsyncScope(action, undefined, ...(args ?? NO_ARGS));
  return args === undefined ? action() : action(...args);
}

const NO_ARGS: readonly unknown[] = [];

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
export const captureContext = (): AsyncResource =>
  new AsyncResource('PortcullisTimer', { requireManualDestroy: true });
