/** Names of the keys that a limiter refused most often. The core counts them, by their hashes. */
import { maskedNetwork } from '../base/address.js';
import { sharedArray } from '../native/shared-memory.js';

/** A key that a limiter refused often. */
export interface RefusedKey {
  /**
   * Network of an address (24 bits of IPv4, 48 of IPv6), or a pseudonym, `key 1f2e3d4c`, that stays the same as
   * long as the limiter lives; with `showKeys` the first 128 characters of the key.
   */
  readonly key: string;
  /** Refused costs; too high by at most `error`. */
  readonly refused: number;
  /** Greatest error of `refused`: 0 while at most 64 keys were refused, and at most a 64th of all refusals. */
  readonly error: number;
  /** Time since the latest refusal, ms. */
  readonly ageMs: number;
}

const SHOWN = 10;
/** Numbers of a key in the core's answer. */
const COLUMNS = 5;
const NAME_MAX = 128;
/** Characters of the longest address or network. */
const ADDRESS_MAX = 64;

/** The part of the core that is asked. */
interface RefusedKeySource {
  refusedKeys(rows: Float64Array, nowMs?: number): number;
}

/** @internal */
export class RefusedKeys {
  readonly #source: RefusedKeySource;
  readonly #showsKeys: boolean;
  /** Names by the places of the core; a key without one has its pseudonym. */
  readonly #names: (string | undefined)[] = [];
  #rows: Float64Array | undefined;

  constructor(source: RefusedKeySource, showsKeys: boolean) {
    this.#source = source;
    this.#showsKeys = showsKeys;
  }

  /** Names a key, which has taken the place of another one. */
  name(place: number, key: string): void {
    if (this.#showsKeys) this.#names[place] = shortened(key);
    else this.#names[place] = (key.length <= ADDRESS_MAX && maskedNetwork(key)) || undefined;
  }

  /** Returns the ten keys that were refused most often, the first one first. */
  top(now: number): RefusedKey[] {
    const rows = (this.#rows ??= sharedArray(Float64Array, SHOWN * COLUMNS));
    const count = this.#source.refusedKeys(rows, now);
    return Array.from({ length: count }, (_, at) => {
      const row = rows.subarray(at * COLUMNS, (at + 1) * COLUMNS);
      const [place = 0, refused = 0, error = 0, ageMs = 0, pseudonym = 0] = row;
      const key = this.#names[place] ?? `key ${pseudonym.toString(16).padStart(8, '0')}`;
      return { key, refused, error, ageMs };
    });
  }
}

/** Returns the beginning of a key, as a copy: a slice would keep the whole text in memory. */
const shortened = (key: string): string =>
  key.length <= NAME_MAX ? key : Buffer.from(key.slice(0, NAME_MAX), 'utf16le').toString('utf16le');
