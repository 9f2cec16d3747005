// Measures the application's own metrics against those of prom-client: counting, looking up a
// series, rendering.
import promClient from 'prom-client';
import { ProductionMetrics, TimerManager } from '../dist/index.js';
import { compare, compareAsync, machine, timed, verdict } from './compare.mjs';

const CALLS = 500_000;
const SERIES = 10_000;
const timers = new TimerManager();
const metrics = new ProductionMetrics({ timers });
const registry = new promClient.Registry();
const options = { help: 'help', labelNames: ['method', 'kind'], registers: [registry] };
const buckets = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10];
const kinds = Array.from({ length: 8 }, (_, at) => `kind ${at}`);
const durations = Float64Array.from(
  { length: 4096 },
  (_, at) => 0.0005 - 0.02 * Math.log(1 - ((at * 2654435761) % 2 ** 32) / 2 ** 32),
);
console.log(machine);

const theirs = new promClient.Counter({ name: 'events_total', ...options });
const ours = metrics.counter('events_total', 'help', options.labelNames);
const times = (ratio) => `the same, times faster: ${ratio}`;
const faster = (name, [their, our], want) => verdict(times(name), their / our, 'x', want);

const theirSeries = kinds.map((kind) => theirs.labels('GET', kind));
const ourSeries = kinds.map((kind) => ours.labels('GET', kind));
faster(
  'inc',
  compare('inc() of a series that is kept', [
    ['prom-client', () => timed(CALLS, (i) => theirSeries[i & 7].inc())],
    ['portcullis', () => timed(CALLS, (i) => ourSeries[i & 7].inc())],
  ]),
  { least: 5 },
);
faster(
  'lookup',
  compare('labels(a, b).inc()', [
    ['prom-client', () => timed(CALLS, (i) => theirs.labels('GET', kinds[i & 7]).inc())],
    ['portcullis', () => timed(CALLS, (i) => ours.labels('GET', kinds[i & 7]).inc())],
  ]),
  { least: 2 },
);

const theirTimes = new promClient.Histogram({ name: 'time_seconds', ...options, buckets });
const ourTimes = metrics.histogram('time_seconds', 'help', options.labelNames, { buckets });
const theirTime = theirTimes.labels('GET', 'a');
const ourTime = ourTimes.labels('GET', 'a');
faster(
  'observe',
  compare('observe() of a series that is kept, 11 buckets', [
    ['prom-client', () => timed(CALLS, (i) => theirTime.observe(durations[i & 4095]))],
    ['portcullis', () => timed(CALLS, (i) => ourTime.observe(durations[i & 4095]))],
  ]),
  { least: 5 },
);

const manyTheirs = new promClient.Counter({ name: 'many_total', ...options });
const manyOurs = metrics.counter('many_total', 'help', options.labelNames, { maxSeries: SERIES });
for (let at = 0; at < SERIES; at++) {
  manyTheirs.labels('GET', `kind ${at}`).inc(at);
  manyOurs.labels('GET', `kind ${at}`).inc(at);
}
const elapsed = async (run) => {
  const start = performance.now();
  await run();
  return performance.now() - start;
};
const rendered = await compareAsync(
  `text of ${SERIES} series`,
  [
    ['prom-client', () => elapsed(() => registry.metrics())],
    ['portcullis', () => elapsed(() => metrics.toPrometheus({ naming: 'prom' }))],
    [
      'portcullis, of it on the JS thread',
      async () => {
        const start = performance.now();
        const text = metrics.toPrometheus({ naming: 'prom' });
        const onThread = performance.now() - start;
        await text;
        return onThread;
      },
    ],
  ],
  { unit: 'ms' },
);
faster('text', rendered, { least: 2 });

// Garbage collections are observed between two expositions of prom-client's names.
const garbage = () =>
  timed(20, () => {
    for (let at = 0; at < 50_000; at++) durations.slice(0, 8);
  }) / 50_000;
const [, unobservedNs, observedNs] = await compareAsync(
  'an allocation with its share of garbage collections',
  [
    ['warm', garbage],
    ['not observed', garbage],
    [
      'observed',
      async () => {
        const observing = new ProductionMetrics({ timers });
        await observing.toPrometheus({ naming: 'prom' });
        const cost = garbage();
        // The entries of this round are delivered before the next.
        await new Promise((resolve) => setTimeout(resolve, 10));
        observing.close();
        return cost;
      },
    ],
  ],
);
verdict('observed, times slower', observedNs / unobservedNs, 'x', { most: 1.1 });

const plain = new ProductionMetrics({ timers });
await compareAsync(
  'text without requests, on the JS thread',
  ['otel', 'prom'].map((naming) => [
    naming,
    async () => {
      const start = performance.now();
      const text = plain.toPrometheus({ naming });
      const onThread = performance.now() - start;
      await text;
      return onThread * 1000;
    },
  ]),
  { unit: 'µs', rounds: 101 },
);
timers.close();
process.exit();
