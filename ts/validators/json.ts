/** JSON judged before it is parsed: `scanJson`, `parseJson` and their limits. */
import { outOfRange, wrongType } from '../base/errors.js';
import { knownOptions, wholeNumber } from '../base/options.js';
import { createJsonScanner } from '../native/addon.js';
import {
  failure,
  numbered,
  unwrap,
  type ValidationResult,
  type ValidationFailure,
} from './failure.js';
import { isPlainJson } from './json-fast-path.js';

/** JSON as text or as bytes in UTF-8. */
export type JsonInput = string | Uint8Array | ArrayBuffer | ArrayBufferView;

/** Whether something is let through. */
export type JsonLeniency = 'allow' | 'refuse';

/** What JSON may look like. A count equal to its limit passes. */
export interface JsonLimits {
  /** Bytes of the whole text: 0 to 2^31 - 1. Default 1,048,576. */
  readonly maxBytes?: number | undefined;
  /** Arrays and objects within each other; `[]` is 1: 0 to 512. Default 64. */
  readonly maxDepth?: number | undefined;
  /** Values in all, arrays and objects included: 1 or more. Default 100,000. */
  readonly maxValues?: number | undefined;
  /** Keys of one object: 0 or more. Default 10,000. */
  readonly maxKeys?: number | undefined;
  /** Items of one array: 0 or more. Default Infinity. */
  readonly maxItems?: number | undefined;
  /** Bytes of one string value between its quotes, as written: 0 or more. Default Infinity. */
  readonly maxStringBytes?: number | undefined;
  /** Bytes of one key between its quotes, as written: 0 or more. Default 256. */
  readonly maxKeyBytes?: number | undefined;
  /** An object that repeats a key, however it is escaped. Default `refuse`. */
  readonly duplicateKeys?: JsonLeniency | undefined;
  /** `__proto__`, and a `constructor` whose value is an object with the key `prototype`. Default `refuse`. */
  readonly forbiddenKeys?: JsonLeniency | undefined;
  /** Numbers that `JSON.parse` makes infinite. Default `refuse`. */
  readonly numberOverflow?: JsonLeniency | undefined;
  /** Integers beyond 2^53, which lose digits. Default `allow`. */
  readonly unsafeIntegers?: JsonLeniency | undefined;
  /** Strings with half of a surrogate pair. Default `refuse`. */
  readonly surrogates?: JsonLeniency | undefined;
  /** Strings with U+0000. Default `allow`. */
  readonly nul?: JsonLeniency | undefined;
}

/** What JSON that passed is like. */
export interface JsonReport {
  /** Scalars, arrays and objects. */
  readonly values: number;
  /** The deepest nesting. */
  readonly depth: number;
  /** Whether every byte is ASCII. */
  readonly isAscii: boolean;
  /** Whether an integer is beyond 2^53. */
  readonly hasUnsafeIntegers: boolean;
  /** Whether a string holds an escaped U+0000. */
  readonly hasNul: boolean;
}

const BYTES_MAX = 2 ** 31 - 1;
const DEPTH_MAX = 512;
/** More than any text can hold. */
const ANY = 2 ** 32 - 1;

const COUNTS = [
  ['maxBytes', 0, BYTES_MAX, 1 << 20],
  ['maxDepth', 0, DEPTH_MAX, 64],
  ['maxValues', 1, ANY, 100_000],
  ['maxKeys', 0, ANY, 10_000],
  ['maxItems', 0, ANY, Infinity],
  ['maxStringBytes', 0, ANY, Infinity],
  ['maxKeyBytes', 0, ANY, 256],
] as const;
const RULES = [
  ['duplicateKeys', 'refuse'],
  ['forbiddenKeys', 'refuse'],
  ['numberOverflow', 'refuse'],
  ['unsafeIntegers', 'allow'],
  ['surrogates', 'refuse'],
  ['nul', 'allow'],
] as const;
const NAMES = [...COUNTS, ...RULES].map(([name]) => name);

/** Limits as the core takes them, in the order of `NAMES`. @internal */
export type CheckedJsonLimits = Float64Array;

/**
 * The limits, checked.
 * @throws ERR_INVALID_ARG_TYPE, ERR_OUT_OF_RANGE, ERR_UNKNOWN_OPTION, naming the field
 * @internal
 */
export function checkedJsonLimits(
  what: string,
  limits: JsonLimits | undefined,
  defaults?: { readonly maxDepth: number },
): CheckedJsonLimits {
  if (limits !== undefined && (typeof limits !== 'object' || limits === null))
    throw wrongType(what, limits, 'an object');
  const given: JsonLimits = limits ?? {};
  knownOptions(what, given, NAMES);
  const counts = COUNTS.map(([name, least, most, usual]) => {
    const value = given[name] ?? (name === 'maxDepth' ? defaults?.maxDepth : undefined);
    if (value === Infinity && most === ANY) return ANY;
    return Math.min(wholeNumber(`${what}.${name}`, value, least, most, usual), most);
  });
  const rules = RULES.map(([name, usual]) => {
    const rule = given[name] ?? usual;
    if (rule !== 'allow' && rule !== 'refuse')
      throw outOfRange(`${what}.${name}`, rule, "'allow' or 'refuse'");
    return rule === 'refuse' ? 1 : 0;
  });
  return Float64Array.of(...counts, ...rules);
}

const LIMITS_FROM = 8;
const PATH_BYTES = 4096;

/** UTF-16 units, or bytes, of what is short. */
const SHORT_LENGTH = 1024;
/** Bytes that a UTF-16 unit can take. */
const UTF8_MOST = 3;
/** UTF-16 units. */
const PART_LENGTH = 16_384;
/** What `scanPart` returns besides failures. */
const NEXT_PART = -1;
const WHOLE = -2;

/** One scanner for each thread. */
const scratch = new Float64Array(LIMITS_FROM + NAMES.length);
const pathText = Buffer.alloc(PATH_BYTES);
/** Short input is written here, which costs less than handing it over. */
const shared = new Uint8Array(SHORT_LENGTH * UTF8_MOST + 1);
const encoder = new TextEncoder();
const core = createJsonScanner();
core.share(scratch, pathText, shared);

const DEFAULTS = checkedJsonLimits('limits', undefined);
let loaded: CheckedJsonLimits | undefined;

/** What was checked last, and a copy of it: callers pass the same object again and again. */
let lastGiven: JsonLimits | undefined;
let last: JsonLimits = {};
let lastChecked = DEFAULTS;

function checked(limits: JsonLimits | undefined): CheckedJsonLimits {
  if (limits === undefined) return DEFAULTS;
  // Name by name: a loop over names costs more than the scan of a small message.
  if (
    limits === lastGiven &&
    limits.maxBytes === last.maxBytes &&
    limits.maxDepth === last.maxDepth &&
    limits.maxValues === last.maxValues &&
    limits.maxKeys === last.maxKeys &&
    limits.maxItems === last.maxItems &&
    limits.maxStringBytes === last.maxStringBytes &&
    limits.maxKeyBytes === last.maxKeyBytes &&
    limits.duplicateKeys === last.duplicateKeys &&
    limits.forbiddenKeys === last.forbiddenKeys &&
    limits.numberOverflow === last.numberOverflow &&
    limits.unsafeIntegers === last.unsafeIntegers &&
    limits.surrogates === last.surrogates &&
    limits.nul === last.nul
  )
    return lastChecked;
  lastChecked = checkedJsonLimits('limits', limits);
  lastGiven = limits;
  last = { ...limits };
  return lastChecked;
}

/** A Uint8Array over the same memory; a copy of what lies in shared memory, which could change between the scan and the parse. @internal */
export function bytesOf(input: unknown): Uint8Array | undefined {
  let view: Uint8Array;
  try {
    if (input instanceof Uint8Array) view = input;
    else if (ArrayBuffer.isView(input))
      view = new Uint8Array(input.buffer, input.byteOffset, input.byteLength);
    else if (input instanceof ArrayBuffer) view = new Uint8Array(input);
    else return undefined;
  } catch {
    // Memory that was transferred away.
    return undefined;
  }
  return view.buffer instanceof ArrayBuffer ? view : Uint8Array.from(view);
}

function load(limits: CheckedJsonLimits): void {
  scratch.set(limits, LIMITS_FROM);
  core.setLimits();
  loaded = limits;
}

/** The number of the failure, or 0. */
function run(input: string | Uint8Array): number {
  if (typeof input === 'string' && input.length > PART_LENGTH) return runInParts(input);
  return core.scan(input, input.length);
}

/** A long string goes part by part: what is refused early is not copied to its end. */
function runInParts(text: string): number {
  for (let from = 0; from < text.length; from += PART_LENGTH) {
    const part = text.slice(from, from + PART_LENGTH);
    const number = core.scanPart(part, part.length, from, text.length);
    if (number === WHOLE) break;
    if (number !== NEXT_PART) return number;
  }
  return core.scan(text, text.length);
}

const LONE_SURROGATE = /[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/g;

/** Whether an odd number of backslashes stands before `at`. */
function isEscaped(text: string, at: number): boolean {
  let from = at;
  while (text.charCodeAt(from - 1) === 0x5c) from--;
  return (at - from) % 2 === 1;
}

function refusalOf(number: number): ValidationFailure {
  const [offset, limit = -1, length = 0] = scratch;
  const path = JSON.parse(pathText.toString('utf8', 0, length)) as (string | number)[];
  return numbered(number, { field: 'payload', offset, limit: limit < 0 ? undefined : limit, path });
}

/** Writes input into the shared memory, if it is short and of as many bytes as it has units. */
function share(input: string | Uint8Array): boolean {
  // A view whose buffer was moved away has no length, and must not be touched.
  if (input.length > SHORT_LENGTH || input.length === 0) return false;
  if (typeof input === 'string') return encoder.encodeInto(input, shared).written === input.length;
  shared.set(input);
  return true;
}

/** As `judgeJson`, for what is mostly short and plain, and of which nothing else is to be known. @internal */
export function judgeMessage(
  input: string | Uint8Array,
  limits: CheckedJsonLimits,
): ValidationFailure | undefined {
  return share(input) && isPlainJson(shared, input.length, limits)
    ? undefined
    : judgeJson(input, limits);
}

/** Judges input that is a string or a Uint8Array; `undefined` is a pass. */
function judgeJson(
  input: string | Uint8Array,
  limits: CheckedJsonLimits,
): ValidationFailure | undefined {
  const maxBytes = limits[0] ?? 0;
  if (input.length > maxBytes)
    return failure('ERR_PAYLOAD_TOO_LARGE', {
      field: 'payload',
      offset: maxBytes,
      limit: maxBytes,
      path: [],
    });
  if (loaded !== limits) load(limits);
  if (share(input)) return verdict(core.scanShared(input.length));
  let text = input;
  if (typeof text === 'string' && !text.isWellFormed()) {
    // Written as escapes, halves of pairs are judged like escaped ones, and stay apart from each other.
    // Behind a backslash of its own, half a pair is no escape: it is left as it is, for the grammar.
    text = text.replace(LONE_SURROGATE, (half, at: number) =>
      isEscaped(input as string, at) ? half : `\\u${half.charCodeAt(0).toString(16)}`,
    );
  }
  return verdict(run(text));
}

const verdict = (number: number): ValidationFailure | undefined =>
  number === 0 ? undefined : refusalOf(number);

function typeFailure(): ValidationFailure {
  return failure('ERR_JSON_TYPE', { field: 'payload' });
}

const NOT_JSON: ValidationResult<never> = Object.freeze({ success: false, error: typeFailure() });

/**
 * Judges JSON without parsing it: size, UTF-8, grammar, depth, numbers of values, keys and items,
 * lengths, repeated and forbidden keys, numbers. After a pass `JSON.parse` of the same text
 * cannot fail.
 *
 * @param input a string, or bytes in UTF-8; bytes in shared memory are copied first
 * @param limits what is allowed; defaults as in `JsonLimits`
 * @returns what it is like, or the first failure with `offset` in bytes, `path` and `limit`
 * @throws ERR_INVALID_ARG_TYPE, ERR_OUT_OF_RANGE, ERR_UNKNOWN_OPTION for the limits
 * @example
 * const result = scanJson(body, { maxDepth: 8 });
 * if (!result.success) return Response.json(result.error.toProblem(), { status: result.error.status });
 */
export function scanJson(input: JsonInput, limits?: JsonLimits): ValidationResult<JsonReport> {
  const rules = checked(limits);
  const given = typeof input === 'string' ? input : bytesOf(input);
  if (given === undefined) return NOT_JSON;
  const error = judgeJson(given, rules);
  if (error !== undefined) return { success: false, error };
  return {
    success: true,
    value: {
      values: scratch[3] ?? 0,
      depth: scratch[4] ?? 0,
      isAscii: scratch[5] === 1,
      hasUnsafeIntegers: scratch[6] === 1,
      hasNul: scratch[7] === 1,
    },
  };
}

/**
 * As `parseJson`, but returns failures instead of throwing them.
 *
 * @example
 * const result = safeParseJson(message);
 * if (result.success) handle(result.value);
 */
export function safeParseJson(input: JsonInput, limits?: JsonLimits): ValidationResult<unknown> {
  const rules = checked(limits);
  const given = typeof input === 'string' ? input : bytesOf(input);
  if (given === undefined) return NOT_JSON;
  const error = judgeJson(given, rules);
  if (error !== undefined) return { success: false, error };
  return {
    success: true,
    value: JSON.parse(typeof given === 'string' ? given : textOf(given, scratch[5] === 1)),
  };
}

/** Text of bytes that passed a scan. */
function textOf(bytes: Uint8Array, isAscii: boolean): string {
  const buffer = Buffer.isBuffer(bytes)
    ? bytes
    : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return buffer.toString(isAscii ? 'latin1' : 'utf8');
}

/**
 * Judges JSON as `scanJson` does, then parses it with the engine's `JSON.parse`.
 *
 * @param input a string, or bytes in UTF-8
 * @param limits what is allowed; defaults as in `JsonLimits`
 * @throws InputValidationError with `code`, `status`, `offset` and `path`; ERR_INVALID_ARG_TYPE, ERR_OUT_OF_RANGE, ERR_UNKNOWN_OPTION for the limits
 * @example
 * const order = parseJson(await request.arrayBuffer(), { maxBytes: 65_536, maxDepth: 8 });
 */
export function parseJson(input: JsonInput, limits?: JsonLimits): unknown {
  return unwrap(safeParseJson(input, limits));
}
