/** The shape of a token: three base64url parts (RFC 7515, section 7.1). `tokens/` verifies it. */
import { refused, type ValidationResult } from './failure.js';

const LENGTH_MAX = 2048;
/** Longest `Bearer` prefix, white space included. */
const PREFIX_MAX = 64;

/** For each ASCII character: 1 in base64url (RFC 4648, section 5), 2 for a dot, 0 otherwise. */
const CHARACTER_KINDS = Uint8Array.from({ length: 128 }, (_, code) => {
  const character = String.fromCharCode(code);
  return character === '.' ? 2 : /[\w-]/.test(character) ? 1 : 0;
});

const REQUIRED = refused('ERR_TOKEN_REQUIRED', { field: 'token' });
const TYPE = refused('ERR_TOKEN_TYPE', { field: 'token' });
const TOO_LONG = refused('ERR_TOKEN_TOO_LONG', { field: 'token' });
const FORMAT = refused('ERR_TOKEN_FORMAT', { field: 'token' });

function isSpace(code: number): boolean {
  return code === 0x20 || (code >= 0x09 && code <= 0x0d);
}

/** Returns the index behind `Bearer` and white space. The scheme's letter case does not matter. */
function startOf(token: string): number {
  // 0x20 turns a capital letter into a small one.
  for (let at = 0; at < 6; at++)
    if ((token.charCodeAt(at) | 0x20) !== 'bearer'.charCodeAt(at)) return 0;
  let at = 6;
  while (isSpace(token.charCodeAt(at))) at++;
  return at === 6 ? 0 : at;
}

/** Checks the shape of a token, and cuts off `Bearer`. @internal */
export function checkToken(token: unknown): ValidationResult<string> {
  if (!token) return REQUIRED;
  if (typeof token !== 'string') return TYPE;
  if (token.length > LENGTH_MAX + PREFIX_MAX) return TOO_LONG;
  const start = startOf(token);
  const end = token.length;
  if (end - start > LENGTH_MAX) return TOO_LONG;
  let dots = 0;
  let isPartEmpty = true;
  for (let at = start; at < end; at++) {
    const kind = CHARACTER_KINDS[token.charCodeAt(at)];
    if (kind === 1) isPartEmpty = false;
    else if (kind === 2 && !isPartEmpty && ++dots <= 2) isPartEmpty = true;
    else return FORMAT;
  }
  if (dots !== 2 || isPartEmpty) return FORMAT;
  return { success: true, value: start === 0 ? token : token.slice(start) };
}
