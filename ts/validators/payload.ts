/**
 * Measures a value as JSON without writing the JSON: it stops at the limit, and refuses values that
 * JSON would leave out.
 */
import { wholeNumber } from '../base/options.js';
import { failure, ValidationFailure, type ValidationResult } from './failure.js';
import type { FailureCode } from './failure-codes.js';

/** On some hosts `JSON.stringify` and `structuredClone` throw for deeper values. */
const DEPTH_MAX = 512;
const BYTES_MAX = 2 ** 31 - 1;

/** Checks that JSON can hold a value, and its size. @internal */
export function checkPayload<T>(payload: T, maxSizeBytes?: number): ValidationResult<T | null> {
  const given = maxSizeBytes === undefined ? 1 << 20 : maxSizeBytes;
  const limit = Math.min(wholeNumber('maxSizeBytes', given, 0, BYTES_MAX, Infinity), BYTES_MAX);
  if (payload === null || payload === undefined) return { success: true, value: null };
  const size = new JsonSize(limit);
  try {
    if (size.addValue(payload, '')) return { success: true, value: payload };
    return { success: false, error: size.refusal('ERR_PAYLOAD_NOT_JSON') };
  } catch (error) {
    // Another error comes from a getter, a proxy or a `toJSON`, and may hold secrets.
    return {
      success: false,
      error: error instanceof ValidationFailure ? error : size.refusal('ERR_PAYLOAD_THROWS'),
    };
  }
}

/**
 * Adds up the bytes of one value. Its methods throw a `ValidationFailure`, which `checkPayload`
 * catches.
 */
class JsonSize {
  readonly #limit: number;
  #bytes = 0;
  readonly #path: (string | number)[] = [];
  /** The objects and arrays around the current value. */
  readonly #open: object[] = [];

  constructor(limit: number) {
    this.#limit = limit;
  }

  refusal(code: FailureCode, limit?: number): ValidationFailure {
    return failure(code, {
      field: 'payload',
      path: this.#path.map((part) => (typeof part === 'string' ? part.slice(0, 64) : part)),
      limit,
    });
  }

  /**
   * Adds a value as `JSON.stringify` writes it.
   * @returns false for `undefined`, which an object leaves out
   */
  addValue(given: unknown, key: string): boolean {
    const value = this.#unboxed(this.#afterToJson(given, key));
    switch (typeof value) {
      case 'string':
        // A text longer than the limit exceeds it in any case, and need not be read.
        this.#add(value.length > this.#limit ? value.length : bytesOfText(value));
        return true;
      case 'number':
        this.#add(Number.isFinite(value) ? String(value).length : 4);
        return true;
      case 'boolean':
        this.#add(value ? 4 : 5);
        return true;
      case 'undefined':
        return false;
      case 'object':
        if (value === null) this.#add(4);
        else this.#addContainer(value);
        return true;
      default:
        throw this.refusal('ERR_PAYLOAD_NOT_JSON');
    }
  }

  #afterToJson(value: unknown, key: string): unknown {
    if (typeof value === 'object' ? value === null : typeof value !== 'bigint') return value;
    const { toJSON } = value as { toJSON?: unknown };
    return typeof toJSON === 'function' ? Reflect.apply(toJSON, value, [key]) : value;
  }

  /** Returns the primitive of a wrapper object. */
  #unboxed(value: unknown): unknown {
    if (value instanceof Number) return Number(value);
    if (value instanceof String) return String(value);
    if (value instanceof Boolean) return Boolean.prototype.valueOf.call(value);
    if (value instanceof BigInt) throw this.refusal('ERR_PAYLOAD_NOT_JSON');
    return value;
  }

  #addContainer(value: object): void {
    if (this.#open.length >= DEPTH_MAX)
      throw this.#cycle() ?? this.refusal('ERR_JSON_DEPTH', DEPTH_MAX);
    this.#open.push(value);
    this.#add(2);
    if (Array.isArray(value)) this.#addItems(value);
    else this.#addMembers(value as Record<string, unknown>);
    this.#open.pop();
  }

  #addItems(items: readonly unknown[]): void {
    const { length } = items;
    for (let at = 0; at < length; at++) {
      if (at > 0) this.#add(1);
      this.#path.push(at);
      // `undefined` becomes `null` in an array.
      if (!this.addValue(items[at], String(at))) this.#add(4);
      this.#path.pop();
    }
  }

  #addMembers(members: Readonly<Record<string, unknown>>): void {
    let count = 0;
    for (const key of Object.keys(members)) {
      this.#path.push(key);
      if (this.addValue(members[key], key)) this.#add(bytesOfText(key) + (count++ > 0 ? 2 : 1));
      this.#path.pop();
    }
  }

  #add(bytes: number): void {
    this.#bytes += bytes;
    if (this.#bytes > this.#limit)
      throw this.#cycle() ?? this.refusal('ERR_PAYLOAD_TOO_LARGE', this.#limit);
  }

  /**
   * Returns the failure of a cycle, if there is one. A cyclic value exceeds every limit, so only a
   * value beyond a limit is examined.
   */
  #cycle(): ValidationFailure | undefined {
    return new Set(this.#open).size < this.#open.length
      ? this.refusal('ERR_PAYLOAD_CYCLE')
      : undefined;
  }
}

/** Returns the bytes of a string in JSON, with quotes and escapes. */
function bytesOfText(text: string): number {
  let bytes = 2 + text.length;
  for (let at = 0; at < text.length; at++) {
    const code = text.charCodeAt(at);
    if (code >= 0x20 && code < 0x80) {
      if (code === 0x22 || code === 0x5c) bytes++;
    } else if (code < 0x20) {
      // Two-character escapes for \b \t \n \f \r, six characters for the rest.
      bytes +=
        code === 0x08 || code === 0x09 || code === 0x0a || code === 0x0c || code === 0x0d ? 1 : 5;
    } else if (code < 0x800) {
      bytes++;
    } else if (code < 0xd800 || code > 0xdfff) {
      bytes += 2;
    } else if (code < 0xdc00 && (text.charCodeAt(at + 1) & 0xfc00) === 0xdc00) {
      // A surrogate pair: two units, four bytes.
      bytes += 2;
      at++;
    } else {
      // A lone surrogate: an escape of six characters.
      bytes += 5;
    }
  }
  return bytes;
}
