import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { OTLPMetricExporter } from '@opentelemetry/exporter-metrics-otlp-http';
import { resourceFromAttributes } from '@opentelemetry/resources';
import {
  MeterProvider,
  type MetricProducer,
  PeriodicExportingMetricReader,
} from '@opentelemetry/sdk-metrics';
import { afterEach, expect, test } from 'vitest';
import {
  ConnectionManager,
  ProductionMetrics,
  ResourceMonitor,
  TimerManager,
} from '../dist/index.js';
import { FakeSocket } from '../dist/testing.js';

const closers: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).toReversed()) await close();
});

interface Attribute {
  readonly key: string;
  readonly value: { readonly stringValue?: string; readonly intValue?: number };
}
interface Point {
  readonly attributes: readonly Attribute[];
  readonly startTimeUnixNano: string;
  readonly timeUnixNano: string;
  readonly asDouble?: number;
  readonly count?: number;
  readonly sum?: number;
  readonly bucketCounts?: readonly number[];
  readonly explicitBounds?: readonly number[];
}
interface Metric {
  readonly name: string;
  readonly unit: string;
  readonly description: string;
  readonly gauge?: { readonly dataPoints: readonly Point[] };
  readonly sum?: {
    readonly dataPoints: readonly Point[];
    readonly aggregationTemporality: number;
    readonly isMonotonic: boolean;
  };
  readonly histogram?: {
    readonly dataPoints: readonly Point[];
    readonly aggregationTemporality: number;
  };
}
interface Export {
  readonly resourceMetrics: readonly {
    readonly resource: { readonly attributes: readonly Attribute[] };
    readonly scopeMetrics: readonly {
      readonly scope: { readonly name: string };
      readonly metrics: readonly Metric[];
    }[];
  }[];
}

/** A collector that keeps the OTLP/HTTP exports it gets, as JSON. */
async function collector(): Promise<{ url: string; exports: Export[] }> {
  const exports: Export[] = [];
  const server: Server = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on('data', (chunk: Buffer) => chunks.push(chunk));
    request.on('end', () => {
      expect(request.headers['content-type']).toBe('application/json');
      exports.push(JSON.parse(Buffer.concat(chunks).toString()) as Export);
      response.setHeader('content-type', 'application/json');
      response.end('{}');
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  closers.push(() => {
    server.closeAllConnections();
    server.close();
  });
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/v1/metrics`,
    exports,
  };
}

const attributesOf = ({ attributes }: Point): Record<string, unknown> =>
  Object.fromEntries(attributes.map(({ key, value }) => [key, Object.values(value)[0]]));

/** Exports the metrics once by the real SDK; returns the metrics of our scope by name. */
async function exported(
  producer: MetricProducer,
): Promise<{ metrics: Map<string, Metric>; exported: Export }> {
  const { url, exports } = await collector();
  const reader = new PeriodicExportingMetricReader({
    exporter: new OTLPMetricExporter({ url }),
    exportIntervalMillis: 2 ** 30,
    exportTimeoutMillis: 10_000,
    metricProducers: [producer],
  });
  const provider = new MeterProvider({
    readers: [reader],
    resource: resourceFromAttributes({ 'service.name': 'shop' }),
  });
  closers.push(() => provider.shutdown());
  await reader.forceFlush();
  expect(exports).toHaveLength(1);
  const scopes = exports[0]!.resourceMetrics[0]!.scopeMetrics;
  const ours = scopes.filter(({ scope }) => scope.name === 'portcullis');
  expect(ours).toHaveLength(1);
  const { metrics } = ours[0]!;
  expect(new Set(metrics.map(({ name }) => name)).size).toBe(metrics.length);
  return { metrics: new Map(metrics.map((one) => [one.name, one])), exported: exports[0]! };
}

test('the SDK exports requests, figures and own metrics by OTLP', async () => {
  const timers = new TimerManager();
  closers.push(() => timers.cleanup());
  const monitor = new ResourceMonitor({}, { timers, log: false });
  const connections = new ConnectionManager({}, timers);
  const before = Date.now();
  const metrics = new ProductionMetrics({ timers, monitor, connections });
  for (const ms of [1, 5, 6, 20_000])
    metrics.recordRequest(ms, { route: '/a', method: 'GET', status: ms > 100 ? 503 : 200 });
  metrics.recordRequest(2);
  metrics.recordRefusal('rate');
  metrics.recordMessage('in', 10);
  connections.addConnection('a', new FakeSocket(), '192.0.2.1');
  metrics.counter('shop_orders_total', 'Orders', ['kind']).labels('x').inc(3);
  metrics.gauge('shop_size_bytes', 'Size').set(-2.5);
  metrics.gauge('shop_unknown', 'Not a number').set(Number.NaN);
  const times = metrics.histogram('shop_time_seconds', 'Time', [], { buckets: [1, 2] });
  for (const time of [0.5, 2, 9]) times.observe(time);
  // The types agree with those of the SDK, too.
  const producer: MetricProducer = metrics.openTelemetry();
  const { metrics: found, exported: whole } = await exported(producer);

  expect(whole.resourceMetrics[0]!.resource.attributes).toContainEqual({
    key: 'service.name',
    value: { stringValue: 'shop' },
  });
  const durations = found.get('http.server.request.duration')!;
  expect(durations).toMatchObject({ unit: 's', histogram: { aggregationTemporality: 2 } });
  const [plain, route] = durations.histogram!.dataPoints;
  expect(attributesOf(plain!)).toEqual({});
  expect(attributesOf(route!)).toEqual({ 'http.request.method': 'GET', 'http.route': '/a' });
  expect(route).toMatchObject({ count: 4, sum: 20.012 });
  expect(route!.explicitBounds).toEqual([
    0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10,
  ]);
  expect(route!.bucketCounts).toEqual([2, 1, ...Array<number>(12).fill(0), 1]);
  const start = Number(BigInt(route!.startTimeUnixNano) / 1_000_000n);
  const end = Number(BigInt(route!.timeUnixNano) / 1_000_000n);
  expect(start).toBeGreaterThanOrEqual(before);
  expect(end).toBeGreaterThanOrEqual(start);
  expect(end).toBeLessThanOrEqual(Date.now());

  const requests = found.get('http.server.requests')!;
  expect(requests.sum).toMatchObject({ aggregationTemporality: 2, isMonotonic: true });
  expect(
    requests.sum!.dataPoints.map((point) => [
      attributesOf(point)['http.response.status_code'],
      point.asDouble,
    ]),
  ).toEqual([
    [undefined, 1],
    [200, 3],
    [503, 1],
  ]);
  expect(found.get('portcullis.connections')).toMatchObject({
    unit: '{connection}',
    sum: { isMonotonic: false, dataPoints: [{ asDouble: 1 }] },
  });
  expect(found.get('process.memory.usage')).toMatchObject({
    unit: 'By',
    sum: { isMonotonic: false },
  });
  expect(found.get('process.uptime')?.gauge?.dataPoints).toHaveLength(1);
  expect(found.get('process.cpu.time')?.sum?.dataPoints.map(attributesOf)).toEqual([
    { 'cpu.mode': 'user' },
    { 'cpu.mode': 'system' },
  ]);
  expect(found.get('portcullis.refusals')?.sum?.dataPoints.map(attributesOf)).toEqual([
    { code: 'rate' },
  ]);
  expect(found.get('shop_orders')).toMatchObject({
    description: 'Orders',
    sum: { isMonotonic: true, dataPoints: [{ asDouble: 3 }] },
  });
  expect(found.get('shop_size_bytes')).toMatchObject({
    unit: 'By',
    gauge: { dataPoints: [{ asDouble: -2.5 }] },
  });
  expect(found.has('shop_unknown')).toBe(false);
  expect(found.get('shop_time_seconds')).toMatchObject({
    unit: 's',
    histogram: {
      aggregationTemporality: 2,
      dataPoints: [{ count: 3, sum: 11.5, bucketCounts: [1, 1, 1], explicitBounds: [1, 2] }],
    },
  });
});

test('counts are cumulative from one start, and a copy of their moment', async () => {
  const metrics = new ProductionMetrics();
  closers.push(() => metrics.close());
  const producer = metrics.openTelemetry();
  const counter = metrics.counter('n', 'h');
  const read = async (): Promise<[value: unknown, start: unknown]> => {
    const { resourceMetrics } = await producer.collect();
    const found = resourceMetrics.scopeMetrics[0]!.metrics.find(
      ({ descriptor }) => descriptor.name === 'n',
    );
    return [found?.dataPoints[0]?.value, found?.dataPoints[0]?.startTime];
  };
  counter.inc();
  const first = read();
  counter.inc();
  const second = await read();
  expect((await first)[0]).toBe(1);
  expect(second[0]).toBe(2);
  expect((await first)[1]).toEqual(second[1]);
});

test('a failure is reported to the reader, and the next collection works', async () => {
  const timers = new TimerManager();
  closers.push(() => timers.cleanup());
  const manager = new ConnectionManager({}, timers);
  const metrics = new ProductionMetrics({ timers, connections: manager });
  const failure = new Error('no figures');
  const original = manager.getStats;
  manager.getStats = () => {
    throw failure;
  };
  const producer = metrics.openTelemetry();
  const failed = await producer.collect();
  expect(failed.errors).toEqual([failure]);
  expect(failed.resourceMetrics.scopeMetrics[0]?.metrics).toEqual([]);
  manager.getStats = original;
  expect((await producer.collect()).errors).toEqual([]);
});
