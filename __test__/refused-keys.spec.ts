import { describe, expect, it } from 'vitest';
import {
  ConnectionManager,
  LivePage,
  type PageSnapshot,
  PortcullisError,
  ProductionMetrics,
  RateLimiter,
  type RateLimiterOptions,
  type RateLimitRefusal,
  TimerManager,
} from '../dist/index.js';
import { ManualClock } from '../dist/testing.js';
import { inFull } from './fixtures/long.js';

// The keys that a limiter refuses: the most frequent ones, and the event.

const WINDOW_MS = 5000;

function limiterOf(options: Partial<RateLimiterOptions> = {}): {
  clock: ManualClock;
  limiter: RateLimiter;
  told: RateLimitRefusal[];
} {
  const clock = new ManualClock();
  const limiter = new RateLimiter({
    limit: 1,
    windowMs: WINDOW_MS,
    algorithm: 'fixed-window',
    clock,
    ...options,
  });
  const told: RateLimitRefusal[] = [];
  limiter.on('refused', (refusal) => told.push(refusal));
  return { clock, limiter, told };
}

describe('the keys that are refused most often', () => {
  it('are counted, the first one first, and masked', () => {
    const { clock, limiter } = limiterOf();
    const refuse = (key: string, times: number): void => {
      for (let at = 0; at <= times; at++) limiter.take(key);
    };
    refuse('192.0.2.7', 5);
    refuse('2001:db8:1:2::/64', 4);
    refuse('2001:db8:ffff::1', 3);
    clock.advance(1000);
    refuse('zoe', 2);
    clock.advance(500);
    const { refusedKeys, refused } = limiter.snapshot();
    expect(refused).toBe(14);
    expect(refusedKeys).toEqual([
      { key: '192.0.2.0/24', refused: 5, error: 0, ageMs: 1500 },
      { key: '2001:db8:1::/48', refused: 4, error: 0, ageMs: 1500 },
      { key: '2001:db8:ffff::/48', refused: 3, error: 0, ageMs: 1500 },
      { key: expect.stringMatching(/^key [0-9a-f]{8}$/), refused: 2, error: 0, ageMs: 500 },
    ]);
    // The pseudonym stays, and another key has another one.
    refuse('zoe', 10);
    refuse('joy', 1);
    const names = limiter.snapshot().refusedKeys.map(({ key }) => key);
    expect(names[0]).toBe(refusedKeys[3]!.key);
    expect(new Set(names).size).toBe(5);
    expect(names.join()).not.toMatch(/zoe|joy|\.7|1:2/);
    expect(new RateLimiter({ limit: 1, windowMs: 1000 }).snapshot().refusedKeys).toEqual([]);
  });

  it('are shown as they are where that was asked for, cut to 128 characters', () => {
    const { limiter } = limiterOf({ showKeys: true });
    for (const key of ['192.0.2.7', 'x'.repeat(1_000_000)]) {
      limiter.take(key);
      limiter.take(key);
    }
    expect(limiter.snapshot().refusedKeys.map(({ key }) => key)).toEqual([
      '192.0.2.7',
      'x'.repeat(128),
    ]);
    expect(limiter.showsKeys).toBe(true);
    const wrong = { limit: 1, windowMs: 1, showKeys: 1 } as unknown as RateLimiterOptions;
    expect(() => new RateLimiter(wrong)).toThrow(
      expect.objectContaining({ code: 'ERR_INVALID_ARG_TYPE', field: 'showKeys' }),
    );
  });

  it('agree with exact counts within their error, in a flood of other keys', () => {
    let seed = 7;
    const next = (most: number): number => {
      seed = (Math.imul(seed, 1_664_525) + 1_013_904_223) >>> 0;
      return Math.floor((seed / 2 ** 32) * most);
    };
    const { limiter } = limiterOf({ windowMs: 2 ** 30, showKeys: true });
    const exact = new Map<string, number>();
    let refusals = 0;
    for (let at = 0; at < inFull(50_000, 500_000); at++) {
      const key = next(3) === 0 ? `heavy-${next(5)}` : `flood-${next(5000)}`;
      if (limiter.take(key).success) continue;
      exact.set(key, (exact.get(key) ?? 0) + 1);
      refusals++;
    }
    const { refusedKeys, refused } = limiter.snapshot();
    expect(refused).toBe(refusals);
    expect(refusedKeys).toHaveLength(10);
    for (const { key, refused, error } of refusedKeys) {
      const count = exact.get(key) ?? 0;
      expect([key, refused >= count, refused - error <= count]).toEqual([key, true, true]);
      expect(error).toBeLessThanOrEqual(refusals / 64);
    }
    const shown = refusedKeys.slice(0, 5).map(({ key }) => key);
    expect(shown.toSorted()).toEqual([0, 1, 2, 3, 4].map((at) => `heavy-${at}`));
  });

  it('of limiters with one name have one pseudonym, and are counted apart', () => {
    const options = { limit: 1, windowMs: 60_000, name: 'refused-keys' };
    const [one, two] = [new RateLimiter(options), new RateLimiter(options)];
    for (const limiter of [one, two, two]) limiter.take('ada');
    const names = [one, two].map((limiter) => limiter.snapshot().refusedKeys[0]?.key);
    expect(names).toEqual([undefined, expect.stringMatching(/^key /)]);
    one.take('ada');
    expect(one.snapshot().refusedKeys[0]?.key).toBe(names[1]);
  });
});

describe('the event of a refusal', () => {
  it('comes for the first refusal of a key in a window, with the number of refusals', () => {
    const { clock, limiter, told } = limiterOf();
    for (let at = 0; at < 5; at++) limiter.take('a');
    for (let at = 0; at < 3; at++) limiter.take('b');
    expect(told.map(({ key, refusals }) => [key, refusals])).toEqual([
      ['a', 1],
      ['b', 4],
    ]);
    expect(told[0]!.result).toMatchObject({ success: false, retryAfterMs: WINDOW_MS });
    clock.advance(WINDOW_MS);
    limiter.take('a');
    expect(told).toHaveLength(2);
    limiter.take('a');
    expect(told.slice(2).map(({ key, refusals }) => [key, refusals])).toEqual([['a', 2]]);
  });

  it('comes at most ten times a second, whatever number of keys is refused', () => {
    const { clock, limiter, told } = limiterOf({ windowMs: 2 ** 30 });
    for (let second = 0; second < 3; second++) {
      for (let at = 0; at < 1000; at++) {
        limiter.take(`${second} ${at}`);
        limiter.take(`${second} ${at}`);
      }
      clock.advance(1000);
    }
    expect(told).toHaveLength(30);
    expect(told.reduce((sum, { refusals }) => sum + refusals, 0)).toBe(2010);
  });

  it('ends with its listener, survives one that throws, and names a wrong event', () => {
    const { limiter, told } = limiterOf();
    process.once('warning', () => undefined);
    const heard: string[] = [];
    const off = limiter.on('refused', ({ key }) => {
      heard.push(key);
      throw new Error('of the application');
    });
    for (const key of ['a', 'a']) limiter.take(key);
    off();
    for (const key of ['b', 'b']) limiter.take(key);
    expect([heard, told.map(({ key }) => key)]).toEqual([['a'], ['a', 'b']]);
    for (const [event, listener, field] of [
      ['other', () => undefined, 'event'],
      ['refused', 1, 'listener'],
    ] as const)
      expect(() => limiter.on(event as 'refused', listener as () => void)).toThrow(
        expect.objectContaining({ code: 'ERR_INVALID_ARG_TYPE', field }) as PortcullisError,
      );
  });
});

describe('the live page', () => {
  it('shows limiters and the keys that they refuse, masked unless both sides show them', () => {
    const clock = new ManualClock();
    const timers = new TimerManager({ clock });
    const manager = new ConnectionManager({}, { timers });
    const metrics = new ProductionMetrics({ timers });
    const options = { limit: 1, windowMs: 60_000, clock };
    const [own, shown, known] = [
      new RateLimiter(options),
      new RateLimiter({ ...options, showKeys: true }),
      new RateLimiter({ ...options, showKeys: true }),
    ];
    metrics.attachLimiter(known, 'logins');
    metrics.attachLimiter(own, 'requests.ip');
    const limiters = () => [
      { limiter: own, label: 'requests.ip' },
      { limiter: shown, label: 'requests.user' },
    ];
    const refuse = (limiter: RateLimiter, key: string, times: number): void => {
      for (let at = 0; at <= times; at++) limiter.take(key);
    };
    refuse(own, '192.0.2.7', 3);
    refuse(shown, 'ada', 2);
    refuse(known, '198.51.100.7', 1);
    const look = (showClients: boolean): PageSnapshot['limiters'] => {
      const page = new LivePage(
        { path: '/p', access: 'local', metrics, showClients },
        { connections: manager, timers, limiters },
      );
      expect(page.snapshot().limiters).toMatchObject({ refused: 6, list: null, refusedKeys: null });
      const request = new Request('http://localhost/p/snapshot', {
        headers: { host: 'localhost' },
      });
      expect(page.fetch(request, '127.0.0.1')?.status).toBe(200);
      const { limiters: found } = page.snapshot();
      page.close();
      return found;
    };
    const masked = look(false);
    expect(masked).toMatchObject({ admitted: 3, refused: 6 });
    expect(masked?.list?.map(({ name, refused }) => [name, refused])).toEqual([
      ['requests.ip', 3],
      ['requests.user', 2],
      ['logins', 1],
    ]);
    const rows = (section: PageSnapshot['limiters']) =>
      section?.refusedKeys?.map(({ key, limiter, refused }) => [key, limiter, refused]);
    expect(rows(masked)).toEqual([
      ['192.0.2.0/24', 'requests.ip', 3],
      [expect.stringMatching(/^key [0-9a-f]{8}$/), 'requests.user', 2],
      ['198.51.100.0/24', 'logins', 1],
    ]);
    // A limiter that masks its keys has no others to show.
    expect(rows(look(true))).toEqual([
      ['192.0.2.0/24', 'requests.ip', 3],
      ['ada', 'requests.user', 2],
      ['198.51.100.7', 'logins', 1],
    ]);
    const without = new LivePage({ path: '/p', access: 'local' }, { connections: manager, timers });
    expect(without.snapshot().limiters).toBeNull();
    timers.close();
  });
});
