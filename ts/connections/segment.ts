/**
 * The columns of connections: typed arrays of 4,096 slots each, which never move once they are made.
 * The core reads `stamps`; the other columns belong to JavaScript. `docs/memory.md` draws them.
 *
 * The constants that messages need are declared here without `export`: V8 folds a local constant
 * into the code and loads an exported or imported one at each use, 2 ns of the 10 that a message
 * takes.
 */
import { sharedArray } from '../native/shared-memory.js';
import type { ConnectionOwner } from './owner.js';

/** Bits of a slot's number that are its place in the segment. @internal */
export const SEGMENT_BITS = 12;
const SLOTS = 1 << 12;
const MASK = SLOTS - 1;
/** Slots of a segment. @internal */
export const SEGMENT_SLOTS = SLOTS;
/** Masks a slot's number to its place in the segment. @internal */
export const PLACE_MASK = MASK;

/** Counters of a slot, which stand side by side: a message writes two of them. */
const COUNTERS = 4;
const MESSAGES = 0;
const BYTES_IN = 1;
const BYTES_OUT = 2;
const CREATED = 3;
/** Not a counter: the stamp, in a column of its own. */
const STAMP = 4;

/** Names of a slot's figures: its counters, and its stamp. @internal */
export const FIGURES = { MESSAGES, BYTES_IN, BYTES_OUT, CREATED, STAMP } as const;

/** The columns of 4,096 slots: 40 bytes a slot, and 8 for the connection. @internal */
export class Segment<C> {
  /**
   * Loop time of the last activity of each slot, ms modulo 2^32. One cell more, behind the slots,
   * caches the latest tick: a message copies its stamp within one array.
   */
  readonly stamps = sharedArray(Uint32Array, SLOTS + 1);
  /** Messages received, bytes received, bytes sent, and the wall clock of the opening. */
  readonly counters = new Float64Array(SLOTS * COUNTERS);
  /** The connection of each slot. */
  readonly connections: (C | undefined)[] = Array.from({ length: SLOTS }, () => undefined);
  /** Hash of each slot's id, for the index of ids. */
  readonly hashes = new Int32Array(SLOTS);
  /** The owner's sums, so that a message need not load the owner for them. */
  readonly traffic: Float64Array;
  /** Arrival times (GCRA) of messages and of bytes, in pairs; allocated when a rate is first used. */
  #arrivals: Float64Array | undefined;
  /** Arrival times of pings and pongs; allocated at the first of them. */
  #controls: Float64Array | undefined;

  constructor(readonly owner: ConnectionOwner<C>) {
    this.traffic = owner.traffic;
  }

  /** Resets the columns of a slot for a new connection. */
  open(slot: number, createdAt: number): void {
    const { counters, stamps } = this;
    const place = slot & MASK;
    const at = place * COUNTERS;
    counters[at + MESSAGES] = 0;
    counters[at + BYTES_IN] = 0;
    counters[at + BYTES_OUT] = 0;
    counters[at + CREATED] = createdAt;
    stamps[place] = stamps[SLOTS]!;
    this.#arrivals?.fill(0, place * 2, place * 2 + 2);
    if (this.#controls !== undefined) this.#controls[place] = 0;
  }

  /** Counts a received message, and stamps the slot with the latest tick. */
  received(slot: number, bytes: number): void {
    const { counters, stamps, traffic } = this;
    const place = slot & MASK;
    stamps[place] = stamps[SLOTS]!;
    counters[place * COUNTERS]! += 1;
    counters[place * COUNTERS + BYTES_IN]! += bytes;
    traffic[0]!++;
    traffic[1]! += bytes;
  }

  /** Counts a sent message. */
  sent(slot: number, bytes: number): void {
    this.counters[(slot & MASK) * COUNTERS + BYTES_OUT]! += bytes;
    const traffic = this.traffic;
    traffic[2]!++;
    traffic[3]! += bytes;
  }

  /** Sets the stamp of a slot to a loop time, which wraps around. */
  stamp(slot: number, loopMs: number): void {
    this.stamps[slot & MASK] = loopMs;
  }

  /** Notes a tick of the loop clock. */
  tick(loopMs: number): void {
    this.stamps[SLOTS] = loopMs;
  }

  /** The stamps without the cached tick, as the core reads them. */
  sharedStamps(): Uint32Array {
    return this.stamps.subarray(0, SLOTS);
  }

  /** Arrival times of messages and of bytes: those of a slot begin at `2 * (slot & PLACE_MASK)`. */
  arrivals(): Float64Array {
    return (this.#arrivals ??= new Float64Array(SLOTS * 2));
  }

  /** Arrival times of pings and pongs, by `slot & PLACE_MASK`. */
  controls(): Float64Array {
    return (this.#controls ??= new Float64Array(SLOTS));
  }

  /** Counts the bytes of a ping or a pong. */
  receivedControl(slot: number, bytes: number): void {
    this.counters[(slot & MASK) * COUNTERS + BYTES_IN]! += bytes;
    this.traffic[1]! += bytes;
  }

  /** Forgets all arrival times. */
  forgetArrivals(): void {
    this.#arrivals?.fill(0);
    this.#controls?.fill(0);
  }

  /** Returns a figure of `slot`, by its number in `FIGURES`. */
  figure(slot: number, figure: number): number {
    const place = slot & MASK;
    return figure === STAMP ? this.stamps[place]! : this.counters[place * COUNTERS + figure]!;
  }

  /** Returns a copy of all figures of `slot`, in the order of `FIGURES`. */
  figures(slot: number): number[] {
    const place = slot & MASK;
    const at = place * COUNTERS;
    const { counters } = this;
    return [
      counters[at]!,
      counters[at + 1]!,
      counters[at + 2]!,
      counters[at + 3]!,
      this.stamps[place]!,
    ];
  }
}
