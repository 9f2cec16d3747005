/** Checks that options of all classes share. */
import {
  ArgumentTypeError,
  describe,
  describeSecret,
  outOfRange,
  typeError,
  wrongType,
} from './errors.js';

/** Some properties of `T`, as input: `undefined` is the same as absent. */
export type Given<T> = { readonly [K in keyof T]?: T[K] | undefined };

/** The longest time of a limit or option, ms. @internal */
export const TIME_MAX_MS = 2 ** 30;

/**
 * Returns a whole number from `min` to `max`, or `fallback` if there is none. A `fallback` of
 * `Infinity` makes `Infinity` a valid value.
 *
 * @throws ERR_INVALID_ARG_TYPE, ERR_OUT_OF_RANGE
 * @internal
 */
export function wholeNumber(
  field: string,
  value: unknown,
  min: number,
  max: number,
  fallback?: number,
): number {
  if (value === undefined && fallback !== undefined) return fallback;
  const allowed = `a whole number from ${min} to ${max}${fallback === Infinity ? ', or Infinity' : ''}`;
  if (typeof value !== 'number') throw wrongType(field, value, allowed);
  if (value === Infinity && fallback === Infinity) return value;
  if (!Number.isInteger(value) || value < min || value > max)
    throw outOfRange(field, value, allowed);
  return value;
}

/** Named functions of one option, at most, so that an answer with their names stays small. */
const NAMED_MAX = 32;
const NAME = /^[\w.-]{1,64}$/;

/**
 * Returns the functions of an option that has them by name, such as `checks`.
 *
 * @throws ERR_INVALID_ARG_TYPE, ERR_OUT_OF_RANGE
 * @internal
 */
export function namedFunctions(
  field: string,
  given: unknown,
): readonly (readonly [name: string, run: (...args: never[]) => unknown])[] {
  if (given === undefined) return [];
  optionsObject(field, given, 'an object of functions');
  const entries = Object.entries(given as Record<string, unknown>);
  if (entries.length > NAMED_MAX)
    throw outOfRange(field, entries.length, `at most ${NAMED_MAX} checks`);
  return entries.map(([name, run]) => {
    if (!NAME.test(name))
      throw outOfRange(field, name, 'names of 1 to 64 letters, digits, ".", "_" and "-"');
    if (typeof run !== 'function') throw wrongType(`${field}.${name}`, run, 'a function');
    return [name, run as (...args: never[]) => unknown];
  });
}

/**
 * True for an object that can hold options by name: of any class, without a prototype, or frozen. Arrays, other
 * iterables and promises have no such options, and would silently count as none.
 * @internal
 */
export function isOptions(value: unknown): value is object {
  return (
    typeof value === 'object' &&
    value !== null &&
    !(Symbol.iterator in value) &&
    typeof (value as { readonly then?: unknown }).then !== 'function'
  );
}

/**
 * Refuses anything that is no object of options.
 * @throws ERR_INVALID_ARG_TYPE
 * @internal
 */
export function optionsObject(
  field: string,
  value: unknown,
  allowed = 'an object',
): asserts value is object {
  if (!isOptions(value)) throw typeError(field, describeNoOptions(value), allowed);
}

/**
 * Returns a copy of some options without those that are `undefined`, which is the same as absent: spread over
 * others, they would take those back.
 * @internal
 */
export function givenOptions<T extends object>(
  given: T,
): { [K in keyof T]?: Exclude<T[K], undefined> } {
  return Object.fromEntries(
    Object.entries(given).filter(([, value]) => value !== undefined),
  ) as Partial<T> as { [K in keyof T]?: Exclude<T[K], undefined> };
}

/** Returns a short text of a value that cannot hold options. A text in their place may be a key, a token or a password. */
function describeNoOptions(value: unknown): string {
  const kind = typeof value === 'string' ? describeSecret(value) : describe(value);
  if (kind !== 'an object') return kind;
  return Symbol.iterator in (value as object) ? 'an iterable' : 'a promise';
}

/**
 * Refuses an object with an unknown option. The message suggests the most similar known one.
 *
 * @param owner the class or the field that has the options
 * @param path goes before the option's name in the error's field, such as `jwks.`; `''` for
 *   options that other errors name without a path
 * @throws ERR_UNKNOWN_OPTION
 * @internal
 */
export function knownOptions(
  owner: string,
  options: object,
  known: readonly string[],
  path = '',
): void {
  for (const name of Object.keys(options)) {
    if (known.includes(name)) continue;
    const hint = didYouMean(name, known);
    throw new ArgumentTypeError(
      'ERR_UNKNOWN_OPTION',
      `${owner} has no option ${describe(name)}${hint}`,
      {
        field: path + name.slice(0, 40),
        // The value of a misspelled name may be a secret. A getter is not called.
        value: describeSecret(Object.getOwnPropertyDescriptor(options, name)?.value),
        allowed: known.join(', '),
      },
    );
  }
}

/**
 * Returns a plain copy of the given options. Each is read once, so that the checked value is the used one even if a getter
 * or a Proxy returns another one later; and by name, since the getters of a class are no properties of its objects.
 * `undefined` is the same as absent.
 *
 * @param given an object of any class
 * @throws ERR_UNKNOWN_OPTION as `knownOptions`
 * @internal
 */
export function readOptions<T extends object>(
  owner: string,
  given: T,
  known: readonly string[],
  path = '',
): T {
  knownOptions(owner, given, known, path);
  const options: Record<string, unknown> = {};
  for (const name of known) {
    const value = (given as Readonly<Record<string, unknown>>)[name];
    if (value !== undefined) options[name] = value;
  }
  return options as T;
}

/**
 * Returns the end of a message that suggests the most similar of `known`, or '' if none is similar.
 * @internal
 */
export function didYouMean(name: string, known: readonly string[]): string {
  const nearest = known.toSorted((a, b) => distance(name, a) - distance(name, b))[0];
  return nearest !== undefined && distance(name, nearest) <= Math.max(3, name.length / 2)
    ? `, did you mean ${nearest}?`
    : '';
}

/**
 * Returns the Levenshtein distance of two names, letter case ignored; of `left` the first 40
 * characters count.
 */
function distance(left: string, right: string): number {
  const a = left.slice(0, 40).toLowerCase();
  const b = right.toLowerCase();
  let row = Array.from({ length: b.length + 1 }, (_, index) => index);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      next[j] = Math.min(
        (row[j] ?? 0) + 1,
        (next[j - 1] ?? 0) + 1,
        (row[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1),
      );
    }
    row = next;
  }
  return row[b.length] ?? 0;
}

/**
 * True for a path with a segment `.` or `..`, also an encoded one. Clients resolve such segments before they send a
 * request, so that hardly any request has such a path.
 * @internal
 */
export const hasDotSegment = (path: string): boolean => /\/(?:\.|%2e){1,2}(?:\/|$)/i.test(path);
