import { describe, expect, it } from 'vitest';
import { clientKeyOf, parseAddress } from '../dist/base/address.js';
import { createBans } from '../dist/native/addon.js';
import { wsSockets } from '../dist/adapters/ws-sockets.js';
import { Guard } from '../dist/guard/guard.js';
import { DIRECT, withinLimits } from '../dist/http/fetch.js';
import { InFlightRequest, RequestLimiter } from '../dist/http/request-limiter.js';
import { resourceLimits, TimerManager } from '../dist/index.js';
import { ManualClock } from '../dist/testing.js';

// Requests in flight by client.

describe('the key of a client', () => {
  it('is its IPv4 address, or its IPv6 network, in every notation', () => {
    for (const [address, key] of [
      ['192.0.2.1', '192.0.2.1'],
      ['::ffff:192.0.2.1', '192.0.2.1'],
      ['::FFFF:c000:201', '192.0.2.1'],
      ['0:0:0:0:0:ffff:192.0.2.1', '192.0.2.1'],
      // NAT64: all of IPv4 would share one network.
      ['64:ff9b::192.0.2.1', '192.0.2.1'],
      ['64:ff9b::c000:201', '192.0.2.1'],
      ['64:ff9b:1::1', '64:ff9b:1::/64'],
      ['2001:db8:1:2::1', '2001:db8:1:2::/64'],
      ['2001:0DB8:0001:0002:ffff::', '2001:db8:1:2::/64'],
      ['2001:db8::', '2001:db8::/64'],
      ['::', '::/64'],
      ['::1', '::/64'],
      // A LAN would be one client.
      ['fe80::1%eth0', 'fe80::1'],
      ['febf::2', 'febf::2'],
      ['fec0::2', 'fec0::/64'],
      ['fc00::1', 'fc00::1'],
      ['fdff:1::2', 'fdff:1::2'],
      // As proxies and hosts write them.
      ['192.0.2.1:8080', '192.0.2.1'],
      [' 192.0.2.1\t', '192.0.2.1'],
      ['[192.0.2.1]', '192.0.2.1'],
      ['[::ffff:192.0.2.1]:80', '192.0.2.1'],
      ['[64:FF9B::c000:201]:65535', '192.0.2.1'],
      ['[2001:db8:1:2::1]:443', '2001:db8:1:2::/64'],
      ['[2001:db8:1:2::1%eth0]', '2001:db8:1:2::/64'],
      ['', ''],
      ['unknown', ''],
      ['192.0.2.256', ''],
      ['::g', ''],
    ] as const)
      expect([address, clientKeyOf(address)]).toEqual([address, key]);
    expect(parseAddress('1:2:3:4:5:6:7:8')).toEqual([1, 2, 3, 4, 5, 6, 7, 8]);
    expect(parseAddress('1::8')).toEqual([1, 0, 0, 0, 0, 0, 0, 8]);
    expect(parseAddress('1:2:3:4:5:6:7::')).toEqual([1, 2, 3, 4, 5, 6, 7, 0]);
    expect(parseAddress('::2:3:4:5:6:7:8')).toEqual([0, 2, 3, 4, 5, 6, 7, 8]);
  });
});

describe('the key of a client', () => {
  /** Groups of which the addresses are made, so that runs of 0 of all lengths come up. */
  const GROUPS = [0, 0, 0, 1, 0xfc00, 0xfe80, 0xffff, 0x2001, 0xabcd];

  it.each([32, 49, 56, 64, 127, 128])(
    'is the text that the core has in bans, by networks of %i bits',
    (bits) => {
      const bans = createBans(undefined, [1, 1000, 1000, 1000, 1000, 10, bits]);
      let seed = bits;
      const next = (most: number): number => {
        seed = (Math.imul(seed, 1_664_525) + 1_013_904_223) >>> 0;
        return Math.floor((seed / 2 ** 32) * most);
      };
      for (let i = 0; i < 5000; i++) {
        const groups = Array.from({ length: 8 }, () => GROUPS[next(GROUPS.length)]!);
        const text = groups.map((group) => group.toString(16)).join(':');
        const quad = Array.from({ length: 4 }, () => 1 + next(255)).join('.');
        const bare = [text, text.toUpperCase(), `${text}%eth0`, quad, `::ffff:${quad}`][next(5)]!;
        const address = [bare, ` ${bare}`, `[${bare}]`, `[${bare}]:80`, `${bare}:80`][next(5)]!;
        const network = bans.network(address);
        // The core bans neither the loopback nor what is no address.
        if (network === '' && /^(?:127\.|::|$)/.test(clientKeyOf(address, bits))) continue;
        expect([address, clientKeyOf(address, bits)]).toEqual([address, network]);
      }
    },
  );
});

describe('requests in flight', () => {
  /** A generator of whole numbers below `most`, the same in every run. */
  const seeded = (seed: number) => (most: number) => {
    seed = (Math.imul(seed, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((seed / 2 ** 32) * most);
  };

  it('agree with a list, whatever comes and goes; a client without one has no entry', () => {
    for (let seed = 1; seed <= 20; seed++) {
      const next = seeded(seed);
      const clock = new ManualClock();
      const [maxConcurrent, maxConcurrentPerIp, timeoutMs] = [
        3 + next(20),
        next(5),
        1 + next(3000),
      ];
      const limiter = new RequestLimiter(
        resourceLimits({ requests: { maxConcurrent, maxConcurrentPerIp, timeoutMs } }).requests,
        new TimerManager({ clock }),
      );
      let all: {
        readonly request: InFlightRequest;
        readonly client: string;
        readonly end: number;
      }[] = [];
      for (let step = 0; step < 2000; step++) {
        const choice = next(10);
        if (choice < 6) {
          const client = `192.0.2.${next(8)}`;
          const answer = limiter.admit(0, undefined, client, undefined);
          const own = all.filter((one) => one.client === client).length;
          const expected =
            all.length >= maxConcurrent
              ? 'too_many_requests_in_flight'
              : own >= maxConcurrentPerIp
                ? 'too_many_requests_of_ip'
                : undefined;
          if (answer instanceof InFlightRequest) {
            expect(expected).toBeUndefined();
            answer.awaitedBy({ refused: () => answer.end() });
            all.push({ request: answer, client, end: clock.now() + timeoutMs });
          } else expect(answer).toBe(expected);
        } else if (choice < 9) {
          const [one] = all.splice(next(Math.max(1, all.length)), 1);
          one?.request.end();
          // A second end changes nothing.
          if (next(2) === 0) one?.request.end();
        } else {
          clock.advance(next(2000));
          all = all.filter(({ end }) => end > clock.now());
        }
        expect([limiter.active, limiter.clients]).toEqual([
          all.length,
          new Set(all.map(({ client }) => client)).size,
        ]);
      }
      for (const { request } of all) request.end();
      expect([limiter.active, limiter.clients]).toEqual([0, 0]);
    }
  });

  it('read no address without a limit for each, and share a key without one', () => {
    const timers = new TimerManager({ clock: new ManualClock() });
    const read: string[] = [];
    const serve = (limiter: RequestLimiter, address: string): unknown =>
      withinLimits(limiter, new Request('http://localhost/'), () => new Promise(() => undefined), {
        ...DIRECT,
        isHandshake: false,
        clientOf: () => (read.push(address), address),
      });
    void serve(new RequestLimiter(resourceLimits().requests, timers), '192.0.2.1');
    expect(read).toEqual([]);
    const limited = resourceLimits({ requests: { maxConcurrentPerIp: 1 } }).requests;
    const limiter = new RequestLimiter(limited, timers);
    void serve(limiter, '');
    expect([read, limiter.active]).toEqual([[''], 1]);
    expect(serve(limiter, 'unix:/socket')).toMatchObject({ status: 429 });
  });

  it.each([
    ['requests in flight', { requests: { maxConcurrentPerIp: 1 } }],
    ['waiting handshakes', { maxPendingHandshakesPerIp: 1 }],
  ] as const)('of a guard count by the network of its limits: %s', async (kind, options) => {
    const guard = new Guard<{ ip: string }>(
      'test',
      {
        ...options,
        limits: { ipv6PrefixBits: 56 },
        clientAddress: ({ ip }) => ip,
        identify: () => new Promise(() => undefined),
        identifyTimeoutMs: 1000,
      },
      wsSockets,
    );
    const refused = ['2001:db8:0:1::1', '2001:db8:0:ff::1', '2001:db8:0:100::1'].map((ip) => {
      if (kind === 'requests in flight')
        return !(guard.requests!.admit(0, undefined, ip, undefined) instanceof InFlightRequest);
      void guard.identify({ ip }, '192.0.2.1', () => '', '/');
      return guard.manager.snapshot().refused.pending_ip_limit === 1;
    });
    expect(refused.slice(0, 2)).toEqual([false, true]);
    if (kind === 'requests in flight') expect(refused[2]).toBe(false);
    else expect(guard.manager.snapshot().refused.pending_ip_limit).toBe(1);
    guard.close();
  });

  it('end within a second after their client is gone, on hosts that tell on demand', () => {
    const clock = new ManualClock();
    const timers = new TimerManager({ clock });
    for (const timeoutMs of [30_000, Infinity]) {
      const { requests } = resourceLimits({ requests: { timeoutMs, maxConcurrentPerIp: 1 } });
      const limiter = new RequestLimiter(requests, timers);
      const request = limiter.admit(0, undefined, '192.0.2.1', undefined) as InFlightRequest;
      let isGone = false;
      request.awaitedBy({
        refused: () => expect.unreachable(),
        isGone: () => isGone,
        left: () => request.end(),
      });
      clock.advance(5000);
      expect(limiter.active).toBe(1);
      isGone = true;
      clock.advance(1000);
      expect([limiter.active, limiter.clients, limiter.snapshot().refused]).toEqual([0, 0, {}]);
    }
    expect(timers.getActiveTimersCount()).toBe(0);
  });

  it('without a timeout share the timer that looks for clients that are gone', () => {
    const clock = new ManualClock();
    const timers = new TimerManager({ clock });
    const { requests } = resourceLimits({ requests: { timeoutMs: Infinity } });
    const limiter = new RequestLimiter(requests, timers);
    const wait = (): InFlightRequest => {
      const request = limiter.admit(0, undefined, undefined, undefined) as InFlightRequest;
      request.awaitedBy({ refused: () => expect.unreachable(), isGone: () => false });
      return request;
    };
    const waiting = Array.from({ length: 10 }, () => {
      const request = wait();
      clock.advance(1);
      return request;
    });
    expect(timers.getActiveTimersCount()).toBe(1);
    for (const request of waiting) request.end();
    clock.advance(50);
    expect(timers.getActiveTimersCount()).toBe(0);
  });
});
