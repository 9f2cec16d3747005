/** Tokens that were used, until they expire: each is accepted once. */
import { hostClock } from '../base/clock.js';
import { outOfRange } from '../base/errors.js';
import { ExpiryClock } from '../base/expiry-clock.js';
import { knownOptions, optionsObject, wholeNumber } from '../base/options.js';
import { numberOf } from '../validators/failure.js';
import type { TokenClaims } from './result.js';

/** Accepts each token once. */
export interface ReplayOptions {
  /**
   * Number of used tokens that are remembered until they expire: 1 to 10,000,000. While so many are
   * remembered, further tokens are refused with 503: none is forgotten for a new one.
   */
  readonly maxEntries: number;
}

const REPLAYED = numberOf('ERR_TOKEN_REPLAYED');
const FULL = numberOf('ERR_TOKEN_REPLAY_FULL');
/** Shortest time between two scans of a full list, ms. */
const PURGE_EVERY_MS = 1000;

/** Remembers used tokens by issuer and `jti`. @internal */
export class ReplayList {
  readonly #maxEntries: number;
  readonly #untilMs = new Map<string, number>();
  readonly #clock = new ExpiryClock();
  #purgedAtMs = -Infinity;

  /** @throws ERR_INVALID_ARG_TYPE, ERR_OUT_OF_RANGE, ERR_UNKNOWN_OPTION */
  constructor(options: ReplayOptions, cacheSize: unknown) {
    optionsObject('replay', options, 'an object with maxEntries');
    knownOptions('replay', options, ['maxEntries'], 'replay.');
    if (cacheSize !== undefined && cacheSize !== 0)
      throw outOfRange('cacheSize', cacheSize, '0 with replay: a cached token would be used again');
    this.#maxEntries = wholeNumber('replay.maxEntries', options.maxEntries, 1, 10_000_000);
  }

  get size(): number {
    return this.#untilMs.size;
  }

  /**
   * Notes the use of a good token.
   * @param deadlineSeconds time from which the token is invalid
   * @returns 0, or the number of a refusal
   */
  use({ iss = '', jti = '' }: TokenClaims, deadlineSeconds: number): number {
    // The length keeps pairs apart that read the same in a row.
    const key = `${iss.length} ${iss}${jti}`;
    const until = this.#untilMs.get(key);
    if (until !== undefined && this.#clock.nowMs() < until) return REPLAYED;
    if (until === undefined && this.#untilMs.size >= this.#maxEntries) {
      this.#purge();
      if (this.#untilMs.size >= this.#maxEntries) return FULL;
    }
    this.#untilMs.set(key, deadlineSeconds * 1000);
    return 0;
  }

  #purge(): void {
    const now = hostClock.now();
    if (now < this.#purgedAtMs + PURGE_EVERY_MS) return;
    this.#purgedAtMs = now;
    const expiredMs = this.#clock.nowMs();
    for (const [key, until] of this.#untilMs) if (expiredMs >= until) this.#untilMs.delete(key);
  }
}
