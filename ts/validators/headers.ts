/** Headers by the grammar of RFC 9110, with limits; what is dropped is reported. */
import { outOfRange, wrongType } from '../base/errors.js';
import { knownOptions, wholeNumber } from '../base/options.js';
import { failure, type ValidationResult, type ValidationFailure } from './failure.js';
import type { FailureCode } from './failures.js';

/** What headers may look like. A count equal to its limit passes. */
export interface HeaderLimits {
  /** Headers that are kept: 0 to 10,000. Default 100. */
  readonly maxCount?: number | undefined;
  /** Bytes of all names and values that are kept: 0 to 2^24. Default 16,384. */
  readonly maxTotalBytes?: number | undefined;
  /** Bytes of a name: 1 to 65,536. Default 100. */
  readonly maxNameBytes?: number | undefined;
  /** Bytes of a value whose name has no cap of its own: 0 to 2^24. Default 1000. */
  readonly maxValueBytes?: number | undefined;
  /** Caps of single names, in bytes: 0 to 2^24. They stand over the default. Default: `authorization` 8192, `cookie` 4096. */
  readonly valueCaps?: Readonly<Record<string, number>> | undefined;
  /**
   * A name that comes again, in any case of its letters: `join` with a comma (`cookie` with a
   * semicolon), keep the `first`, or `refuse` both. Whatever is chosen, names that may come only
   * once (`authorization`, `content-length`, `host`, …) are both dropped if they differ, and kept
   * once if they do not; and each `set-cookie` is kept apart. Default `join`.
   */
  readonly duplicates?: 'join' | 'first' | 'refuse' | undefined;
  /** Whether anything that would be dropped is a failure. Default `false`. */
  readonly strict?: boolean | undefined;
}

/** A header that was left out. */
export interface DroppedHeader {
  /** Its name, with `?` for what may not stand in a name, at most 100 characters. */
  readonly name: string;
  readonly code: FailureCode;
  /** What the code means. */
  readonly reason: string;
}

/** Small-letter names to values, without a prototype. A cookie that is set cannot be joined with another: they are a list, as `node:http` has them. */
export type HeaderValues = Record<string, string> & { 'set-cookie'?: string[] };

/** Headers, and what was left out of them. */
export interface HeaderReport {
  /** What is left of them. */
  readonly headers: HeaderValues;
  /** The first 100 that were left out. */
  readonly dropped: readonly DroppedHeader[];
  /** How many were left out. */
  readonly droppedCount: number;
}

const DROPPED_MAX = 100;
const OPTIONS = [
  'maxCount',
  'maxTotalBytes',
  'maxNameBytes',
  'maxValueBytes',
  'valueCaps',
  'duplicates',
  'strict',
] as const;
const BYTES_MAX = 2 ** 24;

interface Rules {
  readonly maxCount: number;
  readonly maxTotalBytes: number;
  readonly maxNameBytes: number;
  readonly maxValueBytes: number;
  readonly caps: ReadonlyMap<string, number>;
  /** The least of all caps: a shorter value need not be looked up. */
  readonly leastCap: number;
  readonly duplicates: 'join' | 'first' | 'refuse';
  readonly strict: boolean;
}

const CAPS = new Map([
  ['authorization', 8192],
  ['cookie', 4096],
]);

const DEFAULTS: Rules = {
  maxCount: 100,
  maxTotalBytes: 16_384,
  maxNameBytes: 100,
  maxValueBytes: 1000,
  caps: CAPS,
  leastCap: 1000,
  duplicates: 'join',
  strict: false,
};

function checkedRules(limits: HeaderLimits | undefined): Rules {
  if (limits === undefined) return DEFAULTS;
  if (typeof limits !== 'object' || limits === null) throw wrongType('limits', limits, 'an object');
  knownOptions('HeaderLimits', limits, OPTIONS);
  const { valueCaps = {}, duplicates = 'join', strict = false } = limits;
  if (typeof valueCaps !== 'object' || valueCaps === null)
    throw wrongType('valueCaps', valueCaps, 'an object of names and bytes');
  if (duplicates !== 'join' && duplicates !== 'first' && duplicates !== 'refuse')
    throw outOfRange('duplicates', duplicates, "'join', 'first' or 'refuse'");
  if (typeof strict !== 'boolean') throw wrongType('strict', strict, 'true or false');
  const caps = new Map(CAPS);
  for (const [name, cap] of Object.entries(valueCaps)) {
    if (nameOf(name) === '') throw outOfRange('valueCaps', name, 'names of headers');
    caps.set(nameOf(name), wholeNumber(`valueCaps.${name}`, cap, 0, BYTES_MAX));
  }
  const maxValueBytes = wholeNumber(
    'maxValueBytes',
    limits.maxValueBytes,
    0,
    BYTES_MAX,
    DEFAULTS.maxValueBytes,
  );
  return {
    maxCount: wholeNumber('maxCount', limits.maxCount, 0, 10_000, DEFAULTS.maxCount),
    maxTotalBytes: wholeNumber(
      'maxTotalBytes',
      limits.maxTotalBytes,
      0,
      BYTES_MAX,
      DEFAULTS.maxTotalBytes,
    ),
    maxNameBytes: wholeNumber(
      'maxNameBytes',
      limits.maxNameBytes,
      1,
      65_536,
      DEFAULTS.maxNameBytes,
    ),
    maxValueBytes,
    caps,
    leastCap: Math.min(maxValueBytes, ...caps.values()),
    duplicates,
    strict,
  };
}

const SET_COOKIE = 'set-cookie';

/** Of every code unit below 128 that may stand in a name: its small letter; otherwise 0. */
const TOKEN = Uint8Array.from({ length: 128 }, (_, code) =>
  /[!#$%&'*+.^_`|~\w-]/.test(String.fromCharCode(code))
    ? String.fromCharCode(code).toLowerCase().charCodeAt(0)
    : 0,
);

/** Names that may come once only. */
const SINGLE = new Set(
  (
    'authorization content-length content-type content-encoding content-location content-range date etag expires from host if-modified-since if-range ' +
    'if-unmodified-since last-modified location max-forwards origin proxy-authorization referer retry-after sec-websocket-accept sec-websocket-key ' +
    'sec-websocket-version server transfer-encoding user-agent'
  ).split(' '),
);

/** Names in the spelling of most clients, so that they need not be judged letter by letter. */
const COMMON = new Map<string, string>();
for (const name of [
  ...SINGLE,
  ...(
    'accept accept-charset accept-encoding accept-language access-control-request-headers access-control-request-method cache-control cdn-loop connection ' +
    'content-disposition content-language cookie dnt expect forwarded if-match if-none-match keep-alive link pragma priority range sec-ch-ua sec-ch-ua-mobile ' +
    'sec-ch-ua-platform sec-fetch-dest sec-fetch-mode sec-fetch-site sec-fetch-user sec-gpc sec-websocket-extensions sec-websocket-protocol set-cookie te ' +
    'traceparent tracestate trailer upgrade upgrade-insecure-requests vary via x-api-key x-correlation-id x-csrf-token x-forwarded-for x-forwarded-host ' +
    'x-forwarded-port x-forwarded-proto x-real-ip x-request-id x-requested-with'
  ).split(' '),
]) {
  COMMON.set(name, name);
  COMMON.set(
    name.replace(/(^|-)[a-z]/g, (letter) => letter.toUpperCase()),
    name,
  );
}

/** The name in small letters, or '' if it is none. Grammar comes first: other alphabets have letters that become ASCII. */
function nameOf(name: string): string {
  const common = COMMON.get(name);
  if (common !== undefined) return common;
  let isSmall = true;
  for (let at = 0; at < name.length; at++) {
    const code = name.charCodeAt(at);
    const small = TOKEN[code];
    if (small === undefined || small === 0) return '';
    if (small !== code) isSmall = false;
  }
  return isSmall ? name : name.toLowerCase();
}

/** Whether a value holds nothing but HTAB, visible ASCII, space and obs-text. */
function isValue(value: string): boolean {
  for (let at = 0; at < value.length; at++) {
    const code = value.charCodeAt(at);
    if ((code < 0x20 && code !== 0x09) || code === 0x7f || code > 0xff) return false;
  }
  return true;
}

/** Whether a host has joined several values: `Headers` does so with every name, and these two have no comma of their own. */
function isJoined(name: string, value: string): boolean {
  return (name === 'host' || name === 'content-length') && value.includes(',');
}

/** A name that is fit to be shown. */
function shownName(name: string): string {
  let shown = '';
  for (const character of name.slice(0, 100))
    shown += character.length === 1 && TOKEN[character.charCodeAt(0)] ? character : '?';
  return shown;
}

class Collector {
  readonly rules: Rules;
  readonly kept = Object.create(null) as HeaderValues;
  count = 0;
  total = 0;
  /** Single names that came with different values. */
  torn: Set<string> | undefined;
  readonly dropped: DroppedHeader[] = [];
  droppedCount = 0;
  first: ValidationFailure | undefined;

  constructor(rules: Rules) {
    this.rules = rules;
  }

  drop(name: string, code: FailureCode, limit?: number, actual?: number): void {
    this.droppedCount++;
    if (this.first !== undefined && this.dropped.length >= DROPPED_MAX) return;
    const shown = shownName(name);
    const why = failure(code, { field: shown, limit, actual });
    this.first ??= why;
    this.dropped.push({ name: shown, code, reason: why.reason });
  }

  add(name: string, value: unknown): void {
    const { rules } = this;
    if (typeof value !== 'string') return this.#addOthers(name, value);
    const length = value.length;
    const small =
      (name.length <= rules.maxNameBytes ? COMMON.get(name) : undefined) ?? this.#judgedName(name);
    if (small === '') return;
    if (length > rules.leastCap) {
      const cap = this.#capOf(small);
      if (length > cap) return this.drop(name, 'ERR_HEADER_VALUE_TOO_LONG', cap, length);
    }
    if (!isValue(value)) return this.drop(name, 'ERR_HEADER_VALUE');
    if (small === SET_COOKIE) return this.#addCookie(value);
    const known = this.kept[small];
    if (isJoined(small, value)) return this.#tear(small, known);
    if (known !== undefined || this.torn?.has(small)) return this.#addAgain(small, known, value);
    if (this.#takes(small, value)) this.kept[small] = value;
  }

  /** Whether there is room for one header more, which is counted then. */
  #takes(name: string, value: string): boolean {
    const { maxCount, maxTotalBytes } = this.rules;
    const bytes = name.length + value.length;
    if (this.count >= maxCount) this.drop(name, 'ERR_HEADERS_COUNT', maxCount);
    else if (this.total + bytes > maxTotalBytes)
      this.drop(name, 'ERR_HEADERS_TOO_LARGE', maxTotalBytes);
    else {
      this.count++;
      this.total += bytes;
      return true;
    }
    return false;
  }

  /** Each is a header of its own, however often the name comes. */
  #addCookie(value: string): void {
    if (this.#takes(SET_COOKIE, value)) (this.kept[SET_COOKIE] ??= []).push(value);
  }

  #capOf(name: string): number {
    return this.rules.caps.get(name) ?? this.rules.maxValueBytes;
  }

  /** The name in small letters; '' if it was dropped. */
  #judgedName(name: string): string {
    const { maxNameBytes } = this.rules;
    if (name.length > maxNameBytes) {
      this.drop(name, 'ERR_HEADER_NAME_TOO_LONG', maxNameBytes, name.length);
      return '';
    }
    const small = nameOf(name);
    if (small !== '' && small !== '__proto__') return small;
    this.drop(name, small === '' ? 'ERR_HEADER_NAME' : 'ERR_HEADER_FORBIDDEN');
    return '';
  }

  /** A list of values, or something that is no value. */
  #addOthers(name: string, value: unknown): void {
    if (value === undefined) return;
    if (!Array.isArray(value)) return this.drop(name, 'ERR_HEADER_VALUE_TYPE');
    const list = value as unknown[];
    const count = Math.min(list.length, this.rules.maxCount + 1);
    for (let at = 0; at < count; at++) this.add(name, Array.isArray(list[at]) ? null : list[at]);
    if (count < list.length) this.drop(name, 'ERR_HEADERS_COUNT', this.rules.maxCount, list.length);
  }

  #addAgain(name: string, known: string | undefined, value: string): void {
    const isSingle = SINGLE.has(name);
    if (isSingle && known === value) return;
    if (known === undefined || isSingle || this.rules.duplicates === 'refuse')
      return this.#tear(name, known);
    if (this.rules.duplicates === 'first') return this.drop(name, 'ERR_HEADER_DUPLICATE');
    const separator = name === 'cookie' ? '; ' : ', ';
    const more = separator.length + value.length;
    const cap = this.#capOf(name);
    if (known.length + more > cap)
      return this.drop(name, 'ERR_HEADER_VALUE_TOO_LONG', cap, known.length + more);
    if (this.total + more > this.rules.maxTotalBytes)
      return this.drop(name, 'ERR_HEADERS_TOO_LARGE', this.rules.maxTotalBytes);
    this.total += more;
    this.kept[name] = known + separator + value;
  }

  /** Drops what came before, if anything, and what comes now: who wins differs between readers. */
  #tear(name: string, known: string | undefined): void {
    if (known !== undefined) {
      this.count--;
      this.total -= name.length + known.length;
      delete this.kept[name];
      this.drop(name, 'ERR_HEADER_DUPLICATE');
    }
    (this.torn ??= new Set()).add(name);
    this.drop(name, 'ERR_HEADER_DUPLICATE');
  }

  report(): HeaderReport {
    return { headers: this.kept, dropped: this.dropped, droppedCount: this.droppedCount };
  }
}

/** Headers in any of the shapes that hosts use: as many as the limits let through need be read. */
function collect(headers: object, into: Collector): void {
  if (Array.isArray(headers)) {
    const list = headers as unknown[];
    if (Array.isArray(list[0])) {
      for (const pair of list) {
        if (Array.isArray(pair) && pair.length === 2 && typeof pair[0] === 'string')
          into.add(pair[0], pair[1]);
        else into.drop('', 'ERR_HEADER_NAME');
      }
      return;
    }
    // Node's `rawHeaders`: names and values in turn.
    for (let at = 0; at < list.length; at += 2) {
      const name = list[at];
      if (typeof name !== 'string') into.drop('', 'ERR_HEADER_NAME');
      else if (at + 1 < list.length) into.add(name, list[at + 1]);
      else into.drop(name, 'ERR_HEADER_VALUE_TYPE');
    }
    return;
  }
  if (headers instanceof Headers || headers instanceof Map) {
    headers.forEach((value: unknown, name: unknown) => {
      if (typeof name === 'string') into.add(name, value);
      else into.drop('', 'ERR_HEADER_NAME');
    });
    return;
  }
  for (const name of Object.keys(headers))
    into.add(name, (headers as Record<string, unknown>)[name]);
}

/** Names by their place in the object judged last: clients send the same ones in the same order. Small letters and valid. */
const lastNames: string[] = [];
const REMEMBERED_MAX = 100;
const NO_VALUE = /[^\t\x20-\x7e\x80-\xff]/;

/**
 * The common case: an object of small names and fitting values. All values are judged at once,
 * since a loop or an expression for each costs more than the rest; `undefined` where anything is
 * out of order.
 */
function collectPlain(headers: Record<string, unknown>, rules: Rules): HeaderValues | undefined {
  const names = Object.keys(headers);
  if (names.length > rules.maxCount) return undefined;
  const kept = Object.create(null) as HeaderValues;
  let values = '';
  let total = 0;
  for (let at = 0; at < names.length; at++) {
    const name = names[at] ?? '';
    const value = headers[name];
    if (typeof value !== 'string' || name.length > rules.maxNameBytes) return undefined;
    if (name !== lastNames[at]) {
      if (nameOf(name) !== name || name === '' || name === '__proto__' || name === SET_COOKIE)
        return undefined;
      if (at < REMEMBERED_MAX && name.length <= DEFAULTS.maxNameBytes) lastNames[at] = name;
    }
    if (
      value.length > rules.leastCap &&
      value.length > (rules.caps.get(name) ?? rules.maxValueBytes)
    )
      return undefined;
    if (isJoined(name, value)) return undefined;
    values += value;
    total += name.length + value.length;
    if (total > rules.maxTotalBytes) return undefined;
    kept[name] = value;
  }
  return NO_VALUE.test(values) ? undefined : kept;
}

const NOTHING: readonly DroppedHeader[] = Object.freeze([]);

/** @internal */
export function judgeHeaders(
  headers: unknown,
  limits?: HeaderLimits,
): ValidationResult<HeaderReport> {
  const rules = checkedRules(limits);
  try {
    return judge(headers, rules);
  } catch {
    // What a getter or a proxy threw is no text for a log.
    return { success: false, error: failure('ERR_HEADERS_TYPE', { field: 'headers' }) };
  }
}

function judge(headers: unknown, rules: Rules): ValidationResult<HeaderReport> {
  if (typeof headers === 'object' && headers !== null && !(Symbol.iterator in headers)) {
    const kept = collectPlain(headers as Record<string, unknown>, rules);
    if (kept !== undefined)
      return { success: true, value: { headers: kept, dropped: NOTHING, droppedCount: 0 } };
  }
  const into = new Collector(rules);
  if (typeof headers === 'object' && headers !== null) collect(headers, into);
  else if (rules.strict)
    return { success: false, error: failure('ERR_HEADERS_TYPE', { field: 'headers' }) };
  if (rules.strict && into.first !== undefined) return { success: false, error: into.first };
  return { success: true, value: into.report() };
}
