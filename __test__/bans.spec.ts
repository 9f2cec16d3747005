import { Worker } from 'node:worker_threads';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Guard } from '../dist/guard/guard.js';
import { wsSockets } from '../dist/adapters/ws-sockets.js';
import {
  type BanOptions,
  ConnectionManager,
  type GuardOptions,
  ProductionMetrics,
  type Refusal,
  TimerManager,
  TokenVerifier,
  UnauthorizedError,
} from '../dist/index.js';
import { type ClientNames, masked, SHOWN } from '../dist/page/mask.js';
import { Recorder } from '../dist/page/recorder.js';
import { InFlightRequest } from '../dist/http/request-limiter.js';
import { FakeSocket, ManualClock } from '../dist/testing.js';
import { SECRET, token } from './fixtures/sign.js';
import { cleanUp, SERVERS, start } from './servers/start.js';

// Bans: of a manager and of a guard by a clock that the test moves, and on a real server of each adapter.

let clock: ManualClock;
let timers: TimerManager;
const ends: (() => unknown)[] = [];
beforeEach(() => {
  clock = new ManualClock();
  timers = new TimerManager({ clock });
});
afterEach(async () => {
  for (const end of ends.splice(0).toReversed()) await end();
  timers.close();
  await cleanUp();
});

const KEY = 'dGhlIHNhbXBsZSBub25jZQ==';
const OPTIONS: BanOptions = { failures: 3, windowMs: 7000, banMs: 10_000, maxBanMs: 30_000 };

function managerOf(banAfter: BanOptions | number | undefined, options: object = {}, limits = {}) {
  const manager = new ConnectionManager(limits, { timers, banAfter, ...options });
  ends.push(() => manager.close());
  return manager;
}

/** A guard whose clients are behind the proxy 10.0.0.1. */
function guardOf(options: Partial<GuardOptions<unknown>> = {}) {
  const given = {
    limits: {},
    timers,
    banAfter: OPTIONS,
    trustedProxies: ['10.0.0.0/8'],
    auth: new TokenVerifier({ algorithms: ['HS256'], keys: { secret: SECRET } }),
    ...options,
  };
  const guard = new Guard<unknown>('test', given as never, wsSockets);
  ends.push(() => guard.close());
  /** The code of a handshake's denial, and the time until it may come again; `admitted` otherwise. */
  const shake = (
    client: string,
    bearer: string,
    headers: Readonly<Record<string, string>> = {},
    peer = '10.0.0.1',
  ): string => {
    const all: Readonly<Record<string, string>> = {
      upgrade: 'websocket',
      'sec-websocket-version': '13',
      'sec-websocket-key': KEY,
      'x-forwarded-for': client,
      authorization: `Bearer ${bearer}`,
      ...headers,
    };
    const admission = guard.admit(peer, (name) => all[name] ?? '', '/', {});
    const { denial } = admission;
    admission.end('reset');
    return denial === undefined ? 'admitted' : denial.code;
  };
  const ask = (client: string, bearer: string, peer = '10.0.0.1'): number | undefined => {
    const all: Readonly<Record<string, string>> = {
      'x-forwarded-for': client,
      authorization: `Bearer ${bearer}`,
    };
    const header = (name: string): string => all[name] ?? '';
    const banned = guard.refusesClient({}, peer, header);
    if (banned !== undefined) return banned.status;
    const judged = guard.judgeToken(peer, header, '/', {});
    if (judged instanceof Promise) throw new Error('the keys are here');
    return judged.answer?.status;
  };
  return { guard, manager: guard.manager, shake, ask };
}

const good = token({ exp: 4_000_000_000 });
const bad = `${good}x`;

// The contract bans by handshakes, on every host.
describe.each(Object.entries(SERVERS))('the adapter for %s', (_name, command) => {
  it('refuses the requests of a banned address before their token, but for exempt paths', async () => {
    const server = await start(command, {
      limits: {},
      banAfter: 3,
      trustedProxies: ['127.0.0.1'],
      auth: { policy: { keys: { secret: SECRET } }, http: ['/slow'] },
      exemptPaths: ['/guard'],
      requests: { maxConcurrent: 100 },
    });
    const request = (
      client: string,
      bearer = good,
      path = '/slow?ms=1',
      init = {},
    ): Promise<Response> =>
      fetch(`http://127.0.0.1:${server.port}${path}`, {
        headers: { 'x-forwarded-for': client, authorization: `Bearer ${bearer}` },
        ...init,
      });
    for (let at = 0; at < 3; at++) expect((await request('192.0.2.1', bad)).status).toBe(401);
    const answer = await request('192.0.2.1');
    expect([answer.status, await answer.json()]).toMatchObject([429, { code: 'banned' }]);
    expect(Number(answer.headers.get('retry-after'))).toBeGreaterThan(30);
    const large = await request('192.0.2.1', good, '/length', {
      method: 'POST',
      body: 'x'.repeat(100_000),
    });
    expect(large.status).toBe(429);
    expect((await request('192.0.2.1', '', '/guard')).status).toBe(200);
    expect((await request('192.0.2.2')).status).toBe(200);
    const shaken = await server.handshake({
      'X-Forwarded-For': '192.0.2.1',
      Authorization: `Bearer ${good}`,
    });
    expect([shaken.status, shaken.body]).toEqual([429, expect.stringContaining('"banned"')]);
  });
});

describe('a guard', () => {
  it('bans for a growing time, and for nothing that a banned client sends', () => {
    const { manager, shake } = guardOf();
    for (const seconds of [10, 20, 30, 30]) {
      for (let at = 0; at < 3; at++) expect(shake('192.0.2.1', bad)).toBe('ERR_TOKEN_SIGNATURE');
      for (let at = 0; at < 50; at++) expect(shake('192.0.2.1', bad)).toBe('banned');
      clock.advance(seconds * 1000 - 1);
      expect(shake('192.0.2.1', good)).toBe('banned');
      clock.advance(1);
      expect(shake('192.0.2.1', good)).toBe('admitted');
    }
    expect(manager.snapshot().bans).toMatchObject({ active: 0, failures: 12, banned: 4 });
    expect(manager.snapshot().refused.banned).toBe(4 * 51);
  });

  it('counts the failures of a window, those of requests and handshakes together', () => {
    const { shake, ask } = guardOf();
    expect([shake('192.0.2.1', bad), ask('192.0.2.1', bad)]).toEqual(['ERR_TOKEN_SIGNATURE', 401]);
    clock.advance(8001);
    expect([shake('192.0.2.1', bad), ask('192.0.2.1', bad)]).toEqual(['ERR_TOKEN_SIGNATURE', 401]);
    expect(shake('192.0.2.1', good)).toBe('admitted');
    clock.advance(7000);
    expect([ask('192.0.2.1', bad), ask('192.0.2.1', good)]).toEqual([401, 429]);
    expect(shake('192.0.2.1', good)).toBe('banned');
    expect([shake('192.0.2.2', good), ask('192.0.2.2', good)]).toEqual(['admitted', undefined]);
  });

  it('counts a malformed handshake once, and refuses it', () => {
    const { manager, shake } = guardOf();
    const forms: Readonly<Record<string, string>>[] = [
      { 'sec-websocket-key': '' },
      { 'sec-websocket-key': `${KEY}=` },
      { 'sec-websocket-version': '7' },
    ];
    expect(shake('192.0.2.1', good, { 'sec-websocket-version': '8' })).toBe('admitted');
    for (const form of forms) expect(shake('192.0.2.1', bad, form)).toBe('malformed_handshake');
    expect(shake('192.0.2.1', good)).toBe('banned');
    expect(manager.snapshot().bans?.failures).toBe(3);
    // The form of a handshake is not asked of a request for no WebSocket, such as the first one of a session that polls.
    expect(shake('192.0.2.2', good, { upgrade: '', ...forms[0] })).toBe('admitted');
  });

  it('counts no page, no full server and no error of its own', () => {
    const { manager, shake } = guardOf({
      limits: { maxTotalConnections: 0 },
      allowedOrigins: ['https://app.example'],
    });
    for (let at = 0; at < 5; at++) {
      expect(shake('192.0.2.1', good, { origin: 'https://evil.example' })).toBe(
        'origin_not_allowed',
      );
      expect(shake('192.0.2.1', bad)).toBe('total_limit');
    }
    expect(manager.snapshot().bans?.failures).toBe(0);
    const { manager: other, shake: failing } = guardOf({
      trustedProxies: [],
      clientAddress: () => {
        throw new Error('no header');
      },
    });
    for (let at = 0; at < 5; at++)
      expect(failing('', bad, {}, '192.0.2.1')).toBe('identify_failed');
    expect(other.snapshot().bans?.failures).toBe(0);
  });

  it('refuses a banned client first of all: nothing else is asked', async () => {
    const asked: unknown[] = [];
    const { guard, manager, shake } = guardOf({
      allowedOrigins: (origin) => asked.push(origin) > 0,
      auth: undefined as never,
      identify: (request) => void asked.push(request),
    });
    manager.ban('192.0.2.1');
    manager.drain();
    expect(shake('192.0.2.1', '', { origin: 'https://app.example', 'sec-websocket-key': '' })).toBe(
      'banned',
    );
    const header = (name: string): string => (name === 'x-forwarded-for' ? '192.0.2.1' : '');
    const admission = await guard.identify({}, '10.0.0.1', header, '/');
    expect(admission.denial).toMatchObject({ code: 'banned', retryAfterMs: 10_000 });
    expect(admission.answer).toMatchObject({ status: 429, headers: { 'retry-after': '10' } });
    expect(asked).toEqual([]);
  });

  it('counts the failures of identify', async () => {
    const { guard } = guardOf({
      auth: undefined as never,
      identify: () => Promise.reject(new UnauthorizedError('no_session')),
    });
    const code = async (): Promise<string | undefined> =>
      (await guard.identify({}, '192.0.2.1', () => '', '/')).denial?.code;
    // All three wait at once: the third ends after the ban.
    const waiting = [code(), code(), code(), code()];
    expect(await Promise.all(waiting)).toEqual(Array(4).fill('unauthorized'));
    expect(await code()).toBe('banned');
    expect(guard.manager.snapshot().bans).toMatchObject({ failures: 3, banned: 1 });
  });

  it('never bans loopback, its proxies, exempt clients and clients without an address', () => {
    const { manager, shake } = guardOf({ exempt: ['192.0.2.9', '2001:db8::9'] });
    for (const [client, peer] of [
      ['', '127.0.0.1'],
      ['', '::1'],
      ['', '::ffff:127.0.0.1'],
      ['', '10.0.0.1'],
      ['', '10.9.9.9'],
      ['', 'unix'],
      ['', ''],
      ['192.0.2.9', '10.0.0.1'],
      ['2001:db8::9', '10.0.0.1'],
    ] as const)
      for (let at = 0; at < 5; at++)
        expect([client, peer, shake(client, bad, {}, peer)]).toEqual([
          client,
          peer,
          'ERR_TOKEN_SIGNATURE',
        ]);
    expect(manager.snapshot().bans).toMatchObject({ addresses: 0, failures: 0 });
    // A neighbour's network is banned, in which one client is exempt.
    for (let at = 0; at < 3; at++) shake(`2001:db8::${at}`, bad);
    expect(manager.bans()).toMatchObject([{ address: '2001:db8::/64', failures: 3, bans: 1 }]);
    expect([shake('2001:db8::77', good), shake('2001:db8::9', good)]).toEqual([
      'banned',
      'admitted',
    ]);
    for (const address of ['127.0.0.1', '192.0.2.9', '10.0.0.1', 'unix', 'x', ''])
      expect(() => manager.ban(address)).toThrow(
        expect.objectContaining({ code: 'ERR_OUT_OF_RANGE', field: 'address' }),
      );
  });

  it('leaves open connections open, and closes newcomers with 1008 where it refuses so', () => {
    const { guard, manager } = guardOf({ refuseWith: 'close', auth: undefined as never });
    const open = (): FakeSocket => {
      const socket = new FakeSocket();
      guard.admit('192.0.2.1', () => '', '/', { headers: {} }).open(String(Math.random()), socket);
      return socket;
    };
    const first = open();
    manager.ban('192.0.2.1');
    expect(open().closed).toEqual([{ code: 1008, reason: 'Address is banned' }]);
    expect(first.closed).toEqual([]);
    expect(guard.refusesClient({ headers: {} }, '192.0.2.1', () => '', true)).toBeUndefined();
    expect(guard.refusesClient({ headers: {} }, '192.0.2.1', () => '')?.status).toBe(429);
  });

  it('only observes bans where limits are only observed', () => {
    const { manager, shake, ask } = guardOf({ limits: { mode: 'observe' } });
    manager.ban('192.0.2.1');
    expect([shake('192.0.2.1', good), ask('192.0.2.1', good)]).toEqual(['admitted', undefined]);
    expect(manager.snapshot()).toMatchObject({ observed: { banned: 2 }, refused: {} });
  });

  it('counts refusals by rate, if it is asked to', () => {
    for (const countRateRefusals of [false, true]) {
      const { guard, manager, shake } = guardOf({
        limits: { connectRatePerIp: { limit: 1, windowMs: 60_000 } },
        requests: { rate: { perIp: { limit: 1, windowMs: 60_000 } } },
        banAfter: { ...OPTIONS, countRateRefusals },
      });
      const request = (): void => {
        const asked = { request: {}, method: 'GET', url: '/', clientOf: () => '192.0.2.1' };
        const inFlight = guard.requests!.admit(0, undefined, '192.0.2.1', asked);
        if (inFlight instanceof InFlightRequest) inFlight.end();
      };
      expect(shake('192.0.2.1', good)).toBe('admitted');
      expect(shake('192.0.2.1', good)).toBe('ip_rate');
      for (let at = 0; at < 3; at++) request();
      expect(manager.snapshot().bans?.failures).toBe(countRateRefusals ? 3 : 0);
      expect(shake('192.0.2.1', good)).toBe(countRateRefusals ? 'banned' : 'ip_rate');
    }
  });
});

describe('a manager', () => {
  it('lists, lifts and makes bans, and tells of them', () => {
    const refused: string[] = [];
    const manager = managerOf(OPTIONS, { onRefuse: ({ code }: Refusal) => refused.push(code) });
    const told: unknown[] = [];
    const stop = manager.on('banned', ({ address, cause, failures, bans, since, until }) =>
      told.push([address, cause, failures, bans, until - since]),
    );
    manager.on('unbanned', ({ address }) => told.push(address));
    manager.ban('::ffff:192.0.2.1', 500);
    for (let at = 0; at < 3; at++) manager.failed('2001:db8::1');
    expect(told).toEqual([
      ['192.0.2.1', 'call', 0, 0, 500],
      ['2001:db8::/64', 'failures', 3, 1, 10_000],
    ]);
    expect(manager.bans().map(({ address }) => address)).toEqual(['192.0.2.1', '2001:db8::/64']);
    expect(Math.abs(manager.bans()[0]!.since - Date.now())).toBeLessThan(10_000);
    for (const take of ['reserve', 'addConnection'] as const) {
      const outcome =
        take === 'reserve'
          ? manager.reserve('192.0.2.1', 'ann')
          : manager.addConnection('c', new FakeSocket(), '192.0.2.1');
      expect(outcome).toEqual({
        success: false,
        code: 'banned',
        reason: 'Address is banned',
        retryAfterMs: 500,
      });
    }
    clock.advance(500);
    expect(manager.reserve('192.0.2.1').success).toBe(true);
    expect(manager.bans().map(({ address }) => address)).toEqual(['2001:db8::/64']);
    expect([
      manager.unban('192.0.2.1'),
      manager.unban('2001:db8::/64'),
      manager.unban('2001:db8::2'),
    ]).toEqual([false, true, false]);
    expect(manager.reserve('2001:db8::3').success).toBe(true);
    // Lifted: the next ban is as short as the first.
    stop();
    for (let at = 0; at < 3; at++) manager.failed('2001:db8::1');
    expect(manager.bans()).toMatchObject([{ bans: 1 }]);
    expect(told.slice(2)).toEqual(['2001:db8::/64']);
    expect(manager.snapshot().bans).toEqual({
      active: 1,
      addresses: 1,
      failures: 6,
      banned: 3,
      lifted: 1,
      evicted: 0,
    });
    expect(refused).toEqual(['banned', 'banned']);
  });

  it('shows its bans on the page, masked, and in metrics, after it is closed, too', async () => {
    const manager = managerOf(OPTIONS);
    const metrics = new ProductionMetrics({ timers, connections: manager });
    for (let at = 0; at < 3; at++) manager.failed('2001:db8:1:2::3');
    clock.advance(1000);
    manager.ban('192.0.2.7', 500);
    manager.reserve('192.0.2.7');
    const shown = (names: ClientNames, isSeen = true) =>
      new Recorder({ connections: manager, timers }, 'Test', 8, names).look(0, 0, isSeen).bans;
    const latest = [
      { key: '192.0.2.0/24', failures: 0, bans: 0 },
      { key: '2001:db8:1::/48', failures: 3, bans: 1 },
    ];
    expect(shown(masked())).toMatchObject({ active: 2, banned: 2, failures: 3, lifted: 0, latest });
    expect(shown(SHOWN)?.latest?.map(({ key }) => key)).toEqual(['192.0.2.7', '2001:db8:1:2::/64']);
    expect(shown(SHOWN, false)?.latest).toBeNull();
    const before = metrics.generateReport().metrics.healthScore;
    const text = await metrics.toPrometheus();
    expect(text).toMatch(/^portcullis_banned_addresses 2$/m);
    expect(text).toMatch(/^portcullis_bans_total 2$/m);
    expect(text).toMatch(/^portcullis_ban_failures_total 3$/m);
    expect(text).toMatch(/^portcullis_refusals_total\{code="banned"\} 1$/m);
    metrics.detach(manager);
    expect(await metrics.toPrometheus()).toMatch(/^portcullis_bans_total 2$/m);
    expect(metrics.generateReport().metrics.healthScore).toBe(before);
    metrics.close();
    const other = new ProductionMetrics({ timers, connections: managerOf(undefined) });
    expect(await other.toPrometheus()).not.toContain('portcullis_ban');
    other.close();
  });

  it('shares its bans with all of its name, and with no other', () => {
    const one = managerOf(OPTIONS, { name: 'bans' });
    const two = managerOf(OPTIONS, { name: 'bans' });
    const other = managerOf(OPTIONS);
    one.failed('192.0.2.1');
    two.failed('192.0.2.1');
    one.failed('192.0.2.1');
    expect([one, two, other].map((manager) => manager.reserve('192.0.2.1').success)).toEqual([
      false,
      false,
      true,
    ]);
    expect(two.unban('192.0.2.1')).toBe(true);
    expect(one.reserve('192.0.2.1').success).toBe(true);
    expect(() => managerOf({ ...OPTIONS, banMs: 1 }, { name: 'bans' })).toThrow(
      expect.objectContaining({
        code: 'ERR_LIMITS_CONFLICT',
        field: 'banAfter',
        message: 'bans of the name "bans" are already open with another banAfter.banMs',
      }),
    );
    expect(managerOf(undefined, { name: 'bans' }).reserve('192.0.2.1').success).toBe(true);
  });

  it('shares its failures and bans with worker threads', async () => {
    // The host's clock: a worker has it, too.
    const banAfter = { failures: 3, windowMs: 3_600_000, banMs: 3_600_000 };
    const own = new ConnectionManager({}, { banAfter, name: 'bans of threads' });
    ends.push(() => own.close());
    const entry = JSON.stringify(new URL('../dist/index.js', import.meta.url).href);
    const worker = new Worker(
      `import { parentPort } from 'node:worker_threads';
       import { ConnectionManager } from ${entry};
       const manager = new ConnectionManager({}, { banAfter: ${JSON.stringify(banAfter)}, name: 'bans of threads' });
       const seats = () => [1, 2, 3].map((at) => manager.reserve('192.0.2.' + at).code ?? 'a seat');
       parentPort.on('message', () => parentPort.postMessage([seats(), manager.unban('192.0.2.2')]));
       manager.failed('192.0.2.1');
       manager.ban('192.0.2.2', 3_600_000);
       parentPort.postMessage(seats());`,
      { eval: true, execArgv: ['--input-type=module'] },
    );
    ends.push(() => worker.terminate());
    const told = (): Promise<unknown> =>
      new Promise((resolve, reject) => worker.once('message', resolve).once('error', reject));
    const banned = 'banned';
    expect(await told()).toEqual(['a seat', banned, 'a seat']);
    expect(own.reserve('192.0.2.2')).toMatchObject({ success: false, code: 'banned' });
    const [{ until = 0 } = {}] = own.bans();
    // Times of the worker are those of this thread, to the second.
    expect(Math.abs(until - Date.now() - 3_600_000)).toBeLessThan(60_000);
    own.failed('192.0.2.1');
    expect(own.reserve('192.0.2.1').success).toBe(true);
    own.failed('192.0.2.1');
    expect(own.snapshot().bans).toMatchObject({ active: 2, failures: 3 });
    const answer = told();
    worker.postMessage('');
    expect(await answer).toEqual([[banned, banned, 'a seat'], true]);
    expect(own.reserve('192.0.2.2').success).toBe(true);
    expect(own.reserve('192.0.2.1').success).toBe(false);
  });

  it('holds no more addresses than its table', () => {
    const manager = managerOf({ ...OPTIONS, maxAddresses: 3 });
    for (const at of [1, 2]) manager.ban(`192.0.2.${at}`);
    for (let at = 3; at < 250; at++) manager.failed(`192.0.2.${at}`);
    expect(manager.bans()).toHaveLength(2);
    expect(manager.snapshot().bans).toMatchObject({ active: 2, addresses: 3, evicted: 246 });
  });

  it('bans nobody by itself with Infinity failures', () => {
    const manager = managerOf(Infinity);
    for (let at = 0; at < 70_000; at++) manager.failed('192.0.2.1');
    expect(manager.bans()).toEqual([]);
    expect(manager.ban('192.0.2.1')).toMatchObject({ cause: 'call', bans: 0 });
  });

  it('checks its options and arguments', () => {
    const error = (code: string, field: string) =>
      expect.objectContaining({ code, field }) as Error;
    for (const [banAfter, field] of [
      [0, 'banAfter'],
      [1.5, 'banAfter'],
      [65_537, 'banAfter'],
      [{ failures: 0 }, 'banAfter.failures'],
      [{ windowMs: 0 }, 'banAfter.windowMs'],
      [{ windowMs: Infinity }, 'banAfter.windowMs'],
      [{ banMs: 2 ** 30 + 1 }, 'banAfter.banMs'],
      [{ banMs: 100, maxBanMs: 99 }, 'banAfter.maxBanMs'],
      [{ forgetMs: 0 }, 'banAfter.forgetMs'],
      [{ maxAddresses: 2 ** 20 + 1 }, 'banAfter.maxAddresses'],
    ] as const)
      expect(() => managerOf(banAfter)).toThrow(error('ERR_OUT_OF_RANGE', field));
    for (const [banAfter, field] of [
      ['10', 'banAfter'],
      [null, 'banAfter'],
      [{ failures: '10' }, 'banAfter.failures'],
      [{ countRateRefusals: 1 }, 'banAfter.countRateRefusals'],
    ] as const)
      expect(() => managerOf(banAfter as never)).toThrow(error('ERR_INVALID_ARG_TYPE', field));
    expect(() => managerOf({ bantime: 1 } as never)).toThrow(
      error('ERR_UNKNOWN_OPTION', 'banAfter.bantime'),
    );
    for (const banAfter of [0, { failures: 0 }])
      expect(() => managerOf(banAfter)).toThrow('a whole number from 1 to 65536, or Infinity');
    const manager = managerOf({});
    expect(() => manager.ban('192.0.2.1', 0)).toThrow(error('ERR_OUT_OF_RANGE', 'forMs'));
    for (const address of ['192.0.2.0/24', '2001:db8::/48', '2001:db8::/64/64'])
      expect(() => manager.unban(address)).toThrow(error('ERR_OUT_OF_RANGE', 'address'));
    // Machines of a LAN, and IPv4 in IPv6, are banned one by one: a ban of one is none of their network.
    for (const address of ['fd00:1::/64', 'fe80::1/64', '::ffff:192.0.2.1/64', '64:ff9b::1/64'])
      for (const call of [() => manager.ban(address), () => manager.unban(address)])
        expect(call).toThrow(error('ERR_OUT_OF_RANGE', 'address'));
    expect(manager.bans()).toEqual([]);
    expect(manager.ban('fd00:1::').address).toBe('fd00:1::');
    expect(manager.ban('2001:db8::7/64').address).toBe('2001:db8::/64');
    const single = managerOf({}, {}, { ipv6PrefixBits: 128 });
    expect(single.ban('fd00:1::/128').address).toBe('fd00:1::');
    expect(() => manager.ban(1 as never)).toThrow(error('ERR_INVALID_ARG_TYPE', 'address'));
    expect(() => manager.on('bans' as never, () => undefined)).toThrow(
      error('ERR_INVALID_ARG_TYPE', 'event'),
    );
    expect(() => manager.on('banned', 1 as never)).toThrow(
      error('ERR_INVALID_ARG_TYPE', 'listener'),
    );
    const without = managerOf(undefined);
    expect(without.bans()).toEqual([]);
    expect(without.snapshot().bans).toBeUndefined();
    for (const call of [
      () => without.ban('192.0.2.1'),
      () => without.unban('192.0.2.1'),
      () => without.on('banned', () => undefined),
    ])
      expect(call).toThrow(error('ERR_INVALID_ARG_TYPE', 'banAfter'));
    manager.close();
    expect(() => manager.ban('192.0.2.1')).toThrow(expect.objectContaining({ code: 'ERR_CLOSED' }));
  });
});

it('a handshake is judged before its admission, unless it is refused by close code', () => {
  expect(guardOf().guard.judgesHandshakes).toBe(true);
  expect(guardOf({ refuseWith: 'close' }).guard.judgesHandshakes).toBe(false);
});
