/** The size of a value as JSON, without writing the JSON: it stops at the limit, and leaves nothing out silently. */
import { wholeNumber } from '../base/options.js';
import { failure, type ValidationResult, ValidationFailure } from './failure.js';

/** Deeper values make `JSON.stringify` and `structuredClone` throw on some hosts. */
const DEPTH_MAX = 512;
const BYTES_MAX = 2 ** 31 - 1;

/** Bytes of a string in JSON, quotes and escapes included. */
function textBytes(text: string): number {
  let bytes = 2 + text.length;
  for (let at = 0; at < text.length; at++) {
    const code = text.charCodeAt(at);
    if (code >= 0x20 && code < 0x80) {
      if (code === 0x22 || code === 0x5c) bytes++;
    } else if (code < 0x20) {
      bytes +=
        code === 0x08 || code === 0x09 || code === 0x0a || code === 0x0c || code === 0x0d ? 1 : 5;
    } else if (code < 0x800) {
      bytes++;
    } else if (code < 0xd800 || code > 0xdfff) {
      bytes += 2;
    } else if (code < 0xdc00 && (text.charCodeAt(at + 1) & 0xfc00) === 0xdc00) {
      // A pair: two units, four bytes.
      bytes += 2;
      at++;
    } else {
      bytes += 5;
    }
  }
  return bytes;
}

/** Measures one value; throws a `ValidationFailure`, which never leaves this module. */
class Measure {
  readonly #limit: number;
  #bytes = 0;
  readonly #path: (string | number)[] = [];
  readonly #open: object[] = [];

  constructor(limit: number) {
    this.#limit = limit;
  }

  refusal(code: Parameters<typeof failure>[0], limit?: number): ValidationFailure {
    return failure(code, {
      field: 'payload',
      path: this.#path.map((part) => (typeof part === 'string' ? part.slice(0, 64) : part)),
      limit,
    });
  }

  add(bytes: number): void {
    this.#bytes += bytes;
    if (this.#bytes <= this.#limit) return;
    // Round and round, a cycle passes every limit.
    throw new Set(this.#open).size < this.#open.length
      ? this.refusal('ERR_PAYLOAD_CYCLE')
      : this.refusal('ERR_PAYLOAD_TOO_LARGE', this.#limit);
  }

  /** Whether it is written at all: `undefined` is not, in an object. */
  value(given: unknown, key: string): boolean {
    let value = given;
    if (typeof value === 'object' ? value !== null : typeof value === 'bigint') {
      const toJson = (value as { toJSON?: unknown }).toJSON;
      if (typeof toJson === 'function') value = Reflect.apply(toJson, value, [key]);
    }
    if (value instanceof Number) value = Number(value);
    else if (value instanceof String) value = String(value);
    else if (value instanceof Boolean) value = Boolean.prototype.valueOf.call(value);
    else if (value instanceof BigInt) throw this.refusal('ERR_PAYLOAD_NOT_JSON');
    switch (typeof value) {
      case 'string':
        // Longer than the limit in any case: need not be read.
        this.add(value.length > this.#limit ? value.length : textBytes(value));
        return true;
      case 'number':
        this.add(Number.isFinite(value) ? String(value).length : 4);
        return true;
      case 'boolean':
        this.add(value ? 4 : 5);
        return true;
      case 'undefined':
        return false;
      case 'object':
        if (value === null) this.add(4);
        else this.#container(value);
        return true;
      default:
        throw this.refusal('ERR_PAYLOAD_NOT_JSON');
    }
  }

  #container(value: object): void {
    if (this.#open.length >= DEPTH_MAX) {
      throw new Set(this.#open).size < this.#open.length
        ? this.refusal('ERR_PAYLOAD_CYCLE')
        : this.refusal('ERR_JSON_DEPTH', DEPTH_MAX);
    }
    this.#open.push(value);
    this.add(2);
    let count = 0;
    if (Array.isArray(value)) {
      const { length } = value as unknown[];
      for (; count < length; count++) {
        if (count > 0) this.add(1);
        this.#path.push(count);
        if (!this.value((value as unknown[])[count], String(count))) this.add(4);
        this.#path.pop();
      }
    } else {
      for (const key of Object.keys(value)) {
        this.#path.push(key);
        if (this.value((value as Record<string, unknown>)[key], key))
          this.add(textBytes(key) + (count++ > 0 ? 2 : 1));
        this.#path.pop();
      }
    }
    this.#open.pop();
  }
}

/** @internal */
export function judgePayload<T>(payload: T, maxSizeBytes?: number): ValidationResult<T | null> {
  const limit = Math.min(
    wholeNumber(
      'maxSizeBytes',
      maxSizeBytes === Infinity ? BYTES_MAX : maxSizeBytes,
      0,
      BYTES_MAX,
      1 << 20,
    ),
    BYTES_MAX,
  );
  if (payload === null || payload === undefined) return { success: true, value: null };
  const measure = new Measure(limit);
  try {
    if (!measure.value(payload, ''))
      return { success: false, error: measure.refusal('ERR_PAYLOAD_NOT_JSON') };
  } catch (error) {
    // What a getter, a proxy or a `toJSON` of the payload threw is no text for a log.
    return {
      success: false,
      error: error instanceof ValidationFailure ? error : measure.refusal('ERR_PAYLOAD_THROWS'),
    };
  }
  return { success: true, value: payload };
}
