// Measures recording and reporting. Recording is compared with prom-client's histogram with three
// labels.
import { setTimeout } from 'node:timers/promises';
import promClient from 'prom-client';
import { ProductionMetrics, ResourceMonitor, TimerManager } from '../dist/index.js';
import {
  compare,
  compareAsync,
  machine,
  median,
  report,
  threadCpuMs,
  timed,
  verdict,
} from './compare.mjs';

const CALLS = 500_000;
const timers = new TimerManager();
console.log(`${machine}`);

// The requests of a server: eight series, with varying durations.
const series = Array.from({ length: 8 }, (_, at) => ({
  route: `/users/:id/${at}`,
  method: at % 2 === 0 ? 'GET' : 'POST',
  status: at === 7 ? 500 : 200,
}));
const labels = series.map(({ route, method, status }) => ({
  route,
  method,
  status_code: String(status),
}));
const durations = Float64Array.from(
  { length: 4096 },
  (_, at) => 0.5 - 20 * Math.log(1 - ((at * 2654435761) % 2 ** 32) / 2 ** 32),
);
const histogram = new promClient.Histogram({
  name: 'http_request_duration_seconds',
  help: 'duration',
  labelNames: ['method', 'route', 'status_code'],
  buckets: [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10],
});
const metrics = new ProductionMetrics({ timers });
const [observeNs, recordNs] = compare('record a request: route, method, status', [
  [
    'prom-client observe, 3 labels',
    () => timed(CALLS, (i) => histogram.observe(labels[i & 7], durations[i & 4095] / 1000)),
  ],
  [
    'portcullis recordRequest',
    () => timed(CALLS, (i) => metrics.recordRequest(durations[i & 4095], series[i & 7])),
  ],
]);
verdict('recordRequest', recordNs, 'ns', { most: 25, aim: 12 });
verdict('the same, times faster', observeNs / recordNs, 'x', { least: 25 });
const single = series[0];
const [observeOneNs, recordOneNs] = compare('the same, always of one route', [
  [
    'prom-client observe, 3 labels',
    () => timed(CALLS, (i) => histogram.observe(labels[0], durations[i & 4095] / 1000)),
  ],
  [
    'portcullis recordRequest',
    () => timed(CALLS, (i) => metrics.recordRequest(durations[i & 4095], single)),
  ],
]);
verdict('recordRequest, one route', recordOneNs, 'ns', { most: 25, aim: 12 });
verdict('the same, times faster', observeOneNs / recordOneNs, 'x', { least: 25 });

const monitor = new ResourceMonitor({}, { timers, log: false });
const watched = new ProductionMetrics({ timers, monitor });
const [, byHandNs, byAdapterNs] = compare(
  'whole cost of a request: two clock readings, in flight, breadcrumb, histogram',
  [
    [
      'prom-client startTimer, 3 labels',
      () =>
        timed(CALLS, (i) => {
          const end = histogram.startTimer();
          end(labels[i & 7]);
        }),
    ],
    [
      'portcullis startRequest + end',
      () =>
        timed(CALLS, (i) => {
          const request = watched.startRequest(series[i & 7]);
          request.end({ status: 200 });
        }),
    ],
    [
      'portcullis, as the adapters do it',
      () =>
        timed(CALLS, (i) => {
          const { route, method } = series[i & 7];
          const startMs = watched.begin(0, true);
          watched.finish(startMs, watched.routeFound(route, method, true), 200, false, true);
        }),
    ],
    [
      'two clock readings alone',
      () => timed(CALLS, () => globalThis.performance.now() + globalThis.performance.now()),
    ],
  ],
);

verdict('startRequest + end', byHandNs, 'ns', { most: 200, aim: 150 });
verdict('as the adapters do it', byAdapterNs, 'ns', { most: 200, aim: 150 });

// The quantiles, compared with those of a sorted array.
const sample = Float64Array.from({ length: 200_000 }, () => 10 ** (Math.random() * 5 - 1));
const exact = new ProductionMetrics({ timers });
for (const value of sample) exact.recordRequest(value, single);
const sorted = sample.toSorted();
const errorOf = (quantiles) =>
  Math.max(
    ...Object.entries({ p50: 0.5, p90: 0.9, p95: 0.95, p99: 0.99, p999: 0.999 }).map(
      ([key, share]) => Math.abs(quantiles[key] / sorted[Math.ceil(share * sorted.length) - 1] - 1),
    ),
  );
const errors = [
  errorOf(exact.generateReport().routes[0].latencyMs),
  errorOf(exact.generateReport().latencyMs),
].map((error) => error * 100);
report(
  'greatest error of p50 to p99.9',
  [
    ['of a route', errors[0]],
    ['of all requests', errors[1]],
  ],
  '%',
);
verdict('the greater', Math.max(...errors), '%', { most: 1, aim: 0.5 });

// The text of 10,000 series.
const ROUTES = 625;
const many = new ProductionMetrics({ timers, maxRoutes: 1000 });
const registry = new promClient.Registry();
const other = new promClient.Histogram({
  name: 'http_request_duration_seconds',
  help: 'duration',
  labelNames: ['method', 'route'],
  buckets: [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10],
  registers: [registry],
});
for (let route = 0; route < ROUTES; route++) {
  for (let i = 0; i < 20; i++) {
    const ms = durations[(route * 20 + i) & 4095];
    many.recordRequest(ms, { route: `/api/v1/resource-${route}/:id`, method: 'GET', status: 200 });
    other.observe({ method: 'GET', route: `/api/v1/resource-${route}/:id` }, ms / 1000);
  }
}
const whole = { prom: [], ours: [], thread: [] };
let lines = 0;
for (let round = 0; round < 60; round++) {
  let start = performance.now();
  await registry.metrics();
  whole.prom.push(performance.now() - start);
  start = performance.now();
  const rendering = many.toPrometheus({ naming: 'prom' });
  whole.thread.push(performance.now() - start);
  const text = await rendering;
  whole.ours.push(performance.now() - start);
  lines = text.split('\n').filter((line) => line !== '' && !line.startsWith('#')).length;
}
report(
  `render ${lines} series`,
  [
    ['prom-client, all on the JS thread', median(whole.prom)],
    ['portcullis, until it is there', median(whole.ours)],
    ['portcullis, on the JS thread', median(whole.thread)],
  ],
  'ms',
);

verdict('until it is there', median(whole.ours), 'ms', { most: 15 });
verdict('of it on the JS thread', median(whole.thread), 'ms', { most: 0.2 });

// All that a rendering costs the JS thread, with the delivery: the call alone is not all of it.
const onThread = (rendered, count) => async () => {
  const start = threadCpuMs();
  for (let i = 0; i < count; i++) await rendered();
  return (threadCpuMs() - start) / count;
};
/**
 * Returns untouched memory, in another turn of the loop, as a rendering does. The floor: whoever hands over that many
 * bytes makes the engine collect garbage.
 */
const laterBytes = async (length, delayMs) => {
  await setTimeout(delayMs);
  return new ArrayBuffer(length);
};
const manyLength = (await many.toPrometheusBytes({ naming: 'prom' })).length;
const compressed = { naming: 'prom', encoding: 'gzip' };
const [, manyBytesMs, manyGzipMs] = await compareAsync(
  `CPU of the JS thread, ${lines} series`,
  [
    ['as text', onThread(() => many.toPrometheus({ naming: 'prom' }), 100)],
    ['as bytes', onThread(() => many.toPrometheusBytes({ naming: 'prom' }), 100)],
    ['as bytes, gzip', onThread(() => many.toPrometheusBytes(compressed), 100)],
    ['memory of that size alone', onThread(() => laterBytes(manyLength, 1), 100)],
  ],
  { rounds: 9, unit: 'ms' },
);
verdict('as bytes', manyBytesMs, 'ms', { most: 0.2 });
verdict('as bytes, gzip', manyGzipMs, 'ms', { most: 0.2 });
const huge = new ProductionMetrics({ timers, maxRoutes: 10_000 });
for (let at = 0; at < 40_000; at++)
  huge.recordRequest(durations[at & 4095], {
    route: `/api/v1/resource-${at % 9999}/:id`,
    method: 'GET',
    status: 200,
  });
const hugeLength = (await huge.toPrometheusBytes()).length;
const [, hugeBytesMs, hugeGzipMs] = await compareAsync(
  'the same, 10,000 routes, both namings',
  [
    ['as text', onThread(() => huge.toPrometheus(), 5)],
    ['as bytes', onThread(() => huge.toPrometheusBytes(), 5)],
    ['as bytes, gzip', onThread(() => huge.toPrometheusBytes({ encoding: 'gzip' }), 5)],
    ['memory of that size alone', onThread(() => laterBytes(hugeLength, 20), 5)],
  ],
  { rounds: 5, unit: 'ms' },
);
verdict('as bytes', hugeBytesMs, 'ms', { most: 2 });
verdict('as bytes, gzip', hugeGzipMs, 'ms', { most: 2 });
const times = [];
for (let round = 0; round < 3; round++) {
  const start = performance.now();
  const { length } = await huge.toPrometheusBytes({ encoding: 'gzip' });
  times.push([performance.now() - start, length / hugeLength]);
}
report(
  'the same as gzip, until it is there',
  [['portcullis', median(times.map(([ms]) => ms))]],
  'ms',
);
report('its bytes, of those of the text', [['portcullis', times[0][1] * 100]], '%');

const busy = new ProductionMetrics({ timers, monitor, maxRoutes: 500 });
const reports = [];
for (let round = 0; round < 200; round++) {
  for (let i = 0; i < 2000; i++)
    busy.recordRequest(durations[i & 4095], {
      route: `/r/${i % 400}`,
      method: 'GET',
      status: i % 50 === 0 ? 500 : 200,
    });
  const start = performance.now();
  busy.generateReport();
  reports.push(performance.now() - start);
}
const bytes = Buffer.byteLength(JSON.stringify(busy.generateReport()));
report(`generateReport, 400 routes, ${bytes} bytes`, [['portcullis', median(reports)]], 'ms');
verdict('generateReport()', median(reports), 'ms', { most: 1 });
verdict('its size', bytes / 1024, 'KB', { most: 16 });
timers.close();
process.exit();
