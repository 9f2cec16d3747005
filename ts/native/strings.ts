/**
 * The form in which strings cross to the core: an IPv4 address as a number, a short name through
 * shared memory. A string argument costs a native call about 30 ns on Node and 40 ns on Bun, a
 * number 4 ns. Copying the UTF-16 units of a name here costs 45 ns on Node and 20 ns on Bun, so
 * Node passes the name itself.
 */

import { outOfRange } from '../base/errors.js';

const isBun = 'bun' in process.versions;
const COLON = 58;
const DOT = 46;
const ZERO = 48;

/**
 * Returns the bits of an IPv4 address in its only canonical notation, alone or mapped into IPv6
 * (`::ffff:192.0.2.1`, as sockets that serve both families write it), or -1 for any other text.
 * @internal
 */
export function parseIpv4(ip: string): number {
  const { length } = ip;
  let at = ip.charCodeAt(0) === COLON && ip.startsWith('::ffff:') ? 7 : 0;
  if (length - at > 15) return -1;
  let bits = 0;
  let octet = 0;
  let digits = 0;
  let dots = 0;
  for (; at < length; at++) {
    const unit = ip.charCodeAt(at);
    if (unit === DOT) {
      if (digits === 0 || octet > 255) return -1;
      bits = (bits << 8) | octet;
      octet = digits = 0;
      dots++;
    } else {
      const digit = unit - ZERO;
      // No leading zeros: some parsers read such an octet as octal.
      if (digit >>> 0 > 9 || (digits !== 0 && octet === 0)) return -1;
      octet = 10 * octet + digit;
      digits++;
    }
  }
  return dots === 3 && digits !== 0 && octet <= 255 ? ((bits << 8) | octet) >>> 0 : -1;
}

/**
 * Whether `formatIpv4` gives the text of an address back, so that the text need not be kept.
 * @internal
 */
export function isDottedQuad(ip: string, v4: number): boolean {
  return v4 >= 0 && ip.charCodeAt(0) !== COLON;
}

/** Returns the dotted text of an IPv4 address. @internal */
export function formatIpv4(bits: number): string {
  return `${bits >>> 24}.${(bits >>> 16) & 255}.${(bits >>> 8) & 255}.${bits & 255}`;
}

/**
 * Refuses a text with lone surrogates. The core keeps names as UTF-8, which has none: it takes U+FFFD in the place of each,
 * so that names that differ would be the same.
 * @throws ERR_OUT_OF_RANGE
 * @internal
 */
export function checkWellFormed(field: string, text: string): void {
  if (!text.isWellFormed()) throw outOfRange(field, text, 'text without lone surrogates');
}

/** UTF-16 units for which the shared memory has room. @internal */
export const TEXT_MAX = 64;

/**
 * On Bun, copies a text into shared memory and returns its length, if there is room; else returns
 * the text.
 * @param at first unit of the room
 * @internal
 */
export function encodeName(name: string, text: Uint16Array, at = 0): number | string {
  const { length } = name;
  if (!isBun || length > TEXT_MAX) return name;
  for (let i = 0; i < length; i++) text[at + i] = name.charCodeAt(i);
  return length;
}
