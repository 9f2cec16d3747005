import { Worker } from 'node:worker_threads';
import { describe, expect, it } from 'vitest';
import {
  PortcullisError,
  type RateAlgorithm,
  RateLimiter,
  type RateLimiterOptions,
} from '../dist/index.js';
import { ManualClock } from '../dist/testing.js';
import { inFull } from './fixtures/long.js';
import { differencesOf, worstOf } from './fixtures/rate-model.mjs';

// Rate limits by any key.

const ALGORITHMS: readonly RateAlgorithm[] = ['gcra', 'sliding-window', 'fixed-window'];

function limiterOf(options: Partial<RateLimiterOptions>): {
  clock: ManualClock;
  limiter: RateLimiter;
} {
  const clock = new ManualClock();
  return { clock, limiter: new RateLimiter({ limit: 10, windowMs: 1000, clock, ...options }) };
}

const errorOf = (run: () => unknown): Partial<PortcullisError> => {
  try {
    run();
    return {};
  } catch (error) {
    return error as PortcullisError;
  }
};

describe('a limiter', () => {
  it.each(ALGORITHMS)(
    'by %s admits the limit at once, and tells when to come back',
    (algorithm) => {
      const { clock, limiter } = limiterOf({ algorithm, limit: 3, windowMs: 3000 });
      for (let left = 2; left >= 0; left--)
        expect(limiter.take('a')).toMatchObject({ success: true, remaining: left, limit: 3 });
      const refused = limiter.take('a');
      expect(refused).toMatchObject({ success: false, remaining: 0, limit: 3 });
      expect(limiter.peek('a')).toEqual(refused);
      expect(limiter.take('b').success).toBe(true);
      clock.advance(Math.ceil(refused.retryAfterMs) - 1);
      expect(limiter.take('a').success).toBe(false);
      clock.advance(1);
      expect(limiter.take('a').success).toBe(true);
      clock.advance(Math.ceil(limiter.peek('a').resetMs));
      expect(limiter.take('a', 3).success).toBe(true);
      expect(limiter.snapshot()).toMatchObject({ admitted: 6, refused: 2, evicted: 0 });
    },
  );

  it('admits as much as each algorithm is documented to in one window: 19, 19 and 10 of 10', () => {
    const worst = ALGORITHMS.map((algorithm) => worstOf(algorithm, limiterOf));
    expect(worst).toEqual([19, 10, 19]);
  });

  it('spends a cost, refuses one above the limit for good, and a refused cost spends nothing', () => {
    for (const algorithm of ALGORITHMS) {
      const { limiter } = limiterOf({ algorithm });
      expect(limiter.take('a', 7)).toMatchObject({ success: true, remaining: 3 });
      expect(limiter.take('a', 4)).toMatchObject({ success: false, remaining: 3 });
      expect(limiter.take('a', 11)).toMatchObject({ success: false, retryAfterMs: Infinity });
      expect(limiter.take('a', 3)).toMatchObject({ success: true, remaining: 0 });
    }
  });

  it.each<Partial<RateLimiterOptions>>([
    ...ALGORITHMS.map((algorithm) => ({ algorithm })),
    { burst: 3 },
    { burst: 25 },
  ])('tells when more than the rest is admitted, with %j', (options) => {
    const { clock, limiter } = limiterOf({ limit: 7, ...options });
    // Waits that come up again and again, of whole and of broken numbers of milliseconds.
    for (let step = 0; step < 2000; step++) {
      const cost = 1 + ((step * 7) % 3);
      if (step % 101 === 0) limiter.penalty('a', 4);
      if (step % 211 === 0) limiter.block('a', 300);
      const result = limiter.take('a', cost);
      const { remaining } = result;
      const { retryAfterMs } = limiter.peek('a', remaining + 1);
      expect(limiter.moreMs('a', cost, result)).toBeCloseTo(retryAfterMs, 2);
      clock.advance((step * 37) % 150);
    }
    expect(limiter.moreMs('new', 1, limiter.peek('new'))).toBe(Infinity);
  });

  it('admits a burst above and below the limit, and then the flow', () => {
    for (const burst of [1, 30]) {
      const { clock, limiter } = limiterOf({ burst });
      expect(limiter.take('a', burst)).toMatchObject({ success: true, remaining: 0 });
      expect(limiter.take('a')).toMatchObject({ success: false, retryAfterMs: 100 });
      expect(limiter.take('b', burst + 1).retryAfterMs).toBe(Infinity);
      clock.advance(100);
      expect([limiter.take('a').success, limiter.take('a').success]).toEqual([true, false]);
    }
  });

  it('tells for each cost whether it would be admitted, and after a penalty for a cost of 1', () => {
    for (const algorithm of ALGORITHMS) {
      const { limiter } = limiterOf({ algorithm });
      expect(limiter.penalty('a', 9)).toMatchObject({ success: true, remaining: 1 });
      expect([limiter.peek('a', 1).success, limiter.peek('a', 2).success]).toEqual([true, false]);
      expect(limiter.reward('b', 1).success).toBe(true);
    }
  });

  it('takes penalties beyond the limit, gives rewards back, blocks and forgets', () => {
    for (const algorithm of ALGORITHMS) {
      const { clock, limiter } = limiterOf({ algorithm });
      expect(limiter.penalty('a', 15)).toMatchObject({ success: false, remaining: 0 });
      expect(limiter.reward('a', 6)).toMatchObject({ success: true, remaining: 1 });
      expect(limiter.reward('a', 100)).toMatchObject({ success: true, remaining: 10 });
      limiter.block('a', 5000);
      clock.advance(4999);
      expect(limiter.take('a')).toMatchObject({ success: false, retryAfterMs: 1, resetMs: 1 });
      clock.advance(1);
      expect(limiter.take('a', 10)).toMatchObject({ success: true, remaining: 0 });
      expect([limiter.reset('a'), limiter.reset('a')]).toEqual([true, false]);
      expect(limiter.take('a', 10).success).toBe(true);
      limiter.clear();
      expect(limiter.snapshot().keys).toBe(0);
    }
  });

  it('reports each refusal with its key, and survives a hook that throws', () => {
    const told: unknown[] = [];
    const { limiter } = limiterOf({
      limit: 1,
      onRefuse: (key, { retryAfterMs }) => {
        told.push([key, retryAfterMs]);
        throw new Error('of the application');
      },
    });
    process.once('warning', () => undefined);
    limiter.take('a');
    expect([limiter.take('a').success, limiter.take('a').success]).toEqual([false, false]);
    expect(told).toEqual([
      ['a', 1000],
      ['a', 1000],
    ]);
  });

  it('tells keys apart whatever their length and characters', () => {
    const { limiter } = limiterOf({ limit: 1 });
    const keys = ['', '1', 'é', 'e\u0301', '日本', '\ud800', 'x'.repeat(64), 'x'.repeat(65)];
    keys.push('x'.repeat(127), 'x'.repeat(128), 'x'.repeat(2 ** 20), `${'x'.repeat(2 ** 20)}y`);
    for (const key of keys) expect(limiter.take(key).success).toBe(true);
    for (const key of keys) expect(limiter.take(key).success).toBe(false);
    // A long key takes no more memory than a short one.
    expect(limiter.snapshot().bytes).toBeLessThan(4096);
  });

  it('follows fake timers, and the time goes on from where it was', () => {
    const limiter = new RateLimiter({ limit: 1, windowMs: 60_000 });
    limiter.take('a');
    const { setTimeout: real } = globalThis;
    let ms = 0;
    const fake = Object.assign(() => 0, { clock: { now: 0, performance: { now: () => ms } } });
    globalThis.setTimeout = fake as never;
    try {
      expect(limiter.take('a').success).toBe(false);
      ms = 59_000;
      expect(limiter.take('a').success).toBe(false);
      ms = 60_001;
      expect(limiter.take('a').success).toBe(true);
    } finally {
      globalThis.setTimeout = real;
    }
  });

  it('refuses wrong arguments and options, naming them', () => {
    const { limiter } = limiterOf({});
    for (const key of [undefined, 1, null, {}])
      for (const run of ['take', 'peek', 'penalty', 'reward', 'reset'] as const)
        expect(errorOf(() => limiter[run](key as never))).toMatchObject({
          code: 'ERR_INVALID_ARG_TYPE',
          field: 'key',
        });
    for (const cost of [0, -1, 1.5, NaN, Infinity, 2 ** 30 + 1, 2 ** 32 + 1])
      expect(errorOf(() => limiter.take('a', cost))).toMatchObject({ code: 'ERR_OUT_OF_RANGE' });
    const throwing = {
      valueOf: () => {
        throw new Error('asked for its value');
      },
    };
    for (const cost of [1n, Symbol('cost'), throwing, '1', null])
      for (const run of ['take', 'peek', 'penalty', 'reward'] as const)
        expect(errorOf(() => limiter[run]('a', cost as never))).toMatchObject({
          code: 'ERR_INVALID_ARG_TYPE',
          field: expect.stringMatching(/^(cost|points)$/),
        });
    // A bigint looks unlike the number that it should be.
    expect(errorOf(() => limiter.take('a', 1n as never))).toMatchObject({ value: '1n' });
    expect(errorOf(() => limiter.block('a', 0))).toMatchObject({ field: 'forMs' });
    const wrong = (options: object): unknown =>
      errorOf(() => new RateLimiter({ limit: 1, windowMs: 1, ...options } as never)).field;
    expect(wrong({ algorithm: 'leaky' })).toBe('algorithm');
    expect(wrong({ algorithm: 'fixed-window', burst: 2 })).toBe('burst');
    expect(wrong({ name: '' })).toBe('name');
    expect(wrong({ clock: 1 })).toBe('clock');
    expect(wrong({ max: 1 })).toBe('max');
  });
});

describe('a million random arrivals', () => {
  // `PORTCULLIS_LONG=1` runs a million of each algorithm.
  const ARRIVALS = inFull(30_000, 1_000_000);

  it.each(ALGORITHMS)('agree with a naive model of %s', (algorithm) => {
    expect(differencesOf(algorithm, ARRIVALS, limiterOf)).toBe(0);
  });
});

describe('memory', () => {
  it('is bounded: a full limiter forgets keys, and an exhausted key outlives a flood of others', () => {
    const { clock, limiter } = limiterOf({ windowMs: 60_000, maxKeys: 1000 });
    limiter.take('mine', 10);
    for (let i = 0; i < 50_000; i++) limiter.take(`other-${i}`);
    expect(limiter.take('mine').success).toBe(false);
    expect(limiter.snapshot()).toMatchObject({ keys: 1000, evicted: 49_001 });
    expect(limiter.snapshot().bytes).toBeLessThan(40 * 1000);
    // Keys that have their whole limit again leave as others come, without a timer.
    clock.advance(60_000);
    for (let i = 0; i < 1000; i++) limiter.take(`new-${i % 10}`);
    for (let i = 0; i < 2000; i++) {
      limiter.take(`newer-${i}`);
      clock.advance(1000);
    }
    expect(limiter.snapshot().keys).toBeLessThan(100);
  });

  it('is at most 40 bytes a key', () => {
    const { limiter } = limiterOf({ windowMs: 60_000 });
    for (let i = 0; i < 100_000; i++) limiter.take(`key-${i}`);
    const { keys, bytes } = limiter.snapshot();
    expect(keys).toBe(100_000);
    expect(bytes / keys).toBeLessThan(40);
  });
});

describe('limiters taken together', () => {
  it('spend all of them or none, and tell the limiter that refuses', () => {
    for (const algorithm of ALGORITHMS) {
      const clock = new ManualClock();
      const perIp = new RateLimiter({ limit: 5, windowMs: 1000, algorithm, clock });
      const perUser = new RateLimiter({ limit: 2, windowMs: 1000, algorithm, clock });
      const both = RateLimiter.all(perIp, perUser);
      for (let left = 1; left >= 0; left--)
        expect(both.take(['ip', 'ann'])).toMatchObject({
          success: true,
          remaining: left,
          limit: 2,
        });
      const refused = both.take(['ip', 'ann']);
      expect(refused).toMatchObject({ success: false, remaining: 0, limit: 2 });
      expect(refused.refusedBy).toBe(perUser);
      expect(perIp.peek('ip').remaining).toBe(3);
      expect(both.take(['ip', 'bob'], 2).success).toBe(true);
      expect(both.take(['ip', 'eve'], 2).refusedBy).toBe(perIp);
      expect(perUser.peek('eve').remaining).toBe(2);
      // The whole cost is given back, of each limiter by its own key.
      const wide = new RateLimiter({ limit: 9, windowMs: 1000, algorithm, clock });
      const all = RateLimiter.all(wide, perIp, perUser);
      expect(all.take(['w', 'home', 'ann'], 2).refusedBy).toBe(perUser);
      expect([wide.peek('w').remaining, perIp.peek('home').remaining]).toEqual([9, 5]);
      wide.take('home', 3);
      expect(all.take(['home', 'other', 'ann'], 2).refusedBy).toBe(perUser);
      expect([wide.peek('home').remaining, perIp.peek('other').remaining]).toEqual([6, 5]);
      // Both refuse: the longer time counts.
      const slow = new RateLimiter({ limit: 1, windowMs: 9000, algorithm, clock });
      const three = RateLimiter.all(perUser, slow);
      slow.take('x');
      const { refusedBy, retryAfterMs } = three.take(['ann', 'x']);
      expect(refusedBy).toBe(perUser);
      expect(retryAfterMs).toBe(slow.peek('x').retryAfterMs);
    }
  });

  it('refuse wrong arguments', () => {
    const { limiter } = limiterOf({});
    const both = RateLimiter.all(limiter, limiter);
    for (const keys of [undefined, ['a'], ['a', 1]])
      expect(errorOf(() => both.take(keys as never))).toMatchObject({ field: 'keys' });
    expect(errorOf(() => RateLimiter.all())).toMatchObject({ field: 'limiters' });
    expect(errorOf(() => RateLimiter.all({} as never))).toMatchObject({ field: 'limiters' });
    expect(limiter.snapshot().keys).toBe(0);
  });
});

// The recipe of docs/rate-limits.md, with a clock.
describe('logins', () => {
  const DAY_MS = 86_400_000;

  function logins(): {
    clock: ManualClock;
    login: (
      ip: string,
      account: string,
      isRight?: boolean,
    ) => { status: number; retryAfterMs: number };
  } {
    const clock = new ManualClock();
    const of = (limit: number, windowMs: number, algorithm: RateAlgorithm): RateLimiter =>
      new RateLimiter({ limit, windowMs, algorithm, clock });
    const perAddress = of(100, 3_600_000, 'sliding-window');
    const perAccount = of(50, DAY_MS, 'sliding-window');
    const perPair = of(5, 900_000, 'sliding-window');
    const strikes = of(8, DAY_MS, 'fixed-window');
    const all = RateLimiter.all(perAddress, perAccount, perPair);
    const login = (ip: string, account: string, isRight = false) => {
      const name = account.trim().toLowerCase();
      const pair = `${ip} ${name}`;
      const { success, retryAfterMs } = all.take([ip, name, pair]);
      if (!success) return { status: 429, retryAfterMs };
      if (isRight) {
        perPair.reset(pair);
        strikes.reset(pair);
        return { status: 200, retryAfterMs: 0 };
      }
      if (perPair.peek(pair).remaining === 0) {
        const strike = strikes.limit - strikes.take(pair).remaining;
        perPair.block(pair, 60_000 * 2 ** (strike - 1));
      }
      return { status: 401, retryAfterMs: 0 };
    };
    return { clock, login };
  }

  it('are blocked for longer each time, by address and account together', () => {
    const { clock, login } = logins();
    for (const minutes of [1, 2, 4, 8]) {
      for (let i = 0; i < 5; i++) expect(login('ip', 'ann').status).toBe(401);
      expect(login('ip', ' Ann ', true)).toEqual({ status: 429, retryAfterMs: minutes * 60_000 });
      // The owner elsewhere is not locked out.
      expect(login('home', 'ann', true).status).toBe(200);
      clock.advance(minutes * 60_000);
    }
    expect(login('ip', 'ann', true).status).toBe(200);
    for (let i = 0; i < 5; i++) login('ip', 'ann');
    expect(login('ip', 'ann').retryAfterMs).toBe(60_000);
  });

  it('of many addresses for one account, and of one address for many accounts, meet a limit', () => {
    const { login } = logins();
    for (let i = 0; i < 50; i++) expect(login(`ip-${i}`, 'ann').status).toBe(401);
    expect(login('ip-50', 'ann').status).toBe(429);
    for (let i = 0; i < 100; i++) expect(login('ip', `account-${i}`).status).toBe(401);
    expect(login('ip', 'account-100').status).toBe(429);
  });

  it('answer alike for known and unknown accounts', () => {
    const { login } = logins();
    const answers = ['known', 'unknown'].map((account) =>
      Array.from({ length: 7 }, () => login(`ip of ${account}`, account)),
    );
    expect(answers[0]).toEqual(answers[1]);
  });
});

describe('a name', () => {
  it('is refused with other options', () => {
    const held = new RateLimiter({ limit: 1, windowMs: 1000, name: 'conflict' });
    expect(
      errorOf(() => new RateLimiter({ limit: 2, windowMs: 1000, name: 'conflict' })),
    ).toMatchObject({ code: 'ERR_LIMITS_CONFLICT', field: 'name' });
    expect(held.name).toBe('conflict');
  });

  it('is shared by worker threads: together they admit the limit, exactly', async () => {
    const options = { limit: 1000, windowMs: 2 ** 30, algorithm: 'fixed-window', name: 'threads' };
    const held = new RateLimiter(options as RateLimiterOptions);
    const source = `
      const { parentPort } = require('node:worker_threads');
      import(${JSON.stringify(new URL('../dist/index.js', import.meta.url).href)}).then(({ RateLimiter }) => {
        const limiter = new RateLimiter(${JSON.stringify(options)});
        let admitted = 0;
        for (let i = 0; i < 8000; i++) if (limiter.take('key-' + (i % 8)).success) admitted++;
        parentPort.postMessage(admitted);
      });`;
    const counts = await Promise.all(
      Array.from(
        { length: 4 },
        () =>
          new Promise<number>((resolve, reject) => {
            const worker = new Worker(source, { eval: true });
            worker.once('message', resolve);
            worker.once('error', reject);
          }),
      ),
    );
    expect(counts.reduce((sum, count) => sum + count, 0)).toBe(8000);
    expect(held.peek('key-0').remaining).toBe(0);
  });
});
