/** Limits wrong tokens: by the client's network, and in all. */
import { maskedNetwork } from '../base/address.js';
import { hostClock } from '../base/clock.js';

const WINDOW_MS = 60_000;
/** Wrong tokens of one network in a window. */
const MAX_PER_NETWORK = 10;
/** Wrong tokens in a window; so a window has at most as many networks. */
const MAX = 100;
/** Networks that once presented the token. Wrong tokens of others do not lock them out. */
const KNOWN_MAX = 64;

/**
 * Counts wrong tokens in windows of a minute. A network is the first 24 bits of an IPv4 address, or
 * the first 48 bits of an IPv6 address, which one client may own.
 * @internal
 */
export class Guesses {
  readonly #now: () => number;
  readonly #wrong = new Map<string, number>();
  readonly #known = new Set<string>();
  #total = 0;
  #windowEnd = 0;

  constructor(now: () => number = () => hostClock.now()) {
    this.#now = now;
  }

  /**
   * Returns how long a client may present no token, ms; 0 if it may.
   * @param peer the socket's address
   */
  lockedMs(peer: string): number {
    const now = this.#now();
    if (now >= this.#windowEnd) {
      this.#windowEnd = now + WINDOW_MS;
      this.#wrong.clear();
      this.#total = 0;
    }
    const network = maskedNetwork(peer);
    const isLocked =
      (this.#wrong.get(network) ?? 0) >= MAX_PER_NETWORK ||
      (this.#total >= MAX && !this.#known.has(network));
    return isLocked ? this.#windowEnd - now : 0;
  }

  /** Counts a wrong token. */
  wrong(peer: string): void {
    const network = maskedNetwork(peer);
    this.#total++;
    this.#wrong.set(network, (this.#wrong.get(network) ?? 0) + 1);
  }

  /** Notes that a client has presented the token. */
  right(peer: string): void {
    const network = maskedNetwork(peer);
    if (this.#known.has(network)) return;
    if (this.#known.size >= KNOWN_MAX) {
      for (const oldest of this.#known) {
        this.#known.delete(oldest);
        break;
      }
    }
    this.#known.add(network);
  }
}
