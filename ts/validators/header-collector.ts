/** Collects headers of any shape one by one, within limits, and reports dropped headers. */
import { failure, type ValidationFailure } from './failure.js';
import type { FailureCode } from './failure-codes.js';
import {
  COMMON_NAMES,
  CONTENT_LENGTH_NAME,
  GRAMMARS,
  isFieldValue,
  isJoinedValue,
  lowerCaseName,
  printableName,
  SET_COOKIE,
  SINGLE_NAMES,
  TRANSFER_ENCODING_NAME,
} from './header-grammar.js';
import type { HeaderRules } from './header-limits.js';

/** A header that was dropped. */
export interface DroppedHeader {
  /** Its name: at most 100 characters, with `?` for characters that no name may hold. */
  readonly name: string;
  /** The stable code of the reason. */
  readonly code: FailureCode;
  /** The meaning of the code. */
  readonly reason: string;
}

/**
 * Headers by name in small letters, without a prototype. `set-cookie` is a list, as in `node:http`:
 * such values cannot be joined.
 */
export type HeaderValues = Record<string, string> & { 'set-cookie'?: string[] };

/** The kept headers, and a list of the dropped ones. */
export interface HeaderReport {
  /** The kept headers. */
  readonly headers: HeaderValues;
  /** The first 100 dropped headers. */
  readonly dropped: readonly DroppedHeader[];
  /** The number of all dropped headers. */
  readonly droppedCount: number;
}

const DROPPED_MAX = 100;

/** One run over the headers of a request. @internal */
export class HeaderCollector {
  /** The failure of the first dropped header. */
  firstFailure: ValidationFailure | undefined;
  readonly #rules: HeaderRules;
  readonly #kept = Object.create(null) as HeaderValues;
  #count = 0;
  #totalBytes = 0;
  /** Names of which every field is dropped, since their values differ. */
  #conflicting: Set<string> | undefined;
  readonly #dropped: DroppedHeader[] = [];
  #droppedCount = 0;
  /** Whether a `transfer-encoding` came, be it dropped. */
  #isTransferEncoded = false;

  constructor(rules: HeaderRules) {
    this.#rules = rules;
  }

  /** Returns the result, once all headers were added. */
  report(): HeaderReport {
    this.#dropLengthOfEncoded();
    return { headers: this.#kept, dropped: this.#dropped, droppedCount: this.#droppedCount };
  }

  /** Adds the headers of any shape that hosts use. */
  addAll(headers: object): void {
    if (Array.isArray(headers)) {
      if (Array.isArray(headers[0])) this.#addPairs(headers);
      else this.#addRawHeaders(headers);
    } else if (headers instanceof Headers || headers instanceof Map) {
      headers.forEach((value: unknown, name: unknown) => {
        if (typeof name === 'string') this.#add(name, value);
        else this.#drop('', 'ERR_HEADER_NAME');
      });
    } else {
      for (const name of Object.keys(headers))
        this.#add(name, (headers as Record<string, unknown>)[name]);
    }
  }

  #addPairs(pairs: readonly unknown[]): void {
    for (const pair of pairs) {
      if (Array.isArray(pair) && pair.length === 2 && typeof pair[0] === 'string')
        this.#add(pair[0], pair[1]);
      else this.#drop('', 'ERR_HEADER_NAME');
    }
  }

  /** Adds Node's `rawHeaders`: names and values in turn. */
  #addRawHeaders(list: readonly unknown[]): void {
    for (let at = 0; at < list.length; at += 2) {
      const name = list[at];
      if (typeof name !== 'string') this.#drop('', 'ERR_HEADER_NAME');
      else if (at + 1 < list.length) this.#add(name, list[at + 1]);
      else this.#drop(name, 'ERR_HEADER_VALUE_TYPE');
    }
  }

  #add(name: string, value: unknown): void {
    if (typeof value !== 'string') return this.#addOtherType(name, value);
    const rules = this.#rules;
    const length = value.length;
    const small =
      (name.length <= rules.maxNameBytes ? COMMON_NAMES.get(name) : undefined) ??
      this.#checkedName(name);
    if (small === '') return;
    if (length > rules.minCap) {
      const cap = this.#capOf(small);
      if (length > cap) return this.#drop(name, 'ERR_HEADER_VALUE_TOO_LONG', cap, length);
    }
    if (!isFieldValue(value)) return this.#drop(name, 'ERR_HEADER_VALUE');
    if (small === SET_COOKIE) return this.#addCookie(value);
    const known = this.#kept[small];
    if (small === TRANSFER_ENCODING_NAME) this.#isTransferEncoded = true;
    if (GRAMMARS.get(small)?.test(value) === false)
      return this.#dropAll(
        small,
        known,
        isJoinedValue(small, value) ? 'ERR_HEADER_DUPLICATE' : 'ERR_HEADER_SYNTAX',
      );
    if (known !== undefined || this.#conflicting?.has(small))
      return this.#addRepeated(small, known, value);
    if (this.#hasRoom(small, value)) this.#kept[small] = value;
  }

  /** Adds each value of a list; drops a value that is neither text nor a list. */
  #addOtherType(name: string, value: unknown): void {
    if (value === undefined) return;
    if (!Array.isArray(value)) return this.#drop(name, 'ERR_HEADER_VALUE_TYPE');
    const { maxCount } = this.#rules;
    const list = value as unknown[];
    const count = Math.min(list.length, maxCount + 1);
    for (let at = 0; at < count; at++) this.#add(name, Array.isArray(list[at]) ? null : list[at]);
    if (count < list.length) this.#drop(name, 'ERR_HEADERS_COUNT', maxCount, list.length);
  }

  /** Returns the name in small letters, or '' after dropping the header. */
  #checkedName(name: string): string {
    const { maxNameBytes } = this.#rules;
    if (name.length > maxNameBytes) {
      this.#drop(name, 'ERR_HEADER_NAME_TOO_LONG', maxNameBytes, name.length);
      return '';
    }
    const small = lowerCaseName(name);
    if (small !== '' && small !== '__proto__') return small;
    this.#drop(name, small === '' ? 'ERR_HEADER_NAME' : 'ERR_HEADER_FORBIDDEN');
    return '';
  }

  #capOf(name: string): number {
    return this.#rules.caps.get(name) ?? this.#rules.maxValueBytes;
  }

  /** Counts one more header, or drops it where a limit is reached. */
  #hasRoom(name: string, value: string): boolean {
    const { maxCount, maxTotalBytes } = this.#rules;
    const bytes = name.length + value.length;
    if (this.#count >= maxCount) this.#drop(name, 'ERR_HEADERS_COUNT', maxCount);
    else if (this.#totalBytes + bytes > maxTotalBytes)
      this.#drop(name, 'ERR_HEADERS_TOO_LARGE', maxTotalBytes);
    else {
      this.#count++;
      this.#totalBytes += bytes;
      return true;
    }
    return false;
  }

  /** Adds a cookie, which counts as a header of its own. */
  #addCookie(value: string): void {
    if (this.#hasRoom(SET_COOKIE, value)) (this.#kept[SET_COOKIE] ??= []).push(value);
  }

  /** Treats a name that came before; `known` is its value unless all its fields were dropped. */
  #addRepeated(name: string, known: string | undefined, value: string): void {
    const { duplicates, maxTotalBytes } = this.#rules;
    const isSingle = SINGLE_NAMES.has(name);
    // A message that is chunked twice has no end that readers agree about.
    if (isSingle && known === value && name !== TRANSFER_ENCODING_NAME) return;
    if (known === undefined || isSingle || duplicates === 'refuse')
      return this.#dropAll(name, known);
    if (duplicates === 'first') return this.#drop(name, 'ERR_HEADER_DUPLICATE');
    const separator = name === 'cookie' ? '; ' : ', ';
    const more = separator.length + value.length;
    const cap = this.#capOf(name);
    if (known.length + more > cap)
      return this.#drop(name, 'ERR_HEADER_VALUE_TOO_LONG', cap, known.length + more);
    if (this.#totalBytes + more > maxTotalBytes)
      return this.#drop(name, 'ERR_HEADERS_TOO_LARGE', maxTotalBytes);
    this.#totalBytes += more;
    this.#kept[name] = known + separator + value;
  }

  /**
   * Drops all fields of a name, those to come included: readers disagree about which one counts.
   */
  #dropAll(
    name: string,
    known: string | undefined,
    code: FailureCode = 'ERR_HEADER_DUPLICATE',
  ): void {
    if (known !== undefined) {
      this.#forget(name, known);
      this.#drop(name, code);
    }
    (this.#conflicting ??= new Set()).add(name);
    this.#drop(name, code);
  }

  /**
   * Drops a length beside a transfer coding: of two readers of one message, one may obey the former
   * and one the latter (RFC 9112, section 6.3). A coding that was dropped itself counts, too.
   */
  #dropLengthOfEncoded(): void {
    const length = this.#kept[CONTENT_LENGTH_NAME];
    if (length === undefined || !this.#isTransferEncoded) return;
    this.#forget(CONTENT_LENGTH_NAME, length);
    this.#drop(CONTENT_LENGTH_NAME, 'ERR_HEADER_FRAMING');
  }

  /** Takes a header that was kept out again. */
  #forget(name: string, value: string): void {
    this.#count--;
    this.#totalBytes -= name.length + value.length;
    delete this.#kept[name];
  }

  #drop(name: string, code: FailureCode, limit?: number, actual?: number): void {
    this.#droppedCount++;
    if (this.firstFailure !== undefined && this.#dropped.length >= DROPPED_MAX) return;
    const printable = printableName(name);
    const why = failure(code, { field: printable, limit, actual });
    this.firstFailure ??= why;
    this.#dropped.push({ name: printable, code, reason: why.reason });
  }
}
