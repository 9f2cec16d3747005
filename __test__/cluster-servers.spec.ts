import { afterEach, describe, expect, it } from 'vitest';
import { CERTIFICATES } from '../cluster/certificates.mjs';
import { freePort, Redis, SERVER, withClient } from '../cluster/redis.mjs';
import { RedisCluster, Sentinels, startTls } from '../cluster/servers.mjs';
import { Cluster, type ClusterOptions, ConnectionManager, PortcullisError } from '../dist/index.js';
import { until } from './fixtures/until.js';

// Servers of each kind, with one process; failovers under load are faults of `npm run cluster:trial`.

const LEASE_MS = 1000;
const NAME = 'chat';
const META = `{pc2:${NAME}}:m`;
const ends: (() => unknown)[] = [];
afterEach(async () => {
  for (const end of ends.splice(0).toReversed()) await end();
});

function join(
  options: ClusterOptions,
  name = NAME,
): { cluster: Cluster; manager: ConnectionManager } {
  const cluster = new Cluster({ leaseMs: LEASE_MS, onUnreachable: 'closed', ...options });
  ends.push(() => cluster.close());
  const manager = new ConnectionManager({ maxConnectionsPerUser: 1 }, { name, cluster });
  ends.push(() => manager.close());
  return { cluster, manager };
}

async function redis(...args: unknown[]): Promise<Redis> {
  const server = await new Redis(await freePort(), args).start();
  ends.push(() => server.remove());
  return server;
}

const urlOf = ({ port }: { port: number }): string => `redis://127.0.0.1:${port}`;
const statsOf = (cluster: Cluster) => cluster.snapshot().managers[0];

/**
 * Takes the only seat of `ada`; or finds it taken. A busy machine may answer too late: the client
 * tries again.
 */
async function admit(manager: ConnectionManager): Promise<string> {
  for (let tries = 0; ; tries++) {
    const outcome = await manager.admit('192.0.2.1', 'ada');
    if (outcome.success) return 'granted';
    if (outcome.code !== 'cluster_unreachable' || tries === 100) return outcome.code;
    await new Promise((done) => setTimeout(done, 50));
  }
}

const errorOf = (act: () => unknown): PortcullisError => {
  try {
    act();
  } catch (error) {
    if (error instanceof PortcullisError) return error;
    throw error;
  }
  throw new Error('nothing was thrown');
};

const refusal = async (cluster: Cluster, timeoutMs = 800): Promise<PortcullisError> => {
  try {
    await cluster.ready({ timeoutMs });
  } catch (error) {
    if (error instanceof PortcullisError) return error;
    throw error;
  }
  throw new Error('the cluster is ready');
};

describe('options of servers', () => {
  it('are checked, and nothing secret is shown', () => {
    const url = 'rediss://user:hidden@localhost';
    const { ca, client } = CERTIFICATES;
    const wrong: [ClusterOptions, string][] = [
      [{}, 'ERR_INVALID_ARG_TYPE'],
      [{ url, urls: [url] }, 'ERR_OUT_OF_RANGE'],
      [{ urls: [] }, 'ERR_OUT_OF_RANGE'],
      [{ urls: Array.from({ length: 17 }, () => url) }, 'ERR_OUT_OF_RANGE'],
      [{ urls: url as never }, 'ERR_INVALID_ARG_TYPE'],
      [{ urls: [url, { hidden: 1 } as never] }, 'ERR_INVALID_ARG_TYPE'],
      [{ urls: [url, 'redis://localhost'] }, 'ERR_OUT_OF_RANGE'],
      [{ urls: ['unix:///a', 'unix:///b'] }, 'ERR_OUT_OF_RANGE'],
      [{ url, sentinelMaster: '' }, 'ERR_INVALID_ARG_TYPE'],
      [{ url, tls: 5 as never }, 'ERR_INVALID_ARG_TYPE'],
      [{ url, tls: { cart: ca } as never }, 'ERR_UNKNOWN_OPTION'],
      [{ url, tls: { ca: '' } }, 'ERR_INVALID_ARG_TYPE'],
      [{ url: 'redis://localhost', tls: { ca } }, 'ERR_CLUSTER_CONFIG'],
      [{ url, tls: { ca, cert: client.cert } }, 'ERR_CLUSTER_CONFIG'],
      [{ url, tls: { ca: 'hidden' } }, 'ERR_CLUSTER_CONFIG'],
      [{ url, tls: { ca, cert: client.cert, key: 'hidden' } }, 'ERR_CLUSTER_CONFIG'],
      [{ url, tls: { ca, cert: client.cert, key: CERTIFICATES.server.key } }, 'ERR_CLUSTER_CONFIG'],
      [{ url, tls: { ca, serverName: 'a b' } }, 'ERR_CLUSTER_CONFIG'],
      [{ url: 'redis://host:port' }, 'ERR_CLUSTER_CONFIG'],
      [{ url: 'redis://hidden:0' }, 'ERR_CLUSTER_CONFIG'],
      [{ urls: ['redis://hidden/2'], sentinelMaster: 'main' }, 'ERR_CLUSTER_CONFIG'],
      [{ url: 'redis://localhost', rejectCacheMs: 5001 }, 'ERR_OUT_OF_RANGE'],
      [{ url: 'redis://localhost', releaseDelayMs: -1 }, 'ERR_OUT_OF_RANGE'],
      [{ url: 'redis://localhost', leaseTotal: 1001 }, 'ERR_OUT_OF_RANGE'],
    ];
    for (const [options, code] of wrong) {
      const error = errorOf(() => new Cluster(options));
      expect([error.code, error.message], JSON.stringify(options)).toEqual([
        code,
        expect.not.stringContaining('hidden'),
      ]);
      expect(JSON.stringify(error)).not.toContain('hidden');
    }
  });

  it('are named by the error, those of TLS too', () => {
    const url = 'rediss://localhost';
    const { ca, client } = CERTIFICATES;
    const fields = [
      { url, tls: { ca: 'hidden' } },
      { urls: [url], tls: { ca, serverName: 'a b' } },
      { url, tls: { ca, cert: client.cert, key: 'hidden' } },
    ].map((options) => errorOf(() => new Cluster(options)).field);
    expect(fields).toEqual(['tls.ca', 'tls.serverName', 'tls.key']);
  });
});

// Said once here; each test below is shown as skipped.
if (SERVER === undefined)
  console.warn('cluster-servers.spec.ts: neither redis-server nor valkey-server is on the PATH');

describe.skipIf(SERVER === undefined)('one server', () => {
  it('over TLS: trusts its authority, shows a certificate, and knows the name of the server', async (context) => {
    let tlsPort: number;
    try {
      const started = await startTls();
      ends.push(() => started.server.remove());
      tlsPort = started.tlsPort;
    } catch {
      return context.skip(`${SERVER} is built without TLS`);
    }
    const { ca, client } = CERTIFICATES;
    const url = `rediss://127.0.0.1:${tlsPort}`;
    const tls = { ca, ...client, serverName: 'redis.test' };
    const { cluster, manager } = join({ url, tls });
    await cluster.ready();
    expect([await admit(manager), await admit(manager)]).toEqual(['granted', 'user_limit']);
    // The certificate is not one of that address; then of no known authority.
    const unnamed = join({ url, tls: { ca, ...client }, prefix: 'unnamed' });
    expect((await refusal(unnamed.cluster)).code).toBe('ERR_CLUSTER_CONFIG');
    const other = { ...tls, ca: client.cert };
    const strange = join({ url, tls: other, prefix: 'strange' });
    expect((await refusal(strange.cluster)).code).toBe('ERR_CLUSTER_CONFIG');
    // The server asks for the client's certificate.
    const unknown = join({ url, tls: { ca, serverName: 'redis.test' }, prefix: 'unknown' });
    expect((await refusal(unknown.cluster)).code).toBe('ERR_TIMEOUT');
    // A server that speaks no TLS.
    const plain = await redis();
    const deaf = join({ url: `rediss://127.0.0.1:${plain.port}`, tls, prefix: 'deaf' });
    expect((await refusal(deaf.cluster)).code).toBe('ERR_TIMEOUT');
  });

  it.each([
    ['no scripts', '-eval', '-evalsha'],
    ['no writing', '-hset', '-hset'],
    ['no look at the server', '-info', '-info'],
    ['other keys', 'resetkeys', '~other:*'],
  ])('ready() tells of an ACL user with %s, and never of its password', async (_, ...less) => {
    const server = await redis();
    const rights =
      '+info +eval +evalsha +hget +hset +hmget +hdel +hgetall +hincrby +time +del +unlink +get +set +xadd +xread +xrange +xrevrange +zadd +zcard +zscore +zscan +zremrangebyscore';
    await withClient(server.port, (client) =>
      client.call('ACL', 'SETUSER', 'ada', 'on', '>hidden', '~{pc*', ...rights.split(' '), ...less),
    );
    const { cluster } = join({ url: urlOf(server), username: 'ada', password: 'hidden' });
    const error = await refusal(cluster, 3000);
    expect([error.code, error.message]).toEqual([
      'ERR_CLUSTER_INCOMPATIBLE',
      expect.not.stringContaining('hidden'),
    ]);
  });

  it('that is a replica, or refuses the password, is told as the problem', async () => {
    const primary = await redis();
    const replica = await redis('--replicaof', `127.0.0.1 ${primary.port}`);
    const { cluster } = join({ url: urlOf(replica) });
    expect(await refusal(cluster)).toMatchObject({
      code: 'ERR_TIMEOUT',
      message: expect.stringContaining('replica') as unknown,
    });
    const locked = await redis('--requirepass', 'right');
    const wrong = join({ url: `redis://:hidden@127.0.0.1:${locked.port}`, prefix: 'wrong' });
    const error = await refusal(wrong.cluster);
    expect(error.code).toBe('ERR_TIMEOUT');
    expect(error.message).toMatch(/^(?!.*hidden).*(?:password|auth)/i);
  });

  it('is asked once for a flood on a full key, and again after a seat was given back', async () => {
    const server = await redis();
    const cluster = new Cluster({ url: urlOf(server), leaseMs: LEASE_MS, rejectCacheMs: 5000 });
    ends.push(() => cluster.close());
    const manager = new ConnectionManager({ maxConnectionsPerUser: 50 }, { name: NAME, cluster });
    ends.push(() => manager.close());
    await cluster.ready();
    // As if others held the rest: this process's own index must not refuse.
    await withClient(server.port, (client) => client.call('HSET', META, 'lU', 1));
    const first = await manager.admit('192.0.2.1', 'ada');
    if (!first.success) throw new Error(first.code);
    const outcomes = new Set<string>();
    for (let left = 40; left > 0; left--) outcomes.add(await admit(manager));
    expect([...outcomes]).toEqual(['user_limit']);
    expect(statsOf(cluster)?.admissions).toMatchObject({ refused: 1, refusedByCache: 39 });
    expect(manager.snapshot().totalConnections).toBe(1);
    expect(manager.abort(first)).toBe(true);
    expect(await admit(manager)).toBe('granted');
  });

  it('gives seats ahead with leaseTotal, and the total stays exact', async () => {
    const server = await redis();
    const limits = { maxTotalConnections: 6 };
    const options = { url: urlOf(server), leaseMs: LEASE_MS, leaseTotal: 4, rejectCacheMs: 0 };
    const cluster = new Cluster(options);
    ends.push(() => cluster.close());
    const manager = new ConnectionManager(limits, { name: NAME, cluster });
    ends.push(() => manager.close());
    await cluster.ready();
    const codes: string[] = [];
    for (let client = 1; client <= 8; client++) {
      const outcome = await manager.admit(`192.0.2.${client}`, `user ${client}`);
      codes.push(outcome.success ? 'granted' : outcome.code);
    }
    expect(codes.filter((code) => code === 'granted')).toHaveLength(6);
    expect(codes.slice(6)).toEqual(['total_limit', 'total_limit']);
    expect(statsOf(cluster)?.admissions.grantedAhead).toBeGreaterThanOrEqual(4);
    // The keys of those clients are told, too: 6 users and 6 addresses.
    const told = () =>
      withClient(server.port, async (client) => {
        const keys = (await client.call('KEYS', '{pc2:chat}:b:*')) as string[];
        let fields = 0;
        for (const key of keys) fields += (await client.call('HLEN', key)) as number;
        return [fields, String(await client.call('HGET', META, 'T'))];
      });
    await until(async () => JSON.stringify(await told()) === '[12,"6"]');
  });
});

describe.skipIf(SERVER === undefined)('Sentinels', () => {
  it('name the primary, and the one after a failover', async () => {
    const all = await Sentinels.start();
    ends.push(() => all.remove());
    const gone = `redis://127.0.0.1:${await freePort()}`;
    const urls = [gone, all.url];
    const { cluster, manager } = join({ urls, sentinelMaster: 'main' });
    await cluster.ready();
    expect(await admit(manager)).toBe('granted');
    const strange = join({ urls, sentinelMaster: 'other', prefix: 'strange' });
    expect((await refusal(strange.cluster)).code).toBe('ERR_CLUSTER_CONFIG');
    await all.failOver();
    await until(() => (statsOf(cluster)?.connects ?? 0) >= 2 && cluster.state === 'up');
    expect(await admit(manager)).toBe('user_limit');
    expect(statsOf(cluster)).toMatchObject({ seats: 1, confirmedSeats: 1 });
  });
});

describe.skipIf(SERVER === undefined)('a Redis Cluster', () => {
  it('is followed to the server of each name, and to the one that a slot has moved to', async (context) => {
    let all: RedisCluster;
    try {
      all = await RedisCluster.start();
    } catch {
      return context.skip(`${SERVER} has no --cluster-port`);
    }
    ends.push(() => all.remove());
    const { cluster, manager } = join({ urls: all.urls });
    await cluster.ready();
    expect(await admit(manager)).toBe('granted');
    // Each of these names lies on another server.
    const owners = new Set<unknown>();
    for (const name of ['chat', 'feed', 'game', 'news', 'mail']) {
      owners.add((await all.ownerOf(`{pc2:${name}}:m`)).node);
      const one = join({ urls: all.urls.toReversed() }, name);
      await one.cluster.ready();
      expect(await admit(one.manager)).toBe(name === NAME ? 'user_limit' : 'granted');
    }
    expect(owners.size).toBeGreaterThan(1);
    const losses = statsOf(cluster)?.losses ?? 0;
    await all.move(META, 20);
    await until(() => (statsOf(cluster)?.losses ?? 0) > losses && cluster.state === 'up');
    expect(await admit(manager)).toBe('user_limit');
    expect(statsOf(cluster)).toMatchObject({ seats: 1, confirmedSeats: 1 });
  });
});
