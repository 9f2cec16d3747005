import { once } from 'node:events';
import { createServer, type IncomingMessage } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterEach, describe, expect, it } from 'vitest';
import WebSocket, { WebSocketServer } from 'ws';
import {
  ConnectionManager,
  type PressureCause,
  ProductionMetrics,
  ResourceMonitor,
  TimerManager,
} from '../dist/index.js';
import type { ResourceLimitsInput, ResourceMonitorOptions } from '../dist/index.js';
import { DelayWindow, Threshold } from '../dist/resources/pressure.js';
import { FakeSocket, ManualClock } from '../dist/testing.js';
import { portcullis } from '../dist/ws.js';
import { inFull } from './fixtures/long.js';
import { until } from './fixtures/until.js';
import { fractionsOf } from './fixtures/random.js';

// Load shedding by other causes than memory. The classes take time as an argument; a few tests block this loop.
const isBun = 'bun' in process.versions;
const ends: (() => void)[] = [];
afterEach(() => {
  for (const end of ends.splice(0)) end();
});

type Shedding = Exclude<NonNullable<ResourceMonitorOptions['shedding']>, boolean>;

function monitored(
  shedding: Shedding,
  options: ResourceMonitorOptions = {},
  limits: ResourceLimitsInput = {},
): ResourceMonitor {
  const monitor = new ResourceMonitor(limits, { log: false, gc: false, shedding, ...options });
  ends.push(() => monitor.close());
  return monitor;
}

/** Keeps the loop busy. */
function block(ms: number): void {
  const end = performance.now() + ms;
  while (performance.now() < end);
}

describe('a threshold', () => {
  it('begins above the limit, ends at four fifths of it, and is as a naive model says', () => {
    const random = fractionsOf(7);
    for (let run = 0; run < 200; run++) {
      const limit = 0.05 + random() * 500;
      const max = random() < 0.5 ? limit * (1 + random()) : Infinity;
      const threshold = new Threshold(limit, max);
      const seen: number[] = [];
      for (let at = 0; at < 50; at++) {
        const value = Math.min(max, limit * random() * 1.5);
        seen.push(value);
        threshold.update(value);
        // The model looks back: the last value beyond one of the two edges decides.
        const last = seen.findLast((one) => one > limit || one <= 0.8 * limit) ?? 0;
        const full = Math.min(1.2 * limit, max);
        const share = Math.min(1, (value - 0.8 * limit) / (full - 0.8 * limit));
        expect(threshold.share).toBe(last > limit ? share : 0);
      }
    }
  });
});

describe('the delay of the event loop', () => {
  it('is the 99th percentile over all times of arrival, as a naive model counts it', () => {
    const random = fractionsOf(11);
    for (let run = 0; run < inFull(8, 200); run++) {
      const window = new DelayWindow();
      const ticks = [0];
      window.tick(0);
      for (let at = 0; at < 120; at++) {
        const late = random() < 0.1 ? random() * 400 : 0;
        const now = ticks.at(-1)! + 20 + late;
        ticks.push(now);
        const found = window.tick(now);
        expect(Math.abs(found - modelOf(ticks))).toBeLessThanOrEqual(1);
      }
    }
  });

  /** The wait of events that arrive at each quarter of a millisecond of the window. */
  function modelOf(ticks: readonly number[]): number {
    const now = ticks.at(-1)!;
    const gaps = ticks
      .slice(1)
      .map((end, index) => ({ begin: ticks[index]!, end, delay: end - ticks[index]! - 20 }))
      .filter(({ end, delay }) => delay > 1e-9 && end > now - 1000);
    if (gaps.length === 0) return 0;
    const from = Math.max(0, Math.min(now - 1000, gaps[0]!.begin));
    const waits: number[] = [];
    for (const { delay } of gaps) for (let wait = delay; wait > 0; wait -= 0.25) waits.push(wait);
    const arrivals = (now - from) * 4;
    waits.sort((a, b) => b - a);
    return waits[Math.floor(arrivals * 0.01)] ?? 0;
  }

  it('of one block is as long as the block, and is forgotten after a second', () => {
    const window = new DelayWindow();
    window.tick(1000);
    expect(window.tick(1520)).toBeCloseTo(500 - 5.2, 6);
    let now = 1520;
    const seen: number[] = [];
    while (now < 2600) seen.push(window.tick((now += 20)));
    expect(seen.findIndex((delay) => delay === 0)).toBe(49);
  });
});

describe('a monitor', () => {
  it('sheds nothing for a busy loop without such limits, and says so', async () => {
    const monitor = monitored({});
    for (let turn = 0; turn < 8; turn++) {
      block(150);
      await new Promise((resolve) => setImmediate(resolve));
    }
    // Health speaks of memory alone.
    expect([monitor.isHealthy(), monitor.isUnderPressure(), monitor.shedMs()]).toEqual([
      true,
      false,
      0,
    ]);
    expect(monitor.pressure()).toMatchObject({ share: 0, causes: {}, refused: {} });
  });

  it('sheds while the loop is late, names the cause, and ends it by itself', async () => {
    const monitor = monitored({ maxEventLoopDelayMs: 50 });
    expect(monitor.isUnderPressure()).toBe(false);
    expect(monitor.pressure().limits).toEqual([
      {
        cause: 'memory',
        limit: expect.any(Number) as number,
        value: expect.any(Number) as number,
        share: 0,
        since: null,
      },
      { cause: 'event_loop_delay', limit: 50, value: null, share: 0, since: null },
    ]);
    const startMs = Date.now();
    await until(() => {
      block(200);
      return monitor.isUnderPressure();
    });
    const [, late] = monitor.pressure().limits;
    expect(late).toMatchObject({ limit: 50, share: monitor.pressure().share });
    expect(late!.value).toBeGreaterThan(50);
    expect(late!.since).toBeGreaterThanOrEqual(startMs);
    expect(late!.since).toBeLessThanOrEqual(Date.now());
    expect(Object.keys(monitor.pressure().causes)).toEqual(['event_loop_delay']);
    expect(monitor.shedMs()).toBeGreaterThan(0);
    expect([monitor.shedCause, monitor.pressure().refused, monitor.isHealthy()]).toEqual([
      'event_loop_delay',
      { event_loop_delay: 1 },
      true,
    ]);
    await until(() => !monitor.isUnderPressure());
    expect(monitor.pressure().limits[1]).toMatchObject({ share: 0, since: null });
    expect(monitor.shedMs()).toBe(0);
  });

  it('sheds while the loop is busy, by the figure of the host', async () => {
    const monitor = monitored({ maxEventLoopUtilization: 0.5, sampleIntervalMs: 100 });
    await until(() => {
      block(100);
      return monitor.isUnderPressure();
    });
    expect(Object.keys(monitor.pressure().causes)).toEqual(['event_loop_utilization']);
    await until(() => !monitor.isUnderPressure());
  });

  it('sheds nothing after its end, and all its answers agree', async () => {
    let settle: (value: boolean) => void = () => undefined;
    const late = new Promise<boolean>((resolve) => (settle = resolve));
    const checks = { never: () => false, late: () => late };
    const monitor = monitored({ checks, maxEventLoopDelayMs: 20, sampleIntervalMs: 100 });
    const full = monitored(
      {},
      {},
      { memory: { warningThreshold: 1, criticalThreshold: 2, maxHeapSizeMb: 1 } },
    );
    await until(() => {
      block(60);
      return Object.keys(monitor.pressure().causes).length === 3 && full.isUnderPressure();
    });
    for (const one of [monitor, full]) {
      expect([one.pressure().share, one.isUnderPressure()]).toEqual([1, true]);
      one.close();
    }
    settle(false);
    await new Promise((resolve) => setImmediate(resolve));
    for (const one of [monitor, full]) {
      const { share, causes, limits } = one.pressure();
      expect([share, causes, one.isUnderPressure(), one.shedMs()]).toEqual([0, {}, false, 0]);
      expect(limits.map(({ share, since }) => [share, since])).toEqual(limits.map(() => [0, null]));
      expect(limits.length).toBeGreaterThan(0);
    }
    const manager = new ConnectionManager({}, { monitor: full });
    ends.push(() => manager.close());
    expect(manager.reserve('192.0.2.1').success).toBe(true);
  });

  it.runIf(isBun)('refuses the utilization on Bun without its source', () => {
    expect(() => monitored({ maxEventLoopUtilization: 0.5 }, { stalls: false })).toThrow(
      expect.objectContaining({
        code: 'ERR_UNSUPPORTED',
        field: 'shedding.maxEventLoopUtilization',
      }) as Error,
    );
  });

  it('runs checks at each sample; one that fails, throws or hangs sheds', async () => {
    const clock = new ManualClock();
    const timers = new TimerManager({ clock });
    let value: unknown = true;
    let calls = 0;
    const warnings: Error[] = [];
    const onWarning = (warning: Error): void => void warnings.push(warning);
    process.on('warning', onWarning);
    ends.push(() => process.off('warning', onWarning));
    const monitor = monitored(
      {
        retryAfterMs: 1000,
        checks: {
          queue: () => {
            calls++;
            if (value instanceof Error) throw value;
            return value;
          },
        },
      },
      { timers },
    );
    const after = async (next: unknown): Promise<readonly string[]> => {
      value = next;
      clock.advance(1000);
      await new Promise((resolve) => setImmediate(resolve));
      return Object.keys(monitor.pressure().causes);
    };
    const failing = ['check:queue'];
    const limits = (): unknown => monitor.pressure().limits.at(-1);
    const check = { cause: 'check:queue', limit: null, value: null };
    expect(await after(true)).toEqual([]);
    expect(limits()).toEqual({ ...check, share: 0, since: null });
    expect(await after(false)).toEqual(failing);
    expect(limits()).toEqual({ ...check, share: 1, since: expect.any(Number) as number });
    expect(await after(undefined)).toEqual([]);
    expect(await after(new Error('a secret'))).toEqual(failing);
    expect(await after(Promise.resolve(true))).toEqual([]);
    expect(await after(Promise.resolve(false))).toEqual(failing);
    expect(await after(0)).toEqual([]);
    let settle: (value: boolean) => void = () => undefined;
    const hanging = new Promise<boolean>((resolve) => (settle = resolve));
    expect(await after(hanging)).toEqual([]);
    const before = calls;
    expect(await after(true)).toEqual(failing);
    // No second run beside the one that hangs.
    expect(calls).toBe(before);
    settle(true);
    await new Promise((resolve) => setImmediate(resolve));
    expect(Object.keys(monitor.pressure().causes)).toEqual([]);
    await until(() => warnings.length > 0);
    expect(warnings.map(({ message }) => message)).toEqual([
      expect.stringMatching(/^shedding\.checks\.queue failed/) as string,
    ]);
    value = false;
    clock.advance(1000);
    monitor.close();
    expect([monitor.isUnderPressure(), monitor.shedMs()]).toEqual([false, 0]);
  });

  it('gives a check that hangs up after its timeout, aborts its signal, and begins it again', async () => {
    const clock = new ManualClock();
    const timers = new TimerManager({ clock });
    const warnings: Error[] = [];
    const onWarning = (warning: Error): void => void warnings.push(warning);
    process.on('warning', onWarning);
    ends.push(() => process.off('warning', onWarning));
    const runs: { readonly atMs: number; readonly signal: AbortSignal }[] = [];
    const settles: ((value: boolean) => void)[] = [];
    const db = (signal: AbortSignal): Promise<boolean> => {
      runs.push({ atMs: clock.now(), signal });
      return new Promise((resolve) => settles.push(resolve));
    };
    const shedding = { checks: { db }, sampleIntervalMs: 100, checkTimeoutMs: 250 };
    const monitor = monitored(shedding, { timers });
    const failing = async (ms: number): Promise<boolean> => {
      clock.advance(ms);
      await new Promise((resolve) => setImmediate(resolve));
      return 'check:db' in monitor.pressure().causes;
    };
    expect([await failing(100), await failing(100), await failing(200)]).toEqual([
      false,
      true,
      true,
    ]);
    expect(runs.map(({ atMs, signal }) => [atMs, signal.aborted])).toEqual([
      [100, true],
      [400, false],
    ]);
    // The run that was given up says nothing any more; the next one does.
    settles[0]!(true);
    expect(await failing(0)).toBe(true);
    settles[1]!(true);
    expect(await failing(0)).toBe(false);
    expect(await failing(100)).toBe(false);
    expect(runs.map(({ atMs }) => atMs)).toEqual([100, 400, 500]);
    await until(() => warnings.length > 0);
    expect(warnings.map(({ cause }) => cause)).toEqual([
      expect.objectContaining({ code: 'ERR_TIMEOUT', field: 'shedding.checks.db' }),
    ]);
  });

  it('has timers for its causes only, and none after close', () => {
    const namesOf = (shedding: Shedding): string[] => {
      const timers = new TimerManager({ clock: new ManualClock() });
      const monitor = monitored(shedding, { timers });
      const names = timers.snapshot().timers.map(({ name }) => name ?? '');
      monitor.close();
      expect(timers.snapshot().active).toBe(0);
      return names.toSorted();
    };
    expect(namesOf({})).toEqual(['resources.poll']);
    expect(namesOf({ maxEventLoopDelayMs: 10 })).toEqual(['resources.delay', 'resources.poll']);
    expect(namesOf({ checks: { a: () => true } })).toEqual([
      'resources.poll',
      'resources.pressure',
    ]);
  });
});

describe('a refusal names its cause', () => {
  const shedding = {
    retryAfterMs: 1000,
    checks: { database: () => false },
    sampleIntervalMs: 100,
  };
  const CAUSE: PressureCause = 'check:database';

  it('in the refusals of a manager and in the metrics', async () => {
    const clock = new ManualClock();
    const timers = new TimerManager({ clock });
    const monitor = monitored(shedding, { timers });
    const metrics = new ProductionMetrics({ monitor, timers });
    ends.push(() => metrics.close());
    clock.advance(100);
    const manager = new ConnectionManager({}, timers, { monitor });
    expect(manager.addConnection('a', new FakeSocket(), '192.0.2.1')).toMatchObject({
      success: false,
      code: 'overload',
      cause: CAUSE,
    });
    const text = await metrics.toPrometheus();
    expect(text).toContain('portcullis_shed_total{cause="check:database"} 1');
    expect(text).toContain('portcullis_pressure_ratio{cause="check:database"} 1');
  });

  it.skipIf(isBun)(
    'in the answers to requests and handshakes, plain and as problem details, and on the page (its server needs Node)',
    async () => {
      for (const refusalFormat of ['json', 'problem'] as const) {
        const monitor = monitored(shedding);
        const told: (string | undefined)[] = [];
        const guard = portcullis({
          limits: {},
          requests: {},
          monitor,
          refusalFormat,
          onRefused: (_request, { cause }) => void told.push(cause),
          page: { path: '/live', token: 'a-token-of-some-length' },
        });
        const server = createServer(guard.request((_request, response) => response.end('served')));
        ends.push(() => {
          server.close();
          guard.close();
        });
        guard.attach(server, new WebSocketServer({ noServer: true }));
        server.listen(0, '127.0.0.1');
        await once(server, 'listening');
        await until(() => monitor.isUnderPressure());
        const { port } = server.address() as AddressInfo;
        const answer = await fetch(`http://127.0.0.1:${port}/`);
        expect([answer.status, await answer.json()]).toEqual([
          503,
          expect.objectContaining({ code: 'overload', cause: CAUSE }),
        ]);
        expect(JSON.parse(await handshake(port))).toMatchObject({ code: 'overload', cause: CAUSE });
        expect(told).toEqual([CAUSE, CAUSE]);
        const page = await fetch(`http://127.0.0.1:${port}/live/snapshot`, {
          headers: { authorization: 'Bearer a-token-of-some-length' },
        });
        await until(async () => (await read(port)).state === 'warning');
        expect(page.status).toBe(200);
        expect(await read(port)).toMatchObject({
          state: 'warning',
          reason: '100 % of newcomers are refused: check:database',
        });
      }
    },
  );

  /** The body of the answer to a refused handshake. */
  async function handshake(port: number): Promise<string> {
    const client = new WebSocket(`ws://127.0.0.1:${port}/`);
    client.on('error', () => undefined);
    const [, response] = (await once(client, 'unexpected-response')) as [unknown, IncomingMessage];
    let body = '';
    for await (const chunk of response) body += String(chunk);
    return body;
  }

  async function read(port: number): Promise<{ state: string; reason: string }> {
    const answer = await fetch(`http://127.0.0.1:${port}/live/snapshot`, {
      headers: { authorization: 'Bearer a-token-of-some-length' },
    });
    return (await answer.json()) as { state: string; reason: string };
  }
});
