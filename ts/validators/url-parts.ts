/** The text of a URL: its characters, its parts, and the attacks that a path or query can hide. */
import type { FailureCode } from './failure-codes.js';
import type { UrlFlag } from './host.js';
import { decodeLayers } from './percent.js';
import type { UrlRules } from './url-options.js';

/** Path and query of a URL, as written. */
export interface UrlPath {
  readonly path: string;
  /** With its question mark, or empty. */
  readonly query: string;
  readonly hasFragment: boolean;
}

/** The parts of an absolute URL, as written (RFC 3986, section 3). */
export interface UrlParts extends UrlPath {
  /** In small letters. */
  readonly scheme: string;
  readonly authority: string;
}

/** Splits `path?query#fragment`. */
export function splitPath(text: string): UrlPath {
  const hash = text.indexOf('#');
  const rest = hash < 0 ? text : text.slice(0, hash);
  const mark = rest.indexOf('?');
  return {
    path: mark < 0 ? rest : rest.slice(0, mark),
    query: mark < 0 ? '' : rest.slice(mark),
    hasFragment: hash >= 0,
  };
}

/** Splits `scheme://authority/path?query#fragment`; `undefined` for any other form. */
export function splitUrl(url: string): UrlParts | undefined {
  const colon = url.indexOf('://');
  if (colon < 1 || !/^[a-z][a-z0-9+.-]*$/i.test(url.slice(0, colon))) return undefined;
  const rest = url.slice(colon + 3);
  const end = rest.search(/[/?#]/);
  const authority = end < 0 ? rest : rest.slice(0, end);
  if (authority === '') return undefined;
  return {
    scheme: url.slice(0, colon).toLowerCase(),
    authority,
    ...splitPath(end < 0 ? '' : rest.slice(end)),
  };
}

/** Returns the scheme that a URL begins with, in small letters. */
export function schemeOf(url: string): string | undefined {
  return /^([a-z][a-z0-9+.-]*):/i.exec(url)?.[1]?.toLowerCase();
}

/** Returns the host of an authority as written, in small letters, without its port. */
export function writtenHost(authority: string): string {
  const end = authority.startsWith('[') ? authority.indexOf(']') + 1 : authority.search(/:|$/);
  return authority.slice(0, end).toLowerCase();
}

/**
 * Returns the code for an authority that parsers read differently: with credentials, or encoded.
 */
export function checkAuthority(authority: string): FailureCode | undefined {
  if (authority.includes('@')) return 'ERR_URL_CREDENTIALS';
  return authority.includes('%') ? 'ERR_URL_PERCENT' : undefined;
}

/** A character that no form of URL may hold, with its index. */
interface BadCharacter {
  readonly code: FailureCode;
  readonly offset: number;
}

/**
 * Finds the first character that must be encoded (controls, space, DEL, non-ASCII), or a backslash
 * before the query: the WHATWG parser reads a backslash as a slash.
 */
export function findBadCharacter(url: string): BadCharacter | undefined {
  let isBeforeQuery = true;
  for (let offset = 0; offset < url.length; offset++) {
    const code = url.charCodeAt(offset);
    if (code <= 0x20 || code >= 0x7f) return { code: 'ERR_URL_CHARACTER', offset };
    if (code === 0x3f || code === 0x23) isBeforeQuery = false;
    else if (code === 0x5c && isBeforeQuery) return { code: 'ERR_URL_BACKSLASH', offset };
  }
  return undefined;
}

/**
 * CR, LF and NUL; and the UTF-8 of U+560A and U+560D, which old servers truncate to their low
 * bytes, LF and CR.
 */
const LINE_BREAK = /[\r\n\0]|\xe5\x98[\x8a\x8d]/;
const CONTROL = /[^\x20-\x7e\x80-\uffff]/;
/** A dot segment, also with a parameter or blanks behind it. */
const CLIMBS = /(?:^|[/\\])\.{1,}(?:$|[/\\;\0 %?#])/;
const CLIMBS_IN_QUERY = /(?:^|[/\\=&;])\.\.[/\\]/;
const NESTED = /^[/\\]*(?:[a-z][a-z0-9+.-]*:)|^[/\\]\.(?!well-known\/)/i;
const NESTED_IN_QUERY = /=(?:[a-z][a-z0-9+.-]*:)?[/\\]{1,2}[/\\]|=(?:javascript|data|vbscript):/i;

const separatorsIn = (text: string): number => text.split(/[/\\]/).length;

/**
 * Checks every layer of encoding of a path and a query, and adds to `flags`. Neither may hold raw
 * control characters, nor the path a backslash: `findBadCharacter` refuses them.
 * @returns the code of a refusal
 */
export function checkPath(
  { path, query }: UrlPath,
  { mode, mayFlag }: UrlRules,
  flags: Set<UrlFlag>,
): FailureCode | undefined {
  const inPath = decodeLayers(path);
  const inQuery = decodeLayers(query);
  for (const layer of [...inPath.layers, ...inQuery.layers])
    if (LINE_BREAK.test(layer)) return 'ERR_URL_ENCODED_CONTROL';
  for (const layer of inPath.layers) {
    if (CONTROL.test(layer)) return 'ERR_URL_ENCODED_CONTROL';
    // A reader that decodes once more would see another host. The caller checked the first layer.
    if (mode === 'redirect' && /^[/\\]{2}/.test(layer)) return 'ERR_URL_NETWORK_PATH';
    if (CLIMBS.test(layer)) flags.add('traversal');
  }
  if (inPath.layers.some((layer) => separatorsIn(layer) > separatorsIn(path)))
    flags.add('encoded-separator');
  if (flags.has('traversal') && !mayFlag) return 'ERR_URL_TRAVERSAL';
  if (inPath.isMalformed && !mayFlag) return 'ERR_URL_PERCENT';
  if (inPath.isMalformed || inQuery.isMalformed) flags.add('percent');
  if (inPath.layers.length > 2 || inQuery.layers.length > 2) flags.add('double-encoding');
  if (inQuery.layers.some((layer) => CONTROL.test(layer))) flags.add('encoded-control');
  if (inQuery.layers.some((layer) => CLIMBS_IN_QUERY.test(layer))) flags.add('traversal');
  if (
    inPath.layers.some((layer) => NESTED.test(layer)) ||
    inQuery.layers.some((layer) => NESTED_IN_QUERY.test(layer))
  )
    flags.add('nested-url');
  return undefined;
}
