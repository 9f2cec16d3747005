import { spawnSync } from 'node:child_process';
import { createServer, get } from 'node:http';
import type { AddressInfo } from 'node:net';
import { Worker } from 'node:worker_threads';
import { gunzipSync } from 'node:zlib';
import { afterEach, describe, expect, test, vi } from 'vitest';
import { WebSocket, WebSocketServer } from 'ws';
import {
  ConnectionManager,
  ProductionMetrics,
  type ProductionMetricsOptions,
  RateLimiter,
  ResourceMonitor,
  TimerManager,
  TokenVerifier,
} from '../dist/index.js';
import { FakeSocket, ManualClock } from '../dist/testing.js';
import { portcullis } from '../dist/ws.js';
import { until } from './fixtures/until.js';
import { fractionsOf } from './fixtures/random.js';

const managers: TimerManager[] = [];
afterEach(() => {
  for (const timers of managers.splice(0)) timers.cleanup();
});

function fixture(options: ProductionMetricsOptions = {}) {
  const clock = new ManualClock();
  const timers = new TimerManager({ clock });
  managers.push(timers);
  return { clock, timers, metrics: new ProductionMetrics({ timers, ...options }) };
}

/** Returns all numbers of a report, nested ones too. */
function numbers(value: unknown): number[] {
  if (typeof value === 'number') return [value];
  return typeof value === 'object' && value !== null ? Object.values(value).flatMap(numbers) : [];
}

describe('the report', () => {
  test('has the documented fields and default targets', () => {
    const report = new ProductionMetrics({ timers: fixture().timers }).generateReport();
    expect(Object.keys(report.metrics)).toEqual([
      'averageResponseTime',
      'requestsPerSecond',
      'errorRate',
      'memoryUsage',
      'cpuUsage',
      'connectionCount',
      'activeUsers',
      'messagesThroughput',
      'healthScore',
    ]);
    expect(report.targets).toEqual({
      maxResponseTime: 100,
      maxErrorRate: 0.01,
      maxMemoryUsage: 512,
      maxCpuUsage: 70,
      minHealthScore: 95,
    });
    expect(new Date(report.timestamp).toISOString()).toBe(report.timestamp);
  });

  test('has null figures and no findings before the first record', () => {
    const { metrics } = fixture({ targets: { maxMemoryUsage: 1e6 } });
    const report = metrics.generateReport();
    expect(report.metrics).toMatchObject({
      averageResponseTime: null,
      requestsPerSecond: 0,
      errorRate: 0,
      cpuUsage: null,
      activeUsers: 0,
      healthScore: null,
    });
    expect(report).toMatchObject({
      healthy: true,
      recommendations: [],
      latencyMs: null,
      apdex: null,
      samples: 0,
      confidence: 'low',
    });
    expect(metrics.checkTargets()).toBe(true);
  });

  test('recommends an action for each missed target', () => {
    const { metrics } = fixture({ targets: { maxMemoryUsage: 1 } });
    for (let i = 0; i < 100; i++) metrics.recordRequest(150, { status: i < 2 ? 500 : 200 });
    const report = metrics.generateReport();
    expect(report.healthy).toBe(false);
    expect(report.recommendations).toEqual(
      expect.arrayContaining([
        'Consider optimizing middleware chain execution',
        'Investigate memory leaks and increase GC frequency',
        'Review error handling and input validation',
      ]),
    );
    expect(report.findings.find(({ id }) => id === 'errors')).toEqual({
      id: 'errors',
      severity: 'warning',
      figure: 'share of failed requests',
      observed: 0.02,
      threshold: 0.01,
      action: 'Review error handling and input validation',
    });
  });

  test('contains no NaN and no Infinity, and has at most 16 KB, whatever was recorded', () => {
    const { metrics, clock } = fixture({ targets: { maxErrorRate: 0 } });
    for (let i = 0; i < 5000; i++) {
      metrics.recordRequest(i % 7 === 0 ? 0 : 10 ** (i % 9), {
        route: `/${'long'.repeat(60)}/${i}`,
        method: 'GET',
        status: 100 + (i % 500),
        error: i % 3 === 0,
      });
      metrics.recordError(`kind ${i} ${'x'.repeat(100)}`);
      metrics.recordRefusal(`code ${i} ${'x'.repeat(100)}`);
      if (i % 100 === 0) clock.advance(700);
    }
    for (const report of [metrics.generateReport(), metrics.snapshot()])
      for (const number of numbers(report)) expect(Number.isFinite(number)).toBe(true);
    expect(Buffer.byteLength(JSON.stringify(metrics.generateReport()))).toBeLessThanOrEqual(
      16 * 1024,
    );
  });

  test('is a copy: changes of it have no effect', () => {
    const { metrics } = fixture();
    const report = metrics.generateReport();
    report.targets.maxResponseTime = 1;
    report.recommendations.push('junk');
    expect(metrics.generateReport().targets.maxResponseTime).toBe(100);
    expect(metrics.generateReport().recommendations).toEqual([]);
  });
});

describe('quantiles', () => {
  const shapes: Readonly<Record<string, (next: () => number) => number>> = {
    uniform: (next) => next() * 1000,
    exponential: (next) => -20 * Math.log(1 - next()),
    'long-tailed': (next) => 2 / (1 - next()) ** 1.5,
    'a thousandth of a millisecond to an hour': (next) => 10 ** (next() * 9 - 3),
    'a thousandth of a millisecond to thirty years': (next) => 10 ** (next() * 15 - 3),
    'two peaks': (next) => (next() < 0.7 ? 5 + next() : 900 + next() * 50),
  };
  for (const [name, shape] of Object.entries(shapes)) {
    test(`lie within 0.5 % of a sorted vector, those of a route within 1 %: ${name}`, () => {
      const next = fractionsOf(name.length);
      const { metrics } = fixture();
      const values = Float64Array.from({ length: 20_000 }, () => shape(next));
      for (const value of values) metrics.recordRequest(value, { route: '/r', method: 'GET' });
      const sorted = values.toSorted();
      const report = metrics.generateReport();
      const measured = [
        [report.latencyMs, 0.005],
        [report.routes[0]?.latencyMs, 0.01],
      ] as const;
      for (const [quantiles, most] of measured) {
        for (const [key, share] of [
          ['p50', 0.5],
          ['p90', 0.9],
          ['p95', 0.95],
          ['p99', 0.99],
          ['p999', 0.999],
        ] as const) {
          const exact = sorted[Math.ceil(share * sorted.length) - 1]!;
          expect(Math.abs(quantiles![key] / exact - 1)).toBeLessThanOrEqual(most);
        }
        expect(quantiles!.max).toBe(sorted.at(-1));
        const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
        expect(quantiles!.mean / mean).toBeCloseTo(1, 9);
      }
    });
  }

  test('of zeros are zero, and the greatest value is exact', () => {
    const { metrics } = fixture();
    metrics.recordRequest(0);
    expect(metrics.generateReport().latencyMs).toMatchObject({ p50: 0, p999: 0, max: 0, mean: 0 });
    metrics.recordRequest(1e12);
    expect(metrics.generateReport().latencyMs?.max).toBe(1e12);
  });

  test('of durations beyond 139 years are those of 139 years, and agree with the greatest', () => {
    const { metrics } = fixture();
    for (const ms of [1e300, Number.MAX_VALUE, 2 ** 42]) metrics.recordRequest(ms);
    const { p50, p999, max, mean } = metrics.generateReport().latencyMs!;
    expect(max).toBe(2 ** 42);
    expect(mean).toBe(2 ** 42);
    for (const quantile of [p50, p999]) expect(Math.abs(quantile / max - 1)).toBeLessThan(0.004);
  });
});

describe('a constructor that fails', () => {
  test('leaves no timer and no listener behind', () => {
    const { timers } = fixture();
    const manager = new ConnectionManager({}, timers);
    const before = timers.getActiveTimersCount();
    expect(
      () => new ProductionMetrics({ timers, connections: [manager, 'junk'] as never }),
    ).toThrow(expect.objectContaining({ code: 'ERR_INVALID_ARG_TYPE' }));
    const closed = new TimerManager({ strict: true });
    closed.cleanup();
    expect(() => new ProductionMetrics({ timers: closed, connections: manager })).toThrow(
      expect.objectContaining({ code: 'ERR_CLOSED' }),
    );
    expect([manager.userListeners.size, timers.getActiveTimersCount()]).toEqual([0, before]);
    manager.cleanup();
  });
});

describe('windows', () => {
  test('agree with a list of all events, at every moment', () => {
    const next = fractionsOf(7);
    const { metrics, clock } = fixture();
    const events: { at: number; ms: number; isError: boolean }[] = [];
    let now = 0;
    for (let step = 0; step < 400; step++) {
      for (let i = 0; i < 5; i++) {
        const event = { at: now, ms: next() * 200, isError: next() < 0.1 };
        events.push(event);
        metrics.recordRequest(event.ms, { status: event.isError ? 500 : 200 });
      }
      const passed = next() < 0.05 ? Math.floor(next() * 90_000) : Math.floor(next() * 4000);
      clock.advance(passed);
      now += passed;
      const { windows } = metrics.generateReport();
      for (const [name, slices, sliceMs] of [
        ['10s', 10, 1000],
        ['1m', 60, 1000],
        ['5m', 30, 10_000],
        ['15m', 90, 10_000],
      ] as const) {
        // A window holds its complete slices except the oldest, and the current one.
        const since = Math.max(0, (Math.floor(now / sliceMs) - slices + 1) * sliceMs);
        const inside = events.filter(({ at }) => at >= since);
        expect(windows[name].requests).toBe(inside.length);
        expect(windows[name].errors).toBe(inside.filter(({ isError }) => isError).length);
        expect(windows[name].coveredMs).toBeCloseTo(now - since, 6);
        expect(windows[name].latencyMs?.max ?? 0).toBeCloseTo(
          inside.reduce((most, { ms }) => Math.max(most, ms), 0),
          9,
        );
      }
      expect(windows.lifetime.requests).toBe(events.length);
    }
  });

  test('contain an event until their time has passed', () => {
    const { metrics, clock } = fixture();
    metrics.recordRequest(5);
    clock.advance(9999);
    expect(metrics.snapshot().windows['10s'].requests).toBe(1);
    clock.advance(1);
    expect(metrics.snapshot().windows['10s'].requests).toBe(0);
    clock.advance(49_999);
    expect(metrics.snapshot().windows['1m'].requests).toBe(1);
    clock.advance(1);
    expect(metrics.snapshot().windows['1m'].requests).toBe(0);
    expect(metrics.generateReport().metrics.averageResponseTime).toBe(null);
  });

  test('divide rates by the covered time', () => {
    const { metrics, clock } = fixture();
    for (let second = 0; second < 120; second++) {
      for (let i = 0; i < 50; i++) metrics.recordRequest(1);
      clock.advance(1000);
    }
    expect(metrics.generateReport().metrics.requestsPerSecond).toBeCloseTo(50, 9);
    expect(metrics.generateReport().windows['5m'].requestsPerSecond).toBeCloseTo(50, 9);
  });

  test('stay right when the clock stands still or jumps by weeks', () => {
    const clock = new ManualClock();
    const timers = new TimerManager({ clock });
    const metrics = new ProductionMetrics({ timers });
    timers.cleanup();
    metrics.recordRequest(5, { status: 500 });
    clock.advance(40 * 86_400_000);
    const { windows, slo } = metrics.generateReport();
    expect(windows['15m'].requests).toBe(0);
    expect(windows.lifetime.requests).toBe(1);
    expect(slo[0]?.burnRate['3d']).toBe(null);
    metrics.recordRequest(6);
    expect(metrics.generateReport().windows['10s'].requests).toBe(1);
  });
});

describe('errors and refusals', () => {
  test('the error rate counts 5xx and recorded errors, but neither 4xx nor refusals', () => {
    const { metrics } = fixture();
    for (const status of [200, 301, 404, 429, 500, 503]) metrics.recordRequest(1, { status });
    metrics.recordRequest(1, { status: 200, error: 'timeout' });
    metrics.recordRequest(1, { error: true });
    metrics.recordRefusal('max_concurrent');
    metrics.recordError('message_handler');
    const report = metrics.generateReport();
    expect(report.windows['1m']).toMatchObject({
      requests: 8,
      errors: 4,
      clientErrors: 2,
      refused: 1,
    });
    expect(report.metrics.errorRate).toBe(0.5);
    expect(report.errors).toEqual({ timeout: 1, message_handler: 1 });
    expect(report.refusals).toEqual({ max_concurrent: 1 });
  });

  test('Apdex counts satisfied up to T and tolerating up to 4 T, and no failures', () => {
    const { metrics } = fixture();
    for (const ms of [50, 100, 101, 400, 401, 5000]) metrics.recordRequest(ms);
    metrics.recordRequest(1, { status: 500 });
    expect(metrics.generateReport().apdex).toBe((2 + 2 / 2) / 7);
  });
});

describe('the health score', () => {
  const record = (metrics: ProductionMetrics, count: number, ms: number, status = 200): void => {
    for (let i = 0; i < count; i++) metrics.recordRequest(ms, { status });
  };

  test('is 100 if every part meets its target, and lists the parts', () => {
    const { metrics } = fixture({ targets: { maxMemoryUsage: 1e6 } });
    record(metrics, 50, 20);
    const { metrics: figures, scoreParts, confidence } = metrics.generateReport();
    expect(figures.healthScore).toBe(100);
    expect(confidence).toBe('high');
    expect(scoreParts.errors).toEqual({
      score: 100,
      weight: 0.3,
      observed: 0,
      target: 0.01,
      zeroAt: 0.05,
      unit: 'share',
      cap: null,
      capEndsAt: null,
    });
    expect(scoreParts.cpu.score).toBe(null);
  });

  test('falls linearly beyond the target, and is capped by the worst part', () => {
    const { metrics } = fixture({ targets: { maxMemoryUsage: 1e6 } });
    record(metrics, 50, 150);
    const { scoreParts, metrics: figures } = metrics.generateReport();
    expect(scoreParts.latency.score).toBeCloseTo(50, 0);
    expect(figures.healthScore).toBeLessThanOrEqual(scoreParts.latency.score! + 25.1);
    const broken = fixture({ targets: { maxMemoryUsage: 1e6 } }).metrics;
    record(broken, 80, 1);
    record(broken, 20, 1, 500);
    expect(broken.generateReport().metrics.healthScore).toBeLessThanOrEqual(10);
  });

  test('weights can be changed, and a weight of 0 leaves a part out', () => {
    const { metrics } = fixture({ weights: { errors: 0, memory: 0 } });
    record(metrics, 50, 1, 500);
    expect(metrics.generateReport().scoreParts.latency.score).toBe(100);
    expect(metrics.generateReport().scoreParts.errors.score).toBe(0);
  });
});

describe('budgets', () => {
  test('alert with `page` while both windows burn, and fall back to `ticket` afterwards', () => {
    const { metrics, clock } = fixture();
    const run = (seconds: number, share: number): void => {
      for (let second = 0; second < seconds; second++) {
        for (let i = 0; i < 10; i++)
          metrics.recordRequest(1, { status: i < share * 10 ? 500 : 200 });
        clock.advance(1000);
      }
    };
    run(600, 0.2);
    const [errors] = metrics.generateReport().slo;
    expect(errors).toMatchObject({ id: 'errors', objective: 0.99, alert: 'page' });
    expect(errors?.burnRate['1h']).toBeCloseTo(20, 6);
    expect(errors?.remaining).toBeCloseTo(-19, 6);
    expect(metrics.generateReport().findings[0]?.severity).toBe('critical');
    run(400, 0);
    const after = metrics.generateReport().slo[0];
    expect(after?.burnRate['5m']).toBe(0);
    expect(after?.alert).not.toBe(null);
    run(2000, 0);
    expect(metrics.generateReport().slo[0]?.alert).toBe('ticket');
  });

  test('raise no alert for fewer than 100 requests', () => {
    const { metrics } = fixture();
    for (let i = 0; i < 50; i++) metrics.recordRequest(1, { status: 500 });
    expect(metrics.generateReport().slo[0]).toMatchObject({ alert: null });
  });
});

describe('users', () => {
  test('are counted once, exactly, and for 15 minutes', () => {
    const { metrics, clock } = fixture();
    for (let i = 0; i < 3000; i++) metrics.recordUser(`user-${i % 1000}`);
    clock.advance(4 * 60_000);
    metrics.recordUser('late');
    expect(metrics.snapshot().activeUsers).toEqual({ '1m': 1, '5m': 1001, '15m': 1001 });
    clock.advance(11 * 60_000);
    expect(metrics.generateReport().metrics.activeUsers).toBe(1);
  });

  test('are estimated within 4 % for a million', () => {
    const { metrics } = fixture();
    for (let i = 0; i < 1_000_000; i++) metrics.recordUser(`user-${i}`);
    expect(Math.abs(metrics.generateReport().metrics.activeUsers / 1e6 - 1)).toBeLessThan(0.04);
  });

  test('are active while they are connected', () => {
    const { timers, clock } = fixture();
    const manager = new ConnectionManager({}, timers);
    const metrics = new ProductionMetrics({ timers, connections: manager });
    for (let i = 0; i < 20; i++)
      manager.addConnection(
        `c${i}`,
        new FakeSocket(),
        '192.0.2.1',
        i < 10 ? `user-${i}` : undefined,
      );
    manager.connections.get('c10')?.bindUser('late');
    expect(metrics.generateReport().metrics).toMatchObject({
      activeUsers: 11,
      connectionCount: 20,
    });
    clock.advance(60 * 60_000);
    expect(metrics.generateReport().metrics.activeUsers).toBe(11);
    for (let i = 0; i < 20; i++) manager.removeConnection(`c${i}`);
    clock.advance(20 * 60_000);
    expect(metrics.generateReport().metrics.activeUsers).toBe(0);
  });
});

describe('connections', () => {
  test('of a manager add messages, refusals and saturation', () => {
    const { timers } = fixture();
    const manager = new ConnectionManager({ maxTotalConnections: 2 }, timers);
    const metrics = new ProductionMetrics({ timers, connections: [manager] });
    const first = manager.addConnection('a', new FakeSocket(), '192.0.2.1');
    manager.addConnection('b', new FakeSocket(), '192.0.2.1');
    manager.addConnection('c', new FakeSocket(), '192.0.2.1');
    if (!first.success) throw new Error('refused');
    first.connection.received(10);
    first.connection.received(5);
    first.connection.sent(7);
    metrics.recordMessage('out', 3);
    manager.removeConnection('a');
    const report = metrics.generateReport();
    expect(report.windows['1m']).toMatchObject({
      messagesIn: 2,
      bytesIn: 15,
      messagesOut: 2,
      bytesOut: 10,
      refused: 1,
    });
    expect(report.refusals).toEqual({ total_limit: 1 });
    expect(report.metrics).toMatchObject({ connectionCount: 1, messagesThroughput: 4 });
    expect(report.scoreParts.saturation.observed).toBe(0.5);
  });

  test('of a detached manager leave the figures, while its counts so far stay', () => {
    const { timers, metrics } = fixture();
    const manager = new ConnectionManager({ maxTotalConnections: 1 }, timers);
    const refuse = (): unknown => manager.addConnection('x', new FakeSocket(), '192.0.2.1');
    const first = manager.addConnection('a', new FakeSocket(), '192.0.2.1', 'ada');
    if (!first.success) throw new Error('refused');
    refuse();
    first.connection.received(100);
    metrics.attach(manager);
    metrics.attach(manager);
    refuse();
    first.connection.received(10);
    metrics.detach(manager);
    metrics.detach(manager);
    expect(manager.userListeners.size).toBe(0);
    refuse();
    first.connection.received(1000);
    const report = metrics.generateReport();
    // One of three refusals happened while the manager was attached.
    expect(report.refusals).toEqual({ total_limit: 1 });
    expect(report.windows.lifetime).toMatchObject({ messagesIn: 1, bytesIn: 10, refused: 1 });
    expect(report.metrics).toMatchObject({ connectionCount: 0, activeUsers: 1 });
    expect(report.scoreParts.saturation.observed).toBe(null);
    metrics.attach(manager);
    refuse();
    expect(metrics.generateReport()).toMatchObject({
      refusals: { total_limit: 2 },
      metrics: { connectionCount: 1 },
    });
    metrics.detach(new ConnectionManager({}, timers));
    metrics.detach({} as never);
    expect(metrics.generateReport().metrics.connectionCount).toBe(1);
    manager.cleanup();
  });

  test('of one name count also once the manager that was attached first is closed', () => {
    const { timers } = fixture();
    const make = (): ConnectionManager =>
      new ConnectionManager({}, timers, { name: 'closed first' });
    const [one, two] = [make(), make()];
    const metrics = new ProductionMetrics({ timers, connections: [one, two] });
    for (const manager of [one, two]) manager.reserve('192.0.2.1');
    const open = (): number => metrics.generateReport().metrics.connectionCount;
    expect(open()).toBe(2);
    one.close();
    expect(open()).toBe(1);
    two.close();
    expect(open()).toBe(0);
    metrics.close();
  });

  test('of managers with one name count once, and so do their bans', async () => {
    const { timers, clock } = fixture();
    const options = { name: 'metrics front', banAfter: 3 };
    const make = (): ConnectionManager => new ConnectionManager({}, timers, options);
    const [one, two, other] = [make(), make(), new ConnectionManager({}, timers, { banAfter: 3 })];
    one.ban('192.0.2.9', 1000);
    const metrics = new ProductionMetrics({ timers, connections: [one, two, other] });
    const figures = async (): Promise<unknown[]> => {
      const text = await metrics.toPrometheus();
      const of = (name: string): number =>
        Number(new RegExp(`^portcullis_${name} (\\d+)$`, 'm').exec(text)?.[1]);
      const counts = [of('connections'), of('bans_total'), of('ban_failures_total')];
      return [metrics.generateReport().metrics.connectionCount, ...counts, of('banned_addresses')];
    };
    one.reserve('192.0.2.1');
    other.reserve('192.0.2.1');
    two.ban('192.0.2.2', 1000);
    one.failed('192.0.2.3');
    other.ban('192.0.2.2', 1000);
    // The ban before they were attached is none of the total, but still active.
    expect(await figures()).toEqual([2, 2, 2, 1, 3]);
    metrics.detach(one);
    expect(await figures()).toEqual([2, 2, 2, 1, 3]);
    two.ban('192.0.2.4', 1000);
    metrics.detach(two);
    expect(await figures()).toEqual([1, 1, 3, 1, 1]);
    metrics.attach(two);
    expect(await figures()).toEqual([2, 2, 3, 1, 4]);
    // The seats of a closed manager are free; its index goes on with the others of the name.
    metrics.attach(one);
    one.close();
    two.reserve('192.0.2.1');
    two.reserve('192.0.2.1');
    clock.advance(2000);
    expect(await figures()).toEqual([3, 3, 3, 1, 0]);
    metrics.close();
  });
});

describe('the end', () => {
  test('close() and stop() end timer and listeners alike, and records still count', () => {
    for (const end of ['close', 'stop'] as const) {
      const { timers, metrics } = fixture();
      const manager = new ConnectionManager({}, timers);
      const before = timers.getActiveTimersCount();
      metrics.attach(manager);
      metrics[end]();
      metrics[end]();
      metrics.recordRequest(1);
      expect([
        end,
        before - timers.getActiveTimersCount(),
        manager.userListeners.size,
        metrics.generateReport().samples,
      ]).toEqual([end, 1, 0, 1]);
      manager.cleanup();
    }
  });

  test('closes its own timers, but not given ones', () => {
    const { timers, metrics } = fixture();
    metrics.close();
    expect(timers.setTimeout(() => undefined, 1e6).hasRef()).toBe(true);
    // A process exits by itself, with its metrics closed or not.
    for (const last of ['', 'metrics.close();']) {
      const text = `import { ProductionMetrics } from './dist/index.js'; const metrics = new ProductionMetrics(); ${last} metrics.recordRequest(1);`;
      const { stderr, status } = spawnSync(process.execPath, ['--input-type=module', '-e', text], {
        encoding: 'utf8',
        timeout: 10_000,
      });
      expect([stderr, status]).toEqual(['', 0]);
    }
  });
});

describe('routes', () => {
  test('are counted by pattern and method', () => {
    const { metrics, clock } = fixture();
    for (let i = 0; i < 30; i++)
      metrics.recordRequest(10, { route: '/a', method: 'GET', status: i < 3 ? 500 : 200 });
    for (let i = 0; i < 10; i++) metrics.recordRequest(200, { route: '/a', method: 'post' });
    clock.advance(10_000);
    const [busy, other] = metrics.generateReport().routes;
    expect(busy).toMatchObject({
      route: '/a',
      method: 'GET',
      requests: 30,
      requestsPerSecond: 3,
      errorRate: 0.1,
      total: 30,
    });
    expect(other).toMatchObject({ route: '/a', method: 'POST', requests: 10 });
    expect(other?.latencyMs).toMatchObject({ max: 200, mean: 200 });
  });

  test('drop figures after two minutes, but keep totals', () => {
    const { metrics, clock } = fixture();
    for (let i = 0; i < 10; i++) metrics.recordRequest(500, { route: '/old' });
    clock.advance(61_000);
    metrics.recordRequest(1, { route: '/old' });
    expect(metrics.generateReport().routes[0]).toMatchObject({
      requests: 11,
      latencyMs: { max: 500 },
    });
    clock.advance(60_000);
    expect(metrics.generateReport().routes[0]).toMatchObject({
      requests: 1,
      latencyMs: { max: 1 },
    });
    clock.advance(180_000);
    expect(metrics.generateReport().routes[0]).toMatchObject({
      requests: 0,
      errorRate: null,
      latencyMs: null,
      total: 11,
    });
  });

  test('beyond the limit share one row: a million paths of 10 KB take little memory', () => {
    const { metrics } = fixture({ maxRoutes: 100 });
    const long = 'x'.repeat(10_000);
    const before = process.memoryUsage().rss;
    for (let i = 0; i < 1_000_000; i++) metrics.recordRequest(1, { route: `/${i}`, method: 'GET' });
    for (let i = 0; i < 1000; i++) metrics.recordRequest(1, { route: `${long}${i}` });
    const snapshot = metrics.snapshot();
    // A hundred, the one that the others share, and that of requests without a route.
    expect(snapshot.routesKnown).toBe(102);
    expect(snapshot.routesOverflowed).toBe(1_001_000 - 100);
    expect(snapshot.routes[0]).toMatchObject({ route: 'other', total: 1_001_000 - 100 });
    expect(snapshot.findings.map(({ id }) => id)).toContain('routes_overflow');
    expect(process.memoryUsage().rss - before).toBeLessThan(200 * 2 ** 20);
  });

  test('are as many as the limit, which requests without a route do not count for', () => {
    const { metrics } = fixture({ maxRoutes: 1 });
    for (const method of ['GET', 'POST', 'BREW']) metrics.recordRequest(1, { method });
    for (const route of ['/a', '/b', '/a', '/c']) metrics.recordRequest(1, { route });
    const { routes, routesOverflowed } = metrics.snapshot();
    const totals = routes.map(({ route, method, total }) => `${method} ${route} ${total}`);
    expect(totals.toSorted()).toEqual([' /a 2', ' other 2', 'GET  1', 'POST  1', '_OTHER  1']);
    expect(routesOverflowed).toBe(2);
  });

  test.each([
    ['before', ['other', '/a', '/b', '/c', 'other']],
    ['after', ['/a', '/b', '/c', 'other', 'other']],
  ])('named `other` share its row, if the name comes %s the limit', async (_, names) => {
    const { metrics } = fixture({ maxRoutes: 2 });
    for (const route of names) metrics.recordRequest(1, { route });
    const text = await metrics.toPrometheus({ naming: 'otel' });
    const series = text.split('\n').filter((line) => /_seconds_count\{.*"other"/.test(line));
    expect(series).toHaveLength(1);
    const rows = metrics.snapshot().routes.filter(({ route }) => route === 'other');
    expect(rows).toMatchObject([{ method: '', total: names[0] === 'other' ? 4 : 3 }]);
  });

  test('of a refused record take no row', () => {
    const { metrics } = fixture({ maxRoutes: 2 });
    const wrong = [
      { status: 99 },
      { status: '200' },
      { error: null },
      { error: '' },
      { method: 5 },
    ];
    for (const [at, details] of wrong.entries()) {
      const route = `/${at}`;
      expect(() => metrics.recordRequest(1, { route, ...details } as never)).toThrow();
      expect(() => metrics.startRequest().end({ route, ...details } as never)).toThrow();
    }
    for (const route of ['/a', '/b']) metrics.recordRequest(1, { route });
    expect(metrics.snapshot()).toMatchObject({ routesOverflowed: 0, routesKnown: 3 });
  });
});

describe('requests in flight', () => {
  test('are in flight until their first end', () => {
    const { metrics, clock } = fixture();
    const first = metrics.startRequest({ route: '/a', method: 'GET' });
    const second = metrics.startRequest();
    clock.advance(40);
    expect(metrics.generateReport().inFlight).toBe(2);
    first.end({ status: 200 });
    first.end({ status: 500 });
    second.end({ refused: 'too_many' });
    const report = metrics.generateReport();
    expect(report).toMatchObject({
      inFlight: 0,
      samples: 1,
      metrics: { averageResponseTime: 40, errorRate: 0 },
      refusals: { too_many: 1 },
    });
    expect(report.routes[0]).toMatchObject({ route: '/a', method: 'GET' });
  });

  test('end even if their details are wrong', () => {
    const { metrics } = fixture();
    const request = metrics.startRequest();
    expect(() => request.end({ status: 99 })).toThrow(
      expect.objectContaining({ code: 'ERR_OUT_OF_RANGE', field: 'status' }),
    );
    expect(metrics.generateReport()).toMatchObject({ inFlight: 0, samples: 0 });
  });

  test('are reported to the monitor, which provides memory and event loop', () => {
    const timers = new TimerManager();
    managers.push(timers);
    const monitor = new ResourceMonitor({ memory: { maxHeapSizeMb: 1 } }, { timers, log: false });
    const metrics = new ProductionMetrics({ timers, monitor, targets: { maxMemoryUsage: 1e6 } });
    const request = metrics.startRequest({ route: '/a' });
    expect(monitor.getMetrics().activeRequests).toBe(1);
    request.end({ status: 200 });
    expect(monitor.getMetrics().activeRequests).toBe(0);
    monitor.close();
    expect(metrics.generateReport().samples).toBe(1);
  });
});

describe('bad input', () => {
  test('is refused by its field, and nothing is counted', () => {
    const { metrics } = fixture();
    const wrong: readonly (readonly [() => unknown, string, string])[] = [
      ...[-1, Number.NaN, Infinity, -Infinity].map(
        (value) => [() => metrics.recordRequest(value), 'ERR_OUT_OF_RANGE', 'durationMs'] as const,
      ),
      ...['5', null, undefined, {}, 5n].map(
        (value) =>
          [
            () => metrics.recordRequest(value as never),
            'ERR_INVALID_ARG_TYPE',
            'durationMs',
          ] as const,
      ),
      [() => metrics.recordRequest(1, { status: 99 }), 'ERR_OUT_OF_RANGE', 'status'],
      [() => metrics.recordRequest(1, { status: 200.5 }), 'ERR_OUT_OF_RANGE', 'status'],
      ...['200', null, {}, 5n, Symbol('status')].map(
        (status) =>
          [
            () => metrics.recordRequest(1, { status: status as never }),
            'ERR_INVALID_ARG_TYPE',
            'status',
          ] as const,
      ),
      [() => metrics.recordRequest(1, { route: 5 as never }), 'ERR_INVALID_ARG_TYPE', 'route'],
      [() => metrics.recordRequest(1, { method: {} as never }), 'ERR_INVALID_ARG_TYPE', 'method'],
      ...['', null, 0, 5, Number.NaN, {}].map(
        (error) =>
          [
            () => metrics.recordRequest(1, { error: error as never }),
            'ERR_INVALID_ARG_TYPE',
            'error',
          ] as const,
      ),
      ...[null, 5, 'x'].flatMap((details) =>
        [
          () => metrics.recordRequest(1, details as never),
          () => metrics.startRequest(details as never),
          () => metrics.startRequest().end(details as never),
        ].map((call) => [call, 'ERR_INVALID_ARG_TYPE', 'details'] as const),
      ),
      [() => metrics.recordMessage('sideways' as never, 1), 'ERR_OUT_OF_RANGE', 'direction'],
      [() => metrics.recordMessage('in', -1), 'ERR_OUT_OF_RANGE', 'bytes'],
      [() => metrics.recordMessage('in', Number.NaN), 'ERR_OUT_OF_RANGE', 'bytes'],
      [() => metrics.recordUser(''), 'ERR_INVALID_ARG_TYPE', 'id'],
      [() => metrics.recordUser('x'.repeat(1025)), 'ERR_INVALID_ARG_TYPE', 'id'],
      [() => metrics.recordError(5 as never), 'ERR_INVALID_ARG_TYPE', 'kind'],
      [() => metrics.recordRefusal(null as never), 'ERR_INVALID_ARG_TYPE', 'code'],
      [() => metrics.attach({} as never), 'ERR_INVALID_ARG_TYPE', 'connections'],
      [
        () => new ProductionMetrics({ targets: { maxErrorRate: 2 } }),
        'ERR_OUT_OF_RANGE',
        'targets.maxErrorRate',
      ],
      [
        () => new ProductionMetrics({ targets: { maxResponseTime: 0 } }),
        'ERR_OUT_OF_RANGE',
        'targets.maxResponseTime',
      ],
      [
        () => new ProductionMetrics({ targets: { maxMemoryUsage: '512' as never } }),
        'ERR_INVALID_ARG_TYPE',
        'targets.maxMemoryUsage',
      ],
      [
        () => new ProductionMetrics({ targets: { maxResponseTimes: 5 } as never }),
        'ERR_UNKNOWN_OPTION',
        'targets.maxResponseTimes',
      ],
      ...[1e308, 5e-324].map(
        (maxMemoryUsage) =>
          [
            () => new ProductionMetrics({ targets: { maxMemoryUsage } }),
            'ERR_OUT_OF_RANGE',
            'targets.maxMemoryUsage',
          ] as const,
      ),
      // Such weights would sum up to Infinity.
      [
        () => new ProductionMetrics({ weights: { errors: 1e308 } }),
        'ERR_OUT_OF_RANGE',
        'weights.errors',
      ],
      [
        () => new ProductionMetrics({ weights: { errors: -1 } }),
        'ERR_OUT_OF_RANGE',
        'weights.errors',
      ],
      [() => new ProductionMetrics({ window: '2m' as never }), 'ERR_OUT_OF_RANGE', 'window'],
      [() => new ProductionMetrics({ maxRoutes: 0 }), 'ERR_OUT_OF_RANGE', 'maxRoutes'],
      [
        () => new ProductionMetrics({ latencyObjective: 1 }),
        'ERR_OUT_OF_RANGE',
        'latencyObjective',
      ],
      [() => new ProductionMetrics({ monitor: {} as never }), 'ERR_INVALID_ARG_TYPE', 'monitor'],
      [() => new ProductionMetrics({ timers: {} as never }), 'ERR_INVALID_ARG_TYPE', 'timers'],
      [
        () => new ProductionMetrics({ connections: {} as never }),
        'ERR_INVALID_ARG_TYPE',
        'connections',
      ],
      [() => new ProductionMetrics(null as never), 'ERR_INVALID_ARG_TYPE', 'options'],
      [() => portcullis({ limits: {}, metrics: {} as never }), 'ERR_INVALID_ARG_TYPE', 'metrics'],
    ];
    for (const [call, code, field] of wrong)
      expect(call).toThrow(expect.objectContaining({ code, field }));
    expect(metrics.generateReport()).toMatchObject({ samples: 0, errors: {}, refusals: {} });
  });

  test('is refused in options of the exposition', () => {
    const { metrics } = fixture();
    expect(() => metrics.toPrometheus({ naming: 'statsd' as never })).toThrow(
      expect.objectContaining({ code: 'ERR_OUT_OF_RANGE', field: 'naming' }),
    );
    expect(() => metrics.toOpenMetrics({ nameing: 'otel' } as never)).toThrow(
      expect.objectContaining({ code: 'ERR_UNKNOWN_OPTION' }),
    );
  });
});

describe('the exposition', () => {
  function full(): ProductionMetrics {
    const { metrics } = fixture();
    const routes = ['/plain', '/q"u\\o\nte', '/\u{1f6aa}', '/\ud800half', ''];
    for (let i = 0; i < 2000; i++)
      metrics.recordRequest(i * 6.5, {
        route: routes[i % 5],
        method: i % 2 === 0 ? 'GET' : 'WEIRD',
        status: 200 + (i % 350),
      });
    metrics.recordRequest(5);
    metrics.recordRequest(5.000001);
    metrics.recordError('a "b" \\ c');
    metrics.recordRefusal('total_limit');
    metrics.recordMessage('in', 100);
    metrics.recordUser('u');
    return metrics;
  }

  test('counts durations at the exact edges of buckets', async () => {
    const { metrics } = fixture();
    for (const ms of [5, 5.000001, 10, 10_000, 10_001, 0]) metrics.recordRequest(ms);
    const text = await metrics.toPrometheus({ naming: 'prom' });
    const buckets = Object.fromEntries(
      [...text.matchAll(/^http_request_duration_seconds_bucket\{le="(.+)"\} (\d+)$/gm)].map(
        (match) => [match[1], Number(match[2])],
      ),
    );
    expect(buckets).toMatchObject({ '0.005': 2, '0.01': 4, '7.5': 4, '10': 5, '+Inf': 6 });
    expect(text).toContain('http_request_duration_seconds_count 6\n');
    expect(text).toContain('http_request_duration_seconds_sum 20.021000001\n');
  });

  test('uses the names of OpenTelemetry, of prom-client, or both', async () => {
    const metrics = full();
    const [otel, prom, both] = await Promise.all(
      (['otel', 'prom', 'both'] as const).map((naming) => metrics.toOpenMetrics({ naming })),
    );
    expect(otel).toContain(
      'http_server_request_duration_seconds_bucket{http_request_method="GET",http_route="/plain",le="0.005"}',
    );
    expect(otel).not.toContain('http_request_duration_seconds_bucket');
    expect(prom).toContain('http_requests_total{method="GET",route="/plain",status_code="200"}');
    expect(prom).toContain('process_resident_memory_bytes ');
    expect(both).toContain('process_memory_usage_bytes ');
    expect(both).toContain('process_resident_memory_bytes ');
    expect(both?.endsWith('# EOF\n')).toBe(true);
    expect(await metrics.toPrometheus()).not.toContain('# EOF');
  });

  test('has an uptime that does not follow the wall clock', async () => {
    const { metrics } = fixture();
    const uptime = async (): Promise<number> =>
      Number(/^process_uptime_seconds (\S+)$/m.exec(await metrics.toPrometheus())?.[1]);
    for (const setMs of [3_600_000, -3_600_000]) {
      vi.useFakeTimers({ toFake: ['Date'], now: Date.now() + setMs });
      try {
        const before = process.uptime();
        const seconds = await uptime();
        expect(seconds).toBeGreaterThanOrEqual(before);
        expect(seconds).toBeLessThanOrEqual(process.uptime());
      } finally {
        vi.useRealTimers();
      }
    }
  });

  test('counts messages and their bytes since the start, by direction', async () => {
    const { metrics, clock } = fixture();
    for (let count = 1; count <= 2; count++) {
      for (const bytes of [100, 1]) metrics.recordMessage('in', bytes);
      metrics.recordMessage('out', 7);
      const text = await metrics.toPrometheus();
      expect(text.match(/(?<=^portcullis_websocket_message).*$/gm)).toEqual([
        `s_total{direction="in"} ${2 * count}`,
        `s_total{direction="out"} ${count}`,
        `_bytes_total{direction="in"} ${101 * count}`,
        `_bytes_total{direction="out"} ${7 * count}`,
      ]);
      // The counts have left all windows.
      clock.advance(3_600_000);
    }
  });

  test('keeps counting a series that left all windows', async () => {
    const { metrics, clock } = fixture();
    metrics.recordRequest(1, { route: '/a' });
    clock.advance(3_600_000);
    expect(await metrics.toPrometheus({ naming: 'prom' })).toContain(
      'http_request_duration_seconds_count{route="/a"} 1',
    );
  });

  const parser = (kind: string): string => `
import sys
from prometheus_client.${kind} import text_string_to_metric_families
print(sum(len(family.samples) for family in text_string_to_metric_families(sys.stdin.read())))`;
  const python = ['python3', 'python'].find(
    (command) =>
      spawnSync(command, ['-c', 'import prometheus_client'], { stdio: 'ignore' }).status === 0,
  );
  const promtool = spawnSync('promtool', ['--version'], { stdio: 'ignore' }).status === 0;
  if (python === undefined)
    console.log(
      'skipped: python with the package prometheus-client is not here to read the exposition',
    );
  if (!promtool) console.log('skipped: promtool is not here to read the exposition');

  test.skipIf(python === undefined)(
    'is accepted by the reference parsers, with any route names',
    async () => {
      const metrics = full();
      for (const naming of ['otel', 'prom', 'both'] as const) {
        for (const [kind, text] of [
          ['openmetrics.parser', await metrics.toOpenMetrics({ naming })],
          ['parser', await metrics.toPrometheus({ naming })],
        ] as const) {
          const { status, stdout, stderr } = spawnSync(python ?? '', ['-c', parser(kind)], {
            input: text,
            encoding: 'utf8',
            env: { ...process.env, PYTHONIOENCODING: 'utf8' },
          });
          expect(stderr).toBe('');
          expect(status).toBe(0);
          expect(Number(stdout)).toBe(
            text.split('\n').filter((line) => line !== '' && !line.startsWith('#')).length,
          );
        }
      }
    },
  );

  test.skipIf(!promtool)('passes promtool check metrics', async () => {
    const { status, stdout, stderr } = spawnSync('promtool', ['check', 'metrics'], {
      input: await full().toPrometheus(),
      encoding: 'utf8',
    });
    // prom-client has given three gauges the suffix of a counter.
    const complaints = (stdout + stderr).split('\n').filter((line) => line !== '');
    expect(
      complaints.filter(
        (line) =>
          !/^nodejs_active_(?:handles|requests|resources)_total non-counter metrics should not have "_total" suffix$/.test(
            line,
          ),
      ),
    ).toEqual([]);
    expect(status).toBe(complaints.length === 0 ? 0 : 3);
  });

  test('has the counts at the time of the call, while counting goes on', async () => {
    const { metrics } = fixture();
    const texts = [];
    for (let round = 1; round <= 5; round++) {
      // More than the ledger holds before it folds them.
      for (let i = 0; i < 3000; i++)
        metrics.recordRequest(1, { route: '/a', method: 'GET', status: 200 });
      texts.push(metrics.toPrometheus({ naming: 'prom' }));
    }
    const counts = (await Promise.all(texts)).map(
      (text) => /^http_requests_total\{.*\} (\d+)$/mu.exec(text)?.[1],
    );
    expect(counts).toEqual(['3000', '6000', '9000', '12000', '15000']);
    expect(metrics.generateReport().samples).toBe(15_000);
  });

  test('has the same text as bytes, which belong to the caller', async () => {
    const { metrics } = fixture();
    metrics.recordRequest(5, { route: '/\u{1f6aa}/é', method: 'GET', status: 200 });
    const counter = metrics.counter('door_opened', 'of the \u{1f6aa}', ['by']);
    counter.labels('é').inc(3);
    // Figures of the process differ from one call to the next, and some are unknown at first.
    const stable = (text: string): string[] =>
      text.split('\n').filter((line) => /door_|route=|EOF/.test(line));
    const openMetrics = await metrics.toOpenMetricsBytes();
    expect(Buffer.isBuffer(openMetrics)).toBe(true);
    expect(stable(openMetrics.toString())).toEqual(stable(await metrics.toOpenMetrics()));
    expect(openMetrics.toString()).toContain('door_opened_total{by="é"} 3\n');
    const first = await metrics.toPrometheusBytes({ naming: 'prom' });
    const text = first.toString();
    expect(stable(text)).toEqual(stable(await metrics.toPrometheus({ naming: 'prom' })));
    const second = await metrics.toPrometheusBytes({ naming: 'prom' });
    second.fill(0);
    expect(first.toString()).toBe(text);
    expect(() => metrics.toPrometheusBytes({ naming: 'statsd' as never })).toThrow(
      expect.objectContaining({ code: 'ERR_OUT_OF_RANGE' }),
    );
  });

  test('is compressed for clients that accept gzip', async () => {
    const { metrics } = fixture();
    for (let route = 0; route < 400; route++)
      metrics.recordRequest(5, { route: `/\u{1f6aa}/${route}`, method: 'GET', status: 200 });
    const stable = (text: string): string[] =>
      text.split('\n').filter((line) => /route=|EOF/.test(line));
    for (const naming of ['otel', 'prom', 'both'] as const) {
      const compressed = await metrics.toOpenMetricsBytes({ naming, encoding: 'gzip' });
      const text = await metrics.toOpenMetrics({ naming });
      expect(stable(gunzipSync(compressed).toString())).toEqual(stable(text));
      expect(compressed.length).toBeLessThan(text.length / 8);
    }
    const { length } = await metrics.toPrometheusBytes({ encoding: 'identity' });
    const gzip = await metrics.toPrometheusBytes({ encoding: 'gzip' });
    // Both are longer than what is freed on another thread.
    expect(Math.abs(gunzipSync(gzip).length / length - 1)).toBeLessThan(0.01);
    expect(length).toBeGreaterThan(2 ** 20);
    const inherited = Object.create({ naming: 'otel' }) as { naming: 'otel' };
    expect((await metrics.toOpenMetricsBytes(inherited)).toString()).not.toContain('http_requests');
    for (const [options, code] of [
      [{ encoding: 'br' }, 'ERR_OUT_OF_RANGE'],
      [{ encoding: null }, 'ERR_OUT_OF_RANGE'],
      [{ encodings: 'gzip' }, 'ERR_UNKNOWN_OPTION'],
      [{ encoding: 'gzip', naming: 'statsd' }, 'ERR_OUT_OF_RANGE'],
      [null, 'ERR_INVALID_ARG_TYPE'],
    ] as const)
      expect(() => metrics.toPrometheusBytes(options as never)).toThrow(
        expect.objectContaining({ code }),
      );
    expect(() => metrics.toPrometheus({ encoding: 'gzip' } as never)).toThrow(
      expect.objectContaining({ code: 'ERR_UNKNOWN_OPTION' }),
    );
  });

  test.each(['toPrometheus', 'toPrometheusBytes'])('lets workers end during %s', async (method) => {
    const entry = new URL('../dist/index.js', import.meta.url).href;
    const code = `
      const { parentPort } = require('node:worker_threads');
      import(${JSON.stringify(entry)}).then(({ ProductionMetrics }) => {
        const metrics = new ProductionMetrics();
        for (let i = 0; i < 500; i++) metrics.recordRequest(i, { route: '/' + i, method: 'GET', status: 200 });
        const options = '${method}' === 'toPrometheus' ? {} : { encoding: 'gzip' };
        const go = () => metrics.${method}(Math.random() < 0.5 ? {} : options).then(go);
        for (let i = 0; i < 8; i++) go();
        parentPort.postMessage('running');
      });`;
    for (let round = 0; round < 5; round++) {
      const worker = new Worker(code, { eval: true });
      await new Promise((resolve, reject) => worker.once('message', resolve).once('error', reject));
      await worker.terminate();
    }
    expect(await full().toPrometheus()).toContain('# TYPE');
  });
});

describe('the adapter of ws', () => {
  test('counts requests and messages, and keeps refusals apart', async () => {
    const metrics = new ProductionMetrics();
    const server = createServer((request, response) => {
      response.statusCode = request.url === '/broken' ? 500 : 200;
      response.end('ok');
    });
    const webSocketServer = new WebSocketServer({ noServer: true });
    const guard = portcullis({ limits: { maxTotalConnections: 1 }, metrics });
    const detach = guard.attach(server, webSocketServer);
    webSocketServer.on('connection', (socket) => socket.on('message', (data) => socket.send(data)));
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const { port } = server.address() as AddressInfo;
    const ask = (path: string): Promise<unknown> =>
      new Promise((resolve, reject) =>
        get({ port, path, agent: false }, (response) =>
          response.resume().once('close', resolve),
        ).once('error', reject),
      );
    for (const path of ['/', '/', '/broken']) await ask(path);
    const first = new WebSocket(`ws://127.0.0.1:${port}`);
    await new Promise((resolve) => first.once('open', resolve));
    first.send('hello');
    await new Promise((resolve) => first.once('message', resolve));
    const second = new WebSocket(`ws://127.0.0.1:${port}`);
    await new Promise((resolve) => second.once('error', resolve));
    const report = metrics.generateReport();
    expect(report).toMatchObject({
      inFlight: 0,
      samples: 3,
      refusals: { total_limit: 1 },
      metrics: { errorRate: 1 / 3, connectionCount: 1 },
    });
    expect(report.windows['1m']).toMatchObject({
      messagesIn: 1,
      bytesIn: 5,
      messagesOut: 1,
      bytesOut: 5,
      refused: 1,
    });
    detach();
    first.terminate();
    guard.manager.cleanup();
    metrics.close();
    await new Promise((resolve) => {
      server.close(resolve);
      server.closeAllConnections();
    });
  });
});

describe('the adapter of ws', () => {
  const asked = async (
    serve: (guard: ReturnType<typeof portcullis>) => ReturnType<typeof createServer>,
    options: Parameters<typeof portcullis>[0] = {},
  ): Promise<number> => {
    const metrics = new ProductionMetrics();
    const guard = portcullis({ limits: {}, metrics, ...options });
    const server = serve(guard);
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const { port } = server.address() as AddressInfo;
    await new Promise((resolve, reject) =>
      get({ port, agent: false }, (response) => response.resume().once('close', resolve)).once(
        'error',
        reject,
      ),
    );
    const { samples, inFlight } = metrics.generateReport();
    expect(inFlight).toBe(0);
    metrics.close();
    await new Promise((resolve) => {
      server.close(resolve);
      server.closeAllConnections();
    });
    return samples;
  };
  const handler = (_request: unknown, response: { end(text: string): unknown }): unknown =>
    response.end('ok');

  test('counts a request once, even if it is attached twice and wraps the handler', async () => {
    const samples = await asked((guard) => {
      const server = createServer(guard.request(handler));
      for (const path of ['/a', '/b'])
        guard.attach(server, new WebSocketServer({ noServer: true }), { path });
      return server;
    });
    expect(samples).toBe(1);
  });

  test('counts requests of a server that routes upgrades itself', async () => {
    expect(await asked((guard) => createServer(guard.request(handler)))).toBe(1);
  });

  test('does not count a request that is refused since it has no token', async () => {
    const keys = { secret: 'k'.repeat(32) };
    const verifier = new TokenVerifier({ algorithms: ['HS256'], keys });
    const auth = { verifier, http: true };
    expect(await asked((guard) => createServer(guard.request(handler)), { auth })).toBe(0);
  });
});

const isBun = 'bun' in process.versions;
if (!isBun) console.log('skipped on Node: the adapters of Elysia and Bun need Bun');

describe.skipIf(!isBun)('the adapters of Elysia and Bun', () => {
  const visit = async (port: number): Promise<globalThis.WebSocket> => {
    const socket = new globalThis.WebSocket(`ws://127.0.0.1:${port}/ws`);
    await new Promise((resolve) => (socket.onopen = socket.onerror = socket.onclose = resolve));
    return socket;
  };

  test('Elysia: count by route pattern, including failures and 404, without upgrades', async () => {
    const { Elysia } = await import('elysia');
    const { portcullis: plugin } = await import('../dist/elysia.js');
    const metrics = new ProductionMetrics();
    const app = new Elysia()
      .use(plugin({ limits: { maxTotalConnections: 1 }, metrics }))
      .get('/static', 'hello')
      .get('/users/:id', ({ params }) => params.id)
      .get('/throws', () => {
        throw new Error('on purpose');
      })
      .ws('/ws', { message: (ws, message) => void ws.send(message) })
      .listen(0);
    const port = app.server?.port ?? 0;
    for (const path of ['/static', '/users/1', '/users/2', '/throws', '/nothing'])
      await (await fetch(`http://127.0.0.1:${port}${path}`)).text();
    const socket = await visit(port);
    socket.send('hello');
    await new Promise((resolve) => (socket.onmessage = resolve));
    await visit(port);
    await until(() => metrics.generateReport().inFlight === 0);
    const report = metrics.generateReport();
    expect(
      report.routes.map(({ method, route, total }) => `${method} ${route} ${total}`).toSorted(),
    ).toEqual(['GET  1', 'GET /static 1', 'GET /throws 1', 'GET /users/:id 2'].toSorted());
    expect(report).toMatchObject({
      samples: 5,
      metrics: { errorRate: 0.2 },
      refusals: { total_limit: 1 },
    });
    expect(report.windows['1m']).toMatchObject({ clientErrors: 1, messagesIn: 1, messagesOut: 1 });
    socket.close();
    metrics.close();
    await app.stop(true);
  });

  test('Bun.serve: count responses and failures, and keep refusals apart', async () => {
    const { portcullis: guardOf } = await import('../dist/bun.js');
    const metrics = new ProductionMetrics();
    const guard = guardOf({ limits: { maxTotalConnections: 1 }, metrics });
    interface Server {
      readonly port: number;
      upgrade(request: Request): boolean;
      stop(force: boolean): unknown;
    }
    const { serve } = (globalThis as unknown as { Bun: { serve(options: object): Server } }).Bun;
    const server = serve({
      port: 0,
      fetch: guard.fetch(async (request: Request, host: Server) => {
        if (new URL(request.url).pathname === '/throws') throw new Error('on purpose');
        return host.upgrade(request) ? undefined : new Response('ok');
      }),
      websocket: guard.websocket({ message: () => undefined }),
      error: () => new Response('broken', { status: 500 }),
    });
    for (const path of ['/', '/throws'])
      await (await fetch(`http://127.0.0.1:${server.port}${path}`)).text();
    const socket = await visit(server.port);
    await visit(server.port);
    await until(() => metrics.generateReport().inFlight === 0);
    expect(metrics.generateReport()).toMatchObject({
      samples: 2,
      metrics: { errorRate: 0.5 },
      refusals: { total_limit: 1 },
    });
    socket.close();
    metrics.close();
    await server.stop(true);
  });
});

describe('rate limiters in the exposition', () => {
  /** Values of the families of limiters, by name and labels. */
  const figuresOf = async (metrics: ProductionMetrics): Promise<Record<string, number>> => {
    const text = await metrics.toPrometheus({ naming: 'otel' });
    const lines = text.matchAll(/^portcullis_limiter_(\w+)\{limiter="([^"]*)"(.*)\} (\S+)$/gm);
    return Object.fromEntries(
      [...lines].map(([, name, limiter, rest, value]) => [
        `${limiter} ${name}${rest!.replace(/,outcome="(\w+)"/, ' $1')}`,
        Number(value),
      ]),
    );
  };

  test('have a label each, counters that never fall, and gauges of the keys that are left', async () => {
    const { clock, timers, metrics } = fixture();
    const logins = new RateLimiter({ limit: 2, windowMs: 1000, maxKeys: 3, clock });
    metrics.attachLimiter(logins, 'log\tins');
    metrics.attachLimiter(logins, 'ignored');
    for (const key of ['a', 'a', 'a', 'b', 'c', 'd', 'e']) logins.take(key);
    logins.block('x', 1000);
    logins.peek('a');
    const all = {
      'log ins costs_total admitted': 6,
      'log ins costs_total refused': 1,
      'log ins blocks_total': 1,
      'log ins keys': 3,
      'log ins evictions_total': 3,
      'log ins memory_bytes': logins.snapshot().bytes,
    };
    expect(await figuresOf(metrics)).toEqual(all);
    metrics.detachLimiter(logins);
    metrics.detachLimiter(logins);
    logins.take('a');
    const left = { ...all, 'log ins keys': 0, 'log ins memory_bytes': 0 };
    expect(await figuresOf(metrics)).toEqual(left);
    // Attached again, it goes on: nothing counts twice.
    metrics.attachLimiter(logins, 'log\tins');
    const once = new ProductionMetrics({ timers });
    once.attachLimiter(logins, 'log ins');
    expect(await figuresOf(metrics)).toEqual(await figuresOf(once));
    for (let round = 0; round < 3; round++) {
      metrics.detachLimiter(logins);
      metrics.attachLimiter(logins, 'log\tins');
    }
    expect(await figuresOf(metrics)).toEqual(await figuresOf(once));
    metrics.detachLimiter(logins);
    const { admitted } = logins.snapshot();
    const second = new RateLimiter({ limit: 2, windowMs: 1000, clock });
    second.take('a');
    metrics.attachLimiter(second, 'log\tins');
    expect(await figuresOf(metrics)).toMatchObject({
      'log ins costs_total admitted': admitted + 1,
      'log ins keys': 1,
    });
  });

  test('have one series where their labels differ in control characters only', async () => {
    const { clock, metrics } = fixture();
    for (const label of ['a\tb', 'a\nb', 'a\rb', 'a b', 'c\u0000d', 'c\u0001d', 'c?d']) {
      const limiter = new RateLimiter({ limit: 1, windowMs: 1000, clock });
      limiter.take('a');
      metrics.attachLimiter(limiter, label);
    }
    const text = await metrics.toPrometheus();
    const series = text.split('\n').filter((line) => line.startsWith('portcullis_limiter_keys{'));
    expect(series).toEqual([
      'portcullis_limiter_keys{limiter="a b"} 4',
      'portcullis_limiter_keys{limiter="c?d"} 3',
    ]);
  });

  test('count the keys of one name once, and take the label of the name', async () => {
    const { clock, metrics } = fixture();
    const options = { limit: 1, windowMs: 1000, name: 'metrics-shared', maxKeys: 16, clock };
    const [a, b] = [new RateLimiter(options), new RateLimiter(options)];
    for (const limiter of [a, b]) metrics.attachLimiter(limiter);
    for (let key = 0; key < 100; key++) [a, b][key % 2]!.take(`k${key}`);
    const { keys, evicted } = a.snapshot();
    expect(keys + evicted).toBe(100);
    const expected = {
      'metrics-shared costs_total admitted': 100,
      'metrics-shared keys': keys,
      'metrics-shared evictions_total': evicted,
    };
    expect(await figuresOf(metrics)).toMatchObject(expected);
    metrics.detachLimiter(a);
    expect(await figuresOf(metrics)).toMatchObject(expected);
    metrics.detachLimiter(b);
    expect(await figuresOf(metrics)).toMatchObject({ ...expected, 'metrics-shared keys': 0 });
    // Attached again, neither counts the evictions of their table twice.
    for (const limiter of [a, b]) metrics.attachLimiter(limiter);
    expect(await figuresOf(metrics)).toMatchObject(expected);
  });

  test('beyond 99 labels share one, and a label is needed', async () => {
    const { clock, metrics } = fixture();
    for (let at = 0; at < 130; at++) {
      const limiter = new RateLimiter({ limit: 1, windowMs: 1000, clock });
      limiter.take('a');
      metrics.attachLimiter(limiter, `l${at}`);
    }
    const figures = await figuresOf(metrics);
    expect(Object.keys(figures)).toHaveLength(100 * 6);
    expect(figures['other keys']).toBe(31);
    const nameless = new RateLimiter({ limit: 1, windowMs: 1000 });
    for (const [limiter, label, code] of [
      [nameless, undefined, 'ERR_INVALID_ARG_TYPE'],
      [nameless, '', 'ERR_INVALID_ARG_TYPE'],
      [nameless, 'x'.repeat(129), 'ERR_OUT_OF_RANGE'],
      [{}, 'a', 'ERR_INVALID_ARG_TYPE'],
    ] as const)
      expect(() => metrics.attachLimiter(limiter as RateLimiter, label)).toThrow(
        expect.objectContaining({ code }),
      );
  });

  test('are attached by a guard, which detaches those that it made', async () => {
    const { clock, timers, metrics } = fixture();
    const own = new RateLimiter({ limit: 5, windowMs: 1000, clock });
    const rate = {
      perIp: { limit: 5, windowMs: 1000 },
      perRoute: { '/a': { limit: 5, windowMs: 1000 }, '/b': { limit: 5, windowMs: 1000 } },
      perKey: own,
      key: () => 'k',
    };
    const guard = portcullis({ limits: {}, timers, metrics, requests: { rate } });
    own.take('k');
    const labels = async (): Promise<string[]> =>
      Object.keys(await figuresOf(metrics)).filter((name) => name.endsWith(' keys'));
    expect(await labels()).toEqual([
      'requests.ip keys',
      'requests.key keys',
      'requests.route keys',
    ]);
    guard.close();
    expect(await figuresOf(metrics)).toMatchObject({ 'requests.key keys': 1 });
    expect(metrics.snapshot().uptimeMs).toBe(0);
  });
});
