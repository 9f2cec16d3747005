/** The manager, as its connections see it. */
import type { ExceededRate, MessageRateLimiter, SharedRates } from './message-rate.js';
import type { RateAction } from './connect-rates.js';
import type { Refusal } from './refusal.js';

/**
 * The calls that a connection makes to its manager. `C` is the type of the connection: a parameter,
 * so that this module and `segment.ts` need not import `connection.ts`, which imports both.
 * @internal
 */
export interface ConnectionOwner<C> extends SharedRates {
  /** Messages and bytes received, messages and bytes sent: sums over all connections so far. */
  readonly traffic: Float64Array;
  /** Limiter of messages and bytes; `undefined` while neither has a rate. */
  readonly messageRate: MessageRateLimiter | undefined;
  /** Limiter of pings and pongs. */
  readonly controlRate: MessageRateLimiter;
  /** Returns the loop time, ms modulo 2^32. */
  loopNow(): number;
  /** Returns the time of the timers' clock, ms. */
  nowMs(): number;
  /** Moves the seat of `connection` to `userId`; a refusal leaves it where it was. */
  bindConnection(connection: C, slot: number, userId: string): { readonly success: true } | Refusal;
  /** The same, once the cluster has agreed, if there is one. */
  identifyConnection(
    connection: C,
    slot: number,
    userId: string,
  ): Promise<{ readonly success: true } | Refusal>;
  /**
   * Notes that the id of `connection` was made, and may be looked for from now on.
   * @param slot -1 once the connection is released
   */
  idMade(connection: C, slot: number): void;
  /** Gives the seat back, then closes the socket. */
  closeConnection(connection: C, code: number, reason: string): void;
  /** Gives the seat back of a connection whose socket has ended. */
  releaseConnection(connection: C): void;
  /** Counts a message over `rate`, calls the hook and takes the action. */
  rateExceeded(connection: C, rate: ExceededRate, action: RateAction): void;
}
