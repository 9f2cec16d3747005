/** Checks of JSON before it is parsed: `scanJson`, `parseJson`, `safeParseJson`. */
import { createJsonScanner } from '../native/addon.js';
import { sharedArray } from '../native/shared-memory.js';
import {
  failure,
  failureByNumber,
  refused,
  type ValidationFailure,
  type ValidationResult,
  valueOrThrow,
} from './failure.js';
import { FAST_PATH_LENGTH, passesFastPath } from './json-fast-path.js';
import {
  cachedJsonLimits,
  type CheckedJsonLimits,
  JSON_LIMITS_LENGTH,
  type JsonLimits,
  MAX_BYTES,
} from './json-limits.js';

/** JSON as text, or as bytes in UTF-8. */
export type JsonInput = string | Uint8Array | ArrayBuffer | SharedArrayBuffer | ArrayBufferView;

/** Figures of JSON that passed a scan. */
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

/** Places of a scan's findings in the scratch; the limits follow. */
const [OFFSET, LIMIT, PATH_LENGTH, VALUES, DEPTH, IS_ASCII, UNSAFE_INTEGERS, NUL, LIMITS_FROM] = [
  0, 1, 2, 3, 4, 5, 6, 7, 8,
] as const;
const PATH_BYTES = 4096;

const BYTE_ORDER_MARK = 0xfeff;
/** UTF-16 units, or bytes, of input that is short. */
const SHORT_LENGTH = 1024;
const UTF8_BYTES_PER_UNIT_MAX = 3;
/** UTF-16 units of one part of a long string. */
const PART_LENGTH = 32_768;
/** Results of `scanPart` besides failures: wants the next part; wants the whole string. */
const NEXT_PART = -1;
const WHOLE = -2;

/** The one scanner of this thread, and the memory that it shares with this module. */
const scanner = createJsonScanner();
const scratch = sharedArray(Float64Array, LIMITS_FROM + JSON_LIMITS_LENGTH);
const pathText = Buffer.from(sharedArray(Uint8Array, PATH_BYTES).buffer);
/** Short input is copied here: that costs less than an argument of a native call. */
const shortText = sharedArray(Uint8Array, SHORT_LENGTH * UTF8_BYTES_PER_UNIT_MAX + 1);
scanner.share(scratch, pathText, shortText);
const encoder = new TextEncoder();
/**
 * Longer text is encoded here, part by part: the engine's encoder takes a tenth of the time of a string
 * that is an argument of a native call. Lent to the scanner for one call only.
 */
const partText = new Uint8Array(PART_LENGTH * UTF8_BYTES_PER_UNIT_MAX);

/** The limits that the scanner holds. */
let loaded: CheckedJsonLimits | undefined;

function load(limits: CheckedJsonLimits): void {
  scratch.set(limits, LIMITS_FROM);
  scanner.setLimits();
  loaded = limits;
}

const TYPE = refused('ERR_JSON_TYPE', { field: 'payload' });

/**
 * Checks JSON without parsing it: size, UTF-8, grammar, depth, counts of values, keys and items,
 * lengths, repeated and forbidden keys, numbers. `JSON.parse` cannot fail on text that passed.
 *
 * @param input a string, or bytes in UTF-8; bytes in shared memory are copied first
 * @param limits the limits; see `JsonLimits` for the defaults
 * @returns figures of the JSON, or the first failure with `offset` in bytes, `path` and `limit`
 * @throws ERR_INVALID_ARG_TYPE, ERR_OUT_OF_RANGE, ERR_UNKNOWN_OPTION for the limits
 * @example
 * const result = scanJson(body, { maxDepth: 8 });
 * if (!result.success) return Response.json(result.error.toProblem(), { status: result.error.status });
 */
export function scanJson(input: JsonInput, limits?: JsonLimits): ValidationResult<JsonReport> {
  const checked = cachedJsonLimits(limits);
  const text = typeof input === 'string' ? input : bytesOf(input);
  if (text === undefined) return TYPE;
  const error = checkJson(text, checked);
  if (error !== undefined) return { success: false, error };
  return {
    success: true,
    value: {
      values: scratch[VALUES] ?? 0,
      depth: scratch[DEPTH] ?? 0,
      isAscii: scratch[IS_ASCII] === 1,
      hasUnsafeIntegers: scratch[UNSAFE_INTEGERS] === 1,
      hasNul: scratch[NUL] === 1,
    },
  };
}

/**
 * Checks JSON as `scanJson` does and parses it; returns failures instead of throwing them.
 *
 * @param input a string, or bytes in UTF-8; bytes in shared memory are copied first
 * @param limits the limits; see `JsonLimits` for the defaults
 * @returns the parsed value, or the first failure
 * @throws ERR_INVALID_ARG_TYPE, ERR_OUT_OF_RANGE, ERR_UNKNOWN_OPTION for the limits
 * @example
 * const result = safeParseJson(message);
 * if (result.success) handle(result.value);
 */
export function safeParseJson(input: JsonInput, limits?: JsonLimits): ValidationResult<unknown> {
  const checked = cachedJsonLimits(limits);
  const text = typeof input === 'string' ? input : bytesOf(input);
  if (text === undefined) return TYPE;
  const error = checkJson(text, checked);
  if (error !== undefined) return { success: false, error };
  const decoded = typeof text === 'string' ? text : decode(text, scratch[IS_ASCII] === 1);
  // The engine refuses the mark that the limits allowed.
  const from = decoded.charCodeAt(0) === BYTE_ORDER_MARK ? 1 : 0;
  return { success: true, value: JSON.parse(from === 0 ? decoded : decoded.slice(from)) };
}

/**
 * Checks JSON as `scanJson` does, then parses it with the engine's `JSON.parse`.
 *
 * @param input a string, or bytes in UTF-8; bytes in shared memory are copied first
 * @param limits the limits; see `JsonLimits` for the defaults
 * @returns the parsed value
 * @throws InputValidationError with `code`, `status`, `offset` and `path`; ERR_INVALID_ARG_TYPE,
 *   ERR_OUT_OF_RANGE, ERR_UNKNOWN_OPTION for the limits
 * @example
 * const order = parseJson(await request.arrayBuffer(), { maxBytes: 65_536, maxDepth: 8 });
 */
export function parseJson(input: JsonInput, limits?: JsonLimits): unknown {
  return valueOrThrow(safeParseJson(input, limits));
}

/** Decodes bytes that passed a scan. */
function decode(bytes: Uint8Array, isAscii: boolean): string {
  const buffer = Buffer.isBuffer(bytes)
    ? bytes
    : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return buffer.toString(isAscii ? 'latin1' : 'utf8');
}

/**
 * Returns a `Uint8Array` over the same memory, or `undefined` for another type. Shared memory is
 * copied: another thread could change it between the scan and the parse.
 * @internal
 */
export function bytesOf(input: unknown): Uint8Array | undefined {
  try {
    // `isView`, since prototypes mislead: a proxy has that of its target, and memory of another realm has another one.
    if (ArrayBuffer.isView(input)) {
      const { buffer, byteOffset, byteLength } = input;
      const view =
        input instanceof Uint8Array ? input : new Uint8Array(buffer, byteOffset, byteLength);
      return buffer instanceof ArrayBuffer ? view : Uint8Array.from(view);
    }
    if (!isMemory(input)) return undefined;
    const view = new Uint8Array(input);
    return input instanceof ArrayBuffer ? view : Uint8Array.from(view);
  } catch {
    // The memory was transferred to another thread, or a getter of a subclass threw.
    return undefined;
  }
}

/** True for an `ArrayBuffer` or a `SharedArrayBuffer` of any realm. Their getters throw for any other value. */
const isMemory = (input: unknown): input is ArrayBuffer | SharedArrayBuffer =>
  [ArrayBuffer, SharedArrayBuffer].some(({ prototype }) => {
    try {
      return (Reflect.get(prototype, 'byteLength', input) as number) >= 0;
    } catch {
      return false;
    }
  });

/**
 * Checks a message. Unlike `checkJson`, it leaves no figures in the scratch, and passes short JSON
 * without a native call.
 * @internal
 */
export function checkMessage(
  input: string | Uint8Array,
  limits: CheckedJsonLimits,
): ValidationFailure | undefined {
  const mayPass = input.length <= FAST_PATH_LENGTH && copyShort(input);
  return mayPass && passesFastPath(shortText, input.length, limits)
    ? undefined
    : checkJson(input, limits);
}

/** Returns the failure of a text or of bytes; `undefined` is a pass. */
function checkJson(
  input: string | Uint8Array,
  limits: CheckedJsonLimits,
): ValidationFailure | undefined {
  const maxBytes = limits[MAX_BYTES] ?? 0;
  if (input.length > maxBytes)
    return failure('ERR_PAYLOAD_TOO_LARGE', {
      field: 'payload',
      offset: maxBytes,
      limit: maxBytes,
      path: [],
    });
  if (loaded !== limits) load(limits);
  if (copyShort(input)) return failureOfScan(scanner.scanShared(input.length));
  return failureOfScan(scan(typeof input === 'string' ? withEscapedSurrogates(input) : input));
}

/**
 * Copies input into the shared memory if it is short and, as text, ASCII.
 * @returns false if nothing may be read there
 */
function copyShort(input: string | Uint8Array): boolean {
  // A view of transferred memory has length 0, and `set` would throw for it.
  if (input.length > SHORT_LENGTH || input.length === 0) return false;
  if (typeof input === 'string')
    return encoder.encodeInto(input, shortText).written === input.length;
  shortText.set(input);
  return true;
}

/** Returns the number of the failure, or 0. */
function scan(input: string | Uint8Array): number {
  if (typeof input !== 'string') return scanner.scan(input, input.length);
  if (input.length > PART_LENGTH) return scanInParts(input);
  return scanner.scan(partText, encoder.encodeInto(input, partText).written);
}

/** Scans a long string part by part: after a refusal the rest need not be copied. */
function scanInParts(text: string): number {
  for (let from = 0; from < text.length; from += PART_LENGTH) {
    const part = text.slice(from, from + PART_LENGTH);
    const { written } = encoder.encodeInto(part, partText);
    // Parts that are not ASCII cannot be cut or counted by units.
    if (written !== part.length) break;
    const number = scanner.scanPart(partText, written, from, text.length);
    if (number === WHOLE) break;
    if (number !== NEXT_PART) return number;
  }
  return scanner.scan(text, text.length);
}

function failureOfScan(number: number): ValidationFailure | undefined {
  if (number === 0) return undefined;
  const offset = scratch[OFFSET];
  const limit = scratch[LIMIT] ?? -1;
  const path = JSON.parse(pathText.toString('utf8', 0, scratch[PATH_LENGTH])) as (
    string | number
  )[];
  return failureByNumber(number, {
    field: 'payload',
    offset,
    limit: limit < 0 ? undefined : limit,
    path,
  });
}

const LONE_SURROGATE = /[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/g;

/**
 * Writes lone surrogates as escapes, since UTF-8 cannot hold them. The scanner then treats them
 * like escaped ones, and two of them do not become a pair. Behind an unpaired backslash a surrogate
 * is no valid escape; it stays as it is, and the grammar refuses it.
 */
function withEscapedSurrogates(text: string): string {
  if (text.isWellFormed()) return text;
  return text.replace(LONE_SURROGATE, (half, at: number) =>
    isEscaped(text, at) ? half : `\\u${half.charCodeAt(0).toString(16)}`,
  );
}

/** True if an odd number of backslashes stands before `at`. */
function isEscaped(text: string, at: number): boolean {
  let from = at;
  while (text.charCodeAt(from - 1) === 0x5c) from--;
  return (at - from) % 2 === 1;
}
