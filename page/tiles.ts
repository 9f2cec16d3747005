/** The tiles: one figure each, with its level. */
import { byId, make, say } from './dom.js';
import { megabytes, milliseconds, number, percent } from './format.js';
import type { PageSnapshot } from '../ts/page/snapshot.js';

type Level = '' | 'warning' | 'critical';

interface Tile {
  readonly id: string;
  readonly name: string;
  readonly read: (
    snapshot: PageSnapshot,
  ) => readonly [value: string, sub: string, level: Level] | null;
}

const above = (value: number | null, warning: number, critical: number): Level =>
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

export class Tiles {
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
