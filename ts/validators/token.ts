/** The shape of a token: three base64url parts. Signature and claims are another module's affair. */
import { failure, type ValidationResult } from './failure.js';

const LENGTH_MAX = 2048;
/** `Bearer` and as much white space as anybody writes. */
const PREFIX_MAX = 64;

/** Of every ASCII character: 1 in base64url, 2 for a dot, 0 otherwise. */
const KINDS = Uint8Array.from({ length: 128 }, (_, code) => {
  const character = String.fromCharCode(code);
  return character === '.' ? 2 : /[\w-]/.test(character) ? 1 : 0;
});

const refused = (code: Parameters<typeof failure>[0]): ValidationResult<never> =>
  Object.freeze({ success: false, error: failure(code, { field: 'token' }) });
const REQUIRED = refused('ERR_TOKEN_REQUIRED');
const TYPE = refused('ERR_TOKEN_TYPE');
const TOO_LONG = refused('ERR_TOKEN_TOO_LONG');
const FORMAT = refused('ERR_TOKEN_FORMAT');

function isSpace(code: number): boolean {
  return code === 0x20 || (code >= 0x09 && code <= 0x0d);
}

/** Where the token begins behind `Bearer` and white space. */
function startOf(token: string): number {
  // 0x20 makes a letter small.
  for (let at = 0; at < 6; at++)
    if ((token.charCodeAt(at) | 0x20) !== 'bearer'.charCodeAt(at)) return 0;
  let at = 6;
  while (isSpace(token.charCodeAt(at))) at++;
  return at === 6 ? 0 : at;
}

/** @internal */
export function judgeToken(token: unknown): ValidationResult<string> {
  if (!token) return REQUIRED;
  if (typeof token !== 'string') return TYPE;
  if (token.length > LENGTH_MAX + PREFIX_MAX) return TOO_LONG;
  const start = startOf(token);
  const end = token.length;
  if (end - start > LENGTH_MAX) return TOO_LONG;
  let dots = 0;
  // Empty parts: at the start, between dots, at the end.
  let isEmpty = true;
  for (let at = start; at < end; at++) {
    const kind = KINDS[token.charCodeAt(at)];
    if (kind === 1) isEmpty = false;
    else if (kind === 2 && !isEmpty && ++dots <= 2) isEmpty = true;
    else return FORMAT;
  }
  if (dots !== 2 || isEmpty) return FORMAT;
  return { success: true, value: start === 0 ? token : token.slice(start) };
}
