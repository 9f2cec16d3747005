import { spawn, spawnSync } from 'node:child_process';
import { createServer } from 'node:http';
import { afterEach, describe, expect, it } from 'vitest';
import WebSocket, { WebSocketServer } from 'ws';
import { freePort, Redis, SERVER, withClient } from '../cluster/redis.mjs';
import { Cluster, type ClusterOptions, ConnectionManager, PortcullisError } from '../dist/index.js';
import { FakeSocket } from '../dist/testing.js';
import { portcullis } from '../dist/ws.js';
import { RefusingProxy } from './fixtures/refusing-proxy.js';
import { until } from './fixtures/until.js';

// A real server on a port of its own for each test. The faults of many processes are in cluster/.

/** Ten times the time in which a busy machine still answers. */
const LEASE_MS = 2000;
const ends: (() => unknown)[] = [];
afterEach(async () => {
  for (const end of ends.splice(0).toReversed()) await end();
});

async function redis(...args: unknown[]): Promise<{ port: number; server: Redis; url: string }> {
  const port = await freePort();
  const server = await new Redis(port, args).start();
  ends.push(() => server.remove());
  return { port, server, url: `redis://127.0.0.1:${port}` };
}

/** For tests of outcomes: a busy machine may answer late. */
const CALM = { leaseMs: 4000, admitTimeoutMs: 400 };

/** Rights of an ACL user, as docs/cluster.md has them. */
const RIGHTS =
  '+info +eval +evalsha +hget +hset +hmget +hdel +hgetall +hincrby +time +del +unlink +get +set +xadd +xread +xrange +xrevrange +zadd +zcard +zscore +zscan +zremrangebyscore';

function clusterOf(url: string, options: Partial<ClusterOptions> = {}): Cluster {
  const cluster = new Cluster({ url, leaseMs: LEASE_MS, onUnreachable: 'closed', ...options });
  ends.push(() => cluster.close());
  return cluster;
}

function managerOf(
  cluster: Cluster,
  limits: ConstructorParameters<typeof ConnectionManager>[0],
  name = 'chat',
): ConnectionManager {
  const manager = new ConnectionManager(limits, { name, cluster });
  ends.push(() => manager.close());
  return manager;
}

/** Connects a client, which the server greets; or returns the status of the refusal. */
const connectTo = (url: string): Promise<WebSocket | number> =>
  new Promise((resolve, reject) => {
    const client = new WebSocket(url);
    client.on('message', () => resolve(client));
    client.on('unexpected-response', (_, response) => resolve(response.statusCode ?? 0));
    client.on('error', reject);
  });

const codeOf = (act: () => unknown): string => {
  try {
    act();
  } catch (error) {
    if (error instanceof PortcullisError) return error.code;
    throw error;
  }
  return 'none';
};

describe('options of a cluster', () => {
  it('are checked, and no message shows a password', () => {
    const url = 'redis://localhost';
    const wrong: [ClusterOptions, string][] = [
      [{ url: 'http://user:secret@host' }, 'ERR_OUT_OF_RANGE'],
      [{ url: 5 as never }, 'ERR_INVALID_ARG_TYPE'],
      [{ url, leaseMs: 999 }, 'ERR_OUT_OF_RANGE'],
      [{ url, leaseMs: 1000, beatMs: 334 }, 'ERR_OUT_OF_RANGE'],
      [{ url, leaseMs: 1000, admitTimeoutMs: 101 }, 'ERR_OUT_OF_RANGE'],
      [{ url, prefix: 'A' }, 'ERR_OUT_OF_RANGE'],
      [{ url, onUnreachable: 'shut' as never }, 'ERR_OUT_OF_RANGE'],
      [{ url, allowEviction: 1 as never }, 'ERR_INVALID_ARG_TYPE'],
      [{ url, password: '' }, 'ERR_INVALID_ARG_TYPE'],
      [{ url, batchMax: 0 }, 'ERR_OUT_OF_RANGE'],
      [{ url, nodeName: '' }, 'ERR_OUT_OF_RANGE'],
      [{ url, nodeName: 7 as never }, 'ERR_INVALID_ARG_TYPE'],
      [{ url, strict: 'yes' as never }, 'ERR_INVALID_ARG_TYPE'],
      [{ url, leaseTimeMs: 5 } as never, 'ERR_UNKNOWN_OPTION'],
    ];
    for (const [options, code] of wrong)
      expect(
        codeOf(() => new Cluster(options)),
        JSON.stringify(options),
      ).toBe(code);
    expect(() => new Cluster({ url: 'http://user:secret@host' })).toThrow(
      /such as redis:\/\/host:6379, got "http:\/\/\(not shown\)"$/,
    );
    expect(() => new Cluster({ url: 'secret@host:6379' })).toThrow(/^(?!.*secret)/);
    expect(() => new Cluster({ urls: [url, 'rediss://user:secret@host'] })).toThrow(
      /^urls must be URLs of one scheme(?!.*secret)/,
    );
  });

  it('name the part of a URL that nobody would use or understand', () => {
    const wrong = [
      'redis://user:secret@host?protocol=resp3',
      'redis://user:secret@host/0?timeout=5',
      'redis://user:secret@host/0#secret',
      'redis://user:secret@host/99999999999999999999',
      'redis://user:secret@host/2147483648',
      'redis://user:secret@host/zero',
      'unix:///secret.sock?protocol=resp3',
      'unix:///secret.sock?db=1&db=secret',
      'unix:///secret.sock?db=secret',
      'unix:///secret.sock?pass=secret&db=',
    ];
    for (const url of wrong)
      for (const options of [{ url }, { urls: [url] }])
        expect(() => new Cluster(options)).toThrow(
          expect.objectContaining({
            code: 'ERR_CLUSTER_CONFIG',
            field: 'url' in options ? 'url' : 'urls',
            message: expect.not.stringContaining('secret') as string,
          }),
        );
    for (const url of ['redis://host/15', 'redis://host/', 'unix:///a.sock?user=a&pass=b&db=1'])
      clusterOf(url);
  });

  it('of a manager: a name, and what a cluster cannot do', async () => {
    const cluster = clusterOf('redis://127.0.0.1:1', { strict: true });
    expect(codeOf(() => new ConnectionManager({}, { cluster }))).toBe('ERR_INVALID_ARG_TYPE');
    expect(codeOf(() => new ConnectionManager({}, { cluster: {} as never }))).toBe(
      'ERR_INVALID_ARG_TYPE',
    );
    const options = { cluster, name: 'chat' };
    expect(codeOf(() => new ConnectionManager({ mode: 'observe' }, options))).toBe(
      'ERR_OUT_OF_RANGE',
    );
    const manager = managerOf(cluster, {});
    expect(codeOf(() => new ConnectionManager({}, { ...options, onFull: 'closeOldest' }))).toBe(
      'ERR_CLUSTER_CONFLICT',
    );
    expect(codeOf(() => manager.reserve('192.0.2.1'))).toBe('ERR_ASYNC_REQUIRED');
    expect(codeOf(() => manager.addConnection('a', new FakeSocket(), '192.0.2.1'))).toBe(
      'ERR_ASYNC_REQUIRED',
    );
    const open = managerOf(
      clusterOf('redis://127.0.0.1:2', { strict: true, onUnreachable: 'open' }),
      {},
    );
    const lease = await open.admit('192.0.2.1');
    if (!lease.success) throw new Error(lease.code);
    const { connection } = open.commit(lease, 'a', new FakeSocket());
    expect(codeOf(() => connection?.bindUser('ada'))).toBe('ERR_ASYNC_REQUIRED');
    expect(await connection?.identify('ada')).toEqual({ success: true });
    expect(codeOf(() => manager.updateLimits({ mode: 'observe' }))).toBe('ERR_OUT_OF_RANGE');
  });
});

describe('a cluster that nobody uses', () => {
  it('is waited for in vain, and says why', async () => {
    const cluster = clusterOf('redis://127.0.0.1:1');
    await expect(cluster.ready({ timeoutMs: 50 })).rejects.toMatchObject({
      code: 'ERR_TIMEOUT',
      message: expect.stringContaining('no manager, guard, limiter or verifier uses it'),
    });
  });

  it('drains nobody, and says so', async () => {
    const cluster = clusterOf('redis://127.0.0.1:1');
    const refused = { code: 'ERR_UNSUPPORTED', field: 'cluster' };
    await expect(cluster.drain('deploy', 1000)).rejects.toMatchObject(refused);
    await expect(cluster.resume()).rejects.toMatchObject(refused);
  });
});

describe('admit() without a cluster', () => {
  it('answers as reserve does, and knows the signal', async () => {
    using manager = new ConnectionManager({ maxConnectionsPerIp: 1 });
    const lease = await manager.admit('192.0.2.1', 'ada');
    expect(lease.success).toBe(true);
    expect(await manager.admit('192.0.2.1')).toMatchObject({ success: false, code: 'ip_limit' });
    expect(await manager.admit('192.0.2.2', '', { signal: AbortSignal.abort() })).toMatchObject({
      code: 'client_left',
    });
    expect(manager.snapshot().totalConnections).toBe(1);
    if (!lease.success) return;
    const { connection } = manager.commit(lease, 'a', new FakeSocket());
    expect(await connection?.identify('bob')).toEqual({ success: true });
    expect(connection?.userId).toBe('bob');
    await expect(connection?.identify('')).rejects.toMatchObject({ code: 'ERR_INVALID_ARG_TYPE' });
  });

  it('gives the seat back if the client leaves within a hook of the call', async () => {
    for (const cluster of [
      undefined,
      'host',
      clusterOf('redis://127.0.0.1:1', { onUnreachable: 'open' }),
    ] as const) {
      if (cluster === 'host' && process.platform !== 'linux') continue;
      const controller = new AbortController();
      using manager = new ConnectionManager(
        { maxConnectionsPerIp: 1 },
        {
          name: `left ${process.pid}`,
          cluster,
          exempt: () => {
            controller.abort();
            return false;
          },
        },
      );
      const { signal } = controller;
      expect(await manager.admit('192.0.2.1', 'ada', { signal })).toMatchObject({
        success: false,
        code: 'client_left',
      });
      expect(manager.snapshot().totalConnections).toBe(0);
      expect(await manager.admit('192.0.2.1', 'ada')).toMatchObject({ success: true });
    }
  });
});

// Said once here; each test below is shown as skipped.
if (SERVER === undefined)
  console.warn('cluster.spec.ts: neither redis-server nor valkey-server is on the PATH');

describe.skipIf(SERVER === undefined)('a cluster of two processes', () => {
  /** A second process, as far as the server knows: another prefix of the URL is another member. */
  async function pair(
    limits: ConstructorParameters<typeof ConnectionManager>[0],
    options: Partial<ClusterOptions> = {},
  ) {
    const { port, server, url } = await redis();
    const script = `
      import { Cluster, ConnectionManager } from ${JSON.stringify(new URL('../dist/index.js', import.meta.url).href)};
      const cluster = new Cluster(${JSON.stringify({ url, leaseMs: LEASE_MS, onUnreachable: 'closed', ...options })});
      const manager = new ConnectionManager(${JSON.stringify(limits)}, { name: 'chat', cluster });
      await cluster.ready();
      const codes = [];
      for (const [ip, user] of JSON.parse(process.argv[1])) codes.push((await manager.admit(ip, user)).code ?? 'granted');
      console.log(JSON.stringify(codes));
      if (process.argv[2] === 'die') process.kill(process.pid, 'SIGKILL');
      manager.close();
      cluster.close();
    `;
    const other = (clients: [string, string?][], end = 'leave'): string[] =>
      JSON.parse(
        spawnSync(
          process.execPath,
          ['--input-type=module', '--eval', script, JSON.stringify(clients), end],
          { encoding: 'utf8', timeout: 30_000 },
        ).stdout,
      ) as string[];
    const cluster = clusterOf(url, options);
    const manager = managerOf(cluster, limits);
    await cluster.ready();
    return { port, server, cluster, manager, other };
  }

  it('keeps each limit over both, and frees the seats of one that leaves or dies', async () => {
    const { manager, cluster, other } = await pair({
      maxTotalConnections: 6,
      maxConnectionsPerIp: 3,
      maxConnectionsPerUser: 2,
      maxAnonymousConnections: 2,
      maxAnonymousConnectionsPerIp: 1,
      maxConnectionsPerPrefix: 1,
    });
    const leases = [
      await manager.admit('192.0.2.1', 'ada'),
      await manager.admit('192.0.2.1'),
      await manager.admit('2001:db8::1', 'eve'),
    ];
    expect(leases.every(({ success }) => success)).toBe(true);
    expect(
      other([
        ['192.0.2.2', 'ada'],
        ['192.0.2.3', 'ada'],
        ['192.0.2.1'],
        ['2001:db8::2', 'bob'],
        ['192.0.2.4'],
        ['192.0.2.5'],
        ['192.0.2.1', 'cid'],
        ['192.0.2.1', 'dan'],
        ['192.0.2.6', 'dan'],
      ]),
    ).toEqual([
      'granted',
      'user_limit',
      'anonymous_ip_limit',
      'prefix_limit',
      'granted',
      'anonymous_limit',
      'granted',
      'total_limit',
      'total_limit',
    ]);
    // It has left: its seats are free at once.
    expect((await manager.admit('192.0.2.9', 'ada')).success).toBe(true);
    const stop: string[] = [];
    cluster.on('state', (state) => stop.push(state));
    expect(other([['192.0.2.7', 'kim']], 'die')).toEqual(['granted']);
    expect(cluster.snapshot().managers[0]?.members).toBeGreaterThan(0);
    await until(() => cluster.snapshot().managers[0]?.declaredDead === 1);
    await until(() => cluster.snapshot().managers[0]?.members === 1);
    expect(stop).toEqual([]);
  });

  it('gives seats back: of a lease that is aborted, a connection that ends, a client that leaves', async () => {
    const { manager, cluster, port } = await pair({ maxConnectionsPerUser: 1 });
    const lease = await manager.admit('192.0.2.1', 'ada');
    if (!lease.success) throw new Error(lease.code);
    expect((await manager.admit('192.0.2.1', 'ada')).success).toBe(false);
    const result = manager.commit(lease, 'a', new FakeSocket());
    expect(result.success).toBe(true);
    result.connection?.close(1000);
    await until(() => cluster.snapshot().managers[0]?.confirmedSeats === 0);
    const leaving = new AbortController();
    const waiting = manager.admit('192.0.2.1', 'ada', { signal: leaving.signal });
    leaving.abort();
    expect(await waiting).toMatchObject({ success: false, code: 'client_left' });
    await until(() => cluster.snapshot().managers[0]?.confirmedSeats === 0);
    expect(manager.snapshot().totalConnections).toBe(0);
    const total = () => withClient(port, (client) => client.call('HGET', '{pc2:chat}:m', 'T'));
    await until(async () => String(await total()) === '0');
  });

  it('answers within admitTimeoutMs while the server stands still, and is exact again after it', async () => {
    const { manager, cluster, server } = await pair({ maxConnectionsPerUser: 2 });
    expect((await manager.admit('192.0.2.1', 'ada')).success).toBe(true);
    server.signal('SIGSTOP');
    const asked = performance.now();
    const answers = await Promise.all([
      manager.admit('192.0.2.2', 'ada'),
      manager.admit('192.0.2.3', 'bob'),
    ]);
    // 100 ms, and what a busy machine adds.
    expect(performance.now() - asked).toBeLessThan(2000);
    expect(answers.map(({ success }) => success)).toEqual([false, false]);
    expect(answers[0]).toMatchObject({ code: 'cluster_unreachable' });
    expect(cluster.state).toBe('unreachable');
    server.signal('SIGCONT');
    await until(() => cluster.state === 'up');
    expect((await manager.admit('192.0.2.2', 'ada')).success).toBe(true);
    expect(await manager.admit('192.0.2.2', 'ada')).toMatchObject({ code: 'user_limit' });
    // Seats that the server granted too late were given back.
    expect((await manager.admit('192.0.2.3', 'bob')).success).toBe(true);
    expect((await manager.admit('192.0.2.3', 'bob')).success).toBe(true);
  });

  it('tells again what it holds once the server has lost everything', async () => {
    const { manager, cluster, port, other } = await pair({ maxConnectionsPerUser: 1 });
    expect((await manager.admit('192.0.2.1', 'ada')).success).toBe(true);
    await withClient(port, (client) => client.call('FLUSHALL'));
    await until(() => cluster.snapshot().managers[0]?.losses === 1);
    await until(() => cluster.state === 'up');
    expect(cluster.snapshot().managers[0]).toMatchObject({ seats: 1, confirmedSeats: 1 });
    expect(
      other([
        ['192.0.2.2', 'ada'],
        ['192.0.2.2', 'bob'],
      ]),
    ).toEqual(['user_limit', 'granted']);
  });

  it('deletes the entries of all generations that are over, though the server forgets which they are', async () => {
    const { port, url } = await redis();
    const cluster = clusterOf(url);
    const manager = managerOf(cluster, { maxConnectionsPerUser: 1 });
    await cluster.ready();
    for (let client = 0; client < 200; client++)
      await manager.admit(`192.0.2.${client}`, `user ${client}`);
    await withClient(port, async (client) => {
      const generation = async () => String(await client.call('HGET', '{pc2:chat}:m', 'g'));
      // Again before the entries of the first one can have been deleted.
      for (let left = 3; left > 0; left--) {
        const before = await generation();
        await client.call('DEL', '{pc2:chat}:m');
        await until(async () => ![before, 'null'].includes(await generation()));
      }
      await until(async () => {
        const keys = (await client.call('KEYS', '{pc2:chat}:b:*')) as Buffer[];
        const present = `:b:${await generation()}:`;
        return keys.length > 0 && keys.every((key) => key.toString('latin1').includes(present));
      });
    });
    await until(() => cluster.state === 'up');
    expect(cluster.snapshot().managers[0]).toMatchObject({ seats: 200, confirmedSeats: 200 });
  });
});

describe.skipIf(SERVER === undefined)('the threads of a process', () => {
  it.each([
    ['Node', process.execPath],
    ['Bun', 'node_modules/.bin/bun'],
  ])('are one member; a worker that is terminated leaves no seat, on %s', async (_, runtime) => {
    const { url } = await redis();
    const { stdout, stderr, status } = spawnSync(
      runtime,
      ['__test__/fixtures/cluster-worker.mjs', url],
      { encoding: 'utf8', timeout: 30_000 },
    );
    expect([stderr, status]).toEqual(['', 0]);
    expect(JSON.parse(stdout)).toEqual({
      held: [true, true, true],
      members: 1,
      isFull: true,
      refused: [null, 'user_limit', 'user_limit'],
      after: true,
    });
  });

  it('tell the listeners of a state before ready() returns, even after a blocked loop', async () => {
    const { url } = await redis();
    const cluster = clusterOf(url);
    const states: string[] = [];
    cluster.on('state', (state) => states.push(state));
    managerOf(cluster, {});
    // The network has a thread of its own: the figures go on, and the events wait for the loop.
    while (cluster.snapshot().state !== 'up');
    expect(states).toEqual([]);
    await cluster.ready();
    expect(states).toEqual(['settling', 'up']);
  });

  it('need the same options', async () => {
    const { url } = await redis();
    managerOf(clusterOf(url), {});
    const other = clusterOf(url, { leaseMs: 3000 });
    expect(codeOf(() => managerOf(other, {}))).toBe('ERR_CLUSTER_CONFLICT');
  });

  it('keep one member for a name: managers may be closed and made anew', async () => {
    const { url } = await redis();
    const cluster = clusterOf(url);
    const limits = { maxConnectionsPerUser: 1 };
    managerOf(cluster, limits).close();
    const manager = managerOf(cluster, limits);
    const states: string[] = [];
    const stop = cluster.on('state', (state) => states.push(state));
    await cluster.ready();
    expect(states).toEqual(['settling', 'up']);
    stop();
    expect(cluster.snapshot().managers).toHaveLength(1);
    expect((await manager.admit('192.0.2.1', 'ada')).success).toBe(true);
    expect(codeOf(() => managerOf(cluster, { maxConnectionsPerUser: 2 }))).toBe(
      'ERR_CLUSTER_CONFLICT',
    );
  });
});

describe.skipIf(SERVER === undefined)('while the server cannot be asked', () => {
  it.each([
    ['closed', 0, 0],
    ['open', 0, 4],
    ['share', 0, 0],
    ['share', 2, 2],
  ] as const)(
    '%s with %d expected members admits %d of 6',
    async (onUnreachable, expected, most) => {
      const { url } = await redis();
      const port = await freePort();
      const cluster = clusterOf(url.replace(/\d+$/, String(port)), {
        onUnreachable,
        expectedMembers: expected,
      });
      const manager = managerOf(cluster, { maxConnectionsPerUser: 4 });
      const outcomes = [];
      for (let left = 6; left > 0; left--) outcomes.push(await manager.admit('192.0.2.1', 'ada'));
      expect(outcomes.filter(({ success }) => success)).toHaveLength(most);
      expect(outcomes.at(-1)).toMatchObject({
        code: onUnreachable === 'open' ? 'user_limit' : 'cluster_unreachable',
      });
    },
  );

  it('ready() tells of a server that would evict seats, and of a password', async () => {
    const { url } = await redis('--maxmemory', '50mb', '--maxmemory-policy', 'allkeys-lru');
    const cluster = clusterOf(url);
    managerOf(cluster, {});
    await expect(cluster.ready()).rejects.toMatchObject({ code: 'ERR_CLUSTER_CONFIG' });
    const allowed = clusterOf(url, { allowEviction: true, prefix: 'other' });
    managerOf(allowed, {});
    await allowed.ready();
    const locked = await redis('--requirepass', 'secret');
    const refused = clusterOf(locked.url);
    managerOf(refused, {});
    await expect(refused.ready({ timeoutMs: 1500 })).rejects.toMatchObject({ code: 'ERR_TIMEOUT' });
    const known = clusterOf(locked.url, { password: 'secret', prefix: 'other' });
    managerOf(known, {});
    await known.ready();
  });

  it('takes a Unix socket and an ACL user with the documented rights', async () => {
    const { port, server } = await redis('--unixsocket', 'redis.sock');
    await withClient(port, (client) =>
      client.call('ACL', 'SETUSER', 'portcullis', 'on', '>word', '~{pc*', ...RIGHTS.split(' ')),
    );
    const cluster = clusterOf(`unix://${server.folder}/redis.sock`, {
      username: 'portcullis',
      password: 'word',
    });
    const manager = managerOf(cluster, { maxConnectionsPerUser: 1 });
    await cluster.ready();
    expect((await manager.admit('192.0.2.1', 'ada')).success).toBe(true);
    await withClient(port, (client) => client.call('FLUSHALL'));
    await until(() => cluster.snapshot().managers[0]?.losses === 1);
    await until(() => cluster.state === 'up');
    expect(await manager.admit('192.0.2.1', 'ada')).toMatchObject({ code: 'user_limit' });
  });

  it.each(['xread', 'xrange', 'xrevrange', 'del', 'unlink', 'zscan', 'evalsha', 'hincrby', 'get'])(
    'ready() names the right that an ACL user lacks: %s',
    async (missing) => {
      const { port, url } = await redis();
      const rights = RIGHTS.split(' ').filter((right) => right !== `+${missing}`);
      await withClient(port, (client) =>
        client.call('ACL', 'SETUSER', 'portcullis', 'on', '>word', '~{pc*', ...rights),
      );
      const cluster = clusterOf(url, { username: 'portcullis', password: 'word' });
      managerOf(cluster, { maxConnectionsPerUser: 1 });
      await expect(cluster.ready()).rejects.toMatchObject({
        code: 'ERR_CLUSTER_INCOMPATIBLE',
        message: expect.stringMatching(/lacks a right/) as string,
      });
    },
  );

  it('a server that refuses the read of events is asked after pauses, and it is told', async () => {
    const { port } = await redis();
    const proxy = await new RefusingProxy(port, 'BLOCK').listen();
    ends.push(() => proxy.close());
    const cluster = clusterOf(`redis://127.0.0.1:${proxy.port}`);
    managerOf(cluster, { maxConnectionsPerUser: 1 });
    await cluster.ready();
    const stats = () => cluster.snapshot().managers[0];
    await until(() => stats()?.problem?.includes('blocking') === true);
    expect(stats()?.problem).toMatch(/^events are not read: .*blocking commands are refused$/);
    const before = proxy.connections;
    const begun = performance.now();
    await new Promise((done) => setTimeout(done, 1000));
    // Without pauses there are some 1,000 a second.
    expect(proxy.connections - before).toBeLessThan(30 + (performance.now() - begun) / 100);
    proxy.isRefusing = false;
    await until(() => stats()?.problem === undefined);
    await cluster.drain('deploy', 60_000);
    await until(() => (stats()?.events ?? 0) > 0);
  });

  it('a user without a password is named to the server, and the URL is before the options', async () => {
    const { port, url } = await redis();
    await withClient(port, async (client) => {
      await client.call('ACL', 'SETUSER', 'open', 'on', 'nopass', '~*', '+@all');
      await client.call('ACL', 'SETUSER', 'locked', 'on', '>word', '~*', '+@all');
    });
    const users = () =>
      withClient(port, async (client) => [
        ...new Set(String(await client.call('CLIENT', 'LIST')).match(/user=(?:open|locked)/g)),
      ]);
    for (const [options, user] of [
      [{ url, username: 'open' }, 'open'],
      [{ url: url.replace('//', '//open@') }, 'open'],
      [{ url: url.replace('//', '//locked:word@'), username: 'open', password: 'no' }, 'locked'],
      [{ url: url.replace('//', '//locked@'), username: 'open', password: 'word' }, 'locked'],
    ] as const) {
      const cluster = clusterOf(url, options);
      managerOf(cluster, {});
      await cluster.ready();
      expect(await users()).toEqual([`user=${user}`]);
      cluster.close();
      await until(async () => (await users()).length === 0);
    }
  });

  it('closes: newcomers are refused, and the process ends without help', async () => {
    const { url } = await redis();
    const cluster = clusterOf(url, { prefix: 'closing' });
    const manager = managerOf(cluster, {});
    await cluster.ready();
    cluster.close();
    expect(await manager.admit('192.0.2.1')).toMatchObject({ code: 'closed' });
    expect(cluster.state).toBe('closed');
    expect(codeOf(() => managerOf(cluster, {}, 'later'))).toBe('ERR_CLOSED');
    await expect(cluster.settled()).rejects.toMatchObject({ code: 'ERR_CLOSED' });
  });
});

describe.skipIf(SERVER === undefined || 'bun' in process.versions)('the guard of ws', () => {
  it('asks the cluster before the upgrade, and refuses with 429 or 503', async () => {
    const { url, server: database } = await redis();
    const cluster = clusterOf(url, CALM);
    const guard = portcullis({
      limits: { maxConnectionsPerUser: 1 },
      identify: (request) => request.url?.slice(1),
      name: 'chat',
      cluster,
    });
    ends.push(() => guard.close());
    const http = createServer();
    const webSockets = new WebSocketServer({ noServer: true });
    guard.attach(http, webSockets);
    webSockets.on('connection', (ws) => ws.send('hello'));
    await new Promise<void>((done) => http.listen(0, '127.0.0.1', done));
    ends.push(() => new Promise((done) => http.close(done)));
    const { port } = http.address() as { port: number };
    const connect = (user: string) => connectTo(`ws://127.0.0.1:${port}/${user}`);
    await cluster.ready();
    const first = await connect('ada');
    expect(first).toBeInstanceOf(WebSocket);
    expect(await connect('ada')).toBe(429);
    (first as WebSocket).close();
    await until(() => cluster.snapshot().managers[0]?.confirmedSeats === 0);
    const again = await connect('ada');
    expect(again).toBeInstanceOf(WebSocket);
    database.signal('SIGSTOP');
    // A client that leaves while the cluster is asked gives its seat back at once.
    const leaving = new WebSocket(`ws://127.0.0.1:${port}/cid`);
    leaving.on('error', () => undefined);
    await until(() => guard.manager.snapshot().totalConnections === 2);
    leaving.terminate();
    await until(() => guard.manager.snapshot().totalConnections === 1);
    expect(await connect('bob')).toBe(503);
    database.signal('SIGCONT');
    (again as WebSocket).terminate();
    await until(() => guard.manager.snapshot().totalConnections === 0);
  });
});

describe.skipIf(SERVER === undefined)('the plugin for Elysia', () => {
  it('asks the cluster before the upgrade, and gives the seat back', async () => {
    const { url } = await redis();
    const child = spawn('node_modules/.bin/bun', ['__test__/servers/cluster-elysia.ts'], {
      env: { ...process.env, REDIS: url },
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    ends.push(() => child.kill('SIGKILL'));
    let output = '';
    child.stdout.on('data', (data: Buffer) => (output += data.toString()));
    await until(() => output.includes('listening'));
    const port = /:(\d+)\//.exec(output)?.[1];
    const first = await connectTo(`ws://127.0.0.1:${port}/ws?user=ada`);
    expect(first).toBeInstanceOf(WebSocket);
    expect(await connectTo(`ws://127.0.0.1:${port}/ws?user=ada`)).toBe(429);
    expect(await connectTo(`ws://127.0.0.1:${port}/ws?user=bob`)).toBeInstanceOf(WebSocket);
    (first as WebSocket).close();
    const confirmed = async (): Promise<unknown> => {
      const stats = (await (await fetch(`http://127.0.0.1:${port}/stats`)).json()) as {
        cluster: { managers: { confirmedSeats: number }[] };
      };
      return stats.cluster.managers[0]?.confirmedSeats;
    };
    await until(async () => (await confirmed()) === 1);
    expect(await connectTo(`ws://127.0.0.1:${port}/ws?user=ada`)).toBeInstanceOf(WebSocket);
  });
});
