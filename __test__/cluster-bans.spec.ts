import { afterEach, describe, expect, it } from 'vitest';
import { freePort, Redis, SERVER, withClient } from '../cluster/redis.mjs';
import { Cluster, ConnectionManager } from '../dist/index.js';
import { Peer } from './fixtures/cluster-peer.js';
import { until } from './fixtures/until.js';

// Said once here; the test is shown as skipped.
if (SERVER === undefined)
  console.warn('cluster-bans.spec.ts: neither redis-server nor valkey-server is on the PATH');

const ends: (() => unknown)[] = [];
afterEach(async () => {
  for (const end of ends.splice(0).toReversed()) await end();
});

describe.skipIf(SERVER === undefined)('bans of a cluster', () => {
  const FOREVER = { failures: 3, windowMs: 7000, banMs: 600_000, maxBanMs: 3_600_000 };

  /** A server, a manager of this process, and a way to start another process. */
  async function clustered() {
    const port = await freePort();
    const redis = await new Redis(port, []).start();
    ends.push(() => redis.remove());
    const options = { url: `redis://127.0.0.1:${port}`, leaseMs: 1000 };
    const cluster = new Cluster(options);
    ends.push(() => cluster.close());
    const told: unknown[] = [];
    const manager = new ConnectionManager({}, { name: 'chat', cluster, banAfter: FOREVER });
    ends.push(() => manager.close());
    manager.on('banned', ({ address, cause, bans }) => told.push([address, cause, bans]));
    manager.on('unbanned', ({ address }) => told.push(address));
    const join = async (): Promise<Peer> => {
      const peer = new Peer({ options, manager: { banAfter: FOREVER } });
      ends.push(() => peer.end());
      await peer.run('await cluster.ready()');
      return peer;
    };
    const flush = () => withClient(port, (client) => client.call('FLUSHALL'));
    await cluster.ready();
    return { manager, cluster, told, join, flush };
  }
  const codeAt = (peer: Peer, ip: string) => peer.run<string>(`return open(${JSON.stringify(ip)})`);
  const bannedAt = (peer: Peer) =>
    peer.run<string>('return manager.bans().map((ban) => ban.address).join()');

  it('hold in all processes, those that join later included, until they are lifted', async () => {
    const { manager, cluster, told, join, flush } = await clustered();
    const peer = await join();
    for (let at = 0; at < 3; at++) manager.failed('192.0.2.1');
    await until(async () => (await codeAt(peer, '192.0.2.1')) === 'banned');
    const [own] = manager.bans();
    const there = await peer.run<{ since: number; until: number; cause: string; bans: number }>(
      'return manager.bans()[0]',
    );
    expect(there).toMatchObject({ address: '192.0.2.1', cause: 'cluster', failures: 3, bans: 1 });
    expect(Math.abs(there.until - own!.until)).toBeLessThan(1000);
    expect(await codeAt(peer, '192.0.2.2')).toBe('granted');
    // Failures are counted by each process; the next ban is longer everywhere.
    await peer.run('for (let at = 0; at < 3; at++) manager.failed("2001:db8::1")');
    await until(() => manager.bans().length === 2);
    const later = await join();
    await until(async () => (await bannedAt(later)).split(',').length === 2);
    // A server that loses everything gets the bans back.
    await flush();
    await until(() => cluster.snapshot().managers[0]?.losses === 1);
    await until(() => cluster.state === 'up');
    const last = await join();
    await until(async () => (await bannedAt(last)).split(',').length === 2);
    expect(await later.run('return manager.unban("192.0.2.1")')).toBe(true);
    for (const other of [peer, last])
      await until(async () => (await bannedAt(other)) === '2001:db8::/64');
    await until(() => manager.bans().length === 1);
    expect((await manager.admit('192.0.2.1')).success).toBe(true);
    expect(told).toEqual([
      ['192.0.2.1', 'failures', 1],
      ['2001:db8::/64', 'cluster', 1],
      '192.0.2.1',
    ]);
    // The end of a ban ends no later one, also where the entries of both are read anew.
    manager.ban('192.0.2.1', 500_000);
    for (const other of [peer, later, last])
      await until(async () => (await bannedAt(other)).includes('192.0.2.1'));
    const reader = await join();
    await until(async () => (await bannedAt(reader)).includes('192.0.2.1'));
    manager.unban('192.0.2.1');
    await until(async () => !(await bannedAt(reader)).includes('192.0.2.1'));
    const final = await join();
    await until(async () => (await bannedAt(final)) === '2001:db8::/64');
    // Another ban at once, such as a shorter one, holds in all processes.
    manager.ban('192.0.2.1', 500_000);
    manager.unban('192.0.2.1');
    manager.ban('192.0.2.1', 400_000);
    for (const other of [peer, later, last])
      await until(async () => (await bannedAt(other)).includes('192.0.2.1'));
  }, 60_000);

  it('last as long as they are told where the wall clock of a process is ahead', async () => {
    const { manager, join } = await clustered();
    const peer = await join();
    await peer.run('const now = Date.now; Date.now = () => now() + 7_200_000');
    manager.ban('198.51.100.1', 500_000);
    await until(async () => (await codeAt(peer, '198.51.100.1')) === 'banned');
    await peer.run('manager.ban("198.51.100.2", 500_000)');
    const learnt = () => manager.bans().find(({ address }) => address === '198.51.100.2');
    await until(() => learnt() !== undefined);
    expect(learnt()!.until - Date.now()).toBeLessThanOrEqual(500_001);
    // Another one of the same address is the later one everywhere.
    manager.unban('198.51.100.2');
    await until(async () => (await bannedAt(peer)) === '198.51.100.1');
    manager.unban('198.51.100.1');
    await until(async () => (await bannedAt(peer)) === '');
    manager.ban('198.51.100.2', 400_000);
    await until(async () => (await bannedAt(peer)) === '198.51.100.2');
  });
});
