/** The cards of rate limiters: their counts, and the keys that they refused most often. */
import { Card, none, notInUse, table } from './card.js';
import { number, span, time } from './format.js';
import type { PageSnapshot } from '../ts/page/snapshot.js';

type Limiters = NonNullable<PageSnapshot['limiters']>;

const aside = (limiters: Limiters | null): string =>
  limiters === null
    ? ''
    : `${number(limiters.admitted)} admitted · ${number(limiters.refused)} refused`;

function limitersTable({ list }: Limiters): HTMLElement {
  if (list === null) return none('Being listed.');
  return table(
    'Rate limiters, the one that refused most first',
    ['limiter', 'limit', 'keys', 'admitted', 'refused', 'forgotten'],
    list.map(({ name, limit, windowMs, keys, admitted, refused, evicted }) => [
      name,
      `${number(limit)} in ${span(windowMs)}`,
      number(keys),
      number(admitted),
      number(refused),
      [number(evicted), evicted > 0 ? 'bad' : ''],
    ]),
  );
}

function keysTable({ refusedKeys }: Limiters): HTMLElement {
  if (refusedKeys === null) return none('Being listed.');
  if (refusedKeys.length === 0) return none('Nobody was refused.');
  return table(
    'Keys that were refused most often',
    ['key', 'limiter', 'refused', 'latest'],
    refusedKeys.map(({ key, limiter, refused, error, latest }) => [
      [key, 'key'],
      limiter,
      // A count that may be too high says by how much.
      error === 0 ? number(refused) : `${number(refused - error)} to ${number(refused)}`,
      time(latest),
    ]),
  );
}

export class RateCards {
  readonly #limiters = new Card('limiters', 'Rate limits', 'wide');
  readonly #keys = new Card('refused-keys', 'Refused keys', 'wide');

  show({ limiters }: PageSnapshot): void {
    const option = 'requests.rate';
    this.#limiters.show(limiters, aside(limiters), () =>
      limiters === null ? notInUse(option) : limitersTable(limiters),
    );
    this.#keys.show(limiters?.refusedKeys ?? limiters, '', () =>
      limiters === null ? notInUse(option) : keysTable(limiters),
    );
  }
}
