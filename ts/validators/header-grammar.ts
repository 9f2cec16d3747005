/** The grammar of header fields (RFC 9110, section 5), and the names that most clients send. */

/** For each ASCII character of a name (RFC 9110, section 5.6.2): its small letter; otherwise 0. */
const NAME_CHARACTERS = Uint8Array.from({ length: 128 }, (_, code) =>
  /[!#$%&'*+.^_`|~\w-]/.test(String.fromCharCode(code))
    ? String.fromCharCode(code).toLowerCase().charCodeAt(0)
    : 0,
);

/** Names that may come once only: their values are no lists (RFC 9110, section 5.3). */
export const SINGLE_NAMES: ReadonlySet<string> = new Set(
  (
    'authorization content-length content-type content-encoding content-location content-range ' +
    'date etag expires from host if-modified-since if-range if-unmodified-since last-modified ' +
    'location max-forwards origin proxy-authorization referer retry-after sec-websocket-accept ' +
    'sec-websocket-key sec-websocket-version server transfer-encoding user-agent ' +
    // Proxies set the client's address here: a second one comes from the client.
    'cf-connecting-ip fastly-client-ip true-client-ip x-client-ip x-cluster-client-ip x-real-ip'
  ).split(' '),
);

/**
 * Common names as most clients spell them, to their small letters: a lookup spares the check of
 * each letter.
 */
export const COMMON_NAMES = new Map<string, string>();
for (const name of [
  ...SINGLE_NAMES,
  ...(
    'accept accept-charset accept-encoding accept-language access-control-request-headers ' +
    'access-control-request-method cache-control cdn-loop connection content-disposition ' +
    'content-language cookie dnt expect forwarded if-match if-none-match keep-alive link pragma ' +
    'priority range sec-ch-ua sec-ch-ua-mobile sec-ch-ua-platform sec-fetch-dest sec-fetch-mode ' +
    'sec-fetch-site sec-fetch-user sec-gpc sec-websocket-extensions sec-websocket-protocol ' +
    'set-cookie te traceparent tracestate trailer upgrade upgrade-insecure-requests vary via ' +
    'x-api-key x-correlation-id x-csrf-token x-forwarded-for x-forwarded-host x-forwarded-port ' +
    'x-forwarded-proto x-request-id x-requested-with'
  ).split(' '),
]) {
  COMMON_NAMES.set(name, name);
  COMMON_NAMES.set(
    name.replace(/(^|-)[a-z]/g, (letter) => letter.toUpperCase()),
    name,
  );
}

/** The two names that tell the end of a body. */
export const TRANSFER_ENCODING_NAME = 'transfer-encoding';
export const CONTENT_LENGTH_NAME = 'content-length';

/**
 * The name whose fields stay apart: cookies that are set cannot be joined (RFC 9110, section 5.3).
 */
export const SET_COOKIE = 'set-cookie';

/**
 * Returns a name in small letters, or '' if it is no name. The grammar is checked first, since
 * `toLowerCase` turns some letters of other alphabets into ASCII.
 */
export function lowerCaseName(name: string): string {
  const common = COMMON_NAMES.get(name);
  if (common !== undefined) return common;
  let isLowerCase = true;
  for (let at = 0; at < name.length; at++) {
    const code = name.charCodeAt(at);
    const small = NAME_CHARACTERS[code];
    if (small === undefined || small === 0) return '';
    if (small !== code) isLowerCase = false;
  }
  return isLowerCase ? name : name.toLowerCase();
}

/**
 * Returns a name that is safe to show: at most 100 characters, with `?` for characters that no name
 * may hold.
 */
export function printableName(name: string): string {
  let printable = '';
  for (const character of name.slice(0, 100))
    printable +=
      character.length === 1 && NAME_CHARACTERS[character.charCodeAt(0)] ? character : '?';
  return printable;
}

/** True if a value holds only HTAB, space, visible ASCII and obs-text (RFC 9110, section 5.5). */
export function isFieldValue(value: string): boolean {
  for (let at = 0; at < value.length; at++) {
    const code = value.charCodeAt(at);
    if ((code < 0x20 && code !== 0x09) || code === 0x7f || code > 0xff) return false;
  }
  return true;
}

/** The opposite of `isFieldValue`, for many values at once. */
export const NO_FIELD_VALUE = /[^\t\x20-\x7e\x80-\xff]/;

/** `uri-host [":" port]` (RFC 9110, section 7.2); without the comma of a joined value. */
const HOST = /^(?:\[[\da-f:.]+\]|[\w.~!$&'()*+;=%-]*)(?::\d*)?$/i;
/** Codings, the last of them `chunked`, and that one once (RFC 9112, sections 6.1 and 6.3). */
const TRANSFER_ENCODING = /^(?:(?!chunked)[\w!#$%&'*+.^`|~-]+[ \t]*,[ \t]*)*chunked$/i;
const NO_COMMA = /^[^,]*$/;

/**
 * Grammars of values that decide about the end of a message, its server or its client. `Headers`
 * joins fields of every name with a comma; none of these values has a comma of its own, apart from
 * `transfer-encoding`.
 */
export const GRAMMARS: ReadonlyMap<string, RegExp> = new Map([
  ['content-length', /^\d+$/],
  ['host', HOST],
  ['transfer-encoding', TRANSFER_ENCODING],
  ['cf-connecting-ip', NO_COMMA],
  ['fastly-client-ip', NO_COMMA],
  ['true-client-ip', NO_COMMA],
  ['x-client-ip', NO_COMMA],
  ['x-cluster-client-ip', NO_COMMA],
  ['x-real-ip', NO_COMMA],
]);

/** True if a value that breaks its grammar does so because the host joined several fields. */
export function isJoinedValue(name: string, value: string): boolean {
  return name !== TRANSFER_ENCODING_NAME && value.includes(',');
}
