// Servers of other kinds than one alone: with TLS, behind a Sentinel, as a Redis Cluster.
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { CERTIFICATES } from './certificates.mjs';
import { freePort, Redis, withClient } from './redis.mjs';

const SLOTS = 16_384;
/** Longest wait for servers to find each other. */
const READY_MS = 20_000;

async function untilTrue(title, act) {
  for (const end = Date.now() + READY_MS; ; await sleep(50)) {
    if (await act().catch(() => false)) return;
    if (Date.now() > end) throw new Error(`${title}: not within ${READY_MS} ms`);
  }
}

/** Starts a server with a TLS port besides the plain one; clients need a certificate. */
export async function startTls() {
  const server = new Redis(await freePort());
  const at = (name, text) => {
    const path = join(server.folder, name);
    writeFileSync(path, text);
    return path;
  };
  const tlsPort = await freePort();
  server.args = [
    ['--tls-port', tlsPort],
    ['--tls-cert-file', at('server.crt', CERTIFICATES.server.cert)],
    ['--tls-key-file', at('server.key', CERTIFICATES.server.key)],
    ['--tls-ca-cert-file', at('ca.crt', CERTIFICATES.ca)],
  ].flat();
  try {
    await server.start();
  } catch (error) {
    await server.remove();
    throw error;
  }
  return { server, tlsPort };
}

/** Returns what `INFO` says of one field. */
export const infoOf = (port, section, field) =>
  withClient(port, async (client) => {
    const lines = String(await client.call('INFO', section)).split('\r\n');
    return lines.find((line) => line.startsWith(`${field}:`))?.slice(field.length + 1);
  });

/** A primary, a replica and a Sentinel that watches them under the name `main`. */
export class Sentinels {
  static async start() {
    const all = new Sentinels();
    all.primary = await new Redis(await freePort()).start();
    all.replica = await new Redis(
      await freePort(),
      [
        ['--replicaof', `127.0.0.1 ${all.primary.port}`],
        ['--repl-diskless-sync-delay', 0],
      ].flat(),
    ).start();
    await untilTrue(
      'the replica',
      async () => (await infoOf(all.replica.port, 'replication', 'master_link_status')) === 'up',
    );
    all.sentinel = new Redis(await freePort());
    // A Sentinel writes into its file, and is started with nothing else.
    const path = join(all.sentinel.folder, 'sentinel.conf');
    writeFileSync(
      path,
      [
        `port ${all.sentinel.port}`,
        'bind 127.0.0.1',
        `dir ${all.sentinel.folder}`,
        `sentinel monitor main 127.0.0.1 ${all.primary.port} 1`,
        'sentinel down-after-milliseconds main 500',
        'sentinel failover-timeout main 3000',
      ].join('\n'),
    );
    all.sentinel.command = [path, '--sentinel'];
    await all.sentinel.start();
    await untilTrue('the Sentinel', () =>
      withClient(all.sentinel.port, async (client) => {
        const replicas = await client.call('SENTINEL', 'replicas', 'main');
        return replicas.length > 0;
      }),
    );
    return all;
  }

  get url() {
    return `redis://127.0.0.1:${this.sentinel.port}`;
  }

  /** Options of a `Cluster` behind it. */
  get options() {
    return { urls: [this.url], sentinelMaster: 'main' };
  }

  /** Returns the server that serves. */
  async server() {
    const port = await this.port();
    return [this.primary, this.replica].find((one) => one.port === port);
  }

  /** Returns the port of the primary, as the Sentinel names it. */
  async port() {
    const [, port] = await withClient(this.sentinel.port, (client) =>
      client.call('SENTINEL', 'get-master-addr-by-name', 'main'),
    );
    return Number(port);
  }

  /** Kills the primary; returns once the replica has taken over. */
  async failOver() {
    const { port } = this.primary;
    await this.primary.kill();
    await untilTrue('the failover', async () => (await this.port()) !== port);
    await untilTrue(
      'the new primary',
      async () => (await infoOf(this.replica.port, 'replication', 'role')) === 'master',
    );
  }

  async remove() {
    await Promise.all([this.sentinel, this.replica, this.primary].map((one) => one?.remove()));
  }
}

/** Three servers of a Redis Cluster. */
export class RedisCluster {
  static async start() {
    const all = new RedisCluster();
    all.nodes = [];
    for (let left = 3; left > 0; left--) {
      const port = await freePort();
      const node = new Redis(
        port,
        [
          ['--cluster-enabled', 'yes'],
          ['--cluster-node-timeout', 2000],
          ['--cluster-port', await freePort()],
        ].flat(),
      );
      all.nodes.push(await node.start());
    }
    await all.#join();
    return all;
  }

  /** As `redis-cli --cluster create` does it; not every server comes with that program. */
  async #join() {
    const [first, ...others] = this.nodes;
    const part = Math.ceil(SLOTS / this.nodes.length);
    for (const [at, { port }] of this.nodes.entries()) {
      const slots = Array.from(
        { length: Math.min(part, SLOTS - at * part) },
        (_, slot) => at * part + slot,
      );
      await withClient(port, async (client) => {
        await client.call('CLUSTER', 'ADDSLOTS', ...slots);
        await client.call('CLUSTER', 'SET-CONFIG-EPOCH', at + 1);
      });
    }
    for (const { port, args } of others)
      await withClient(first.port, (client) =>
        client.call('CLUSTER', 'MEET', '127.0.0.1', port, args.at(-1)),
      );
    for (const { port } of this.nodes)
      await untilTrue('the Redis Cluster', async () => {
        const info = await withClient(port, (client) => client.call('CLUSTER', 'INFO'));
        return (
          String(info).includes('cluster_state:ok') &&
          String(info).includes('cluster_known_nodes:3')
        );
      });
  }

  get urls() {
    return this.nodes.map(({ port }) => `redis://127.0.0.1:${port}`);
  }

  /** Options of a `Cluster` in it. */
  get options() {
    return { urls: this.urls };
  }

  /** Returns the server that serves a key. */
  async server(key) {
    return (await this.ownerOf(key)).node;
  }

  /** Returns the server that has the slot of a key. */
  async ownerOf(key) {
    const slot = await withClient(this.nodes[0].port, (client) =>
      client.call('CLUSTER', 'KEYSLOT', key),
    );
    for (const node of this.nodes) {
      const isMine = await withClient(node.port, async (client) => {
        const lines = String(await client.call('CLUSTER', 'NODES')).split('\n');
        const own = lines.find((line) => line.includes('myself')) ?? '';
        return own
          .split(' ')
          .slice(8)
          .filter((range) => !range.startsWith('['))
          .some((range) => {
            const [from, to = from] = range.split('-').map(Number);
            return slot >= from && slot <= to;
          });
      });
      if (isMine) return { node, slot };
    }
    throw new Error("the slot is nobody's");
  }

  /**
   * Moves the slot of a key to another server, as `redis-cli --cluster reshard` does it.
   * @param pauseMs after every 64 keys: the slot is on its way meanwhile
   */
  async move(key, pauseMs = 0) {
    const { node: from, slot } = await this.ownerOf(key);
    const to = this.nodes[(this.nodes.indexOf(from) + 1) % this.nodes.length];
    const idOf = ({ port }) =>
      withClient(port, async (client) => String(await client.call('CLUSTER', 'MYID')));
    const [source, target] = [await idOf(from), await idOf(to)];
    const set = (node, ...how) =>
      withClient(node.port, (client) => client.call('CLUSTER', 'SETSLOT', slot, ...how));
    await set(to, 'IMPORTING', source);
    await set(from, 'MIGRATING', target);
    await withClient(from.port, async (client) => {
      for (;;) {
        const keys = await client.call('CLUSTER', 'GETKEYSINSLOT', slot, 64);
        if (keys.length === 0) break;
        await client.call('MIGRATE', '127.0.0.1', to.port, '', 0, 5000, 'KEYS', ...keys);
        await sleep(pauseMs);
      }
    });
    await set(to, 'NODE', target);
    await set(from, 'NODE', target);
    for (const node of this.nodes.filter((one) => one !== to && one !== from))
      await set(node, 'NODE', target);
    return to;
  }

  async remove() {
    await Promise.all(this.nodes.map((node) => node.remove()));
  }
}
