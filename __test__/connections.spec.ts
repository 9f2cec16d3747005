import { createServer } from 'node:http';
import { Worker } from 'node:worker_threads';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import {
  type ConnectionLimits,
  ConnectionManager,
  type Lease,
  type ManagedConnection,
  PortcullisError,
  ProductionConnectionManager,
  TimerManager,
} from '../dist/index.js';
import { FakeSocket, ManualClock } from '../dist/testing.js';
import { inFull } from './fixtures/long.js';
import { fractionsOf } from './fixtures/random.js';
import { portcullis as guardWs } from '../dist/ws.js';

const limits = {
  maxTotalConnections: 100,
  maxConnectionsPerIp: 10,
  maxConnectionsPerUser: 5,
  connectionTimeoutMs: 30_000,
  cleanupIntervalMs: 5000,
};

let clock: ManualClock;
let timers: TimerManager;
let manager: ConnectionManager<FakeSocket>;

beforeEach(() => {
  clock = new ManualClock();
  timers = new TimerManager({ clock });
  manager = new ConnectionManager<FakeSocket>(limits, timers);
});

afterEach(() => {
  manager.close();
  timers.cleanup();
});

function add(id: string, ip = '192.0.2.1', user?: string): ManagedConnection<FakeSocket> {
  const result = manager.addConnection(id, new FakeSocket(), ip, user);
  if (!result.success) throw new Error(result.reason);
  return result.connection;
}

describe('a connection manager', () => {
  it('accepts a connection and counts it', () => {
    expect(manager.addConnection('conn-1', new FakeSocket(), '192.168.1.1', 'user-1').success).toBe(
      true,
    );
    expect(manager.snapshot().totalConnections).toBe(1);
  });

  it('refuses the eleventh connection of one address', () => {
    for (let i = 0; i < 10; i++)
      manager.addConnection(`conn-${i}`, new FakeSocket(), '192.168.1.1');
    const result = manager.addConnection('conn-11', new FakeSocket(), '192.168.1.1');
    expect(result.success).toBe(false);
    expect(result.reason).toContain('Max connections per IP exceeded');
  });

  it('closes stale connections, by the clock of the host too', () => {
    const real = new TimerManager();
    const onHost = new ConnectionManager(limits, real);
    const socket = new FakeSocket();
    onHost.addConnection('conn-1', socket, '192.168.1.1');
    onHost['connections'].get('conn-1')!.lastActivity = Date.now() - 60_000;
    expect(onHost['cleanupStaleConnections']()).toBe(1);
    expect(onHost.snapshot().totalConnections).toBe(0);
    expect(socket.closed).toEqual([{ code: 1001, reason: 'Connection timeout' }]);
    onHost.close();
    real.cleanup();
  });
});

describe('metadata', () => {
  it.each([
    [undefined, ['', undefined, {}]],
    [{}, ['', undefined, {}]],
    [{ userAgent: '' }, ['', undefined, {}]],
    [{ userAgent: 'bot' }, ['bot', undefined, {}]],
    [{ sessionId: 's' }, ['', 's', {}]],
    [{ userAgent: 'bot', sessionId: 's' }, ['bot', 's', {}]],
    [{ userAgent: 'bot', customData: { room: 1 } }, ['bot', undefined, { room: 1 }]],
    [{ userAgent: null, sessionId: null }, ['', undefined, {}]],
  ])('of %j is what was given, at each read', (given, expected) => {
    const added = manager.addConnection('a', new FakeSocket(), '192.0.2.1', undefined, given);
    const { connection } = added as { connection: ManagedConnection };
    for (let read = 0; read < 2; read++) {
      const { userAgent, sessionId, customData, ip, rooms } = connection.metadata;
      expect([userAgent, sessionId, customData]).toEqual(expected);
      if (given !== undefined && 'customData' in given) expect(customData).toBe(given.customData);
      expect([ip, rooms.size]).toEqual(['192.0.2.1', read]);
      rooms.add('lobby');
    }
  });

  it.each(['userAgent', 'sessionId', 'customData'])(
    'whose getter of %s throws, or that is of a wrong type, takes no seat',
    (member) => {
      const failing = { userAgent: 'bot' };
      Object.defineProperty(failing, member, {
        get: () => {
          throw new Error('broken getter');
        },
      });
      const wrong: object = { [member]: 5 };
      const lease = manager.reserve('192.0.2.1') as Lease;
      for (const open of [
        (given: object) => manager.addConnection('a', new FakeSocket(), '192.0.2.1', '', given),
        (given: object) => manager.commit(lease, 'a', new FakeSocket(), given),
      ]) {
        expect(() => open(failing)).toThrow('broken getter');
        expect(() => open(wrong)).toThrow(
          expect.objectContaining({ code: 'ERR_INVALID_ARG_TYPE', field: `metadata.${member}` }),
        );
      }
      expect(manager.snapshot().totalConnections).toBe(1);
      expect(manager.commit(lease, 'a', new FakeSocket(), { userAgent: 'bot' }).success).toBe(true);
    },
  );
});

it.each([
  [{ useragent: 'curl/8' }, 'ERR_UNKNOWN_OPTION', 'metadata.useragent', 'did you mean userAgent?'],
  [{ sessionID: 's' }, 'ERR_UNKNOWN_OPTION', 'metadata.sessionID', 'did you mean sessionId?'],
  [Promise.resolve({ userAgent: 'bot' }), 'ERR_INVALID_ARG_TYPE', 'metadata', 'got a promise'],
  [new Map([['userAgent', 'bot']]), 'ERR_INVALID_ARG_TYPE', 'metadata', 'got a Map'],
  [['bot'], 'ERR_INVALID_ARG_TYPE', 'metadata', 'got an array'],
  [null, 'ERR_INVALID_ARG_TYPE', 'metadata', 'got null'],
])(
  'metadata %# that would count as none are refused, and take no seat',
  (given, code, field, text) => {
    const lease = manager.reserve('192.0.2.1') as Lease;
    const error = expect.objectContaining({ code, field, message: expect.stringContaining(text) });
    for (const open of [
      () => manager.addConnection('a', new FakeSocket(), '192.0.2.1', '', given as never),
      () => manager.commit(lease, 'a', new FakeSocket(), given as never),
    ])
      expect(open).toThrow(error as Error);
    expect(manager.snapshot().totalConnections).toBe(1);
  },
);

it('the metadata of a connection may be those of another one', () => {
  const given = { userAgent: 'bot', sessionId: 's', customData: {} };
  const first = manager.addConnection('a', new FakeSocket(), '192.0.2.1', '', given);
  if (!first.success) throw new Error(first.reason);
  const { metadata } = first.connection;
  const second = manager.addConnection('b', new FakeSocket(), '192.0.2.1', '', metadata);
  expect(second).toMatchObject({ success: true, connection: { metadata: given } });
});

describe('limits', () => {
  it('refuse with a reason and a stable code', () => {
    for (let i = 0; i < 5; i++) add(`u${i}`, `192.0.2.${i}`, 'alice');
    expect(manager.addConnection('u5', new FakeSocket(), '192.0.2.9', 'alice')).toMatchObject({
      success: false,
      code: 'user_limit',
      reason: 'Max connections per user exceeded',
    });
    manager.updateLimits({ maxTotalConnections: 5 });
    expect(manager.addConnection('u6', new FakeSocket(), '192.0.2.9')).toMatchObject({
      code: 'total_limit',
      reason: 'Max total connections exceeded',
    });
    manager.drain();
    expect(manager.addConnection('u7', new FakeSocket(), '192.0.2.9')).toMatchObject({
      code: 'draining',
    });
    manager.resume();
  });

  it('refuse an id in use; a late release of an old connection does not hit its successor', () => {
    const old = add('same');
    expect(manager.addConnection('same', new FakeSocket(), '192.0.2.2')).toMatchObject({
      code: 'duplicate_id',
    });
    manager.removeConnection('same');
    const young = add('same');
    expect(manager.release(old)).toBe(false);
    expect(young.isAlive).toBe(true);
    expect(manager.snapshot().totalConnections).toBe(1);
  });

  it.each(['reject', 'closeOldest'] as const)(
    'list the connections of a user in the order of their openings, on used slots and after logins: %s',
    (onFull) => {
      const random = fractionsOf(onFull.length);
      const [asked, late] = [0, 1].map(
        () => new ConnectionManager({ maxConnectionsPerUser: Infinity }, timers, { onFull }),
      );
      // Opened in this order; which slots they get depends on those that are free again.
      const open = new Map<string, string | undefined>();
      for (let step = 0; step < 24_000; step++) {
        const [id] = [...open.keys()].slice(Math.floor(random() * open.size));
        const user = random() < 0.1 ? `user-${Math.floor(random() * 3)}` : undefined;
        if (id !== undefined && (random() < 0.4 || open.size > 200)) {
          for (const one of [asked, late]) one!.removeConnection(id);
          open.delete(id);
        } else if (id !== undefined && user !== undefined && random() < 0.3) {
          for (const one of [asked, late]) one!.connections.get(id)?.bindUser(user);
          open.set(id, user);
        } else {
          for (const one of [asked, late])
            one!.addConnection(`c${step}`, new FakeSocket(), '192.0.2.1', user);
          open.set(`c${step}`, user);
        }
        // The first call makes the index.
        if (step === 12_000) asked!.connectionsOf('user-0');
      }
      for (const user of ['user-0', 'user-1', 'user-2']) {
        const expected = [...open].filter(([, of]) => of === user).map(([id]) => id);
        for (const one of [asked, late])
          expect(one!.connectionsOf(user).map(({ id }) => id)).toEqual(expected);
      }
      const times = [...late!.connections.values()].map(({ createdAt }) => createdAt);
      expect(times.every(Number.isInteger)).toBe(true);
      for (const one of [asked, late]) one!.close();
    },
  );

  it('get one seat back from two releases', () => {
    add('a');
    add('b');
    expect([manager.removeConnection('a'), manager.removeConnection('a')]).toEqual([true, false]);
    expect(manager.snapshot().totalConnections).toBe(1);
  });

  // The core learns of ended connections with the next call that may need to know.
  it.each([
    ['the limit of an address', { maxConnectionsPerIp: 1 }],
    ['that of a user', { maxConnectionsPerUser: 1 }],
    ['the total', { maxTotalConnections: 1 }],
    ['a limit of many seats', { maxConnectionsPerIp: 100 }],
  ])('admit in the place of one that has just ended: %s', (_, own: ConnectionLimits) => {
    const { maxConnectionsPerIp: seats = 1 } = own;
    using small = new ConnectionManager<FakeSocket>(own, { timers });
    const take = (id: string): ManagedConnection<FakeSocket> | undefined => {
      const result = small.addConnection(id, new FakeSocket(), '192.0.2.1', 'ada');
      return result.connection;
    };
    const open = Array.from({ length: seats }, (_one, at) => take(`first-${at}`));
    for (let round = 0; round < 200; round++) {
      expect(take(`more-${round}`)).toBeUndefined();
      const ended = open[round % seats];
      expect(ended !== undefined && small.release(ended)).toBe(true);
      open[round % seats] = take(`next-${round}`);
      expect(open[round % seats]).toBeDefined();
      // A lease that was aborted, or opened and released.
      const last = open[round % seats] as ManagedConnection<FakeSocket>;
      small.release(last);
      const lease = small.reserve('192.0.2.1', 'ada') as Lease;
      expect(lease.success).toBe(true);
      if (round % 2 === 0) {
        small.abort(lease);
        open[round % seats] = take(`again-${round}`);
      } else
        open[round % seats] = small.commit(lease, `again-${round}`, new FakeSocket()).connection;
      expect(open[round % seats]).toBeDefined();
    }
  });

  it('notations of one address share its limit', () => {
    manager.updateLimits({ maxConnectionsPerIp: 1 });
    add('a', '1.2.3.4');
    for (const ip of ['::ffff:1.2.3.4', '::ffff:102:304', '[::ffff:1.2.3.4]:80', '1.2.3.4:8080']) {
      expect(manager.addConnection(ip, new FakeSocket(), ip), ip).toMatchObject({
        code: 'ip_limit',
      });
    }
    expect(manager.addConnection('b', new FakeSocket(), '2001:db8::1.2.3.4').success).toBe(true);
  });

  describe('of an address', () => {
    const managed = (limits: ConnectionLimits): ((ip: string) => string) => {
      const own = new ConnectionManager<FakeSocket>(limits, timers);
      let next = 0;
      return (ip) => own.addConnection(`c${next++}`, new FakeSocket(), ip).code ?? 'ok';
    };
    const of = (times: number, code: string): string[] => Array.from({ length: times }, () => code);

    it('hold for a whole /64 of IPv6, unless it has a limit of its own', () => {
      const add = managed({ maxConnectionsPerIp: 3 });
      const outcomes = Array.from({ length: 6 }, (_, at) => add(`2001:db8::${at}:1`));
      expect(outcomes).toEqual([...of(3, 'ok'), ...of(3, 'prefix_limit')]);
      expect(add('2001:db8:0:1::1')).toBe('ok');
      const wide = managed({ maxConnectionsPerIp: 3, ipv6PrefixBits: 48 });
      expect([1, 2, 3, 4].map((at) => wide(`2001:db8:0:${at}::1`))).toEqual([
        ...of(3, 'ok'),
        'prefix_limit',
      ]);
      const own = managed({ maxConnectionsPerIp: 1, maxConnectionsPerPrefix: 2 });
      expect([1, 1, 2, 3].map((at) => own(`2001:db8::${at}`))).toEqual([
        'ok',
        'ip_limit',
        'ok',
        'prefix_limit',
      ]);
      for (const limits of [{ maxConnectionsPerPrefix: Infinity }, { ipv6PrefixBits: 128 }]) {
        const free = managed({ maxConnectionsPerIp: 1, ...limits });
        expect([1, 2, 3].map((at) => free(`2001:db8::${at}`))).toEqual(of(3, 'ok'));
        expect(free('2001:db8::1')).not.toBe('ok');
      }
    });

    it('hold for a /64 when they change at run time', () => {
      const own = new ConnectionManager<FakeSocket>({}, timers);
      const add = (id: string): string =>
        own.addConnection(id, new FakeSocket(), `2001:db8::${id}`).code ?? 'ok';
      expect(add('1')).toBe('ok');
      own.updateLimits({ maxConnectionsPerIp: 1 });
      expect(add('2')).toBe('prefix_limit');
      own.updateLimits({ maxConnectionsPerPrefix: 2 });
      expect([add('3'), add('4')]).toEqual(['ok', 'prefix_limit']);
      own.close();
    });

    it('count local addresses one by one, and translated ones as IPv4', () => {
      const add = managed({
        maxConnectionsPerIp: 1,
        connectRatePerIp: { limit: 1, windowMs: 1000 },
      });
      for (const ip of ['fe80::1', 'fe80::2', 'fd00::1', 'fd00::2', '64:ff9b::192.0.2.1'])
        expect(add(ip), ip).toBe('ok');
      for (const ip of ['fe80::1%eth0', 'fd00::2', '192.0.2.1', '::ffff:192.0.2.1'])
        expect(add(ip), ip).toBe('ip_limit');
      expect(add('64:ff9b::192.0.2.2')).toBe('ok');
    });
  });

  it('of connect rates hold for a whole /64 of IPv6, unless ipv6PrefixBits is 128', () => {
    const rate = { connectRatePerIp: { limit: 5, windowMs: 60_000 } };
    const admitted = (limits: ConnectionLimits): number => {
      const own = new ConnectionManager<FakeSocket>(limits, timers);
      for (let i = 0; i < 5000; i++)
        own.addConnection(`c${i}`, new FakeSocket(), `2001:db8::${i.toString(16)}`);
      const { totalConnections } = own.snapshot();
      own.close();
      return totalConnections;
    };
    expect(admitted(rate)).toBe(5);
    expect(admitted({ ...rate, maxConnectionsPerPrefix: Infinity })).toBe(5);
    expect(admitted({ ...rate, ipv6PrefixBits: 128 })).toBe(5000);
  });

  it('of zero admit none, of Infinity and absent ones admit all', () => {
    manager.updateLimits({ maxConnectionsPerIp: 0 });
    expect(manager.addConnection('a', new FakeSocket(), '1.2.3.4')).toMatchObject({
      code: 'ip_limit',
    });
    const free = new ConnectionManager({ maxTotalConnections: Infinity }, timers);
    for (let i = 0; i < 5000; i++)
      expect(free.addConnection(`c${i}`, new FakeSocket(), '1.2.3.4').success).toBe(true);
    expect(free.snapshot().totalConnections).toBe(5000);
    free.close();
  });

  it('follow a connection to its user; a refusal to bind changes nothing', () => {
    const connection = add('a');
    expect(manager.snapshot()).toMatchObject({ anonymousConnections: 1, connectionsByUser: 0 });
    expect(connection.bindUser('alice')).toEqual({ success: true });
    expect(manager.snapshot()).toMatchObject({ anonymousConnections: 0, connectionsByUser: 1 });
    for (let i = 0; i < 5; i++) add(`b${i}`, '192.0.2.2', 'bob');
    expect(connection.bindUser('bob')).toMatchObject({ code: 'user_limit' });
    expect(connection.userId).toBe('alice');
  });

  it('tell a login that comes too late from a manager that has closed', async () => {
    const [gone, ended] = [add('a'), add('b')];
    manager.release(gone);
    expect(gone.bindUser('alice')).toMatchObject({ code: 'client_left' });
    expect(await gone.identify('alice')).toMatchObject({ code: 'client_left' });
    manager.close();
    expect(ended.bindUser('alice')).toMatchObject({ code: 'closed' });
    expect(await ended.identify('alice')).toMatchObject({ code: 'closed' });
  });

  it('of connect rates say when to come back', () => {
    manager.updateLimits({ connectRatePerIp: { limit: 2, windowMs: 1000 } });
    add('a');
    add('b');
    expect(manager.addConnection('c', new FakeSocket(), '192.0.2.1')).toMatchObject({
      code: 'ip_rate',
      retryAfterMs: 500,
    });
    clock.advance(500);
    add('c');
  });
});

describe('exempt clients', () => {
  type Exempt = readonly string[] | ((ip: string) => boolean);
  const limited = {
    maxTotalConnections: 8,
    maxConnectionsPerIp: 1,
    maxConnectionsPerUser: 3,
    maxAnonymousConnections: 6,
    maxAnonymousConnectionsPerIp: 1,
    maxUnknownIpConnections: 1,
    connectRatePerIp: { limit: 1, windowMs: 1000 },
    connectRatePerUser: { limit: 1, windowMs: 1000 },
  };
  let next = 0;
  const managed = (exempt: Exempt): ConnectionManager<FakeSocket> => {
    const own = new ConnectionManager<FakeSocket>(limited, { timers, exempt });
    return own;
  };
  const codeOf = (own: ConnectionManager<FakeSocket>, ip: string, user?: string): string =>
    own.addConnection(`e${next++}`, new FakeSocket(), ip, user).code ?? 'ok';
  const codes = (own: ConnectionManager<FakeSocket>, times: number, ip: string, user?: string) =>
    Array.from({ length: times }, () => codeOf(own, ip, user));

  it.each([
    ['an address', ['192.0.2.1'], '192.0.2.1'],
    ['a network', ['192.0.2.0/24'], '::ffff:192.0.2.9'],
    ['a network of IPv6', ['2001:db8::/32'], '2001:db8::1'],
    ['the peer of a Unix socket', ['unix'], 'unix'],
    ['a function', (ip: string) => ip === 'monitor', 'monitor'],
  ] as const)('as %s are counted, and refused by no limit of their keys', (_kind, exempt, ip) => {
    const own = managed(exempt);
    expect(codes(own, 4, ip)).toEqual(Array.from({ length: 4 }, () => 'ok'));
    expect(own.snapshot()).toMatchObject({ totalConnections: 4, anonymousConnections: 4 });
    // A user has the limits of a user, whatever the address.
    expect(codes(own, 4, ip, 'ann')).toEqual(['ok', 'ok', 'ok', 'user_limit']);
    expect(codeOf(own, ip)).toBe('ok');
    expect(codeOf(own, ip)).toBe('total_limit');
    own.removeConnection([...own.connections.keys()][5]!);
    own.drain();
    expect(codeOf(own, ip)).toBe('draining');
    own.close();
  });

  it('stay below the totals, also without a user; others keep their limits', () => {
    const own = managed(['192.0.2.1']);
    expect(codes(own, 7, '192.0.2.1').at(-1)).toBe('anonymous_limit');
    own.removeConnection([...own.connections.keys()][0]!);
    expect([codeOf(own, '192.0.2.2'), codeOf(own, '192.0.2.2')]).toEqual(['ok', 'ip_limit']);
    expect(codeOf(own, '64:ff9b::192.0.2.1')).not.toBe('ok');
    own.close();
  });

  it('share their network with others, which they are counted for', () => {
    const own = managed(['2001:db8::1']);
    expect([codeOf(own, '2001:db8::2'), codeOf(own, '2001:db8::1')]).toEqual(['ok', 'ok']);
    clock.advance(1000);
    expect(codeOf(own, '2001:db8::2')).toBe('prefix_limit');
    own.close();
  });

  it('are leased like others, and give their seats back', () => {
    const own = managed(['192.0.2.1']);
    const leases = [1, 2, 3].map(() => own.reserve('192.0.2.1'));
    expect(leases.every(({ success }) => success)).toBe(true);
    for (const lease of leases) if (lease.success) own.abort(lease);
    expect(own.snapshot()).toMatchObject({ totalConnections: 0, connectionsByIp: 0 });
    own.close();
  });

  it('are none if the function fails, answers anything but true, or asks the manager back', async () => {
    const failing: Exempt[] = [
      () => {
        throw new Error('a secret');
      },
      () => 'yes' as never,
      () => Promise.resolve(true) as never,
      () => Promise.reject(new Error('a secret')) as never,
    ];
    for (const exempt of failing) {
      const own = managed(exempt);
      expect(codes(own, 2, '192.0.2.1')).toEqual(['ok', 'ip_limit']);
      own.close();
    }
    await new Promise((resolve) => setImmediate(resolve));
    const asks = managed((ip) => {
      if (ip === '192.0.2.1') asks.addConnection('same', new FakeSocket(), '192.0.2.2');
      return true;
    });
    expect(asks.addConnection('same', new FakeSocket(), '192.0.2.1')).toMatchObject({
      code: 'duplicate_id',
    });
    expect(asks.snapshot().totalConnections).toBe(1);
    asks.close();
    const closes = managed(() => (closes.close(), true));
    expect(codeOf(closes, '192.0.2.1')).toBe('closed');
  });

  it.each([
    [5, 'ERR_INVALID_ARG_TYPE', 'exempt'],
    ['10.0.0.1', 'ERR_INVALID_ARG_TYPE', 'exempt'],
    [[5], 'ERR_INVALID_ARG_TYPE', 'exempt[0]'],
    [['10.0.0.1', '10.0.0.0/33'], 'ERR_OUT_OF_RANGE', 'exempt[1]'],
  ])('%j is refused with %s by name', (exempt, code, field) => {
    expect(() => managed(exempt as never)).toThrow(expect.objectContaining({ code, field }));
  });

  it('of more than 1,000 networks are refused', () => {
    const many = Array.from({ length: 1001 }, () => '10.0.0.1');
    expect(() => managed(many)).toThrow(expect.objectContaining({ code: 'ERR_OUT_OF_RANGE' }));
    managed(many.slice(1)).close();
  });
});

describe('leases', () => {
  it('hold a seat, expire by themselves, and cannot be used twice', () => {
    const lease = manager.reserve('192.0.2.1');
    if (!lease.success) throw new Error(lease.reason);
    expect(manager.snapshot().totalConnections).toBe(1);
    expect(manager.commit(lease, 'a', new FakeSocket()).success).toBe(true);
    expect(manager.commit(lease, 'b', new FakeSocket())).toMatchObject({ code: 'stale_lease' });
    const forgotten = manager.reserve('192.0.2.1');
    clock.advance(15_000);
    expect(manager.snapshot().totalConnections).toBe(1);
    if (!forgotten.success) throw new Error(forgotten.reason);
    expect(manager.abort(forgotten)).toBe(false);
    expect(manager.commit(forgotten, 'c', new FakeSocket())).toMatchObject({ code: 'stale_lease' });
  });

  it('are used up by an abort, and take an identity', () => {
    const aborted = manager.reserve('192.0.2.1') as Lease;
    expect([manager.abort(aborted), manager.abort(aborted)]).toEqual([true, false]);
    expect(manager.commit(aborted, 'a', new FakeSocket()).code).toBe('stale_lease');
    const arrived = manager.arrive('192.0.2.1') as Lease;
    expect(manager.commit(arrived, 'b', new FakeSocket()).code).toBe('stale_lease');
    expect(manager.abort(arrived)).toBe(true);
    const unidentified = manager.arrive('192.0.2.1') as Lease;
    expect(manager.identify(unidentified, 'ada')).toBe(unidentified);
    expect(unidentified.userId).toBe('ada');
    expect(manager.commit(unidentified, 'c', new FakeSocket()).success).toBe(true);
    expect(manager.commit(unidentified, 'd', new FakeSocket()).code).toBe('stale_lease');
    expect(manager.snapshot()).toMatchObject({ totalConnections: 1, connectionsByUser: 1 });
  });

  it('keep their user though the clock of the application admits another one meanwhile', () => {
    let admits = (): void => undefined;
    const reentrant = new (class extends ManualClock {
      override now(): number {
        const run = admits;
        admits = () => undefined;
        run();
        return super.now();
      }
    })();
    const one = new ConnectionManager(
      { maxConnectionsPerUser: 1, connectRatePerIp: { limit: 100, windowMs: 1000 } },
      { timers: new TimerManager({ clock: reentrant }) },
    );
    // The first one tells that rates need the time.
    expect(one.reserve('192.0.2.1', 'bob').success).toBe(true);
    const arrived = one.arrive('192.0.2.2') as Lease;
    admits = () => void one.reserve('192.0.2.3', 'eve');
    expect(one.identify(arrived, 'ada')).toBe(arrived);
    for (const user of ['ada', 'eve', 'bob'])
      expect(one.reserve('192.0.2.4', user)).toMatchObject({ code: 'user_limit' });
    one.close();
  });

  it('open after a sweep that has left them alone', () => {
    const lease = manager.reserve('192.0.2.1') as Lease;
    expect(manager.cleanupStaleConnections()).toBe(0);
    expect(manager.commit(lease, 'a', new FakeSocket()).success).toBe(true);
    expect(manager.commit(lease, 'b', new FakeSocket()).code).toBe('stale_lease');
    expect(manager.removeConnection('a')).toBe(true);
    expect(manager.snapshot().totalConnections).toBe(0);
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
    expect(connection).toMatchObject({
      messageCount: 2,
      bytesReceived: 15,
      bytesSent: 7,
      isAlive: false,
      ip: '192.0.2.1',
    });
    expect(add('b')).toMatchObject({ messageCount: 0, bytesReceived: 0 });
  });

  it('keeps a connection open: without it, also while it only receives, the connection is closed, never early and not much late', () => {
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

  it('is measured by loop time: after a jump of the clock no client looks idle', () => {
    let now = 0;
    const jumping = new TimerManager({
      clock: Object.assign(new ManualClock(), { now: () => now }),
    });
    const own = new ConnectionManager(limits, jumping);
    own.addConnection('a', new FakeSocket(), '192.0.2.1');
    now += 3_600_000;
    jumping.driver.run();
    expect(own.cleanupStaleConnections()).toBe(0);
    own.close();
    jumping.cleanup();
  });

  it('evicts thousands of idle connections without losing one, sockets that throw included', () => {
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
    expect(big.snapshot()).toMatchObject({ totalConnections: 0, connectionsByIp: 0 });
    expect(big.connections.size).toBe(0);
    big.close();
  });
});

describe('bad input', () => {
  const junk: unknown[] = [
    undefined,
    null,
    NaN,
    -1,
    1.5,
    2 ** 33,
    Infinity,
    '',
    'x',
    {},
    [],
    () => 0,
    Symbol('x'),
    10n,
    true,
  ];

  it('is refused at construction with the field and the range', () => {
    expect(() => new ConnectionManager({ maxConnectionsPerIP: 5 } as object, timers)).toThrow(
      /did you mean maxConnectionsPerIp/,
    );
    for (const value of [NaN, -1, 1.5, 2 ** 33, null, '5']) {
      try {
        new ConnectionManager({ maxConnectionsPerIp: value as number }, timers);
        expect.unreachable(String(value));
      } catch (error) {
        expect(error).toBeInstanceOf(PortcullisError);
        expect(error).toMatchObject({
          field: 'maxConnectionsPerIp',
          allowed: expect.stringContaining('from 0'),
        });
      }
    }
  });

  it('never crashes and never loses a seat, whatever the arguments', () => {
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
    expect(manager.snapshot()).toMatchObject({
      totalConnections: 0,
      connectionsByIp: 0,
      connectionsByUser: 0,
    });
  });

  it('a hook that throws or rejects costs no seat and no process: the first error becomes a warning', async () => {
    const warnings: Error[] = [];
    const listen = (warning: Error): void => void warnings.push(warning);
    process.on('warning', listen);
    const boom = new Error('boom');
    const hooked = new ConnectionManager<FakeSocket>(
      {
        maxTotalConnections: 1,
        messageRate: { limit: 1, windowMs: 1000, action: 'drop' },
        connectionTimeoutMs: 1000,
      },
      timers,
      {
        onRefuse: () => {
          throw boom;
        },
        onRateExceeded: () => {
          throw boom;
        },
        onEvict: () => Promise.reject(boom) as never,
      },
    );
    const result = hooked.addConnection('a', new FakeSocket(), '192.0.2.1');
    for (const id of ['b', 'c'])
      expect(hooked.addConnection(id, new FakeSocket(), '192.0.2.1').code).toBe('total_limit');
    expect([result.connection?.received(1), result.connection?.received(1)]).toEqual([
      'ok',
      'drop',
    ]);
    clock.advance(10_000);
    expect([hooked.snapshot().totalConnections, hooked.snapshot().evicted]).toEqual([0, 1]);
    await new Promise((resolve) => setTimeout(resolve, 5));
    process.off('warning', listen);
    expect(
      warnings.map((warning) => [
        warning.message.split(' ')[0],
        (warning as { code?: string }).code,
        warning.cause,
      ]),
    ).toEqual(
      ['onRefuse', 'onRateExceeded', 'onEvict'].map((name) => [
        name,
        'PORTCULLIS_HOOK_ERROR',
        boom,
      ]),
    );
    expect(warnings[0]?.message).not.toContain('boom');
    hooked.close();
  });

  it('a lease that was tampered with is refused before its seat is touched', () => {
    const lease = manager.reserve('192.0.2.1');
    if (!lease.success) throw new Error(lease.reason);
    for (const junk of [
      { handle: lease.handle },
      { ...lease, ip: 5 },
      { ...lease, userId: {} },
      { ...lease, handle: 0.5 },
    ]) {
      expect(() => manager.commit(junk as never, 'a', new FakeSocket())).toThrow(
        expect.objectContaining({ code: 'ERR_INVALID_ARG_TYPE', field: 'lease' }),
      );
    }
    expect(manager.abort(lease)).toBe(true);
    expect(manager.snapshot().totalConnections).toBe(0);
  });

  it('a socket whose properties throw is closed like any other', () => {
    class Hostile {
      close(): void {
        throw new Error('close');
      }
      get terminate(): () => void {
        throw new Error('terminate');
      }
    }
    class Late extends FakeSocket {
      override get readyState(): number {
        throw new Error('readyState');
      }
      override set readyState(_state: number) {}
    }
    const hostile = new ConnectionManager({ connectionTimeoutMs: 1000 }, timers);
    for (let i = 0; i < 100; i++)
      hostile.addConnection(`c${i}`, i % 2 === 0 ? new Hostile() : new Late(), '192.0.2.1');
    clock.advance(20_000);
    expect([hostile.snapshot().totalConnections, hostile.snapshot().evicted]).toEqual([0, 100]);
    hostile.close();
  });

  it('a newcomer in the slot of a connection that a hook removed is not evicted in its place', () => {
    const own = new ConnectionManager<FakeSocket>({ connectionTimeoutMs: 1000 }, timers, {
      onEvict: ({ id }) => {
        if (id !== 'first') return;
        own.removeConnection('second');
        own.addConnection('newcomer', new FakeSocket(), '192.0.2.1');
      },
    });
    own.addConnection('first', new FakeSocket(), '192.0.2.1');
    own.addConnection('second', new FakeSocket(), '192.0.2.1');
    clock.advance(6000);
    expect([[...own.connections.keys()], own.snapshot().evicted]).toEqual([['newcomer'], 1]);
    own.close();
  });

  it('cleanupStaleConnections also finds idle slots that a pass under way has left behind', () => {
    const own = new ConnectionManager<FakeSocket>(
      { connectionTimeoutMs: 1000, cleanupIntervalMs: 1000 },
      timers,
    );
    for (let i = 0; i < 200; i++) own.addConnection(`c${i}`, new FakeSocket(), '192.0.2.1');
    const [first, ...others] = own.connections.values();
    for (const connection of others) connection.lastActivity = Date.now() - 60_000;
    clock.advance(1000);
    // The sweep has closed one batch, and has passed the first slot.
    expect(own.connections.size).toBe(136);
    first!.lastActivity = Date.now() - 60_000;
    // One batch at once: of the slots behind the first one, where the pass stands.
    expect([own.cleanupStaleConnections(), own.connections.size]).toEqual([136, 72]);
    clock.advance(3);
    expect(own.connections.size).toBe(0);
    own.close();
  });

  it('cleanupStaleConnections closes all at once after the timers were closed amid a pass', () => {
    const ended = new TimerManager({ clock });
    const own = new ConnectionManager<FakeSocket>(
      { connectionTimeoutMs: 1000, cleanupIntervalMs: 1000 },
      ended,
    );
    for (let i = 0; i < 200; i++) own.addConnection(`c${i}`, new FakeSocket(), '192.0.2.1');
    const [first, ...others] = own.connections.values();
    for (const connection of others) connection.lastActivity = Date.now() - 60_000;
    clock.advance(1000);
    first!.lastActivity = Date.now() - 60_000;
    ended.cleanup();
    expect([own.cleanupStaleConnections(), own.connections.size]).toEqual([136, 0]);
    own.close();
  });

  it('cleanupStaleConnections closes no more than 64 at once, wherever the last pass has ended', () => {
    const own = new ConnectionManager<FakeSocket>(
      { connectionTimeoutMs: 1000, cleanupIntervalMs: 1e6 },
      timers,
    );
    for (let i = 0; i < 300; i++) own.addConnection(`c${i}`, new FakeSocket(), '192.0.2.1');
    const all = [...own.connections.values()];
    const makeIdle = (from: number, to: number): void => {
      for (const connection of all.slice(from, to)) connection.lastActivity = Date.now() - 60_000;
    };
    makeIdle(130, 200);
    expect(own.cleanupStaleConnections()).toBe(70);
    // The pass stands behind these 64: 63 idle ones are left of it, and 90 stand before.
    makeIdle(0, 90);
    makeIdle(200, 257);
    const before = own.connections.size;
    expect(own.cleanupStaleConnections()).toBe(153);
    expect(before - own.connections.size).toBeLessThanOrEqual(64);
    clock.advance(10);
    expect(own.connections.size).toBe(300 - 70 - 147);
    own.close();
  });

  it('cleanupStaleConnections closes 64 at once, then 64 a turn, and spares who speaks meanwhile', () => {
    const own = new ConnectionManager<FakeSocket>(
      { connectionTimeoutMs: 1000, cleanupIntervalMs: 1e6 },
      timers,
    );
    for (let i = 0; i < 300; i++) own.addConnection(`c${i}`, new FakeSocket(), '192.0.2.1');
    const all = [...own.connections.values()];
    for (const connection of all) connection.lastActivity = Date.now() - 60_000;
    all[299]!.touch();
    const sizes = [own.cleanupStaleConnections(), own.connections.size];
    all[298]!.touch();
    for (let turn = 0; turn < 4; turn++) {
      clock.advance(1);
      sizes.push(own.connections.size);
    }
    expect(sizes).toEqual([299, 236, 172, 108, 44, 2]);
    expect(own.cleanupStaleConnections()).toBe(0);
    own.close();
    expect(own.cleanupStaleConnections()).toBe(0);
  });

  it('limits can change after the timers were closed, strict ones too', () => {
    const strict = new TimerManager({ clock, strict: true });
    const own = new ConnectionManager<FakeSocket>({ maxTotalConnections: 1 }, strict);
    strict.cleanup();
    own.updateLimits({ maxTotalConnections: 0, connectionTimeoutMs: 1000 });
    expect(own.addConnection('a', new FakeSocket(), '192.0.2.1').code).toBe('total_limit');
    expect(
      () => new ConnectionManager({ maxTotalConnections: 1 }, strict, { name: 'strict' }),
    ).toThrow(expect.objectContaining({ code: 'ERR_CLOSED' }));
    // The name is free.
    new ConnectionManager({ maxTotalConnections: 2 }, timers, { name: 'strict' }).cleanup();
    own.close();
  });

  it('only updateLimits can change the limits, those in a rate included', () => {
    const given = { maxTotalConnections: 1, messageRate: { limit: 1, windowMs: 1000 } };
    const own = new ConnectionManager<FakeSocket>(given, timers);
    given.messageRate.limit = Number.NaN;
    const seen = own.snapshot().limits.messageRate as { limit: number };
    expect(() => (seen.limit = 5)).toThrow(TypeError);
    own.updateLimits({ maxTotalConnections: 2 });
    expect(own.snapshot().limits).toEqual({
      maxTotalConnections: 2,
      messageRate: { limit: 1, windowMs: 1000 },
    });
    own.close();
  });

  it('refuses newcomers between drain() and resume(), each of which may be called again', () => {
    const connection = add('a');
    for (let i = 0; i < 2; i++) manager.drain();
    expect(manager.reserve('192.0.2.1')).toMatchObject({ code: 'draining' });
    expect(connection.isAlive).toBe(true);
    for (let i = 0; i < 2; i++) manager.resume();
    expect(manager.reserve('192.0.2.1').success).toBe(true);
  });

  it('newcomers after close() are refused with `closed`', () => {
    add('a');
    manager.close();
    expect(manager.addConnection('b', new FakeSocket(), '1.1.1.1')).toMatchObject({
      code: 'closed',
    });
    expect(manager.snapshot().totalConnections).toBe(0);
  });

  it('is exported under both names', () =>
    expect(ProductionConnectionManager).toBe(ConnectionManager));
});

describe('aliases', () => {
  it.each(['close', 'cleanup', Symbol.dispose] as const)('of close(): %s ends a manager', (end) => {
    const connection = add('a');
    manager[end]();
    manager[end]();
    expect(connection.socket.closed).toEqual([{ code: 1001, reason: 'Server shutdown' }]);
    expect(manager.snapshot().totalConnections).toBe(0);
    expect(manager.reserve('192.0.2.1')).toMatchObject({ code: 'closed' });
    expect(() => manager.resume()).toThrow(expect.objectContaining({ code: 'ERR_CLOSED' }));
  });

  it('of snapshot(): getStats() returns the same', () => {
    add('a');
    manager.drain();
    manager.reserve('192.0.2.1');
    expect(manager.getStats()).toEqual(manager.snapshot());
    expect(manager.getStats()).toMatchObject({ totalConnections: 1, refused: { draining: 1 } });
  });
});

describe('the timers of a manager', () => {
  const names = (of: TimerManager): (string | undefined)[] =>
    of.snapshot().timers.map(({ name }) => name);

  it('come from the options, or stand in front of them', () => {
    const options = new ConnectionManager<FakeSocket>({}, { timers, leaseTimeoutMs: 50 });
    const inFront = new ConnectionManager<FakeSocket>({}, timers, { leaseTimeoutMs: 50 });
    for (const own of [options, inFront]) {
      own.reserve('192.0.2.1');
      clock.advance(2000);
      expect(own.snapshot().totalConnections).toBe(0);
      own.close();
    }
    // They are the caller's, who goes on with them.
    expect(timers.setTimeout(() => undefined, 1).hasRef()).toBe(true);
  });

  it('cannot come from both', () => {
    expect(() => new ConnectionManager({}, timers, { timers })).toThrow(
      expect.objectContaining({ code: 'ERR_INVALID_ARG_TYPE', field: 'timers' }),
    );
    expect(() => new ConnectionManager({}, { timers: {} as never })).toThrow(
      expect.objectContaining({ code: 'ERR_INVALID_ARG_TYPE', field: 'timers' }),
    );
    expect(() => new ConnectionManager({}, {} as never, {})).toThrow(
      expect.objectContaining({ code: 'ERR_INVALID_ARG_TYPE', field: 'timerManager' }),
    );
  });

  it('free a closing socket that tells no state once its host has reported its end', () => {
    const events: string[] = [];
    const bare = () => ({
      close: () => void events.push('close'),
      terminate: () => void events.push('terminate'),
    });
    const limited = new ConnectionManager({ maxConnectionsPerIp: 1 }, timers, {});
    for (const id of ['a', 'b', 'c']) {
      const { connection } = limited.addConnection(id, bare(), '192.0.2.1');
      connection?.close();
      expect(limited.snapshot().closing).toBe(1);
      expect(limited.release(connection!)).toBe(false);
      expect(limited.snapshot().closing).toBe(0);
    }
    clock.advance(10_000);
    expect(events).toEqual(['close', 'close', 'close']);
  });

  it('are its own by default, and end as soon as its last socket has ended', async () => {
    const made = [5000, 30].map(
      (closeTimeoutMs) => new ConnectionManager<FakeSocket>({}, { closeTimeoutMs }),
    );
    // Internal, and so not in the declarations.
    const own = made.map((one) => one['timers' as never] as TimerManager & { isOpen(): boolean });
    for (const one of own) expect(names(one)).toContain('connections.tick');
    const [answering, mute] = made.map(
      (one) => one.addConnection('a', new FakeSocket(), '192.0.2.1').connection!,
    );
    for (const one of made) one.close();
    for (const one of own) expect(names(one)).toEqual(['connections.terminate']);
    // The host reports the end of one socket; the other peer never answers.
    answering!.socket.readyState = 3;
    made[0]!.release(answering!);
    expect(own.map((one) => one.isOpen())).toEqual([false, true]);
    expect(mute!.socket.terminated).toBe(false);
    await vi.waitFor(() => expect(own[1]!.isOpen()).toBe(false));
    expect([mute!.socket.terminated, own[1]!.getActiveTimersCount()]).toEqual([true, 0]);
  });

  it('of its own end at once if no socket is left', () => {
    const empty = new ConnectionManager({});
    empty.close();
    expect((empty['timers' as never] as { isOpen(): boolean }).isOpen()).toBe(false);
  });
});

describe('a named index', () => {
  it('is not changed by a manager that was closed', () => {
    const [gone, other] = [1, 2].map(
      () => new ConnectionManager<FakeSocket>({ maxTotalConnections: 3 }, timers, { name: 'left' }),
    );
    gone!.close();
    for (const change of [
      () => gone!.drain(),
      () => gone!.resume(),
      () => gone!.updateLimits({ maxTotalConnections: 0 }),
    ]) {
      expect(change).toThrow(expect.objectContaining({ code: 'ERR_CLOSED' }));
    }
    expect(gone!.snapshot().limits).toEqual({ maxTotalConnections: 3 });
    expect(other!.addConnection('a', new FakeSocket(), '192.0.2.1').success).toBe(true);
    // A shutdown that drains a guard need not know that its manager is closed.
    expect(() => guardWs({ manager: gone! }).drainable(createServer()).drain?.()).not.toThrow();
    other!.close();
  });

  it('ends with its last manager: the name is free for other limits, and no longer draining', () => {
    const [a, b] = [1, 2].map(
      () =>
        new ConnectionManager<FakeSocket>({ maxTotalConnections: 3 }, timers, { name: 'reused' }),
    );
    a!.addConnection('a', new FakeSocket(), '192.0.2.1');
    b!.addConnection('b', new FakeSocket(), '192.0.2.1');
    a!.reserve('192.0.2.1');
    a!.drain();
    a!.close();
    expect([a!.snapshot().totalConnections, b!.snapshot().totalConnections]).toEqual([0, 1]);
    // b holds it still.
    expect(
      () => new ConnectionManager({ maxTotalConnections: 5 }, timers, { name: 'reused' }),
    ).toThrow(expect.objectContaining({ code: 'ERR_LIMITS_CONFLICT' }));
    expect(b!.reserve('192.0.2.1')).toMatchObject({ code: 'draining' });
    b!.close();
    const next = new ConnectionManager<FakeSocket>({ maxTotalConnections: 5 }, timers, {
      name: 'reused',
    });
    expect(next.addConnection('a', new FakeSocket(), '192.0.2.1').success).toBe(true);
    expect(next.snapshot().totalConnections).toBe(1);
    next.close();
  });

  const HOSTS = process.platform === 'linux' ? [undefined, 'host' as const] : [undefined];

  it.each(HOSTS)(
    'each change of limits changes those that it names only (cluster: %s)',
    (cluster) => {
      const rate = { limit: 9, windowMs: 1000 };
      const limits = { maxConnectionsPerIp: 9, connectRatePerIp: rate, messageRatePerIp: rate };
      const name = `named-changes-${cluster}-${process.pid}`;
      const options = cluster === undefined ? { name } : { name, cluster, hostCapacity: 1024 };
      using a = new ConnectionManager<FakeSocket>(limits, timers, options);
      using b = new ConnectionManager<FakeSocket>(limits, timers, options);
      const fast = { limit: 99, windowMs: 1000 };
      a.updateLimits({ maxConnectionsPerPrefix: 7, messageRatePerIp: { ...fast, action: 'drop' } });
      a.updateLimits({ maxConnectionsPerIp: 1 });
      b.updateLimits({ connectRatePerIp: { ...fast, burst: 50 }, connectionTimeoutMs: 1000 });
      const inForce = {
        maxConnectionsPerIp: 1,
        maxConnectionsPerPrefix: 7,
        connectRatePerIp: { ...fast, burst: 50 },
      };
      expect(a.snapshot().limits).toEqual({
        ...inForce,
        messageRatePerIp: { ...fast, action: 'drop' },
      });
      // The action and the idle timeout are each manager's own.
      expect(b.snapshot().limits).toEqual({
        ...inForce,
        messageRatePerIp: { ...fast, burst: 99 },
        connectionTimeoutMs: 1000,
      });
      const add = (id: string): string =>
        b.addConnection(id, new FakeSocket(), '192.0.2.1').code ?? 'granted';
      expect([add('1'), add('2')]).toEqual(['granted', 'ip_limit']);
      b.updateLimits({ maxConnectionsPerIp: undefined });
      a.updateLimits({ cleanupIntervalMs: 100 });
      expect(add('2')).toBe('granted');
      expect(a.snapshot().limits).toMatchObject({ maxConnectionsPerPrefix: 7 });
      expect(a.snapshot().limits.maxConnectionsPerIp).toBeUndefined();
      // Lifted for all, and shown so; the manager judges it again once it is back.
      a.updateLimits({ messageRatePerIp: undefined });
      b.updateLimits({ cleanupIntervalMs: 100 });
      expect(b.snapshot().limits.messageRatePerIp).toBeUndefined();
      a.updateLimits({ messageRatePerIp: { limit: 1, windowMs: 1000 } });
      const { connection } = b.addConnection('3', new FakeSocket(), '192.0.2.2');
      expect([connection!.received(1), connection!.received(1)]).toEqual(['ok', 'close']);
    },
  );

  it.each(HOSTS)('the mode is the own of each manager of a name (cluster: %s)', (cluster) => {
    const name = `named-modes-${cluster}-${process.pid}`;
    const options = cluster === undefined ? { name } : { name, cluster, hostCapacity: 1024 };
    const limits = { maxConnectionsPerIp: 1 };
    using enforcing = new ConnectionManager<FakeSocket>(limits, timers, options);
    using changed = new ConnectionManager<FakeSocket>(limits, timers, options);
    using observing = new ConnectionManager<FakeSocket>(
      { ...limits, mode: 'observe' },
      timers,
      options,
    );
    changed.updateLimits({ mode: 'observe' });
    const add = (own: typeof enforcing, id: string): string =>
      own.addConnection(id, new FakeSocket(), '192.0.2.1').code ?? 'granted';
    expect(add(enforcing, '1')).toBe('granted');
    for (const own of [changed, observing]) {
      expect([add(own, '2'), add(enforcing, '2')]).toEqual(['granted', 'ip_limit']);
      expect(own.snapshot()).toMatchObject({
        limits: { mode: 'observe' },
        observed: { ip_limit: 1 },
        refused: {},
      });
    }
    expect(enforcing.snapshot().limits.mode).toBeUndefined();
    changed.updateLimits({ mode: 'enforce' });
    observing.updateLimits({ maxTotalConnections: 9 });
    expect([add(changed, '3'), add(observing, '3')]).toEqual(['ip_limit', 'granted']);
  });

  it('keeps no seat of a manager that a takeover closes', () => {
    const options = { name: 'takeover', onDuplicateId: 'takeover' } as const;
    const other = new ConnectionManager<FakeSocket>({ maxTotalConnections: 9 }, timers, options);
    const own = new ConnectionManager<FakeSocket>({ maxTotalConnections: 9 }, timers, options);
    const closing = new FakeSocket();
    closing.close = () => own.close();
    own.addConnection('a', closing, '192.0.2.1');
    const lease = own.reserve('192.0.2.1');
    expect(own.commit(lease as never, 'a', new FakeSocket()).code).toBe('closed');
    expect(other.snapshot().totalConnections).toBe(0);
    other.close();
  });

  it('is shared by workers, and a worker that is terminated gives its seats back', async () => {
    const own = new ConnectionManager({ maxTotalConnections: 10 }, timers, { name: 'shared' });
    const worker = new Worker(
      `import { parentPort } from 'node:worker_threads';
       import { ConnectionManager, TimerManager } from ${JSON.stringify(new URL('../dist/index.js', import.meta.url).href)};
       const manager = new ConnectionManager({ maxTotalConnections: 10 }, new TimerManager(), { name: 'shared' });
       for (let i = 0; i < 7; i++) manager.addConnection('w' + i, { close() {} }, '192.0.2.1');
       globalThis.keep = manager; setInterval(() => {}, 1000);
       parentPort.postMessage(manager.snapshot().totalConnections);`,
      { eval: true, execArgv: ['--input-type=module'] },
    );
    await new Promise((resolve, reject) => worker.once('message', resolve).once('error', reject));
    expect(own.snapshot().totalConnections).toBe(7);
    for (let i = 0; i < 3; i++)
      expect(own.addConnection(`m${i}`, new FakeSocket(), '192.0.2.2').success).toBe(true);
    expect(own.addConnection('m3', new FakeSocket(), '192.0.2.2')).toMatchObject({
      code: 'total_limit',
    });
    expect(
      () => new ConnectionManager({ maxTotalConnections: 9 }, timers, { name: 'shared' }),
    ).toThrow(/maxTotalConnections/);
    await worker.terminate();
    expect(own.snapshot().totalConnections).toBe(3);
    own.close();
  });
});

describe('message rates', () => {
  const rated = (
    action: 'drop' | 'close' | 'report',
    onRateExceeded = vi.fn(),
  ): [ConnectionManager<FakeSocket>, typeof onRateExceeded] => [
    new ConnectionManager<FakeSocket>(
      {
        messageRate: { limit: 10, windowMs: 1000, burst: 3, action },
        byteRate: { limit: 1000, windowMs: 1000, action },
      },
      timers,
      { onRateExceeded },
    ),
    onRateExceeded,
  ];
  const one = (of: ConnectionManager<FakeSocket>): ManagedConnection<FakeSocket> => {
    const result = of.addConnection('a', new FakeSocket(), '192.0.2.1');
    if (!result.success) throw new Error(result.reason);
    return result.connection;
  };

  it('drop messages over the rate, call the hook, and admit again when it is time', () => {
    const [own, hook] = rated('drop');
    const connection = one(own);
    expect([1, 1, 1, 1].map((bytes) => connection.received(bytes))).toEqual([
      'ok',
      'ok',
      'ok',
      'drop',
    ]);
    expect(hook).toHaveBeenCalledWith(connection, 'message_rate', 'drop');
    clock.advance(99);
    expect(connection.received(1)).toBe('drop');
    clock.advance(1);
    expect(connection.received(1)).toBe('ok');
    // A dropped message was received all the same: the peer lives.
    expect(connection).toMatchObject({ messageCount: 6, bytesReceived: 6 });
    expect(own.snapshot().messagesOverRate).toBe(2);
    own.close();
  });

  it('of pings and pongs are on by default, count bytes too, and can be lifted', () => {
    const hook = vi.fn();
    using own = new ConnectionManager<FakeSocket>({}, timers, { onRateExceeded: hook });
    const connection = one(own);
    const outcomes = Array.from({ length: 101 }, () => connection.receivedControl(5));
    expect(outcomes.filter((outcome) => outcome === 'ok')).toHaveLength(100);
    expect(outcomes[100]).toBe('close');
    expect(hook).toHaveBeenCalledWith(connection, 'control_rate', 'close');
    expect(connection).toMatchObject({ isAlive: false, messageCount: 0, bytesReceived: 505 });
    expect(connection.receivedControl(1)).toBe('stale');
    expect(connection.socket.closed[0]?.reason).toBe('Control frame rate exceeded');

    own.updateLimits({ controlRate: Infinity, byteRate: { limit: 1000, windowMs: 1000 } });
    const free = one(own);
    for (let i = 0; i < 200; i++) expect(free.receivedControl(5)).toBe('ok');
    expect(free.receivedControl(1)).toBe('close');
    expect(hook).toHaveBeenLastCalledWith(free, 'byte_rate', 'close');
  });

  it('count bytes apart from messages; a message over a rate spends nothing', () => {
    const [own, hook] = rated('drop');
    const connection = one(own);
    expect(connection.received(1001)).toBe('drop');
    expect(hook).toHaveBeenLastCalledWith(connection, 'byte_rate', 'drop');
    expect([connection.received(1000), connection.received(1)]).toEqual(['ok', 'drop']);
    own.close();
  });

  it('close with 1008 and give the seat back, or only report', () => {
    const [closing] = rated('close');
    const connection = one(closing);
    for (let i = 0; i < 3; i++) connection.received(1);
    expect(connection.received(1)).toBe('close');
    expect(connection.socket.closed).toEqual([{ code: 1008, reason: 'Message rate exceeded' }]);
    expect(connection.received(1)).toBe('stale');
    expect(closing.snapshot().totalConnections).toBe(0);
    const [reporting, hook] = rated('report');
    const other = one(reporting);
    for (let i = 0; i < 5; i++) expect(other.received(1)).toBe('ok');
    expect(hook).toHaveBeenCalledTimes(2);
    closing.close();
    reporting.close();
  });

  it('start anew with each connection, though slots are used again', () => {
    const [own] = rated('drop');
    const first = one(own);
    for (let i = 0; i < 4; i++) first.received(1);
    own.removeConnection('a');
    expect(one(own).received(1)).toBe('ok');
    own.close();
  });

  it('grants over any window what a bucket of tokens grants', () => {
    const own = new ConnectionManager<FakeSocket>(
      { messageRate: { limit: 7, windowMs: 1000, burst: 4, action: 'drop' } },
      timers,
    );
    const connection = one(own);
    let random = 7;
    let tokens = 4;
    for (let i = 0; i < 2000; i++) {
      random = (random * 1103515245 + 12345) % 2 ** 31;
      const gapMs = random % 250;
      clock.advance(gapMs);
      tokens = Math.min(4, tokens + (gapMs * 7) / 1000);
      if (Math.abs(tokens - 1) < 1e-6) tokens = 1;
      const granted = connection.received(1) === 'ok';
      expect(granted, `message ${i}`).toBe(tokens >= 1);
      if (granted) tokens -= 1;
    }
    own.close();
  });

  it('can be set and lifted at run time', () => {
    const connection = add('a');
    manager.updateLimits({ messageRate: { limit: 1, windowMs: 1000, action: 'drop' } });
    expect([connection.received(1), connection.received(1)]).toEqual(['ok', 'drop']);
    manager.updateLimits({ messageRate: undefined });
    expect(connection.received(1)).toBe('ok');
  });
});

describe('the view of the live connections', () => {
  it('can be walked while connections come and go', () => {
    manager.updateLimits({ maxTotalConnections: 300 });
    for (let i = 0; i < 300; i++) add(`c${i}`, `192.0.2.${i % 100}`);
    const seen = new Set<string>();
    for (const [id, connection] of manager.connections) {
      expect(seen.has(id)).toBe(false);
      seen.add(id);
      connection.close();
      if (seen.size % 3 === 0) manager.removeConnection(`c${299 - seen.size}`);
    }
    expect(manager.connections.size).toBe(0);
    expect(manager.snapshot().totalConnections).toBe(0);
    expect(seen.size).toBeGreaterThan(150);
  });

  it('finds connections by ids of any kind', () => {
    const ids = ['x', 'ü', '\0', '\u{1f600}'.repeat(10), 'y'.repeat(1024)];
    for (const id of ids) add(id);
    for (const id of ids) expect(manager.connections.get(id)?.id).toBe(id);
    expect(manager.connections.has('')).toBe(false);
    expect(manager.connections.has('y'.repeat(1025))).toBe(false);
    expect(manager.connections.get(7 as unknown as string)).toBe(undefined);
    const visited: string[] = [];
    manager.connections.forEach((connection, id, view) => {
      expect(view).toBe(manager.connections);
      visited.push(id, connection.id);
    });
    expect(new Set(visited)).toEqual(new Set(ids));
    expect([...manager.connections.values()].length).toBe(ids.length);
  });
});

describe('a user at the limit, or an id in use', () => {
  it('makes the oldest connection of the user go, with `closeOldest`', () => {
    const own = new ConnectionManager<FakeSocket>({ maxConnectionsPerUser: 2 }, timers, {
      onFull: 'closeOldest',
    });
    const sockets = [new FakeSocket(), new FakeSocket(), new FakeSocket()];
    sockets.forEach((socket, at) =>
      expect(own.addConnection(`c${at}`, socket, '192.0.2.1', 'alice').success).toBe(true),
    );
    expect(sockets.map((socket) => socket.closed.length)).toEqual([1, 0, 0]);
    expect(sockets[0]?.closed[0]?.code).toBe(4001);
    expect([...own.connections.keys()].toSorted()).toEqual(['c1', 'c2']);
    // bindUser() of a full user refuses; a lease makes the oldest go once it opens, and not before.
    own.addConnection('d', new FakeSocket(), '192.0.2.1');
    expect(own.connections.get('d')?.bindUser('alice')).toMatchObject({ code: 'user_limit' });
    const lease = own.reserve('192.0.2.1', 'alice');
    expect([...own.connections.keys()].toSorted()).toEqual(['c1', 'c2', 'd']);
    expect(own.commit(lease as Lease, 'e', new FakeSocket()).success).toBe(true);
    expect([...own.connections.keys()].toSorted()).toEqual(['c2', 'd', 'e']);
    // A user claims no more connections than there are, however many handshakes begin.
    const claims = Array.from({ length: 9 }, () => own.reserve('192.0.2.1', 'alice').success);
    expect(claims.filter(Boolean)).toHaveLength(2);
    own.close();
  });

  it('a newcomer that is refused takes nothing over', () => {
    const own = new ConnectionManager<FakeSocket>(
      { maxConnectionsPerIp: 1, maxConnectionsPerUser: 1 },
      timers,
      { onDuplicateId: 'takeover' },
    );
    const old = own.addConnection('same', new FakeSocket(), '192.0.2.1', 'ann');
    own.addConnection('other', new FakeSocket(), '192.0.2.2', 'bob');
    if (!old.success) throw new Error('it should be admitted');
    // The limit that is reached is none that the old connection counts towards.
    expect(own.addConnection('same', new FakeSocket(), '192.0.2.3', 'bob').code).toBe('user_limit');
    expect(own.addConnection('same', new FakeSocket(), '192.0.2.2', 'cat').code).toBe('ip_limit');
    own.drain();
    expect(own.addConnection('same', new FakeSocket(), '192.0.2.1', 'ann').code).toBe('draining');
    own.resume();
    expect([old.connection.isAlive, old.connection.socket.closed]).toEqual([true, []]);
    // With room for both there is still only one connection of the id in the end.
    expect(own.addConnection('same', new FakeSocket(), '192.0.2.3', 'cat').success).toBe(true);
    expect([old.connection.isAlive, old.connection.socket.closed.length]).toEqual([false, 1]);
    expect(own.snapshot()).toMatchObject({
      totalConnections: 2,
      connectionsByIp: 2,
      connectionsByUser: 2,
    });
    own.close();
  });

  it('a manager refuses the lease of another manager', () => {
    const [a, b] = [1, 2].map(() => new ConnectionManager<FakeSocket>({}, timers)) as [
      typeof manager,
      typeof manager,
    ];
    const [ofA, ofB] = [a.reserve('192.0.2.1'), b.reserve('192.0.2.2')];
    if (!ofA.success || !ofB.success) throw new Error('both should be reserved');
    expect(ofA.handle).toBe(ofB.handle);
    expect(() => b.commit(ofA, 'x', new FakeSocket())).toThrow(/a lease that this manager gave/);
    expect(() => b.abort(ofA)).toThrow(/a lease that this manager gave/);
    expect([b.abort(ofB), a.commit(ofA, 'x', new FakeSocket()).success]).toEqual([true, true]);
    a.close();
    b.close();
  });

  it('makes the old connection of the id go, with `takeover`; its late close changes nothing', () => {
    const own = new ConnectionManager<FakeSocket>({ maxConnectionsPerIp: 1 }, timers, {
      onDuplicateId: 'takeover',
    });
    const first = own.addConnection('same', new FakeSocket(), '192.0.2.1');
    const second = own.addConnection('same', new FakeSocket(), '192.0.2.1');
    if (!first.success || !second.success) throw new Error('both should be admitted');
    expect(first.connection.socket.closed).toEqual([
      { code: 4001, reason: 'Replaced by a newer connection' },
    ]);
    expect(own.release(first.connection)).toBe(false);
    expect(second.connection.isAlive).toBe(true);
    expect(own.snapshot().totalConnections).toBe(1);
    own.close();
  });
});

describe('admission', () => {
  it('nothing comes between check and take, though threads race for the last seats', async () => {
    const shared = { maxTotalConnections: 50, maxConnectionsPerIp: 20 };
    const own = new ConnectionManager<FakeSocket>(shared, timers, { name: 'race' });
    const gate = new Int32Array(new SharedArrayBuffer(12));
    const workers = Array.from({ length: 3 }, () => {
      const code = `import { workerData } from 'node:worker_threads';
        import { ConnectionManager, TimerManager } from ${JSON.stringify(new URL('../dist/index.js', import.meta.url).href)};
        const { gate, shared } = workerData;
        const manager = new ConnectionManager(shared, new TimerManager(), { name: 'race' });
        Atomics.add(gate, 1, 1);
        Atomics.notify(gate, 1);
        Atomics.wait(gate, 0, 0);
        let admitted = 0;
        for (let i = 0; i < 5000; i++) {
          const result = manager.addConnection('c' + i, { close() {} }, '192.0.2.' + (i % 4));
          if (manager.snapshot().totalConnections > 50) Atomics.add(gate, 2, 1000000);
          if (result.success && i < 4900) manager.removeConnection('c' + i);
          else if (result.success) admitted++;
        }
        Atomics.add(gate, 2, admitted);
        Atomics.add(gate, 1, 1);
        Atomics.notify(gate, 1);
        setInterval(() => {}, 1000);`;
      return new Worker(code, {
        eval: true,
        execArgv: ['--input-type=module'],
        workerData: { gate, shared },
      });
    });
    const reach = async (count: number): Promise<void> => {
      while (Atomics.load(gate, 1) < count) await new Promise((resolve) => setTimeout(resolve, 1));
    };
    await reach(3);
    Atomics.store(gate, 0, 1);
    Atomics.notify(gate, 0);
    await reach(6);
    // 300 connections wanted the last 50 seats.
    expect([Atomics.load(gate, 2), own.snapshot().totalConnections]).toEqual([50, 50]);
    await Promise.all(workers.map((worker) => worker.terminate()));
    expect(own.snapshot()).toMatchObject({ totalConnections: 0, connectionsByIp: 0 });
    own.close();
  }, 30_000);

  it('one connection has one seat in each count, whatever is done to it twice', () => {
    const lease = manager.reserve('192.0.2.1');
    if (!lease.success) throw new Error(lease.reason);
    const result = manager.commit(lease, 'a', new FakeSocket());
    expect(manager.commit(lease, 'b', new FakeSocket()).code).toBe('stale_lease');
    expect(manager.abort(lease)).toBe(false);
    for (let i = 0; i < 3; i++) {
      expect(result.connection?.bindUser('ann')).toEqual({ success: true });
      result.connection?.received(1);
    }
    expect(manager.snapshot()).toMatchObject({
      totalConnections: 1,
      connectionsByIp: 1,
      connectionsByUser: 1,
      anonymousConnections: 0,
    });
    for (let i = 0; i < 3; i++) result.connection?.close();
    expect([manager.release(result.connection!), manager.removeConnection('a')]).toEqual([
      false,
      false,
    ]);
    expect(manager.snapshot()).toMatchObject({
      totalConnections: 0,
      connectionsByIp: 0,
      connectionsByUser: 0,
      anonymousConnections: 0,
    });
  });

  it('clients without an address share a small limit of their own', () => {
    const own = new ConnectionManager<FakeSocket>(
      { maxConnectionsPerIp: 10, maxUnknownIpConnections: 2 },
      timers,
    );
    expect(own.addConnection('a', new FakeSocket(), '').success).toBe(true);
    expect(own.addConnection('b', new FakeSocket(), 'unknown').success).toBe(true);
    expect(own.addConnection('c', new FakeSocket(), 'localhost')).toMatchObject({
      code: 'unknown_ip_limit',
    });
    for (let i = 0; i < 10; i++)
      expect(own.addConnection(`d${i}`, new FakeSocket(), '192.0.2.1').success).toBe(true);
    own.close();
  });

  it('a flood of addresses throws nobody out of the rate', () => {
    const own = new ConnectionManager<FakeSocket>(
      { connectRatePerIp: { limit: 1, windowMs: 1e6 } },
      timers,
    );
    expect(own.addConnection('victim', new FakeSocket(), '192.0.2.1').success).toBe(true);
    for (let i = 0; i < 70_000; i++) {
      const id = `f${i}`;
      own.addConnection(id, new FakeSocket(), `10.${i >> 16}.${(i >> 8) & 255}.${i & 255}`);
      own.removeConnection(id);
    }
    expect(own.addConnection('again', new FakeSocket(), '192.0.2.1')).toMatchObject({
      code: 'ip_rate',
    });
    own.close();
  });

  it('a flood of addresses locks no newcomer out of the rate', () => {
    const own = new ConnectionManager<FakeSocket>(
      { connectRatePerIp: { limit: 2, windowMs: 1e6 } },
      timers,
    );
    const add = (ip: string): string => {
      const { code } = own.addConnection('c', new FakeSocket(), ip);
      own.removeConnection('c');
      return code ?? 'ok';
    };
    // More than are remembered; `src/connections/rate.rs` takes a million.
    for (let i = 0; i < inFull(200_000, 1_000_000); i++)
      add(`2001:db8:${(i >> 16).toString(16)}:${(i & 0xffff).toString(16)}::1`);
    for (let i = 0; i < 200; i++) {
      const ip = i % 2 === 0 ? `192.0.2.${i}` : `2400:${i}::1`;
      expect([add(ip), add(ip), add(ip)], ip).toEqual(['ok', 'ok', 'ip_rate']);
    }
    own.close();
  });

  it('a close code that must not be sent is refused, and a reason is cut to the size of a frame', () => {
    const connection = add('a');
    for (const code of [0, 999, 1004, 1005, 1006, 1015, 2000, 5000, 1000.5, Number.NaN]) {
      expect(() => connection.close(code)).toThrow(
        expect.objectContaining({ code: 'ERR_OUT_OF_RANGE', field: 'code' }),
      );
    }
    expect(connection.isAlive).toBe(true);
    connection.close(4000, 'ä'.repeat(100));
    expect(connection.socket.closed).toEqual([{ code: 4000, reason: 'ä'.repeat(61) }]);
  });

  it('a socket whose close event never comes is released when it is idle', () => {
    const connection = add('a');
    connection.socket.readyState = 3;
    clock.advance(40_000);
    expect(manager.snapshot()).toMatchObject({ totalConnections: 0, evicted: 1 });
  });

  it('every refusal says when to come back, and never at once', () => {
    manager.updateLimits({ maxConnectionsPerIp: 0 });
    const refusal = manager.addConnection('a', new FakeSocket(), '192.0.2.1');
    expect(refusal.success ? 0 : refusal.retryAfterMs).toBeGreaterThanOrEqual(1);
    manager.drain();
    const draining = manager.reserve('192.0.2.1');
    expect(draining.success ? 0 : draining.retryAfterMs).toBeGreaterThanOrEqual(500);
    manager.resume();
    expect(manager.snapshot().refused).toEqual({ ip_limit: 1, draining: 1 });
  });

  it('no connection is closed for a newcomer unless an option says so', () => {
    const old = Array.from({ length: 10 }, (_, i) => add(`a${i}`));
    for (let i = 0; i < 100; i++) manager.addConnection(`b${i}`, new FakeSocket(), '192.0.2.1');
    expect(
      old.every((connection) => connection.isAlive && connection.socket.closed.length === 0),
    ).toBe(true);
  });

  it('the view of the connections is read-only', () => {
    add('a');
    const view = manager.connections as Map<string, unknown>;
    expect(() => view.delete('a')).toThrow(TypeError);
    expect(() => view.clear()).toThrow(TypeError);
    expect([...manager.connections.values()].map((connection) => connection.id)).toEqual(['a']);
  });
});

describe('defects of the past', () => {
  it('a rate set at run time reads one clock for all managers of the name', () => {
    const [a, b] = [1, 2].map(
      () => new ConnectionManager<FakeSocket>({}, timers, { name: 'one-clock' }),
    ) as [typeof manager, typeof manager];
    a.updateLimits({ connectRatePerIp: { limit: 1, windowMs: 100 } });
    expect(b.addConnection('1', new FakeSocket(), '1.1.1.1').success).toBe(true);
    clock.advance(60_000);
    expect(b.addConnection('2', new FakeSocket(), '1.1.1.1').success).toBe(true);
    a.close();
    b.close();
  });

  it('frequent changes of limits do not delay the sweep', () => {
    add('a');
    manager.reserve('1.1.1.1');
    for (let i = 0; i < 600; i++) {
      clock.advance(100);
      manager.updateLimits({ maxTotalConnections: 100 + (i % 2) });
    }
    expect(manager.snapshot()).toMatchObject({ totalConnections: 0, evicted: 1 });
  });

  it('a socket that connects again within its own close() costs no seat', () => {
    const own = new ConnectionManager({}, timers, { onDuplicateId: 'takeover' });
    let again = 0;
    own.addConnection(
      'x',
      { close: () => void (again++ === 0 && own.addConnection('x', new FakeSocket(), '1.1.1.1')) },
      '1.1.1.1',
    );
    own.addConnection('x', new FakeSocket(), '1.1.1.1');
    expect([own.connections.size, own.snapshot().totalConnections]).toEqual([1, 1]);
    own.close();
    expect(own.snapshot().totalConnections).toBe(0);
    const full = new ConnectionManager({ maxConnectionsPerUser: 1 }, timers, {
      onFull: 'closeOldest',
    });
    full.addConnection('a', { close: () => full.close() }, '1.1.1.1', 'u');
    expect(full.addConnection('b', new FakeSocket(), '1.1.1.1', 'u')).toMatchObject({
      code: 'closed',
    });
    expect(full.snapshot().totalConnections).toBe(0);
  });

  it('close() gives leases back, and closes sockets although strict timers were closed first', () => {
    const [a, b] = [1, 2].map(
      () =>
        new ConnectionManager<FakeSocket>({ maxTotalConnections: 1 }, timers, { name: 'leases' }),
    ) as [typeof manager, typeof manager];
    const lease = a.reserve('1.1.1.1');
    a.close();
    expect(b.snapshot().totalConnections).toBe(0);
    if (!lease.success) throw new Error(lease.reason);
    expect(a.commit(lease, 'c', new FakeSocket()).success).toBe(false);
    expect(b.addConnection('d', new FakeSocket(), '2.2.2.2').success).toBe(true);
    b.close();
    const strict = new TimerManager({ clock, strict: true });
    const own = new ConnectionManager<FakeSocket>({}, strict);
    const sockets = [1, 2, 3].map(() => new FakeSocket());
    sockets.forEach((socket, i) => own.addConnection(`${i}`, socket, '1.1.1.1'));
    strict.cleanup();
    own.close();
    expect(own.snapshot().totalConnections).toBe(0);
    expect(sockets.map((socket) => [socket.closed.length, socket.terminated])).toEqual(
      [1, 2, 3].map(() => [1, true]),
    );
  });

  it('a shorter timeout closes no connection early', () => {
    for (let i = 0; i < 100; i++) {
      const own = new ConnectionManager<FakeSocket>(
        { connectionTimeoutMs: 60_000, cleanupIntervalMs: 1 },
        timers,
      );
      const result = own.addConnection('1', new FakeSocket(), '1.1.1.1');
      if (!result.success) throw new Error(result.reason);
      clock.advance((i * 7) % 700);
      result.connection.received(1);
      const at = clock.now();
      clock.advance((i * 13) % 90);
      own.updateLimits({ connectionTimeoutMs: 100 });
      while (result.connection.isAlive) clock.advance(1);
      expect(clock.now() - at).toBeGreaterThanOrEqual(100);
      own.close();
    }
  });

  it('the longest timeout evicts', () => {
    const own = new ConnectionManager<FakeSocket>(
      { connectionTimeoutMs: 2 ** 30, cleanupIntervalMs: 2 ** 29 },
      timers,
    );
    const result = own.addConnection('1', new FakeSocket(), '1.1.1.1');
    if (!result.success) throw new Error(result.reason);
    result.connection.lastActivity = Date.now() - 2 ** 30;
    // One step counts for two ticks at most, so eight steps of a tick pass.
    for (let i = 0; i < 8; i++) clock.advance(250);
    expect(own.cleanupStaleConnections()).toBe(1);
    own.close();
  });

  it('a newcomer refused by a rate does not cost the oldest connection its seat, and a used lease closes none', () => {
    const own = new ConnectionManager<FakeSocket>(
      { maxConnectionsPerUser: 1, connectRatePerUser: { limit: 1, windowMs: 60_000 } },
      timers,
      {
        onFull: 'closeOldest',
      },
    );
    const socket = new FakeSocket();
    own.addConnection('a', socket, '1.1.1.1', 'u');
    expect(own.addConnection('b', new FakeSocket(), '1.1.1.1', 'u')).toMatchObject({
      code: 'user_rate',
    });
    expect([socket.closed, own.connections.size]).toEqual([[], 1]);
    own.close();
    const taking = new ConnectionManager<FakeSocket>({}, timers, { onDuplicateId: 'takeover' });
    const lease = taking.reserve('1.1.1.1');
    if (!lease.success) throw new Error(lease.reason);
    const other = new FakeSocket();
    taking.commit(lease, 'a', other);
    expect(taking.commit(lease, 'a', new FakeSocket())).toMatchObject({ code: 'stale_lease' });
    expect([other.closed, taking.connections.size]).toEqual([[], 1]);
    taking.reserve('1.1.1.1');
    for (const handle of [1.5, -0.5, -1, Number.NaN, 2 ** 60]) {
      expect(() => taking.commit({ ...lease, handle }, 'id', new FakeSocket())).toThrow(
        expect.objectContaining({ code: 'ERR_INVALID_ARG_TYPE', field: 'lease' }),
      );
    }
    taking.close();
  });

  it('a burst is whole at any time, and a relaxed rate forgets arrivals', () => {
    for (let i = 0; i < 300; i++) {
      const burst = 2 + (i % 20);
      const own = new ConnectionManager<FakeSocket>(
        { connectRatePerIp: { limit: burst, windowMs: 1000 } },
        timers,
      );
      clock.advance(((i * 7919) % 1000) / 7);
      for (let k = 0; k < burst; k++)
        expect(own.addConnection(`${k}`, new FakeSocket(), '1.1.1.1').success).toBe(true);
      own.close();
    }
    const slow = { limit: 1, windowMs: 3_600_000 };
    const fast = { limit: 1000, windowMs: 1000 };
    const own = new ConnectionManager<FakeSocket>(
      { messageRate: slow, connectRatePerIp: slow },
      timers,
    );
    const result = own.addConnection('1', new FakeSocket(), '1.1.1.1');
    if (!result.success) throw new Error(result.reason);
    result.connection.received(1);
    own.updateLimits({ messageRate: fast, connectRatePerIp: fast });
    expect([
      result.connection.received(1),
      own.addConnection('2', new FakeSocket(), '1.1.1.1').success,
    ]).toEqual(['ok', true]);
    own.close();
  });
});

describe('a connection that the manager closed', () => {
  const closing = (
    early: boolean,
  ): {
    clock: ManualClock;
    timers: TimerManager;
    manager: ConnectionManager<FakeSocket>;
    connection: ManagedConnection<FakeSocket>;
  } => {
    const clock = new ManualClock();
    const timers = new TimerManager({ clock });
    const manager = new ConnectionManager<FakeSocket>({}, timers, { closeTimeoutMs: 100 });
    const { connection } = manager.addConnection('a', new FakeSocket(), '192.0.2.1');
    if (connection === undefined) throw new Error('refused');
    if (early) {
      // Some hosts call the close handler from within close().
      connection.socket.close = () => {
        connection.socket.readyState = 3;
        manager.release(connection);
      };
    }
    connection.close(1009, 'too large');
    return { clock, timers, manager, connection };
  };

  it.each([true, false])(
    'is retained by no timer once its socket has ended (reported from within close(): %s)',
    (early) => {
      const { timers, manager, connection } = closing(early);
      connection.socket.readyState = 3;
      expect(manager.release(connection)).toBe(false);
      expect(timers.snapshot().timers.map(({ name }) => name)).not.toContain(
        'connections.terminate',
      );
    },
  );

  it('is terminated although it was released before its peer answered', () => {
    const { clock, manager, connection } = closing(false);
    expect(manager.release(connection)).toBe(false);
    clock.advance(100);
    expect(connection.socket.terminated).toBe(true);
  });
});

describe('closing sockets', () => {
  it('are terminated at once where no timer would do it: the manager and its timers are closed', () => {
    const own = new ConnectionManager<FakeSocket>({});
    own.close();
    const socket = new FakeSocket();
    own.closeRefused(socket, '192.0.2.1', 1013, 'closed');
    expect(socket).toMatchObject({ closed: [{ code: 1013 }], terminated: true });
  });

  it('are counted by client, and terminated in the place of a close beyond the limit', () => {
    using own = new ConnectionManager<FakeSocket>({ maxClosingPerIp: 1 }, timers);
    const closed = (id: string, ip: string): FakeSocket => {
      const socket = new FakeSocket();
      own.addConnection(id, socket, ip).connection?.close(1000);
      return socket;
    };
    expect(closed('a', '2001:db8::1').terminated).toBe(false);
    // The same client: an IPv6 network.
    expect(closed('b', '2001:db8::2')).toMatchObject({ terminated: true, closed: [] });
    expect(closed('c', '2001:db8:0:1::1').terminated).toBe(false);
    expect(own.snapshot()).toMatchObject({ totalConnections: 0, closing: 2, terminated: 1 });
    clock.advance(5000);
    expect(own.snapshot().closing).toBe(0);
    expect(closed('d', '2001:db8::1').terminated).toBe(false);
  });
});

describe('closing sockets of a network of 56 bits', () => {
  it('are those of one client', () => {
    using own = new ConnectionManager<FakeSocket>(
      { maxClosingPerIp: 1, ipv6PrefixBits: 56 },
      timers,
    );
    const ends = ['2001:db8:0:1::1', '2001:db8:0:ff::1', '2001:db8:0:100::1'].map((ip) => {
      const socket = new FakeSocket();
      own.addConnection(ip, socket, ip).connection?.close(1000);
      return socket.terminated;
    });
    expect(ends).toEqual([false, true, false]);
  });
});

it.each([null, 0, 5, Number.NaN, -Infinity, 'none'])(
  'controlRate %j is refused by name',
  (rate) => {
    expect(() => new ConnectionManager({ controlRate: rate as never }, timers)).toThrow(
      expect.objectContaining({
        field: 'controlRate',
        allowed: 'an object { limit, windowMs, burst? }, or Infinity',
      }),
    );
  },
);

describe('sockets of a host that keeps what it has closed', () => {
  /** A socket as Bun has it: its end is reported from within its close, and it can pause. */
  class Lingering extends FakeSocket {
    readonly lingers = true;
    override close(code?: number, reason?: string): void {
      super.close(code, reason);
      this.readyState = 3;
    }
  }
  const host = { lingers: (socket: object) => 'lingers' in socket, isPaused: () => false };
  const of = (limits: ConnectionLimits): ConnectionManager<FakeSocket> => {
    const own = new ConnectionManager<FakeSocket>(limits, timers);
    own.uses(host as never);
    return own;
  };

  it('may be eight times the seats of an address, since each counts whether its peer has answered or not', () => {
    using own = of({ maxConnectionsPerIp: 2 });
    const closed = (socket: FakeSocket): boolean => {
      own.addConnection('a', socket, '192.0.2.1').connection?.close(1000);
      return !socket.terminated;
    };
    expect(Array.from({ length: 17 }, () => closed(new Lingering())).indexOf(false)).toBe(16);
    // Sockets of another host, whose peers have not answered, have the limit of the seats.
    expect(closed(new FakeSocket())).toBe(false);
    clock.advance(16_500);
    expect([own.snapshot().closing, closed(new Lingering())]).toEqual([0, true]);
  });

  it('have the limit that is set', () => {
    using own = of({ maxConnectionsPerIp: 2, maxClosingPerIp: 1 });
    const sockets = [new Lingering(), new Lingering()];
    for (const socket of sockets) own.addConnection('a', socket, '192.0.2.1').connection?.close();
    expect(sockets.map(({ terminated }) => terminated)).toEqual([false, true]);
  });

  it('are terminated for a flood, beside those of another host, which are paused', () => {
    using own = of({ messageRate: { limit: 1, windowMs: 1000 } });
    const sockets = [new Lingering(), new FakeSocket()];
    for (const [at, socket] of sockets.entries()) {
      const { connection } = own.addConnection(`c${at}`, socket, '192.0.2.1');
      connection?.received(1);
      expect(connection?.received(1)).toBe('close');
    }
    expect(sockets.map((one) => [one.terminated, one.closed.length, one.paused])).toEqual([
      [true, 0, false],
      [false, 1, true],
    ]);
  });
});

describe('an unused lease', () => {
  it.each([1, 50, 500, 3000, 30_000])(
    'of %d ms holds its seat that long, and gives it back within as long again and a second, however rare the sweeps',
    (leaseTimeoutMs) => {
      const own = new ConnectionManager<FakeSocket>({ cleanupIntervalMs: 2 ** 30 }, timers, {
        leaseTimeoutMs,
      });
      own.reserve('192.0.2.1');
      clock.advance(leaseTimeoutMs - 1);
      expect(own.snapshot().totalConnections).toBe(1);
      clock.advance(leaseTimeoutMs + 1001);
      expect(own.snapshot().totalConnections).toBe(0);
      own.close();
    },
  );
});

describe("the application's code in the middle of an admission", () => {
  it('a clock that admits other connections mixes up no users', () => {
    const rated = { ...limits, connectRatePerUser: { limit: 100, windowMs: 1000 } };
    let nested: (() => void) | undefined;
    class Busy extends ManualClock {
      override now(): number {
        nested?.();
        return super.now();
      }
    }
    const others = new TimerManager({ clock: new Busy() });
    const busy = new ConnectionManager<FakeSocket>({ ...rated, maxConnectionsPerUser: 1 }, others);
    nested = () => {
      nested = undefined;
      busy.addConnection('inner', new FakeSocket(), '192.0.2.2', 'grace');
    };
    expect(busy.addConnection('outer', new FakeSocket(), '192.0.2.1', 'ada').success).toBe(true);
    // Each user has one seat.
    for (const user of ['ada', 'grace'])
      expect(
        busy.addConnection(`${user} again`, new FakeSocket(), '192.0.2.3', user),
      ).toMatchObject({ code: 'user_limit' });
    busy.close();
    others.cleanup();
  });

  it('a listener that throws neither loses the connection nor fails the call', async () => {
    const warned = new Promise((resolve) => process.once('warning', resolve));
    manager.userListeners.add(() => {
      throw new Error('on purpose');
    });
    expect(manager.addConnection('c', new FakeSocket(), '192.0.2.1', 'ada').success).toBe(true);
    expect(manager.snapshot().totalConnections).toBe(1);
    expect(manager.removeConnection('c')).toBe(true);
    expect(await warned).toMatchObject({ code: 'PORTCULLIS_HOOK_ERROR' });
  });
});
