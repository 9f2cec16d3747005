/**
 * Validation of headers: one pass for plain objects that are in order, `HeaderCollector` for the
 * rest.
 */
import { refused, type ValidationResult } from './failure.js';
import {
  type DroppedHeader,
  HeaderCollector,
  type HeaderReport,
  type HeaderValues,
} from './header-collector.js';
import {
  GRAMMARS,
  lowerCaseName,
  NO_FIELD_VALUE,
  SET_COOKIE,
  TRANSFER_ENCODING_NAME,
} from './header-grammar.js';
import {
  checkedHeaderLimits,
  DEFAULT_HEADER_RULES,
  type HeaderLimits,
  type HeaderRules,
} from './header-limits.js';

const TYPE = refused('ERR_HEADERS_TYPE', { field: 'headers' });
const NONE_DROPPED: readonly DroppedHeader[] = Object.freeze([]);

/** Checks headers of any shape. @internal */
export function checkHeaders(
  headers: unknown,
  limits?: HeaderLimits,
): ValidationResult<HeaderReport> {
  const rules = checkedHeaderLimits(limits);
  try {
    return collect(headers, rules);
  } catch {
    // A getter or a proxy threw. Its error may hold secrets and is not passed on.
    return TYPE;
  }
}

function collect(headers: unknown, rules: HeaderRules): ValidationResult<HeaderReport> {
  const isObject = typeof headers === 'object' && headers !== null;
  if (isObject && !(Symbol.iterator in headers)) {
    const kept = collectPlainObject(headers as Record<string, unknown>, rules);
    if (kept !== undefined)
      return { success: true, value: { headers: kept, dropped: NONE_DROPPED, droppedCount: 0 } };
  }
  const collector = new HeaderCollector(rules);
  if (isObject) collector.addAll(headers);
  else if (rules.strict) return TYPE;
  const report = collector.report();
  if (rules.strict && collector.firstFailure !== undefined)
    return { success: false, error: collector.firstFailure };
  return { success: true, value: report };
}

/**
 * Valid names in small letters, and the grammars of their values, by their place in the last
 * object: clients send the same names in the same order, and a comparison is cheaper than a check.
 */
const lastNames: string[] = [];
const lastGrammars: (RegExp | undefined)[] = [];
const LAST_NAMES_MAX = 100;

/**
 * Collects the common case, an object of names in small letters with values that fit; `undefined`
 * where anything is out of order. All values are matched at once, since a loop or a match for each
 * of them costs more than the rest.
 */
function collectPlainObject(
  headers: Record<string, unknown>,
  rules: HeaderRules,
): HeaderValues | undefined {
  const names = Object.keys(headers);
  if (names.length > rules.maxCount) return undefined;
  const kept = Object.create(null) as HeaderValues;
  let values = '';
  let totalBytes = 0;
  for (let at = 0; at < names.length; at++) {
    const name = names[at] ?? '';
    const value = headers[name];
    if (typeof value !== 'string' || name.length > rules.maxNameBytes) return undefined;
    let grammar = lastGrammars[at];
    if (name !== lastNames[at]) {
      if (lowerCaseName(name) !== name || name === '' || name === '__proto__') return undefined;
      if (name === SET_COOKIE || name === TRANSFER_ENCODING_NAME) return undefined;
      grammar = GRAMMARS.get(name);
      if (at < LAST_NAMES_MAX && name.length <= DEFAULT_HEADER_RULES.maxNameBytes) {
        lastNames[at] = name;
        lastGrammars[at] = grammar;
      }
    }
    if (value.length > rules.minCap && value.length > (rules.caps.get(name) ?? rules.maxValueBytes))
      return undefined;
    if (grammar !== undefined && !grammar.test(value)) return undefined;
    values += value;
    totalBytes += name.length + value.length;
    if (totalBytes > rules.maxTotalBytes) return undefined;
    kept[name] = value;
  }
  return NO_FIELD_VALUE.test(values) ? undefined : kept;
}
