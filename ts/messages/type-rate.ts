/** Rates of the messages of one type, and their checks. The costs are in a `RateLimiter`. */
import { clientKeyOf } from '../base/address.js';
import type { Clock } from '../base/clock.js';
import { outOfRange, underPath, wrongType } from '../base/errors.js';
import { optionsObject, readOptions } from '../base/options.js';
import type { RateAction } from '../connections/connect-rates.js';
import { RateLimiter } from '../limiter/limiter.js';
import {
  checkedRateLimit,
  keyOfId,
  RATE_LIMIT_OPTIONS,
  type RateLimit,
  refuseLimiter,
} from '../limiter/options.js';
import type { MessageSender } from './envelope.js';

/** The clients that a rate of messages counts together. */
export type MessageRateKey = 'connection' | 'user' | 'ip';

/** A rate of the messages of one type, and the action beyond it. */
export interface MessageTypeRate extends RateLimit {
  /**
   * Clients that count together. `connection`: each by itself, by its `id`. `user`: all connections
   * of the sender's `userId`, a number by its text; a client without a user counts by connection. `ip`: all connections
   * of an `ip`, of IPv6 of its network of 64 bits. Default `connection`.
   */
  readonly by?: MessageRateKey | undefined;
  /**
   * Action for a message over the rate. `drop` ignores it; `close` closes the connection with 1008;
   * `report` only calls `onRateExceeded`. Default `close`.
   */
  readonly action?: RateAction | undefined;
  /** Most clients that are remembered: 1 to 2^24, as in `RateLimiter`. Default 131072. */
  readonly maxKeys?: number | undefined;
  /** Name by which worker threads share the rate, as in `RateLimiter`. Default: none. */
  readonly name?: string | undefined;
  /** Source of time, for tests. Default: the host's clock. */
  readonly clock?: Clock | undefined;
}

const FIELD = 'rate';

/** The connection of a message, as far as a rate needs it. */
interface Counted {
  readonly id?: unknown;
  readonly ip?: unknown;
  readonly userId?: unknown;
}

const stringOf = (value: unknown): string | undefined =>
  typeof value === 'string' ? value : undefined;

/** Judges the messages of one type. @internal */
export class TypeRateLimiter {
  readonly action: RateAction;
  readonly #by: MessageRateKey;
  readonly #limiter: RateLimiter;

  /** @throws ERR_INVALID_ARG_TYPE, ERR_OUT_OF_RANGE, ERR_UNKNOWN_OPTION, ERR_LIMITS_CONFLICT */
  constructor(given: MessageTypeRate) {
    const own = [...RATE_LIMIT_OPTIONS, 'maxKeys', 'name', 'clock', 'by', 'action'];
    optionsObject(FIELD, given, 'an object { limit, windowMs }');
    refuseLimiter(FIELD, given, 'an object { limit, windowMs }');
    const {
      by = 'connection',
      action = 'close',
      ...limit
    } = readOptions(FIELD, given, own, `${FIELD}.`);
    checkedRateLimit(FIELD, limit);
    if (by !== 'connection' && by !== 'user' && by !== 'ip')
      throw outOfRange(`${FIELD}.by`, by, "'connection', 'user' or 'ip'");
    if (action !== 'drop' && action !== 'close' && action !== 'report')
      throw outOfRange(`${FIELD}.action`, action, "'drop', 'close' or 'report'");
    this.#by = by;
    this.action = action;
    try {
      this.#limiter = new RateLimiter(limit);
    } catch (error) {
      throw underPath(`${FIELD}.`, error);
    }
  }

  /**
   * Spends one message of its client; `false` for one over the rate, which spends nothing.
   * @throws ERR_INVALID_ARG_TYPE for a connection without the field that the rate counts by, and for a user that is no
   *   id
   */
  admits(connection: unknown, sender: MessageSender): boolean {
    return this.#limiter.take(this.#keyOf(connection, sender)).success;
  }

  /** Gives the name of the rate back. */
  release(): void {
    this.#limiter.release();
  }

  /** The first letter keeps the ids of connections apart from users. */
  #keyOf(connection: unknown, sender: MessageSender): string {
    const { id, ip, userId } = (connection ?? {}) as Counted;
    if (this.#by === 'ip') {
      const address = stringOf(ip);
      if (address === undefined) throw wrongType('connection.ip', ip, 'a string');
      return clientKeyOf(address);
    }
    const user =
      this.#by === 'user' ? keyOfId('connection.userId', sender.userId ?? userId) : undefined;
    if (user !== undefined) return `u${user}`;
    const own = stringOf(id);
    if (own === undefined) throw wrongType('connection.id', id, 'a string');
    return `c${own}`;
  }
}
