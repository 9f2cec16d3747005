/**
 * Behaviours that the tests of rate-limiter-flexible and of express-rate-limit ask for, one by one, in
 * tests of our own. `docs/rate-limits.md` counts them; the last test compares.
 */
import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { clientKeyOf } from '../dist/base/address.js';
import { RateLimiter, type RateLimiterOptions, type RequestRates } from '../dist/index.js';
import { ManualClock } from '../dist/testing.js';
import { fetcher, type Sent } from './fixtures/rated-fetch.js';

/** A behaviour that holds: a title and its test. */
type Held = readonly [behaviour: string, test: () => void | Promise<void>];
/** A behaviour that does not apply: a title and the reason. */
type Other = readonly [behaviour: string, reason: string];
interface Suite {
  readonly name: string;
  readonly holds: readonly Held[];
  readonly differs: readonly Other[];
}

function windows(options: Partial<RateLimiterOptions> = {}): {
  clock: ManualClock;
  limiter: RateLimiter;
} {
  const clock = new ManualClock();
  const algorithm = 'fixed-window';
  const limiter = new RateLimiter({ limit: 2, windowMs: 5000, algorithm, clock, ...options });
  return { clock, limiter };
}
/** Cost that a key has spent of a limit of 100. */
const spentOf = (limiter: RateLimiter, key = 'a'): number => 100 - limiter.peek(key).remaining;

const flexible: Suite = {
  name: 'rate-limiter-flexible: memory',
  holds: [
    [
      'a cost is counted',
      () => {
        const { limiter } = windows();
        limiter.take('a');
        expect(limiter.peek('a').remaining).toBe(1);
      },
    ],
    [
      'a cost above the limit is refused, with a time',
      () => {
        const { limiter } = windows({ limit: 1 });
        limiter.take('a');
        const refused = limiter.take('a', 1);
        expect([refused.success, refused.retryAfterMs]).toEqual([false, 5000]);
        expect(limiter.take('a', 2)).toMatchObject({ success: false, retryAfterMs: Infinity });
      },
    ],
    [
      'a penalty counts',
      () => {
        const { limiter } = windows({ limit: 3 });
        limiter.take('a');
        expect(limiter.penalty('a').remaining).toBe(1);
      },
    ],
    [
      'a reward gives back',
      () => {
        const { limiter } = windows({ limit: 1 });
        limiter.take('a');
        expect(limiter.reward('a').remaining).toBe(1);
      },
    ],
    [
      'a key over its limit is blocked for longer: by `onRefuse` and `block()`',
      () => {
        const { limiter } = windows({
          limit: 1,
          windowMs: 1000,
          onRefuse: (key) => limiter.block(key, 2000),
        });
        limiter.take('a', 2);
        expect(limiter.peek('a').retryAfterMs).toBe(2000);
      },
    ],
    [
      'costs during a block do not make it longer',
      () => {
        const { clock, limiter } = windows({ limit: 1, windowMs: 1000 });
        limiter.block('a', 2000);
        clock.advance(1001);
        for (let i = 0; i < 5; i++)
          expect(limiter.take('a')).toMatchObject({ success: false, retryAfterMs: 999 });
      },
    ],
    [
      'a block ends, and the key begins anew',
      () => {
        const { clock, limiter } = windows({ limit: 2, windowMs: 1000 });
        limiter.block('a', 2000);
        clock.advance(2000);
        expect(limiter.take('a')).toMatchObject({ success: true, remaining: 1 });
      },
    ],
    [
      'any key can be blocked',
      () => {
        const { limiter } = windows({ windowMs: 1000 });
        limiter.block('never seen', 2000);
        expect(limiter.take('never seen')).toMatchObject({ success: false, retryAfterMs: 2000 });
      },
    ],
    [
      'the state of a key can be read, and costs nothing',
      () => {
        const { limiter } = windows();
        limiter.take('a');
        for (let i = 0; i < 3; i++) expect(limiter.peek('a').remaining).toBe(1);
      },
    ],
    [
      'an unknown key has spent nothing, and reading makes it no known one',
      () => {
        const { limiter } = windows();
        expect(limiter.peek('a')).toMatchObject({ remaining: 2, resetMs: 0 });
        expect(limiter.snapshot().keys).toBe(0);
      },
    ],
    [
      'a key is deleted, and a second time there is none',
      () => {
        const { limiter } = windows();
        limiter.take('a');
        expect([limiter.reset('a'), limiter.reset('a')]).toEqual([true, false]);
      },
    ],
    [
      'the points of a key are set: by `reset()` and `penalty()`',
      () => {
        const { limiter } = windows({ limit: 100 });
        limiter.take('a', 3);
        limiter.reset('a');
        limiter.penalty('a', 12);
        expect(spentOf(limiter)).toBe(12);
      },
    ],
    [
      'a cost after the end of a window begins a new one',
      () => {
        const { clock, limiter } = windows();
        limiter.take('a', 2);
        clock.advance(7000);
        expect(limiter.take('a')).toMatchObject({ success: true, remaining: 1, resetMs: 5000 });
      },
    ],
  ],
  differs: [
    [
      'a delayed cost tells the rest of its time',
      'Nothing waits: `gcra` refuses instead of delaying.',
    ],
    [
      'costs run evenly, at least 20 ms apart',
      'Nothing waits: `gcra` refuses instead of delaying.',
    ],
    ['costs run evenly over the duration', 'Nothing waits: `gcra` refuses instead of delaying.'],
    ['a prefix of keys', 'Each limiter has its own keys, so they need no prefix.'],
    ['a duration for one cost', 'A limiter has one window.'],
    ['no duration for one cost', 'A limiter has one window.'],
    ['a duration for one penalty', 'A limiter has one window.'],
    ['a duration for one reward', 'A limiter has one window.'],
    ['a duration of 0 never ends', 'Every window ends; the longest is 2^30 ms, twelve days.'],
    ['a block of 0 never ends', 'Every block ends; the longest is 2^30 ms, twelve days.'],
    ['points that are set for ever', 'Every window ends; the longest is 2^30 ms, twelve days.'],
    ['a limit of 0 admits nothing', 'A limit is at least 1.'],
  ],
};

const union: Suite = {
  name: 'rate-limiter-flexible: union',
  holds: [
    [
      'only limiters can be taken together',
      () => void expect(() => RateLimiter.all(windows().limiter, {} as never)).toThrow(/limiters/),
    ],
    [
      'a cost is taken from all',
      () => {
        const [a, b] = [windows({ limit: 1 }).limiter, windows().limiter];
        expect(RateLimiter.all(a, b).take(['x', 'x']).success).toBe(true);
        expect([a.peek('x').remaining, b.peek('x').remaining]).toEqual([0, 1]);
      },
    ],
    [
      'one that has not enough refuses',
      () => {
        const [a, b] = [windows({ limit: 1 }).limiter, windows().limiter];
        expect(RateLimiter.all(a, b).take(['x', 'x'], 2)).toMatchObject({
          success: false,
          refusedBy: a,
        });
      },
    ],
    [
      'both refuse if neither has enough',
      () => {
        const [a, b] = [windows({ limit: 1 }).limiter, windows().limiter];
        const refused = RateLimiter.all(a, b).take(['x', 'x'], 3);
        expect(refused).toMatchObject({ success: false, refusedBy: a, retryAfterMs: Infinity });
      },
    ],
  ],
  differs: [['one limiter alone is an error', '`RateLimiter.all()` takes 1 to 16 limiters.']],
};

const storage: Suite = {
  name: 'rate-limiter-flexible: memory storage',
  holds: [
    [
      'points are stored',
      () => {
        const { limiter } = windows({ limit: 100 });
        limiter.penalty('a', 34);
        expect(spentOf(limiter)).toBe(34);
      },
    ],
    [
      'a record goes when its time is over',
      () => {
        const { clock, limiter } = windows({ limit: 100, windowMs: 1000 });
        limiter.penalty('a', 34);
        clock.advance(1000);
        expect(spentOf(limiter)).toBe(0);
        for (const key of ['b', 'c']) limiter.take(key);
        expect(limiter.snapshot().keys).toBe(2);
      },
    ],
    [
      'points are added to a record',
      () => {
        const { limiter } = windows({ limit: 100 });
        limiter.penalty('a', 34);
        limiter.penalty('a', 2);
        expect(spentOf(limiter)).toBe(36);
      },
    ],
    [
      'points make a record where there is none',
      () => {
        const { limiter } = windows({ limit: 100 });
        expect([limiter.penalty('a', 34).success, limiter.snapshot().keys]).toEqual([true, 1]);
      },
    ],
    [
      'a record that is deleted is gone',
      () => {
        const { limiter } = windows({ limit: 100 });
        limiter.penalty('a', 34);
        expect([limiter.reset('a'), spentOf(limiter)]).toEqual([true, 0]);
      },
    ],
    [
      'there may be no record to delete',
      () => void expect(windows().limiter.reset('a')).toBe(false),
    ],
  ],
  differs: [
    [
      'a record without an end is counted on',
      'Every window ends; the longest is 2^30 ms, twelve days.',
    ],
    ['timers without `unref` do', 'A limiter has no timer.'],
  ],
};

const store: Suite = {
  name: 'express-rate-limit: memory store',
  holds: [
    [
      'the first hit counts as one',
      () => void expect(100 - windows({ limit: 100 }).limiter.take('a').remaining).toBe(1),
    ],
    [
      'the second one as two',
      () => {
        const { limiter } = windows({ limit: 100 });
        limiter.take('a');
        expect(100 - limiter.take('a').remaining).toBe(2);
      },
    ],
    [
      'a hit is taken back: `reward()`',
      () => {
        const { limiter } = windows({ limit: 100 });
        for (let i = 0; i < 2; i++) limiter.take('a');
        limiter.reward('a');
        expect(100 - limiter.take('a').remaining).toBe(2);
      },
    ],
    [
      'a key is reset',
      () => {
        const { limiter } = windows({ limit: 100 });
        limiter.take('a');
        limiter.reset('a');
        expect(100 - limiter.take('a').remaining).toBe(1);
      },
    ],
    [
      'all keys are reset: `clear()`',
      () => {
        const { limiter } = windows({ limit: 100 });
        for (const key of ['a', 'b']) limiter.take(key);
        limiter.clear();
        expect(['a', 'b'].map((key) => 100 - limiter.take(key).remaining)).toEqual([1, 1]);
      },
    ],
    [
      'all keys begin anew after the window',
      () => {
        const { clock, limiter } = windows({ limit: 100, windowMs: 50 });
        for (const key of ['a', 'b']) limiter.take(key);
        clock.advance(60);
        expect(['a', 'b'].map((key) => 100 - limiter.take(key).remaining)).toEqual([1, 1]);
      },
    ],
    [
      'count and time of a key can be read: `peek()`',
      () => {
        const { clock, limiter } = windows({ limit: 100 });
        limiter.take('a', 3);
        clock.advance(1000);
        expect(limiter.peek('a')).toMatchObject({ remaining: 97, resetMs: 4000 });
      },
    ],
    [
      'nobody gets back more than was spent',
      () => {
        const { limiter } = windows({ limit: 100 });
        limiter.take('a');
        for (let i = 0; i < 3; i++) limiter.reward('a');
        expect(limiter.peek('a').remaining).toBe(100);
      },
    ],
    [
      'no two keys share a count',
      () => {
        const { clock, limiter } = windows({ limit: 100 });
        for (let at = 0; at < 1000; at++) limiter.take(`${at}`, 1 + (at % 50));
        clock.advance(100);
        for (let at = 0; at < 1000; at++) expect(spentOf(limiter, `${at}`)).toBe(1 + (at % 50));
      },
    ],
  ],
  differs: [
    ['`shutdown()` clears the timer', 'A limiter has no timer.'],
    ['timers that are numbers do', 'A limiter has no timer.'],
    ['earlier timers are cleared', 'A limiter has no timer.'],
    ['clients move to a second table', 'A limiter has one table.'],
  ],
};

const MINUTE = 60_000;
const perIp = (limit: number, windowMs = MINUTE): RequestRates<Request> => ({
  perIp: { limit, windowMs, algorithm: 'fixed-window' },
});
/** Statuses of requests, one after the other. */
const statuses = (send: (path?: string, given?: Sent) => Response, ...sent: Sent[]): number[] =>
  sent.map((one) => send('/', one).status);
const times = (count: number, sent: Sent = {}): Sent[] => Array.from({ length: count }, () => sent);

/** A request of one client, to be judged and settled by hand. */
const request = (url: string) => ({
  request: undefined,
  method: 'GET',
  url,
  clientOf: () => '192.0.2.1',
});

const middleware: Suite = {
  name: 'express-rate-limit: middleware',
  holds: [
    [
      'the options object stays as it was',
      () => {
        const options = perIp(1);
        const before = structuredClone(options);
        fetcher(options).send();
        expect(options).toEqual(before);
      },
    ],
    ['the first request passes', () => void expect(fetcher(perIp(1)).send().status).toBe(200)],
    [
      'requests over the limit of an address get 429',
      () => void expect(statuses(fetcher(perIp(2)).send, ...times(3))).toEqual([200, 200, 429]),
    ],
    [
      'an address is served again after its window',
      () => {
        const { clock, send } = fetcher(perIp(2, 50));
        expect(statuses(send, ...times(3))).toEqual([200, 200, 429]);
        clock.advance(60);
        expect(send().status).toBe(200);
      },
    ],
    [
      'and again',
      () => {
        const { clock, send } = fetcher(perIp(2, 50));
        for (let round = 0; round < 3; round++, clock.advance(60))
          expect(statuses(send, ...times(3))).toEqual([200, 200, 429]);
      },
    ],
    [
      'a refusal has a text of the application: `onRefused`',
      async () => {
        const { send } = fetcher(perIp(1), { onRefused: () => ({ body: 'calm down' }) });
        send();
        const refused = send();
        expect([refused.status, await refused.text()]).toEqual([429, 'calm down']);
      },
    ],
    [
      'and a status: `onRefused`',
      () => {
        const { send } = fetcher(perIp(1), { onRefused: () => ({ status: 420 }) });
        expect(statuses(send, ...times(2))).toEqual([200, 420]);
      },
    ],
    [
      'and JSON: `onRefused`, or the standard answer',
      async () => {
        const { send } = fetcher(perIp(1));
        send();
        expect(await send().json()).toMatchObject({ code: 'ip_request_rate' });
      },
    ],
    [
      'and all of them: `onRefused`',
      async () => {
        const onRefused = () => ({ status: 420, headers: { 'x-calm': 'yes' }, body: 'calm down' });
        const { send } = fetcher(perIp(1), { onRefused });
        send();
        const refused = send();
        expect([refused.status, refused.headers.get('x-calm'), await refused.text()]).toEqual([
          420,
          'yes',
          'calm down',
        ]);
      },
    ],
    [
      'keys are those of the application',
      () => {
        const { send } = fetcher({
          perKey: { limit: 2, windowMs: MINUTE },
          key: ({ url }) => new URL(url).searchParams.get('key') ?? undefined,
        });
        const keys = [1, 1, 2, 1, 2, 2];
        expect(keys.map((key) => send(`/?key=${key}`).status)).toEqual([
          200, 200, 200, 429, 200, 429,
        ]);
      },
    ],
    [
      'a function skips requests',
      () => {
        const { send } = fetcher({ ...perIp(1), skip: () => true });
        expect(statuses(send, ...times(3))).toEqual([200, 200, 200]);
      },
    ],
    [
      'an admitted request is told what is left, and no `Retry-After`',
      () => {
        const { headers } = fetcher({ ...perIp(2), headers: ['x-ratelimit'] }).send();
        expect(
          ['x-ratelimit-limit', 'x-ratelimit-remaining', 'retry-after'].map((name) =>
            headers.get(name),
          ),
        ).toEqual(['2', '1', null]);
      },
    ],
    [
      'a key of the store can be reset: that of a limiter of your own',
      () => {
        const { clock, limiter } = windows({ limit: 1 });
        clock.advance(1);
        const { send } = fetcher({ perIp: limiter });
        expect(statuses(send, ...times(2))).toEqual([200, 429]);
        limiter.reset('192.0.2.1');
        expect(send().status).toBe(200);
      },
    ],
    [
      'successful requests give back with `skipSuccessful`',
      () => {
        const { send } = fetcher({ ...perIp(1), skipSuccessful: true });
        expect(statuses(send, ...times(3))).toEqual([200, 200, 200]);
      },
    ],
    [
      'failed ones do not',
      () => {
        const { send } = fetcher({ ...perIp(1), skipSuccessful: true });
        expect(statuses(send, ...times(2, { status: 400 }))).toEqual([400, 429]);
      },
    ],
    [
      'failed requests give back with `skipFailed`',
      () => {
        const { send } = fetcher({ ...perIp(1), skipFailed: true });
        expect(statuses(send, ...times(3, { status: 400 }))).toEqual([400, 400, 400]);
      },
    ],
    [
      'successful ones do not',
      () => {
        const { send } = fetcher({ ...perIp(1), skipFailed: true });
        expect(statuses(send, ...times(2))).toEqual([200, 429]);
      },
    ],
    [
      'nor does a handler that fails count with `skipFailed`',
      () => {
        const { send } = fetcher({ ...perIp(1), skipFailed: true });
        for (let i = 0; i < 3; i++) expect(() => send('/', { fails: true })).toThrow('handler');
        expect(statuses(send, ...times(2))).toEqual([200, 429]);
      },
    ],
    [
      'a refused request costs nothing',
      () => {
        const { rates, send } = fetcher({ ...perIp(2), skipFailed: true });
        statuses(send, ...times(4));
        expect(rates.explain({ ip: '192.0.2.1', cost: 2 })[0]?.result.retryAfterMs).toBe(MINUTE);
      },
    ],
    [
      'two limiters count by themselves',
      () => {
        const { send } = fetcher({
          perKey: { limit: 2, windowMs: MINUTE },
          key: ({ url }) => new URL(url).searchParams.get('key') ?? undefined,
          perUser: { limit: 5, windowMs: MINUTE },
          user: () => 'everybody',
        });
        const left = [1, 2, 1, 2, 1, 3, 3].map((key) => send(`/?key=${key}`));
        expect(left.map(({ status }) => status)).toEqual([200, 200, 200, 200, 429, 200, 429]);
        expect(left[3]!.headers.get('ratelimit')).toMatch(/^"key";r=0;t=\d+, "user";r=1;t=\d+$/);
      },
    ],
    [
      'a cost is given back until the end of its window',
      () => {
        const { clock, rates } = fetcher({ ...perIp(2), skipSuccessful: true });
        const slow = rates.judge(request('/'));
        clock.advance(MINUTE - 1);
        rates.judge(request('/'));
        slow?.settle(200);
        expect(rates.explain({ ip: '192.0.2.1' })[0]?.result.remaining).toBe(1);
      },
    ],
    [
      'not after it, when it would be the cost of a later request',
      () => {
        const { clock, rates } = fetcher({ ...perIp(2), skipSuccessful: true });
        const slow = rates.judge(request('/'));
        clock.advance(MINUTE);
        rates.judge(request('/'));
        slow?.settle(200);
        expect(rates.explain({ ip: '192.0.2.1' })[0]?.result.remaining).toBe(1);
      },
    ],
  ],
  differs: [
    ['`init()` of the store is called', 'A limiter is its own store.'],
    ['`init()` may be asynchronous', 'A limiter is its own store.'],
    ['it may reject', 'A limiter is its own store.'],
    ['it may throw', 'A limiter is its own store.'],
    ['a limit of 0 refuses everybody', 'A limit is at least 1.'],
    ['the text is a promise', 'A refusal is answered at once, so its text cannot be a promise.'],
    ['a request without an address is an error', 'Clients without an address share one key.'],
    [
      '`skip` may be asynchronous',
      'Rates are checked at once, before the body is read, so their functions cannot be asynchronous.',
    ],
    [
      'the limit is a function',
      'A limit is a number: give a request a higher cost, or a limiter of its own.',
    ],
    [
      'the limit is an asynchronous function',
      'Rates are checked at once, before the body is read, so their functions cannot be asynchronous.',
    ],
    ['`increment()` of the store is called', 'A limiter is its own store.'],
    [
      'a function tells which requests were successful',
      'The status of an answer decides whether the request was successful.',
    ],
    [
      'it tells which have failed',
      'The status of an answer decides whether the request was successful.',
    ],
    [
      'it reads the request: success',
      'The status of an answer decides whether the request was successful.',
    ],
    [
      'it reads the request: failure',
      'The status of an answer decides whether the request was successful.',
    ],
    [
      'an error of the handler goes to `next()`',
      'If the handler of refusals throws, the client gets the standard answer, and the error is a process warning.',
    ],
    [
      'an error of `skip` goes to `next()`',
      'If `skip` throws, the request is counted, and the error is a process warning.',
    ],
    [
      'the request has a property with the count',
      '`explainRates()` and the header fields have the count.',
    ],
    ['under a name of your own', '`explainRates()` and the header fields have the count.'],
    ['a store that fails refuses', 'A limiter is its own store.'],
    ['or lets pass, where that is asked for', 'A limiter is its own store.'],
    ['and calls `next()` once', 'A limiter is its own store.'],
    ['errors of options go to a logger', 'Errors of options are thrown.'],
    ['errors of the store go to a logger', 'A limiter is its own store.'],
  ],
};

const headersOf = (rates: RequestRates<Request>, ...names: string[]): (string | null)[] => {
  const { headers } = fetcher(rates).send();
  return names.map((name) => headers.get(name));
};
const legacy = ['limit', 'remaining', 'reset'].map((name) => `ratelimit-${name}`);

const headers: Suite = {
  name: 'express-rate-limit: headers',
  holds: [
    [
      '`X-RateLimit-*`, with the reset as a time',
      () => {
        const [limit, remaining, reset] = headersOf(
          { ...perIp(5), headers: ['x-ratelimit'] },
          ...legacy.map((name) => `x-${name}`),
        );
        const seconds = Math.ceil((Date.now() + MINUTE) / 1000);
        expect([limit, remaining]).toEqual(['5', '4']);
        expect(Math.abs(Number(reset) - seconds)).toBeLessThanOrEqual(1);
      },
    ],
    [
      'the sixth draft',
      () =>
        void expect(headersOf({ ...perIp(5), headers: ['ratelimit-legacy'] }, ...legacy)).toEqual([
          '5',
          '4',
          '60',
        ]),
    ],
    [
      'the eighth draft',
      () =>
        void expect(headersOf(perIp(5, 2 * 60 * MINUTE), 'ratelimit-policy', 'ratelimit')).toEqual([
          '"ip";q=5;w=7200',
          '"ip";r=4;t=7200',
        ]),
    ],
    [
      'several policies in one field',
      () => {
        const rates = {
          ...perIp(1, 5000),
          perRoute: { '/*': { limit: 5, windowMs: MINUTE, algorithm: 'fixed-window' } },
        } as const;
        expect(headersOf(rates, 'ratelimit-policy', 'ratelimit')).toEqual([
          '"ip";q=1;w=5, "route:/*";q=5;w=60',
          '"ip";r=0;t=5, "route:/*";r=4;t=60',
        ]);
      },
    ],
    [
      '`Retry-After` at the limit',
      () => {
        const { send } = fetcher(perIp(1));
        send();
        expect(send().headers.get('retry-after')).toBe('60');
      },
    ],
  ],
  differs: [
    [
      'the combined field of the seventh draft',
      'The header fields are the older ones or those of the tenth draft.',
    ],
    ['a name of the policy', 'A policy has the name of its limit.'],
    [
      'no `Retry-After` without other fields',
      'A 429 has `Retry-After` whatever other fields it has.',
    ],
    [
      'no field after the headers were sent',
      'A refusal is a whole answer: nothing of it was sent before.',
    ],
    ['an unknown draft is ignored', 'An unknown draft is an error.'],
    [
      '`Retry-After` without the time of the store',
      'A limiter always knows the time of its reset.',
    ],
    ['a parser reads the older fields', 'The tests compare the fields themselves.'],
    ['a parser reads those of the sixth draft', 'The tests compare the fields themselves.'],
    ['a parser reads those of the seventh draft', 'The tests compare the fields themselves.'],
    ['a reset of 0 from the store', 'A limiter always knows the time of its reset.'],
  ],
};

const LONG_IPV6 = '0123:4567:89ab:cdef:0123:4567:89ab:cdef';

const keys: Suite = {
  name: 'express-rate-limit: keys of addresses',
  holds: [
    [
      'IPv4 as it is',
      () =>
        void expect([clientKeyOf('1.2.3.4'), clientKeyOf('1.2.3.4', 32)]).toEqual([
          '1.2.3.4',
          '1.2.3.4',
        ]),
    ],
    ['IPv4 mapped into IPv6', () => void expect(clientKeyOf('::ffff:1.2.3.4')).toBe('1.2.3.4')],
    ['in any notation', () => void expect(clientKeyOf('::ffff:102:304', 32)).toBe('1.2.3.4')],
    [
      'not an IPv6 address that only ends like one',
      () => {
        const key = clientKeyOf('2001:db8:1234:5678::1.2.3.4', 56);
        expect(key).toBe('2001:db8:1234:5600::/56');
        expect(key).toBe(clientKeyOf('2001:db8:1234:5678::102:304', 56));
      },
    ],
    ['the loopback by its network', () => void expect(clientKeyOf('::1', 56)).toBe('::/56')],
    [
      'a whole IPv6 address, if so configured',
      () => void expect(clientKeyOf(LONG_IPV6, 128)).toBe('123:4567:89ab:cdef:123:4567:89ab:cdef'),
    ],
    [
      'a network of 56 bits',
      () => void expect(clientKeyOf(LONG_IPV6, 56)).toBe('123:4567:89ab:cd00::/56'),
    ],
    [
      'a network of 63 bits',
      () => void expect(clientKeyOf(LONG_IPV6, 63)).toBe('123:4567:89ab:cdee::/63'),
    ],
    ['short notations', () => void expect(clientKeyOf('123:ABC::89', 48)).toBe('123:abc::/48')],
    [
      'the same key for all notations of an address',
      () =>
        void expect(clientKeyOf('123:4567:89AB:CDEF::', 128)).toBe(
          clientKeyOf('0123:4567:89ab:cdef:0:0:0:0', 128),
        ),
    ],
  ],
  differs: [
    ['`::1.2.3.4` as IPv4', 'RFC 4291 has deprecated `::1.2.3.4`, so it counts as IPv6.'],
    ['`64:ff9b::1.2.3.4` by its network', 'An address of NAT64 counts as the IPv4 address in it.'],
  ],
};

const SUITES = [flexible, union, storage, store, middleware, headers, keys];

describe.each(SUITES.map((suite) => [suite.name, suite] as const))('%s', (_name, { holds }) => {
  it.each(holds)('%s', async (_behaviour, test) => {
    await test();
  });
});

it('docs/rate-limits.md counts them, and gives each reason', () => {
  const page = readFileSync('docs/rate-limits.md', 'utf8');
  const rows = [
    ...page.matchAll(/^\| ((?:rate|express)[^|]*?: [^|]*?) +\| (\d+) +\| (\d+) +\| (.*?) *\|$/gm),
  ];
  expect(rows.map(([, name, held, other]) => [name, Number(held), Number(other)])).toEqual(
    SUITES.map(({ name, holds, differs }) => [name, holds.length, differs.length]),
  );
  for (const [at, { differs }] of SUITES.entries()) {
    const reasons = [...new Set(differs.map(([, reason]) => reason))];
    expect(rows[at]![4]).toBe(reasons.join(' '));
  }
  const total = SUITES.reduce((sum, { holds }) => sum + holds.length, 0);
  const all = SUITES.reduce((sum, { differs }) => sum + differs.length, total);
  expect(page).toContain(`ask for ${all} behaviours; ${total} of them hold here`);
});
