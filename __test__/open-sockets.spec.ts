import { describe, expect, it } from 'vitest';
import {
  ConnectionManager,
  type ManagedSocket,
  TimerManager,
  type WebSocketLimits,
  resourceLimits,
} from '../dist/index.js';
import { FakeSocket, ManualClock } from '../dist/testing.js';
import { randomOf } from '../load/interval.mjs';
import { agree } from './fixtures/agree.js';
import { StallingClock } from './fixtures/stalling-clock.js';

// Internal, so it has no declarations.
interface Live {
  readonly state: string;
  readonly connection: {
    readonly socket: ManagedSocket;
    received(bytes: number): string;
    sent(bytes: number): string;
    close(code: number, reason: string): void;
  };
  beforeClose(): void;
  close(code: number, reason: string): void;
  refuseMessage(): void;
  ponged(): void;
  sent(): void;
  remove(code: number): void;
}
interface OpenSockets extends Iterable<Live> {
  readonly size: number;
  onDrain: ((connection: unknown) => void) | undefined;
  add(connection: unknown): Live;
  admits(bytes: number): boolean;
  stats(): {
    readonly open: number;
    readonly pingsSent: number;
    readonly pongTimeouts: number;
    readonly slowConsumers: number;
    readonly messagesTooLarge: number;
  };
}
const { OpenSockets } = (await import('../dist/connections/open-sockets.js' as string)) as {
  OpenSockets: new (limits: unknown, timers: TimerManager, host: object) => OpenSockets;
};

class Socket extends FakeSocket {
  pings: number[] = [];
  buffered = 0;
}

function setUp(limits: Partial<WebSocketLimits>): {
  clock: StallingClock;
  timers: TimerManager;
  live: OpenSockets;
  open: () => { socket: Socket; live: Live };
} {
  const clock = new StallingClock();
  const timers = new TimerManager({ clock });
  const manager = new ConnectionManager({}, new TimerManager({ clock: new ManualClock() }));
  const live = new OpenSockets(resourceLimits({ websockets: limits }).websockets, timers, {
    ping: (socket: Socket) => void socket.pings.push(clock.now()),
    buffered: (socket: Socket) => socket.buffered,
    publishes: false,
    waitsForAnswer: true,
    lingers: () => false,
    isPaused: () => false,
    arrived: () => undefined,
  });
  let serial = 0;
  return {
    clock,
    timers,
    live,
    open: () => {
      const socket = new Socket();
      const result = manager.addConnection(`c${serial++}`, socket, '192.0.2.1');
      if (!result.success) throw new Error(result.reason);
      return { socket, live: live.add(result.connection) };
    },
  };
}

type Opened = readonly { readonly socket: Socket; readonly live: Live }[];

describe('heartbeats', () => {
  it('ping everybody once an interval, at moments spread over it, by one timer', () => {
    const { clock, timers, open } = setUp({ pingIntervalMs: 6400, pongTimeoutMs: 1000 });
    const all = Array.from({ length: 640 }, open);
    expect(timers.getActiveTimersCount()).toBe(1);
    for (let tick = 0; tick < 64 * 3; tick++) {
      clock.advance(100);
      for (const { socket, live } of all) if (socket.pings.at(-1) === clock.now()) live.ponged();
    }
    const first = new Map<number, number>();
    for (const { socket } of all) {
      expect(socket.pings).toHaveLength(3);
      expect(socket.pings[1]! - socket.pings[0]!).toBe(6400);
      expect(socket.pings[0]!).toBeLessThanOrEqual(6400);
      first.set(socket.pings[0]!, (first.get(socket.pings[0]!) ?? 0) + 1);
    }
    // Ten for each tick on average; sixty at one tick would be no spread.
    expect(first.size).toBeGreaterThan(50);
    expect(Math.max(...first.values())).toBeLessThan(60);
  });

  it('spare those with whom something is exchanged both ways, and reach them within an interval of the last of it', () => {
    for (const pingIntervalMs of [10, 50, 640, 1000, 6400]) {
      const tickMs = pingIntervalMs === 6400 ? 100 : 20;
      const { clock, open } = setUp({ pingIntervalMs, pongTimeoutMs: 100_000 });
      const [busy, listening, talking] = [0, 1, 2].map(() => Array.from({ length: 30 }, open)) as [
        Opened,
        Opened,
        Opened,
      ];
      const exchange = (): void => {
        for (const { live: one } of busy) one.connection.sent(3);
        for (const { live: one } of listening) one.connection.sent(3);
        for (const { live: one } of [...busy, ...talking]) one.connection.received(3);
      };
      const step = Math.max(1, pingIntervalMs / 10);
      for (let passed = 0; passed < pingIntervalMs * 4; passed += step) {
        exchange();
        clock.advance(step);
      }
      const quietSince = clock.now();
      expect(busy.flatMap(({ socket }) => socket.pings)).toEqual([]);
      // Traffic one way only neither resets the idle timers of the other direction nor proves that the peer is there.
      for (const { socket } of [...listening, ...talking])
        expect(socket.pings.length).toBeGreaterThanOrEqual(3);
      clock.advance(pingIntervalMs + tickMs);
      for (const { socket } of busy) {
        expect(socket.pings).not.toEqual([]);
        expect(socket.pings[0]! - quietSince).toBeLessThanOrEqual(pingIntervalMs + tickMs);
      }
    }
  });

  it('close who sends nothing back within pongTimeoutMs, and nobody early', () => {
    for (const pongTimeoutMs of [10, 100, 640, 1000, 3000]) {
      const { clock, live, open } = setUp({ pingIntervalMs: 640, pongTimeoutMs });
      const mute = Array.from({ length: 50 }, open);
      const alive = Array.from({ length: 50 }, open);
      const talking = Array.from({ length: 50 }, open);
      for (let passed = 0; passed < 640 + pongTimeoutMs + 20; passed += 10) {
        clock.advance(10);
        for (const { socket, live: one } of alive)
          if (socket.pings.at(-1) === clock.now()) one.ponged();
        // Any message shows that the client lives.
        for (const { live: one } of talking) one.connection.received(5);
        for (const { socket } of mute) {
          if (socket.closed.length > 0)
            expect(clock.now() - socket.pings[0]!).toBeGreaterThanOrEqual(pongTimeoutMs);
        }
      }
      expect(
        mute.every(({ socket }) => socket.closed[0]?.code === 1001 && socket.closed.length === 1),
      ).toBe(true);
      expect([...alive, ...talking].every(({ socket }) => socket.closed.length === 0)).toBe(true);
      expect(live.stats().pongTimeouts).toBe(50);
    }
  });

  it('leave the state of a socket that ends while its buffer is asked for', () => {
    const { open } = setUp({});
    const { socket, live } = open();
    Object.defineProperty(socket, 'buffered', {
      get() {
        live.remove(1006);
        return 5;
      },
    });
    live.close(1001, 'Server shutdown');
    expect(live.state).toBe('broken');
  });

  // The model knows only what came in and went out, and when.
  it('close exactly those who are silent after a ping, whatever was exchanged before', () => {
    const random = randomOf(7);
    for (let round = 0; round < 60; round++) {
      const pingIntervalMs = [40, 200, 640, 2000][round % 4]!;
      const pongTimeoutMs = [20, 100, 500, 1500, 5000][round % 5]!;
      const { clock, live, open } = setUp({ pingIntervalMs, pongTimeoutMs });
      // A socket that talks now and then, or one that listens, or both; each with a silence of its own.
      const all = Array.from({ length: 40 }, () => ({
        ...open(),
        talks: random() * 0.3,
        pongs: random() * 0.3,
        listens: random() * 0.3,
        /** Time of the first ping since the last answer. */
        since: undefined as number | undefined,
        seen: 0,
      }));
      let closed = 0;
      for (let step = 0; step < 800; step++) {
        clock.advance(10);
        const now = clock.now();
        for (const one of all) {
          if (one.socket.pings.length > one.seen) one.since ??= one.socket.pings[one.seen];
          one.seen = one.socket.pings.length;
          if (one.socket.closed.length > 0) {
            const waited = one.since === undefined ? -1 : now - one.since;
            expect([waited >= pongTimeoutMs, one.live.state]).toEqual([true, 'closing']);
            one.live.remove(1000);
            closed++;
            continue;
          }
          // Two ticks of at most 100 ms: that of the ping, and that of the look for answers.
          if (one.since !== undefined)
            expect(now - one.since).toBeLessThanOrEqual(pongTimeoutMs + 200);
          if (random() < one.listens) one.live.connection.sent(3);
          if (random() < one.talks) {
            one.live.connection.received(3);
            one.since = undefined;
          }
          if (random() < one.pongs) {
            one.live.ponged();
            one.since = undefined;
          }
        }
        for (let at = all.length - 1; at >= 0; at--)
          if (all[at]!.live.state !== 'open') all.splice(at, 1);
        // Some fall silent.
        if (all.length > 0 && random() < 0.01) {
          const one = all[Math.floor(random() * all.length)]!;
          [one.talks, one.pongs] = [0, 0];
        }
      }
      expect([live.stats().pongTimeouts, live.size]).toEqual([closed, all.length]);
    }
  });

  it('do not close clients for a stall of the loop', () => {
    const clock = new StallingClock();
    const timers = new TimerManager({ clock });
    const manager = new ConnectionManager({}, new TimerManager({ clock: new ManualClock() }));
    const live = new OpenSockets(
      resourceLimits({ websockets: { pingIntervalMs: 640, pongTimeoutMs: 300 } }).websockets,
      timers,
      {
        ping: (it: Socket) => void it.pings.push(clock.now()),
        buffered: () => 0,
        waitsForAnswer: true,
        lingers: () => false,
        isPaused: () => false,
        arrived: () => undefined,
      },
    );
    const socket = new Socket();
    const result = manager.addConnection('a', socket, '192.0.2.1');
    if (!result.success) throw new Error(result.reason);
    const one = live.add(result.connection);
    while (socket.pings.length === 0) clock.advance(10);
    clock.skip = 60_000;
    clock.advance(20);
    expect(socket.closed).toEqual([]);
    one.ponged();
    clock.advance(600);
    expect(socket.closed).toEqual([]);
  });

  it('send none at an infinite interval, and hold no timer while nobody is open', () => {
    const none = setUp({ pingIntervalMs: Infinity });
    const { socket } = none.open();
    none.clock.advance(100_000);
    expect([socket.pings, none.timers.getActiveTimersCount()]).toEqual([[], 0]);
    const some = setUp({ pingIntervalMs: 100 });
    const { live } = some.open();
    expect(some.timers.getActiveTimersCount()).toBe(1);
    live.remove(1000);
    live.remove(1000);
    expect([some.timers.getActiveTimersCount(), some.live.size]).toEqual([0, 0]);
  });

  it('add no socket once strict timers are closed', () => {
    const timers = new TimerManager({ clock: new ManualClock(), strict: true });
    const manager = new ConnectionManager({}, new TimerManager({ clock: new ManualClock() }));
    const live = new OpenSockets(
      resourceLimits({ websockets: { pingIntervalMs: 100 } }).websockets,
      timers,
      { ping: () => undefined, buffered: () => 0 },
    );
    const result = manager.addConnection('a', new Socket(), '192.0.2.1');
    if (!result.success) throw new Error(result.reason);
    timers.cleanup();
    expect(() => live.add(result.connection)).toThrowError(
      expect.objectContaining({ code: 'ERR_CLOSED' }),
    );
    expect([live.size, [...live]]).toEqual([0, []]);
  });

  it('close nobody for reading slowly if maxBufferedMs is Infinity, and set no timer for it', () => {
    const { clock, timers, live, open } = setUp({ maxBufferedBytes: 10, maxBufferedMs: Infinity });
    const { socket, live: entry } = open();
    socket.buffered = 1000;
    entry.sent();
    clock.advance(1_000_000);
    expect(live.stats().slowConsumers).toBe(0);
    expect(timers.snapshot().timers.map(({ name }) => name)).not.toContain('websockets.slow');
  });

  it('leave a socket alone that its manager has closed, though its peer has not answered', () => {
    const { clock, live, open } = setUp({ pingIntervalMs: 1000, pongTimeoutMs: 1000 });
    const drained: unknown[] = [];
    live.onDrain = (connection) => void drained.push(connection);
    const pinged = open();
    while (pinged.socket.pings.length === 0) clock.advance(10);
    const { live: entry } = pinged;
    entry.connection.close(1008, 'of the application');
    clock.advance(10_000);
    entry.beforeClose();
    expect([pinged.socket.pings.length, live.stats().pongTimeouts, drained]).toEqual([1, 0, []]);
    expect(live.size).toBe(1);
  });

  it('survive sockets that throw', () => {
    const clock = new ManualClock();
    const manager = new ConnectionManager({}, new TimerManager({ clock: new ManualClock() }));
    const fail = (): never => {
      throw new Error('gone');
    };
    const live = new OpenSockets(
      resourceLimits({ websockets: { pingIntervalMs: 100, pongTimeoutMs: 50 } }).websockets,
      new TimerManager({ clock }),
      {
        ping: fail,
        buffered: () => 0,
        waitsForAnswer: true,
        lingers: () => false,
        isPaused: () => false,
        arrived: () => undefined,
      },
    );
    const result = manager.addConnection('a', { close: fail, terminate: fail }, '192.0.2.1');
    if (!result.success) throw new Error(result.reason);
    live.add(result.connection);
    clock.advance(1000);
    expect(live.stats().pongTimeouts).toBe(1);
  });
});

describe('slow consumers', () => {
  it('are closed with 1008 when they stay above the watermark for too long, and forgotten when they catch up', () => {
    const { clock, timers, live, open } = setUp({
      pingIntervalMs: Infinity,
      maxBufferedBytes: 100,
      maxBufferedMs: 800,
    });
    const [slow, late, quick] = [open(), open(), open()];
    for (const { socket, live: one } of [slow, late, quick]) {
      socket.buffered = 101;
      one.sent();
    }
    quick.socket.buffered = 100;
    clock.advance(700);
    late.socket.buffered = 0;
    clock.advance(100);
    expect(slow.socket.closed).toEqual([]);
    clock.advance(100);
    expect(slow.socket.closed).toMatchObject([{ code: 1008, reason: 'Slow consumer' }]);
    clock.advance(10_000);
    expect([late.socket.closed, quick.socket.closed]).toEqual([[], []]);
    expect([live.stats().slowConsumers, timers.getActiveTimersCount()]).toEqual([1, 0]);
  });

  it('are not those whose data a stalled loop did not write', () => {
    for (const maxBufferedMs of [10, 800, 10_000]) {
      const { clock, live, open } = setUp({
        pingIntervalMs: Infinity,
        maxBufferedBytes: 100,
        maxBufferedMs,
      });
      const [first, quick] = [open(), open()];
      for (const { socket, live: one } of [first, quick]) {
        socket.buffered = 101;
        one.sent();
      }
      clock.skip = 10 * maxBufferedMs;
      clock.advance(Math.max(10, maxBufferedMs / 8));
      expect([first.socket.closed, quick.socket.closed]).toEqual([[], []]);
      // The loop writes; one of the two does not read.
      quick.socket.buffered = 0;
      clock.advance(2 * Math.max(10, maxBufferedMs));
      expect([first.socket.closed.length, quick.socket.closed]).toEqual([1, []]);
      expect(live.stats().slowConsumers).toBe(1);
    }
  });
});

describe('messages', () => {
  it('over maxMessageSize close their socket with 1009, once', () => {
    const { live, open } = setUp({ maxMessageSize: 10 });
    const { socket, live: one } = open();
    expect([live.admits(10), live.admits(11)]).toEqual([true, false]);
    one.refuseMessage();
    one.refuseMessage();
    expect(socket.closed).toMatchObject([{ code: 1009 }]);
    expect(live.stats().messagesTooLarge).toBe(2);
  });
});

it('the set of sockets equals a naive model after any additions and removals', () => {
  const { live, open } = setUp({});
  const model = new Set<Live>();
  for (let step = 0; step < 20_000; step++) {
    const some = [...model];
    if (Math.random() < 0.55 || some.length === 0) model.add(open().live);
    else {
      const one = some[Math.floor(Math.random() * some.length)]!;
      model.delete(one);
      one.remove(Math.random() < 0.5 ? 1000 : 1006);
      agree(['acknowledged', 'broken'].includes(one.state), true, step);
    }
    if (model.size > 50) {
      for (const one of some) one.remove(1000);
      for (const one of some) model.delete(one);
    }
    agree(live.size, model.size, step);
  }
  expect(new Set(live)).toEqual(model);
});
