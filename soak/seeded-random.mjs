// A random sequence that its seed repeats.

/** Returns the 32-bit FNV-1a hash of a text: each trial's name gives it a sequence of its own. */
function hashOf(text) {
  let hash = 0x811c9dc5;
  for (const character of text) hash = Math.imul(hash ^ character.codePointAt(0), 0x01000193);
  return hash >>> 0;
}

/** The generator mulberry32 (Tommy Ettinger, public domain). */
export class SeededRandom {
  #state;

  /** @param {string | number} seed the same seed gives the same sequence */
  constructor(seed) {
    this.#state = hashOf(String(seed));
  }

  /** Returns a number from 0 up to 1, 1 excluded. */
  next() {
    this.#state = (this.#state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(this.#state ^ (this.#state >>> 15), 1 | this.#state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  }

  /** Returns a whole number from 0 to `end - 1`. */
  below(end) {
    return Math.floor(this.next() * end);
  }

  pick(list) {
    return list[this.below(list.length)];
  }

  bytes(length) {
    return Buffer.from(Array.from({ length }, () => this.below(256)));
  }
}
