/** Options of rates, and their checks: connects of a client, messages and bytes of a connection. */
import { outOfRange, wrongType } from '../base/errors.js';
import {
  isOptions,
  knownOptions,
  optionsObject,
  readOptions,
  TIME_MAX_MS,
  wholeNumber,
} from '../base/options.js';

/** A rate of connects: `limit` in each `windowMs`, of which `burst` may come at once (GCRA). */
export interface ConnectRate {
  /** Connects in each window: 1 to 1,000,000. */
  readonly limit: number;
  /** Length of the window: 1 to 2^30 ms. */
  readonly windowMs: number;
  /** Connects at once: 1 to 1,000,000. Default: `limit`. */
  readonly burst?: number | undefined;
}

/** Action for a message over its rate. */
export type RateAction = 'drop' | 'close' | 'report';

/** A rate of the messages or of the bytes of a connection, or of the messages of a user or an address, and the action beyond it. */
export interface MessageRate {
  /** Messages or bytes in each window: 1 to 2^30. */
  readonly limit: number;
  /** Length of the window: 1 to 2^30 ms. */
  readonly windowMs: number;
  /**
   * Messages or bytes at once: 1 to 2^30. A single message of more bytes than this is always over
   * the rate. Default: `limit`.
   */
  readonly burst?: number | undefined;
  /**
   * `drop`: `received()` returns `'drop'` and the caller ignores the message; `close`: the
   * connection is closed with 1008; `report`: only `onRateExceeded` is called. Default `close`.
   */
  readonly action?: RateAction | undefined;
}

/** Default rate of pings and pongs. */
const CONTROL_RATE: MessageRate = { limit: 20, windowMs: 1000, burst: 100 };

/** A message or byte rate, checked. @internal */
export interface Rate {
  /** Milliseconds for each message or byte. */
  readonly intervalMs: number;
  readonly burst: number;
  readonly action: RateAction;
}

const CONNECTS_MAX = 1e6;
const BYTES_MAX = 2 ** 30;

const RATE_OPTIONS = ['limit', 'windowMs', 'burst'];
const MESSAGE_RATE_OPTIONS = [...RATE_OPTIONS, 'action'];

/**
 * Returns a plain, frozen copy of a rate, see `readOptions`; anything that cannot hold options as it is, for the check to
 * refuse.
 * @param kind what it counts: rates of connects have no `action`
 * @throws ERR_UNKNOWN_OPTION
 * @internal
 */
export function frozenRate<T>(field: string, rate: T, kind: 'connects' | 'messages'): T {
  if (!isOptions(rate)) return rate;
  const known = kind === 'connects' ? RATE_OPTIONS : MESSAGE_RATE_OPTIONS;
  return Object.freeze(readOptions(field, rate, known, `${field}.`));
}

/** Returns milliseconds for each event and events at once, or zeros for no rate. */
function checkedRate(
  field: string,
  rate: ConnectRate | MessageRate | undefined,
  most: number,
): [intervalMs: number, burst: number] {
  if (rate === undefined) return [0, 0];
  optionsObject(field, rate, 'an object { limit, windowMs, burst? }');
  const limit = wholeNumber(`${field}.limit`, rate.limit, 1, most);
  return [
    wholeNumber(`${field}.windowMs`, rate.windowMs, 1, TIME_MAX_MS) / limit,
    wholeNumber(`${field}.burst`, rate.burst, 1, most, limit),
  ];
}

/**
 * Returns a connect rate as the core takes it: milliseconds for each connect and connects at once,
 * or zeros for no rate.
 * @throws ERR_INVALID_ARG_TYPE, ERR_OUT_OF_RANGE, ERR_UNKNOWN_OPTION, naming the field
 * @internal
 */
export function checkedConnectRate(
  field: string,
  rate: ConnectRate | undefined,
): [intervalMs: number, burst: number] {
  if (isOptions(rate)) knownOptions(field, rate, RATE_OPTIONS, `${field}.`);
  return checkedRate(field, rate, CONNECTS_MAX);
}

/**
 * Returns a checked message or byte rate, or `undefined` for none.
 * @throws ERR_INVALID_ARG_TYPE, ERR_OUT_OF_RANGE, ERR_UNKNOWN_OPTION, naming the field
 * @internal
 */
export function checkedMessageRate(field: string, rate: MessageRate | undefined): Rate | undefined {
  if (rate === undefined) return undefined;
  const [intervalMs, burst] = checkedRate(field, rate, BYTES_MAX);
  knownOptions(field, rate, MESSAGE_RATE_OPTIONS, `${field}.`);
  const { action = 'close' } = rate;
  if (action !== 'drop' && action !== 'close' && action !== 'report')
    throw outOfRange(`${field}.action`, action, "'drop', 'close' or 'report'");
  return { intervalMs, burst, action };
}

/**
 * Returns the checked rate of pings and pongs, or `undefined` for none.
 * @throws ERR_INVALID_ARG_TYPE, ERR_OUT_OF_RANGE, ERR_UNKNOWN_OPTION, naming the field
 * @internal
 */
export function checkedControlRate(rate: MessageRate | number | undefined): Rate | undefined {
  if (rate === Infinity) return undefined;
  const given = rate === undefined ? CONTROL_RATE : rate;
  if (!isOptions(given))
    throw wrongType('controlRate', given, 'an object { limit, windowMs, burst? }, or Infinity');
  return checkedMessageRate('controlRate', given);
}
