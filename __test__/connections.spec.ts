import { Worker } from 'node:worker_threads';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { ConnectionManager, type ManagedConnection, PortcullisError, ProductionConnectionManager, TimerManager } from '../dist/index.js';
import { FakeSocket, ManualClock } from '../dist/testing.js';

const limits = { maxTotalConnections: 100, maxConnectionsPerIp: 10, maxConnectionsPerUser: 5, connectionTimeoutMs: 30_000, cleanupIntervalMs: 5000 };

let clock: ManualClock;
let timers: TimerManager;
let manager: ConnectionManager<FakeSocket>;

beforeEach(() => {
  clock = new ManualClock();
  timers = new TimerManager({ clock });
  manager = new ConnectionManager<FakeSocket>(limits, timers);
});

afterEach(() => {
  manager.cleanup();
  timers.cleanup();
});

function add(id: string, ip = '192.0.2.1', user?: string): ManagedConnection<FakeSocket> {
  const result = manager.addConnection(id, new FakeSocket(), ip, user);
  if (!result.success) throw new Error(result.reason);
  return result.connection;
}

describe("the plan's own test", () => {
  it('accepts a connection and counts it', () => {
    expect(manager.addConnection('conn-1', new FakeSocket(), '192.168.1.1', 'user-1').success).toBe(true);
    expect(manager.getStats().totalConnections).toBe(1);
  });

  it('refuses the eleventh of one address', () => {
    for (let i = 0; i < 10; i++) manager.addConnection(`conn-${i}`, new FakeSocket(), '192.168.1.1');
    const result = manager.addConnection('conn-11', new FakeSocket(), '192.168.1.1');
    expect(result.success).toBe(false);
    expect(result.reason).toContain('Max connections per IP exceeded');
  });

  it('closes what is stale, with the real clock too', () => {
    const real = new TimerManager();
    const onHost = new ConnectionManager(limits, real);
    const socket = new FakeSocket();
    onHost.addConnection('conn-1', socket, '192.168.1.1');
    onHost['connections'].get('conn-1')!.lastActivity = Date.now() - 60_000;
    expect(onHost['cleanupStaleConnections']()).toBe(1);
    expect(onHost.getStats().totalConnections).toBe(0);
    expect(socket.closed).toEqual([{ code: 1001, reason: 'Connection timeout' }]);
    onHost.cleanup();
    real.cleanup();
  });
});

describe('limits', () => {
  it('keeps every reason of the plan with a stable code', () => {
    for (let i = 0; i < 5; i++) add(`u${i}`, `192.0.2.${i}`, 'alice');
    expect(manager.addConnection('u5', new FakeSocket(), '192.0.2.9', 'alice')).toMatchObject({
      success: false,
      code: 'user_limit',
      reason: 'Max connections per user exceeded',
    });
    manager.updateLimits({ maxTotalConnections: 5 });
    expect(manager.addConnection('u6', new FakeSocket(), '192.0.2.9')).toMatchObject({ code: 'total_limit', reason: 'Max total connections exceeded' });
    manager.drain();
    expect(manager.addConnection('u7', new FakeSocket(), '192.0.2.9')).toMatchObject({ code: 'draining' });
    manager.drain(false);
  });

  it('pitfall 3: a known id is refused, and a late release of an old connection does not hit a new one', () => {
    const old = add('same');
    expect(manager.addConnection('same', new FakeSocket(), '192.0.2.2')).toMatchObject({ code: 'duplicate_id' });
    manager.removeConnection('same');
    const young = add('same');
    expect(manager.release(old)).toBe(false);
    expect(young.isAlive).toBe(true);
    expect(manager.getStats().totalConnections).toBe(1);
  });

  it('pitfall 4: releasing twice gives one seat back', () => {
    add('a');
    add('b');
    expect([manager.removeConnection('a'), manager.removeConnection('a')]).toEqual([true, false]);
    expect(manager.getStats().totalConnections).toBe(1);
  });

  it('pitfall 7: notations of one address share its limit', () => {
    manager.updateLimits({ maxConnectionsPerIp: 1 });
    add('a', '1.2.3.4');
    for (const ip of ['::ffff:1.2.3.4', '::ffff:102:304', '[::ffff:1.2.3.4]:80', '1.2.3.4:8080']) {
      expect(manager.addConnection(ip, new FakeSocket(), ip), ip).toMatchObject({ code: 'ip_limit' });
    }
    expect(manager.addConnection('b', new FakeSocket(), '2001:db8::1.2.3.4').success).toBe(true);
  });

  it('pitfall 12: zero admits none, Infinity and absent admit all', () => {
    manager.updateLimits({ maxConnectionsPerIp: 0 });
    expect(manager.addConnection('a', new FakeSocket(), '1.2.3.4')).toMatchObject({ code: 'ip_limit' });
    const free = new ConnectionManager({ maxTotalConnections: Infinity }, timers);
    for (let i = 0; i < 5000; i++) expect(free.addConnection(`c${i}`, new FakeSocket(), '1.2.3.4').success).toBe(true);
    expect(free.getStats().totalConnections).toBe(5000);
    free.cleanup();
  });

  it('pitfall 17: binding a user moves the seat, and a refusal changes nothing', () => {
    const connection = add('a');
    expect(manager.getStats()).toMatchObject({ anonymousConnections: 1, connectionsByUser: 0 });
    expect(connection.bindUser('alice')).toEqual({ success: true });
    expect(manager.getStats()).toMatchObject({ anonymousConnections: 0, connectionsByUser: 1 });
    for (let i = 0; i < 5; i++) add(`b${i}`, '192.0.2.2', 'bob');
    expect(connection.bindUser('bob')).toMatchObject({ code: 'user_limit' });
    expect(connection.userId).toBe('alice');
  });

  it('limits how often an address connects, and says when to come back', () => {
    manager.updateLimits({ connectRatePerIp: { limit: 2, windowMs: 1000 } });
    add('a');
    add('b');
    expect(manager.addConnection('c', new FakeSocket(), '192.0.2.1')).toMatchObject({ code: 'ip_rate', retryAfterMs: 500 });
    clock.advance(500);
    add('c');
  });
});

describe('leases', () => {
  it('pitfall 2: hold a seat, expire by themselves, and cannot be used twice', () => {
    const lease = manager.reserve('192.0.2.1');
    if (!lease.success) throw new Error(lease.reason);
    expect(manager.getStats().totalConnections).toBe(1);
    expect(manager.commit(lease, 'a', new FakeSocket()).success).toBe(true);
    expect(manager.commit(lease, 'b', new FakeSocket())).toMatchObject({ code: 'stale_lease' });
    const forgotten = manager.reserve('192.0.2.1');
    clock.advance(15_000);
    expect(manager.getStats().totalConnections).toBe(1);
    if (!forgotten.success) throw new Error(forgotten.reason);
    expect(manager.abort(forgotten)).toBe(false);
    expect(manager.commit(forgotten, 'c', new FakeSocket())).toMatchObject({ code: 'stale_lease' });
  });
});

describe('activity', () => {
  it('counts messages and bytes, and keeps the figures after the release', () => {
    const connection = add('a');
    connection.received(10);
    connection.received(5);
    connection.sent(7);
    manager.removeConnection('a');
    expect(connection.received(1)).toBe('stale');
    expect(connection).toMatchObject({ messageCount: 2, bytesReceived: 15, bytesSent: 7, isAlive: false, ip: '192.0.2.1' });
    expect(add('b')).toMatchObject({ messageCount: 0, bytesReceived: 0 });
  });

  it('pitfall 14: closes the quiet, also those that are only sent to, never early and not much late', () => {
    const quiet = add('quiet');
    const busy = add('busy');
    for (let passed = 0; passed < 30_000; passed += 1000) {
      clock.advance(1000);
      quiet.sent(100);
      busy.received(1);
      expect(quiet.isAlive).toBe(true);
    }
    clock.advance(5500);
    expect(quiet.isAlive).toBe(false);
    expect(busy.isAlive).toBe(true);
    expect(quiet.socket.terminated).toBe(false);
    clock.advance(5000);
    expect(quiet.socket.terminated).toBe(true);
  });

  it('pitfall 13: a clock that jumps makes nobody look idle', () => {
    let now = 0;
    const jumping = new TimerManager({ clock: Object.assign(new ManualClock(), { now: () => now }) });
    const own = new ConnectionManager(limits, jumping);
    own.addConnection('a', new FakeSocket(), '192.0.2.1');
    now += 3_600_000;
    jumping.driver.run();
    expect(own.cleanupStaleConnections()).toBe(0);
    own.cleanup();
    jumping.cleanup();
  });

  it('evicts thousands without losing one, a socket that throws included', () => {
    const big = new ConnectionManager<FakeSocket>({ connectionTimeoutMs: 1000 }, timers);
    for (let i = 0; i < 5000; i++) {
      const socket = new FakeSocket();
      if (i % 3 === 0)
        socket.close = () => {
          throw new Error('gone');
        };
      big.addConnection(`c${i}`, socket, `10.0.${i >> 8}.${i & 255}`);
    }
    clock.advance(60_000);
    expect(big.getStats()).toMatchObject({ totalConnections: 0, connectionsByIp: 0 });
    expect(big.connections.size).toBe(0);
    big.cleanup();
  });
});

describe('bad input', () => {
  const junk: unknown[] = [undefined, null, NaN, -1, 1.5, 2 ** 33, Infinity, '', 'x', {}, [], () => 0, Symbol('x'), 10n, true];

  it('is refused at construction with the field and the range', () => {
    expect(() => new ConnectionManager({ maxConnectionsPerIP: 5 } as object, timers)).toThrow(/did you mean maxConnectionsPerIp/);
    for (const value of [NaN, -1, 1.5, 2 ** 33, null, '5']) {
      try {
        new ConnectionManager({ maxConnectionsPerIp: value as number }, timers);
        expect.unreachable(String(value));
      } catch (error) {
        expect(error).toBeInstanceOf(PortcullisError);
        expect(error).toMatchObject({ field: 'maxConnectionsPerIp', allowed: expect.stringContaining('from 0') });
      }
    }
  });

  it('never crashes and never loses a seat, whatever is thrown at it', () => {
    const connection = add('a');
    const calls: ((value: never) => unknown)[] = [
      (value) => manager.addConnection(value, new FakeSocket(), '1.1.1.1'),
      (value) => manager.addConnection('z', value, '1.1.1.1'),
      (value) => manager.addConnection('z', new FakeSocket(), value),
      (value) => manager.reserve('1.1.1.1', value),
      (value) => manager.commit(value, 'z', new FakeSocket()),
      (value) => manager.removeConnection(value),
      (value) => manager.updateActivity(value),
      (value) => manager.updateLimits(value),
      (value) => connection.received(value),
      (value) => connection.sent(value),
      (value) => connection.bindUser(value),
      (value) => timers.setTimeout(value, 1),
      (value) => timers.setInterval(() => 0, value),
      (value) => timers.clearTimeout(value),
    ];
    for (const call of calls) {
      for (const value of junk) {
        try {
          call(value as never);
        } catch (error) {
          expect((error as { code?: string }).code, String(error)).toMatch(/^ERR_/);
        }
      }
    }
    manager.removeConnection('z');
    clock.advance(60_000);
    expect(manager.getStats()).toMatchObject({ totalConnections: 0, connectionsByIp: 0, connectionsByUser: 0 });
  });

  it('a hook that throws costs no seat', async () => {
    const errors: unknown[] = [];
    const listeners = process.listeners('uncaughtException');
    process.removeAllListeners('uncaughtException');
    process.on('uncaughtException', (error) => errors.push(error));
    const hooked = new ConnectionManager({ maxTotalConnections: 0 }, timers, {
      onRefuse: () => {
        throw new Error('hook');
      },
    });
    expect(hooked.addConnection('a', new FakeSocket(), '1.1.1.1').success).toBe(false);
    await new Promise((resolve) => setImmediate(resolve));
    process.removeAllListeners('uncaughtException');
    for (const listener of listeners) process.on('uncaughtException', listener);
    expect(errors).toHaveLength(1);
    hooked.cleanup();
  });

  it('after cleanup newcomers are refused by name', () => {
    add('a');
    manager.cleanup();
    expect(manager.addConnection('b', new FakeSocket(), '1.1.1.1')).toMatchObject({ code: 'closed' });
    expect(manager.getStats().totalConnections).toBe(0);
  });

  it('is exported under both names', () => expect(ProductionConnectionManager).toBe(ConnectionManager));
});

describe('a named index', () => {
  it('is shared by workers, and a worker that is terminated gives its seats back', async () => {
    const own = new ConnectionManager({ maxTotalConnections: 10 }, timers, { name: 'shared' });
    const worker = new Worker(
      `import { parentPort } from 'node:worker_threads';
       import { ConnectionManager, TimerManager } from ${JSON.stringify(new URL('../dist/index.js', import.meta.url).href)};
       const manager = new ConnectionManager({ maxTotalConnections: 10 }, new TimerManager(), { name: 'shared' });
       for (let i = 0; i < 7; i++) manager.addConnection('w' + i, { close() {} }, '192.0.2.1');
       globalThis.keep = manager; setInterval(() => {}, 1000);
       parentPort.postMessage(manager.getStats().totalConnections);`,
      { eval: true, execArgv: ['--input-type=module'] },
    );
    await new Promise((resolve, reject) => worker.once('message', resolve).once('error', reject));
    expect(own.getStats().totalConnections).toBe(7);
    for (let i = 0; i < 3; i++) expect(own.addConnection(`m${i}`, new FakeSocket(), '192.0.2.2').success).toBe(true);
    expect(own.addConnection('m3', new FakeSocket(), '192.0.2.2')).toMatchObject({ code: 'total_limit' });
    expect(() => new ConnectionManager({ maxTotalConnections: 9 }, timers, { name: 'shared' })).toThrow(/maxTotalConnections/);
    await worker.terminate();
    expect(own.getStats().totalConnections).toBe(3);
    own.cleanup();
  });
});
