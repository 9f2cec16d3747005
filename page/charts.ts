/** Charts of the last minutes, on one time axis and with one cursor. */
import uPlot from 'uplot';
import { byId, make, notInUse, property, say } from './dom.js';
import { type Figure, axisTime, time } from './format.js';
import {
  PAGE_COLUMNS,
  type PageColumn,
  type PageHistory,
  type PageRow,
  type PageStall,
} from '../ts/page/snapshot.js';

/** Rows of the history: ten minutes, one a second. */
export const ROWS_MAX = 600;
export const HEIGHT = 150;
/** A step back in time longer than this, seconds, means that the server's clock was set back. */
export const SET_BACK_S = 30;

/** A line of a chart. */
export interface Line {
  readonly column: PageColumn;
  readonly label: string;
  /** A custom property of the style sheet. */
  readonly color: '--a' | '--b' | '--c' | '--critical-fill' | '--warning-fill' | '--neutral-fill';
  readonly style: 'filled' | 'dashed' | undefined;
}

/** The title, the lines and the scale of a chart. */
export interface ChartOptions {
  readonly id: string;
  readonly title: string;
  readonly lines: readonly Line[];
  readonly format: (value: Figure) => string;
  /** Least value of the top of the scale: noise near zero must not look like load. */
  readonly least: number;
  /** The option of the page that provides the figures; without it, the chart says so. */
  readonly source: 'metrics' | 'monitor' | 'connections';
  /** True if a note below the chart describes the stalls. */
  readonly hasStallNote?: boolean;
}

/** The history of figures that all charts share. */
export class Timeline {
  /** Figures by column, the oldest first; times in seconds, as uPlot takes them. */
  readonly columns: (number | null)[][] = PAGE_COLUMNS.map(() => []);
  stalls: PageStall[] = [];
  spanS = 120;

  reset({ rows, stalls }: PageHistory): void {
    for (const column of this.columns) column.length = 0;
    for (const row of rows) this.push(row);
    this.stalls = [...stalls];
  }

  push(row: PageRow): void {
    const at = row[0] ?? 0;
    const times = this.of('at');
    const last = times.at(-1) ?? 0;
    // A reopened stream repeats rows that the page has.
    if (at / 1000 <= last && at / 1000 > last - SET_BACK_S) return;
    // The server's clock was set back: drop the history, because times must increase.
    if (at / 1000 <= last) for (const column of this.columns) column.length = 0;
    this.columns.forEach((column, index) => {
      column.push(index === 0 ? at / 1000 : (row[index] ?? null));
      if (column.length > ROWS_MAX) column.shift();
    });
  }

  of(column: PageColumn): (number | null)[] {
    return this.columns[PAGE_COLUMNS.indexOf(column)]!;
  }

  /** Returns the end of the time axis, in seconds. */
  get end(): number {
    return this.of('at').at(-1) ?? Date.now() / 1000;
  }
}

const CAUSES: Readonly<Record<string, string>> = {
  busy: 'busy on the CPU',
  blocked: 'blocked in a system call',
  starved: 'waiting for a CPU',
  throttled: 'CPU quota used up',
};

export class Chart {
  readonly element: HTMLElement;
  readonly #options: ChartOptions;
  readonly #timeline: Timeline;
  readonly #plot: HTMLElement;
  readonly #blank: HTMLElement;
  readonly #values: HTMLElement[];
  readonly #note: HTMLElement;
  #chart: uPlot | undefined;

  constructor(options: ChartOptions, timeline: Timeline) {
    this.#options = options;
    this.#timeline = timeline;
    this.#values = options.lines.map(() => make('b'));
    const legend = make('p', 'legend');
    options.lines.forEach(({ label, color }, index) => {
      const swatch = make('i');
      swatch.style.background = `var(${color})`;
      legend.append(make('span', '', swatch, label, this.#values[index]!));
    });
    this.#plot = make('div', 'plot');
    this.#plot.tabIndex = 0;
    this.#plot.setAttribute('role', 'img');
    this.#note = make('p', 'note');
    this.#blank = make('div', 'blank');
    this.#blank.hidden = true;
    this.element = make(
      'figure',
      'card',
      make('figcaption', '', make('h3', '', options.title), legend),
      this.#plot,
      options.hasStallNote === true ? this.#note : null,
      this.#blank,
    );
    this.element.id = `chart-${options.id}`;
    this.#plot.addEventListener('keydown', (event) => this.#onKey(event));
    this.#plot.addEventListener('blur', () => this.#chart?.setCursor({ left: -10, top: -10 }));
  }

  /** Shows the chart, or a note that its option is not in use. */
  feed(isFed: boolean): void {
    if (this.#blank.hidden === isFed) return;
    this.#blank.hidden = isFed;
    this.#plot.tabIndex = isFed ? 0 : -1;
    this.#blank.replaceChildren(...notInUse(`page.${this.#options.source}`));
  }

  draw(): void {
    const data = this.#data();
    if (this.#chart === undefined) this.#make(data);
    else this.#chart.setData(data, false);
    const { end, spanS } = this.#timeline;
    this.#chart!.setScale('x', { min: end - spanS, max: end });
    if ((this.#chart!.cursor.idx ?? null) === null)
      this.#legend(this.#timeline.of('at').length - 1);
    this.#tellStalls();
    const said = this.#options.lines.map(
      ({ label }, index) => `${label} ${this.#values[index]!.textContent}`,
    );
    this.#plot.setAttribute(
      'aria-label',
      `${this.#options.title}: ${said.join(', ')}. Arrow keys read earlier values.`,
    );
  }

  /** Draws the chart anew after a change of colours or size. */
  remake(): void {
    this.#chart?.destroy();
    this.#chart = undefined;
    this.draw();
  }

  #data(): uPlot.AlignedData {
    return [
      this.#timeline.of('at') as number[],
      ...this.#options.lines.map(({ column }) => this.#timeline.of(column)),
    ];
  }

  #legend(index: number): void {
    this.#options.lines.forEach(({ column }, at) =>
      say(this.#values[at]!, this.#options.format(this.#timeline.of(column)[index])),
    );
  }

  #tellStalls(): void {
    if (this.#options.hasStallNote !== true) return;
    const since = (this.#timeline.end - this.#timeline.spanS) * 1000;
    const last = this.#timeline.stalls.at(-1);
    const seen = this.#timeline.stalls.filter(({ startedAt }) => startedAt >= since).length;
    if (last === undefined) return say(this.#note, 'No stalls.');
    const cause = CAUSES[last.cause] ?? 'cause unknown';
    const where = last.label === null ? '' : ` in ${last.label}`;
    const request = last.requestId === null ? '' : `, request ${last.requestId}`;
    say(
      this.#note,
      `${seen} in view. Last: ${Math.round(last.durationMs)} ms at ${time(last.startedAt)}, ${cause}${where}${request}`,
    );
  }

  #onKey(event: KeyboardEvent): void {
    const chart = this.#chart;
    if (chart === undefined) return;
    const times = this.#timeline.of('at');
    const step = event.shiftKey ? 10 : 1;
    const from = chart.cursor.idx ?? times.length;
    const to = { ArrowLeft: from - step, ArrowRight: from + step, Home: 0, End: times.length - 1 }[
      event.key
    ];
    if (event.key === 'Escape') chart.setCursor({ left: -10, top: -10 });
    if (to === undefined || times.length === 0) return;
    event.preventDefault();
    const first = times.findIndex(
      (at) => at !== null && at >= this.#timeline.end - this.#timeline.spanS,
    );
    const at = times[Math.min(times.length - 1, Math.max(first, to))]!;
    chart.setCursor({ left: chart.valToPos(at, 'x'), top: HEIGHT / 2 });
  }

  #make(data: uPlot.AlignedData): void {
    const { least } = this.#options;
    const options: uPlot.Options = {
      width: this.#plot.clientWidth,
      height: HEIGHT,
      legend: { show: false },
      padding: [8, 14, 0, 0],
      cursor: {
        sync: { key: 'page' },
        y: false,
        drag: { x: false, y: false },
        points: { size: 6 },
      },
      scales: {
        x: { time: true },
        y: { range: (_chart, _least, most) => [0, Math.max(least, (most ?? 0) * 1.1)] },
      },
      axes: this.#axes(),
      series: [{}, ...this.#series()],
      hooks: {
        drawClear: [(chart) => this.#markStalls(chart)],
        setCursor: [
          (chart) => this.#legend(chart.cursor.idx ?? this.#timeline.of('at').length - 1),
        ],
      },
    };
    this.#chart = new uPlot(options, data, this.#plot);
  }

  #axes(): uPlot.Axis[] {
    const { format } = this.#options;
    const axis = {
      stroke: property('--muted'),
      font: '11px system-ui, sans-serif',
      grid: { stroke: property('--line'), width: 1 },
      ticks: { show: false },
    };
    return [
      {
        ...axis,
        size: 26,
        gap: 4,
        space: 58,
        values: (chart, splits) => splits.map((at) => this.#moment(chart, at)),
      },
      {
        ...axis,
        size: 58,
        gap: 6,
        space: 28,
        values: (_chart, splits) => splits.map((value) => format(value)),
      },
    ];
  }

  #series(): uPlot.Series[] {
    return this.#options.lines.map(({ label, color, style }) => ({
      label,
      stroke: property(color),
      width: 1.6,
      ...(style === 'filled' ? { fill: `${property(color)}22` } : {}),
      ...(style === 'dashed' ? { dash: [5, 4], width: 1.2 } : {}),
      spanGaps: false,
      points: { show: false },
    }));
  }

  /** Formats a time on the axis; empty near an end, where it would be cut off. */
  #moment(chart: uPlot, at: number): string {
    const { end, spanS } = this.#timeline;
    const edge = (28 / Math.max(1, chart.width)) * spanS;
    return at > end - edge || at < end - spanS + edge / 2 ? '' : axisTime(at * 1000, spanS);
  }

  /** Marks stalls behind the lines of every chart, to show their effect on the other figures. */
  #markStalls(chart: uPlot): void {
    const { ctx, bbox } = chart;
    const isLoop = this.#options.hasStallNote === true;
    ctx.save();
    ctx.fillStyle = property('--critical-fill');
    for (const { startedAt, durationMs } of this.#timeline.stalls) {
      const from = chart.valToPos(startedAt / 1000, 'x', true);
      const to = chart.valToPos((startedAt + durationMs) / 1000, 'x', true);
      if (to < bbox.left || from > bbox.left + bbox.width) continue;
      const left = Math.max(bbox.left, from);
      const width = Math.max(2, Math.min(to, bbox.left + bbox.width) - left);
      ctx.globalAlpha = isLoop ? 0.35 : 0.13;
      ctx.fillRect(left, bbox.top, width, bbox.height);
      if (!isLoop) continue;
      ctx.globalAlpha = 1;
      ctx.fillRect(left - 1, bbox.top, width + 2, 4);
    }
    ctx.restore();
  }
}

/** The list of charts, drawn together. */
export class Charts {
  readonly #charts: readonly Chart[];

  constructor(charts: readonly Chart[]) {
    this.#charts = charts;
    byId('charts').append(...charts.map(({ element }) => element));
    let width = 0;
    let frame = 0;
    const remake = (): void => {
      cancelAnimationFrame(frame);
      frame = requestAnimationFrame(() => this.#charts.forEach((chart) => chart.remake()));
    };
    new ResizeObserver(([entry]) => {
      const now = Math.round(entry?.contentRect.width ?? 0);
      if (now === width) return;
      width = now;
      remake();
    }).observe(byId('charts'));
    matchMedia('(prefers-color-scheme: dark)').addEventListener('change', remake);
  }

  draw(): void {
    for (const chart of this.#charts) chart.draw();
  }
}
