/** Percent codes, as readers of all kinds undo them: more than once, leniently, and to the ASCII that a sign is taken for. */
// By its default, as in `middleware/run.ts`.
import buffer from 'node:buffer';

/** An attacker's doubly, trebly, … encoded text is unwrapped so often. */
const ROUNDS = 6;

function hex(code: number): number {
  if (code >= 0x30 && code <= 0x39) return code - 0x30;
  const small = code | 0x20;
  return small >= 0x61 && small <= 0x66 ? small - 0x57 : -1;
}

function byteAt(text: string, at: number): number {
  const high = hex(text.charCodeAt(at));
  const low = hex(text.charCodeAt(at + 1));
  return high < 0 || low < 0 ? -1 : high * 16 + low;
}

/** One round of decoding, to one character a byte; what is malformed stays, and is noted. */
function decoded(text: string, note: (flag: 'percent') => void): string {
  let out = '';
  let from = 0;
  for (let at = text.indexOf('%'); at >= 0; at = text.indexOf('%', at + 1)) {
    const byte = byteAt(text, at + 1);
    if (byte >= 0) {
      out += text.slice(from, at) + String.fromCharCode(byte);
      at += 2;
    } else {
      note('percent');
      // The notation of old servers: %uXXXX, full-width forms of ASCII among them.
      const [high, low] =
        (text.charCodeAt(at + 1) | 0x20) === 0x75
          ? [byteAt(text, at + 2), byteAt(text, at + 4)]
          : [-1, -1];
      if (high < 0 || low < 0) continue;
      const unit = high * 256 + low;
      out += text.slice(from, at) + plainForm(unit);
      at += 5;
    }
    from = at + 1;
  }
  return out + text.slice(from);
}

/** What a character is taken for where it is folded to ASCII. */
function plainForm(unit: number): string {
  if (unit >= 0xff01 && unit <= 0xff5e) return String.fromCharCode(unit - 0xfee0);
  if (unit === 0x2024 || unit === 0x3002 || unit === 0xff61) return '.';
  if (unit === 0x2215 || unit === 0x2044) return '/';
  if (unit === 0x2216) return '\\';
  return String.fromCharCode(unit < 0x100 ? unit : 0xfffd);
}

/** Folds bytes that are no shortest UTF-8, and full-width forms, to the ASCII that lax readers see. */
function folded(bytes: string, note: (flag: 'percent') => void): string {
  return bytes
    .replace(/[\xc0\xc1]([^])/g, (_, tail: string) => {
      note('percent');
      return String.fromCharCode(tail.charCodeAt(0) & 0x3f);
    })
    .replace(/\xe0[\x80-\x9f]([\x80-\xbf])|\xf0[\x80-\x8f][\x80-\xbf]([\x80-\xbf])/g, (all) => {
      note('percent');
      return String.fromCharCode(
        ((all.charCodeAt(all.length - 2) & 1) << 6) | (all.charCodeAt(all.length - 1) & 0x3f),
      );
    })
    .replace(/[\xf5-\xff]/g, (byte) => {
      note('percent');
      return byte;
    })
    .replace(
      /\xef([\xbc\xbd])([\x80-\xbf])|\xe3\x80\x82|\xe2\x88[\x95\x96]|\xe2\x80\xa4/g,
      (all) => {
        const code =
          ((all.charCodeAt(0) & 0x0f) << 12) |
          ((all.charCodeAt(1) & 0x3f) << 6) |
          (all.charCodeAt(2) & 0x3f);
        return plainForm(code);
      },
    );
}

/** What a part of a URL looks like to readers that decode more than once. */
interface Unwrapped {
  /** Every layer, the outermost first. */
  readonly layers: readonly string[];
  readonly isMalformed: boolean;
}

export function unwrapped(part: string): Unwrapped {
  const layers = [part];
  let isMalformed = false;
  const note = (): void => {
    isMalformed = true;
  };
  for (let round = 0; round < ROUNDS; round++) {
    const last = layers[layers.length - 1] ?? '';
    if (!last.includes('%')) break;
    // Only what came first must be well-formed: what is decoded may hold a percent sign.
    const bytes = decoded(last, round === 0 ? note : () => undefined);
    if (round === 0 && !buffer.isUtf8(Buffer.from(bytes, 'latin1'))) note();
    const next = folded(bytes, note);
    if (next === last) break;
    layers.push(next);
  }
  return { layers, isMalformed };
}
