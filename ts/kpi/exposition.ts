/** Hands the figures over to the native side, which writes the text on another thread. */
import { MetricTexts, metricLayout } from '../native.js';
import { PortcullisError, knownOptions, outOfRange, wrongType } from '../errors.js';
import { ROW, type Series } from './series.js';

/** How figures are exposed. */
export interface ExpositionOptions {
  /**
   * `otel`: the names of OpenTelemetry's semantic conventions; `prom`: those of prom-client, which
   * most dashboards ask for; `both`. Default `both`.
   */
  readonly naming?: 'otel' | 'prom' | 'both' | undefined;
}

/** A figure with labels. @internal */
export type Sample = readonly [key: string, labels: readonly string[], value: number | null];

const NAMINGS = ['otel', 'prom', 'both'] as const;
const { row, scalars: keys, labelled } = metricLayout();
if (row !== ROW) throw new PortcullisError('ERR_INTERNAL', 'the addon is of another version than its JavaScript');

/** @internal */
export class Exposition {
  readonly #texts = new MetricTexts();

  row(route: string, method: string): void {
    this.#texts.addRow(route, method);
  }

  status(_place: number, status: number): void {
    this.#texts.addStatus(status);
  }

  render(
    format: 'openmetrics' | 'prometheus',
    naming: (typeof NAMINGS)[number],
    series: Series,
    scalars: Readonly<Record<string, number | null>>,
    samples: readonly Sample[],
  ): Promise<string> {
    const known = Float64Array.from(keys, (key) => scalars[key] ?? Number.NaN);
    const present = samples.filter((sample): sample is [string, readonly string[], number] => sample[2] !== null && labelled.includes(sample[0]));
    const lines = present.map(([key, labels]) => [key, ...labels].join('\t')).join('\n');
    return this.#texts.render(
      series.columns,
      known,
      lines,
      Float64Array.from(present, (sample) => sample[2]),
      format,
      naming,
    );
  }
}

/** @internal */
export function namingOf(options: ExpositionOptions): (typeof NAMINGS)[number] {
  if (typeof options !== 'object' || options === null) throw wrongType('options', options, 'an object');
  knownOptions('the exposition', options, ['naming']);
  const { naming = 'both' } = options;
  if (!NAMINGS.includes(naming)) throw outOfRange('naming', naming, NAMINGS.map((name) => `'${name}'`).join(', '));
  return naming;
}
