import { spawn } from 'node:child_process';
import { createHmac } from 'node:crypto';
import { afterEach, describe, expect, it } from 'vitest';
import { freePort, Redis, SERVER, withClient } from '../cluster/redis.mjs';
import {
  Cluster,
  type ClusterLimiter,
  type ClusterOptions,
  type ConnectionLimits,
  ConnectionManager,
  TokenVerifier,
} from '../dist/index.js';
import { FakeSocket } from '../dist/testing.js';
import { VerifiedToken } from '../dist/tokens/verified-token.js';
import type { IsRevoked } from '../dist/tokens/verifier.js';
import { Peer } from './fixtures/cluster-peer.js';
import { LastReply } from './fixtures/last-reply.js';
import { until } from './fixtures/until.js';

// A real server and real processes: events, presence and rates over all of them.

const LEASE_MS = 1000;
/** Nothing is decided here because a busy machine is slow. */
const PATIENT = { leaseMs: 10_000, admitTimeoutMs: 1000 };
/** The same for tests that wait for a lease. */
const CALM = { leaseMs: 4000, admitTimeoutMs: 400 };
const ends: (() => unknown)[] = [];
afterEach(async () => {
  for (const end of ends.splice(0).toReversed()) await end();
});

// Said once here; each test below is shown as skipped.
if (SERVER === undefined)
  console.warn('cluster-events.spec.ts: neither redis-server nor valkey-server is on the PATH');

async function server(): Promise<{ port: number; redis: Redis; url: string }> {
  const port = await freePort();
  const redis = await new Redis(port, []).start();
  ends.push(() => redis.remove());
  return { port, redis, url: `redis://127.0.0.1:${port}` };
}

/** A process of its own and this one, both up. */
async function pair(
  limits: ConnectionLimits = {},
  options: Partial<ClusterOptions> = {},
  own: { readonly onFull?: 'closeOldest' } = {},
) {
  const { port, redis, url } = await server();
  const all = { url, leaseMs: LEASE_MS, onUnreachable: 'closed' as const, ...options };
  const peer = new Peer({ options: { ...all, nodeName: 'peer' }, limits, manager: own });
  ends.push(() => peer.end());
  const cluster = new Cluster({ ...all, nodeName: 'here' });
  ends.push(() => cluster.close());
  const refused: string[] = [];
  const manager = new ConnectionManager(limits, {
    name: 'chat',
    cluster,
    ...own,
    onRefuse: ({ code, late }) => refused.push(late === true ? `${code} late` : code),
  });
  ends.push(() => manager.close());
  const call = (...parts: unknown[]) => withClient(port, (client) => client.call(...parts));
  const ready = async (): Promise<void> => {
    await cluster.ready();
    await peer.run('await cluster.ready()');
    await until(() => cluster.snapshot().managers[0]?.members === 2);
  };
  await ready();
  return { port, redis, url, all, peer, cluster, manager, refused, call, ready };
}

async function open(manager: ConnectionManager, user: string): Promise<FakeSocket | string> {
  const lease = await manager.admit('192.0.2.1', user);
  if (!lease.success) return lease.code;
  const socket = new FakeSocket();
  const result = manager.commit(lease, `${user} ${Math.random()}`, socket);
  return result.success ? socket : result.code;
}

describe.skipIf(SERVER === undefined)('events of a cluster', () => {
  it('closeUser() closes the sockets of a user in all processes, and in no other', async () => {
    const { peer, manager, cluster } = await pair({}, CALM);
    const mine = (await open(manager, 'ada')) as FakeSocket;
    const other = (await open(manager, 'bob')) as FakeSocket;
    expect(await peer.run('return open("192.0.2.2", "ada", "a")')).toBe('granted');
    expect(await peer.run('return open("192.0.2.2", "bob", "b")')).toBe('granted');
    expect(await cluster.count('ada')).toBe(2);
    expect(await manager.closeUser('ada', { reason: 'signed out' })).toEqual({ connections: 2 });
    expect(mine.closed).toEqual([{ code: 4003, reason: 'signed out' }]);
    await until(() => peer.run<boolean>('return own.a.closed.length === 1'));
    expect(await peer.run('return own.a.closed[0]')).toEqual({ code: 4003, reason: 'signed out' });
    expect(await peer.run('return own.b.closed')).toEqual([]);
    expect(other.closed).toEqual([]);
    await until(async () => !(await cluster.isOnline('ada')));
    // A later connection is not closed, not even by the process's own event.
    const later = (await open(manager, 'ada')) as FakeSocket;
    expect(await peer.run('return manager.closeUser("bob")')).toEqual({ connections: 2 });
    await until(() => other.closed.length === 1);
    expect(later.closed).toEqual([]);
  });

  it('drain() and resume() act on all processes, manager.drain() on its own', async () => {
    const { peer, manager, cluster } = await pair();
    manager.drain();
    expect(await open(manager, 'ada')).toBe('draining');
    expect(await peer.run('return open("192.0.2.2", "ada")')).toBe('granted');
    manager.resume();
    await peer.run('await cluster.drain("new version", 60_000)');
    await until(async () => (await open(manager, 'ada')) === 'draining');
    expect(await peer.run('return open("192.0.2.2", "ada")')).toBe('draining');
    await cluster.resume();
    await until(async () => (await open(manager, 'ada')) instanceof FakeSocket);
    await until(async () => (await peer.run('return open("192.0.2.2", "ada")')) === 'granted');
    // By itself, by the server's clock.
    await cluster.drain('a moment', 300);
    await until(async () => (await open(manager, 'eve')) === 'draining');
    await until(async () => (await open(manager, 'eve')) instanceof FakeSocket);
  });

  it('a drain is no longer than its time for a process that joins after the clock was set back', async () => {
    const { cluster, call, all } = await pair();
    await cluster.drain('deploy', 60_000);
    // The stored end of the drain, as if the server's clock had gone back by ten minutes since.
    await call('HINCRBY', '{pc2:chat}:m', 'du', 600_000);
    const late = new Peer({ options: all, limits: {} });
    ends.push(() => late.end());
    const leftMs = () => late.run('return cluster.snapshot().managers[0].drain?.leftMs ?? 0');
    await until(async () => (await leftMs()) !== 0);
    expect(await leftMs()).toBeLessThanOrEqual(60_000);
    expect(cluster.snapshot().managers[0]?.drain?.leftMs).toBeLessThanOrEqual(60_000);
  });

  it('a drain and new limits survive a server that loses everything', async () => {
    const { peer, manager, cluster, call } = await pair({ maxConnectionsPerUser: 5 });
    manager.updateLimits({ maxConnectionsPerUser: 1 });
    await cluster.settled();
    await cluster.drain('maintenance', 60_000);
    await until(async () => (await open(manager, 'ada')) === 'draining');
    await call('FLUSHALL');
    await until(() => cluster.snapshot().managers[0]?.losses === 1);
    await until(() => cluster.state === 'up');
    await until(() => peer.run<boolean>('return cluster.state === "up"'));
    expect(await open(manager, 'ada')).toBe('draining');
    await cluster.resume();
    await until(async () => (await open(manager, 'ada')) instanceof FakeSocket);
    expect(cluster.snapshot().managers[0]).toMatchObject({ limitsRevision: 1 });
    await until(async () => (await peer.run('return open("192.0.2.2", "ada")')) === 'user_limit');
  });

  it('updateLimits() acts on all processes, those that start later included', async () => {
    const { peer, manager, cluster, all } = await pair({
      maxConnectionsPerUser: 5,
      maxConnectionsPerIp: 50,
      connectRatePerIp: { limit: 100, windowMs: 1000 },
    });
    manager.updateLimits({ maxConnectionsPerUser: 2, messageRate: { limit: 5, windowMs: 1000 } });
    manager.updateLimits({ maxTotalConnections: 3 });
    await cluster.settled();
    expect(manager.snapshot().limits).toMatchObject({
      maxConnectionsPerUser: 2,
      maxTotalConnections: 3,
      maxConnectionsPerIp: 50,
      connectRatePerIp: { limit: 100, windowMs: 1000 },
    });
    await until(() =>
      peer.run<boolean>('return manager.snapshot().limits.maxTotalConnections === 3'),
    );
    expect(await peer.run('return manager.snapshot().limits.messageRate')).toBe(null);
    expect(await peer.run('return cluster.snapshot().managers[0].limitsRevision')).toBe(2);
    for (const code of ['granted', 'granted', 'user_limit'])
      expect(await peer.run('return open("192.0.2.2", "ada")')).toBe(code);
    const late = new Peer({ options: all, limits: { maxConnectionsPerUser: 9 } });
    ends.push(() => late.end());
    await late.run('await cluster.ready()');
    expect(await late.run('return open("192.0.2.3", "ada")')).toBe('user_limit');
    expect(await late.run('return manager.snapshot().limits.maxConnectionsPerUser')).toBe(2);
    expect(await late.run('return open("192.0.2.3", "bob")')).toBe('granted');
    expect(await open(manager, 'bob')).toBe('total_limit');
  });

  it('a manager of the name that is made after updateLimits() has the limits in force', async () => {
    const limits = { maxConnectionsPerUser: 5, maxTotalConnections: 9 };
    const { peer, manager, cluster } = await pair(limits);
    const second = () => new ConnectionManager(limits, { name: 'chat', cluster });
    const before = second();
    ends.push(() => before.close());
    manager.updateLimits({ maxConnectionsPerUser: 2 });
    await cluster.settled();
    const later = second();
    ends.push(() => later.close());
    // In the other process, too, which has only heard of the change.
    await until(() =>
      peer.run<boolean>('return manager.snapshot().limits.maxConnectionsPerUser === 2'),
    );
    const made = `new ConnectionManager(${JSON.stringify(limits)}, { name: 'chat', cluster })`;
    expect(
      await peer.run(
        `own.second = ${made}; return own.second.snapshot().limits.maxConnectionsPerUser`,
      ),
    ).toBe(2);
    for (const one of [before, later])
      expect(one.snapshot().limits).toMatchObject({ maxConnectionsPerUser: 2 });
    for (const one of [before, later]) expect(await open(one, 'ada')).toBeInstanceOf(FakeSocket);
    expect(await open(later, 'ada')).toBe('user_limit');
    // The limits of the name are compared as they were given.
    expect(
      () => new ConnectionManager({ maxTotalConnections: 1 }, { name: 'chat', cluster }),
    ).toThrow(expect.objectContaining({ code: 'ERR_CLUSTER_CONFLICT' }));
  });

  it('updateLimits() tells nobody of limits that only this process has', async () => {
    const { peer, manager, cluster } = await pair({ maxConnectionsPerUser: 5 });
    manager.updateLimits({ messageRate: { limit: 5, windowMs: 1000 }, connectionTimeoutMs: 9000 });
    manager.updateLimits({});
    await cluster.settled();
    expect(manager.snapshot().limits).toMatchObject({
      connectionTimeoutMs: 9000,
      maxConnectionsPerUser: 5,
    });
    expect(cluster.snapshot().managers[0]).toMatchObject({
      limitsRevision: 0,
      limitsDiffer: false,
    });
    expect(await peer.run('return cluster.snapshot().managers[0].limitsRevision')).toBe(0);
  });

  it('a cluster that has limiters only has a state', async () => {
    const { url, redis } = await server();
    const cluster = new Cluster({ url, leaseMs: LEASE_MS });
    ends.push(() => cluster.close());
    const told: string[] = [];
    cluster.on('state', (state, name) => told.push(`${state} ${JSON.stringify(name)}`));
    expect(cluster.state).toBe('joining');
    cluster.limiter({ name: 'api', limit: 1, windowMs: 1000 });
    await cluster.ready();
    expect([cluster.state, cluster.snapshot().managers]).toEqual(['up', []]);
    await redis.kill();
    await until(() => cluster.state === 'unreachable');
    await until(() => told.includes('unreachable ""'));
    // Limiters do not wait until the counts of connections have settled.
    expect(told).toEqual(['up ""', 'unreachable ""']);
  });

  it('updateLimits() lifts a limit, and sets the message rates of this process at once', async () => {
    const { manager, cluster } = await pair({ maxConnectionsPerUser: 1, maxConnectionsPerIp: 50 });
    const socket = await open(manager, 'ada');
    expect(socket).toBeInstanceOf(FakeSocket);
    const [connection] = manager.connectionsOf('ada');
    manager.updateLimits({ messageRatePerUser: { limit: 1, windowMs: 60_000, action: 'drop' } });
    expect([connection!.received(1), connection!.received(1)]).toEqual(['ok', 'drop']);
    manager.updateLimits({ maxConnectionsPerUser: undefined });
    await cluster.settled();
    expect(manager.snapshot().limits.maxConnectionsPerUser).toBeUndefined();
    expect(await open(manager, 'ada')).toBeInstanceOf(FakeSocket);
    // The news of the cluster leaves the rate as it is.
    expect(connection!.received(1)).toBe('drop');
  });

  it('updateLimits() lifts each limit that counts over all processes', async () => {
    const rate = { limit: 100, windowMs: 1000 };
    const limits = {
      maxTotalConnections: 100,
      maxConnectionsPerIp: 20,
      maxConnectionsPerPrefix: 30,
      maxConnectionsPerUser: 2,
      maxAnonymousConnections: 40,
      maxAnonymousConnectionsPerIp: 10,
      maxUnknownIpConnections: 50,
      connectRatePerIp: rate,
      connectRatePerUser: rate,
    };
    const { peer, manager, cluster } = await pair(limits, CALM);
    manager.updateLimits({ maxConnectionsPerUser: undefined });
    await cluster.settled();
    const { maxConnectionsPerUser: _, ...left } = limits;
    expect(manager.snapshot().limits).toEqual(left);
    manager.updateLimits(Object.fromEntries(Object.keys(left).map((name) => [name, undefined])));
    await cluster.settled();
    expect(manager.snapshot().limits).toEqual({});
    await until(() =>
      peer.run<boolean>('return Object.keys(manager.snapshot().limits).length === 0'),
    );
    for (let connection = 0; connection < 3; connection++)
      expect(await open(manager, 'ada')).toBeInstanceOf(FakeSocket);
  });

  it('settled() tells of a change that the server has taken and lost, and the next one is made', async () => {
    const { port, redis } = await server();
    const proxy = await new LastReply(port, 'return { tostring(num(m[2]) + 1) }').listen();
    ends.push(() => proxy.close());
    const url = `redis://127.0.0.1:${proxy.port}`;
    const cluster = new Cluster({ url, leaseMs: LEASE_MS, onUnreachable: 'closed' });
    ends.push(() => cluster.close());
    const manager = new ConnectionManager({ maxConnectionsPerUser: 9 }, { name: 'chat', cluster });
    ends.push(() => manager.close());
    await cluster.ready();
    manager.updateLimits({ maxConnectionsPerUser: 3 });
    const lost = expect(cluster.settled()).rejects.toMatchObject({
      code: 'ERR_CLUSTER_UNREACHABLE',
    });
    await until(() => proxy.isCut);
    await redis.kill();
    await redis.start();
    proxy.isCut = false;
    await lost;
    await cluster.ready();
    expect(manager.snapshot().limits.maxConnectionsPerUser).toBe(9);
    manager.updateLimits({ maxConnectionsPerUser: 2 });
    await cluster.settled();
    expect(manager.snapshot().limits.maxConnectionsPerUser).toBe(2);
  });

  it('a pending change of limits keeps the process alive until settled()', async () => {
    const { url } = await server();
    const script = `
      import { Cluster, ConnectionManager } from ${JSON.stringify(new URL('../dist/index.js', import.meta.url).href)};
      const cluster = new Cluster({ url: ${JSON.stringify(url)}, leaseMs: 1000 });
      const manager = new ConnectionManager({ maxConnectionsPerUser: 3 }, { name: 'chat', cluster });
      await cluster.ready();
      for (let most = 10; most >= 1; most--) {
        manager.updateLimits({ maxConnectionsPerUser: most });
        await cluster.settled();
      }
      console.log(manager.snapshot().limits.maxConnectionsPerUser);
      cluster.close();`;
    const child = spawn(process.execPath, ['--input-type=module', '-e', script], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    let out = '';
    child.stdout.on('data', (data: Buffer) => (out += data.toString()));
    const code = await new Promise((resolve) => child.once('close', resolve));
    expect([out.trim(), code]).toEqual(['1', 0]);
  });

  it('updateLimits() tells a conflict and an unreachable server by settled()', async () => {
    const { manager, cluster, call, redis } = await pair({ maxConnectionsPerUser: 5 });
    await call('HINCRBY', '{pc2:chat}:m', 'rev', 1);
    manager.updateLimits({ maxConnectionsPerUser: 4 });
    await expect(cluster.settled()).rejects.toMatchObject({ code: 'ERR_LIMITS_CONFLICT' });
    await cluster.settled();
    await until(() => cluster.snapshot().managers[0]?.limitsRevision === 1);
    expect(manager.snapshot().limits.maxConnectionsPerUser).toBe(5);
    redis.signal('SIGSTOP');
    manager.updateLimits({ maxConnectionsPerUser: 3 });
    await expect(cluster.settled()).rejects.toMatchObject({ code: 'ERR_CLUSTER_UNREACHABLE' });
    await expect(cluster.count('ada')).rejects.toMatchObject({ code: 'ERR_CLUSTER_UNREACHABLE' });
    await expect(manager.closeUser('ada')).rejects.toMatchObject({
      code: 'ERR_CLUSTER_UNREACHABLE',
    });
    redis.signal('SIGCONT');
  });

  it('on() tells of processes that join, leave and die, and of counts that were put right', async () => {
    const { peer, manager, cluster, all, call } = await pair();
    const told: string[] = [];
    cluster.on('memberJoined', ({ name }, manager) => told.push(`joined ${name} ${manager}`));
    cluster.on('memberLost', ({ name }, _, reason) => told.push(`${reason} ${name}`));
    const drift: number[] = [];
    cluster.on('drift', (counts) => drift.push(counts));
    const third = new Peer({ options: { ...all, nodeName: 'third' } });
    ends.push(() => third.end());
    await until(() => told.includes('joined third chat'));
    await third.end();
    await until(() => told.includes('left third'));
    peer.process.kill('SIGKILL');
    await until(() => told.includes('dead peer'));
    expect(told).toEqual(['joined third chat', 'left third', 'dead peer']);
    await open(manager, 'ada');
    for (const key of (await call('KEYS', '{pc2:chat}:b:*')) as Buffer[]) await call('DEL', key);
    await until(() => drift.length > 0);
    expect(() => cluster.on('nothing' as 'drift', () => undefined)).toThrow('event');
  });

  it('a reader that has missed events reads the state again', async () => {
    const { peer, manager, cluster, call } = await pair();
    // The stream is lost, and with it the event: the number of the next one shows it.
    await peer.run('await cluster.drain("unheard", 60_000)');
    await call('DEL', '{pc2:chat}:e');
    await until(async () => (await open(manager, 'ada')) === 'draining');
    await cluster.resume();
    await until(async () => (await open(manager, 'ada')) instanceof FakeSocket);
    // Events reach it again afterwards.
    const mine = (await open(manager, 'eve')) as FakeSocket;
    await peer.run('await manager.closeUser("eve")');
    await until(() => mine.closed.length === 1);
  });
});

describe.skipIf(SERVER === undefined)('presence', () => {
  it('knows the processes, and those that a user is connected to', async () => {
    const { peer, manager, cluster } = await pair();
    expect(await cluster.isOnline('ada')).toBe(false);
    await open(manager, 'ada');
    await peer.run('await open("192.0.2.2", "ada"); await open("192.0.2.2", "ada")');
    const places = await cluster.whereIs('ada');
    expect(places.map(({ name, connections }) => `${name} ${connections}`).toSorted()).toEqual([
      'here 1',
      'peer 2',
    ]);
    expect(await cluster.count('ada')).toBe(3);
    expect(await cluster.isOnline('bob')).toBe(false);
    expect(manager.connectionsOf('ada')).toHaveLength(1);
    const nodes = await cluster.nodes();
    expect(nodes.map(({ name, connections }) => `${name} ${connections}`).toSorted()).toEqual([
      'here 1',
      'peer 2',
    ]);
    for (const { id, beatAgeMs, isUp } of nodes) {
      expect([places.some(({ node }) => node === id), isUp]).toEqual([true, true]);
      expect(beatAgeMs).toBeLessThan(LEASE_MS);
    }
    peer.process.kill('SIGKILL');
    await until(async () => (await cluster.count('ada')) === 1);
  });

  it('a process with several managers is one', async () => {
    const { manager, cluster } = await pair();
    const second = new ConnectionManager({}, { name: 'feed', cluster });
    ends.push(() => second.close());
    await cluster.ready();
    await open(manager, 'ada');
    await open(second, 'ada');
    const own = (list: readonly { name: string; connections: number }[]) =>
      list.filter(({ name }) => name === 'here').map(({ connections }) => connections);
    expect(own(await cluster.nodes())).toEqual([2]);
    expect(own(await cluster.whereIs('ada'))).toEqual([2]);
    expect(() => new ConnectionManager({}, { name: '\0limits', cluster })).toThrow(
      expect.objectContaining({ code: 'ERR_OUT_OF_RANGE', field: 'name' }),
    );
  });
});

describe.skipIf(SERVER === undefined)("presence: 'names'", () => {
  it('online() lists the users of all processes, page by page, and no dead ones', async () => {
    const { peer, manager, cluster, call } = await pair({}, { presence: 'names' });
    const all = async (limit = 2): Promise<string[]> => {
      const users: string[] = [];
      let cursor: string | undefined;
      do {
        const page = await cluster.online({ cursor, limit });
        expect(page.users.length).toBeLessThan(limit + 3);
        users.push(...page.users);
        ({ cursor } = page);
      } while (cursor !== undefined);
      return users.toSorted();
    };
    const stored = async (): Promise<number> =>
      ((await call('KEYS', '{pc*:chat}:o:*')) as Buffer[]).length;
    const ada = (await open(manager, 'ada')) as FakeSocket;
    const lease = await manager.admit('192.0.2.1');
    if (!lease.success) throw new Error(lease.code);
    const { connection } = manager.commit(lease, 'late', new FakeSocket());
    for (const user of ['ada', 'bob', 'Zoë ✓'])
      expect(await peer.run(`return open("192.0.2.2", ${JSON.stringify(user)})`)).toBe('granted');
    await until(async () => (await all()).join() === 'Zoë ✓,ada,bob');
    expect(await connection?.identify('eve')).toEqual({ success: true });
    await until(async () => (await all()).join() === 'Zoë ✓,ada,bob,eve');
    expect(await peer.run('return (await cluster.online()).users.length')).toBe(4);
    // The server has lost everything: the names are told again.
    await call('FLUSHALL');
    await until(() => cluster.snapshot().managers[0]?.losses === 1);
    await until(() => cluster.state === 'up');
    await until(async () => (await all()).length === 4);
    // Gone with the last connection; those of a process that dies with its lease, and their names with them.
    connection?.close();
    await until(async () => (await all()).join() === 'Zoë ✓,ada,bob');
    peer.process.kill('SIGKILL');
    await until(async () => (await all()).join() === 'ada');
    await until(async () => (await stored()) <= 2);
    manager.connectionsOf('ada')[0]?.close();
    expect(ada.closed).toHaveLength(1);
    await until(async () => (await all()).length === 0);
    for (const [options, code] of [
      [{ limit: 0 }, 'ERR_OUT_OF_RANGE'],
      [{ cursor: 'x' }, 'ERR_OUT_OF_RANGE'],
      [{ count: 1 }, 'ERR_UNKNOWN_OPTION'],
    ] as const)
      await expect(cluster.online(options as never)).rejects.toMatchObject({ code });
  });

  it('is off by default: no name is stored, and online() says so', async () => {
    const { manager, cluster, call } = await pair();
    await open(manager, 'ada');
    await expect(cluster.online()).rejects.toMatchObject({
      code: 'ERR_UNSUPPORTED',
      field: 'presence',
    });
    expect(await cluster.count('ada')).toBe(1);
    expect(await call('KEYS', '{pc*:chat}:o:*')).toEqual([]);
  });
});

const SECRET = 'a secret of at least thirty-two bytes';
const part = (value: unknown): string => Buffer.from(JSON.stringify(value)).toString('base64url');
function tokenOf(claims: object): string {
  const head = `${part({ alg: 'HS256', typ: 'JWT' })}.${part(claims)}`;
  return `${head}.${createHmac('sha256', SECRET).update(head).digest('base64url')}`;
}

describe.skipIf(SERVER === undefined)('revocations', () => {
  const VERIFIER = `new TokenVerifier({ algorithms: ['HS256'], keys: { secret: ${JSON.stringify(SECRET)} }, cluster })`;

  it('reach all processes, those that start later, and a server that has lost them', async () => {
    const { url } = await server();
    const options = { url, leaseMs: LEASE_MS };
    const cluster = new Cluster(options);
    ends.push(() => cluster.close());
    const verifier = new TokenVerifier({
      algorithms: ['HS256'],
      keys: { secret: SECRET },
      cluster,
    });
    ends.push(() => verifier.close());
    const peer = new Peer({ options, hasManager: false });
    ends.push(() => peer.end());
    expect(await peer.run(`own.v = ${VERIFIER}; return own.v.ready()`)).toBe(true);
    expect(await verifier.ready()).toBe(true);
    const exp = Math.floor(Date.now() / 1000) + 600;
    const one = tokenOf({ sub: 'ada', jti: '1', exp, iat: exp - 700 });
    const two = tokenOf({ sub: 'bob', jti: '2', exp, iat: exp - 700 });
    const check = (token: string): Promise<unknown> =>
      peer.run(`return own.v.check(${JSON.stringify(token)})`);
    // Guards listen so, to end the sockets of revoked tokens.
    const ended: boolean[] = [];
    type Listener = (isRevoked: IsRevoked) => void;
    (verifier as unknown as { onRevocation(listener: Listener): void }).onRevocation((isRevoked) =>
      ended.push(isRevoked(VerifiedToken.of({ sub: 'bob', jti: '2', exp, iat: exp - 700 }))),
    );
    expect([await check(one), await check(two)]).toEqual([null, null]);
    verifier.revoke({ jti: '1', exp });
    await until(async () => (await check(one)) === 'ERR_TOKEN_REVOKED');
    await peer.run(`own.v.notBefore('bob', ${exp})`);
    await until(() => verifier.check(two) === 'ERR_TOKEN_REVOKED');
    expect(ended).toEqual([false, true]);
    await until(() => verifier.snapshot().shared?.unsaved === 0);
    const port = Number(new URL(url).port);
    await withClient(port, (client) => client.call('FLUSHALL'));
    const stored = (): Promise<unknown> =>
      withClient(port, (client) => client.call('ZCARD', '{pc2:%00tokens}:v'));
    await until(async () => (await stored()) === 2);
    const late = new Peer({ options, hasManager: false });
    ends.push(() => late.end());
    expect(await late.run(`own.v = ${VERIFIER}; return own.v.ready()`)).toBe(true);
    for (const token of [one, two])
      expect(await late.run(`return own.v.check(${JSON.stringify(token)})`)).toBe(
        'ERR_TOKEN_REVOKED',
      );
    expect(cluster.snapshot().managers).toEqual([]);
  });

  it('stay on a server whose clock is ahead of the processes until their own clocks have passed', async () => {
    const { url, port } = await server();
    const peer = new Peer({ options: { url, leaseMs: LEASE_MS }, hasManager: false });
    ends.push(() => peer.end());
    const behind = 'const now = Date.now; Date.now = () => now() - 7_200_000;';
    expect(await peer.run(`${behind} own.v = ${VERIFIER}; return own.v.ready()`)).toBe(true);
    for (const jti of ['1', '2', '3']) {
      await peer.run(`own.v.revoke({ jti: '${jti}', exp: Math.floor(Date.now() / 1000) + 3600 })`);
      await until(async () => (await peer.run('return own.v.snapshot().shared.unsaved')) === 0);
    }
    const stored = await withClient(port, (client) => client.call('ZCARD', '{pc2:%00tokens}:v'));
    expect(stored).toBe(3);
  });

  it('reach each issuer of a verifier', async () => {
    const { url } = await server();
    const cluster = new Cluster({ url, leaseMs: LEASE_MS });
    ends.push(() => cluster.close());
    const common = { algorithms: ['HS256'], keys: { secret: SECRET } } as const;
    const [one, several] = [
      new TokenVerifier({ ...common, cluster }),
      new TokenVerifier({
        issuers: ['a', 'b'].map((issuer) => ({ ...common, issuer })),
        cluster,
      }),
    ];
    ends.push(() => one.close());
    ends.push(() => several.close());
    expect([await one.ready(), await several.ready()]).toEqual([true, true]);
    const exp = Math.floor(Date.now() / 1000) + 600;
    const token = tokenOf({ iss: 'b', sub: 'ada', jti: '3', exp, iat: exp - 700 });
    expect(several.check(token)).toBeUndefined();
    one.revoke({ issuer: 'b', jti: '3', exp });
    await until(() => several.check(token) === 'ERR_TOKEN_REVOKED');
    expect(several.snapshot()).toMatchObject({ shared: { isRead: true, unsaved: 0 } });
    expect(
      () =>
        new TokenVerifier({
          issuers: [{ ...common, issuer: 'a', cluster }],
          algorithms: ['HS256'],
        }),
    ).toThrow('issuers[0].cluster');
  });
});

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

describe.skipIf(SERVER === undefined)('calls that cannot wait', () => {
  it('are optimistic: a client that the cluster refuses afterwards is closed', async () => {
    const { url } = await server();
    // Without the memory of refusals: each client is decided by the server.
    const options = {
      url,
      leaseMs: LEASE_MS,
      onUnreachable: 'closed' as const,
      rejectCacheMs: 0,
    };
    const limits = { maxConnectionsPerUser: 1, maxTotalConnections: 3 };
    const peer = new Peer({ options, limits });
    ends.push(() => peer.end());
    const cluster = new Cluster(options);
    ends.push(() => cluster.close());
    const refused: unknown[] = [];
    const manager = new ConnectionManager(limits, {
      name: 'chat',
      cluster,
      onRefuse: ({ code, late }) => refused.push([code, late]),
    });
    ends.push(() => manager.close());
    // Before anything is known: the policy decides at once.
    expect(manager.addConnection('a', new FakeSocket(), '192.0.2.1')).toMatchObject({
      code: 'cluster_unreachable',
    });
    await cluster.ready();
    await peer.run('await cluster.ready()');
    expect(await peer.run('return open("192.0.2.9", "ada")')).toBe('granted');
    refused.length = 0;
    const [good, bad, leased] = [new FakeSocket(), new FakeSocket(), new FakeSocket()];
    expect(manager.addConnection('b', good, '192.0.2.1', 'bob').success).toBe(true);
    expect(manager.addConnection('c', bad, '192.0.2.1', 'ada').success).toBe(true);
    // Local limits refuse at once.
    expect(manager.addConnection('d', new FakeSocket(), '192.0.2.1', 'bob')).toMatchObject({
      code: 'user_limit',
    });
    await until(() => bad.closed.length === 1);
    expect(bad.closed[0]?.code).toBe(1008);
    expect(refused).toEqual([
      ['user_limit', undefined],
      ['user_limit', true],
    ]);
    // A lease that is refused before its connection opens is given back.
    const lease = manager.reserve('192.0.2.1', 'ada');
    if (!lease.success) throw new Error(lease.code);
    await until(() => refused.length === 3);
    expect(manager.commit(lease, 'e', leased)).toMatchObject({ code: 'stale_lease' });
    // Full for all: the closed client may come back.
    expect(await peer.run('return open("192.0.2.9", "kim")')).toBe('granted');
    const late = new FakeSocket();
    manager.addConnection('f', late, '192.0.2.1', 'eve');
    await until(() => late.closed.length === 1);
    expect(late.closed[0]?.code).toBe(1013);
    expect(good.closed).toEqual([]);
    // One that has left before the answer is nobody's.
    const gone = new FakeSocket();
    const { connection } = manager.addConnection('g', gone, '192.0.2.1', 'ada');
    if (connection !== undefined) manager.release(connection);
    await until(() => cluster.snapshot().managers[0]?.confirmedSeats === 1);
    expect(gone.closed).toEqual([]);
    expect(manager.snapshot().totalConnections).toBe(1);
  });
});

describe.skipIf(SERVER === undefined)('a login after the upgrade', () => {
  const LIMITS = { maxConnectionsPerUser: 1, maxAnonymousConnections: 2 };
  const ONE_NODE = { members: 2, seats: 1, confirmedSeats: 1 };

  async function openAnonymous(manager: ConnectionManager) {
    const lease = await manager.admit('192.0.2.1');
    if (!lease.success) throw new Error(lease.code);
    const socket = new FakeSocket();
    const { connection } = manager.commit(lease, `anonymous ${Math.random()}`, socket);
    if (connection === undefined) throw new Error('refused');
    return { connection, socket };
  }

  it('identify() moves a seat in the counts of all processes, or leaves it where it was', async () => {
    const { peer, manager, cluster, call, redis } = await pair(LIMITS);
    const number = async (name: string) => Number(await call('HGET', '{pc2:chat}:m', name));
    const { connection, socket } = await openAnonymous(manager);
    expect(await peer.run('return open("192.0.2.2", "ada")')).toBe('granted');
    expect(await connection.identify('ada')).toMatchObject({ code: 'user_limit' });
    expect(connection.userId).toBeUndefined();
    expect([await number('A'), await number('T')]).toEqual([1, 2]);
    expect(await connection.identify('bob')).toEqual({ success: true });
    expect(connection.userId).toBe('bob');
    expect(await peer.run('return open("192.0.2.2", "bob")')).toBe('user_limit');
    await until(async () => (await number('A')) === 0);
    expect(await number('T')).toBe(2);
    // Two at once follow each other; the seats in between are given back.
    expect(await Promise.all([connection.identify('cid'), connection.identify('dan')])).toEqual([
      { success: true },
      { success: true },
    ]);
    expect([connection.userId, await cluster.count('dan')]).toEqual(['dan', 1]);
    await until(async () => (await cluster.count('bob')) + (await cluster.count('cid')) === 0);
    // The peer remembers its refusal for a moment.
    await until(async () => (await peer.run('return open("192.0.2.2", "bob")')) === 'granted');
    // The server does not answer: with `closed` the seat stays.
    redis.signal('SIGSTOP');
    expect(await connection.identify('eve')).toMatchObject({ code: 'cluster_unreachable' });
    expect(connection.userId).toBe('dan');
    redis.signal('SIGCONT');
    await until(() => cluster.state === 'up');
    await until(async () => (await cluster.count('eve')) === 0);
    expect(socket.closed).toEqual([]);
    expect(cluster.snapshot().managers[0]).toMatchObject(ONE_NODE);
    // A connection that ends while the question is under way leaves no seat of either user.
    redis.signal('SIGSTOP');
    const asked = connection.identify('fay');
    connection.close();
    expect(await asked).toMatchObject({ code: 'client_left' });
    redis.signal('SIGCONT');
    await until(() => cluster.state === 'up');
    await until(async () => (await cluster.count('dan')) + (await cluster.count('fay')) === 0);
    await until(() => cluster.snapshot().managers[0]?.confirmedSeats === 0);
    expect(manager.snapshot()).toMatchObject({ totalConnections: 0, connectionsByUser: 0 });
    expect(await connection.identify('gus')).toMatchObject({ code: 'closed' });
  });

  it('bindUser() is optimistic: a connection that the cluster refuses is closed', async () => {
    const { peer, manager, cluster, refused } = await pair(LIMITS, { ...CALM, rejectCacheMs: 0 });
    const good = await openAnonymous(manager);
    const bad = await openAnonymous(manager);
    expect(await peer.run('return open("192.0.2.2", "ada")')).toBe('granted');
    expect(good.connection.bindUser('bob')).toEqual({ success: true });
    // It waits for the first.
    expect(good.connection.bindUser('cid')).toEqual({ success: true });
    expect(bad.connection.bindUser('ada')).toEqual({ success: true });
    await until(() => bad.socket.closed.length === 1);
    expect(bad.socket.closed[0]?.code).toBe(1008);
    expect(refused).toEqual(['user_limit late']);
    await until(() => good.connection.userId === 'cid');
    await until(async () => (await cluster.count('bob')) === 0);
    expect(await cluster.count('cid')).toBe(1);
    expect(manager.snapshot()).toMatchObject({ totalConnections: 1, connectionsByUser: 1 });
    await until(() => cluster.snapshot().managers[0]?.confirmedSeats === 1);
    // The limits of this process decide at once.
    const third = await openAnonymous(manager);
    expect(third.connection.bindUser('cid')).toMatchObject({ code: 'user_limit' });
    expect(third.socket.closed).toEqual([]);
    // But one that waits for another move has been told that it succeeds, and is closed.
    expect(third.connection.bindUser('dan')).toEqual({ success: true });
    expect(third.connection.bindUser('cid')).toEqual({ success: true });
    await until(() => third.socket.closed.length === 1);
    expect(third.socket.closed[0]?.code).toBe(1008);
    expect(refused).toEqual(['user_limit late', 'user_limit', 'user_limit late']);
    await until(async () => (await cluster.count('dan')) === 0);
    expect(await cluster.count('cid')).toBe(1);
    expect(manager.snapshot()).toMatchObject({ totalConnections: 1, connectionsByUser: 1 });
  });
});

describe.skipIf(SERVER === undefined)("onFull: 'closeOldest' over all processes", () => {
  const REPLACED = { code: 4001, reason: 'Replaced by a newer connection' };
  const OWN = { onFull: 'closeOldest' } as const;

  it('a newcomer ends the oldest connection of its user, wherever that is', async () => {
    const { peer, manager, cluster, all, call } = await pair(
      { maxConnectionsPerUser: 2 },
      CALM,
      OWN,
    );
    const third = new Peer({ options: all, limits: { maxConnectionsPerUser: 2 }, manager: OWN });
    ends.push(() => third.end());
    await third.run('await cluster.ready()');
    const mine = (await open(manager, 'ada')) as FakeSocket;
    const other = (await open(manager, 'bob')) as FakeSocket;
    expect(await peer.run('return open("192.0.2.2", "ada", "a")')).toBe('granted');
    expect(await third.run('return open("192.0.2.3", "ada", "a")')).toBe('granted');
    expect(mine.closed).toEqual([REPLACED]);
    expect(await cluster.count('ada')).toBe(2);
    // The next one is the peer's, the one after it the third's.
    const [second, latest] = [await open(manager, 'ada'), await open(manager, 'ada')];
    expect([second, latest].every((socket) => socket instanceof FakeSocket)).toBe(true);
    expect(await peer.run('return own.a.closed')).toEqual([REPLACED]);
    expect(await third.run('return own.a.closed')).toEqual([REPLACED]);
    // Then those of this process itself, oldest first.
    expect(await open(manager, 'ada')).toBeInstanceOf(FakeSocket);
    expect([second, latest].map((socket) => (socket as FakeSocket).closed)).toEqual([
      [REPLACED],
      [],
    ]);
    expect(other.closed).toEqual([]);
    expect(manager.snapshot().totalConnections).toBe(3);
    expect(cluster.snapshot().managers[0]).toMatchObject({ takeovers: 3, replaced: 2 });
    await until(async () => Number(await call('HGET', '{pc2:chat}:m', 'T')) === 3);
  });

  it('a page that is loaded anew takes the place of its own connection, and of no other', async () => {
    const { manager, cluster } = await pair({ maxConnectionsPerUser: 2 }, CALM, OWN);
    await open(manager, 'ada');
    await open(manager, 'ada');
    for (let at = 0; at < 60; at++) {
      const [oldest] = manager.connectionsOf('ada');
      const newcomer = open(manager, 'ada');
      // Its batch is on the way by then.
      if (at % 2 === 1) await new Promise(setImmediate);
      manager.release(oldest!);
      expect([at, (await newcomer) instanceof FakeSocket]).toEqual([at, true]);
      await until(() => manager.connectionsOf('ada').length === 2);
    }
    await until(async () => (await cluster.count('ada')) === 2);
  });

  it('many at once leave as many as the limit, and no count is lost', async () => {
    const { peer, manager, cluster } = await pair({ maxConnectionsPerUser: 1 }, {}, OWN);
    const first = (await open(manager, 'ada')) as FakeSocket;
    const [here, there] = await Promise.all([
      Promise.all([open(manager, 'ada'), open(manager, 'ada')]),
      peer.run<string[]>(
        'return Promise.all(["a", "b"].map((id) => open("192.0.2.2", "ada", id)))',
      ),
    ]);
    const sockets = [first, ...here].filter((one) => one instanceof FakeSocket);
    const left = async (): Promise<number> =>
      sockets.filter(({ closed }) => closed.length === 0).length +
      (await peer.run<number>(
        'return Object.values(own).filter(({ closed }) => closed.length === 0).length',
      ));
    await until(async () => (await left()) === 1);
    const codes = [...here, ...there].filter((one) => typeof one === 'string');
    const outcomes = ['granted', 'user_limit', 'stale_lease'];
    expect(codes.filter((code) => !outcomes.includes(code as string))).toEqual([]);
    await until(async () => (await cluster.count('ada')) === 1);
    // And the next one is admitted.
    expect(await open(manager, 'ada')).toBeInstanceOf(FakeSocket);
    await until(async () => (await left()) === 0);
  });

  it('is refused while the holder is stopped, or dead for less than a lease', async () => {
    const { peer, manager, cluster } = await pair({ maxConnectionsPerUser: 1 }, {}, OWN);
    expect(await peer.run('return open("192.0.2.2", "ada", "a")')).toBe('granted');
    peer.process.kill('SIGSTOP');
    expect(await open(manager, 'ada')).toBe('user_limit');
    expect(await open(manager, 'bob')).toBeInstanceOf(FakeSocket);
    peer.process.kill('SIGCONT');
    await until(async () => (await open(manager, 'ada')) instanceof FakeSocket);
    expect(await peer.run('return own.a.closed')).toEqual([REPLACED]);
    expect(await peer.run('return open("192.0.2.2", "bob", "b")')).toBe('granted');
    peer.process.kill('SIGKILL');
    const codes: unknown[] = [];
    await until(async () => {
      codes.push(await open(manager, 'bob'));
      return codes.at(-1) instanceof FakeSocket;
    });
    expect(codes[0]).toBe('user_limit');
    expect(await cluster.count('bob')).toBe(1);
    expect(manager.snapshot().totalConnections).toBe(2);
  });
});
