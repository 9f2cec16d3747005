import { spawn } from 'node:child_process';
import { afterEach, describe, expect, it } from 'vitest';
import { SERVER } from '../cluster/redis.mjs';
import { Cluster, ConnectionManager } from '../dist/index.js';
import { FakeSocket } from '../dist/testing.js';
import { Peer } from './fixtures/cluster-peer.js';
import {
  CALM,
  endAll,
  ends,
  LEASE_MS,
  open,
  pair,
  server,
  STEADY,
} from './fixtures/cluster-processes.js';
import { LastReply } from './fixtures/last-reply.js';
import { until } from './fixtures/until.js';

// A real server and real processes: events and presence over all of them.

afterEach(endAll);

// Said once here; each test below is shown as skipped.
if (SERVER === undefined)
  console.warn('cluster-events.spec.ts: neither redis-server nor valkey-server is on the PATH');

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
    const { peer, manager, cluster } = await pair({}, STEADY);
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
    const { cluster, call, all } = await pair({}, STEADY);
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
    const limits = {
      maxConnectionsPerUser: 5,
      maxConnectionsPerIp: 50,
      connectRatePerIp: { limit: 100, windowMs: 1000 },
    };
    const { peer, manager, cluster, all } = await pair(limits, STEADY);
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
    const { peer, manager, cluster } = await pair(limits, STEADY);
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
    const { peer, manager, cluster } = await pair({ maxConnectionsPerUser: 5 }, STEADY);
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
    const { manager, cluster } = await pair(
      { maxConnectionsPerUser: 1, maxConnectionsPerIp: 50 },
      STEADY,
    );
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
    const { manager, cluster } = await pair({}, STEADY);
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
    const { manager, cluster, call } = await pair({}, STEADY);
    await open(manager, 'ada');
    await expect(cluster.online()).rejects.toMatchObject({
      code: 'ERR_UNSUPPORTED',
      field: 'presence',
    });
    expect(await cluster.count('ada')).toBe(1);
    expect(await call('KEYS', '{pc*:chat}:o:*')).toEqual([]);
  });
});
