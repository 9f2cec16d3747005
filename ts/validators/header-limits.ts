/** Limits of `validateHeaders`. */
import { outOfRange, wrongType } from '../base/errors.js';
import { knownOptions, optionsObject, wholeNumber } from '../base/options.js';
import { lowerCaseName } from './header-grammar.js';

/** Limits of `validateHeaders`. A count equal to its limit passes. */
export interface HeaderLimits {
  /** Headers that are kept: 0 to 10,000. Default 100. */
  readonly maxCount?: number | undefined;
  /** Bytes of all kept names and values: 0 to 2^24. Default 16,384. */
  readonly maxTotalBytes?: number | undefined;
  /** Bytes of a name: 1 to 65,536. Default 100. */
  readonly maxNameBytes?: number | undefined;
  /** Bytes of a value whose name is not in `valueCaps`: 0 to 2^24. Default 1000. */
  readonly maxValueBytes?: number | undefined;
  /**
   * Bytes of the values of single names: 0 to 2^24. Names that are left out keep their default.
   * Default: `authorization`, `proxy-authorization`, `sec-websocket-protocol` (browsers send tokens
   * there), `dpop`, `x-amzn-oidc-data`, `x-amzn-oidc-accesstoken`, `x-goog-iap-jwt-assertion`,
   * `cf-access-jwt-assertion` and `x-ms-client-principal` 8192; `cookie` and `referer` 4096.
   */
  readonly valueCaps?: Readonly<Record<string, number>> | undefined;
  /**
   * The treatment of a repeated name, whatever the case of its letters: `join` the values with a
   * comma (those of `cookie` with a semicolon), keep the `first`, or `refuse` all. Two rules hold
   * in any case. Names that may come only once (`authorization`, `content-length`, `host`, …) are
   * kept once if their values are equal, and dropped if they differ. Every `set-cookie` is kept
   * apart. Default `join`.
   */
  readonly duplicates?: 'join' | 'first' | 'refuse' | undefined;
  /** Whether a header that would be dropped makes the result a failure. Default `false`. */
  readonly strict?: boolean | undefined;
}

/** Checked limits. */
export interface HeaderRules {
  readonly maxCount: number;
  readonly maxTotalBytes: number;
  readonly maxNameBytes: number;
  readonly maxValueBytes: number;
  /** Caps by name in small letters. */
  readonly caps: ReadonlyMap<string, number>;
  /** The smallest of all caps: a shorter value needs no lookup. */
  readonly minCap: number;
  readonly duplicates: 'join' | 'first' | 'refuse';
  readonly strict: boolean;
}

const OPTIONS = [
  'maxCount',
  'maxTotalBytes',
  'maxNameBytes',
  'maxValueBytes',
  'valueCaps',
  'duplicates',
  'strict',
] as const;
const BYTES_MAX = 2 ** 24;

const CAPS: ReadonlyMap<string, number> = new Map([
  ['authorization', 8192],
  ['proxy-authorization', 8192],
  ['sec-websocket-protocol', 8192],
  ['dpop', 8192],
  ['x-amzn-oidc-data', 8192],
  ['x-amzn-oidc-accesstoken', 8192],
  ['x-goog-iap-jwt-assertion', 8192],
  ['cf-access-jwt-assertion', 8192],
  ['x-ms-client-principal', 8192],
  ['cookie', 4096],
  ['referer', 4096],
]);

/** The limits that apply where none are given. */
export const DEFAULT_HEADER_RULES: HeaderRules = {
  maxCount: 100,
  maxTotalBytes: 16_384,
  maxNameBytes: 100,
  maxValueBytes: 1000,
  caps: CAPS,
  minCap: 1000,
  duplicates: 'join',
  strict: false,
};

/**
 * Checks limits.
 * @throws ERR_INVALID_ARG_TYPE, ERR_OUT_OF_RANGE, ERR_UNKNOWN_OPTION, naming the field
 */
export function checkedHeaderLimits(limits: HeaderLimits | undefined): HeaderRules {
  if (limits === undefined) return DEFAULT_HEADER_RULES;
  optionsObject('limits', limits);
  knownOptions('HeaderLimits', limits, OPTIONS);
  const { duplicates = 'join', strict = false } = limits;
  if (duplicates !== 'join' && duplicates !== 'first' && duplicates !== 'refuse')
    throw outOfRange('duplicates', duplicates, "'join', 'first' or 'refuse'");
  if (typeof strict !== 'boolean') throw wrongType('strict', strict, 'true or false');
  const count = (
    field: 'maxCount' | 'maxTotalBytes' | 'maxNameBytes' | 'maxValueBytes',
    min: number,
    max: number,
  ): number => wholeNumber(field, limits[field], min, max, DEFAULT_HEADER_RULES[field]);
  const caps = checkedCaps(limits.valueCaps);
  const maxValueBytes = count('maxValueBytes', 0, BYTES_MAX);
  return {
    maxCount: count('maxCount', 0, 10_000),
    maxTotalBytes: count('maxTotalBytes', 0, BYTES_MAX),
    maxNameBytes: count('maxNameBytes', 1, 65_536),
    maxValueBytes,
    caps,
    minCap: Math.min(maxValueBytes, ...caps.values()),
    duplicates,
    strict,
  };
}

function checkedCaps(valueCaps: unknown = {}): ReadonlyMap<string, number> {
  optionsObject('valueCaps', valueCaps, 'an object of names and bytes');
  const caps = new Map(CAPS);
  for (const [name, cap] of Object.entries(valueCaps)) {
    const small = lowerCaseName(name);
    if (small === '') throw outOfRange('valueCaps', name, 'names of headers');
    caps.set(small, wholeNumber(`valueCaps.${name}`, cap, 0, BYTES_MAX));
  }
  return caps;
}
