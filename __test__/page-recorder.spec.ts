import { describe, expect, it } from 'vitest';
import {
  ConnectionManager,
  PerformantMiddlewareChain,
  ProductionMetrics,
  ResourceMonitor,
  type ResourceSnapshot,
  type Stall,
  TimerManager,
} from '../dist/index.js';
import { LocalAccess, TokenAccess } from '../dist/page/access.js';
import { ConnectionScan } from '../dist/page/connection-scan.js';
import { SHOWN } from '../dist/page/mask.js';
import { Recorder } from '../dist/page/recorder.js';
import { Viewers } from '../dist/page/viewers.js';
import { FakeSocket, ManualClock } from '../dist/testing.js';

// Modules of the page, each by itself.

const TRACEPARENT = '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01';

interface Figures {
  snapshot: ResourceSnapshot;
  stalls: readonly Stall[];
}

/** Creates a recorder with real managers, and a monitor whose figures the test sets. */
function recording(sources: object = {}) {
  const clock = new ManualClock();
  const timers = new TimerManager({ clock });
  const manager = new ConnectionManager({ connectionTimeoutMs: 30_000 }, timers);
  const real = new ResourceMonitor({ memory: { maxHeapSizeMb: 4096 } }, { timers, log: false });
  const figures: Figures = {
    snapshot: { ...real.snapshot(), state: 'ok', collections: [] },
    stalls: [],
  };
  real.close();
  const monitor = {
    snapshot: () => figures.snapshot,
    stalls: () => figures.stalls,
    memoryLimits: real.memoryLimits,
    pressure: () => real.pressure(),
  };
  const all = { connections: manager, timers, monitor, ...sources };
  const recorder = new Recorder(all as never, 'Test', 8, SHOWN);
  return {
    recorder,
    clock,
    timers,
    manager,
    figures,
    look: (isSeen = true) => recorder.look(0, 0, isSeen),
  };
}

const stall = (id: number, durationMs: number): Stall => ({
  id,
  thread: 'main',
  startedAt: id * 1000,
  durationMs,
  noticedAfterMs: 100,
  cause: 'blocked',
  systemCall: 'fsync',
  onCpuShare: 0,
  waitingShare: 0,
  label: `GET /${id}`,
  inFlight: 1,
  requests: [1, 2].map((at) => ({ requestId: `id-${id}-${at}`, traceparent: TRACEPARENT })),
});

describe('events', () => {
  it('report each stall once, long ones as critical, and list the latest', () => {
    const { figures, look, recorder } = recording();
    figures.stalls = [stall(1, 999), stall(2, 1000)];
    look();
    figures.stalls = [1, 2, 3, 4, 5].map((id) => stall(id, id === 2 ? 1000 : 200));
    const { stalls, events } = look();
    expect(stalls.map(({ startedAt }) => startedAt)).toEqual([2000, 3000, 4000, 5000]);
    const told = events.filter(({ kind }) => kind === 'stall');
    expect(told.map(({ severity }) => severity)).toEqual([
      'warning',
      'warning',
      'warning',
      'critical',
      'warning',
    ]);
    expect(told.at(-1)?.text).toBe(
      'Event loop blocked for 999 ms: blocked in a system call (fsync), request id-1-1, trace 4bf92f3577b34da6a3ce929d0e0e4736 and 1 more, in GET /1',
    );
    expect(recorder.history().stalls.map(({ requestId }) => requestId)).toEqual(
      [1, 2, 3, 4, 5].map((id) => `id-${id}-1`),
    );
  });

  it('report each garbage collection once', () => {
    const { figures, look } = recording();
    const collections = [{ at: 5, durationMs: 12.4, freedMb: 30.6 }];
    figures.snapshot = { ...figures.snapshot, collections };
    look();
    figures.snapshot = {
      ...figures.snapshot,
      collections: [...collections, { at: 6, durationMs: 1, freedMb: 1 }],
    };
    const told = look().events.filter(({ kind }) => kind === 'collection');
    expect(told.map(({ text }) => text)).toEqual([
      'Garbage collection at critical memory: 1 MB freed in 1 ms',
      'Garbage collection at critical memory: 31 MB freed in 12 ms',
    ]);
  });

  it('report the counts of idle connections and refusals, unless they are zero', () => {
    const { clock, look, manager } = recording();
    manager.addConnection('a', new FakeSocket(), '192.0.2.1');
    manager.addConnection('b', new FakeSocket(), '192.0.2.1');
    look();
    clock.advance(60_000);
    manager.drain();
    manager.reserve('192.0.2.1');
    const events = [...look().events];
    expect(events.slice(0, 2).map(({ text }) => text)).toEqual([
      '2 idle connections closed',
      '1 refusal: draining',
    ]);
    clock.advance(60_000);
    // The same objects: no event was written again.
    expect(look().events.every((event, at) => event === events[at])).toBe(true);
  });

  it('report changes of state, except draining, which drain() reported', () => {
    const { figures, look, recorder } = recording();
    const texts = (): string[] => look().events.map(({ severity, text }) => `${severity}: ${text}`);
    look();
    figures.snapshot = { ...figures.snapshot, state: 'warning' };
    expect(texts()[0]).toMatch(/^warning: State ok → warning: Memory/);
    figures.snapshot = { ...figures.snapshot, state: 'critical' };
    expect(texts()[0]).toMatch(/^critical: State warning → critical: Memory/);
    figures.snapshot = { ...figures.snapshot, state: 'ok' };
    expect(texts()[0]).toBe('info: State critical → ok');
    recorder.drain();
    recorder.drain();
    expect(look().state).toBe('draining');
    expect(texts().slice(0, 2)).toEqual([
      'warning: Draining: newcomers are refused',
      'info: State critical → ok',
    ]);
  });
});

describe('the state', () => {
  const of = (errors: number, ms = 1): readonly [string, string] => {
    const clock = new ManualClock();
    const timers = new TimerManager({ clock });
    const metrics = new ProductionMetrics({
      timers,
      weights: { latency: 0.5, errors: 0.5, loop: 0, memory: 0, cpu: 0, saturation: 0 },
    });
    for (let i = 0; i < 1000; i++) metrics.recordRequest(ms, { status: i < errors ? 500 : 200 });
    clock.advance(2000);
    const { recorder } = recording({ metrics, monitor: undefined });
    const { state, reason } = recorder.look(0, 0, true);
    metrics.close();
    return [state, reason];
  };

  it('follows the score, with the worst part as reason', () => {
    expect(of(0)).toEqual(['ok', '']);
    const [warning, why] = of(15);
    expect([warning, why]).toEqual([
      'warning',
      expect.stringMatching(/^Error rate 1\.5 %, target 1 %$/),
    ]);
    expect(of(500)[0]).toBe('critical');
  });

  it('comes with recommended actions and observed figures', () => {
    const timers = new TimerManager({ clock: new ManualClock() });
    const metrics = new ProductionMetrics({ timers });
    for (let i = 0; i < 1000; i++) metrics.recordRequest(1, { status: i < 500 ? 500 : 200 });
    const { findings } = metrics.snapshot();
    const { advice } = recording({ metrics, monitor: undefined }).recorder.look(0, 0, true);
    expect(advice?.map(({ id }) => id)).toEqual(findings.map(({ id }) => id));
    expect(advice?.find(({ id }) => id === 'errors')?.detail).toBe(
      'Failed requests: 50 %, threshold 1 %',
    );
    metrics.close();
  });

  it('divides message rates by at least one second', () => {
    const clock = new ManualClock();
    const metrics = new ProductionMetrics({ timers: new TimerManager({ clock }) });
    clock.advance(200);
    for (let i = 0; i < 5; i++) metrics.recordMessage('in', 10);
    clock.advance(1);
    expect(
      recording({ metrics, monitor: undefined }).recorder.look(0, 0, true).messages,
    ).toMatchObject({ inPerSecond: 5, inBytesPerSecond: 50 });
    metrics.close();
  });
});

describe('a snapshot', () => {
  it('lists all refusals by reason, the most frequent first', () => {
    const stats = () => ({
      requests: { active: 0, served: 0, refused: { overload: 4 } },
      websockets: { pongTimeouts: 1, slowConsumers: 2, messagesTooLarge: 3 },
      authDenials: { unauthorized: 5 },
      invalidMessages: { ERR_JSON_DEPTH: 6 },
    });
    const { look } = recording({ stats });
    expect(look().refusals.map(({ name, count }) => `${count} ${name}`)).toEqual([
      '6 message: ERR_JSON_DEPTH',
      '5 unauthorized',
      '4 request: overload',
      '3 socket: message_too_large',
      '2 socket: slow_consumer',
      '1 socket: pong_timeout',
    ]);
  });

  it('lists the twelve most frequent timers, and none above 10,000', () => {
    const { look, timers } = recording();
    for (let name = 0; name < 14; name++)
      for (let i = 0; i <= name; i++)
        timers.setTimeout(() => undefined, { delayMs: 1e6, name: `t${name}` });
    const { byName } = look().timers;
    expect([byName?.length, byName?.[0], byName?.[11]]).toEqual([
      12,
      { name: 't13', count: 14 },
      { name: 't2', count: 3 },
    ]);
    for (let i = 0; i < 10_000; i++) timers.setTimeout(() => undefined, { delayMs: 1e6 });
    expect(look().timers).toEqual({ active: timers.getActiveTimersCount(), byName: null });
    timers.cleanup();
  });

  it('counts all failures of an optional layer as its errors', async () => {
    const chain = new PerformantMiddlewareChain<object, object, unknown>(
      [
        {
          name: 'flaky',
          optional: true,
          middleware: () => Promise.reject(new Error('on purpose')),
        },
      ],
      new TimerManager(),
      { timing: 'off', onError: () => undefined },
    );
    for (let i = 0; i < 3; i++) await chain.execute()({}, () => Promise.resolve());
    expect(recording({ chain }).look().layers).toEqual([
      expect.objectContaining({ name: 'flaky', errors: 3, breaker: 'closed' }),
    ]);
  });

  it('has shares as percentages, in rows too', () => {
    const { figures, look } = recording();
    figures.snapshot = {
      ...figures.snapshot,
      loop: { ...figures.snapshot.loop, utilization: 0.25 },
    };
    const { loop, row } = look();
    expect([loop?.utilizationPercent, row[13]]).toEqual([25, 25]);
  });

  it('drops the result of a scan while nobody looks', () => {
    const { look, manager, recorder } = recording();
    for (let i = 0; i < 2600; i++) manager.addConnection(String(i), new FakeSocket(), '192.0.2.1');
    look();
    const { connections } = look();
    expect(connections.topAddresses).toEqual([{ key: '192.0.2.1', count: 2600 }]);
    expect(look(false).connections.topAddresses).toBeNull();
    expect(recorder.completed(0, 0, true).connections.topAddresses).toBeNull();
    look();
    recorder.glance();
    expect(recorder.completed(0, 0, true).connections.topAddresses).toBeNull();
  });

  it('keeps the same row, state and events of a second at which nobody looks', () => {
    const clock = new ManualClock();
    const timers = new TimerManager({ clock });
    using monitor = new ResourceMonitor({}, { timers, log: false });
    using metrics = new ProductionMetrics({ timers, monitor });
    metrics.recordRequest(20, { route: '/a', method: 'GET', status: 500 });
    clock.advance(1000);
    const { recorder, figures } = recording({ metrics, monitor });
    recorder.glance();
    const shown = recorder.completed(0, 0, false);
    const [glanced] = recorder.history().rows;
    expect([glanced, shown.row, shown.sequence]).toEqual([shown.row, glanced, 1]);
    const seen = recorder.look(0, 0, true);
    // The rest of a row changes by itself: the time, the admitted and the refused, memory, CPU, the score.
    expect(seen.row.slice(1, 9)).toEqual(glanced?.slice(1, 9));
    expect([seen.row[1], seen.row[2], shown.requests?.routes.length]).toEqual([1, 1, 1]);
    expect([seen.state, seen.events.length]).toEqual([shown.state, shown.events.length]);
    expect(seen.heat).toEqual(shown.heat);
    expect(figures.stalls).toEqual([]);
  });
});

describe('the scan of connections', () => {
  interface Known {
    readonly ip: string;
    readonly userId?: string;
    readonly lastActivity?: number;
  }
  const tallied = (all: readonly Known[], now = 20_000) => {
    const scan = new ConnectionScan(
      new Map(all.map((one, at) => [String(at), { lastActivity: now, ...one }])) as never,
      SHOWN,
    );
    let found = scan.step(now);
    while (found === undefined) found = scan.step(now);
    return found;
  };

  it('counts a connection as active for ten seconds after its last activity', () => {
    const { active, quiet } = tallied([
      { ip: 'a', lastActivity: 10_000 },
      { ip: 'a', lastActivity: 9999 },
    ]);
    expect([active, quiet]).toEqual([1, 1]);
  });

  it('shortens long names, sorts equal counts by name, and lists eight', () => {
    const { topAddresses, topUsers } = tallied(
      [...'jihgfedcba'].map((ip) => ({ ip, userId: `${ip}${'x'.repeat(64)}` })),
    );
    expect(topAddresses.map(({ key }) => key)).toEqual([...'abcdefgh']);
    expect(topUsers[0]?.key).toBe(`a${'x'.repeat(63)}…`);
  });

  it('states the greatest error of both lists', () => {
    const { topError } = tallied(
      Array.from({ length: 10_000 }, (_, at) => ({ ip: 'one', userId: `user-${at}` })),
    );
    expect(topError).toBeGreaterThan(0);
  });
});

describe('a viewer', () => {
  const sink = (more: Partial<Record<'isGone' | 'hasRoom', () => boolean>> = {}) => {
    const shown: string[] = [];
    let ended = 0;
    return {
      shown,
      ended: () => ended,
      isGone: () => false,
      hasRoom: () => true,
      write: (text: string) => void shown.push(text),
      end: () => void ended++,
      ...more,
    };
  };

  it('is disconnected after ten frames in a row without room', () => {
    let hasRoom = true;
    const viewers = new Viewers(2);
    const slow = sink({ hasRoom: () => hasRoom });
    viewers.add(slow, 'first');
    for (const seconds of [9, 9]) {
      hasRoom = false;
      for (let second = 0; second < seconds; second++) viewers.show('frame');
      hasRoom = true;
      viewers.show('room');
      expect(viewers.size).toBe(1);
    }
    hasRoom = false;
    for (let second = 0; second < 10; second++) viewers.show('frame');
    expect([viewers.size, slow.ended(), slow.shown]).toEqual([0, 1, ['first', 'room', 'room']]);
  });

  it('that is gone or throws is disconnected at once, at its first frame too', () => {
    const viewers = new Viewers(3);
    let isGone = false;
    const leaving = sink({ isGone: () => isGone });
    viewers.add(leaving, 'first');
    isGone = true;
    viewers.show('frame');
    expect([viewers.size, leaving.shown, leaving.ended()]).toEqual([0, ['first'], 1]);
    const gone = sink({ isGone: () => true });
    viewers.add(gone, 'first');
    const broken = { ...sink(), write: () => expect.fail('broken') };
    viewers.add(broken, 'first');
    expect([viewers.size, gone.shown, gone.ended(), broken.ended()]).toEqual([0, [], 1, 1]);
  });
});

describe('access', () => {
  const judge = (
    headers: Readonly<Record<string, string>>,
    peer = '127.0.0.1',
    token?: string,
  ): number =>
    (token === undefined ? new LocalAccess() : new TokenAccess(token, '/')).check(
      {
        method: 'GET',
        target: '/',
        peer,
        isEncrypted: false,
        header: (name: string) => headers[name] ?? '',
      },
      false,
    )?.status ?? 200;

  it('compares whole addresses and whole names', () => {
    for (const peer of ['128.0.0.1', '126.0.0.1', '27.0.0.1', '127.0.0'])
      expect([peer, judge({ host: 'localhost' }, peer)]).toEqual([peer, 403]);
    for (const host of ['evillocalhost', 'evillocalhost:80', '128.0.0.1'])
      expect([host, judge({ host })]).toEqual([host, 403]);
  });

  it('local refuses a request with any header of a proxy', () => {
    for (const name of [
      'x-forwarded-for',
      'x-forwarded-proto',
      'x-forwarded-port',
      'forwarded',
      'cf-connecting-ip',
      'true-client-ip',
      'x-envoy-external-address',
    ])
      expect([name, judge({ host: 'localhost', [name]: 'x' })]).toEqual([name, 403]);
    expect(judge({ host: 'localhost' })).toBe(200);
  });

  it('reads at most a kilobyte of Authorization', () => {
    const token = 'correct-horse-battery';
    expect(judge({ authorization: `Bearer ${' '.repeat(900)}${token}` }, '192.0.2.1', token)).toBe(
      200,
    );
    expect(judge({ authorization: `Bearer ${' '.repeat(1024)}${token}` }, '192.0.2.1', token)).toBe(
      401,
    );
  });
});
