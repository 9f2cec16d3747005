/** Text exposition: gathers the exposed figures in the order that the native renderer expects. */
import { outOfRange } from '../base/errors.js';
import { knownOptions, optionsObject } from '../base/options.js';
import { processStartMs } from '../resources/heap.js';
import type { PressureFigures } from '../resources/pressure.js';
import { type ClusterManagerStats, STATES } from '../cluster/stats.js';
import type { Assessment } from './assessment.js';
import type { HostReading, Sample } from './host-figures.js';
import type { Format } from './instrument.js';
import type { Template } from './instrument-registry.js';
import { areMet } from './health-score.js';
import { type ExpositionContent, IN, LAYOUT, type Ledger, OUT } from './ledger.js';
import type { LimiterFigures } from './limiters.js';
import type { BanCounts } from './ban-lists.js';
import { nameLabel } from './routes.js';

/** Options of the text exposition. */
export interface ExpositionOptions {
  /**
   * Names of the figures. `otel`: those of OpenTelemetry's semantic conventions; `prom`: those of
   * prom-client, which most dashboards query; `both`: all of them. Default `both`.
   */
  readonly naming?: 'otel' | 'prom' | 'both' | undefined;
}

/** Options of the text exposition as bytes. */
export interface ExpositionBytesOptions extends ExpositionOptions {
  /**
   * Content coding of the bytes. `gzip` compresses them on the other thread, for clients whose `Accept-Encoding` names
   * it, as that of Prometheus does: the JavaScript thread and the network then take a few hundredths of the bytes. Send
   * them with `Content-Encoding: gzip` and `Vary: Accept-Encoding`. Default `identity`: as they are.
   */
  readonly encoding?: 'gzip' | 'identity' | undefined;
}

/** Counts that stand beside the assessment. @internal */
export interface Counts {
  readonly inFlight: number;
  /** Bans of the managers; `undefined` if none bans. */
  readonly bans: BanCounts | undefined;
  readonly refusals: readonly (readonly [code: string, count: number])[];
  readonly errors: readonly (readonly [kind: string, count: number])[];
  readonly clusters: readonly ClusterManagerStats[];
  readonly limiters: readonly LimiterFigures[];
  readonly pressure: PressureFigures | undefined;
  readonly host: HostReading;
  /** Failed readings of merged registries, by reason. */
  readonly mergeFailures: readonly (readonly [reason: string, count: number])[];
}

const NAMINGS = ['otel', 'prom', 'both'] as const;
const ENCODINGS = ['gzip', 'identity'] as const;
/** @internal */
export type Naming = (typeof NAMINGS)[number];
const MB = 2 ** 20;
/** Keys of the figures with labels. */
const LABELLED: ReadonlySet<string> = new Set(LAYOUT.labelled);

/**
 * Returns the option `naming`.
 * @throws ERR_INVALID_ARG_TYPE, ERR_OUT_OF_RANGE, ERR_UNKNOWN_OPTION
 * @internal
 */
export function namingOf(options: ExpositionOptions): Naming {
  optionsObject('options', options);
  knownOptions('the exposition', options, ['naming']);
  const { naming = 'both' } = options;
  if (!NAMINGS.includes(naming)) throw outOfRange('naming', naming, listed(NAMINGS));
  return naming;
}

const listed = (names: readonly string[]): string => names.map((name) => `'${name}'`).join(', ');

/**
 * Returns the option `encoding`.
 * @throws ERR_INVALID_ARG_TYPE, ERR_OUT_OF_RANGE, ERR_UNKNOWN_OPTION
 * @internal
 */
export function encodingOf(options: ExpositionBytesOptions): 'gzip' | 'identity' {
  optionsObject('options', options);
  knownOptions('the exposition', options, ['naming', 'encoding']);
  const { encoding = 'identity' } = options;
  if (!ENCODINGS.includes(encoding)) throw outOfRange('encoding', encoding, listed(ENCODINGS));
  return encoding;
}

/** Returns the content of an exposition. Unknown figures are left out. @internal */
export function contentOf(
  ledger: Ledger,
  format: Format,
  naming: Naming,
  assessment: Assessment,
  counts: Counts,
  template: Template,
): ExpositionContent {
  const scalars = scalarsOf(ledger, assessment, counts);
  const samples = samplesOf(ledger, assessment, counts).filter(
    (sample): sample is [string, readonly string[], number] =>
      sample[2] !== null && LABELLED.has(sample[0]),
  );
  const lines = samples.map(([key, labels]) => `${key}\t${labels.join('\t')}`).join('\n');
  return {
    scalars: numbersOf(LAYOUT.scalars, (key) => scalars[key] ?? Number.NaN),
    values: numbersOf(samples, ([, , value]) => value),
    templateValues: template.values,
    texts: { format, naming, samples: lines, template: template.text },
  };
}

/** Returns a number for each item. A loop, since `Float64Array.from` goes through the iterator of the array. */
function numbersOf<T>(items: readonly T[], numberOf: (item: T) => number): Float64Array {
  const numbers = new Float64Array(items.length);
  for (let at = 0; at < items.length; at++) numbers[at] = numberOf(items[at]!);
  return numbers;
}

/** Returns the figures without labels by key; `null` for unknown ones. @internal */
export function scalarsOf(
  ledger: Ledger,
  assessment: Assessment,
  { host, inFlight, bans }: Pick<Counts, 'host' | 'inFlight' | 'bans'>,
): Readonly<Record<string, number | null>> {
  const own = {
    inFlight,
    bannedAddresses: bans?.active ?? null,
    bans: bans?.banned ?? null,
    banFailures: bans?.failures ?? null,
    routesOverflowed: ledger.overflowed,
  };
  return Object.assign(own, resourceScalars(assessment), serviceScalars(assessment), host.scalars);
}

const seconds = (ms: number | undefined): number | null => (ms === undefined ? null : ms / 1000);
const bytes = (mb: number | null | undefined): number | null =>
  mb === null || mb === undefined ? null : mb * MB;

/** Process, heap and event loop, in base units. */
function resourceScalars({ resources, metrics }: Assessment): Record<string, number | null> {
  const delays = resources?.loop.delayMs;
  return {
    memoryBytes: bytes(metrics.memoryUsage),
    cpuRatio: metrics.cpuUsage === null ? null : metrics.cpuUsage / 100,
    startSeconds: processStartMs() / 1000,
    // Not the wall clock's distance from the start: the clock may be set.
    uptimeSeconds: process.uptime(),
    heapUsedBytes: bytes(resources?.memory.heapUsedMb),
    heapLimitBytes: bytes(resources?.memory.heapLimitMb),
    loopUtilization: resources?.loop.utilization ?? null,
    loopDelayP50: seconds(delays?.p50),
    loopDelayP90: seconds(delays?.p90),
    loopDelayP99: seconds(delays?.p99),
    loopDelayMax: seconds(delays?.max),
    loopDelayMean: seconds(delays?.mean),
    loopDelayMin: seconds(delays?.min),
    loopDelayDeviation: seconds(delays?.deviation),
    stalls: resources?.loop.stalls ?? null,
  };
}

function serviceScalars({
  metrics,
  figures,
  targetResults,
}: Assessment): Record<string, number | null> {
  return {
    connections: metrics.connectionCount,
    activeUsers: metrics.activeUsers,
    healthScore: metrics.healthScore,
    healthy: areMet(targetResults) ? 1 : 0,
    apdex: figures.apdex,
  };
}

/** Returns the figures with labels. @internal */
export function samplesOf(
  ledger: Ledger,
  { budgets }: Assessment,
  { refusals, errors, clusters, limiters, pressure, host, mergeFailures }: Counts,
): Sample[] {
  const traffic = ledger.lifetimeTraffic;
  return [
    ['messages', ['in'], traffic[IN]!],
    ['messages', ['out'], traffic[OUT]!],
    ['messageBytes', ['in'], traffic[IN + 1]!],
    ['messageBytes', ['out'], traffic[OUT + 1]!],
    ...refusals.map(([code, count]): Sample => ['refusals', [code], count]),
    ...errors.map(([kind, count]): Sample => ['errors', [kind], count]),
    ...distinct(clusters).flatMap(clusterSamples),
    ...limiters.flatMap(limiterSamples),
    ...entriesOf(pressure?.refused).map(([cause, count]): Sample => ['shed', [cause], count]),
    ...entriesOf(pressure?.causes).map(([cause, share]): Sample => ['pressure', [cause], share]),
    ...host.samples,
    ...mergeFailures.map(([reason, count]): Sample => ['mergeFailures', [reason], count]),
    ...budgets.flatMap(({ id, burnRate, remaining }): Sample[] => [
      ...Object.entries(burnRate).map(([window, rate]): Sample => ['burnRate', [id, window], rate]),
      ['budgetRemaining', [id], remaining],
    ]),
  ];
}

const entriesOf = (values: PressureFigures['causes'] = {}): [string, number][] =>
  Object.entries(values) as [string, number][];

/** Returns one of the managers whose names differ in control characters only: a second series would spoil the text. */
function distinct(clusters: readonly ClusterManagerStats[]): ClusterManagerStats[] {
  return [...new Map(clusters.map((stats) => [nameLabel(stats.name), stats])).values()];
}

function limiterSamples({ label, ...figures }: LimiterFigures): Sample[] {
  return [
    ['limiterCosts', [label, 'admitted'], figures.admitted],
    ['limiterCosts', [label, 'refused'], figures.refused],
    ['limiterBlocks', [label], figures.blocks],
    ['limiterKeys', [label], figures.keys],
    ['limiterEvictions', [label], figures.evicted],
    ['limiterBytes', [label], figures.bytes],
  ];
}

function clusterSamples(stats: ClusterManagerStats): Sample[] {
  const name = nameLabel(stats.name);
  const { granted, refused, grantedAhead, refusedByCache, grantedByPolicy, refusedByPolicy } =
    stats.admissions;
  return [
    ...STATES.map((state): Sample => [
      'clusterState',
      [name, state],
      state === stats.state ? 1 : 0,
    ]),
    ['clusterMembers', [name], stats.members],
    ['clusterSeats', [name], stats.seats],
    ['clusterWaiting', [name], stats.waiting],
    ['clusterAdmissions', [name, 'granted'], granted],
    ['clusterAdmissions', [name, 'refused'], refused],
    ['clusterAdmissions', [name, 'granted_ahead'], grantedAhead],
    ['clusterAdmissions', [name, 'refused_by_cache'], refusedByCache],
    ['clusterAdmissions', [name, 'granted_by_policy'], grantedByPolicy],
    ['clusterAdmissions', [name, 'refused_by_policy'], refusedByPolicy],
    ['clusterConnects', [name], stats.connects],
    ['clusterLosses', [name], stats.losses],
    ['clusterDrift', [name], stats.drift],
  ];
}
