import { spawnSync } from 'node:child_process';
import { runInNewContext } from 'node:vm';
import { describe, expect, it } from 'vitest';
import {
  type ConnectionLimits,
  ConnectionManager,
  type ConnectionManagerOptions,
  GracefulShutdown,
  InputValidator,
  type Lease,
  type ManagedConnection,
  MessageRouter,
  RateLimiter,
  ResourceMonitor,
  safeParseJson,
  TimerManager,
  TokenVerifier,
} from '../dist/index.js';
import { FakeSocket, ManualClock } from '../dist/testing.js';
import { portcullis } from '../dist/ws.js';

// Callers whose objects change while they are read, and processes whose globals were replaced.

const timersOf = (strict = false): TimerManager =>
  new TimerManager({ clock: new ManualClock(), strict });
const wrongly = (run: () => unknown): unknown => {
  try {
    return run();
  } catch (error) {
    return (error as { code?: unknown }).code ?? String(error);
  }
};

/** Makes options whose getter returns a valid value at first, and then an invalid one. */
function toggling<T extends object>(
  name: string,
  first: unknown,
  then: unknown,
): { readonly options: T; readonly reads: () => number } {
  let reads = 0;
  const options = Object.defineProperty({}, name, {
    enumerable: true,
    get: () => (reads++ === 0 ? first : then),
  }) as T;
  return { options, reads: () => reads };
}

const thenable = (then: PropertyDescriptor): object =>
  Object.defineProperty({}, ['then'].join(), then);

describe('options that change while they are read', () => {
  it.each<[string, unknown, unknown]>([
    ['maxTotalConnections', 1, Number.NaN],
    ['connectionTimeoutMs', 1000, Number.NaN],
    ['cleanupIntervalMs', 1000, 'soon'],
    ['messageRate', { limit: 1, windowMs: 1 }, 7],
  ])('the limit %s is read once, and used as it was checked', (name, first, then) => {
    const { options, reads } = toggling<ConnectionLimits>(name, first, then);
    const manager = new ConnectionManager(options, timersOf());
    expect([reads(), manager.getStats().limits]).toEqual([1, { [name]: first }]);
    const change = toggling<ConnectionLimits>(name, first, then);
    manager.updateLimits(change.options);
    expect([change.reads(), manager.getStats().limits]).toEqual([1, { [name]: first }]);
  });

  it('a rate is read once, too', () => {
    const { options, reads } = toggling<object>('limit', 5, -1);
    const manager = new ConnectionManager(
      { connectRatePerIp: Object.assign(options, { windowMs: 1000 }) as never },
      timersOf(),
    );
    expect([reads(), manager.getStats().limits.connectRatePerIp]).toEqual([
      1,
      { limit: 5, windowMs: 1000 },
    ]);
  });

  it.each<[string, object, (options: never) => unknown]>([
    [
      'limits',
      { maxTotalConnections: 1, mode: 'observe' },
      (limits) => new ConnectionManager(limits, timersOf()).snapshot().limits,
    ],
    [
      'changes of limits',
      { maxTotalConnections: 1, maxConnectionsPerIp: undefined },
      (changes) => {
        const manager = new ConnectionManager(
          { maxTotalConnections: 9, maxConnectionsPerIp: 9 },
          timersOf(),
        );
        manager.updateLimits(changes);
        return manager.snapshot().limits;
      },
    ],
    [
      'a rate',
      { limit: 5, windowMs: 1000, burst: 6 },
      (connectRatePerIp) =>
        new ConnectionManager({ connectRatePerIp }, timersOf()).snapshot().limits,
    ],
    [
      'a message rate',
      { limit: 5, windowMs: 1000, action: 'drop' },
      (messageRate) => new ConnectionManager({ messageRate }, timersOf()).snapshot().limits,
    ],
    [
      'bans',
      { failures: 1, banMs: 5000 },
      (banAfter) => {
        const manager = new ConnectionManager({}, { timers: timersOf(), banAfter });
        manager.failed('192.0.2.1');
        return manager.bans().map(({ remainingMs }) => remainingMs);
      },
    ],
    [
      'limits of a guard',
      { maxConnectionsPerIp: 2 },
      (limits) => {
        const guard = portcullis({
          timers: timersOf(),
          limits,
          websockets: { maxConnections: 50 },
        });
        return guard.manager.snapshot().limits;
      },
    ],
    [
      'WebSockets of a guard',
      { maxConnections: 50, maxMessageSize: 7 },
      (websockets) =>
        portcullis({ timers: timersOf(), limits: {}, websockets }).manager.snapshot().limits,
    ],
    [
      'rates of requests',
      { perKey: { limit: 1, windowMs: 60_000 }, key: () => 'k', headers: [] },
      (rate) =>
        portcullis({ timers: timersOf(), limits: {}, requests: { rate } }).explainRates({
          key: 'k',
        }).length,
    ],
    [
      'a rate of requests',
      { limit: 3, windowMs: 60_000, name: undefined },
      (perIp) =>
        portcullis({ timers: timersOf(), limits: {}, requests: { rate: { perIp } } })
          .explainRates({ ip: '192.0.2.1' })
          .map(({ result }) => result.limit),
    ],
    [
      'a guard',
      {
        limits: { maxTotalConnections: 3 },
        refuseWith: 'close',
        requestIdHeader: false,
        timers: timersOf(),
      },
      (options) => portcullis(options).manager.snapshot().limits,
    ],
    [
      'a page',
      { path: '/p', token: 'x'.repeat(16), title: 'T', maxViewers: 2 },
      (page) => portcullis({ timers: timersOf(), limits: {}, page }).page?.snapshot().title,
    ],
    [
      'a shutdown',
      { deadlineMs: 7000, signals: ['SIGUSR2'], closeCode: 1012, startsReady: false },
      (options) => {
        const shutdown = new GracefulShutdown(options);
        const listening = process.listenerCount('SIGUSR2');
        shutdown.close();
        return listening;
      },
    ],
    [
      'a verifier',
      { algorithms: ['HS256'], keys: { secret: 'x'.repeat(32) }, issuer: 'i', maxTokenBytes: 64 },
      (options) => new TokenVerifier(options).safeVerify('x'.repeat(65)).error?.code,
    ],
    [
      'an issuer',
      { keys: { secret: 'x'.repeat(32) }, issuer: 'i', algorithms: ['HS256'] },
      (one) => new TokenVerifier({ issuers: [one] }).safeVerify('x').error?.code,
    ],
    [
      'limits of JSON',
      { maxDepth: 1, nul: 'allow' },
      (limits) => safeParseJson('[[1]]', limits).error?.code,
    ],
    [
      'a URL',
      { mode: 'redirect', allowedOrigins: ['https://a.example'] },
      (options) => InputValidator.safeValidateUrl('https://b.example/', options).error?.code,
    ],
    [
      'a limiter',
      { limit: 4, windowMs: 1000, algorithm: 'gcra', burst: 5, showKeys: true },
      (options) => new RateLimiter(options).take('k').limit,
    ],
    [
      'the rate of a type',
      { limit: 2, windowMs: 1000, by: 'connection', action: 'report' },
      (rate) => new MessageRouter().on('a', () => undefined, { rate }).has('a'),
    ],
    [
      'a monitor',
      { name: 'm', shedding: true, stalls: false, log: false },
      (options) => {
        const monitor = new ResourceMonitor({}, options);
        monitor.close();
        return monitor.pressure().limits.length;
      },
    ],
  ])(
    '%s: the getters of a class count like properties, and each is read once',
    (_what, options, made) => {
      const reads: Record<string, number> = {};
      const getters = Object.entries(options).map(([name, value]: [string, unknown]) => [
        name,
        {
          get: () => {
            reads[name] = (reads[name] ?? 0) + 1;
            return value;
          },
        },
      ]);
      const ofClass = Object.create(Object.create(null, Object.fromEntries(getters))) as never;
      expect(made(ofClass)).toEqual(made(options as never));
      expect(reads).toEqual(Object.fromEntries(Object.keys(options).map((name) => [name, 1])));
    },
  );

  it('limits from the getters of a class count like others', () => {
    class Ours {
      get maxTotalConnections(): number {
        return 1;
      }
      get connectionTimeoutMs(): number {
        return 5;
      }
    }
    expect(new ConnectionManager(new Ours(), timersOf()).getStats().limits).toEqual({
      maxTotalConnections: 1,
      connectionTimeoutMs: 5,
    });
  });

  it.each<[string, unknown, unknown]>([
    ['name', 'hostile.toggling', 5],
    ['onEvict', () => undefined, 'no function'],
    ['onRefuse', () => undefined, {}],
    ['leaseTimeoutMs', 5, -5],
    ['monitor', undefined, 1],
  ])('the option %s of a manager is read once', (name, first, then) => {
    const { options, reads } = toggling<ConnectionManagerOptions<FakeSocket>>(name, first, then);
    const clock = new ManualClock();
    const manager = new ConnectionManager(
      { connectionTimeoutMs: 10, maxTotalConnections: 1 },
      new TimerManager({ clock }),
      options,
    );
    manager.addConnection('a', new FakeSocket(), '192.0.2.1');
    expect(manager.addConnection('b', new FakeSocket(), '192.0.2.1').code).toBe('total_limit');
    clock.advance(20_000);
    expect([reads(), manager.getStats().evicted]).toEqual([1, 1]);
  });

  it('the options of a timer are read once', () => {
    const timers = timersOf();
    const { options, reads } = toggling<object>('signal', undefined, 'no signal');
    timers.setTimeout(() => undefined, options);
    expect([reads(), timers.getActiveTimersCount()]).toEqual([1, 1]);
  });
});

describe('a constructor that fails', () => {
  const free = (name: string): unknown =>
    wrongly(
      () =>
        new ConnectionManager({ maxTotalConnections: 7 }, timersOf(), { name }).getStats().limits
          .maxTotalConnections,
    );
  const failing = (): never => {
    throw new Error('of the caller');
  };

  it.each<[string, (name: string, timers: TimerManager) => unknown]>([
    [
      'a getter among the limits',
      (name, timers) =>
        new ConnectionManager(
          {
            get maxTotalConnections() {
              return failing();
            },
          },
          timers,
          { name },
        ),
    ],
    [
      'a getter among the options',
      (name, timers) =>
        new ConnectionManager({}, timers, {
          name,
          get monitor() {
            return failing();
          },
        }),
    ],
    [
      'a Proxy that refuses to be read',
      (name, timers) =>
        new ConnectionManager({}, timers, new Proxy({ name }, { ownKeys: failing })),
    ],
    [
      'a monitor without some methods',
      (name, timers) =>
        new ConnectionManager({}, timers, { name, monitor: { shedMs: () => 0 } as never }),
    ],
    [
      'a monitor that refuses to attach',
      (name, timers) =>
        new ConnectionManager({}, timers, {
          name,
          monitor: { shedMs: () => 0, attach: failing, detach: () => undefined } as never,
        }),
    ],
    [
      'an object with the prototype of TimerManager',
      (name) =>
        new ConnectionManager({}, Object.create(TimerManager.prototype) as TimerManager, { name }),
    ],
    [
      'timers behind a Proxy',
      (name, timers) => new ConnectionManager({}, new Proxy(timers, {}), { name }),
    ],
    [
      'closed strict timers',
      (name) => {
        const strict = timersOf(true);
        strict.cleanup();
        return new ConnectionManager({}, strict, { name });
      },
    ],
  ])('keeps neither its name nor a timer: %s', (what, make) => {
    const timers = timersOf();
    const name = `hostile.${what}`;
    expect(() => make(name, timers)).toThrow();
    expect([free(name), timers.getActiveTimersCount()]).toEqual([7, 0]);
  });
});

describe('forged objects', () => {
  it('copies, proxies and foreign leases and connections are refused, and cost no seat', () => {
    const manager = new ConnectionManager<FakeSocket>({}, timersOf());
    const other = new ConnectionManager<FakeSocket>({}, timersOf());
    const lease = manager.reserve('192.0.2.1') as Lease;
    const { connection } = manager.addConnection('a', new FakeSocket(), '192.0.2.1');
    const foreign = other.addConnection('a', new FakeSocket(), '192.0.2.1')
      .connection as ManagedConnection<FakeSocket>;
    const forged = (value: object): object[] => [
      structuredClone(value),
      new Proxy(value, {}),
      Object.create(value),
      Object.create(Object.getPrototypeOf(value) as object),
      { ...value },
    ];
    for (const one of [...forged(lease), other.reserve('192.0.2.1'), null, 7] as Lease[]) {
      expect(wrongly(() => manager.commit(one, 'b', new FakeSocket()))).toBe(
        'ERR_INVALID_ARG_TYPE',
      );
      expect(wrongly(() => manager.abort(one))).toBe('ERR_INVALID_ARG_TYPE');
    }
    for (const one of forged(connection!) as ManagedConnection<FakeSocket>[])
      expect(wrongly(() => manager.release(one))).toBe('ERR_INVALID_ARG_TYPE');
    expect(manager.release(foreign)).toBe(false);
    expect([
      manager.getStats().totalConnections,
      manager.connections.size,
      foreign.isAlive,
    ]).toEqual([2, 1, true]);
    expect([
      manager.release(connection!),
      manager.release(connection!),
      manager.abort(lease),
      manager.abort(lease),
    ]).toEqual([true, false, true, false]);
    expect([manager.getStats().totalConnections, other.getStats().totalConnections]).toEqual([
      0, 2,
    ]);
  });

  it('a timer handle behind a Proxy is ignored, as on the host', () => {
    const timers = timersOf();
    const handle = timers.setTimeout(() => undefined, 5);
    for (const one of [
      new Proxy(handle, {}),
      Object.create(handle),
      Object.create(Object.getPrototypeOf(handle) as object),
    ])
      timers.clearTimeout(one as never);
    expect(timers.getActiveTimersCount()).toBe(1);
    timers.clearTimeout(handle);
    expect(timers.getActiveTimersCount()).toBe(0);
  });

  it('sockets may throw, add connections and close the manager while they are closed', () => {
    const manager = new ConnectionManager({ maxConnectionsPerUser: 1 }, timersOf(), {
      onFull: 'closeOldest',
      onDuplicateId: 'takeover',
    });
    let depth = 0;
    const socket = (): FakeSocket =>
      Object.assign(new FakeSocket(), {
        close() {
          if (depth++ < 50) manager.addConnection(`a${depth % 3}`, socket(), '192.0.2.1', 'ann');
          if (depth === 60) manager.cleanup();
          throw new Error('of the socket');
        },
      });
    for (let at = 0; at < 100; at++)
      manager.addConnection(`a${at % 3}`, socket(), '192.0.2.1', 'ann');
    manager.cleanup();
    expect([depth > 50, manager.connections.size, manager.getStats().totalConnections]).toEqual([
      true,
      0,
      0,
    ]);
  });
});

describe('hooks', () => {
  it('may close strict timers during a sweep', () => {
    const clock = new ManualClock();
    const timers = new TimerManager({ clock, strict: true });
    const options = { onEvict: () => void timers.cleanup() };
    const manager = new ConnectionManager(
      { connectionTimeoutMs: 100, cleanupIntervalMs: 10 },
      timers,
      options,
    );
    for (let at = 0; at < 200; at++) manager.addConnection(`c${at}`, new FakeSocket(), '192.0.2.1');
    clock.advance(2000);
    expect(manager.getStats().evicted).toBe(64);
    expect(manager.cleanupStaleConnections()).toBe(136);
    expect([manager.getStats().totalConnections, timers.getActiveTimersCount()]).toEqual([0, 0]);
  });

  it('that reject with a promise of another realm or a thenable cause a warning', async () => {
    const warned: unknown[] = [];
    const listener = (warning: Error): void => void warned.push((warning.cause as Error).message);
    process.on('warning', listener);
    const rejecting: (() => unknown)[] = [
      () => runInNewContext('Promise.reject(new Error("of another realm"))') as unknown,
      () =>
        thenable({
          value: (_resolve: unknown, reject: (error: Error) => void) =>
            reject(new Error('of a thenable')),
        }),
      () =>
        thenable({
          get: () => {
            throw new Error('of a getter');
          },
        }),
    ];
    for (const hook of rejecting) {
      const manager = new ConnectionManager({ maxTotalConnections: 0 }, timersOf(), {
        onRefuse: hook as never,
      });
      expect(manager.addConnection('a', new FakeSocket(), '192.0.2.1').code).toBe('total_limit');
    }
    while (warned.length < 3) await new Promise((resolve) => setImmediate(resolve));
    process.off('warning', listener);
    expect(warned.toSorted()).toEqual(['of a getter', 'of a thenable', 'of another realm']);
  });
});

describe('a separate process', () => {
  const flags = process.versions['bun'] === undefined ? ['--expose-gc'] : [];
  const scene = (name: string): unknown => {
    const { stdout, stderr, status, signal } = spawnSync(
      process.execPath,
      [...flags, '__test__/fixtures/hostile.mjs', name],
      {
        encoding: 'utf8',
        timeout: 60_000,
      },
    );
    expect([status, signal, stderr], stderr).toEqual([0, null, '']);
    return JSON.parse(stdout) as unknown;
  };

  it.each(['polluted', 'patched'])(
    'with %s globals gives the same results',
    { timeout: 60_000 },
    (name) => {
      expect(scene(name)).toEqual(scene('plain'));
    },
  );

  it(
    'with constant garbage collection keeps the held objects, and no others',
    { timeout: 60_000 },
    () => {
      expect(scene('collected')).toEqual([400, 200, true, 0, false]);
    },
  );

  it(
    'with moved, shrunk and shared buffers reads no memory beyond them',
    { timeout: 60_000 },
    () => {
      expect((scene('detached') as string[]).slice(0, 8)).toEqual([
        'ERR_JSON_SYNTAX',
        'ERR_JSON_TYPE',
        '{"a":1}',
        'ERR_JSON_SYNTAX',
        '{"a":1}',
        'ERR_JSON_SYNTAX',
        '{"a":1}',
        '{"a":1}',
      ]);
    },
  );
});
