/** The heat map: requests by latency and time. */
import { HEIGHT, ROWS_MAX, SET_BACK_S } from './charts.js';
import { byId, make, notInUse, property, say } from './dom.js';
import { axisTime, milliseconds, number } from './format.js';
import type { PageHistory } from '../ts/page/snapshot.js';

const TOP = 8;
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
  readonly #blank = make('div', 'blank', ...notInUse('page.metrics'));
  readonly #slices: Slice[] = [];
  #edges: readonly number[] = [];
  #spanS = 120;

  constructor() {
    const plot = make('div', 'plot', this.#canvas);
    this.#blank.hidden = true;
    this.#canvas.setAttribute('role', 'img');
    this.#canvas.style.display = 'block';
    const legend = make('p', 'legend', make('span', '', 'a stronger colour means more requests'));
    this.element = make(
      'figure',
      'card',
      make('figcaption', '', make('h3', '', 'Latency heat'), legend),
      plot,
      this.#note,
      this.#blank,
    );
    this.element.id = 'chart-heat';
    // Its place is beside the latency chart.
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
    const width = canvas.parentElement?.clientWidth ?? 0;
    const context = canvas.getContext('2d');
    if (width === 0 || context === null) return;
    const ratio = devicePixelRatio;
    canvas.style.width = `${width}px`;
    canvas.style.height = `${HEIGHT}px`;
    canvas.width = width * ratio;
    canvas.height = HEIGHT * ratio;
    context.scale(ratio, ratio);
    const end = this.#slices.at(-1)?.at ?? Date.now();
    const columns = this.#columns(end);
    const innerWidth = width - LEFT - 10;
    const rowHeight = (HEIGHT - BOTTOM - TOP) / (this.#edges.length + 1);
    this.#drawCells(context, columns, innerWidth, rowHeight);
    this.#drawLabels(context, end, innerWidth, rowHeight);
    this.#tell(columns);
  }

  #drawCells(
    context: CanvasRenderingContext2D,
    columns: readonly (readonly number[])[],
    width: number,
    rowHeight: number,
  ): void {
    const bands = this.#edges.length + 1;
    const most = columns.reduce((top, counts) => Math.max(top, ...counts), 0);
    const cell = width / COLUMNS;
    const heat = property('--heat');
    context.fillStyle = property('--sunk');
    context.fillRect(LEFT, TOP, width, rowHeight * bands);
    columns.forEach((counts, column) =>
      counts.forEach((count, band) => {
        if (count === 0) return;
        // A logarithm: a single slow request must be seen beside thousands of fast ones.
        const share = Math.log1p(count) / Math.log1p(most);
        context.fillStyle = `rgba(${heat}, ${0.18 + 0.82 * share})`;
        context.fillRect(
          LEFT + column * cell,
          TOP + (bands - 1 - band) * rowHeight,
          Math.ceil(cell),
          Math.ceil(rowHeight),
        );
      }),
    );
  }

  #drawLabels(
    context: CanvasRenderingContext2D,
    end: number,
    width: number,
    rowHeight: number,
  ): void {
    context.fillStyle = property('--muted');
    context.font = '11px system-ui, sans-serif';
    context.textAlign = 'right';
    context.textBaseline = 'middle';
    for (const [index, edge] of this.#edges.entries()) {
      if (![1, 10, 100, 1000].includes(edge)) continue;
      const label = edge === 1000 ? '1 s' : `${edge} ms`;
      context.fillText(label, LEFT - 6, TOP + (this.#edges.length - index) * rowHeight);
    }
    context.textAlign = 'center';
    for (const share of [0.17, 0.5, 0.83]) {
      const at = end - this.#spanS * 1000 * (1 - share);
      context.fillText(axisTime(at, this.#spanS), LEFT + share * width, HEIGHT - BOTTOM / 2 + 2);
    }
  }

  /** Sums the counts of each column of the picture, over the time shown. */
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
