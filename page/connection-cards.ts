/** The cards of connections: by state, by address, by user; the refused ones. */
import { Card, none, ranking } from './card.js';
import { bar, make } from './dom.js';
import { number } from './format.js';
import type { PageSnapshot } from '../ts/page/snapshot.js';

type Connections = PageSnapshot['connections'];
type Shares = Connections['topAddresses'];

/** Shown while the server counts: with many connections, that takes some seconds. */
const COUNTING = 'Being counted.';

function marked(color: string, label: string, count: number): HTMLElement {
  const swatch = make('i');
  swatch.style.background = `var(${color})`;
  return make('span', '', swatch, label, make('b', '', number(count)));
}

function statesList(all: Connections): HTMLElement {
  const pairs = make('dl', 'pairs');
  const figures = [
    ['addresses', all.addresses],
    ['users', all.users],
    ['without user', all.anonymous],
    ['admitted', all.admitted],
    ['closed as idle', all.evicted],
    ['over message rate', all.messagesOverRate],
  ] as const;
  for (const [name, count] of figures)
    pairs.append(make('div', '', make('dt', '', name), make('dd', '', number(count))));
  if (all.states === null) return make('div', 'states', none(COUNTING), pairs);
  const { active, quiet, opening } = all.states;
  const sum = Math.max(1, active + quiet + opening);
  const legend = make(
    'p',
    'legend',
    marked('--a', 'active', active),
    marked('--neutral-fill', 'silent for 10 s', quiet),
    marked('--c', 'opening', opening),
  );
  return make(
    'div',
    'states',
    bar([active / sum, 'a'], [quiet / sum, 'neutral'], [opening / sum, 'c']),
    legend,
    pairs,
  );
}

/** Ranks addresses or users by their connections. */
function topList(what: string, shares: Shares, most: number | null, empty: string): HTMLElement {
  if (shares === null) return none(COUNTING);
  if (shares.length === 0) return none(empty);
  return ranking(
    `Connections by ${what}, the most first`,
    what,
    shares.map(({ key, count }) => ({ name: key === '' ? 'unknown' : key, count, most })),
  );
}

function limitText(topError: number, limit: number | null, what: string): string {
  if (topError !== 0) return `may be ${number(topError)} too low`;
  return limit === null ? 'no limit' : `limit ${number(limit)} per ${what}`;
}

export class ConnectionCards {
  readonly #states = new Card('connections', 'Connections by state');
  readonly #addresses = new Card('addresses', 'Top addresses');
  readonly #users = new Card('users', 'Top users');
  readonly #refusals = new Card('refusals', 'Refusals by reason');

  show(snapshot: PageSnapshot): void {
    this.#showRefusals(snapshot);
    const { connections: all } = snapshot;
    const { topAddresses, topUsers, topError, maxPerIp, maxPerUser } = all;
    const counts = [all.users, all.addresses, all.anonymous, all.admitted, all.evicted];
    this.#states.show(
      [all.states, all.total, ...counts, all.messagesOverRate],
      `${number(all.total)} in all`,
      () => statesList(all),
    );
    this.#addresses.show([topAddresses, maxPerIp], limitText(topError, maxPerIp, 'address'), () =>
      topList('address', topAddresses, maxPerIp, 'Nobody is connected.'),
    );
    this.#users.show([topUsers, maxPerUser], limitText(topError, maxPerUser, 'user'), () =>
      topList('user', topUsers, maxPerUser, 'Nobody with a user is connected.'),
    );
  }

  #showRefusals({ refusals }: PageSnapshot): void {
    const refused = refusals.reduce((sum, { count }) => sum + count, 0);
    this.#refusals.show(refusals, `${number(refused)} since the start`, () =>
      refusals.length === 0
        ? none('Nobody was refused.')
        : ranking(
            'Refusals by reason',
            'reason',
            refusals.map(({ name, count }) => ({ name: name.replaceAll('_', ' '), count })),
          ),
    );
  }
}
