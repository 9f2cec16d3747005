/** The card of load shedding: its causes. */
import { Card, notInUse, table } from './card.js';
import { milliseconds, NONE, number, percent, time } from './format.js';
import type { PageSnapshot } from '../ts/page/snapshot.js';

type Shedding = NonNullable<PageSnapshot['shedding']>;
type Cause = Shedding['causes'][number];

const NAMES: Readonly<Record<string, string>> = {
  memory: 'memory in use',
  event_loop_delay: 'event loop delay, p99',
  event_loop_utilization: 'event loop utilization',
};
const CHECK = 'check:';

function nameOf(name: string): string {
  return name.startsWith(CHECK) ? `check ${name.slice(CHECK.length)}` : (NAMES[name] ?? name);
}

/** Formats a figure of a cause; a check has none, and passes or fails. */
function figure({ unit }: Cause, value: number | null): string {
  return unit === 'ms' ? milliseconds(value) : percent(value);
}

const causesTable = ({ causes }: Shedding): HTMLElement =>
  table(
    'Causes of load shedding',
    ['cause', 'now', 'limit', 'refuses', 'since', 'so far'],
    causes.map((cause) => {
      const { name, unit, since, refused } = cause;
      const isActing = cause.percent > 0;
      const now = unit === null ? (isActing ? 'fails' : 'passes') : figure(cause, cause.value);
      return [
        [nameOf(name), 'key'],
        [now, isActing ? 'bad' : ''],
        figure(cause, cause.limit),
        [percent(cause.percent), isActing ? 'bad' : ''],
        since === null ? NONE : time(since),
        number(refused),
      ];
    }),
  );

function aside(shedding: Shedding | null): string {
  if (shedding === null) return '';
  return shedding.percent === 0
    ? 'nobody is refused'
    : `${percent(shedding.percent)} of newcomers are refused`;
}

export class SheddingCard {
  readonly #card = new Card('shedding', 'Load shedding', 'wide');

  show({ shedding, loop }: PageSnapshot): void {
    const option = loop === null ? 'page.monitor' : 'shedding';
    this.#card.show([shedding, option], aside(shedding), () =>
      shedding === null ? notInUse(option) : causesTable(shedding),
    );
  }
}
