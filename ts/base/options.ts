import { outOfRange, ArgumentTypeError, describe, wrongType } from './errors.js';

/** A whole number from `least` to `most`, or `fallback` when absent. @internal */
export function wholeNumber(
  field: string,
  value: unknown,
  least: number,
  most: number,
  fallback?: number,
): number {
  if (value === undefined && fallback !== undefined) return fallback;
  const allowed = `a whole number from ${least} to ${most}${fallback === Infinity ? ', or Infinity' : ''}`;
  if (typeof value !== 'number') throw wrongType(field, value, allowed);
  if (value === Infinity && fallback === Infinity) return value;
  if (!Number.isInteger(value) || value < least || value > most)
    throw outOfRange(field, value, allowed);
  return value;
}

/** Refuses names that are no options, naming the nearest that is. @internal */
export function knownOptions(what: string, given: object, known: readonly string[]): void {
  for (const name of Object.keys(given)) {
    if (known.includes(name)) continue;
    const hint = didYouMean(name, known);
    throw new ArgumentTypeError(
      'ERR_UNKNOWN_OPTION',
      `${what} has no option ${describe(name)}${hint}`,
      {
        field: name.slice(0, 40),
        allowed: known.join(', '),
      },
    );
  }
}

/** The nearest of `known`, as the end of a message, if it is near. @internal */
export function didYouMean(name: string, known: readonly string[]): string {
  const nearest = known.toSorted((a, b) => distance(name, a) - distance(name, b))[0];
  return nearest !== undefined && distance(name, nearest) <= Math.max(3, name.length / 2)
    ? `, did you mean ${nearest}?`
    : '';
}

/** Levenshtein's distance over the first 40 characters, letter case ignored. */
export function distance(left: string, right: string): number {
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

/** The longest time span in milliseconds that a limit takes. @internal */
export const TIME_MAX_MS = 2 ** 30;
