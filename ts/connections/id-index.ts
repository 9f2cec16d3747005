/**
 * The live connections by id: a hash table with open addressing, from ids to slots. It costs less
 * time and memory than a `Map`, which keeps deleted entries in its chains until it is rebuilt.
 *
 * A cell is two numbers, the hash of an id and its slot + 1 (0: free), side by side, so that a probe
 * stays in one cache line. Linear probing; a removal moves the following entries back (Knuth, The Art
 * of Computer Programming 3, 6.4, algorithm R), so that no tombstones are left.
 *
 * The hash is multilinear over random keys (Lemire and Kaser, "Strongly universal string hashing is
 * fast", 2014): clients may choose their ids, and without the keys nobody can make ids collide.
 */
import { randomNumbers } from '../base/random.js';
import { ID_MAX } from './arguments.js';
import { PLACE_MASK, type Segment, SEGMENT_BITS } from './segment.js';

const CELLS_MIN = 64;

/** Two random keys for each unit of the longest id, and two for the end mark. */
const keys = randomNumbers(2 * (ID_MAX + 1));

/** Returns 32 bits mixed from two sums of 32 bits: two ids share both sums by chance only. @internal */
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
  return seen > 0xff ? hashOfWide(id) : finish(high, low, length);
}

/**
 * Hashes unit by unit: two units above 0xff would overlap in one pair, and an attacker could make
 * pairs collide. Subtracts instead of adding, so that no wide id hashes like an id of pairs.
 */
function hashOfWide(id: string): number {
  let high = 0;
  let low = 0;
  for (let at = 0; at < id.length; at++) {
    const unit = id.charCodeAt(at);
    high = (high - Math.imul(unit, keys[2 * at]!)) | 0;
    low = (low - Math.imul(unit, keys[2 * at + 1]!)) | 0;
  }
  return finish(high, low, id.length);
}

/**
 * Ends both sums as if a unit of 1 followed, so that zeros at the end of an id count. Then mixes them
 * (MurmurHash3's finalizer): ids that count up lie on a grid, which unlucky keys can make a coarse one.
 */
function finish(high: number, low: number, length: number): number {
  let hash = (high + keys[2 * length]!) ^ Math.imul(low + keys[2 * length + 1]!, 0x9e37_79b1);
  hash = Math.imul(hash ^ (hash >>> 16), 0x85eb_ca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2_ae35);
  return hash ^ (hash >>> 16);
}

/**
 * Cells of the old table that an addition moves while the table grows. Eight empty the old table long
 * before the new one is full.
 */
const MOVES = 8;

/** One table of cells. Each growth makes one of twice the size. */
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

  /** Removes an entry; `false` if it is not in this table. */
  remove(hash: number, entry: number): boolean {
    const { cells, mask } = this;
    let at = hash & mask;
    for (; cells[2 * at + 1] !== entry; at = (at + 1) & mask)
      if (cells[2 * at + 1] === 0) return false;
    this.clear(at);
    return true;
  }

  /** Empties a cell, and moves back the entries that collisions have pushed behind it. */
  clear(at: number): void {
    const { cells, mask } = this;
    let free = at;
    for (;;) {
      at = (at + 1) & mask;
      if (cells[2 * at + 1] === 0) break;
      // An entry whose home cell lies behind the free cell must stay behind it.
      if (((at - cells[2 * at]!) & mask) < ((at - free) & mask)) continue;
      cells[2 * free] = cells[2 * at]!;
      cells[2 * free + 1] = cells[2 * at + 1]!;
      free = at;
    }
    cells[2 * free + 1] = 0;
  }
}

/** Finds connections by id. Holds slots; the connections stand in the segments. @internal */
export class IdIndex<C extends { readonly id: string }> {
  #table = new Table(CELLS_MIN);
  /** The smaller table during a growth: nothing is added to it, and its cells below `#moved` are empty. */
  #old: Table | undefined;
  #moved = 0;
  #size = 0;
  readonly #segments: readonly Segment<C>[];

  /** @param segments holds the connection of each slot; the caller appends to it */
  constructor(segments: readonly Segment<C>[]) {
    this.#segments = segments;
  }

  get size(): number {
    return this.#size;
  }

  find(id: string, hash: number): C | undefined {
    const found = this.#findIn(this.#table, id, hash);
    return found === undefined && this.#old !== undefined
      ? this.#findIn(this.#old, id, hash)
      : found;
  }

  #findIn({ cells, mask }: Table, id: string, hash: number): C | undefined {
    for (let at = hash & mask; ; at = (at + 1) & mask) {
      const slot = cells[2 * at + 1]! - 1;
      if (slot < 0) return undefined;
      if (cells[2 * at] !== hash) continue;
      const found = this.#segments[slot >>> SEGMENT_BITS]!.connections[slot & PLACE_MASK];
      if (found !== undefined && found.id === id) return found;
    }
  }

  /** Adds an id that is not in the index. */
  add(hash: number, slot: number): void {
    const size = this.#table.mask + 1;
    // Up to three quarters full, a search takes 2.5 probes on average and a miss 8.5 (Knuth, 6.4).
    if (this.#old !== undefined) this.#move(this.#old);
    else if (4 * (this.#size + 1) > 3 * size) {
      this.#old = this.#table;
      this.#moved = 0;
      this.#table = new Table(2 * size);
    }
    this.#table.add(hash, slot + 1);
    this.#size++;
  }

  /** Removes an id that is in the index. */
  remove(hash: number, slot: number): void {
    if (!this.#table.remove(hash, slot + 1)) this.#old?.remove(hash, slot + 1);
    this.#size--;
  }

  /** Moves some cells to the larger table: moving a million at once would block the loop for 50 ms. */
  #move(old: Table): void {
    const end = Math.min(this.#moved + MOVES, old.mask + 1);
    for (let at = this.#moved; at < end;) {
      const entry = old.cells[2 * at + 1]!;
      if (entry === 0) at++;
      else {
        this.#table.add(old.cells[2 * at]!, entry);
        // An entry that was pushed out of this cell moves back into it, and is the next to move.
        old.clear(at);
      }
    }
    this.#moved = end;
    if (end > old.mask) this.#old = undefined;
  }
}
