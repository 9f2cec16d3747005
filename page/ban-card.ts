/** The card of bans: the addresses that are refused at the moment. */
import { Card, none, notInUse, table } from './card.js';
import { number, time } from './format.js';
import type { PageSnapshot } from '../ts/page/snapshot.js';

type Bans = NonNullable<PageSnapshot['bans']>;

function aside(bans: Bans | null): string {
  if (bans === null) return '';
  const { active, banned, failures } = bans;
  return `${number(active)} now · ${number(banned)} so far, of ${number(failures)} failures`;
}

function bansTable({ latest, active }: Bans): HTMLElement {
  if (latest === null) return none('Being listed.');
  if (active === 0) return none('Nobody is banned.');
  return table(
    'Bans, the latest first',
    ['address', 'since', 'until', 'failures', 'bans'],
    latest.map(({ key, since, until, failures, bans }) => [
      [key, 'key'],
      time(since),
      time(until),
      number(failures),
      number(bans),
    ]),
  );
}

export class BanCard {
  readonly #card = new Card('bans', 'Bans', 'wide');

  show({ bans }: PageSnapshot): void {
    this.#card.show(bans, aside(bans), () =>
      bans === null ? notInUse('banAfter') : bansTable(bans),
    );
  }
}
