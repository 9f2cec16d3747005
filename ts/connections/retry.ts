/**
 * Estimates when there is room again, for clients that are refused: from the rate at which seats
 * become free, and from the number of clients that were told to come back.
 */
import type { ConnectionLimits } from './limits.js';
import type { RefusalCode } from './refusal.js';

/** Time over which one rate of releases is measured, ms. */
const WINDOW_MS = 1000;
/** Shortest estimate: also that of refusals that no seat would cure, ms. */
const LEAST_MS = 1000;
/** Longest estimate: also that of a full server from which nobody has gone yet, ms. */
const MOST_MS = 30_000;

/** Seats at one moment. */
export interface SeatCounts {
  /** Admissions so far. */
  readonly admitted: number;
  /** Seats in use. */
  readonly total: number;
}

/**
 * Keeps the rate of releases. Arms no timer, and asks for the counts once in a window: a refusal must
 * stay cheap.
 * @internal
 */
export class RetryEstimate {
  readonly #random: () => number;
  #since: (SeatCounts & { readonly atMs: number }) | undefined;
  /** Releases per millisecond: half of the latest window, a quarter of the one before, and so on. */
  #rate = 0;
  /** Clients that were refused for want of a seat within the window: they come back together. */
  #waiting = 0;

  /** @param random returns numbers from 0 up to 1 */
  constructor(random: () => number = Math.random) {
    this.#random = random;
  }

  /** Returns the estimate for a refusal that has nothing to do with seats. */
  withoutSeats(): number {
    return LEAST_MS * (0.5 + this.#random());
  }

  /**
   * Returns the estimate for one more client that finds its limit reached.
   * @param limit seats of the limit: by Little's law, one of `limit` seats becomes free `limit / total`
   * times as often as one of `total`
   * @param nowMs milliseconds, modulo 2^32
   * @param counts returns the seats at this moment
   */
  forSeats(limit: number, nowMs: number, counts: () => SeatCounts): number {
    const since = this.#since;
    if (since === undefined) this.#since = { ...counts(), atMs: nowMs };
    else if ((nowMs - since.atMs) >>> 0 >= WINDOW_MS) {
      const now = counts();
      const released = Math.max(0, now.admitted - since.admitted - (now.total - since.total));
      const rate = released / ((nowMs - since.atMs) >>> 0);
      this.#rate = this.#rate === 0 ? rate : (this.#rate + rate) / 2;
      this.#waiting = 0;
      this.#since = { ...now, atMs: nowMs };
    }
    this.#waiting++;
    const total = this.#since!.total;
    const share = total === 0 ? 1 : Math.min(1, Math.max(limit, 1) / total);
    const perMs = this.#rate * share;
    // Clients that wait for a key of their own do not stand in one queue with all others.
    const queue = Math.max(1, this.#waiting * share);
    const ms = perMs === 0 ? MOST_MS : Math.min(MOST_MS, Math.max(LEAST_MS, queue / perMs));
    // Refused together, they do not return together.
    return ms * (0.5 + this.#random());
  }
}

/** Times of one manager until a refused client may be admitted: those that a rate knows, and estimates. @internal */
export class RetryTimes {
  readonly #estimate = new RetryEstimate();
  readonly #rates: { readonly retryAfterMs: number };
  readonly #loop: { readonly ticked: number };
  readonly #counts: () => SeatCounts;
  #limits: ConnectionLimits = {};

  /**
   * @param rates tell the time of the connect rate that has just refused
   * @param loop tells the loop time
   * @param counts as in `RetryEstimate.forSeats`
   */
  constructor(
    rates: { readonly retryAfterMs: number },
    loop: { readonly ticked: number },
    counts: () => SeatCounts,
  ) {
    this.#rates = rates;
    this.#loop = loop;
    this.#counts = counts;
  }

  /** @param limits in force; without one, no seat is waited for */
  setLimits(limits: ConnectionLimits): void {
    this.#limits = limits;
  }

  /** Returns the time for a refusal with `code`, ms. */
  of(code: RefusalCode): number {
    if (code === 'ip_rate' || code === 'user_rate') return this.#rates.retryAfterMs;
    const limit = seatsOf(code, this.#limits);
    return limit === undefined
      ? this.#estimate.withoutSeats()
      : this.#estimate.forSeats(limit, this.#loop.ticked, this.#counts);
  }
}

/** Returns the number of seats that the limit of a refusal allows; `undefined` for other refusals. */
function seatsOf(code: RefusalCode, limits: ConnectionLimits): number | undefined {
  switch (code) {
    case 'total_limit':
      return limits.maxTotalConnections;
    case 'prefix_limit':
      return limits.maxConnectionsPerPrefix;
    case 'ip_limit':
      return limits.maxConnectionsPerIp;
    case 'unknown_ip_limit':
      return limits.maxUnknownIpConnections ?? limits.maxConnectionsPerIp;
    case 'user_limit':
      return limits.maxConnectionsPerUser;
    case 'anonymous_limit':
      return limits.maxAnonymousConnections;
    case 'anonymous_ip_limit':
      return limits.maxAnonymousConnectionsPerIp;
    default:
      return undefined;
  }
}
