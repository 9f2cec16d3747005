/**
 * The live connections by id: open addressing over the slots, cheaper in time and memory than a
 * `Map`, whose deleted entries stay in its chains until it is rebuilt.
 *
 * A cell is two numbers, the hash of an id and its slot + 1 (0: free), so that a probe stays in one
 * cache line. Linear probing; a removal moves what follows back (Knuth, The Art of Computer
 * Programming 3, 6.4, algorithm R), so nothing is left of what is gone.
 *
 * The hash is multilinear over random keys (Lemire and Kaser, "Strongly universal string hashing is
 * fast", 2014): ids may be the clients' to choose, and no choice of theirs makes collisions likely.
 */
import {
  ID_MAX,
  type ManagedConnection,
  type Segment,
  SEGMENT,
  SEGMENT_BITS,
} from './connection.js';

const CELLS_MIN = 64;

/** Two random keys for each unit of the longest id, and for what ends it. */
const keys = new Int32Array(2 * (ID_MAX + 1));
globalThis.crypto.getRandomValues(keys);

/** 32 bits, out of 64 of which no two ids share all but by chance. @internal */
export function hashOf(id: string): number {
  const { length } = id;
  let high = 0;
  let low = 0;
  let seen = 0;
  let at = 0;
  // Two units of Latin-1 at a time: half the multiplications.
  for (; at + 1 < length; at += 2) {
    const first = id.charCodeAt(at);
    const second = id.charCodeAt(at + 1);
    seen |= first | second;
    const pair = first | (second << 8);
    high = (high + Math.imul(pair, keys[at]!)) | 0;
    low = (low + Math.imul(pair, keys[at + 1]!)) | 0;
  }
  if (at < length) {
    const last = id.charCodeAt(at);
    seen |= last;
    high = (high + Math.imul(last, keys[at]!)) | 0;
    low = (low + Math.imul(last, keys[at + 1]!)) | 0;
  }
  return seen > 0xff ? hashOfWide(id) : ended(high, low, length);
}

/** Unit by unit: pairs of wider ones would overlap, and collide at their author's will. Subtracted, so that none is like a pair. */
function hashOfWide(id: string): number {
  let high = 0;
  let low = 0;
  for (let at = 0; at < id.length; at++) {
    const unit = id.charCodeAt(at);
    high = (high - Math.imul(unit, keys[2 * at]!)) | 0;
    low = (low - Math.imul(unit, keys[2 * at + 1]!)) | 0;
  }
  return ended(high, low, id.length);
}

/**
 * As if a unit of 1 followed: an id is not one with zeros behind it. Then both sums are mixed
 * (MurmurHash3's finalizer): by themselves, ids that count up lie on a grid that the keys may make a coarse one.
 */
function ended(high: number, low: number, length: number): number {
  let hash = (high + keys[2 * length]!) ^ Math.imul(low + keys[2 * length + 1]!, 0x9e37_79b1);
  hash = Math.imul(hash ^ (hash >>> 16), 0x85eb_ca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2_ae35);
  return hash ^ (hash >>> 16);
}

/** Cells of a table that is being left which an addition moves: it is empty long before the next one is full. */
const MOVES = 8;

/** One table: cells of two numbers, twice as many at each growth. */
class Table {
  readonly cells: Int32Array;
  readonly mask: number;
  constructor(size: number) {
    this.cells = new Int32Array(2 * size);
    this.mask = size - 1;
  }

  add(hash: number, entry: number): void {
    const { cells, mask } = this;
    let at = hash & mask;
    while (cells[2 * at + 1] !== 0) at = (at + 1) & mask;
    cells[2 * at] = hash;
    cells[2 * at + 1] = entry;
  }

  /** Whether it was there. */
  remove(hash: number, entry: number): boolean {
    const { cells, mask } = this;
    let at = hash & mask;
    for (; cells[2 * at + 1] !== entry; at = (at + 1) & mask)
      if (cells[2 * at + 1] === 0) return false;
    this.clear(at);
    return true;
  }

  /** Empties a cell, and moves back what was pushed behind it. */
  clear(at: number): void {
    const { cells, mask } = this;
    let free = at;
    for (;;) {
      at = (at + 1) & mask;
      if (cells[2 * at + 1] === 0) break;
      // An entry whose home lies behind the free cell has to stay behind it.
      if (((at - cells[2 * at]!) & mask) < ((at - free) & mask)) continue;
      cells[2 * free] = cells[2 * at]!;
      cells[2 * free + 1] = cells[2 * at + 1]!;
      free = at;
    }
    cells[2 * free + 1] = 0;
  }
}

/** @internal */
export class IdIndex {
  #table = new Table(CELLS_MIN);
  /** The smaller table that is being left: nothing is added to it, its cells below `#moved` are empty. */
  #old: Table | undefined;
  #moved = 0;
  #size = 0;
  readonly #segments: readonly Segment[];

  /** @param segments where the connections of the slots stand; the caller appends to it */
  constructor(segments: readonly Segment[]) {
    this.#segments = segments;
  }

  get size(): number {
    return this.#size;
  }

  find(id: string, hash: number): ManagedConnection | undefined {
    const found = this.#findIn(this.#table, id, hash);
    return found === undefined && this.#old !== undefined
      ? this.#findIn(this.#old, id, hash)
      : found;
  }

  #findIn({ cells, mask }: Table, id: string, hash: number): ManagedConnection | undefined {
    for (let at = hash & mask; ; at = (at + 1) & mask) {
      const slot = cells[2 * at + 1]! - 1;
      if (slot < 0) return undefined;
      if (cells[2 * at] !== hash) continue;
      const found = this.#segments[slot >>> SEGMENT_BITS]!.connections[slot & (SEGMENT - 1)];
      if (found !== undefined && found.id === id) return found;
    }
  }

  /** Adds what is not there yet. */
  add(hash: number, slot: number): void {
    const size = this.#table.mask + 1;
    // A load of three quarters: then a search takes 2.5 probes, a miss 8.5 (Knuth, 6.4).
    if (this.#old !== undefined) this.#move(this.#old);
    else if (4 * (this.#size + 1) > 3 * size) {
      this.#old = this.#table;
      this.#moved = 0;
      this.#table = new Table(2 * size);
    }
    this.#table.add(hash, slot + 1);
    this.#size++;
  }

  /** Removes what is there. */
  remove(hash: number, slot: number): void {
    if (!this.#table.remove(hash, slot + 1)) this.#old?.remove(hash, slot + 1);
    this.#size--;
  }

  /** A little of the way into the larger table: to move a million at once would hold the loop up for 50 ms. */
  #move(old: Table): void {
    const end = Math.min(this.#moved + MOVES, old.mask + 1);
    for (let at = this.#moved; at < end;) {
      const entry = old.cells[2 * at + 1]!;
      if (entry === 0) at++;
      else {
        this.#table.add(old.cells[2 * at]!, entry);
        // What was pushed out of this cell comes back to it, and is next.
        old.clear(at);
      }
    }
    this.#moved = end;
    if (end > old.mask) this.#old = undefined;
  }
}
