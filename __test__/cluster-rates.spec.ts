import { afterEach, describe, expect, it } from 'vitest';
import { SERVER, withClient } from '../cluster/redis.mjs';
import { Cluster, type ClusterLimiter, ConnectionManager } from '../dist/index.js';
import { Peer } from './fixtures/cluster-peer.js';
import {
  CALM,
  endAll,
  ends,
  LEASE_MS,
  pair,
  PATIENT,
  server,
} from './fixtures/cluster-processes.js';
import { until } from './fixtures/until.js';

// A real server and real processes: rates over all of them.

afterEach(endAll);

// Said once here; each test below is shown as skipped.
if (SERVER === undefined)
  console.warn('cluster-rates.spec.ts: neither redis-server nor valkey-server is on the PATH');

describe.skipIf(SERVER === undefined)('rates over all processes', () => {
  it('a limiter counts all processes, by the clock of the server', async () => {
    const { url } = await server();
    const options = { url, ...PATIENT, expectedMembers: 2 };
    const cluster = new Cluster(options);
    ends.push(() => cluster.close());
    const peer = new Peer({ options, hasManager: false });
    ends.push(() => peer.end());
    const rate = { name: 'api', limit: 10, windowMs: 100_000 };
    const limiter = cluster.limiter(rate);
    await peer.run(`own.limiter = cluster.limiter(${JSON.stringify(rate)})`);
    await until(async () => (await limiter.take('warm', 0)).limit === 10);
    await until(() => peer.run<boolean>('return (await own.limiter.take("warm", 0)).limit === 10'));
    const taken = await Promise.all(Array.from({ length: 6 }, () => limiter.take('ada')));
    expect(taken.map(({ success, remaining }) => [success, remaining])).toEqual(
      [9, 8, 7, 6, 5, 4].map((remaining) => [true, remaining]),
    );
    expect(await peer.run('return own.limiter.take("ada", 5)')).toMatchObject({
      success: false,
      remaining: 4,
      limit: 10,
    });
    expect(await peer.run('return own.limiter.take("ada", 4)')).toMatchObject({
      success: true,
      remaining: 0,
      retryAfterMs: 0,
    });
    const refused = await limiter.take('ada');
    expect(refused.success).toBe(false);
    expect(refused.retryAfterMs).toBeGreaterThan(5000);
    expect(refused.retryAfterMs).toBeLessThanOrEqual(10_000);
    expect((await limiter.take('bob')).success).toBe(true);
    expect(await limiter.take('eve', 11)).toMatchObject({
      success: false,
      retryAfterMs: Infinity,
    });
    const port = Number(new URL(url).port);
    const keys = (await withClient(port, (client) =>
      client.call('KEYS', '{pc2:%00limits}:r:*'),
    )) as Buffer[];
    expect(new Set(keys.map(({ length }) => length)).size).toBe(1);
    for (const key of keys)
      expect(await withClient(port, (client) => client.call('PTTL', key))).toBeGreaterThan(0);
    await expect(limiter.take('')).rejects.toMatchObject({ code: 'ERR_OUT_OF_RANGE' });
  });

  it('a limiter asks the server from its first call on, also if it is made late', async () => {
    const { url } = await server();
    // A share would be one unit.
    const cluster = new Cluster({ url, ...PATIENT, expectedMembers: 100 });
    ends.push(() => cluster.close());
    const manager = new ConnectionManager({ maxTotalConnections: 10 }, { name: 'late', cluster });
    ends.push(() => manager.close());
    await cluster.ready();
    const limiter = cluster.limiter({ name: 'late', limit: 2, windowMs: 600_000 });
    const taken = await Promise.all([1, 2, 3].map(() => limiter.take('ada')));
    expect(taken.map(({ success, limit }) => [success, limit])).toEqual([
      [true, 2],
      [true, 2],
      [false, 2],
    ]);
  });

  it('limiters of one name have one rate', async () => {
    const { url } = await server();
    const cluster = new Cluster({ url, ...PATIENT });
    ends.push(() => cluster.close());
    const rate = { name: 'api', limit: 2, windowMs: 1000 };
    cluster.limiter(rate);
    expect(cluster.limiter({ ...rate, burst: 2 })).toBeDefined();
    for (const [field, other] of [
      ['limit', { limit: 3 }],
      ['windowMs', { windowMs: 2000 }],
      ['burst', { burst: 4 }],
    ] as const)
      expect(() => cluster.limiter({ ...rate, ...other })).toThrow(
        expect.objectContaining({ code: 'ERR_LIMITS_CONFLICT', field }),
      );
  });

  it('a limiter agrees with a naive count, whatever is asked at once', async () => {
    const { url } = await server();
    const cluster = new Cluster({ url, ...PATIENT, onUnreachable: 'share', expectedMembers: 2 });
    ends.push(() => cluster.close());
    // A unit takes a quarter of an hour: none comes back meanwhile.
    const limiter = cluster.limiter({ name: 'model', limit: 1, windowMs: 900_000, burst: 40 });
    // The share of a process is 20: the server has answered.
    await until(() => limiter.take('cold', 0).then(({ limit }) => limit === 40));
    let seed = 7;
    const below = (n: number): number => (seed = (seed * 48_271) % 0x7fff_ffff) % n;
    const left = new Map<string, number>();
    for (let round = 0; round < 30; round++) {
      const asked = Array.from(
        { length: 1 + below(40) },
        () => [`k${below(6)}`, below(5)] as const,
      );
      const taken = await Promise.all(asked.map(([key, cost]) => limiter.take(key, cost)));
      for (const [at, [key, cost]] of asked.entries()) {
        const before = left.get(key) ?? 40;
        const after = cost <= before ? before - cost : before;
        left.set(key, after);
        expect([key, taken[at]?.success, taken[at]?.remaining]).toEqual([
          key,
          cost <= before,
          after,
        ]);
      }
    }
  });

  it('a limiter admits its whole burst at once and not one more, whatever its interval is', async () => {
    const { port, url } = await server();
    const cluster = new Cluster({ url, ...PATIENT, onUnreachable: 'share', expectedMembers: 2 });
    ends.push(() => cluster.close());
    const taken = async (limiter: ClusterLimiter, key: number, cost: number): Promise<number> => {
      const asked = Array.from({ length: cost }, () => limiter.take(`${key}`));
      return (await Promise.all(asked)).filter(({ success }) => success).length;
    };
    for (const [limit, windowMs] of [
      [6, 60_000],
      [7, 60_000],
      [49, 86_400_000],
    ] as const) {
      const limiter = cluster.limiter({ name: `${limit}`, limit, windowMs });
      await until(() => limiter.take('warm', 0).then(({ limit: most }) => most === limit));
      for (let key = 0; key < 100; key++)
        expect(await taken(limiter, key, limit + 20), `${limit} ${key}`).toBe(limit);
    }
    // A burst in each of the calls that these are sent with, since it is there again after a microsecond.
    const fast = cluster.limiter({ name: 'fast', limit: 1_000_000, windowMs: 100, burst: 10 });
    const calls = async (): Promise<number> => {
      const told = await withClient(port, (client) => client.call('INFO', 'commandstats'));
      return Number(/^cmdstat_evalsha:calls=(\d+)/m.exec(String(told))?.[1]);
    };
    for (let key = 0; key < 20; key++) {
      const before = await calls();
      const succeeded = await taken(fast, key, 250);
      expect(succeeded).toBeGreaterThanOrEqual(10);
      expect(succeeded).toBeLessThanOrEqual(10 * ((await calls()) - before));
    }
  });

  it('a limiter while the server is away: share, open, closed', async () => {
    for (const [onUnreachable, granted] of [
      ['share', 5],
      ['open', 10],
      ['closed', 0],
    ] as const) {
      const cluster = new Cluster({
        url: 'redis://127.0.0.1:1',
        leaseMs: LEASE_MS,
        onUnreachable,
        expectedMembers: 2,
      });
      const limiter = cluster.limiter({ name: 'api', limit: 10, windowMs: 100_000 });
      const taken = await Promise.all(Array.from({ length: 12 }, () => limiter.take('ada')));
      expect(taken.filter(({ success }) => success)).toHaveLength(granted);
      expect(taken[11]?.retryAfterMs).toBeGreaterThan(0);
      expect(await limiter.take('bob', 0)).toMatchObject({
        success: true,
        remaining: granted,
        limit: 10,
        retryAfterMs: 0,
      });
      expect(await limiter.take('bob', 11)).toMatchObject({
        success: false,
        limit: 10,
        retryAfterMs: Infinity,
      });
      cluster.close();
      expect((await limiter.take('ada')).success).toBe(false);
    }
  });

  it('a limiter shares among all processes while some have not joined again', async () => {
    const { peer, cluster, redis, call } = await pair({}, { ...CALM, onUnreachable: 'share' });
    const limiter = cluster.limiter({ name: 'api', limit: 8, windowMs: 3_600_000 });
    const members = () => peer.run('return cluster.snapshot().managers[0].members');
    await peer.run("own.l = cluster.limiter({ name: 'api', limit: 8, windowMs: 3_600_000 })");
    await until(async () => (await limiter.take('bob', 0)).limit === 8 && (await members()) === 2);
    const ask = 'return (await own.l.take("bob", 0)).success';
    await until(async () => (await peer.run(ask)) === true);
    // Until the counts of the limiters have settled, which no figure shows.
    await new Promise((done) => setTimeout(done, 1.4 * CALM.leaseMs));
    peer.process.kill('SIGSTOP');
    ends.push(() => peer.process.kill('SIGCONT'));
    await call('FLUSHALL');
    await until(() => cluster.snapshot().managers[0]?.members === 1);
    await until(async () => (await limiter.take('bob', 0)).remaining === 8);
    await redis.kill();
    await until(() => cluster.state === 'unreachable');
    const taken = await Promise.all(Array.from({ length: 12 }, () => limiter.take('ada')));
    expect(taken.filter(({ success }) => success)).toHaveLength(4);
  });

  it('a limiter while the server is away remembers an exhausted key in a flood of fresh ones', async () => {
    const cluster = new Cluster({
      url: 'redis://127.0.0.1:1',
      onUnreachable: 'share',
      expectedMembers: 2,
    });
    ends.push(() => cluster.close());
    const limiter = cluster.limiter({ name: 'logins', limit: 10, windowMs: 3_600_000 });
    const take = async (): Promise<number> => {
      const taken = await Promise.all(Array.from({ length: 9 }, () => limiter.take('ada')));
      return taken.filter(({ success }) => success).length;
    };
    expect(await take()).toBe(5);
    expect(await limiter.take('ada', 0)).toMatchObject({ success: true, remaining: 0, limit: 10 });
    expect(await limiter.take('bob', 0)).toMatchObject({ success: true, remaining: 5, resetMs: 0 });
    // More than the share: only the server may admit it.
    expect(await limiter.take('bob', 6)).toMatchObject({ success: false, retryAfterMs: 1000 });
    for (let batch = 0; batch < 80; batch++)
      await Promise.all(Array.from({ length: 1000 }, (_, at) => limiter.take(`${batch} ${at}`)));
    expect(await take()).toBe(0);
    // Newcomers have their share, however full it is.
    expect((await limiter.take('eve')).success).toBe(true);
  });

  it('with closed, a server that has lost its keys admits no more than the rate', async () => {
    const { url, port } = await server();
    const cluster = new Cluster({ url, leaseMs: LEASE_MS, onUnreachable: 'closed' });
    ends.push(() => cluster.close());
    const limiter = cluster.limiter({ name: 'api', limit: 10, windowMs: 2000 });
    // A first start is no exception: the burst is there after a window.
    await until(async () => (await limiter.take('ada', 10)).success);
    await withClient(port, (client) => client.call('FLUSHALL'));
    const lost = performance.now();
    let refused = 0;
    await until(async () => {
      const { success } = await limiter.take('ada', 10);
      if (!success) refused++;
      return success;
    });
    expect(refused).toBeGreaterThan(0);
    expect(performance.now() - lost).toBeGreaterThan(1900);
  });

  it('connect rates of addresses and users count all processes', async () => {
    const { peer, manager } = await pair(
      {
        connectRatePerIp: { limit: 3, windowMs: 100_000 },
        connectRatePerUser: { limit: 2, windowMs: 100_000 },
      },
      { onUnreachable: 'open' },
    );
    const admit = async (user: string): Promise<string> => {
      const lease = await manager.admit('192.0.2.1', user);
      return lease.success ? 'granted' : lease.code;
    };
    expect(await admit('ada')).toBe('granted');
    expect(await peer.run('return open("192.0.2.9", "ada")')).toBe('granted');
    const refusal = await manager.admit('192.0.2.8', 'ada');
    expect(refusal).toMatchObject({ success: false, code: 'user_rate' });
    if (!refusal.success) expect(refusal.retryAfterMs).toBeGreaterThan(40_000);
    expect(await peer.run('return open("192.0.2.1", "bob")')).toBe('granted');
    expect(await peer.run('return open("192.0.2.1", "bob")')).toBe('granted');
    expect(await admit('eve')).toBe('ip_rate');
    expect(await peer.run('return open("192.0.2.1", "eve")')).toBe('ip_rate');
  });
});
