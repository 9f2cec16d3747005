/**
 * Percent-decoding as other readers do it: repeatedly, leniently, and with look-alike characters
 * folded to ASCII. RFC 3986, section 2.4, forbids decoding twice; attackers count on readers that
 * do.
 */
// Default import: on a runtime without the named export, linking would fail before the version
// check.
import buffer from 'node:buffer';

/** Rounds of decoding, which undo text that an attacker encoded as many times. */
const ROUNDS = 6;

/** A part of a URL as readers see it that decode more than once. */
interface DecodedLayers {
  /** The text after each round of decoding; the first is the text as it came. */
  readonly layers: readonly string[];
  /** True if the first layer holds a malformed percent code, or codes that are no UTF-8. */
  readonly isMalformed: boolean;
}

/** Decodes until nothing changes, at most `ROUNDS` times. */
export function decodeLayers(text: string): DecodedLayers {
  const layers = [text];
  let isMalformed = false;
  const onMalformed = (): void => {
    isMalformed = true;
  };
  for (let round = 0; round < ROUNDS; round++) {
    const last = layers[layers.length - 1] ?? '';
    if (!last.includes('%')) break;
    // Only the first layer must be well-formed: decoded text may hold a percent sign of its own.
    const bytes = decodeOnce(last, round === 0 ? onMalformed : () => undefined);
    if (round === 0 && !buffer.isUtf8(Buffer.from(bytes, 'latin1'))) onMalformed();
    const next = foldToAscii(bytes, onMalformed);
    if (next === last) break;
    layers.push(next);
  }
  return { layers, isMalformed };
}

function hexDigit(code: number): number {
  if (code >= 0x30 && code <= 0x39) return code - 0x30;
  const small = code | 0x20;
  return small >= 0x61 && small <= 0x66 ? small - 0x57 : -1;
}

/** Returns the byte that two hexadecimal digits name, or -1. */
function hexByte(text: string, at: number): number {
  const high = hexDigit(text.charCodeAt(at));
  const low = hexDigit(text.charCodeAt(at + 1));
  return high < 0 || low < 0 ? -1 : high * 16 + low;
}

/** Decodes one layer, one character per byte. A malformed code stays as it is and is reported. */
function decodeOnce(text: string, onMalformed: () => void): string {
  let out = '';
  let from = 0;
  for (let at = text.indexOf('%'); at >= 0; at = text.indexOf('%', at + 1)) {
    const byte = hexByte(text, at + 1);
    if (byte >= 0) {
      out += text.slice(from, at) + String.fromCharCode(byte);
      at += 2;
    } else {
      onMalformed();
      // Old servers decode %uXXXX, which can name full-width forms of ASCII.
      const isUnicodeCode = (text.charCodeAt(at + 1) | 0x20) === 0x75;
      const high = isUnicodeCode ? hexByte(text, at + 2) : -1;
      const low = isUnicodeCode ? hexByte(text, at + 4) : -1;
      if (high < 0 || low < 0) continue;
      out += text.slice(from, at) + asciiLookAlike(high * 256 + low);
      at += 5;
    }
    from = at + 1;
  }
  return out + text.slice(from);
}

/** Returns the ASCII character that a reader may take a UTF-16 unit for. */
function asciiLookAlike(unit: number): string {
  // Full-width forms of ASCII.
  if (unit >= 0xff01 && unit <= 0xff5e) return String.fromCharCode(unit - 0xfee0);
  // One dot leader, ideographic full stop, half-width ideographic full stop.
  if (unit === 0x2024 || unit === 0x3002 || unit === 0xff61) return '.';
  // Division slash, fraction slash.
  if (unit === 0x2215 || unit === 0x2044) return '/';
  // Set minus.
  if (unit === 0x2216) return '\\';
  return String.fromCharCode(unit < 0x100 ? unit : 0xfffd);
}

/**
 * Sequences that are never valid (RFC 3629, section 3) and that lax decoders accept: two to four
 * bytes for a character that needs fewer, and the forms of five and six bytes of RFC 2279. A lax
 * decoder may take any byte for the second of two.
 */
const OVERLONG =
  /[\xc0\xc1][^]|\xe0[\x80-\x9f][\x80-\xbf]|\xf0[\x80-\x8f][\x80-\xbf]{2}|[\xf8-\xfb][\x80-\xbf]{4}|[\xfc\xfd][\x80-\xbf]{5}/g;
/** Bytes that never occur in UTF-8 (RFC 3629, section 3). */
const NEVER_IN_UTF8 = /[\xf5-\xff]/g;
/** The look-alikes of `asciiLookAlike` in UTF-8. */
const LOOK_ALIKES = /\xef([\xbc\xbd])([\x80-\xbf])|\xe3\x80\x82|\xe2\x88[\x95\x96]|\xe2\x80\xa4/g;

/** Returns the number that a sequence of two to six bytes encodes, by the bits of its lead byte. */
function codePointOf(sequence: string): number {
  let code = sequence.charCodeAt(0) & (0x7f >> sequence.length);
  for (let at = 1; at < sequence.length; at++)
    code = (code << 6) | (sequence.charCodeAt(at) & 0x3f);
  return code;
}

/** Folds overlong UTF-8 and look-alikes to the ASCII that lax readers see. */
function foldToAscii(bytes: string, onMalformed: () => void): string {
  return bytes
    .replace(OVERLONG, (sequence) => {
      onMalformed();
      const code = codePointOf(sequence);
      // Beyond one UTF-16 unit there is no look-alike of ASCII.
      return code > 0xffff ? '\ufffd' : asciiLookAlike(code);
    })
    .replace(NEVER_IN_UTF8, (byte) => {
      onMalformed();
      return byte;
    })
    .replace(LOOK_ALIKES, (all) =>
      asciiLookAlike(
        ((all.charCodeAt(0) & 0x0f) << 12) |
          ((all.charCodeAt(1) & 0x3f) << 6) |
          (all.charCodeAt(2) & 0x3f),
      ),
    );
}
