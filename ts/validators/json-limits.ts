/** Limits of JSON, checked and laid out for the native scanner. */
import { outOfRange } from '../base/errors.js';
import { optionsObject, readOptions, wholeNumber } from '../base/options.js';

/** Whether input that breaks a rule passes. */
export type JsonLeniency = 'allow' | 'refuse';

/** Limits of JSON. A count equal to its limit passes. */
export interface JsonLimits {
  /** Bytes of the whole text: 0 to 2^31 - 1. Default 1,048,576. */
  readonly maxBytes?: number | undefined;
  /** Nesting of arrays and objects; `[]` has a depth of 1: 0 to 512. Default 64. */
  readonly maxDepth?: number | undefined;
  /** Values in all, arrays and objects included: 1 to 2^32 - 1, or Infinity. Default 100,000. */
  readonly maxValues?: number | undefined;
  /** Keys of one object: 0 to 2^32 - 1, or Infinity. Default 10,000. */
  readonly maxKeys?: number | undefined;
  /** Items of one array: 0 to 2^32 - 1, or Infinity. Default Infinity. */
  readonly maxItems?: number | undefined;
  /** Bytes of one string value between its quotes, as written: 0 to 2^32 - 1, or Infinity. Default Infinity. */
  readonly maxStringBytes?: number | undefined;
  /** Bytes of one key between its quotes, as written: 0 to 2^32 - 1, or Infinity. Default 256. */
  readonly maxKeyBytes?: number | undefined;
  /**
   * An object that repeats a key, however the key is escaped (RFC 8259, section 4, leaves the
   * meaning open). Default `refuse`.
   */
  readonly duplicateKeys?: JsonLeniency | undefined;
  /**
   * `__proto__`, and a `constructor` whose value is an object with the key `prototype`. Default
   * `refuse`.
   */
  readonly forbiddenKeys?: JsonLeniency | undefined;
  /** Numbers that `JSON.parse` turns into Infinity. Default `refuse`. */
  readonly numberOverflow?: JsonLeniency | undefined;
  /** Integers beyond 2^53, which lose digits. Default `allow`. */
  readonly unsafeIntegers?: JsonLeniency | undefined;
  /** Strings with a lone surrogate (RFC 8259, section 8.2). Default `refuse`. */
  readonly surrogates?: JsonLeniency | undefined;
  /** Strings with U+0000. Default `allow`. */
  readonly nul?: JsonLeniency | undefined;
  /**
   * A byte order mark before the text, as editors write it into files; `allow` skips it (RFC 8259,
   * section 8.1). `JSON.parse` fails on it: where a message passes with one, parse the message by
   * `parseJson`. Default `refuse`.
   */
  readonly byteOrderMark?: JsonLeniency | undefined;
}

const BYTES_MAX = 2 ** 31 - 1;
const DEPTH_MAX = 512;
/** Stands for no limit: more than any text can hold. */
const UNLIMITED = 2 ** 32 - 1;

const COUNTS = [
  ['maxBytes', 0, BYTES_MAX, 1 << 20],
  ['maxDepth', 0, DEPTH_MAX, 64],
  ['maxValues', 1, UNLIMITED, 100_000],
  ['maxKeys', 0, UNLIMITED, 10_000],
  ['maxItems', 0, UNLIMITED, Infinity],
  ['maxStringBytes', 0, UNLIMITED, Infinity],
  ['maxKeyBytes', 0, UNLIMITED, 256],
] as const;
const RULES = [
  ['duplicateKeys', 'refuse'],
  ['forbiddenKeys', 'refuse'],
  ['numberOverflow', 'refuse'],
  ['unsafeIntegers', 'allow'],
  ['surrogates', 'refuse'],
  ['nul', 'allow'],
  ['byteOrderMark', 'refuse'],
] as const;
const NAMES = [...COUNTS, ...RULES].map(([name]) => name);

/**
 * Limits as the core takes them: the counts, then 1 for each rule that refuses and 0 for the
 * others. @internal
 */
export type CheckedJsonLimits = Float64Array;

/** Length of checked limits. @internal */
export const JSON_LIMITS_LENGTH = NAMES.length;

/** Places of the counts in checked limits. @internal */
export const [
  MAX_BYTES,
  MAX_DEPTH,
  MAX_VALUES,
  MAX_KEYS,
  MAX_ITEMS,
  MAX_STRING_BYTES,
  MAX_KEY_BYTES,
] = [0, 1, 2, 3, 4, 5, 6] as const;

/**
 * Checks limits.
 * @param field the name of the argument or option, for messages
 * @param defaults a depth that replaces the default
 * @throws ERR_INVALID_ARG_TYPE, ERR_OUT_OF_RANGE, ERR_UNKNOWN_OPTION, naming the field
 * @internal
 */
export function checkedJsonLimits(
  field: string,
  limits: JsonLimits | undefined,
  defaults?: { readonly maxDepth: number },
): CheckedJsonLimits {
  if (limits !== undefined) optionsObject(field, limits);
  const given: JsonLimits = readOptions(field, limits ?? {}, NAMES, `${field}.`);
  const counts = COUNTS.map(([name, min, max, fallback]) => {
    const preset = (name === 'maxDepth' ? defaults?.maxDepth : undefined) ?? fallback;
    const { [name]: value = preset } = given;
    const unlimited = max === UNLIMITED ? Infinity : undefined;
    return Math.min(wholeNumber(`${field}.${name}`, value, min, max, unlimited), max);
  });
  const rules = RULES.map(([name, fallback]) => {
    const { [name]: rule = fallback } = given;
    if (rule !== 'allow' && rule !== 'refuse')
      throw outOfRange(`${field}.${name}`, rule, "'allow' or 'refuse'");
    return rule === 'refuse' ? 1 : 0;
  });
  return Float64Array.of(...counts, ...rules);
}

const DEFAULTS = checkedJsonLimits('limits', undefined);

/** The limits that were checked last, and a copy: callers pass the same object again and again. */
let lastGiven: JsonLimits | undefined;
let lastCopy: JsonLimits = {};
let lastChecked = DEFAULTS;

/**
 * Checks limits, unless they are those of the last call.
 * @throws as `checkedJsonLimits`
 * @internal
 */
export function cachedJsonLimits(limits: JsonLimits | undefined): CheckedJsonLimits {
  if (limits === undefined) return DEFAULTS;
  // Name by name: a loop over the names costs more than the scan of a small message.
  if (
    limits === lastGiven &&
    limits.maxBytes === lastCopy.maxBytes &&
    limits.maxDepth === lastCopy.maxDepth &&
    limits.maxValues === lastCopy.maxValues &&
    limits.maxKeys === lastCopy.maxKeys &&
    limits.maxItems === lastCopy.maxItems &&
    limits.maxStringBytes === lastCopy.maxStringBytes &&
    limits.maxKeyBytes === lastCopy.maxKeyBytes &&
    limits.duplicateKeys === lastCopy.duplicateKeys &&
    limits.forbiddenKeys === lastCopy.forbiddenKeys &&
    limits.numberOverflow === lastCopy.numberOverflow &&
    limits.unsafeIntegers === lastCopy.unsafeIntegers &&
    limits.surrogates === lastCopy.surrogates &&
    limits.nul === lastCopy.nul &&
    limits.byteOrderMark === lastCopy.byteOrderMark
  )
    return lastChecked;
  optionsObject('limits', limits);
  const copy = readOptions('limits', limits, NAMES, 'limits.');
  lastChecked = checkedJsonLimits('limits', copy);
  lastGiven = limits;
  lastCopy = copy;
  return lastChecked;
}
