/** Options of bans, and their checks. */
import { wrongType } from '../base/errors.js';
import { optionsObject, readOptions, TIME_MAX_MS, wholeNumber } from '../base/options.js';

/** When an address is banned, and for how long. */
export interface BanOptions {
  /**
   * Failures of an address within `windowMs` that ban it: 1 to 65536, or `Infinity` for bans by
   * `manager.ban()` only. A failure is a 401, and a malformed handshake. Default 10.
   */
  readonly failures?: number | undefined;
  /**
   * Time for which a failure counts: 1 to 2^30 ms. It counts for up to a seventh of that longer. Default 60000.
   */
  readonly windowMs?: number | undefined;
  /** Length of the first ban: 1 to 2^30 ms. Each further ban is twice as long. Default 60000. */
  readonly banMs?: number | undefined;
  /** Length of the longest ban: `banMs` to 2^30 ms. Default 3600000, or `banMs` if that is more. */
  readonly maxBanMs?: number | undefined;
  /**
   * Time from the end of a ban after which the next one is as short as the first: 1 to 2^30 ms. Default
   * 86400000, a day.
   */
  readonly forgetMs?: number | undefined;
  /**
   * Whether refusals by rate count as failures: of connects (`ip_rate`, `user_rate`), and of requests
   * (`requests.rate`). Default `false`.
   */
  readonly countRateRefusals?: boolean | undefined;
  /**
   * Most addresses that are remembered: 1 to 2^20, at some 200 bytes each. To make room, a full table forgets the
   * address whose last failure is longest ago. It forgets an active ban only if all addresses are banned, and then the
   * one that ends first. Default 100000.
   */
  readonly maxAddresses?: number | undefined;
}

/** Options of bans, complete. @internal */
export interface CheckedBans {
  readonly failures: number;
  readonly windowMs: number;
  readonly banMs: number;
  readonly maxBanMs: number;
  readonly forgetMs: number;
  readonly countRateRefusals: boolean;
  readonly maxAddresses: number;
}

const OPTIONS = [
  'failures',
  'windowMs',
  'banMs',
  'maxBanMs',
  'forgetMs',
  'countRateRefusals',
  'maxAddresses',
] as const;
const FAILURES_MAX = 65_536;
const ADDRESSES_MAX = 2 ** 20;
const DAY_MS = 86_400_000;

/**
 * Checks the option `banAfter`.
 * @param given a number stands for `failures`
 * @throws ERR_INVALID_ARG_TYPE, ERR_OUT_OF_RANGE, ERR_UNKNOWN_OPTION, naming the field
 * @internal
 */
export function checkedBans(given: BanOptions | number | undefined): CheckedBans | undefined {
  if (given === undefined) return undefined;
  const failuresOf = (field: string, failures: unknown): number =>
    failures === undefined ? 10 : wholeNumber(field, failures, 1, FAILURES_MAX, Infinity);
  if (typeof given === 'number') return withDefaults(failuresOf('banAfter', given), {});
  optionsObject('banAfter', given, 'an object { failures, windowMs, banMs }, or a number');
  const options = readOptions('banAfter', given, OPTIONS, 'banAfter.');
  return withDefaults(failuresOf('banAfter.failures', options.failures), options);
}

function withDefaults(failures: number, options: BanOptions): CheckedBans {
  const time = (field: 'windowMs' | 'banMs' | 'forgetMs', fallback: number): number =>
    wholeNumber(`banAfter.${field}`, options[field], 1, TIME_MAX_MS, fallback);
  const banMs = time('banMs', 60_000);
  const { countRateRefusals = false } = options;
  if (typeof countRateRefusals !== 'boolean')
    throw wrongType('banAfter.countRateRefusals', countRateRefusals, 'true or false');
  return {
    failures,
    windowMs: time('windowMs', 60_000),
    banMs,
    maxBanMs: wholeNumber(
      'banAfter.maxBanMs',
      options.maxBanMs,
      banMs,
      TIME_MAX_MS,
      Math.max(banMs, 3_600_000),
    ),
    forgetMs: time('forgetMs', DAY_MS),
    countRateRefusals,
    maxAddresses: wholeNumber(
      'banAfter.maxAddresses',
      options.maxAddresses,
      1,
      ADDRESSES_MAX,
      100_000,
    ),
  };
}
