/** The heat map: how many requests took how long, column by column. */
import { SET_BACK_S } from './charts.js';
import { byId, make, say } from './dom.js';
import { milliseconds, number, time } from './format.js';
import type { PageHistory } from '../ts/page/snapshot.js';

const ROWS_MAX = 600;
const HEIGHT = 150;
const LEFT = 52;
const BOTTOM = 26;
const COLUMNS = 60;

interface Slice {
  readonly at: number;
  readonly counts: readonly number[] | null;
}

function bandText(edges: readonly number[], band: number): string {
  if (band === 0) return `under ${milliseconds(edges[0])}`;
  if (band === edges.length) return `over ${milliseconds(edges.at(-1))}`;
  return `${number(edges[band - 1])} to ${milliseconds(edges[band])}`;
}

export class Heat {
  readonly element: HTMLElement;
  readonly #canvas = make('canvas');
  readonly #note = make('p', 'note');
  readonly #blank = make(
    'div',
    'blank',
    make('b', '', 'Not in use'),
    make('span', '', 'Set ', make('code', '', 'page.metrics'), ' to see it.'),
  );
  readonly #slices: Slice[] = [];
  #edges: readonly number[] = [];
  #spanS = 120;

  constructor() {
    const plot = make('div', 'plot', this.#canvas);
    this.#blank.hidden = true;
    this.#canvas.setAttribute('role', 'img');
    this.#canvas.style.display = 'block';
    const legend = make('p', 'legend', make('span', '', 'the stronger, the more requests'));
    this.element = make(
      'figure',
      'card',
      make('figcaption', '', make('h3', '', 'Latency heat'), legend),
      plot,
      this.#note,
      this.#blank,
    );
    this.element.id = 'chart-heat';
    // Beside the latency chart.
    byId('chart-latency').after(this.element);
    matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () =>
      this.draw(this.#spanS),
    );
    new ResizeObserver(() => this.draw(this.#spanS)).observe(this.element);
  }

  reset({ rows, heat, heatEdgesMs }: PageHistory): void {
    this.#edges = heatEdgesMs;
    this.#slices.length = 0;
    heat.forEach((counts, index) => this.push(rows[index]?.[0] ?? 0, counts));
  }

  push(at: number, counts: readonly number[] | null): void {
    const last = this.#slices.at(-1)?.at ?? 0;
    if (at <= last && at > last - SET_BACK_S * 1000) return;
    if (at <= last) this.#slices.length = 0;
    this.#slices.push({ at, counts });
    if (this.#slices.length > ROWS_MAX) this.#slices.shift();
  }

  feed(isFed: boolean): void {
    this.#blank.hidden = isFed;
  }

  draw(spanS: number): void {
    this.#spanS = spanS;
    const canvas = this.#canvas;
    const bands = this.#edges.length + 1;
    const width = canvas.parentElement?.clientWidth ?? 0;
    const context = canvas.getContext('2d');
    if (width === 0 || context === null) return;
    const ratio = devicePixelRatio;
    canvas.style.width = `${width}px`;
    canvas.style.height = `${HEIGHT}px`;
    canvas.width = width * ratio;
    canvas.height = HEIGHT * ratio;
    context.scale(ratio, ratio);
    const style = getComputedStyle(document.documentElement);
    const [inner, rows] = [width - LEFT - 10, (HEIGHT - BOTTOM - 8) / bands];
    const end = this.#slices.at(-1)?.at ?? Date.now();
    const columns = this.#columns(end);
    const most = columns.reduce((top, counts) => Math.max(top, ...counts), 0);
    const heat = style.getPropertyValue('--heat').trim();
    const cell = inner / COLUMNS;
    context.fillStyle = style.getPropertyValue('--sunk').trim();
    context.fillRect(LEFT, 8, inner, rows * bands);
    columns.forEach((counts, column) =>
      counts.forEach((count, band) => {
        if (count === 0) return;
        // A single slow request must be seen beside thousands of fast ones.
        context.fillStyle = `rgba(${heat}, ${0.18 + 0.82 * (Math.log1p(count) / Math.log1p(most))})`;
        context.fillRect(
          LEFT + column * cell,
          8 + (bands - 1 - band) * rows,
          Math.ceil(cell),
          Math.ceil(rows),
        );
      }),
    );
    context.fillStyle = style.getPropertyValue('--muted').trim();
    context.font = '11px system-ui, sans-serif';
    context.textAlign = 'right';
    context.textBaseline = 'middle';
    for (const [index, edge] of this.#edges.entries()) {
      if ([1, 10, 100, 1000].includes(edge))
        context.fillText(
          edge === 1000 ? '1 s' : `${edge} ms`,
          LEFT - 6,
          8 + (bands - 1 - index) * rows,
        );
    }
    context.textAlign = 'center';
    for (const share of [0.17, 0.5, 0.83]) {
      context.fillText(
        time(end - spanS * 1000 * (1 - share)).slice(0, spanS > 300 ? 5 : 8),
        LEFT + share * inner,
        HEIGHT - BOTTOM / 2 + 2,
      );
    }
    this.#tell(columns);
  }

  /** Sums by column of the picture, over the time shown. */
  #columns(end: number): number[][] {
    const bands = this.#edges.length + 1;
    const columns = Array.from({ length: COLUMNS }, () => Array.from({ length: bands }, () => 0));
    const width = (this.#spanS * 1000) / COLUMNS;
    for (const { at, counts } of this.#slices) {
      const column = COLUMNS - 1 - Math.floor((end - at) / width);
      if (column < 0 || counts === null) continue;
      counts.forEach((count, band) => (columns[column]![band]! += count));
    }
    return columns;
  }

  #tell(columns: readonly (readonly number[])[]): void {
    const sums = Array.from({ length: this.#edges.length + 1 }, (_, band) =>
      columns.reduce((sum, counts) => sum + counts[band]!, 0),
    );
    const all = sums.reduce((sum, count) => sum + count, 0);
    const slowest = sums.findLastIndex((count) => count > 0);
    const text =
      all === 0
        ? 'No requests in view.'
        : `${number(all)} requests in view; the slowest: ${number(sums[slowest])} ${bandText(this.#edges, slowest)}`;
    say(this.#note, text);
    this.#canvas.setAttribute('aria-label', `Latency heat map. ${text}`);
  }
}
