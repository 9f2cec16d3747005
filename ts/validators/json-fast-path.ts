/**
 * A first look at messages: short, plain JSON is passed here, and all else goes to the scanner, which alone refuses.
 *
 * It never passes what the scanner would refuse: `__test__/json-fast-path.spec.ts`. Of a message of 90 bytes it
 * takes half of what the native call does in a loop (76 ns against 150 on Bun). Between two messages a
 * server runs through the system's network code, and what a call into another library needs is cold by
 * then: this is one page of code next to the handler's own.
 */

const LENGTH_MAX = 512;
const DEPTH_MAX = 8;
const KEYS_MAX = 16;
/** Digits of an integer that is always exact. */
const DIGITS_MAX = 15;
const NOT_PLAIN = -1;

/** Places of the limits, as `checkedJsonLimits` makes them. */
const [BYTES, DEPTH, VALUES, KEYS, ITEMS, STRING_BYTES, KEY_BYTES] = [0, 1, 2, 3, 4, 5, 6] as const;

/** Of the keys of the objects that are open, a row for each depth. */
const hashes = new Int32Array(DEPTH_MAX * KEYS_MAX);
let hash = 0;
let values = 0;

function behindBlanks(input: Uint8Array, from: number): number {
  let at = from;
  while (input[at]! <= 0x20 && isBlank(input[at]!)) at++;
  return at;
}

const isBlank = (code: number): boolean =>
  code === 0x20 || code === 0x0a || code === 0x0d || code === 0x09;

/** Printable ASCII that needs no escape: 1. */
const IS_TEXT = Uint8Array.from({ length: 256 }, (_, code) =>
  code >= 0x20 && code < 0x7f && code !== 0x22 && code !== 0x5c ? 1 : 0,
);

/** The quote that ends a key of such text; leaves its hash. */
function quoteAfterKey(input: Uint8Array, from: number): number {
  let sum = 0;
  let at = from;
  for (; IS_TEXT[input[at]!] === 1; at++) sum = (Math.imul(sum, 31) + input[at]!) | 0;
  hash = sum;
  return input[at] === 0x22 ? at : NOT_PLAIN;
}

/** The quote that ends such a string. */
function quoteBehind(input: Uint8Array, from: number): number {
  let at = from;
  while (IS_TEXT[input[at]!] === 1) at++;
  return input[at] === 0x22 ? at : NOT_PLAIN;
}

const isDigit = (code: number): boolean => code >= 0x30 && code <= 0x39;

/** What follows an integer. */
function behindInteger(input: Uint8Array, from: number): number {
  const first = input[from]! === 0x2d ? from + 1 : from;
  let at = first;
  while (isDigit(input[at]!)) at++;
  const digits = at - first;
  if (digits === 0 || digits > DIGITS_MAX || (digits > 1 && input[first]! === 0x30))
    return NOT_PLAIN;
  const next = input[at]!;
  // A fraction or an exponent.
  return next === 0x2e || next === 0x65 || next === 0x45 ? NOT_PLAIN : at;
}

function behindWord(input: Uint8Array, from: number, word: string): number {
  for (let at = 0; at < word.length; at++)
    if (input[from + at] !== word.charCodeAt(at)) return NOT_PLAIN;
  return from + word.length;
}

/** Whether the name that ends at `quote` may be one that is forbidden: `__proto__` and `constructor`. */
function mayBeForbidden(input: Uint8Array, from: number, quote: number): boolean {
  return (
    (quote - from === 9 && input[from]! === 0x5f) || (quote - from === 11 && input[from]! === 0x63)
  );
}

function behindObject(
  input: Uint8Array,
  from: number,
  depth: number,
  limits: Float64Array,
): number {
  const row = depth * KEYS_MAX;
  let at = behindBlanks(input, from);
  if (input[at]! === 0x7d) return at + 1;
  for (let count = 0; count < KEYS_MAX && count < limits[KEYS]!; count++) {
    if (input[at]! !== 0x22) return NOT_PLAIN;
    const quote = quoteAfterKey(input, at + 1);
    if (quote < 0 || quote - at - 1 > limits[KEY_BYTES]! || mayBeForbidden(input, at + 1, quote))
      return NOT_PLAIN;
    // Keys of one hash may be the same: the scanner knows.
    for (let other = 0; other < count; other++) if (hashes[row + other] === hash) return NOT_PLAIN;
    hashes[row + count] = hash;
    at = behindBlanks(input, quote + 1);
    if (input[at]! !== 0x3a) return NOT_PLAIN;
    at = behindValue(input, at + 1, depth + 1, limits);
    if (at < 0) return NOT_PLAIN;
    at = behindBlanks(input, at);
    const next = input[at]!;
    if (next === 0x7d) return at + 1;
    if (next !== 0x2c) return NOT_PLAIN;
    at = behindBlanks(input, at + 1);
  }
  return NOT_PLAIN;
}

function behindArray(input: Uint8Array, from: number, depth: number, limits: Float64Array): number {
  let at = behindBlanks(input, from);
  if (input[at]! === 0x5d) return at + 1;
  for (let count = 0; count < limits[ITEMS]!; count++) {
    at = behindValue(input, at, depth + 1, limits);
    if (at < 0) return NOT_PLAIN;
    at = behindBlanks(input, at);
    const next = input[at]!;
    if (next === 0x5d) return at + 1;
    if (next !== 0x2c) return NOT_PLAIN;
    at++;
  }
  return NOT_PLAIN;
}

/** What follows the value that begins at `from`; `depth` containers are open around it. */
function behindValue(input: Uint8Array, from: number, depth: number, limits: Float64Array): number {
  const at = behindBlanks(input, from);
  const code = input[at]!;
  values++;
  if (code === 0x22) {
    const quote = quoteBehind(input, at + 1);
    return quote < 0 || quote - at - 1 > limits[STRING_BYTES]! ? NOT_PLAIN : quote + 1;
  }
  if (code === 0x7b || code === 0x5b) {
    if (depth >= DEPTH_MAX || depth >= limits[DEPTH]!) return NOT_PLAIN;
    return code === 0x7b
      ? behindObject(input, at + 1, depth, limits)
      : behindArray(input, at + 1, depth, limits);
  }
  if (code === 0x74) return behindWord(input, at, 'true');
  if (code === 0x66) return behindWord(input, at, 'false');
  if (code === 0x6e) return behindWord(input, at, 'null');
  return behindInteger(input, at);
}

/**
 * Whether so many bytes are JSON that the scanner would pass, as far as that can be told at a glance.
 * @param input longer than that: a zero is written behind them
 * @param limits as `checkedJsonLimits` makes them
 * @internal
 */
export function isPlainJson(input: Uint8Array, length: number, limits: Float64Array): boolean {
  if (length > LENGTH_MAX || length > limits[BYTES]!) return false;
  // Ends every loop.
  input[length] = 0;
  values = 0;
  const end = behindValue(input, 0, 0, limits);
  return end > 0 && behindBlanks(input, end) === length && values <= limits[VALUES]!;
}
