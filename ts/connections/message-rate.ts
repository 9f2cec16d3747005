/**
 * Message and byte rates of one connection, and the actions of the rates that several connections
 * share, whose arrival times are in the core (`src/connections/message_rates.rs`). All go by the generic cell rate algorithm (GCRA, ITU-T I.371):
 * each event moves a theoretical arrival time on by one interval, and an event conforms while that
 * time is no further ahead of the clock than the burst allows.
 */
import type { ConnectionLimits } from './limits.js';
import {
  checkedControlRate,
  checkedMessageRate,
  type Rate,
  type RateAction,
} from './connect-rates.js';

/** The rate that a message, a ping or a pong exceeds. */
export type ExceededRate =
  'message_rate' | 'byte_rate' | 'control_rate' | 'user_message_rate' | 'ip_message_rate';

/** Reason of the close frame for each rate whose action is `close`. @internal */
export const RATE_REASONS: Readonly<Record<ExceededRate, string>> = {
  message_rate: 'Message rate exceeded',
  user_message_rate: 'Message rate per user exceeded',
  ip_message_rate: 'Message rate per IP exceeded',
  byte_rate: 'Byte rate exceeded',
  control_rate: 'Control frame rate exceeded',
};

/** Spends the rates that connections share. @internal */
export interface SharedRates {
  /**
   * Spends one message of the connection's user and address, or of neither.
   * @param nowMs milliseconds of the timers' clock
   * @returns 0, 1 if the rate of the user is exceeded, 2 if that of the address is
   */
  spendShared(slot: number, nowMs: number): number;
}

/** The rates of messages that a manager may have; `undefined` for none. @internal */
export interface CheckedMessageRates {
  readonly messages: Rate | undefined;
  readonly bytes: Rate | undefined;
  /** Of pings and pongs. */
  readonly control: Rate | undefined;
  readonly perUser: Rate | undefined;
  readonly perIp: Rate | undefined;
}

/** Returns the rates of messages among the limits of a manager. @throws as `checkedMessageRate` @internal */
export function ratesOf(limits: ConnectionLimits): CheckedMessageRates {
  return {
    messages: checkedMessageRate('messageRate', limits.messageRate),
    bytes: checkedMessageRate('byteRate', limits.byteRate),
    control: checkedControlRate(limits.controlRate),
    perUser: checkedMessageRate('messageRatePerUser', limits.messageRatePerUser),
    perIp: checkedMessageRate('messageRatePerIp', limits.messageRatePerIp),
  };
}

const OF: Readonly<Record<ExceededRate, keyof CheckedMessageRates>> = {
  message_rate: 'messages',
  byte_rate: 'bytes',
  control_rate: 'control',
  user_message_rate: 'perUser',
  ip_message_rate: 'perIp',
};

/**
 * Returns the time by which sums of intervals may be wrong, ms, for a cost that takes `ms`; see `Rate::tolerance_ms` of
 * the core.
 */
const roundingOf = (ms: number): number => Math.min(0.125, Math.max(1e-6, ms / 1024));

/** Limits the messages and bytes of every connection of a manager. @internal */
export class MessageRateLimiter {
  readonly #rates: CheckedMessageRates;
  readonly #messages: Rate | undefined;
  readonly #bytes: Rate | undefined;
  readonly #control: Rate | undefined;
  readonly #isShared: boolean;
  readonly #isObserving: boolean;

  /** @param isObserving true to report the messages over a rate, whatever its action is */
  constructor(rates: CheckedMessageRates, isObserving: boolean) {
    this.#rates = rates;
    this.#messages = rates.messages;
    this.#bytes = rates.bytes;
    this.#control = rates.control;
    this.#isShared = rates.perUser !== undefined || rates.perIp !== undefined;
    this.#isObserving = isObserving;
  }

  /**
   * Checks one message. A message over a rate spends nothing.
   * @param arrivals arrival times of messages and of bytes, in pairs
   * @param at index of the connection's pair
   * @param bytes size of the message
   * @param now milliseconds of the timers' clock
   * @param slot of the connection
   * @returns the rate that the message exceeds, or `undefined` if it conforms
   */
  check(
    arrivals: Float64Array,
    at: number,
    bytes: number,
    now: number,
    shared: SharedRates,
    slot: number,
  ): ExceededRate | undefined {
    const messageRate = this.#messages;
    const byteRate = this.#bytes;
    if (!conforms(messageRate, arrivals[at]!, 1, now)) return 'message_rate';
    if (!conforms(byteRate, arrivals[at + 1]!, bytes, now)) return 'byte_rate';
    if (this.#isShared) {
      const exceeded = shared.spendShared(slot, now);
      if (exceeded !== 0) return exceeded === 1 ? 'user_message_rate' : 'ip_message_rate';
    }
    if (messageRate !== undefined)
      arrivals[at] = Math.max(arrivals[at]!, now) + messageRate.intervalMs;
    if (byteRate !== undefined)
      arrivals[at + 1] = Math.max(arrivals[at + 1]!, now) + bytes * byteRate.intervalMs;
    return undefined;
  }

  /** True if messages have a rate. */
  get limitsMessages(): boolean {
    return this.#messages !== undefined || this.#bytes !== undefined || this.#isShared;
  }

  /**
   * Checks a ping or a pong, whose bytes count as those of messages do.
   * @param arrivals as in `check`; `undefined` while no bytes are limited
   * @param controls arrival times of pings and pongs
   * @param place index of the connection's time among them
   */
  checkControl(
    arrivals: Float64Array | undefined,
    controls: Float64Array,
    place: number,
    bytes: number,
    now: number,
  ): ExceededRate | undefined {
    const rate = this.#control;
    if (!conforms(rate, controls[place]!, 1, now)) return 'control_rate';
    const byteRate = this.#bytes;
    const at = 2 * place + 1;
    if (arrivals !== undefined && byteRate !== undefined) {
      if (!conforms(byteRate, arrivals[at]!, bytes, now)) return 'byte_rate';
      arrivals[at] = Math.max(arrivals[at]!, now) + bytes * byteRate.intervalMs;
    }
    if (rate !== undefined) controls[place] = Math.max(controls[place]!, now) + rate.intervalMs;
    return undefined;
  }

  /** Returns the action for messages over `rate`. */
  actionOf(rate: ExceededRate): RateAction {
    if (this.#isObserving) return 'report';
    return this.#rates[OF[rate]]?.action ?? 'close';
  }
}

/** True if `cost` events at `now` stay within the burst. */
function conforms(rate: Rate | undefined, arrival: number, cost: number, now: number): boolean {
  return (
    rate === undefined ||
    Math.max(arrival, now) + (cost - rate.burst) * rate.intervalMs <=
      now + roundingOf(cost * rate.intervalMs)
  );
}
