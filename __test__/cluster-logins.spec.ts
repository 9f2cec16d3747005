import { createHmac } from 'node:crypto';
import { afterEach, describe, expect, it } from 'vitest';
import { SERVER, withClient } from '../cluster/redis.mjs';
import { Cluster, ConnectionManager, TokenVerifier } from '../dist/index.js';
import { FakeSocket } from '../dist/testing.js';
import { VerifiedToken } from '../dist/tokens/verified-token.js';
import type { IsRevoked } from '../dist/tokens/verifier.js';
import { Peer } from './fixtures/cluster-peer.js';
import { CALM, endAll, ends, LEASE_MS, open, pair, server } from './fixtures/cluster-processes.js';
import { until } from './fixtures/until.js';

// A real server and real processes: logins, takeovers and revocations over all of them.

afterEach(endAll);

// Said once here; each test below is shown as skipped.
if (SERVER === undefined)
  console.warn('cluster-logins.spec.ts: neither redis-server nor valkey-server is on the PATH');

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

  it('are read beside entries of the server that are none', async () => {
    const { url, port } = await server();
    const exp = Math.floor(Date.now() / 1000) + 600;
    const foreign = [
      ['token', 5, 'x', exp],
      ['token', 'x', null, exp],
      ['subject', 'ada', '1', null],
      ['subject', 'ada', exp, 'x'],
      ['family', 'ada', exp, null],
      ['token', '', '1'],
      {},
    ].map((entry) => JSON.stringify(entry));
    const entries = [...foreign, 'no JSON', JSON.stringify(['token', '', '1', exp])];
    const pairs = entries.flatMap((entry) => [(exp + 600) * 1000, entry]);
    await withClient(port, (client) => client.call('ZADD', '{pc2:%00tokens}:v', ...pairs));
    const peer = new Peer({ options: { url, leaseMs: LEASE_MS }, hasManager: false });
    ends.push(() => peer.end());
    expect(await peer.run(`own.v = ${VERIFIER}; return own.v.ready()`)).toBe(true);
    const check = (claims: object): Promise<unknown> =>
      peer.run(`return own.v.check(${JSON.stringify(tokenOf({ exp, iat: 1, ...claims }))})`);
    expect(await check({ jti: '1' })).toBe('ERR_TOKEN_REVOKED');
    expect(await check({ jti: '2', sub: 'ada' })).toBe(null);
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

  it('reach a process whose wall clock is ahead for a moment, and come from it', async () => {
    const { url } = await server();
    const options = { url, leaseMs: LEASE_MS };
    const cluster = new Cluster(options);
    ends.push(() => cluster.close());
    const common = { algorithms: ['HS256'], keys: { secret: SECRET } } as const;
    const verifier = new TokenVerifier({ ...common, cluster });
    ends.push(() => verifier.close());
    const peer = new Peer({ options, hasManager: false });
    ends.push(() => peer.end());
    const clock = 'own.ahead = 0; const now = Date.now; Date.now = () => now() + own.ahead;';
    expect(await peer.run(`${clock} own.v = ${VERIFIER}; return own.v.ready()`)).toBe(true);
    expect(await verifier.ready()).toBe(true);
    const exp = Math.floor(Date.now() / 1000) + 600;
    const [one, two] = ['1', '2'].map((jti) => tokenOf({ sub: 'ada', jti, exp }));
    await peer.run('own.ahead = 3_600_000');
    verifier.revoke({ jti: '1', exp });
    await until(async () => (await peer.run('return own.v.snapshot().revocations')) === 1);
    await peer.run(`own.v.revoke({ jti: '2', exp: ${exp} })`);
    await until(() => verifier.check(two) === 'ERR_TOKEN_REVOKED');
    await peer.run('own.ahead = 0');
    for (const token of [one, two])
      expect(await peer.run(`return own.v.check(${JSON.stringify(token)})`)).toBe(
        'ERR_TOKEN_REVOKED',
      );
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

  it('of several issuers are as many, and held as long, as those of one', async () => {
    const { url, port } = await server();
    const call = (...parts: unknown[]): Promise<unknown> =>
      withClient(port, (client) => client.call(...parts));
    const KEY = '{pc2:%00tokens}:v';
    const fill = "for at = 1, 100000 do redis.call('ZADD', KEYS[1], 'inf', 'x' .. at) end";
    await call('EVAL', fill, 1, KEY);
    const common = { algorithms: ['HS256'], keys: { secret: SECRET } } as const;
    const policy = { maxRevocations: 200_000, maxAgeSeconds: 60 };
    // The longest age and tolerance of an issuer.
    const uneven = [
      { ...common, issuer: 'a', maxAgeSeconds: 10, clockToleranceSeconds: 30 },
      { ...common, issuer: 'b' },
    ];
    for (const [made, tolerance] of [
      [(cluster: Cluster) => new TokenVerifier({ ...common, ...policy, cluster }), 5],
      [
        (cluster: Cluster) =>
          new TokenVerifier({ issuers: [{ ...common, issuer: 'a' }], ...policy, cluster }),
        5,
      ],
      [(cluster: Cluster) => new TokenVerifier({ issuers: uneven, ...policy, cluster }), 30],
    ] as const) {
      const cluster = new Cluster({ url, leaseMs: LEASE_MS });
      ends.push(() => cluster.close());
      const verifier = made(cluster);
      ends.push(() => verifier.close());
      expect(await verifier.ready()).toBe(true);
      const subject = `ada ${Math.random()}`;
      const before = Math.floor(Date.now() / 1000);
      verifier.notBefore(subject, before);
      await until(() => verifier.snapshot().shared?.unsaved === 0);
      // Each such token has expired by then, even with the tolerance and clocks that differ by a minute.
      const end = before + 60 + tolerance;
      const entry = JSON.stringify(['subject', subject, before, end]);
      expect(Number(await call('ZSCORE', KEY, entry))).toBe((end + tolerance + 60) * 1000);
    }
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
    expect(await connection.identify('gus')).toMatchObject({ code: 'client_left' });
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
    // On a busy machine an answer may come too late.
    const answered = async (user: string): Promise<FakeSocket | string> => {
      const outcome = await open(manager, user);
      return outcome === 'cluster_unreachable' ? answered(user) : outcome;
    };
    expect(await peer.run('return open("192.0.2.2", "ada", "a")')).toBe('granted');
    peer.process.kill('SIGSTOP');
    expect(await answered('ada')).toBe('user_limit');
    expect(await open(manager, 'bob')).toBeInstanceOf(FakeSocket);
    peer.process.kill('SIGCONT');
    await until(async () => (await open(manager, 'ada')) instanceof FakeSocket);
    expect(await peer.run('return own.a.closed')).toEqual([REPLACED]);
    expect(await peer.run('return open("192.0.2.2", "bob", "b")')).toBe('granted');
    peer.process.kill('SIGKILL');
    const codes: unknown[] = [];
    await until(async () => {
      codes.push(await answered('bob'));
      return codes.at(-1) instanceof FakeSocket;
    });
    expect(codes[0]).toBe('user_limit');
    expect(await cluster.count('bob')).toBe(1);
    expect(manager.snapshot().totalConnections).toBe(2);
  });
});
