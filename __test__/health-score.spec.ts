import { describe, expect, test, vi } from 'vitest';
import {
  ConnectionManager,
  LivePage,
  ProductionMetrics,
  type ProductionMetricsOptions,
  type ProductionReport,
  ResourceMonitor,
  type ResourceSnapshot,
  type ScorePart,
  type Stall,
  TimerManager,
} from '../dist/index.js';
import { ManualClock } from '../dist/testing.js';
import { inFull } from './fixtures/long.js';
import { fractionsOf } from './fixtures/random.js';

/** The two lines of docs/kpi.md, naively: the score of the printed parts. */
function scoreOf(parts: readonly Pick<ScorePart, 'score' | 'weight' | 'cap'>[]): number | null {
  const known = parts.filter((part) => part.score !== null);
  const sum = (of: (part: Pick<ScorePart, 'score' | 'weight'>) => number): number =>
    known.reduce((total, part) => total + of(part), 0);
  const weights = sum(({ weight }) => weight);
  if (weights === 0) return null;
  const mean = sum(({ weight, score }) => score! * weight) / weights;
  const caps = parts.map(({ cap }) => cap).filter((cap) => cap !== null);
  return Math.round(Math.min(mean, 100, ...caps) * 10) / 10;
}

interface Machine {
  stalls: Stall[];
  snapshot: (real: ResourceSnapshot) => ResourceSnapshot;
}

/** Metrics with a real monitor, of which the test decides the stalls and some figures. */
function fixture(machine: Machine, options: ProductionMetricsOptions = {}) {
  const clock = new ManualClock();
  const timers = new TimerManager({ clock });
  const monitor = new ResourceMonitor({}, { timers, log: false, stalls: {} });
  const read = monitor.snapshot.bind(monitor);
  vi.spyOn(monitor, 'snapshot').mockImplementation(() => machine.snapshot(read()));
  vi.spyOn(monitor, 'stalls').mockImplementation(() => machine.stalls);
  const metrics = new ProductionMetrics({
    timers,
    monitor,
    targets: { maxMemoryUsage: 1e6, maxCpuUsage: 100 },
    ...options,
  });
  return { clock, timers, monitor, metrics };
}

const calm = (real: ResourceSnapshot): ResourceSnapshot => ({
  ...real,
  loop: { ...real.loop, delayMs: null, utilization: 0.1, utilization10s: 0.1 },
});
const stall = (id: number, endedAt: number, durationMs: number): Stall => ({
  id,
  thread: 'main',
  startedAt: endedAt - durationMs,
  durationMs,
  noticedAfterMs: 100,
  cause: 'busy',
  systemCall: null,
  onCpuShare: 1,
  waitingShare: 0,
  label: null,
  inFlight: 0,
  requests: [],
});
const recomputed = ({ scoreParts }: ProductionReport): number | null =>
  scoreOf(Object.values(scoreParts));

describe('the health score', () => {
  test('follows from the printed parts, for random figures, in the report and on the page', () => {
    const pick = fractionsOf(7);
    const below = (most: number): number => Math.floor(pick() * most);
    for (let round = 0; round < inFull(40, 1000); round++) {
      const now = Date.now();
      const machine: Machine = { stalls: [], snapshot: calm };
      // Figures near their targets cap nothing: the score is then the mean.
      const isMild = below(2) === 0;
      for (let id = 1, end = now - 60_000; id < below(isMild ? 4 : 20); id++) {
        end = Math.min(now, end + below(8000));
        machine.stalls.push(stall(id, end, 20 + below(3000)));
      }
      const [busy, delay, kills] = isMild
        ? [0.6, 40 + below(20), 0]
        : [pick(), below(150), below(3)];
      machine.snapshot = (real) => ({
        ...real,
        memory: { ...real.memory, oomKills: 5 },
        cpu: {
          ...real.cpu,
          percentOfAllowed: below(2) === 0 ? null : pick() * (isMild ? 75 : 100),
        },
        loop: {
          ...real.loop,
          utilization10s: below(4) === 0 ? null : 0.9 + busy / 10,
          delayMs: { p50: 0, p90: 0, p99: delay, p999: delay, max: delay, mean: 1, count: 9 },
        },
      });
      const names = ['errors', 'latency', 'loop', 'stalls', 'memory', 'cpu'] as const;
      const { clock, timers, monitor, metrics } = fixture(machine, {
        targets: {
          maxMemoryUsage: isMild
            ? process.memoryUsage.rss() / 2 ** 20 / (1 + pick() / 4)
            : 1 + below(200),
          maxErrorRate: isMild ? 0.5 : below(3) / 50,
        },
        weights: Object.fromEntries(names.map((name) => [name, below(3) / 10])),
      });
      const connections = new ConnectionManager({}, timers);
      const page = new LivePage({ path: '/live', monitor, metrics }, { connections, timers });
      const seen = machine.snapshot;
      metrics.generateReport();
      machine.snapshot = (real) => {
        const shown = seen(real);
        return { ...shown, memory: { ...shown.memory, oomKills: 5 + kills } };
      };
      const failed = pick() / 3;
      for (let i = below(60); i > 0; i--)
        metrics.recordRequest(below(isMild ? 125 : 250), { status: pick() < failed ? 500 : 200 });
      clock.advance(1000);
      const report = JSON.parse(JSON.stringify(metrics.generateReport())) as ProductionReport;
      expect(recomputed(report)).toBe(report.metrics.healthScore);
      const { health } = JSON.parse(JSON.stringify(page.snapshot())) as {
        health: { score: number | null; parts: ScorePart[] };
      };
      expect(scoreOf(health.parts)).toBe(health.score);
      for (const part of [...Object.values(report.scoreParts), ...health.parts])
        if (part.cap === null) expect(part.capEndsAt).toBe(null);
        else expect(part.cap).toBeLessThan(100);
      page.close();
      metrics.close();
      timers.close();
    }
  });

  test('is not capped by a part that its weight of 0 leaves out', () => {
    const metrics = new ProductionMetrics({
      targets: { maxMemoryUsage: 1e6 },
      weights: { errors: 0, latency: 0 },
    });
    for (let i = 0; i < 30; i++) metrics.recordRequest(500, { status: i === 0 ? 500 : 200 });
    const { scoreParts, metrics: figures } = metrics.generateReport();
    expect([scoreParts.latency.score, scoreParts.latency.cap]).toEqual([0, null]);
    expect(figures.healthScore).toBe(100);
    metrics.close();
  });

  test('is null without requests and a monitor, as are its parts', () => {
    const metrics = new ProductionMetrics();
    const report = metrics.generateReport();
    expect([report.metrics.healthScore, recomputed(report)]).toEqual([null, null]);
    metrics.close();
  });

  test('loses no point by one stall of 112 ms, and says so as a warning', () => {
    const machine: Machine = { stalls: [stall(1, Date.now(), 112)], snapshot: calm };
    const { metrics, timers } = fixture(machine);
    const report = metrics.generateReport();
    expect([report.healthy, report.metrics.healthScore]).toEqual([true, 100]);
    // The memory of the machine that runs the test may give a finding of its own.
    const ofStalls = report.findings.filter(({ id }) => id.startsWith('stall'));
    expect(ofStalls).toMatchObject([{ id: 'stall_busy', severity: 'warning' }]);
    timers.close();
  });

  test('is capped by stalls: by their share of the time, and by their number', () => {
    const machine: Machine = { stalls: [], snapshot: calm };
    const { metrics, timers } = fixture(machine);
    const now = Date.now();
    vi.useFakeTimers({ now, toFake: ['Date'] });
    try {
      machine.stalls = [stall(1, now - 1000, 2000)];
      const long = metrics.generateReport();
      expect(long.metrics.healthScore).toBe(20);
      // The cap ends when less than 8.75 % of ten seconds are left: after 1125 of the 2000 ms.
      expect(long.scoreParts.stalls).toMatchObject({
        observed: 0.2,
        score: 0,
        cap: 20,
        capEndsAt: now - 3000 + 10_000 + 1125,
      });
      expect(long.findings[0]).toMatchObject({ id: 'stall_busy', severity: 'critical' });
      vi.setSystemTime(now + 8125);
      expect(metrics.generateReport().scoreParts.stalls).toMatchObject({ score: 75, cap: null });
      vi.setSystemTime(now + 8100);
      expect(metrics.generateReport().scoreParts.stalls.cap).not.toBe(null);

      // Of two stalls the window leaves the older one first.
      vi.setSystemTime(now);
      machine.stalls = [stall(1, now - 6000, 800), stall(2, now - 1000, 700)];
      expect(metrics.generateReport().scoreParts.stalls).toMatchObject({
        observed: 0.15,
        cap: 58.3,
        capEndsAt: now - 6800 + 10_000 + 625,
      });
      machine.stalls = [stall(1, now - 6000, 800), stall(2, now - 1000, 1000)];
      expect(metrics.generateReport().scoreParts.stalls.capEndsAt).toBe(now - 2000 + 10_000 + 125);

      const ends = Array.from({ length: 10 }, (_, at) => now - 40_000 + at * 3000);
      machine.stalls = ends.map((end, at) => stall(at + 1, end, 100));
      machine.stalls.push(stall(11, now - 5000, 99));
      expect(metrics.generateReport().scoreParts.stallCount).toMatchObject({
        observed: 10,
        score: 0,
        cap: 20,
        capEndsAt: ends[5]! + 60_000,
      });
      vi.setSystemTime(ends[5]! + 60_000);
      expect(metrics.generateReport().scoreParts.stallCount).toMatchObject({
        observed: 4,
        cap: null,
      });
    } finally {
      vi.useRealTimers();
      timers.close();
    }
  });

  test('shows a saturated loop: at 99.9 % it is at most 27, while isHealthy() judges memory', () => {
    const machine: Machine = {
      stalls: [],
      snapshot: (real) => ({ ...calm(real), loop: { ...calm(real).loop, utilization10s: 0.999 } }),
    };
    const { metrics, monitor, timers } = fixture(machine);
    const report = metrics.generateReport();
    expect([report.healthy, report.metrics.healthScore]).toEqual([false, 27]);
    expect(report.scoreParts.utilization).toMatchObject({ observed: 0.999, score: 2, cap: 27 });
    expect(report.findings[0]).toMatchObject({ id: 'utilization', severity: 'critical' });
    expect(monitor.isHealthy()).toBe(true);
    timers.close();
  });

  test('is capped at 40 for five minutes after a kill, and at 10 while most requests fail', () => {
    let kills = 3;
    const machine: Machine = {
      stalls: [],
      snapshot: (real) => ({ ...calm(real), memory: { ...real.memory, oomKills: kills } }),
    };
    const { metrics, clock, timers } = fixture(machine);
    expect(metrics.generateReport().scoreParts.outOfMemory).toMatchObject({
      score: 100,
      cap: null,
    });
    kills = 5;
    const killed = metrics.generateReport();
    expect(killed.metrics.healthScore).toBe(40);
    expect(killed.scoreParts.outOfMemory).toMatchObject({
      observed: 2,
      score: 0,
      weight: 0,
      cap: 40,
    });
    expect(killed.scoreParts.outOfMemory.capEndsAt! - Date.now()).toBeGreaterThan(299_000);
    clock.advance(299_999);
    expect(metrics.generateReport().metrics.healthScore).toBe(40);
    clock.advance(1);
    expect(metrics.generateReport().metrics.healthScore).toBe(100);
    for (let i = 0; i < 20; i++) metrics.recordRequest(1, { status: i < 3 ? 500 : 200 });
    const failing = metrics.generateReport();
    expect(failing.metrics.healthScore).toBe(10);
    expect(failing.scoreParts.failing).toMatchObject({ observed: 0.15, target: 0.1, cap: 10 });
    timers.close();
  });
});
