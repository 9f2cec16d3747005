import { spawnSync } from 'node:child_process';
import { readFile } from 'node:fs';
import { setImmediate as nextTurn } from 'node:timers/promises';
import v8 from 'node:v8';
import vm from 'node:vm';
import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry, Summary } from 'prom-client';
import { afterEach, describe, expect, test } from 'vitest';
import { ProductionMetrics, ResourceMonitor, TimerManager } from '../dist/index.js';
import { ManualClock } from '../dist/testing.js';
import { until } from './fixtures/until.js';

const isBun = 'Bun' in globalThis;
const closers: (() => void)[] = [];
afterEach(() => {
  for (const close of closers.splice(0)) close();
});

function production(options = {}): ProductionMetrics {
  const metrics = new ProductionMetrics(options);
  closers.push(() => metrics.close());
  return metrics;
}

interface Family {
  readonly type: string;
  /** Label names of all series, without the bounds of buckets. */
  readonly labels: Set<string>;
  readonly bounds: Set<string>;
  readonly values: Map<string, number>;
}

/** Reads families of an exposition in Prometheus' format. */
function familiesOf(text: string): Map<string, Family> {
  const families = new Map<string, Family>();
  for (const [, name, type] of text.matchAll(/^# TYPE (\S+) (\S+)$/gm))
    families.set(name!, { type: type!, labels: new Set(), bounds: new Set(), values: new Map() });
  for (const [, name, labels = '', value] of text.matchAll(/^(\w+)(?:\{(.*)\})? (\S+)$/gm)) {
    const family = families.get(name!) ?? families.get(name!.replace(/_(bucket|sum|count)$/, ''));
    expect(family, `family of ${name}`).toBeDefined();
    for (const [, label, content] of labels.matchAll(/(\w+)="((?:[^"\\]|\\.)*)"/g))
      if (label === 'le') family!.bounds.add(content!);
      else family!.labels.add(label!);
    family!.values.set(`${name}{${labels}}`, Number(value!.replace('Inf', 'Infinity')));
  }
  return families;
}

/** Runs a full garbage collection. */
function collectGarbage(): void {
  if (isBun) return;
  v8.setFlagsFromString('--expose-gc');
  (vm.runInNewContext('gc') as () => void)();
  v8.setFlagsFromString('--no-expose-gc');
}

/** The default metrics of prom-client, and the same of this package, read at one time. */
async function both(): Promise<{ theirs: Map<string, Family>; ours: Map<string, Family> }> {
  const register = new Registry();
  collectDefaultMetrics({ register });
  closers.push(() => register.clear());
  const monitor = new ResourceMonitor({}, { log: false });
  closers.push(() => monitor.close());
  const metrics = production({ monitor });
  const read = (): Promise<[string, string]> => {
    // One request of libuv is under way meanwhile.
    readFile(import.meta.filename ?? process.execPath, () => undefined);
    return Promise.all([register.metrics(), metrics.toPrometheus({ naming: 'prom' })]);
  };
  // The first reading begins measurements of the loop and of garbage collections.
  await read();
  await until(() => monitor.snapshot().loop.delayMs !== null);
  collectGarbage();
  await nextTurn();
  await nextTurn();
  const [theirs, ours] = await read();
  return { theirs: familiesOf(theirs), ours: familiesOf(ours) };
}

/** Names that Bun cannot know; prom-client reports zeros or invented figures there. */
const UNKNOWN_ON_BUN =
  /^nodejs_(?:active_(?:handles|requests|resources)(?:_total)?|heap_space_size_\w+|gc_duration_seconds)$/;

test('naming `prom` has the default metrics of prom-client: names, types, labels and bounds', async () => {
  const { theirs, ours } = await both();
  expect(theirs.size).toBe(31);
  const shapeOf = ({ type, labels, bounds }: Family): object => ({
    type,
    labels: [...labels].toSorted(),
    bounds: [...bounds].toSorted(),
  });
  for (const [name, family] of theirs) {
    if (isBun && UNKNOWN_ON_BUN.test(name)) {
      expect(ours.has(name), name).toBe(false);
      continue;
    }
    const mine = ours.get(name);
    expect(mine, name).toBeDefined();
    expect(shapeOf(mine!), name).toEqual(shapeOf(family));
  }
});

test('values agree with those of prom-client', async () => {
  const { theirs, ours } = await both();
  const of = (families: Map<string, Family>, name: string): number =>
    [...(families.get(name)?.values.values() ?? [])][0] ?? Number.NaN;
  // Read a moment apart; prom-client counts CPU time from its start, we from that of the process.
  const within: Readonly<Record<string, number>> = {
    process_start_time_seconds: 0.01,
    process_max_fds: 0,
    // A thread that starts in between reserves 64 MB.
    process_virtual_memory_bytes: 0.5,
    process_heap_bytes: 1,
    process_open_fds: 0.5,
    nodejs_heap_size_total_bytes: 0.5,
  };
  for (const [name, share] of Object.entries(within)) {
    if (process.platform !== 'linux' && /fds|virtual|heap_bytes/.test(name)) continue;
    const [exact, found] = [of(theirs, name), of(ours, name)];
    expect(Math.abs(found - exact), name).toBeLessThanOrEqual(share * exact);
  }
  const cpu = ['user_seconds', 'system_seconds', 'seconds'].map((part) =>
    of(ours, `process_cpu_${part}_total`),
  );
  expect(cpu[2]).toBeCloseTo(cpu[0]! + cpu[1]!, 5);
  expect(cpu[2]).toBeGreaterThanOrEqual(of(theirs, 'process_cpu_seconds_total'));
  const { values } = ours.get('nodejs_version_info')!;
  expect([...values.keys()]).toEqual([...theirs.get('nodejs_version_info')!.values.keys()]);
  if (isBun) return;
  const collections = ours.get('nodejs_gc_duration_seconds')!.values;
  expect(collections.get('nodejs_gc_duration_seconds_count{kind="major"}')).toBeGreaterThanOrEqual(
    1,
  );
  expect(of(ours, 'nodejs_eventloop_lag_min_seconds')).toBeLessThanOrEqual(
    of(ours, 'nodejs_eventloop_lag_max_seconds'),
  );
});

if (isBun) console.log('skipped on Bun: it does not report garbage collections');
test.skipIf(isBun)(
  'garbage collections are observed until ten minutes after a reading',
  async () => {
    const clock = new ManualClock();
    const timers = new TimerManager({ clock });
    closers.push(() => timers.cleanup());
    const metrics = production({ timers });
    const read = async (): Promise<number> => {
      const families = familiesOf(await metrics.toPrometheus({ naming: 'prom' }));
      const { values } = families.get('nodejs_gc_duration_seconds')!;
      return values.get('nodejs_gc_duration_seconds_count{kind="major"}')!;
    };
    const collect = async (): Promise<void> => {
      collectGarbage();
      await nextTurn();
      await nextTurn();
    };
    expect(await read()).toBe(0);
    await collect();
    const observed = await read();
    expect(observed).toBeGreaterThanOrEqual(1);
    clock.advance(602_000);
    await collect();
    expect(await read()).toBe(observed);
    await collect();
    expect(await read()).toBeGreaterThan(observed);
  },
);

const promtool = spawnSync('promtool', ['--version'], { stdio: 'ignore' }).status === 0;
if (!promtool) console.log('skipped: promtool is not here to read the exposition');

/** Returns the complaints of `promtool check metrics`. */
function complaints(text: string): string[] {
  const { stdout, stderr } = spawnSync('promtool', ['check', 'metrics'], {
    input: text,
    encoding: 'utf8',
  });
  return (stdout + stderr).split('\n').filter((line) => line !== '');
}

describe('merge', () => {
  test.each(['before', 'during'])(
    'goes on without a late registry whose exposition is asked for %s the end of the timers',
    async (when) => {
      const clock = new ManualClock();
      const timers = new TimerManager({ clock });
      const metrics = new ProductionMetrics({ timers });
      metrics.merge({ getMetricsAsJSON: () => new Promise(() => undefined) }, { timeoutMs: 50 });
      const early = when === 'during' ? metrics.toPrometheus() : undefined;
      timers.close();
      const text = early ?? metrics.toPrometheus();
      clock.advance(50);
      expect(await text).toContain('portcullis_merge_failures_total{reason="timeout"} 1\n');
    },
  );

  test('takes labels in any order for one series, and histograms below 0 without their sum', async () => {
    const metrics = new ProductionMetrics();
    const [a, b] = [
      { labels: { a: 1, b: 2 }, value: 1 },
      { labels: { b: 2, a: 1 }, value: 1 },
    ];
    const histogram = (name: string, le: number, sum: number): object => ({
      name,
      help: 'h',
      type: 'histogram',
      values: [
        { labels: { le }, value: 1, metricName: `${name}_bucket` },
        { labels: { le: '+Inf' }, value: 1, metricName: `${name}_bucket` },
        { labels: {}, value: sum, metricName: `${name}_sum` },
        { labels: {}, value: 1, metricName: `${name}_count` },
      ],
    });
    metrics.merge({
      getMetricsAsJSON: () => [
        { name: 'twice', help: 'h', type: 'gauge', values: [a, b] },
        { name: '_total', help: 'h', type: 'counter', values: [{ labels: {}, value: 1 }] },
        histogram('below', -1, 5),
        histogram('fell', 1, -5),
        histogram('above', 1, 5),
      ],
    });
    const open = await metrics.toOpenMetrics();
    expect(open).not.toMatch(/^(?:twice|_total)/m);
    expect(open).toContain('portcullis_merge_failures_total{reason="invalid"} 2\n');
    expect(open.match(/^\w+_(?:sum|count) \d+$/gm)).toEqual(['above_sum 5', 'above_count 1']);
    expect(await metrics.toPrometheus()).toMatch(/^below_sum 5$/m);
    metrics.close();
  });

  type Series = [suffix: string, labels: object | undefined, value: number];
  const [one, five, all]: Series[] = [
    ['_bucket', { le: 1 }, 1],
    ['_bucket', { le: '5' }, 2],
    ['_bucket', { le: '+Inf' }, 3],
  ];
  const sums: Series[] = [
    ['_sum', {}, 9],
    ['_count', {}, 3],
  ];
  const merged = (type: string, series: readonly Series[]): ProductionMetrics => {
    const values = series.map(([suffix, labels, value]) => ({
      metricName: `shop_time${suffix}`,
      labels,
      value,
    }));
    const metrics = new ProductionMetrics();
    metrics.merge({ getMetricsAsJSON: () => [{ name: 'shop_time', help: 'h', type, values }] });
    return metrics;
  };

  test.each<[string, string, Series[]]>([
    ['has no bucket for all values', 'histogram', [one!, five!, ...sums]],
    ['has no _count', 'histogram', [one!, all!, sums[0]!]],
    ['has no _sum', 'histogram', [one!, all!, sums[1]!]],
    ['has another _count', 'histogram', [one!, all!, sums[0]!, ['_count', {}, 4]]],
    ['has counts that fall', 'histogram', [['_bucket', { le: 1 }, 4], all!, ...sums]],
    ['has a count that is no number', 'histogram', [['_bucket', { le: 1 }, NaN], all!, ...sums]],
    ['has bounds that fall', 'histogram', [five!, one!, all!, ...sums]],
    ['has a bound that is no number', 'histogram', [['_bucket', { le: 'x' }, 1], all!, ...sums]],
    ['has a bucket without a bound', 'histogram', [['_bucket', {}, 1], all!, ...sums]],
    ['has a series without a suffix', 'histogram', [['', {}, 1], all!, ...sums]],
    [
      'is split by another',
      'histogram',
      [one!, ['_bucket', { le: '+Inf', a: 1 }, 1], all!, ...sums],
    ],
    [
      'is split by another',
      'summary',
      [['', { quantile: 0.5 }, 1], ['_sum', { a: 1 }, 1], ...sums],
    ],
    ['has a quantile that is no number', 'summary', [['', { quantile: 'x' }, 1], ...sums]],
  ])('leaves out a family that %s: a %s', async (_, type, series) => {
    const metrics = merged(type, series);
    for (const text of [await metrics.toOpenMetrics(), await metrics.toPrometheus()])
      expect(text).not.toContain('shop_time');
    expect(await metrics.toPrometheus()).toContain(
      'portcullis_merge_failures_total{reason="invalid"} 3\n',
    );
    metrics.close();
  });

  test('takes bounds as numbers and as text, and series of several labels', async () => {
    const labelled = [one!, five!, all!, ...sums].map(([suffix, labels, value]): Series => [
      suffix,
      { ...labels, a: 1 },
      value,
    ]);
    const metrics = merged('histogram', [one!, five!, all!, ...sums, ...labelled]);
    const bounds = (text: string): unknown => text.match(/(?<=^shop_time_bucket\{le=")[^"]+/gm);
    const twice = (list: string[]): string[] => [...list, ...list];
    expect(bounds(await metrics.toOpenMetrics())).toEqual(twice(['1.0', '5.0', '+Inf']));
    expect(bounds(await metrics.toPrometheus())).toEqual(twice(['1', '5', '+Inf']));
    metrics.close();
  });

  function registry(): Registry {
    const register = new Registry();
    const orders = new Counter({
      name: 'shop_orders_total',
      help: 'Orders',
      labelNames: ['kind'],
      registers: [register],
    });
    orders.inc({ kind: 'a "b" \\ c\nd' }, 3);
    new Gauge({ name: 'shop_depth', help: 'Depth\nof a queue', registers: [register] }).set(-1.5);
    const sizes = new Histogram({
      name: 'shop_size_bytes',
      help: 'Sizes',
      buckets: [1, 2.5],
      registers: [register],
    });
    for (const size of [0.5, 2, 9]) sizes.observe(size);
    return register;
  }

  test('shows all series of a registry of prom-client as it shows them itself', async () => {
    const register = registry();
    const metrics = production();
    metrics.merge(register);
    metrics.merge(register);
    const ours = (await metrics.toPrometheus()).split('\n');
    const theirs = (await register.metrics()).split('\n').filter((line) => line !== '');
    expect(theirs.length).toBeGreaterThan(10);
    for (const line of theirs) expect(ours.filter((one) => one === line)).toEqual([line]);
    if (promtool) expect(complaints(await metrics.toPrometheus({ naming: 'otel' }))).toEqual([]);
  });

  test('writes OpenMetrics: counters without `_total` in the head, bounds as floats', async () => {
    const metrics = production();
    metrics.merge(registry());
    const text = await metrics.toOpenMetrics();
    expect(text).toContain('# TYPE shop_orders counter\n');
    expect(text).toContain(String.raw`shop_orders_total{kind="a \"b\" \\ c\nd"} 3`);
    expect(text).toContain('shop_size_bytes_bucket{le="1.0"} 1\n');
    expect(text.endsWith('# EOF\n')).toBe(true);
  });

  test('leaves out families whose names are in use, and counts them', async () => {
    const register = new Registry();
    for (const name of ['mine_total', 'process_open_fds', 'portcullis_new', 'free', 'hist_sum'])
      new Gauge({ name, help: 'help', registers: [register] }).set(7);
    const metrics = production();
    metrics.counter('mine', 'help').inc();
    metrics.histogram('hist', 'help');
    metrics.merge(register);
    // The second registry of the same names loses to the first.
    metrics.merge({ getMetricsAsJSON: () => register.getMetricsAsJSON() });
    const text = await metrics.toPrometheus();
    expect(text).toContain('\nfree 7\n');
    expect(text.match(/^free /gm)).toHaveLength(1);
    expect(text).toContain('\nmine_total 1\n');
    expect(text).not.toContain('mine_total 7');
    expect(text).not.toContain('portcullis_new');
    expect(text).toContain('portcullis_merge_failures_total{reason="conflict"} 9\n');
  });

  test('goes without a registry that is late, and asks it only once meanwhile', async () => {
    const clock = new ManualClock();
    const timers = new TimerManager({ clock });
    closers.push(() => timers.cleanup());
    const metrics = production({ timers });
    let asked = 0;
    let answer: (families: unknown) => void = () => undefined;
    metrics.merge(
      {
        getMetricsAsJSON() {
          asked++;
          return new Promise((resolve) => (answer = resolve));
        },
      },
      { timeoutMs: 500 },
    );
    const first = metrics.toPrometheus();
    clock.advance(500);
    expect(await first).toContain('portcullis_merge_failures_total{reason="timeout"} 1\n');
    expect(await metrics.toPrometheus()).toContain('{reason="timeout"} 2\n');
    expect(asked).toBe(1);
    answer([]);
    await nextTurn();
    const second = metrics.toPrometheus();
    answer([{ name: 'back', help: 'h', type: 'gauge', values: [{ value: 1, labels: {} }] }]);
    expect(await second).toContain('\nback 1\n');
    expect(asked).toBe(2);
  });

  test('bears registries that throw, reject or report junk', async () => {
    const good = {
      name: 'good',
      help: 'h',
      type: 'untyped',
      values: [{ value: Number.NaN, labels: { a: '\ud800' } }],
    };
    const junk: readonly unknown[] = [
      null,
      7,
      { name: 'bad name', help: 'h', type: 'gauge', values: [] },
      { name: 'x', help: 7, type: 'gauge', values: [] },
      { name: 'x', help: 'h', type: 'gauge', values: [null] },
      { name: 'x', help: 'h', type: 'gauge', values: [{ value: '1', labels: {} }] },
      { name: 'x', help: 'h', type: 'gauge', values: [{ value: 1, labels: { 'a"b': 1 } }] },
      { name: 'x', help: 'h', type: 'gauge', values: [{ value: 1, labels: {}, metricName: 'y' }] },
      { name: 'x', help: 'h', type: 'gauge', values: [{ value: 1 }, { value: 2 }] },
      {
        name: 'x',
        help: 'h',
        get type(): string {
          throw new Error('no');
        },
        values: [],
      },
      good,
    ];
    const metrics = production();
    metrics.merge({ getMetricsAsJSON: () => Promise.reject(new Error('secret')) });
    metrics.merge({
      getMetricsAsJSON() {
        throw new Error('secret');
      },
    });
    metrics.merge({ getMetricsAsJSON: () => junk });
    metrics.merge({ getMetricsAsJSON: () => ({ length: 1 }) });
    const many = {
      name: 'many',
      help: 'h',
      type: 'gauge',
      values: [
        { value: 1, labels: { a: 1 } },
        { value: 1, labels: { a: 2 } },
      ],
    };
    metrics.merge({ getMetricsAsJSON: () => [many] }, { maxSeries: 1 });
    const text = await metrics.toPrometheus();
    expect(text).toContain('# TYPE good untyped\ngood{a="\ufffd"} NaN\n');
    expect(text).not.toMatch(/^(?:x|many)\b/m);
    expect(text).not.toContain('secret');
    const failures = await metrics.toPrometheus();
    expect(failures).toContain('portcullis_merge_failures_total{reason="error"} 4\n');
    expect(failures).toContain('portcullis_merge_failures_total{reason="invalid"} 22\n');
    expect(failures).toContain('portcullis_merge_failures_total{reason="limit"} 2\n');
  });

  test.each<[string, string, Series[]]>([
    ['counts below 0', 'counter', [['', {}, -1]]],
    ['a count that is no number', 'counter', [['', {}, Number.NaN]]],
    [
      'a fraction as a count',
      'histogram',
      [
        ['_bucket', { le: '+Inf' }, 1.5],
        ['_sum', {}, 1],
        ['_count', {}, 1.5],
      ],
    ],
    [
      'a count without end',
      'histogram',
      [
        ['_bucket', { le: '+Inf' }, Infinity],
        ['_sum', {}, 1],
        ['_count', {}, Infinity],
      ],
    ],
    [
      'a sum that is no number',
      'histogram',
      [
        ['_bucket', { le: '+Inf' }, 1],
        ['_sum', {}, Number.NaN],
        ['_count', {}, 1],
      ],
    ],
    [
      'a fraction as a count',
      'summary',
      [
        ['_sum', {}, 1],
        ['_count', {}, 0.5],
      ],
    ],
    [
      'a count below 0',
      'summary',
      [
        ['_sum', {}, 1],
        ['_count', {}, -1],
      ],
    ],
    ['a quantile above 1', 'summary', [['', { quantile: 5 }, 1]]],
    ['no quantile', 'summary', [['', {}, 1]]],
  ])('leaves out of OpenMetrics, which forbids it, %s: a %s', async (_, type, series) => {
    const metrics = merged(type, series);
    expect(await metrics.toOpenMetrics()).not.toContain('shop_time');
    expect(await metrics.toPrometheus()).toContain('\nshop_time');
    metrics.close();
  });

  test('shows a summary of values below 0 in OpenMetrics without them', async () => {
    const register = new Registry();
    const drift = new Summary({
      name: 'drift_seconds',
      help: 'h',
      percentiles: [0.01, 0.99],
      registers: [register],
    });
    for (const value of [-5, 2]) drift.observe(value);
    const metrics = production();
    metrics.merge(register);
    expect((await metrics.toOpenMetrics()).match(/^drift.*$/gm)).toEqual([
      'drift_seconds{quantile="0.99"} 2',
      'drift_seconds_count 2',
    ]);
    expect((await metrics.toPrometheus()).match(/^drift.*$/gm)).toHaveLength(4);
  });

  test('refuses what is no registry, and wrong options', () => {
    const metrics = production();
    for (const [registry, options, code, field] of [
      [null, {}, 'ERR_INVALID_ARG_TYPE', 'registry'],
      [{}, {}, 'ERR_INVALID_ARG_TYPE', 'registry'],
      [new Registry(), { timeoutMs: 0 }, 'ERR_OUT_OF_RANGE', 'timeoutMs'],
      [new Registry(), { maxSeries: 1.5 }, 'ERR_OUT_OF_RANGE', 'maxSeries'],
      [new Registry(), { timeout: 1 }, 'ERR_UNKNOWN_OPTION', 'timeout'],
      [new Registry(), null, 'ERR_INVALID_ARG_TYPE', 'options'],
    ] as const)
      expect(() => metrics.merge(registry as never, options as never)).toThrow(
        expect.objectContaining({ code, field }),
      );
  });
});
