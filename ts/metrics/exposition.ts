/** The figures as text: how they are called here, and in which order the native side takes them. */
import { outOfRange, wrongType } from '../base/errors.js';
import { knownOptions } from '../base/options.js';
import { LAYOUT, type Ledger } from './ledger.js';

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
type Naming = (typeof NAMINGS)[number];

/** Writes figures beside those of the routes. @internal */
export function exposed(
  ledger: Ledger,
  format: 'openmetrics' | 'prometheus',
  naming: Naming,
  scalars: Readonly<Record<string, number | null>>,
  samples: readonly Sample[],
): Promise<string> {
  const known = Float64Array.from(LAYOUT.scalars, (key) => scalars[key] ?? Number.NaN);
  const present = samples.filter(
    (sample): sample is [string, readonly string[], number] =>
      sample[2] !== null && LAYOUT.labelled.includes(sample[0]),
  );
  const lines = present.map(([key, labels]) => [key, ...labels].join('\t')).join('\n');
  const values = Float64Array.from(present, ([, , value]) => value);
  return ledger.render(known, lines, values, format, naming);
}

/** @internal */
export function namingOf(options: ExpositionOptions): Naming {
  if (typeof options !== 'object' || options === null)
    throw wrongType('options', options, 'an object');
  knownOptions('the exposition', options, ['naming']);
  const { naming = 'both' } = options;
  if (!NAMINGS.includes(naming))
    throw outOfRange('naming', naming, NAMINGS.map((name) => `'${name}'`).join(', '));
  return naming;
}
