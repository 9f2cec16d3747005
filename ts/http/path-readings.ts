/**
 * The paths that routers may read in one target. Routers differ in what they take for a path: some decode it, in
 * whole or in part, some resolve its dots, some parse it as a URL. A limit of a path holds for a request if any
 * reading of its target is that path.
 */
import { canParseUrl } from '../base/parsable.js';
import { targetOf } from './answer.js';

/** The readings of a target. @internal */
export interface PathReadings {
  /** Distinct paths, each in lower case, with single slashes and without a last one. */
  readonly paths: readonly string[];
  /** True for a target that is no URL, or has malformed escapes: a router that reads it may read another path. */
  readonly isMalformed: boolean;
  /**
   * True for a target that may be any path: one of no form of HTTP, and one that is too long, or has too many readings,
   * for all of them to be made.
   */
  readonly isUnread: boolean;
}

/**
 * A target that all routers read alike: an ordinary host or none, and a path without escapes, backslashes, parameters,
 * repeated slashes, and segments that begin with a dot.
 */
const PLAIN = /^(?:https?:\/\/[-.:[\]\w]+)?((?:\/(?![./])[!"$&-.0-:<->@-[\]-~]*)+)(?:\?|$)/;
/**
 * The forms of a target (RFC 9112, section 3.2), but for that of CONNECT. Of all others routers make what they will:
 * those that put the host before the target read the path `/me` in `*.x/me`, `.x/me` and `:80/me`.
 */
const FORM = /^(?:\/|[a-z][-+.\da-z]*:\/\/|\*?$)/i;
/** Rounds of decoding: a proxy, a router and a handler may each decode once. */
const ROUNDS_MAX = 4;
/** Longest path of which readings are made, in characters: each reading costs time linear in its length. */
const LENGTH_MAX = 2048;
/** Readings beyond which no further ones are made: ordinary targets have one or two, others at most eight. */
const READINGS_MAX = 16;

/** The readings of one target while they are made. */
interface Found {
  readonly paths: Set<string>;
  /** Paths before and between the rounds of decoding. */
  readonly texts: Set<string>;
  isMalformed: boolean;
  isUnread: boolean;
}

/** Returns the readings of a URL, or of the target of a request. @internal */
export function pathReadingsOf(url: string): PathReadings {
  const plain = PLAIN.exec(url)?.[1];
  if (plain !== undefined)
    return { paths: [tidy(plain.toLowerCase())], isMalformed: false, isUnread: false };
  const { texts, isUrl } = textsOf(url);
  const found: Found = {
    paths: new Set(),
    texts: new Set(),
    isMalformed: !isUrl,
    isUnread: !FORM.test(url),
  };
  for (const text of texts)
    if (found.isUnread || text.length > LENGTH_MAX) found.isUnread = true;
    else addDecoded(text, found);
  return { ...found, paths: [...found.paths] };
}

/** True if every router reads `path` in a URL. @internal */
export function isReadAs(url: string, path: string): boolean {
  const { paths, isMalformed, isUnread } = pathReadingsOf(url);
  if (isMalformed || isUnread) return false;
  const own = pathReadingsOf(path).paths;
  return paths.every((reading) => own.includes(reading));
}

/** Returns the paths of a URL before anything is decoded. */
function textsOf(url: string): { readonly texts: ReadonlySet<string>; readonly isUrl: boolean } {
  const target = targetOf(url);
  const texts = new Set([upTo(target, /[?#]/), upTo(target, /\?/)]);
  // Behind a host, `*` is the host's last letter.
  if (url === '*') texts.add('/');
  const scheme = url.indexOf('://');
  // Some routers take the first slash behind the scheme for the path, whatever ends the host.
  const slash = scheme === -1 || url.startsWith('/') ? -1 : url.indexOf('/', scheme + 3);
  if (slash !== -1) texts.add(upTo(url.slice(slash), /[?#]/));
  let isUrl = false;
  // The scheme of the base decides how `http:a` is read.
  for (const base of url.startsWith('/') ? ['http://h'] : ['http://h', 'https://h'])
    if (canParseUrl(url, base)) {
      texts.add(new URL(url, base).pathname);
      isUrl = true;
    }
  return { texts, isUrl };
}

function upTo(text: string, end: RegExp): string {
  const at = text.search(end);
  return at === -1 ? text : text.slice(0, at);
}

/** Adds the readings of a path: as it is, decoded once, twice and so on. */
function addDecoded(path: string, found: Found): void {
  let text = path;
  for (let round = 0; !found.texts.has(text); round++) {
    found.texts.add(text);
    addForms(text.toLowerCase(), found.paths);
    if (!text.includes('%')) return;
    const decoded = decodedOf(text);
    if (!decoded.isWhole) found.isMalformed = true;
    if (decoded.text === text) return;
    if (round === ROUNDS_MAX || found.paths.size > READINGS_MAX) {
      found.isUnread = true;
      return;
    }
    ({ text } = decoded);
  }
}

/** Decodes a path; of one with malformed escapes the others, as some routers do. */
function decodedOf(path: string): { readonly text: string; readonly isWhole: boolean } {
  try {
    return { text: decodeURIComponent(path), isWhole: true };
  } catch {
    return { text: path.replaceAll(/(?:%[\da-f]{2})+/gi, decodedRun), isWhole: false };
  }
}

// A buffer replaces malformed bytes. `decodeURIComponent` throws for each run of them, which costs milliseconds in all.
function decodedRun(escapes: string): string {
  return Buffer.from(escapes.replaceAll('%', ''), 'hex').toString();
}

/** Adds the forms of a decoded path: with and without its dots, parameters and host. */
function addForms(text: string, found: Set<string>): void {
  const path = text.replaceAll('\\', '/');
  addResolved(path, found);
  // A path that begins with two slashes names a host first (RFC 3986, section 4.2).
  if (path.startsWith('//')) addResolved(path.replace(/^\/+[^/]*/, ''), found);
}

function addResolved(path: string, found: Set<string>): void {
  found.add(tidy(path));
  // Parameters, such as `;jsessionid=1`, are no part of a path to some routers, or end it.
  const hasParameters = path.includes(';');
  if (hasParameters) found.add(tidy(upTo(path, /;/)));
  if (!hasParameters && !path.includes('/.')) return;
  const single = path.replaceAll(/\/{2,}/g, '/');
  const bare = single.replaceAll(/;[^/]*/g, '');
  // To URLs an empty segment is a segment that `..` takes away; most others have joined the slashes before.
  for (const form of new Set([path, single, bare, bare.replaceAll(/\/{2,}/g, '/')]))
    found.add(tidy(withoutDots(form)));
}

/** Resolves the segments `.` and `..`. */
function withoutDots(path: string): string {
  const kept: string[] = [];
  for (const segment of path.slice(path.startsWith('/') ? 1 : 0).split('/'))
    if (segment === '..') kept.pop();
    else if (segment !== '.') kept.push(segment);
  return `/${kept.join('/')}`;
}

/** Returns a path with one slash at its beginning, single ones within, and none at its end. */
function tidy(path: string): string {
  const single = path.includes('//') ? path.replaceAll(/\/{2,}/g, '/') : path;
  const whole = single.startsWith('/') ? single : `/${single}`;
  return whole.length > 1 && whole.endsWith('/') ? whole.slice(0, -1) : whole;
}
