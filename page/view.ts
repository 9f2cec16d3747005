/** What a snapshot says, in words, tiles and tables. */
import { bar, byId, make, say } from './dom.js';
import { NONE, bytes, duration, megabytes, milliseconds, number, percent, time } from './format.js';
import type { PageSnapshot } from '../ts/page/snapshot.js';

const WORDS = {
  ok: 'All is well',
  warning: 'Warning',
  critical: 'Critical',
  draining: 'Draining',
  unknown: 'Unknown',
} as const;
/** Many connections are counted over some seconds. */
const COUNTING = 'Being counted.';
const levelOf = (score: number | null): string =>
  score === null ? 'neutral' : score >= 90 ? '' : score >= 50 ? 'warning' : 'critical';

function verdict({ state, reason, health, server }: PageSnapshot): void {
  document.body.dataset['state'] = state;
  say(byId('state'), WORDS[state]);
  byId('score').parentElement!.classList.toggle('absent', health === null);
  say(
    byId('score'),
    health?.score === null || health === null ? NONE : number(Math.round(health.score)),
  );
  say(byId('score-of'), health?.score === null ? 'too few data for a score' : 'of 100');
  say(byId('reason'), reason === '' ? 'Every part is within its target.' : `${reason}.`);
  say(byId('title'), server.title);
  document.title = `${health?.score === null || health === null ? WORDS[state] : Math.round(health.score)} · ${server.title}`;
  const color = {
    ok: '#22a35a',
    warning: '#e79a0c',
    critical: '#e5383b',
    draining: '#e79a0c',
    unknown: '#8b97a5',
  }[state];
  const icon = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16"><circle cx="8" cy="8" r="7" fill="${color}"/></svg>`;
  const href = `data:image/svg+xml,${encodeURIComponent(icon)}`;
  if (byId('icon').getAttribute('href') !== href) byId('icon').setAttribute('href', href);
}

function parts({ health }: PageSnapshot): void {
  if (health === null) {
    byId('parts').replaceChildren(
      make(
        'li',
        'none',
        make('span', '', 'Not in use: ', make('code', '', 'page.metrics'), ' makes the score.'),
      ),
    );
    return;
  }
  byId('parts').replaceChildren(
    ...health.parts.map(({ name, score, observed, target, unit }) => {
      const figure = make(
        'span',
        'figure',
        make('b', '', `${number(observed)} ${observed === null ? '' : unit}`.trim()),
        target === null ? '' : ` of ${number(target)} ${unit}`,
      );
      const row = make(
        'li',
        '',
        make('span', '', name),
        bar([(score ?? 0) / 100, levelOf(score)]),
        figure,
      );
      row.title = `${score === null ? 'No score' : `${Math.round(score)} of 100`}; observed ${number(observed)} ${unit}, target ${number(target)} ${unit}`;
      return row;
    }),
  );
}

function advice({ advice: list }: PageSnapshot): void {
  const one = (className: string, text: string, detail: string): HTMLElement =>
    make('li', className, make('p', '', text), detail === '' ? null : make('p', 'detail', detail));
  if (list === null)
    byId('advice').replaceChildren(
      one('', 'Not in use', 'Recommendations need metrics or a monitor.'),
    );
  else if (list.length === 0) byId('advice').replaceChildren(one('ok', 'Nothing to do.', ''));
  else
    byId('advice').replaceChildren(
      ...list.map(({ severity, text, detail }) => one(severity, text, detail)),
    );
}

interface Tile {
  readonly id: string;
  readonly name: string;
  readonly read: (
    snapshot: PageSnapshot,
  ) => readonly [value: string, sub: string, level: '' | 'warning' | 'critical'] | null;
}

const above = (
  value: number | null,
  warning: number,
  critical: number,
): '' | 'warning' | 'critical' =>
  value === null || value < warning ? '' : value < critical ? 'warning' : 'critical';
const partOf = ({ health }: PageSnapshot, id: string) =>
  health?.parts.find((part) => part.id === id);

const TILES: readonly Tile[] = [
  {
    id: 'requests',
    name: 'Requests',
    read: ({ requests }) =>
      requests && [
        `${number(requests.perSecond)} /s`,
        `${number(requests.inFlight)} in flight`,
        '',
      ],
  },
  {
    id: 'errors',
    name: 'Errors',
    read: (all) => {
      const { requests } = all;
      const target = partOf(all, 'errors')?.target ?? 1;
      return (
        requests && [
          percent(requests.errorPercent),
          `target ${percent(target)}`,
          above(requests.errorPercent, target * 1.0001, target * 5),
        ]
      );
    },
  },
  {
    id: 'latency',
    name: 'Latency p99',
    read: (all) => {
      const { requests } = all;
      const target = partOf(all, 'latency')?.target ?? Infinity;
      return (
        requests && [
          milliseconds(requests.p99Ms),
          `p50 ${milliseconds(requests.p50Ms)}`,
          above(requests.p99Ms, target * 2, target * 5),
        ]
      );
    },
  },
  {
    id: 'connections',
    name: 'Connections',
    read: ({ connections: { total, maxTotal } }) => [
      number(total),
      maxTotal === null ? 'no limit' : `of ${number(maxTotal)}`,
      maxTotal === null ? '' : above((total / Math.max(1, maxTotal)) * 100, 80, 95),
    ],
  },
  {
    id: 'messages',
    name: 'Messages in',
    read: ({ messages }) =>
      messages && [
        `${number(messages.inPerSecond)} /s`,
        `out ${number(messages.outPerSecond)} /s`,
        '',
      ],
  },
  {
    id: 'loop',
    name: 'Loop delay p99',
    read: ({ loop }) =>
      loop && [
        milliseconds(loop.p99Ms),
        `${number(loop.stalls)} stall${loop.stalls === 1 ? '' : 's'}, max ${milliseconds(loop.maxMs)}`,
        above(loop.p99Ms, 50, 250),
      ],
  },
  {
    id: 'memory',
    name: 'Memory',
    read: ({ memory }) =>
      memory && [
        percent(memory.percent),
        `${megabytes(memory.usedMb)} of ${megabytes(memory.limitMb)}`,
        above(memory.percent, memory.warningPercent, memory.criticalPercent),
      ],
  },
  {
    id: 'cpu',
    name: 'CPU',
    read: ({ cpu }) =>
      cpu && [
        percent(cpu.percent),
        `JS thread ${percent(cpu.jsThreadPercent)}`,
        above(cpu.percent, 70, 90),
      ],
  },
];

class Tiles {
  readonly #all = TILES.map((tile) => {
    const [value, sub] = [make('dd', 'value'), make('dd', 'sub')];
    const element = make('dl', 'tile', make('dt', '', tile.name), value, sub);
    element.id = `tile-${tile.id}`;
    return { tile, element, value, sub };
  });

  constructor() {
    byId('now').append(...this.#all.map(({ element }) => element));
  }

  show(snapshot: PageSnapshot): void {
    for (const { tile, element, value, sub } of this.#all) {
      const read = tile.read(snapshot);
      const [figure, under, level] = read ?? ['Not in use', '', ''];
      element.className = `tile ${read === null ? 'absent' : level}`;
      const space = read === null ? -1 : figure.lastIndexOf(' ');
      if (value.textContent !== figure)
        value.replaceChildren(
          ...(space === -1
            ? [figure]
            : [figure.slice(0, space), make('span', 'unit', figure.slice(space))]),
        );
      say(sub, under);
      sub.title = under;
    }
  }
}

/** A card that holds a list. */
class Card {
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

  /** Builds anew only what has changed, so that a selection in it stays. */
  show(data: unknown, aside: string, build: () => Node): void {
    say(this.#aside, aside);
    const key = JSON.stringify(data);
    if (key === this.#key) return;
    this.#key = key;
    this.#body.replaceChildren(build());
  }
}

const none = (...text: (Node | string)[]): HTMLElement => make('p', 'none', ...text);
const notInUse = (what: string): HTMLElement =>
  none('Not in use: set ', make('code', '', what), ' to see it.');

function table(
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
    for (const cell of row)
      line.append(
        Array.isArray(cell)
          ? make('td', cell[1] as string, cell[0] as string)
          : make('td', cell instanceof HTMLElement ? 'share' : '', cell as Node | string),
      );
    body.append(line);
  }
  return make('table', '', make('thead', '', head), body);
}

/** Counts with bars of their share in the greatest. */
function ranking(
  head: string,
  rows: readonly { readonly name: string; readonly count: number; readonly most?: number | null }[],
): HTMLElement {
  const top = rows.reduce((most, row) => Math.max(most, row.most ?? row.count), 1);
  return table(
    [head, '', 'count'],
    rows.map(({ name, count, most }) => [
      [name, 'key'],
      bar([count / top, most !== undefined && most !== null && count >= most ? 'warning' : 'a']),
      number(count),
    ]),
  );
}

export class View {
  readonly #tiles = new Tiles();
  readonly #states = new Card('connections', 'Connections by state');
  readonly #addresses = new Card('addresses', 'Top addresses');
  readonly #users = new Card('users', 'Top users');
  readonly #refusals = new Card('refusals', 'Refusals by reason');
  readonly #routes = new Card('routes', 'Routes', 'wide');
  readonly #layers = new Card('layers', 'Middleware chain', 'wide');
  readonly #budgets = new Card('budgets', 'Objectives');
  readonly #timers = new Card('timers', 'Timers');
  readonly #events = new Card('events', 'Recent events', 'wide events');

  show(snapshot: PageSnapshot): void {
    verdict(snapshot);
    parts(snapshot);
    advice(snapshot);
    this.#tiles.show(snapshot);
    this.#connections(snapshot);
    this.#details(snapshot);
    const { server } = snapshot;
    say(byId('facts'), `${server.runtime} · pid ${server.pid} · up ${duration(server.uptimeMs)}`);
    const denied = server.denied === 0 ? '' : ` · ${number(server.denied)} turned away`;
    say(
      byId('foot'),
      `${server.viewers} of ${server.maxViewers} viewers${denied} · figures of ${time(snapshot.at)}, once a second · sizes in MB of 2^20 bytes`,
    );
  }

  #connections({ connections: all }: PageSnapshot): void {
    const { states, total, topAddresses, topUsers, topError, maxPerIp, maxPerUser } = all;
    this.#states.show(
      [
        states,
        total,
        all.users,
        all.addresses,
        all.anonymous,
        all.admitted,
        all.evicted,
        all.messagesOverRate,
      ],
      `${number(total)} in all`,
      () => {
        const mark = (color: string, label: string, count: number): HTMLElement => {
          const swatch = make('i');
          swatch.style.background = `var(${color})`;
          return make('span', '', swatch, label, make('b', '', number(count)));
        };
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
        if (states === null) return make('div', 'states', none(COUNTING), pairs);
        const { active, quiet, opening } = states;
        const sum = Math.max(1, active + quiet + opening);
        const legend = make(
          'p',
          'legend',
          mark('--a', 'active', active),
          mark('--neutral-fill', 'silent for 10 s', quiet),
          mark('--c', 'opening', opening),
        );
        return make(
          'div',
          'states',
          bar([active / sum, 'a'], [quiet / sum, 'neutral'], [opening / sum, 'c']),
          legend,
          pairs,
        );
      },
    );
    const about = topError === 0 ? '' : `may be ${number(topError)} too low`;
    const per = (limit: number | null, what: string): string =>
      about !== '' ? about : limit === null ? 'no limit' : `limit ${number(limit)} per ${what}`;
    const top = (
      what: string,
      shares: typeof topAddresses,
      most: number | null,
      nobody: string,
    ): HTMLElement => {
      if (shares === null) return none(COUNTING);
      if (shares.length === 0) return none(nobody);
      return ranking(
        what,
        shares.map(({ key, count }) => ({ name: key === '' ? 'unknown' : key, count, most })),
      );
    };
    this.#addresses.show([topAddresses, maxPerIp], per(maxPerIp, 'address'), () =>
      top('address', topAddresses, maxPerIp, 'Nobody is connected.'),
    );
    this.#users.show([topUsers, maxPerUser], per(maxPerUser, 'user'), () =>
      top('user', topUsers, maxPerUser, 'Nobody with a user is connected.'),
    );
  }

  #details({ refusals, requests, budgets, layers, timers, events, messages }: PageSnapshot): void {
    const refused = refusals.reduce((sum, { count }) => sum + count, 0);
    this.#refusals.show(refusals, `${number(refused)} since the start`, () =>
      refusals.length === 0
        ? none('Nobody was refused.')
        : ranking(
            'reason',
            refusals.map(({ name, count }) => ({ name: name.replaceAll('_', ' '), count })),
          ),
    );
    const traffic =
      messages === null
        ? ''
        : `WebSocket ${bytes(messages.inBytesPerSecond)}/s in, ${bytes(messages.outBytesPerSecond)}/s out`;
    this.#routes.show(requests?.routes ?? null, traffic, () => {
      if (requests === null) return notInUse('page.metrics');
      if (requests.routes.length === 0) return none('No requests yet.');
      return table(
        ['route', 'per s', 'errors', 'p50', 'p99'],
        requests.routes.map(({ route, perSecond, errorPercent, p50Ms, p99Ms }) => [
          route,
          number(perSecond),
          [percent(errorPercent), (errorPercent ?? 0) > 1 ? 'bad' : ''],
          milliseconds(p50Ms),
          milliseconds(p99Ms),
        ]),
      );
    });
    this.#budgets.show(budgets, requests === null ? '' : `Apdex ${number(requests.apdex)}`, () => {
      if (budgets === null) return notInUse('page.metrics');
      return table(
        ['requests', 'goal', 'budget left', 'burn 1 h'],
        budgets.map(({ name, objectivePercent, leftPercent, burn1h, alert }) => [
          name,
          percent(objectivePercent),
          [percent(leftPercent), (leftPercent ?? 1) <= 0 ? 'bad' : ''],
          [burn1h === null ? NONE : `${number(burn1h)} x`, alert === null ? '' : 'bad'],
        ]),
      );
    });
    this.#layers.show(
      layers,
      layers === null
        ? ''
        : layers.length === 1
          ? '1 layer'
          : `${layers.length} layers, in the order they run`,
      () => {
        if (layers === null) return notInUse('page.chain');
        if (layers.length === 0) return none('The chain has no layers.');
        return table(
          ['layer', 'runs', 'errors', 'timeouts', 'p50', 'p99'],
          layers.map(({ name, enabled, count, errors, timeouts, p50Ms, p99Ms, breaker }) => [
            `${name}${enabled ? '' : ' (off)'}${breaker === null || breaker === 'closed' ? '' : ` (breaker ${breaker})`}`,
            number(count),
            [number(errors), errors > 0 ? 'bad' : ''],
            [number(timeouts), timeouts > 0 ? 'bad' : ''],
            milliseconds(p50Ms),
            milliseconds(p99Ms),
          ]),
        );
      },
    );
    this.#timers.show(timers, `${number(timers.active)} held`, () => {
      if (timers.byName === null) return none('Too many to be listed by name.');
      return timers.byName.length === 0 ? none('None.') : ranking('name', timers.byName);
    });
    this.#events.show(events, '', () => {
      const list = make('ol');
      for (const { at, severity, text } of events) {
        const when = make('time', '', time(at));
        when.dateTime = new Date(at).toISOString();
        list.append(make('li', severity, when, make('span', '', text)));
      }
      return list;
    });
  }
}
