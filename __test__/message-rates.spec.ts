/** Rates that several connections share, and rates of the messages of one type. */
import { Worker } from 'node:worker_threads';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import {
  type ConnectionLimits,
  ConnectionManager,
  type ConnectionManagerOptions,
  type ManagedConnection,
  MessageRouter,
  type MessageTypeRate,
  RateLimiter,
  TimerManager,
} from '../dist/index.js';
import { FakeSocket, ManualClock } from '../dist/testing.js';
import { agree } from './fixtures/agree.js';
import { inFull } from './fixtures/long.js';

type Connection = ManagedConnection<FakeSocket>;

let clock: ManualClock;
let timers: TimerManager;
let opened = 0;

beforeEach(() => {
  clock = new ManualClock();
  timers = new TimerManager({ clock });
});

afterEach(() => {
  timers.cleanup();
});

function managerOf(
  limits: ConnectionLimits,
  options?: ConnectionManagerOptions<FakeSocket>,
): ConnectionManager<FakeSocket> {
  return new ConnectionManager<FakeSocket>(limits, timers, options);
}

function open(manager: ConnectionManager<FakeSocket>, ip: string, user?: string): Connection {
  const result = manager.addConnection(`c${opened++}`, new FakeSocket(), ip, user);
  if (!result.success) throw new Error(result.reason);
  return result.connection;
}

/** Outcomes of one message of each of these connections, in turn. */
const outcomes = (...connections: readonly Connection[]): string[] =>
  connections.map((connection) => connection.received(1));

it('messages that come exactly at their rate for hours are all admitted', () => {
  clock.advance(1e9);
  using manager = managerOf({
    messageRate: { limit: 3, windowMs: 1000, action: 'drop' },
    byteRate: { limit: 7, windowMs: 1000, action: 'drop' },
    messageRatePerUser: { limit: 3, windowMs: 1000, action: 'drop' },
    messageRatePerIp: { limit: 3, windowMs: 1000, action: 'drop' },
  });
  const connection = open(manager, '192.0.2.1', 'ann');
  const refused: number[] = [];
  for (let second = 0; second < 20_000; second++) {
    if ([2, 3, 2].some((bytes) => connection.received(bytes) !== 'ok')) refused.push(second);
    clock.advance(1000);
  }
  expect(refused).toEqual([]);
});

describe('a message rate per user', () => {
  it('counts all connections of a user together, and no client without a user', () => {
    const hook = vi.fn();
    using manager = managerOf(
      { messageRatePerUser: { limit: 10, windowMs: 1000, burst: 3, action: 'drop' } },
      { onRateExceeded: hook },
    );
    const [a, b] = [open(manager, '192.0.2.1', 'ann'), open(manager, '192.0.2.2', 'ann')];
    const bob = open(manager, '192.0.2.1', 'bob');
    const nobody = open(manager, '192.0.2.1');
    expect(outcomes(a, b, a, b, bob)).toEqual(['ok', 'ok', 'ok', 'drop', 'ok']);
    expect(outcomes(nobody, nobody, nobody, nobody, nobody)).toEqual(Array(5).fill('ok'));
    expect(hook.mock.calls).toEqual([[b, 'user_message_rate', 'drop']]);
    clock.advance(99);
    expect(outcomes(a)).toEqual(['drop']);
    clock.advance(1);
    expect(outcomes(b, a)).toEqual(['ok', 'drop']);
    // A dropped message was received all the same.
    expect(b.messageCount).toBe(3);
    expect(manager.snapshot()).toMatchObject({ messagesOverRate: 3, messageRateKeys: 2 });
  });

  it('goes with a login, and holds for a client that connects anew', () => {
    using manager = managerOf({
      messageRatePerUser: { limit: 2, windowMs: 1000, action: 'drop' },
    });
    const a = open(manager, '192.0.2.1');
    expect(outcomes(a, a, a)).toEqual(['ok', 'ok', 'ok']);
    a.bindUser('ann');
    expect(outcomes(a, a, a)).toEqual(['ok', 'ok', 'drop']);
    a.bindUser('ann');
    expect(outcomes(a)).toEqual(['drop']);
    a.bindUser('bob');
    expect(outcomes(a)).toEqual(['ok']);
    a.close();
    expect(manager.snapshot().messageRateKeys).toBe(0);
    const again = open(manager, '192.0.2.9', 'ann');
    expect(outcomes(again)).toEqual(['drop']);
    clock.advance(500);
    expect(outcomes(again)).toEqual(['ok']);
  });

  it('closes with 1008 by default, or only reports', () => {
    using manager = managerOf({ messageRatePerUser: { limit: 1, windowMs: 1000 } });
    const [a, b] = [open(manager, '192.0.2.1', 'ann'), open(manager, '192.0.2.2', 'ann')];
    expect(outcomes(a, b)).toEqual(['ok', 'close']);
    expect(b.socket.closed).toEqual([{ code: 1008, reason: 'Message rate per user exceeded' }]);
    expect([a.isAlive, b.isAlive, manager.snapshot().totalConnections]).toEqual([true, false, 1]);
    const hook = vi.fn();
    using observing = managerOf(
      { mode: 'observe', messageRatePerUser: { limit: 1, windowMs: 1000 } },
      { onRateExceeded: hook },
    );
    const c = open(observing, '192.0.2.1', 'ann');
    expect(outcomes(c, c)).toEqual(['ok', 'ok']);
    expect(hook.mock.calls).toEqual([[c, 'user_message_rate', 'report']]);
  });
});

describe('a message rate per address', () => {
  it('counts an IPv4 address in any notation, an IPv6 network, and all unknown addresses', () => {
    using manager = managerOf({
      messageRatePerIp: { limit: 2, windowMs: 60_000 },
      ipv6PrefixBits: 56,
    });
    const pairs = [
      ['192.0.2.1', '::ffff:192.0.2.1'],
      ['2001:db8:0:ab00::1', '2001:db8:0:abff::2'],
      ['unknown', ''],
    ] as const;
    for (const [first, second] of pairs) {
      const [a, b] = [open(manager, first), open(manager, second)];
      expect([first, ...outcomes(a, b, a)]).toEqual([first, 'ok', 'ok', 'close']);
      expect(a.socket.closed).toEqual([{ code: 1008, reason: 'Message rate per IP exceeded' }]);
    }
    for (const ip of ['192.0.2.2', '2001:db8:0:ac00::1', 'fe80::1', 'fe80::2'])
      expect([ip, ...outcomes(open(manager, ip))]).toEqual([ip, 'ok']);
  });

  it('and the other rates: a message over one of them spends nothing of the others', () => {
    const drop = { windowMs: 60_000, action: 'drop' } as const;
    using manager = managerOf({
      messageRate: { limit: 3, ...drop },
      byteRate: { limit: 100, ...drop },
      messageRatePerUser: { limit: 4, ...drop },
      messageRatePerIp: { limit: 6, ...drop },
    });
    const [a, b] = [open(manager, '192.0.2.1', 'ann'), open(manager, '192.0.2.1', 'ann')];
    expect(a.received(101)).toBe('drop');
    expect(outcomes(a, a, a, a, a)).toEqual(['ok', 'ok', 'ok', 'drop', 'drop']);
    expect(outcomes(b, b, b)).toEqual(['ok', 'drop', 'drop']);
    const [c, d] = [open(manager, '192.0.2.1', 'bob'), open(manager, '192.0.2.2', 'bob')];
    expect(outcomes(c, c, c)).toEqual(['ok', 'ok', 'drop']);
    // Of bob, two were spent: the address refused the third.
    expect(outcomes(d, d, d)).toEqual(['ok', 'ok', 'drop']);
    // Pings are no messages.
    expect(c.receivedControl(1)).toBe('ok');
  });

  it('can be set, changed and lifted at run time, and begins anew then', () => {
    using manager = managerOf({});
    const [a, b] = [open(manager, '192.0.2.1'), open(manager, '192.0.2.1')];
    expect(manager.snapshot().messageRateKeys).toBe(0);
    const rate = { limit: 1, windowMs: 1000, action: 'drop' } as const;
    manager.updateLimits({ messageRatePerIp: rate });
    expect(outcomes(a, b)).toEqual(['ok', 'drop']);
    manager.updateLimits({ maxConnectionsPerIp: 5 });
    expect(outcomes(b)).toEqual(['drop']);
    manager.updateLimits({ messageRatePerIp: { ...rate, limit: 2 } });
    expect(outcomes(a, b, b)).toEqual(['ok', 'ok', 'drop']);
    manager.updateLimits({ messageRatePerIp: undefined });
    expect(outcomes(a, b, b)).toEqual(['ok', 'ok', 'ok']);
    expect(manager.snapshot().messageRateKeys).toBe(1);
  });

  it.each([
    [{ messageRatePerIp: { limit: 0, windowMs: 1 } }, 'messageRatePerIp.limit'],
    [{ messageRatePerUser: { limit: 1, windowMs: 0.5 } }, 'messageRatePerUser.windowMs'],
    [{ messageRatePerUser: { limit: 1, windowMs: 1, action: 'x' } }, 'messageRatePerUser.action'],
    [{ messageRatePerIp: 5 }, 'messageRatePerIp'],
  ])('refuses %j', (limits, field) => {
    expect(() => managerOf(limits as ConnectionLimits)).toThrow(
      expect.objectContaining({ code: expect.stringMatching(/^ERR_/), field }),
    );
  });
});

/** A bucket that fills evenly, in whole units: `limit` of them are one millisecond of a message. */
class Bucket {
  #units: number;
  #at = 0;
  constructor(
    readonly limit: number,
    readonly windowMs: number,
  ) {
    this.#units = limit * windowMs;
  }
  has(cost: number, now: number): boolean {
    this.#units = Math.min(this.limit * this.windowMs, this.#units + (now - this.#at) * this.limit);
    this.#at = now;
    return this.#units >= cost * this.windowMs;
  }
  spend(cost: number): void {
    this.#units -= cost * this.windowMs;
  }
}

it('the rates of connections, users and addresses agree with buckets, over random lives', () => {
  const windowMs = 700;
  const limits = { own: 5, bytes: 90, user: 7, ip: 11 };
  using manager = managerOf({
    messageRate: { limit: limits.own, windowMs, action: 'drop' },
    byteRate: { limit: limits.bytes, windowMs, action: 'drop' },
    messageRatePerUser: { limit: limits.user, windowMs, action: 'drop' },
    messageRatePerIp: { limit: limits.ip, windowMs, action: 'drop' },
  });
  const shared = new Map<string, Bucket>();
  const bucketOf = (key: string, limit: number): Bucket => {
    const bucket = shared.get(key) ?? new Bucket(limit, windowMs);
    shared.set(key, bucket);
    return bucket;
  };
  interface Row {
    readonly connection: Connection;
    readonly own: Bucket;
    readonly bytes: Bucket;
  }
  const rows: Row[] = [];
  let seed = 11;
  const random = (below: number): number => {
    seed = (seed * 1103515245 + 12345) % 2 ** 31;
    return (seed >> 8) % below;
  };
  const ips = ['192.0.2.1', '2001:db8::1', '2001:db8::2', '198.51.100.7'];
  const counts = { ok: 0, drop: 0 };
  for (let step = 0; step < inFull(6000, 60_000); step++) {
    const what = random(20);
    if (rows.length < 2 || (what === 0 && rows.length < 12)) {
      const user = random(3) === 0 ? undefined : `u${random(3)}`;
      rows.push({
        connection: open(manager, ips[random(ips.length)]!, user),
        own: new Bucket(limits.own, windowMs),
        bytes: new Bucket(limits.bytes, windowMs),
      });
    } else if (what === 1) rows.splice(random(rows.length), 1)[0]!.connection.close();
    else if (what === 2) rows[random(rows.length)]!.connection.bindUser(`u${random(3)}`);
    else {
      clock.advance(random(60));
      const now = clock.now();
      const { connection, own, bytes } = rows[random(rows.length)]!;
      const size = random(30);
      const { ip, userId } = connection;
      const needed: (readonly [Bucket, number])[] = [
        [own, 1],
        [bytes, size],
        [bucketOf(`ip ${ip.replace('::2', '::1')}`, limits.ip), 1],
      ];
      if (userId !== undefined) needed.push([bucketOf(`user ${userId}`, limits.user), 1]);
      const fits = needed.map(([bucket, cost]) => bucket.has(cost, now)).every(Boolean);
      if (fits) for (const [bucket, cost] of needed) bucket.spend(cost);
      const expected = fits ? 'ok' : 'drop';
      counts[expected]++;
      agree(connection.received(size), expected, step);
    }
  }
  expect(Math.min(counts.ok, counts.drop)).toBeGreaterThan(500);
});

it('a hundred thousand users leave no key behind', () => {
  const drop = { limit: 1, windowMs: 1000, action: 'drop' } as const;
  using manager = managerOf({ messageRatePerUser: drop, messageRatePerIp: drop });
  const sent: string[] = [];
  for (let batch = 0; batch < 10; batch++) {
    const all = Array.from({ length: 10_000 }, (_, at) =>
      open(manager, `10.${batch}.${at >> 8}.${at & 255}`, `u${batch}-${at}`),
    );
    sent.push(...new Set(outcomes(...all)));
    sent.push(String(manager.snapshot().messageRateKeys));
    for (const connection of all) connection.close();
  }
  expect(new Set(sent)).toEqual(new Set(['ok', '20000']));
  expect(manager.snapshot().messageRateKeys).toBe(0);
});

it('threads that share a name share the rates, until a worker ends', async () => {
  const limits: ConnectionLimits = {
    messageRatePerUser: { limit: 5, windowMs: 3_600_000, action: 'drop' },
    messageRatePerIp: { limit: 100, windowMs: 3_600_000, action: 'drop' },
  };
  // The host's clock: a worker has it, too.
  using own = new ConnectionManager<FakeSocket>(limits, { name: 'message-rates' });
  const entry = JSON.stringify(new URL('../dist/index.js', import.meta.url).href);
  const worker = new Worker(
    `import { parentPort } from 'node:worker_threads';
     import { ConnectionManager } from ${entry};
     const manager = new ConnectionManager(${JSON.stringify(limits)}, { name: 'message-rates' });
     const { connection } = manager.addConnection('w', { close() {} }, '192.0.2.1', 'ann');
     const outcomes = Array.from({ length: 3 }, () => connection.received(1));
     globalThis.keep = manager; setInterval(() => {}, 1000);
     parentPort.postMessage(outcomes);`,
    { eval: true, execArgv: ['--input-type=module'] },
  );
  const told = await new Promise((resolve, reject) =>
    worker.once('message', resolve).once('error', reject),
  );
  expect(told).toEqual(['ok', 'ok', 'ok']);
  const ann = open(own, '192.0.2.2', 'ann');
  expect(outcomes(ann, ann, ann)).toEqual(['ok', 'ok', 'drop']);
  expect(own.snapshot().messageRateKeys).toBe(3);
  expect(
    () => new ConnectionManager({ messageRatePerUser: undefined }, { name: 'message-rates' }),
  ).toThrow(/messageRatePerUser/);
  await worker.terminate();
  expect(own.snapshot().messageRateKeys).toBe(2);
});

it('a rate of users follows fake timers, and goes on from their time', () => {
  using manager = new ConnectionManager<FakeSocket>({
    messageRatePerUser: { limit: 1, windowMs: 3_600_000, action: 'drop' },
  });
  const ann = open(manager, '192.0.2.1', 'ann');
  expect(outcomes(ann, ann)).toEqual(['ok', 'drop']);
  vi.useFakeTimers();
  try {
    expect(outcomes(ann)).toEqual(['drop']);
    vi.advanceTimersByTime(3_600_001);
    expect(outcomes(ann, ann)).toEqual(['ok', 'drop']);
  } finally {
    vi.useRealTimers();
  }
  expect(outcomes(ann)).toEqual(['drop']);
});

it('a worker judges by the time of the process, though its own clock began later', async () => {
  const WINDOW_MS = 300;
  const limits: ConnectionLimits = {
    messageRatePerUser: { limit: 1, windowMs: WINDOW_MS, action: 'drop' },
  };
  const flag = new Int32Array(new SharedArrayBuffer(4));
  const entry = JSON.stringify(new URL('../dist/index.js', import.meta.url).href);
  // Asks from the moment at which the other thread has spent until a message conforms.
  const worker = new Worker(
    `import { parentPort, workerData } from 'node:worker_threads';
     import { ConnectionManager } from ${entry};
     const manager = new ConnectionManager(${JSON.stringify(limits)}, { name: 'epoch' });
     const { connection } = manager.addConnection('w', { close() {} }, '192.0.2.1', 'ann');
     parentPort.postMessage('ready');
     Atomics.wait(workerData, 0, 0);
     let dropped = 0, conformed = 0;
     while (conformed === 0) {
       const before = Date.now();
       if (connection.received(1) === 'drop') dropped = before;
       else conformed = Date.now();
     }
     parentPort.postMessage([dropped, conformed]);`,
    { eval: true, execArgv: ['--input-type=module'], workerData: flag },
  );
  const told = (): Promise<unknown> =>
    new Promise((resolve, reject) => worker.once('message', resolve).once('error', reject));
  expect(await told()).toBe('ready');
  using own = new ConnectionManager<FakeSocket>(limits, { name: 'epoch' });
  const ann = open(own, '192.0.2.2', 'ann');
  const before = Date.now();
  expect(outcomes(ann)).toEqual(['ok']);
  const after = Date.now();
  const times = told();
  Atomics.store(flag, 0, 1);
  Atomics.notify(flag, 0);
  const [dropped, conformed] = (await times) as [number, number];
  // No message was refused after the window, and none admitted before its end, however slow the threads are.
  expect(dropped - after).toBeLessThan(WINDOW_MS + 20);
  expect(conformed - before).toBeGreaterThan(WINDOW_MS - 20);
  await worker.terminate();
});

describe('a rate of the messages of one type', () => {
  it('gives its name back when its router is closed', () => {
    const open = (limit: number): MessageRouter<object> =>
      new MessageRouter<object>().on('chat', () => undefined, {
        rate: { limit, windowMs: 1000, name: 'released' },
      });
    const first = open(1);
    expect(() => open(2)).toThrow(expect.objectContaining({ code: 'ERR_LIMITS_CONFLICT' }));
    first.close();
    first.close();
    open(2).close();
  });

  const say = (payload: unknown): string => JSON.stringify({ type: 'chat', payload });
  const rate = { limit: 2, windowMs: 1000 } as const;

  it('counts each connection by itself and only this type; the action is that of other rates', () => {
    using manager = managerOf({});
    const [a, b] = [open(manager, '192.0.2.1'), open(manager, '192.0.2.1')];
    const hook = vi.fn();
    const handled: unknown[] = [];
    const router = new MessageRouter<Connection>({ onRateExceeded: hook })
      .on('chat', (_, { payload }) => void handled.push(payload), {
        rate: { ...rate, action: 'drop', clock },
      })
      .on('other', () => undefined);
    for (const payload of [1, 2, 3]) expect(router.receive(say(payload), a)).toBe(undefined);
    void router.receive(say('b'), b);
    expect(handled).toEqual([1, 2, 'b']);
    expect(router.receive({ type: 'other' }, a)).toBe(undefined);
    expect(hook.mock.calls).toEqual([[{ type: 'chat', connection: a, action: 'drop' }]]);
    clock.advance(500);
    void router.receive(say(4), a);
    void router.receive(say(5), a);
    expect(handled).toEqual([1, 2, 'b', 4]);
    expect(router.snapshot()).toEqual({ handled: 5, problems: {}, overRate: 2 });
    expect([a.isAlive, b.isAlive]).toEqual([true, true]);
  });

  it('closes with 1008 by default, through the socket where the connection cannot; or reports', () => {
    using manager = managerOf({});
    const router = (own: MessageTypeRate): MessageRouter<object> =>
      new MessageRouter<object>().on('chat', () => ({ type: 'ok' }), {
        rate: { ...own, limit: 1, clock },
      });
    const closing = router(rate);
    const a = open(manager, '192.0.2.1');
    expect(closing.receive(say(1), a)).toMatchObject({ problem: undefined });
    expect(closing.receive(say(2), a)).toBe(undefined);
    expect(a.socket.closed).toEqual([{ code: 1008, reason: 'Message rate exceeded' }]);
    const typed = { id: 'typed', socket: new FakeSocket() };
    void closing.receive(say(1), typed);
    void closing.receive(say(2), typed);
    expect(typed.socket.closed).toEqual([{ code: 1008, reason: 'Message rate exceeded' }]);
    const reporting = router({ ...rate, action: 'report' });
    for (const n of [1, 2, 3])
      expect(reporting.receive(say(n), typed)).toMatchObject({ envelope: { type: 'ok' } });
    expect(reporting.snapshot()).toMatchObject({ handled: 3, overRate: 2 });
  });

  it('counts by user or by address; clients without a user count by connection', () => {
    using manager = managerOf({});
    const routed = (by: 'user' | 'ip'): ((connection: Connection, user?: string) => boolean) => {
      const router = new MessageRouter<Connection>().on('chat', () => ({ type: 'ok' }), {
        rate: { ...rate, by, action: 'drop', clock },
      });
      return (connection, userId) => router.receive(say(1), connection, { userId }) !== undefined;
    };
    const [a, b] = [open(manager, '2001:db8::1', 'ann'), open(manager, '2001:db8::2', 'ann')];
    const [c, d] = [open(manager, '2001:db8::3'), open(manager, '192.0.2.1')];
    const byUser = routed('user');
    expect([byUser(a), byUser(b, 'ann'), byUser(b), byUser(a, 'bob')]).toEqual([
      true,
      true,
      false,
      true,
    ]);
    expect([byUser(c), byUser(c), byUser(d), byUser(c)]).toEqual([true, true, true, false]);
    // A user may have the id of a connection as a name.
    expect(byUser(a, c.id)).toBe(true);
    const byIp = routed('ip');
    expect([byIp(a), byIp(b), byIp(c), byIp(d)]).toEqual([true, true, false, true]);
  });

  it('counts a user that is a number by its text, and refuses one that is no id', () => {
    const errors: unknown[] = [];
    const router = new MessageRouter<{ id: string; userId: unknown }>({
      onError: (error) => void errors.push(error),
    }).on('chat', () => ({ type: 'ok' }), {
      rate: { ...rate, limit: 1, by: 'user', action: 'drop', clock },
    });
    const receive = (id: string, userId: unknown): unknown =>
      router.receive(say(1), { id, userId });
    expect(receive('a', 7)).toMatchObject({ envelope: { type: 'ok' } });
    expect([receive('b', 7), receive('c', 7n), receive('d', '7')]).toEqual([
      undefined,
      undefined,
      undefined,
    ]);
    expect(receive('e', { id: 7 })).toMatchObject({ problem: { code: 'handler_failed' } });
    expect(errors).toMatchObject([{ code: 'ERR_INVALID_ARG_TYPE', field: 'connection.userId' }]);
  });

  it('agrees with a limiter of each client, and is judged before the payload', () => {
    const model = new Map<string, RateLimiter>();
    let checks = 0;
    const router = new MessageRouter<{ id: string }>().on('chat', () => ({ type: 'ok' }), {
      check: (payload): payload is number => ++checks > 0 && payload !== 0,
      rate: { limit: 3, windowMs: 900, burst: 2, action: 'drop', clock },
    });
    for (let step = 0; step < 2000; step++) {
      clock.advance((step * 7919) % 97);
      const id = `c${(step * step) % 5}`;
      const limiter =
        model.get(id) ?? new RateLimiter({ limit: 3, windowMs: 900, burst: 2, clock });
      model.set(id, limiter);
      const before = checks;
      const reply = router.receive(say(step % 3), { id });
      const admitted = limiter.take('key').success;
      agree([reply !== undefined, checks - before], [admitted, admitted ? 1 : 0], step);
    }
  });

  it('tells a connection that it cannot count or close, and never throws', () => {
    const errors: unknown[] = [];
    const router = new MessageRouter<unknown>({
      onError: (error) => void errors.push(error),
      onRateExceeded: () => {
        throw new Error('hook');
      },
    }).on('chat', () => ({ type: 'ok' }), { rate: { ...rate, limit: 1, clock } });
    const byIp = new MessageRouter<unknown>({ onError: (error) => void errors.push(error) }).on(
      'chat',
      () => ({ type: 'ok' }),
      { rate: { ...rate, by: 'ip', clock } },
    );
    for (const [one, connection] of [
      [router, null],
      [byIp, { id: 'a' }],
      [router, { id: 'a' }],
      [router, { id: 'a' }],
    ] as const)
      void one.receive(say(1), connection);
    expect(errors.map((error) => (error as { field?: string }).field)).toEqual([
      'connection.id',
      'connection.ip',
      undefined,
      'connection.close',
    ]);
  });

  it.each([
    [5, 'check'],
    [{ checks: 1 }, 'checks'],
    [{ check: 5 }, 'check'],
    [{ rate: 5 }, 'rate'],
    [{ rate: { limit: 1 } }, 'rate.windowMs'],
    [{ rate: { ...rate, by: 'me' } }, 'rate.by'],
    [{ rate: { ...rate, action: 'x' } }, 'rate.action'],
    [{ rate: { ...rate, onRefuse: () => 1 } }, 'rate.onRefuse'],
  ])('refuses %j', (options, field) => {
    const router = new MessageRouter();
    expect(() => router.on('chat', () => undefined, options as never)).toThrow(
      expect.objectContaining({ code: expect.stringMatching(/^ERR_/), field }),
    );
    expect(router.has('chat')).toBe(false);
  });
});
