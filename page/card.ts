/** Cards with a list: a table, a ranking, or a sentence. */
import { bar, byId, make, say } from './dom.js';
import { number } from './format.js';

/** A card with a title, a note and a list. */
export class Card {
  readonly element: HTMLElement;
  readonly #body = make('div', 'scroll');
  readonly #aside = make('p', 'legend');
  #key = '';

  constructor(id: string, title: string, className = '') {
    this.#body.tabIndex = 0;
    this.#body.setAttribute('role', 'region');
    this.#body.setAttribute('aria-label', title);
    this.element = make(
      'section',
      `card ${className}`,
      make('div', 'head', make('h3', '', title), this.#aside),
      this.#body,
    );
    this.element.id = `list-${id}`;
    byId('lists').append(this.element);
  }

  /** Rebuilds the list only if its data has changed: a rebuild would lose the user's selection. */
  show(data: unknown, aside: string, build: () => Node): void {
    say(this.#aside, aside);
    const key = JSON.stringify(data);
    if (key === this.#key) return;
    this.#key = key;
    this.#body.replaceChildren(build());
  }
}

export const none = (...text: (Node | string)[]): HTMLElement => make('p', 'none', ...text);
export const notInUse = (what: string): HTMLElement =>
  none('Not in use: set ', make('code', '', what), ' to see it.');

/**
 * Makes a table. The first cell of a row is cut to the room that the figures leave; its full text is
 * its title, and stays its accessible name.
 * @param caption title for screen readers
 */
export function table(
  caption: string,
  heads: readonly string[],
  rows: readonly (readonly (Node | string | readonly [string, string])[])[],
): HTMLElement {
  const head = make('tr');
  for (const text of heads) {
    const cell = make('th', '', text);
    cell.scope = 'col';
    head.append(cell);
  }
  const body = make('tbody');
  for (const row of rows) {
    const line = make('tr');
    for (const [at, cell] of row.entries())
      line.append(
        at === 0 && typeof cell === 'string'
          ? named(cell)
          : Array.isArray(cell)
            ? make('td', cell[1] as string, cell[0] as string)
            : make('td', cell instanceof HTMLElement ? 'share' : '', cell as Node | string),
      );
    body.append(line);
  }
  return make('table', '', make('caption', 'unseen', caption), make('thead', '', head), body);
}

function named(text: string): HTMLElement {
  const name = make('span', 'cut', text);
  name.title = text;
  return make('td', '', name);
}

/** Makes a table of counts, with bars that show their share of the greatest count. */
export function ranking(
  caption: string,
  head: string,
  rows: readonly { readonly name: string; readonly count: number; readonly most?: number | null }[],
): HTMLElement {
  const top = rows.reduce((most, row) => Math.max(most, row.most ?? row.count), 1);
  return table(
    caption,
    [head, 'share', 'count'],
    rows.map(({ name, count, most }) => [
      [name, 'key'],
      bar([count / top, most !== undefined && most !== null && count >= most ? 'warning' : 'a']),
      number(count),
    ]),
  );
}
