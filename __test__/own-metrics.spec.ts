import { spawnSync } from 'node:child_process';
import { Registry, Counter as TheirCounter, Histogram as TheirHistogram } from 'prom-client';
import { afterEach, describe, expect, test } from 'vitest';
import { ProductionMetrics } from '../dist/index.js';

const all: ProductionMetrics[] = [];
afterEach(() => {
  for (const metrics of all.splice(0)) metrics.close();
});

function production(): ProductionMetrics {
  const metrics = new ProductionMetrics();
  all.push(metrics);
  return metrics;
}

/** Returns the lines of families whose names begin with a prefix. */
async function linesOf(
  metrics: ProductionMetrics,
  prefix: string,
  isOpen = false,
): Promise<string[]> {
  const text = await (isOpen ? metrics.toOpenMetrics() : metrics.toPrometheus());
  return text.split('\n').filter((line) => line.replace(/^# \w+ /, '').startsWith(prefix));
}

describe('counters, gauges and histograms', () => {
  test('are shown in both formats', async () => {
    const metrics = production();
    const orders = metrics.counter('shop_orders', 'Orders, "all" \\ of them\nhere', [
      'kind',
      'paid',
    ]);
    orders.labels('a', true).inc();
    orders.labels({ paid: true, kind: 'a' }).inc(2.5);
    orders.labels('b"\\\n\u0000', 7).inc();
    metrics.gauge('shop_depth', 'Depth').set(-2);
    const sizes = metrics.histogram('shop_sizes', 'Sizes', ['of'], { buckets: [1, 2.5] });
    for (const size of [1, 1.5, 2.5, 3]) sizes.labels('x').observe(size);
    expect(await linesOf(metrics, 'shop_')).toEqual([
      '# HELP shop_orders_total Orders, "all" \\\\ of them\\nhere',
      '# TYPE shop_orders_total counter',
      'shop_orders_total{kind="a",paid="true"} 3.5',
      'shop_orders_total{kind="b\\"\\\\??",paid="7"} 1',
      '# HELP shop_depth Depth',
      '# TYPE shop_depth gauge',
      'shop_depth -2',
      '# HELP shop_sizes Sizes',
      '# TYPE shop_sizes histogram',
      'shop_sizes_bucket{of="x",le="1"} 1',
      'shop_sizes_bucket{of="x",le="2.5"} 3',
      'shop_sizes_bucket{of="x",le="+Inf"} 4',
      'shop_sizes_sum{of="x"} 8',
      'shop_sizes_count{of="x"} 4',
    ]);
    const open = await linesOf(metrics, 'shop_', true);
    expect(open).toContain('# HELP shop_orders Orders, \\"all\\" \\\\ of them\\nhere');
    expect(open).toContain('# TYPE shop_orders counter');
    expect(open).toContain('shop_sizes_bucket{of="x",le="1.0"} 1');
  });

  test('agree with prom-client over random counts', async () => {
    const metrics = production();
    const register = new Registry();
    const options = { help: 'h', labelNames: ['a', 'b'], registers: [register] };
    const theirs = new TheirCounter({ name: 'x_total', ...options });
    const theirTimes = new TheirHistogram({ name: 'y', ...options, buckets: [0.1, 0.5, 1] });
    const ours = metrics.counter('x_total', 'h', ['a', 'b']);
    const ourTimes = metrics.histogram('y', 'h', ['a', 'b'], { buckets: [0.1, 0.5, 1] });
    let state = 7;
    const next = (): number => (state = (state * 48_271) % 2_147_483_647) / 2_147_483_647;
    for (let i = 0; i < 20_000; i++) {
      // Beyond one chunk of series; some values are those of the bounds.
      const labels = [String(Math.floor(next() * 20)), String(Math.floor(next() * 10))] as const;
      const value = Math.round(next() * 12) / 10;
      theirs.labels(...labels).inc(value);
      ours.labels(...labels).inc(value);
      theirTimes.labels(...labels).observe(value);
      ourTimes.labels(...labels).observe(value);
    }
    const parsed = (lines: readonly string[]): Map<string, number> =>
      new Map(
        lines
          .filter((line) => /^[xy]/.test(line))
          .map((line) => {
            const [, name = '', labels = '', value] = /^(\w+)\{(.*)\} (\S+)$/.exec(line) ?? [];
            return [`${name}{${labels.split(',').toSorted().join(',')}}`, Number(value)];
          }),
      );
    const mine = parsed([...(await linesOf(metrics, 'x_')), ...(await linesOf(metrics, 'y'))]);
    const expected = parsed((await register.metrics()).split('\n'));
    expect(mine.size).toBe(200 * 7);
    expect(mine.size).toBe(expected.size);
    for (const [name, value] of expected) expect(mine.get(name), name).toBeCloseTo(value, 6);
  });

  test('beyond `maxSeries`, all others share one series named `other`', async () => {
    const metrics = production();
    const counter = metrics.counter('n', 'h', ['a', 'b'], { maxSeries: 3 });
    for (let i = 0; i < 100_000; i++) counter.labels(`value ${i}`, 'b').inc();
    expect(await linesOf(metrics, 'n_total{')).toEqual([
      'n_total{a="value 0",b="b"} 1',
      'n_total{a="value 1",b="b"} 1',
      'n_total{a="value 2",b="b"} 1',
      'n_total{a="other",b="other"} 99997',
    ]);
    counter.labels('value 1', 'b').inc();
    expect(await linesOf(metrics, 'n_total{a="value 1"')).toEqual(['n_total{a="value 1",b="b"} 2']);
  });

  test('an application may use the value `other` itself: it is one series', async () => {
    const metrics = production();
    const counter = metrics.counter('n', 'h', ['a'], { maxSeries: 2 });
    for (const value of ['other', 'x', 'y', 'z', 'other']) counter.labels(value).inc();
    expect(await linesOf(metrics, 'n_total{')).toEqual([
      'n_total{a="other"} 4',
      'n_total{a="x"} 1',
    ]);
  });

  test('values of any form have one series: cut, cleaned, and text like numbers', async () => {
    const metrics = production();
    const counter = metrics.counter('n', 'h', ['a']);
    const long = 'x'.repeat(5000);
    for (const value of [long, `${long}y`, 5, '5', '\ud800', '\ufffd', '', 'a\u0000b'])
      counter.labels(value).inc();
    expect(await linesOf(metrics, 'n_total{')).toEqual([
      `n_total{a="${'x'.repeat(200)}"} 2`,
      'n_total{a="5"} 2',
      'n_total{a="\ufffd"} 2',
      'n_total{a=""} 1',
      'n_total{a="a?b"} 1',
    ]);
  });

  test('series are the same object at each lookup', () => {
    const counter = production().counter('n', 'h', ['a']);
    expect(counter.labels('a')).toBe(counter.labels({ a: 'a' }));
    expect(counter.labels('a')).not.toBe(counter.labels('b'));
  });

  test.each([
    ['bounds', [-1, 1], 5],
    ['values', [1, 10], -5],
  ])('histograms with %s below 0 have no sum in OpenMetrics', async (_, buckets, value) => {
    const metrics = production();
    const celsius = metrics.histogram('celsius', 'h', ['of'], { buckets });
    celsius.labels('a').observe(2);
    metrics.gauge('last', 'h').set(7);
    // The lines of the first series are written before the value.
    await metrics.toOpenMetrics();
    celsius.labels('b').observe(value);
    const open = await linesOf(metrics, 'celsius', true);
    expect(open.slice(0, 2)).toEqual(['# HELP celsius h', '# TYPE celsius histogram']);
    expect(open.slice(2).map((line) => line.split('{')[0])).toEqual(
      Array.from({ length: 6 }, () => 'celsius_bucket'),
    );
    expect((await linesOf(metrics, 'last ', true)).at(-1)).toBe('last 7');
    // As prom-client writes it.
    const lines = await linesOf(metrics, 'celsius_', false);
    expect(lines).toContain(`celsius_sum{of="b"} ${value}`);
    expect(lines).toContain('celsius_count{of="b"} 1');
    const [produced] = (await metrics.openTelemetry().collect()).resourceMetrics.scopeMetrics;
    const family = produced!.metrics.find(({ descriptor }) => descriptor.name === 'celsius');
    expect(family?.dataPoints.map(({ value: point }) => Object.keys(point))).toEqual([
      ['buckets', 'count'],
      ['buckets', 'count'],
    ]);
  });

  test('special values are written as both formats spell them', async () => {
    const metrics = production();
    const gauge = metrics.gauge('g', 'h', ['a']);
    for (const value of [Infinity, -Infinity, Number.NaN, 1e300, 5e-324])
      gauge.labels(String(value)).set(value);
    const values = (await linesOf(metrics, 'g{', true)).map((line) => line.split(' ').at(-1));
    expect(values.slice(0, 3)).toEqual(['+Inf', '-Inf', 'NaN']);
    expect(values.slice(3).map(Number)).toEqual([1e300, 5e-324]);
  });
});

describe('bad input', () => {
  test('of a definition is refused by its field', () => {
    const metrics = production();
    metrics.counter('taken_total', 'h');
    metrics.histogram('hist', 'h');
    const cases: readonly [(metrics: ProductionMetrics) => unknown, string, string][] = [
      [(m) => m.counter(7 as never, 'h'), 'ERR_INVALID_ARG_TYPE', 'name'],
      // The name of the family would be empty.
      [(m) => m.counter('_total', 'h'), 'ERR_OUT_OF_RANGE', 'name'],
      ...['', '1a', 'a-b', 'a b', 'ä', 'a\n', 'x'.repeat(201)].map(
        (name): [(m: ProductionMetrics) => unknown, string, string] => [
          (m) => m.gauge(name, 'h'),
          'ERR_OUT_OF_RANGE',
          'name',
        ],
      ),
      [(m) => m.gauge('a', 7 as never), 'ERR_INVALID_ARG_TYPE', 'help'],
      [(m) => m.gauge('a', ''), 'ERR_OUT_OF_RANGE', 'help'],
      [(m) => m.gauge('a', 'h', 'b' as never), 'ERR_INVALID_ARG_TYPE', 'labelNames'],
      ...[
        ['__a'],
        ['a-b'],
        ['a', 'a'],
        [''],
        ['a:b'],
        Array.from({ length: 21 }, (_, i) => `l${i}`),
      ].map((names): [(m: ProductionMetrics) => unknown, string, string] => [
        (m) => m.gauge('a', 'h', names),
        'ERR_OUT_OF_RANGE',
        'labelNames',
      ]),
      [(m) => m.histogram('a', 'h', ['le']), 'ERR_OUT_OF_RANGE', 'labelNames'],
      [(m) => m.gauge('a', 'h', [], null as never), 'ERR_INVALID_ARG_TYPE', 'options'],
      [(m) => m.gauge('a', 'h', [], { maxSeries: 0 }), 'ERR_OUT_OF_RANGE', 'maxSeries'],
      [(m) => m.gauge('a', 'h', [], { buckets: [1] } as never), 'ERR_UNKNOWN_OPTION', 'buckets'],
      ...[[], [1, 1], [2, 1], [Infinity], [Number.NaN], ['1']].map(
        (buckets): [(m: ProductionMetrics) => unknown, string, string] => [
          (m) => m.histogram('a', 'h', [], { buckets: buckets as never }),
          'ERR_OUT_OF_RANGE',
          'buckets',
        ],
      ),
      [
        (m) => m.histogram('a', 'h', [], { buckets: 1 as never }),
        'ERR_INVALID_ARG_TYPE',
        'buckets',
      ],
      ...[
        'taken',
        'hist_sum',
        'hist',
        'process_open_fds',
        'nodejs_gc_duration_seconds',
        'http_requests',
        'portcullis_x',
        'process_cpu_seconds',
      ].map((name): [(m: ProductionMetrics) => unknown, string, string] => [
        (m) => m.counter(name, 'h'),
        'ERR_DUPLICATE_NAME',
        'name',
      ]),
      [(m) => m.histogram('taken', 'h'), 'ERR_DUPLICATE_NAME', 'name'],
    ];
    for (const [define, code, field] of cases)
      expect(() => define(metrics), String(define)).toThrow(
        expect.objectContaining({ code, field }),
      );
    // A refused definition takes no name.
    metrics.gauge('a', 'h');
  });

  test('of a count is refused, and nothing is counted', async () => {
    const metrics = production();
    const counter = metrics.counter('c', 'h', ['a', 'b']);
    const plain = metrics.counter('p', 'h');
    const gauge = metrics.gauge('g', 'h');
    const histogram = metrics.histogram('hh', 'h');
    for (const call of [
      () => plain.inc(-1),
      () => plain.inc(Number.NaN),
      () => plain.inc(Infinity),
      () => plain.inc('1' as never),
      () => plain.inc(null as never),
      () => gauge.set('1' as never),
      () => gauge.inc({} as never),
      () => gauge.dec(1n as never),
      () => histogram.observe(Number.NaN),
      () => histogram.observe(-Infinity),
      () => histogram.observe('1' as never),
      () => counter.inc(),
      () => counter.labels('a'),
      () => counter.labels('a', 'b', 'c'),
      () => counter.labels('a', null as never),
      () => counter.labels({ a: 'a', b: Symbol('b') as never }),
      () => counter.labels({ a: 'a', c: 'c' }),
      () => counter.labels({ a: 'a' }),
      () => counter.labels(null as never, 'b'),
      () => plain.labels('a'),
    ])
      expect(call, String(call)).toThrow(
        expect.objectContaining({
          code: expect.stringMatching(/^ERR_(?:INVALID_ARG_TYPE|OUT_OF_RANGE)$/),
        }),
      );
    expect(() => counter.labels({ a: 'a' })).toThrow(
      expect.objectContaining({ code: 'ERR_OUT_OF_RANGE', field: 'labels.b' }),
    );
    // An inherited property is no value of a label.
    expect(() => metrics.gauge('of', 'h', ['constructor']).labels({})).toThrow(
      expect.objectContaining({ code: 'ERR_OUT_OF_RANGE', field: 'labels.constructor' }),
    );
    expect(await linesOf(metrics, 'c_total{')).toEqual([]);
    expect((await linesOf(metrics, 'p_total ')).at(-1)).toBe('p_total 0');
    expect((await linesOf(metrics, 'g ')).at(-1)).toBe('g 0');
    expect(await linesOf(metrics, 'hh_count')).toEqual(['hh_count 0']);
  });
});

const promtool = spawnSync('promtool', ['--version'], { stdio: 'ignore' }).status === 0;
if (!promtool) console.log('skipped: promtool is not here to read the exposition');
test.skipIf(!promtool)('pass promtool check metrics', async () => {
  const metrics = production();
  metrics.counter('shop_orders_total', 'Orders "and" \\ more\nlines', ['a']).labels('"\\\n').inc();
  metrics.histogram('shop_time_seconds', 'Time', ['a']).labels('\u{1f6aa}').observe(1);
  metrics.gauge('shop_depth', 'Depth').set(Number.NaN);
  const { stdout, stderr } = spawnSync('promtool', ['check', 'metrics'], {
    input: await metrics.toPrometheus({ naming: 'otel' }),
    encoding: 'utf8',
  });
  expect(stdout + stderr).toBe('');
});
