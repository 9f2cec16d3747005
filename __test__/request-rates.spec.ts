import { createServer, type IncomingMessage } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterEach, describe, expect, it } from 'vitest';
import { normalizedPath } from '../dist/http/rate-options.js';
import { RequestLimit } from '../dist/http/rate-headers.js';
import { clientKeyOf } from '../dist/base/address.js';
import { hostClock } from '../dist/base/clock.js';
import { RequestRateLimiter } from '../dist/http/request-rates.js';
import { RateLimiter, type RateRefusal } from '../dist/index.js';
import { portcullis } from '../dist/ws.js';
import { fetcher, type Sent } from './fixtures/rated-fetch.js';
import { SERVERS, cleanUp, start } from './servers/start.js';

// Rates of HTTP requests, on real servers of each adapter and with requests of `fetch`.

afterEach(cleanUp);
const ends: (() => unknown)[] = [];
afterEach(() => {
  for (const end of ends.splice(0)) end();
});

describe.each(Object.entries(SERVERS))('the adapter for %s', (_name, command) => {
  it('answers 429 with the header fields of the rate, and tells admitted clients what is left', async () => {
    const server = await start(command, {
      limits: {},
      requests: { rate: { perIp: { limit: 2, windowMs: 60_000 } } },
      exemptPaths: ['/guard'],
      refusalFormat: 'problem',
    });
    const url = `http://127.0.0.1:${server.port}/slow?ms=1`;
    for (const left of [1, 0]) {
      const { status, headers } = await fetch(url);
      expect([status, headers.get('ratelimit-policy')]).toEqual([200, '"ip";q=2;w=60']);
      expect(headers.get('ratelimit')).toBe(`"ip";r=${left};t=30`);
    }
    const refused = await fetch(url);
    expect(refused.status).toBe(429);
    expect(refused.headers.get('content-type')).toBe('application/problem+json');
    expect(refused.headers.get('ratelimit')).toBe('"ip";r=0;t=30');
    const body = (await refused.json()) as { retryAfterMs: number };
    expect(body).toMatchObject({
      status: 429,
      code: 'ip_request_rate',
      'violated-policies': ['ip'],
    });
    expect(Number(refused.headers.get('retry-after'))).toBe(Math.ceil(body.retryAfterMs / 1000));
    const stats = await server.guard();
    expect(stats.requests?.refused).toEqual({ ip_request_rate: 1 });
    expect(stats.rates?.refused.ip).toBe(1);
  });

  it('limits a route whatever its spelling, and no other', async () => {
    const server = await start(command, {
      limits: {},
      requests: {
        rate: { perRoute: { 'GET /slow': { limit: 1, windowMs: 60_000 } }, headers: [] },
      },
      exemptPaths: ['/guard'],
    });
    const statusOf = async (path: string, method = 'GET'): Promise<number> => {
      const { status, headers } = await fetch(`http://127.0.0.1:${server.port}${path}`, { method });
      expect(headers.get('ratelimit')).toBe(null);
      return status;
    };
    expect(await statusOf('/slow?ms=1')).toBe(200);
    for (const path of ['/slow?ms=1', '/slow/?ms=1', '//slow?ms=1', '/SLOW', '/%73low'])
      expect([path, await statusOf(path)]).toEqual([path, 429]);
    expect(await statusOf('/slow?ms=1', 'HEAD')).toBe(429);
    expect(await statusOf('/length', 'POST')).toBe(200);
  });
});

it('a guard that is closed gives the names of its rates back, and not those of a given limiter', () => {
  const given = new RateLimiter({ limit: 1, windowMs: 1000, name: 'given to a guard' });
  const open = (limit: number) =>
    portcullis({
      limits: {},
      requests: {
        rate: {
          perIp: { limit, windowMs: 1000, name: 'of a guard' },
          key: () => 'a',
          perKey: given,
        },
      },
    });
  const first = open(1);
  expect(() => open(2)).toThrow(expect.objectContaining({ code: 'ERR_LIMITS_CONFLICT' }));
  first.close();
  open(2).close();
  expect(() => new RateLimiter({ limit: 2, windowMs: 1000, name: 'given to a guard' })).toThrow(
    expect.objectContaining({ code: 'ERR_LIMITS_CONFLICT' }),
  );
  expect(given.take('a').success).toBe(true);
});

describe('the builder', () => {
  it('has the rates of the adapters, and counts no endpoint of health', async () => {
    const server = await start(['node_modules/.bin/bun', '__test__/servers/builder.ts'], {
      requests: {
        rate: {
          perIp: { limit: 2, windowMs: 60_000 },
          perRoute: { 'POST /json': { limit: 1, windowMs: 60_000 } },
        },
      },
      rates: { messageRate: { limit: 1, windowMs: 60_000, action: 'drop' } },
      trustedProxies: ['127.0.0.1'],
    });
    const url = (path: string): string => `http://127.0.0.1:${server.port}${path}`;
    const body = { method: 'POST', body: '{}', headers: { 'content-type': 'application/json' } };
    const first = await fetch(url('/json'), body);
    expect([first.status, first.headers.get('ratelimit')]).toEqual([
      200,
      '"ip";r=1;t=30, "route:POST /json";r=0;t=60',
    ]);
    const routed = await fetch(url('/json'), body);
    expect([routed.status, await routed.json()]).toMatchObject([
      429,
      { code: 'route_request_rate', 'violated-policies': ['route:POST /json'] },
    ]);
    // A request that the route has refused spends nothing of the address; nor does an endpoint.
    expect((await fetch(url('/health/live'))).status).toBe(200);
    expect((await fetch(url('/hello'))).status).toBe(200);
    const refused = await fetch(url('/hello'));
    expect([refused.status, refused.headers.get('retry-after')]).toEqual([429, expect.any(String)]);
    expect(await refused.json()).toMatchObject({ code: 'ip_request_rate' });
    expect((await fetch(url('/stats'))).status).toBe(429);
    const other = { headers: { 'x-forwarded-for': '192.0.2.1' } };
    const stats = (await (await fetch(url('/stats'), other)).json()) as {
      rates: unknown;
      connections: { limits: unknown };
    };
    expect(stats.rates).toMatchObject({ refused: { ip: 2, route: 1 } });
    expect(stats.connections.limits).toMatchObject({ messageRate: { limit: 1 } });
  });
});

const headersOf = (response: Response, ...names: string[]): (string | null)[] =>
  names.map((name) => response.headers.get(name));

describe('rates of requests', () => {
  it('are judged in the stated order, and a refused request spends nothing of the others', () => {
    const asked: string[] = [];
    const { send } = fetcher({
      perIp: { limit: 3, windowMs: 1000 },
      perKey: { limit: 2, windowMs: 1000 },
      key: () => {
        asked.push('key');
        return 'k';
      },
      perUser: { limit: 1, windowMs: 1000 },
      user: (request) => {
        asked.push('user');
        return request.headers.get('x-user') ?? undefined;
      },
    });
    const as = (user: string): unknown => send('/', { headers: { 'x-user': user } }).status;
    expect([as('ann'), as('ann'), as('ann'), as('bob'), as('cid')]).toEqual([
      200, 429, 429, 200, 429,
    ]);
    const policy = '"ip";q=3;w=1, "key";q=2;w=1, "user";q=1;w=1';
    const { send: fresh, rates } = fetcher({
      perIp: { limit: 3, windowMs: 1000 },
      perKey: { limit: 2, windowMs: 1000 },
      key: () => 'k',
      perUser: { limit: 1, windowMs: 1000 },
      user: () => 'u',
    });
    expect(headersOf(fresh(), 'ratelimit-policy', 'ratelimit')).toEqual([
      policy,
      '"ip";r=2;t=1, "key";r=1;t=1, "user";r=0;t=1',
    ]);
    // A refusal tells what is left after it has spent nothing.
    const refused = fresh();
    expect([refused.status, ...headersOf(refused, 'ratelimit')]).toEqual([
      429,
      '"ip";r=2;t=1, "key";r=1;t=1, "user";r=0;t=1',
    ]);
    asked.length = 0;
    expect(rates.snapshot().limiters).toMatchObject({ ip: { admitted: 1 }, key: { admitted: 1 } });
    for (let i = 0; i < 3; i++) send('/', { ip: '192.0.2.9', headers: { 'x-user': `u${i}` } });
    // The key refuses: no user is asked for.
    expect(asked).toEqual(['key', 'key', 'key']);
  });

  it('skip, cost and answers decide what counts', () => {
    const { send } = fetcher({
      perIp: { limit: 10, windowMs: 1000 },
      skip: ({ url }) => url.endsWith('/skip'),
      cost: ({ url }) => (url.endsWith('/dear') ? 5 : url.endsWith('/free') ? 0 : 1),
      skipFailed: true,
    });
    const left = (path: string, status = 200): string | null =>
      send(path, { status }).headers.get('ratelimit');
    expect(left('/dear')).toBe('"ip";r=5;t=1');
    expect([left('/skip'), left('/free')]).toEqual([null, null]);
    for (let i = 0; i < 20; i++) left('/', 404);
    expect(left('/')).toBe('"ip";r=4;t=1');
    const { send: logins } = fetcher({
      perIp: { limit: 2, windowMs: 1000 },
      skipSuccessful: true,
    });
    for (let i = 0; i < 20; i++) expect(logins().status).toBe(200);
    expect([1, 2, 3].map(() => logins('/', { status: 401 }).status)).toEqual([401, 401, 429]);
  });

  it.each([
    ['gcra', '"ip";r=9;t=6', '"ip";r=8;t=6', 'r=0;t=2', '2'],
    // The first part ends with a seventh of the window, and a window later it has left.
    ['sliding-window', '"ip";r=9;t=69', '"ip";r=8;t=69', 'r=0;t=65', '65'],
    ['fixed-window', '"ip";r=9;t=60', '"ip";r=8;t=60', 'r=0;t=56', '56'],
  ] as const)(
    'tell when more is admitted, by %s: never later than `Retry-After`',
    (algorithm, first, second, refused, retry) => {
      const { send, clock } = fetcher({ perIp: { limit: 10, windowMs: 60_000, algorithm } });
      expect([send(), send()].map(({ headers }) => headers.get('ratelimit'))).toEqual([
        first,
        second,
      ]);
      clock.advance(4000);
      for (let i = 0; i < 8; i++) send();
      const { status, headers } = send();
      expect([status, headers.get('ratelimit'), headers.get('retry-after')]).toEqual([
        429,
        `"ip";${refused}`,
        retry,
      ]);
    },
  );

  it('leave the time of a limit out that has its whole, and of one whose time is behind `Retry-After`', () => {
    const { send, clock } = fetcher({
      perIp: { limit: 5, windowMs: 3_600_000, algorithm: 'fixed-window' },
      perRoute: { '/a': { limit: 1, windowMs: 2000 } },
      perUser: { limit: 1, windowMs: 1000, burst: 2 },
      user: ({ headers }) => headers.get('x-user') ?? undefined,
      cost: ({ url }) => (url.endsWith('/dear') ? 3 : 1),
    });
    expect(send('/a').headers.get('ratelimit')).toBe('"ip";r=4;t=3600, "route:/a";r=0;t=2');
    const { headers } = send('/a');
    expect([headers.get('ratelimit'), headers.get('retry-after')]).toEqual([
      '"ip";r=4, "route:/a";r=0;t=2',
      '2',
    ]);
    clock.advance(3_600_000);
    // No retry helps a cost above the limit.
    const never = send('/dear', { headers: { 'x-user': 'ann' } }).headers;
    expect([never.get('ratelimit'), never.get('retry-after')]).toEqual([
      '"ip";r=5, "user";r=1',
      null,
    ]);
  });

  it('have a name each, whatever characters a route has', () => {
    const rate = { limit: 9, windowMs: 1000 };
    const long = `/${'x'.repeat(200)}`;
    const { send } = fetcher({
      perRoute: { 'GET /a': rate, '/b/*': rate, '/"\\': rate, [long]: rate },
    });
    // A router may read either path.
    expect(send('/b/..%2fa').headers.get('ratelimit')).toBe(
      '"route:/b/*";r=8;t=1, "route:GET /a";r=8;t=1',
    );
    const policyOf = (path: string): string | null => send(path).headers.get('ratelimit-policy');
    expect(policyOf('/%22%5c')).toBe(String.raw`"route:/\"\\";q=9;w=1`);
    expect(policyOf(long)).toBe(`"route:/${'x'.repeat(121)}";q=9;w=1`);
    const limit = new RequestLimit('route', new RateLimiter(rate), 'ip:GET /caf\u00e9/\ud800');
    expect(limit.item).toBe('"ip:GET /caf%C3%A9/%EF%BF%BD"');
  });

  it('tell clients no more units than the quota, also with a burst above it', () => {
    const { send } = fetcher({
      perIp: { limit: 10, windowMs: 1000, burst: 50 },
      headers: ['ratelimit', 'ratelimit-legacy'],
    });
    const told = (): (string | null)[] =>
      headersOf(send(), 'ratelimit-policy', 'ratelimit', 'ratelimit-limit', 'ratelimit-remaining');
    expect(told()).toEqual(['"ip";q=10;w=1', '"ip";r=10;t=1', '10', '10']);
    for (let i = 0; i < 40; i++) send();
    expect(told()).toEqual(['"ip";q=10;w=1', '"ip";r=8;t=1', '10', '8']);
  });

  it('tells clients by the older header fields, of the limit with the least left', () => {
    const { send } = fetcher({
      perIp: { limit: 5, windowMs: 5000 },
      perRoute: { '/*': { limit: 3, windowMs: 1500, algorithm: 'fixed-window' } },
      headers: ['ratelimit-legacy', 'x-ratelimit', 'ratelimit'],
    });
    const response = send();
    expect(
      headersOf(response, 'ratelimit-limit', 'ratelimit-remaining', 'ratelimit-reset'),
    ).toEqual(['3', '2', '2']);
    expect(headersOf(response, 'x-ratelimit-limit', 'x-ratelimit-remaining')).toEqual(['3', '2']);
    // Unix time, seconds.
    expect(Number(response.headers.get('x-ratelimit-reset'))).toBeGreaterThan(1.7e9);
    // A window that is no whole number of seconds has no `w`.
    expect(response.headers.get('ratelimit-policy')).toBe('"ip";q=5;w=5, "route:/*";q=3');
    // Sums of times of a clock with fractions are rounded: 60 s do not become 61.
    const { clock, send: once } = fetcher({ perIp: { limit: 1, windowMs: 60_000 } });
    clock.advance(50_133.1223791365);
    expect(once().headers.get('ratelimit')).toBe('"ip";r=0;t=60');
    expect(headersOf(once(), 'ratelimit', 'retry-after')).toEqual(['"ip";r=0;t=60', '60']);
  });

  it('only observe where asked, and tell each refusal', () => {
    const told: RateRefusal[] = [];
    const { send, rates } = fetcher({
      perIp: { limit: 1, windowMs: 1000 },
      mode: 'observe',
      onRateRefused: (refusal) => told.push(refusal),
    });
    expect(headersOf(send(), 'ratelimit', 'ratelimit-policy')).toEqual([null, null]);
    expect([send(), send()].map(({ status }) => status)).toEqual([200, 200]);
    expect(told).toHaveLength(2);
    expect(told[0]).toMatchObject({ scope: 'ip', key: '192.0.2.1', isEnforced: false });
    expect(rates.snapshot().refused.ip).toBe(2);
  });

  it('give no cost back that was only observed, nor one twice', () => {
    const { send, rates } = fetcher({
      perIp: { limit: 2, windowMs: 1000 },
      mode: 'observe',
      skipFailed: true,
    });
    const left = (): number | undefined => rates.explain({ ip: '192.0.2.1' })[0]?.result.remaining;
    expect([send(), send()].map(({ status }) => status)).toEqual([200, 200]);
    expect(send('/', { status: 404 }).status).toBe(404);
    expect(left()).toBe(0);
    const judged = fetcher({ perIp: { limit: 9, windowMs: 1000 }, skipFailed: true });
    judged.send();
    const asked = { request: {}, method: 'GET', url: '/', clientOf: () => '192.0.2.1' };
    const outcome = judged.rates.judge(asked)!;
    judged.send();
    outcome.settle(500);
    outcome.settle(500);
    expect(judged.rates.explain({ ip: '192.0.2.1' })[0]?.result.remaining).toBe(7);
  });

  it.each(['gcra', 'sliding-window', 'fixed-window'] as const)(
    'by %s give no cost back that has come back by itself: it would be that of a later request',
    (algorithm) => {
      const { send, rates, clock } = fetcher({
        perIp: { limit: 2, windowMs: 1000, algorithm },
        skipFailed: true,
      });
      const asked = { request: {}, method: 'GET', url: '/', clientOf: () => '192.0.2.1' };
      const left = (): number | undefined =>
        rates.explain({ ip: '192.0.2.1' })[0]?.result.remaining;
      const [late, soon] = [rates.judge(asked)!, rates.judge(asked)!];
      expect(left()).toBe(0);
      soon.settle(500);
      expect(left()).toBe(1);
      clock.advance(2000);
      send();
      expect(left()).toBe(1);
      late.settle(500);
      expect(left()).toBe(1);
    },
  );

  it.each(['gcra', 'sliding-window', 'fixed-window'] as const)(
    'by %s spend nothing of one limit if another one refuses, by the clock of the process, too',
    (algorithm) => {
      const judge = new RequestRateLimiter(
        {
          perIp: { limit: 5, windowMs: 3500, algorithm },
          key: () => 'a',
          perKey: { limit: 1, windowMs: 3500 },
        },
        hostClock,
      );
      const asked = { request: {}, method: 'GET', url: '/', clientOf: () => '192.0.2.1' };
      const refused = [1, 2, 3, 4].map(() => judge.judge(asked)?.refusal?.code);
      const again = 'key_request_rate';
      expect(refused).toEqual([undefined, again, again, again]);
      expect(judge.explain({ ip: '192.0.2.1' })[0]?.result.remaining).toBe(4);
    },
  );

  it('hide no failure behind answers that come late', () => {
    const { rates, clock } = fetcher({
      perIp: { limit: 5, windowMs: 60_000, algorithm: 'sliding-window' },
      skipSuccessful: true,
    });
    const asked = { request: {}, method: 'POST', url: '/', clientOf: () => '192.0.2.1' };
    const failed: number[] = [];
    const guess = (): void => {
      const outcome = rates.judge(asked)!;
      if (outcome.refusal !== undefined) return;
      outcome.settle(401);
      failed.push(clock.now());
    };
    const guesses = (): void => {
      for (let i = 0; i < 9; i++) guess();
    };
    // Logins to an account of one's own, whose answers wait until the guesses are made.
    const slow = Array.from({ length: 4 }, () => rates.judge(asked)!);
    clock.advance(30_100);
    guesses();
    for (const one of slow) one.settle(200);
    guesses();
    clock.advance(39_000);
    guesses();
    expect(failed).toEqual(Array.from({ length: 5 }, () => failed[0]));
  });

  it('end the stream of a response that a handshake gets beyond its rate', () => {
    const { send } = fetcher({ perIp: { limit: 1, windowMs: 1000 } });
    const ended: number[] = [];
    const statuses = [1, 2].map((nth) => {
      const body = new ReadableStream({ cancel: () => void ended.push(nth) });
      return send('/', { headers: { upgrade: 'websocket' }, answer: new Response(body) }).status;
    });
    expect([statuses, ended]).toEqual([[200, 429], [2]]);
  });

  it('take a status of 400 as failed, and of 399 as successful', () => {
    const counts = (option: 'skipFailed' | 'skipSuccessful', status: number): boolean => {
      const { send } = fetcher({ perIp: { limit: 1, windowMs: 1000 }, [option]: true });
      send('/', { status });
      return send('/', { status }).status === 429;
    };
    expect([399, 400].map((status) => counts('skipFailed', status))).toEqual([true, false]);
    expect([399, 400].map((status) => counts('skipSuccessful', status))).toEqual([false, true]);
  });

  it('take the answer that a host gives in the place of a response that it cannot send', async () => {
    const read = new Response('text');
    await read.text();
    const counts = (option: 'skipFailed' | 'skipSuccessful', sent: Sent): boolean => {
      const { send } = fetcher({ perIp: { limit: 1, windowMs: 1000 }, [option]: true });
      send('/', sent);
      return send().status === 429;
    };
    for (const answer of [Response.error(), read]) {
      expect(counts('skipFailed', { answer })).toBe(false);
      expect(counts('skipSuccessful', { answer })).toBe(true);
    }
    // Bun answers 204 for a handler that returns nothing.
    expect(counts('skipFailed', { isSilent: true })).toBe(true);
    expect(counts('skipSuccessful', { isSilent: true })).toBe(false);
  });

  it('round `Retry-After` up to whole seconds, and leave it out where no retry helps', async () => {
    const refused = (windowMs: number, cost = 1): Response => {
      const { send } = fetcher({ perIp: { limit: 1, windowMs }, cost: () => cost });
      send();
      return send();
    };
    const seconds = [1, 400, 1000, 1001, 1400].map((windowMs) =>
      refused(windowMs).headers.get('retry-after'),
    );
    expect(seconds).toEqual(['1', '1', '1', '2', '2']);
    const never = refused(1000, 2);
    expect([never.status, never.headers.get('retry-after')]).toEqual([429, null]);
    expect(await never.json()).not.toHaveProperty('retryAfterMs');
  });

  it('count by the paths below a wildcard, and by no other path', () => {
    const { send } = fetcher({ perRoute: { '/api/*': { limit: 1, windowMs: 1000 } } });
    const counted = ['/api/a', '/apis', '/api', '/other', '/API//b'].map(
      (path) => send(path).headers.get('ratelimit') !== null || send(path).status === 429,
    );
    expect(counted).toEqual([true, false, true, false, true]);
  });

  it('explain which limit would refuse a client, and spend nothing', () => {
    const { send, rates } = fetcher({
      perIp: { limit: 2, windowMs: 1000 },
      perRoute: { 'POST /login': { limit: 1, windowMs: 9000 } },
    });
    send('/login', { method: 'POST' });
    const question = { ip: '192.0.2.1', route: 'POST /login', user: 'ann' };
    const explained = rates.explain(question);
    expect(explained.map(({ scope, wouldRefuse }) => [scope, wouldRefuse])).toEqual([
      ['ip', false],
      ['route', true],
    ]);
    expect(explained[1]!.reason).toBe(
      '1 in 9000 ms by route: 0 left, a retry is admitted after 9000 ms',
    );
    expect(rates.explain(question)).toEqual(explained);
    // The address in another notation, and the cost that the request has.
    const mapped = { ip: '::ffff:192.0.2.1' };
    expect(rates.explain(mapped)).toEqual(explained.slice(0, 1));
    expect(rates.explain({ ...mapped, cost: 2 })[0]?.wouldRefuse).toBe(true);
    expect(rates.explain({ ...mapped, cost: 3 })[0]?.reason).toBe(
      '2 in 1000 ms by ip: 1 left, a cost above the limit is never admitted',
    );
  });

  it.each([
    [null, 'client'],
    [5, 'client'],
    [{ ip: 5 }, 'ip'],
    [{ route: 5 }, 'route'],
    [{ key: {} }, 'key'],
    [{ user: null }, 'user'],
    [{ key: NaN }, 'key'],
    [{ cost: '1' }, 'cost'],
  ])('explain nothing of %o, and name %s', (question, field) => {
    const { rates } = fetcher({ perIp: { limit: 2, windowMs: 1000 } });
    expect(() => rates.explain(question as never)).toThrow(
      expect.objectContaining({ code: 'ERR_INVALID_ARG_TYPE', field }) as Error,
    );
  });

  it('survive functions of the application that fail', () => {
    const fails = (): never => {
      throw new Error('of the application');
    };
    process.once('warning', () => undefined);
    const { send } = fetcher({
      perIp: { limit: 2, windowMs: 1000 },
      perUser: { limit: 1, windowMs: 1000 },
      user: fails,
      cost: fails,
      skip: fails,
    });
    expect([send(), send(), send()].map(({ status }) => status)).toEqual([200, 200, 429]);
  });

  it('warn of a function that returns a promise: its answer would come too late', async () => {
    const warned = new Promise<Error>((resolve) => {
      const listener = (warning: Error): void => {
        if (!warning.message.startsWith('rate.key failed')) return;
        process.off('warning', listener);
        resolve(warning);
      };
      process.on('warning', listener);
    });
    const { send } = fetcher({
      perKey: { limit: 1, windowMs: 1000 },
      key: (async () => 'k') as unknown as () => string,
    });
    expect([send(), send()].map(({ status }) => status)).toEqual([200, 200]);
    const { cause } = await warned;
    expect(String(cause)).toContain('rate.key returned a promise');
  });

  it('count a number that `key` or `user` returns by its text, and no request without a key', () => {
    for (const [given, statuses, id] of [
      [42, [200, 429], '42'],
      [2n ** 64n, [200, 429], '18446744073709551616'],
      ['', [200, 429], ''],
      [null, [200, 200], undefined],
      [undefined, [200, 200], undefined],
    ] as const) {
      const limit = { limit: 1, windowMs: 1000 };
      for (const option of [
        { perKey: limit, key: () => given },
        { perUser: limit, user: () => given },
      ]) {
        const { send, rates } = fetcher(option);
        expect([send(), send()].map(({ status }) => status)).toEqual(statuses);
        if (id === undefined || typeof given === 'string') continue;
        const scope = 'key' in option ? 'key' : 'user';
        for (const asked of [given, id])
          expect(rates.explain({ [scope]: asked })[0]).toMatchObject({
            key: id,
            wouldRefuse: true,
          });
      }
    }
  });

  it.each([[{ id: 42 }], [true], [NaN], [Symbol('key')]])(
    'warn of a function that returns %o as its key',
    async (given) => {
      const warned = new Promise<Error>((resolve) => {
        const listener = (warning: Error): void => {
          if (!warning.message.startsWith('rate.user failed')) return;
          process.off('warning', listener);
          resolve(warning);
        };
        process.on('warning', listener);
      });
      const { send } = fetcher({
        perUser: { limit: 1, windowMs: 1000 },
        user: (() => given) as unknown as () => string,
      });
      expect([send(), send()].map(({ status }) => status)).toEqual([200, 200]);
      const { cause } = await warned;
      expect(cause).toMatchObject({ code: 'ERR_INVALID_ARG_TYPE', field: 'rate.user' });
    },
  );

  it('count the cost 1 where `cost` returns a promise, whose rejection ends nothing', async () => {
    for (const cost of [async () => 2, () => Promise.reject(new Error('of the application'))]) {
      const { send } = fetcher({
        perIp: { limit: 2, windowMs: 1000 },
        cost: cost as unknown as () => number,
      });
      expect([send(), send(), send()].map(({ status }) => status)).toEqual([200, 200, 429]);
    }
    await new Promise((resolve) => setImmediate(resolve));
  });

  it('tell each client its own rate, though the application returns one response again and again', async () => {
    const { send } = fetcher({
      perIp: { limit: 9, windowMs: 1000 },
      headers: ['ratelimit', 'x-ratelimit'],
    });
    const one = new Response(null, { status: 204, headers: { 'x-own': '1' } });
    for (const left of [8, 7, 6]) {
      const { status, headers } = send('/', { answer: one });
      expect([status, headers.get('x-own'), headers.get('x-ratelimit-remaining')]).toEqual([
        204,
        '1',
        String(left),
      ]);
      expect(headers.get('ratelimit')).toMatch(new RegExp(`^"ip";r=${left};t=1$`));
      expect(headers.get('ratelimit-policy')).toBe('"ip";q=9;w=1');
    }
    expect(one.headers.get('ratelimit')).toBe('"ip";r=8;t=1');
    // The host tells of a body that is sent twice; a copy would hide that behind an empty one.
    const read = new Response('text');
    const first = send('/', { answer: read });
    expect([first, await first.text()]).toEqual([read, 'text']);
    expect(send('/', { answer: read })).toBe(read);
  });

  it('keep the fields that a response has of other limits, in each of its copies', () => {
    const { send } = fetcher({
      perIp: { limit: 9, windowMs: 1000 },
      headers: ['ratelimit', 'x-ratelimit'],
    });
    const fields = { ratelimit: '"route";r=7;t=1', 'x-ratelimit-limit': '8' };
    const one = new Response(null, { headers: { ...fields, 'x-ratelimit-remaining': '7' } });
    const told = [0, 1, 2].map(() => {
      const response = send('/', { answer: one });
      return headersOf(response, 'ratelimit', 'x-ratelimit-limit', 'x-ratelimit-remaining');
    });
    expect(told).toEqual([
      ['"route";r=7;t=1, "ip";r=8;t=1', '8', '7'],
      ['"route";r=7;t=1, "ip";r=7;t=1', '9', '7'],
      ['"route";r=7;t=1, "ip";r=6;t=1', '9', '6'],
    ]);
  });

  it('count an address in all its notations as one, and two addresses with ports as two', () => {
    const { send } = fetcher({ perIp: { limit: 1, windowMs: 1000 } });
    const statuses = [
      '192.0.2.1:5678',
      ' 192.0.2.1',
      '[::ffff:192.0.2.1]:80',
      '192.0.2.2:5678',
    ].map((ip) => send('/', { ip }).status);
    expect(statuses).toEqual([200, 429, 429, 200]);
  });

  it('count an IPv6 client by its network', () => {
    const { send } = fetcher({ perIp: { limit: 1, windowMs: 1000 }, ipv6PrefixBits: 56 });
    expect(send('/', { ip: '2001:db8:0:100::1' }).status).toBe(200);
    expect(send('/', { ip: '2001:db8:0:1ff::2' }).status).toBe(429);
    expect(send('/', { ip: '2001:db8:0:200::1' }).status).toBe(200);
    expect(clientKeyOf('2001:db8:1:2:3:4:5:6', 128)).toBe('2001:db8:1:2:3:4:5:6');
    expect(clientKeyOf('2001:db8:1:2::', 49)).toBe('2001:db8:1::/49');
  });

  it('refuse wrong options, naming them', () => {
    const fieldOf = (rate: object): unknown => {
      try {
        portcullis({ limits: {}, requests: { rate } }).close();
        return undefined;
      } catch (error) {
        return (error as { field?: string }).field;
      }
    };
    const limit = { limit: 1, windowMs: 1 };
    expect(fieldOf({ perUser: limit })).toBe('requests.rate.user');
    expect(fieldOf({ key: () => 'a' })).toBe('requests.rate.key');
    expect(fieldOf({ perRoute: { login: limit } })).toBe('requests.rate.perRoute');
    expect(fieldOf({ headers: ['draft-7'] })).toBe('requests.rate.headers');
    expect(fieldOf({ perIp: { ...limit, max: 1 } })).toBe('requests.rate.perIp.max');
    expect(fieldOf({ perIp: { limit: 0, windowMs: 1 } })).toBe('requests.rate.perIp.limit');
    expect(fieldOf({ perIp: new RateLimiter(limit) })).toBe(undefined);
  });

  it('find one path in all its spellings', () => {
    for (const target of ['/login', '/LOGIN/', '//login', '/%6cogin?a', '/login;x=1', '\\login'])
      expect(normalizedPath(target)).toBe('/login');
    expect([normalizedPath('/'), normalizedPath('/%zz/'), normalizedPath('')]).toEqual([
      '/',
      '/%zz',
      '',
    ]);
  });

  it('on Node, count the answer by its status and leave no header behind on a refusal', async () => {
    const guard = portcullis({
      limits: {},
      requests: {
        rate: {
          perUser: { limit: 1, windowMs: 60_000 },
          user: (request: IncomingMessage) => request.headers['x-user'] as string | undefined,
          skipFailed: true,
        },
      },
    });
    const server = createServer(
      guard.request((request, response) => {
        response.statusCode = request.url === '/fails' ? 500 : 200;
        response.end('done');
      }),
    ).listen(0);
    ends.push(
      () => guard.close(),
      () => server.close(),
    );
    await new Promise((resolve) => server.once('listening', resolve));
    const { port } = server.address() as AddressInfo;
    const statusOf = async (path: string): Promise<unknown> => {
      const response = await fetch(`http://127.0.0.1:${port}${path}`, {
        headers: { 'x-user': 'ann', connection: 'close' },
      });
      await response.text();
      return [response.status, response.headers.get('ratelimit')];
    };
    for (let i = 0; i < 3; i++) expect(await statusOf('/fails')).toEqual([500, '"user";r=0;t=60']);
    expect(await statusOf('/')).toEqual([200, '"user";r=0;t=60']);
    expect(await statusOf('/')).toEqual([429, '"user";r=0;t=60']);
    expect(guard.explainRates({ user: 'ann' })[0]?.wouldRefuse).toBe(true);
    expect(guard.snapshot().rates?.limiters.user?.keys).toBe(1);
  });
});
