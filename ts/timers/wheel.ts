/**
 * Hierarchical timing wheel (Varghese & Lauck, scheme 7) with 64 lists a level, over typed arrays.
 *
 * ```text
 * level 0   64 x 1 ms       occupied 0b..
 * level 1   64 x 64 ms
 *   ..
 * level 7   64 x 2^42 ms    8,900 years in all
 * ```
 *
 * A timer is named by its slot, a number that the caller chooses.
 *
 * Invariants:
 * - An armed timer is in exactly one list: that of the highest six-bit digit in which its deadline
 *   differs from the current time.
 * - `advance(now)` yields no timer before its deadline, and none twice.
 * - Timers come out in the order of their deadlines, those of one deadline in the order in which
 *   they were armed: a timer is appended at the tail of its list, and a list cascades exactly when
 *   time enters its range, so no timer is in a list of a lower level before.
 */

const LEVELS = 8;
const LISTS = 64;
const NIL = -1;
const UNLINKED = -2;
/**
 * Times are split at 30 bits, which five levels cover: both engines are fast at integers below
 * 2^30.
 */
const HALF_LEVELS = 5;
const HALF = 2 ** 30;
/** The latest deadline, ms. A later one counts as this. */
const WHEN_MAX = 2 ** 48 - 1;

/** Deadlines of slots, by a hierarchical timing wheel. @internal */
export class Wheel {
  #elapsed = 0;
  #elapsedHigh = 0;
  #elapsedLow = 0;
  readonly #heads = new Int32Array(LEVELS * LISTS).fill(NIL);
  readonly #tails = new Int32Array(LEVELS * LISTS).fill(NIL);
  /** One bit a list, set if the list is not empty: two words a level. */
  readonly #occupied = new Int32Array(LEVELS * 2);
  #when: Float64Array;
  #next: Int32Array;
  #prev: Int32Array;

  constructor(capacity: number) {
    this.#when = new Float64Array(capacity);
    this.#next = new Int32Array(capacity).fill(UNLINKED);
    this.#prev = new Int32Array(capacity);
  }

  /** Makes room for slots below `capacity`. */
  grow(capacity: number): void {
    const [when, next, prev] = [this.#when, this.#next, this.#prev];
    this.#when = new Float64Array(capacity);
    this.#when.set(when);
    this.#next = new Int32Array(capacity).fill(UNLINKED, next.length);
    this.#next.set(next);
    this.#prev = new Int32Array(capacity);
    this.#prev.set(prev);
  }

  /** Whether the slot is armed. */
  isArmed(slot: number): boolean {
    return this.#next[slot] !== UNLINKED;
  }

  /** Returns the deadline for which the slot was armed last. */
  deadline(slot: number): number {
    return this.#when[slot]!;
  }

  /**
   * Arms `slot` for `when`, in whole milliseconds. Moves it if it is armed; a past deadline is due
   * at the next `advance`.
   */
  arm(slot: number, when: number): void {
    if (this.#next[slot] !== UNLINKED) this.#unlink(slot);
    this.#when[slot] = when > this.#elapsed ? Math.min(when, WHEN_MAX) : this.#elapsed;
    this.#link(slot);
  }

  /** Disarms `slot`, if it is armed. */
  cancel(slot: number): void {
    if (this.#next[slot] !== UNLINKED) this.#unlink(slot);
  }

  /**
   * Disarms the slots that are due at `now` and writes them to `due`, at most as many as it holds.
   * If `due` is full, more may be due at the same `now`. A `now` before the last one counts as the
   * last.
   *
   * @returns the number of slots written
   */
  advance(now: number, due: Uint32Array): number {
    const until = Math.min(Math.max(now, this.#elapsed), WHEN_MAX);
    let count = 0;
    while (count < due.length) {
      const level = this.#firstLevel();
      const start = level < 0 ? Infinity : this.#startOf(level);
      if (start > until) {
        this.#setElapsed(until);
        break;
      }
      if (start > this.#elapsed) this.#setElapsed(start);
      const list = this.#listOf(this.#elapsed, level);
      if (level > 0) {
        this.#cascade(list);
        continue;
      }
      for (
        let slot = this.#heads[list]!;
        slot !== NIL && count < due.length;
        slot = this.#heads[list]!
      ) {
        this.#unlink(slot);
        due[count++] = slot;
      }
    }
    return count;
  }

  /**
   * Returns the time at which `advance` has to be called next, or `Infinity`: the earliest
   * deadline, or a time before it if its list is longer than 64.
   */
  next(): number {
    const level = this.#firstLevel();
    if (level < 0) return Infinity;
    const start = this.#startOf(level);
    if (level === 0) return start;
    let best = Infinity;
    let slot = this.#heads[this.#listOf(start, level)]!;
    // The scan is bounded, because an early wake-up costs less than a long scan.
    for (let looked = 0; looked < 64; looked++) {
      if (slot === NIL) return best;
      best = Math.min(best, this.#when[slot]!);
      slot = this.#next[slot]!;
    }
    return start;
  }

  #setElapsed(when: number): void {
    this.#elapsed = when;
    this.#elapsedHigh = Math.floor(when / HALF);
    this.#elapsedLow = when - this.#elapsedHigh * HALF;
  }

  /**
   * Returns the lowest level with timers, whose first list begins before all others; -1 if there is
   * none.
   */
  #firstLevel(): number {
    const occupied = this.#occupied;
    for (let level = 0; level < LEVELS; level++)
      if ((occupied[level * 2]! | occupied[level * 2 + 1]!) !== 0) return level;
    return -1;
  }

  /**
   * Returns the time at which the range of a level's first occupied list begins. No list before the
   * current time is occupied.
   */
  #startOf(level: number): number {
    const low = this.#occupied[level * 2]!;
    const digit =
      low === 0
        ? 63 - Math.clz32(lowestBit(this.#occupied[level * 2 + 1]!))
        : 31 - Math.clz32(lowestBit(low));
    const unit = 64 ** level;
    return Math.floor(this.#elapsed / (unit * LISTS)) * unit * LISTS + digit * unit;
  }

  /**
   * Returns the list for `when`: its level is the highest six-bit digit in which `when` differs
   * from the current time.
   */
  #listFor(when: number): number {
    // Neither `Math.floor` nor `%`: on doubles, both are calls into a library.
    const high = (when * (1 / HALF)) | 0;
    if (high === this.#elapsedHigh) {
      const low = (when - high * HALF) | 0;
      const level = ((31 - Math.clz32((low ^ this.#elapsedLow) | (LISTS - 1))) / 6) | 0;
      return level * LISTS + ((low >>> (6 * level)) & (LISTS - 1));
    }
    const level = ((31 - Math.clz32((high ^ this.#elapsedHigh) | (LISTS - 1))) / 6) | 0;
    return (HALF_LEVELS + level) * LISTS + ((high >>> (6 * level)) & (LISTS - 1));
  }

  #listOf(when: number, level: number): number {
    return level * LISTS + (Math.floor(when / 64 ** level) % LISTS);
  }

  /** Moves the timers of a list to the levels below. */
  #cascade(list: number): void {
    let slot = this.#heads[list]!;
    this.#heads[list] = NIL;
    this.#tails[list] = NIL;
    this.#occupied[list >>> 5]! &= ~(1 << (list & 31));
    while (slot !== NIL) {
      const next = this.#next[slot]!;
      this.#link(slot);
      slot = next;
    }
  }

  #link(slot: number): void {
    const list = this.#listFor(this.#when[slot]!);
    const tail = this.#tails[list]!;
    this.#prev[slot] = tail;
    this.#next[slot] = NIL;
    this.#tails[list] = slot;
    if (tail === NIL) {
      this.#heads[list] = slot;
      this.#occupied[list >>> 5]! |= 1 << (list & 31);
    } else this.#next[tail] = slot;
  }

  #unlink(slot: number): void {
    const next = this.#next[slot]!;
    const prev = this.#prev[slot]!;
    this.#next[slot] = UNLINKED;
    if (prev !== NIL && next !== NIL) {
      this.#next[prev] = next;
      this.#prev[next] = prev;
      return;
    }
    const list = this.#listFor(this.#when[slot]!);
    if (prev === NIL) this.#heads[list] = next;
    else this.#next[prev] = next;
    if (next === NIL) this.#tails[list] = prev;
    else this.#prev[next] = prev;
    if (this.#heads[list] === NIL) this.#occupied[list >>> 5]! &= ~(1 << (list & 31));
  }
}

const lowestBit = (bits: number): number => bits & -bits;
