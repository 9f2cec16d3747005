import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import {
  ConnectionManager,
  GracefulShutdown,
  type Lease,
  type ManagedConnection,
  MessageRouter,
  type MiddlewareItem,
  PerformantMiddlewareChain,
  ProductionMetrics,
  ResourceMonitor,
  resourceLimits,
  TimerManager,
} from '../dist/index.js';
import { portcullis } from '../dist/bun.js';
import { ManualClock } from '../dist/testing.js';

// Functions of the application that fail after their call, or whose answer cannot be read.

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
const ends: (() => void)[] = [];
let unhandled: unknown[];
let warnings: Error[];
let clock: ManualClock;
let timers: TimerManager;

beforeEach(() => {
  unhandled = [];
  warnings = [];
  const note = (error: unknown): void => void unhandled.push(error);
  const warn = (warning: Error): void => void warnings.push(warning);
  for (const event of ['unhandledRejection', 'uncaughtException']) {
    process.on(event, note);
    ends.push(() => process.off(event, note));
  }
  process.on('warning', warn);
  ends.push(() => process.off('warning', warn));
  clock = new ManualClock();
  timers = new TimerManager({ clock });
});

afterEach(() => {
  for (const end of ends.splice(0)) end();
});

/** Calls of the sockets' methods, which all reject. */
let calls: string[];
class RejectingSocket {
  readonly id = 'a';
  readyState = 1;
  async close(): Promise<never> {
    return this.#reject('close');
  }
  async terminate(): Promise<never> {
    return this.#reject('terminate');
  }
  async pause(): Promise<never> {
    return this.#reject('pause');
  }
  async ping(): Promise<never> {
    return this.#reject('ping');
  }
  async #reject(method: string): Promise<never> {
    calls.push(method);
    throw new Error(`${method} failed`);
  }
}

describe('a socket whose methods reject', () => {
  let manager: ConnectionManager<RejectingSocket>;
  beforeEach(() => {
    calls = [];
    manager = new ConnectionManager<RejectingSocket>(
      {
        maxConnectionsPerUser: 1,
        connectionTimeoutMs: 1000,
        cleanupIntervalMs: 1000,
        messageRate: { limit: 1, windowMs: 60_000 },
      },
      { timers, onFull: 'closeOldest', onDuplicateId: 'takeover', closeTimeoutMs: 500 },
    );
    ends.push(() => manager.close());
  });
  const add = (id = 'a', user?: string): ManagedConnection<RejectingSocket> => {
    const added = manager.addConnection(id, new RejectingSocket(), '192.0.2.1', user);
    if (!added.success) throw new Error(added.reason);
    return added.connection;
  };

  it.each<[string, readonly string[], () => unknown]>([
    ['closes itself', ['close'], () => add().close(1000, 'bye')],
    ['is evicted', ['close'], () => (add(), clock.advance(3000))],
    ['is closed with its user', ['close'], () => (add('a', 'ann'), manager.closeUser('ann'))],
    ['makes room', ['close'], () => (add('a', 'ann'), add('b', 'ann'))],
    ['is taken over', ['close'], () => (add(), add())],
    [
      'exceeds a rate',
      ['close', 'pause'],
      () =>
        [1, 2, 3].map(
          (
            (one) => () =>
              one.received(1)
          )(add()),
        ),
    ],
    ['ends with its manager', ['close'], () => (add(), manager.close())],
    ['is terminated', ['close', 'terminate'], () => (add().close(1000), clock.advance(500))],
  ])('ends no process when it %s', async (_how, expected, act) => {
    await act();
    await turn();
    expect(calls.slice(0, expected.length)).toEqual(expected);
    expect(unhandled).toEqual([]);
  });

  it('is pinged, and terminated by a shutdown', async () => {
    const { OpenSockets } = (await import('../dist/connections/open-sockets.js' as string)) as {
      OpenSockets: new (...given: readonly unknown[]) => {
        add(connection: unknown): { ping(): void; terminate(): void };
      };
    };
    const limits = resourceLimits({ websockets: {} }).websockets;
    const open = new OpenSockets(limits, timers, {
      ping: (socket: RejectingSocket) => socket.ping(),
      buffered: () => 0,
    });
    const socket = open.add(add());
    socket.ping();
    socket.terminate();
    await turn();
    expect([calls, unhandled]).toEqual([['ping', 'terminate'], []]);
  });

  it('is told to onError where a type of messages closes it', async () => {
    const errors: unknown[] = [];
    const router = new MessageRouter<RejectingSocket>({
      onError: (error) => errors.push((error as Error).message),
    });
    ends.push(() => router.close());
    router.on('a', () => undefined, { rate: { limit: 1, windowMs: 60_000 } });
    const socket = new RejectingSocket();
    for (let message = 0; message < 2; message++)
      expect(await router.receive({ type: 'a' }, socket)).toBeUndefined();
    await turn();
    expect([calls, errors, unhandled]).toEqual([['close'], ['close failed'], []]);
  });
});

/** A function that returns answers whose `then` cannot be read. */
const unreadable: readonly (readonly [string, () => never])[] = [
  [
    'a revoked proxy',
    () => {
      const { proxy, revoke } = Proxy.revocable({}, {});
      revoke();
      return proxy as never;
    },
  ],
  [
    'an object with a getter that throws',
    () =>
      ({
        // oxlint-disable-next-line unicorn/no-thenable -- an answer that cannot be read is what is tried
        get then(): never {
          throw new Error('not readable');
        },
      }) as never,
  ],
];

describe.each(unreadable)('%s as the answer', (_name, answer) => {
  it('of a check of the monitor counts as failed', async () => {
    const checks = { queue: () => answer() };
    const monitor = new ResourceMonitor(
      {},
      { timers, log: false, gc: false, shedding: { checks, sampleIntervalMs: 1000 } },
    );
    ends.push(() => monitor.close());
    clock.advance(1000);
    expect(Object.keys(monitor.pressure().causes)).toEqual(['check:queue']);
    clock.advance(1000);
    await turn();
    expect(Object.keys(monitor.pressure().causes)).toEqual(['check:queue']);
    expect(warnings.map(({ message }) => message)).toEqual([
      expect.stringMatching(/^shedding\.checks\.queue failed/),
    ]);
    expect(unhandled).toEqual([]);
  });

  it('of a check of readiness counts as failed', async () => {
    const shutdown = new GracefulShutdown({ checks: { queue: () => answer() } });
    ends.push(() => shutdown.close());
    expect(await shutdown.checkReadiness()).toMatchObject({ status: 503 });
    expect(unhandled).toEqual([]);
  });

  it('of an optional layer leaves the layer out', async () => {
    let ran = 0;
    const strays: unknown[] = [];
    const layer: MiddlewareItem = { name: 'a', optional: true, middleware: () => answer() };
    const chain = new PerformantMiddlewareChain([layer], {
      timers,
      onError: (_error, stray) => strays.push(stray),
    });
    ends.push(() => chain.close());
    await chain.execute()({}, () => ++ran);
    expect([ran, strays]).toEqual([1, [{ layer: 'a', kind: 'optional' }]]);
  });

  it('of another registry is an error of each exposition, and no timeout', async () => {
    const metrics = new ProductionMetrics({ timers: new TimerManager() });
    ends.push(() => metrics.close());
    metrics.merge({ getMetricsAsJSON: () => answer() });
    await metrics.toPrometheus();
    const text = await metrics.toPrometheus();
    expect(text.match(/(?<=merge_failures_total){.*/g)).toEqual(['{reason="error"} 2']);
  });

  it('of a hook that has to answer at once is a warning', async () => {
    const manager = new ConnectionManager({}, { timers, exempt: () => answer() });
    ends.push(() => manager.close());
    expect((manager.reserve('192.0.2.1') as Lease).success).toBe(true);
    await turn();
    expect(warnings).toHaveLength(1);
  });

  it.skipIf(!('bun' in process.versions)).each([
    ['a handshake', true, {}],
    ['a request', false, {}],
    ['a request within limits', false, { requests: { maxConcurrent: 1 } }],
  ])(
    'of a handler of %s of `portcullis/bun` keeps no seat',
    async (_which, isHandshake, options) => {
      const metrics = new ProductionMetrics({ timers });
      const guard = portcullis({ limits: {}, metrics, ...options });
      ends.push(
        () => guard.close(),
        () => metrics.close(),
      );
      let handled = 0;
      const server = Bun.serve({
        port: 0,
        fetch: guard.fetch(() => (handled++, answer())) as never,
        websocket: guard.websocket({ message: () => undefined }) as never,
        error: () => new Response('failed', { status: 500 }),
      });
      ends.push(() => void server.stop(true));
      const headers: Record<string, string> = isHandshake
        ? {
            connection: 'upgrade',
            upgrade: 'websocket',
            'sec-websocket-version': '13',
            'sec-websocket-key': 'dGhlIHNhbXBsZSBub25jZQ==',
          }
        : {};
      for (let asked = 0; asked < 2; asked++)
        await fetch(`http://127.0.0.1:${server.port}`, { headers });
      expect([handled, guard.manager.snapshot().totalConnections]).toEqual([2, 0]);
      expect(guard.snapshot().requests?.active ?? 0).toBe(0);
      expect(metrics.generateReport().inFlight).toBe(0);
    },
  );
});
