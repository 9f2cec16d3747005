/** The section of rate limiters. */
import type { RateLimiter } from '../limiter/limiter.js';
import type { ClientNames } from './mask.js';
import type { PageSnapshot } from './snapshot.js';

const LIMITERS_SHOWN = 32;
const KEYS_SHOWN = 20;
const SECOND_MS = 1000;

/** A rate limiter with its name on the page. */
export interface PageLimiter {
  /** Limiter to show. */
  readonly limiter: RateLimiter;
  /** Its name. */
  readonly label: string;
}

type Section = NonNullable<PageSnapshot['limiters']>;

/**
 * Returns the section of rate limiters; `null` without one.
 * @param isSeen false without viewers: limiters and keys are not listed
 * @param at wall-clock milliseconds
 * @internal
 */
export function limitersOf(
  given: Iterable<PageLimiter>,
  isSeen: boolean,
  at: number,
  names: ClientNames,
): PageSnapshot['limiters'] {
  // A limiter of a guard is known to its metrics, too.
  const labels = new Map(Array.from(given, ({ limiter, label }) => [limiter, label]));
  if (labels.size === 0) return null;
  const all = Array.from(labels, ([limiter, label]) => ({
    name: label,
    limit: limiter.limit,
    windowMs: limiter.windowMs,
    counts: limiter.counts(),
  }));
  all.sort((a, b) => b.counts.refused - a.counts.refused);
  return {
    admitted: all.reduce((sum, { counts }) => sum + counts.admitted, 0),
    refused: all.reduce((sum, { counts }) => sum + counts.refused, 0),
    list: isSeen
      ? all.slice(0, LIMITERS_SHOWN).map(({ name, limit, windowMs, counts }) => {
          const { keys, admitted, refused, evicted } = counts;
          return { name, limit, windowMs, keys, admitted, refused, evicted };
        })
      : null,
    refusedKeys: isSeen ? keysOf(labels, at, names) : null,
  };
}

/** Returns the keys that were refused most often, of all limiters. */
function keysOf(
  labels: ReadonlyMap<RateLimiter, string>,
  at: number,
  names: ClientNames,
): NonNullable<Section['refusedKeys']> {
  return Array.from(labels)
    .flatMap(([limiter, label]) =>
      limiter.snapshot().refusedKeys.map(({ key, refused, error, ageMs }) => ({
        // The limiter has masked its keys itself, unless it was asked not to.
        key: limiter.showsKeys ? names.key(key) : key,
        limiter: label,
        refused,
        error,
        // Whole seconds: the list would change at every look.
        latest: Math.floor((at - ageMs) / SECOND_MS) * SECOND_MS,
      })),
    )
    .sort((a, b) => b.refused - a.refused)
    .slice(0, KEYS_SHOWN);
}
