// Prints what one operation of a subject costs at one size, ns of CPU time of the whole process, or bytes.
// Run: node --expose-gc bench/growth/subjects.mjs SUBJECT SIZE [--quick]
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createServer } from 'node:net';
import { fileURLToPath } from 'node:url';
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
import {
  Cluster,
  ConnectionManager,
  ProductionMetrics,
  RateLimiter,
  scanJson,
  TimerManager,
} from '../../dist/index.js';
import { median } from '../compare.mjs';
import { addressOf, LIMITS, socket } from '../population.mjs';

const isQuick = process.argv.includes('--quick');
const ROUNDS = isQuick ? 3 : 9;
const CALLS = isQuick ? 2000 : 20_000;

/** Returns the CPU time of a call of `run(i)`, ns: the median of some rounds. */
function costOf(run, calls = CALLS) {
  const round = () => {
    const start = process.cpuUsage();
    for (let i = 0; i < calls; i++) run(i);
    const { user, system } = process.cpuUsage(start);
    return ((user + system) * 1000) / calls;
  };
  // One more, while the engine still compiles.
  round();
  return median(Array.from({ length: ROUNDS }, round));
}

/** Returns a flat copy, as a server gets its strings. */
const flat = (text) => Buffer.from(text).toString('latin1');
const range = (from, count, make) => Array.from({ length: count }, (_, i) => make(from + i));

function connects(live) {
  const manager = new ConnectionManager(
    { ...LIMITS, maxTotalConnections: 2 ** 22 },
    new TimerManager(),
  );
  for (let i = 0; i < live; i++)
    manager.addConnection(`live-${i}`, socket, addressOf(i), `user-${i}`);
  const ids = range(0, CALLS, (i) => flat(`new-${i}-0123456789abcdef`));
  const ips = range(2 ** 23, CALLS, (i) => flat(addressOf(i)));
  const users = range(0, CALLS, (i) => flat(`new-user-${i}`));
  return costOf((i) => {
    manager.addConnection(ids[i], socket, ips[i], users[i]);
    manager.removeConnection(ids[i]);
  });
}

/** The threads of a name, each with a thousand live connections; connects and disconnects at the same time. */
async function threads(count) {
  const pairs = isQuick ? 20_000 : 400_000;
  const workers = range(
    0,
    count,
    (at) => new Worker(fileURLToPath(import.meta.url), { workerData: { at, pairs } }),
  );
  await Promise.all(workers.map((worker) => once(worker, 'message')));
  const start = process.cpuUsage();
  for (const worker of workers) worker.postMessage('go');
  await Promise.all(workers.map((worker) => once(worker, 'message')));
  const { user, system } = process.cpuUsage(start);
  for (const worker of workers) await worker.terminate();
  return ((user + system) * 1000) / (pairs * count);
}

function threadOf({ at, pairs }) {
  const manager = new ConnectionManager(LIMITS, new TimerManager(), { name: 'growth' });
  const ipOf = (i) => addressOf(at * 2 ** 20 + i);
  for (let i = 0; i < 1000; i++)
    manager.addConnection(`live-${i}`, socket, ipOf(i), `user-${at}-${i}`);
  const ips = range(1000, 1000, (i) => flat(ipOf(i)));
  const users = range(1000, 1000, (i) => flat(`user-${at}-${i}`));
  const connect = (i) => {
    manager.addConnection('new', socket, ips[i % 1000], users[i % 1000]);
    manager.removeConnection('new');
  };
  for (let i = 0; i < 5000; i++) connect(i);
  parentPort.postMessage('ready');
  parentPort.once('message', () => {
    for (let i = 0; i < pairs; i++) connect(i);
    parentPort.postMessage('done');
  });
}

function timers(pending) {
  const manager = new TimerManager();
  const noop = () => undefined;
  for (let i = 0; i < pending; i++) manager.setTimeout(noop, 1e7 + i).unref();
  return costOf((i) => manager.clearTimeout(manager.setTimeout(noop, 1e6 + (i % 1000))));
}

function routes(count) {
  const metrics = new ProductionMetrics({ timers: new TimerManager(), maxRoutes: count });
  const details = range(0, count, (i) => ({ route: `/route/${i}`, method: 'GET', status: 200 }));
  for (const detail of details) metrics.recordRequest(1, detail);
  return costOf((i) => metrics.recordRequest(1 + (i % 50), details[(i * 7919) % count]), 5 * CALLS);
}

/** Per KiB of text. */
function json(bytes) {
  const record =
    '{"id":100007,"type":"order","user":{"name":"user-1","isActive":true},"note":"He said."}';
  const text = Buffer.from(
    `[${Array.from({ length: Math.ceil(bytes / record.length) }, () => record).join()}]`,
  );
  const calls = Math.max(isQuick ? 1 : 2, Math.floor((isQuick ? 2 ** 20 : 2 ** 24) / bytes));
  const cost = costOf(() => {
    if (!scanJson(text, { maxBytes: 2 ** 25, maxValues: 2 ** 24 }).success)
      throw new Error('refused');
  }, calls);
  return cost / (text.length / 1024);
}

function limiterKeys(keys) {
  const limiter = new RateLimiter({ limit: 1e6, windowMs: 1e9, maxKeys: keys });
  for (let i = 0; i < keys; i++) limiter.take(addressOf(i));
  const asked = range(0, CALLS, (i) =>
    flat(addressOf((Math.imul(i, 2_654_435_761 | 0) % keys) & 0xff_ffff)),
  );
  return costOf((i) => limiter.take(asked[i]));
}

/** Admissions over a cluster of one process, which holds so many keys: an address and a user for each seat. */
async function clusterKeys(keys) {
  const port = await freePort();
  const server = spawn(
    'redis-server',
    ['--port', String(port), '--bind', '127.0.0.1', '--save', ''],
    {
      stdio: 'ignore',
    },
  );
  try {
    await once(server, 'spawn');
  } catch {
    // No server is installed: not measured.
    return NaN;
  }
  process.on('exit', () => server.kill());
  const cluster = new Cluster({ url: `redis://127.0.0.1:${port}`, admitTimeoutMs: 600 });
  const manager = new ConnectionManager(
    { maxTotalConnections: 2 ** 22, maxConnectionsPerIp: 100, maxConnectionsPerUser: 100 },
    { name: 'growth', cluster, leaseTimeoutMs: 3e6 },
  );
  const admit = async (i) => {
    // Joining a new generation takes a lease: until then nobody is admitted.
    for (;;) {
      const lease = await manager.admit(addressOf(i), `user-${i}`);
      if (lease.success) return lease;
      if (lease.code !== 'cluster_unreachable' && lease.code !== 'overload')
        throw new Error(lease.code);
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  };
  const TOGETHER = 200;
  const each = async (from, count) => {
    const all = [];
    for (let at = 0; at < count; at += TOGETHER)
      all.push(...(await Promise.all(range(from + at, Math.min(TOGETHER, count - at), admit))));
    return all;
  };
  await each(0, keys);
  const costs = [];
  for (let round = 0; round < ROUNDS; round++) {
    const start = process.cpuUsage();
    const leases = await each(2 ** 22, CALLS / 4);
    const { user, system } = process.cpuUsage(start);
    costs.push(((user + system) * 1000) / leases.length);
    for (const lease of leases) manager.abort(lease);
  }
  return median(costs);
}

async function freePort() {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address();
  server.close();
  return port;
}

const SUBJECTS = { clusterKeys, connects, threads, timers, routes, json, limiterKeys };
if (isMainThread) {
  const [subject, size] = process.argv.slice(2);
  console.log(await SUBJECTS[subject](Number(size)));
  process.exit(0);
} else threadOf(workerData);
