// One process of `npm run cluster:bench`: does one kind of work for a time, and prints its figures as a line of JSON.
// Commands come on the standard input; it ends with it.
import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { createInterface } from 'node:readline';
import { Cluster, ConnectionManager } from '../../dist/index.js';

const { url, name, seed, options, limits } = JSON.parse(process.env.CLUSTER_BENCH);
const cluster = new Cluster({ url, leaseMs: 3000, onUnreachable: 'closed', ...options });
const manager = new ConnectionManager(
  limits ?? { maxConnectionsPerUser: 1000, maxConnectionsPerIp: 1000 },
  {
    name,
    cluster,
    leaseTimeoutMs: 600_000,
  },
);
cluster.on('state', (state) => say({ state }));
function say(line) {
  process.stdout.write(`${JSON.stringify(line)}\n`);
}

const stats = () => cluster.snapshot().managers[0];
let serial = 0;
/** A user of its own, and an address that four clients share. */
function client() {
  const at = serial++;
  const host = (seed << 20) + (at >> 2);
  return [`10.${(host >> 16) & 255}.${(host >> 8) & 255}.${host & 255}`, `u${seed}.${at}`];
}
const cpuUs = () => {
  const { user, system } = process.cpuUsage();
  return user + system;
};

/** Leases that were given back, of which a list remembers its place. */
const FORGOTTEN_MAX = 100_000;

/** Time that the kernel ran the loop's thread, ms: on a busy machine the clock would count other processes. */
function loopMs() {
  try {
    return (
      Number(readFileSync(`/proc/self/task/${process.pid}/schedstat`, 'utf8').split(' ')[0]) / 1e6
    );
  } catch {
    return Number.NaN;
  }
}

/**
 * Clients that come one after the other, each as soon as one before was answered; `hold` of them stay. Ends after `ms`, or
 * once `most` were admitted.
 */
async function flood(ms, clients, hold, most = Infinity) {
  const held = [];
  let gone = 0;
  let granted = 0;
  let refused = 0;
  let isOver = false;
  const calls = stats().calls;
  const cpu = cpuUs();
  const loop = loopMs();
  const start = performance.now();
  const one = async () => {
    while (!isOver && granted < most) {
      const lease = await manager.admit(...client());
      if (lease.success) {
        granted++;
        held.push(lease);
        if (held.length - gone > hold) manager.abort(held[gone++]);
        // Seats that are gone must not stay in the memory of a long run.
        if (gone > FORGOTTEN_MAX) {
          held.splice(0, gone);
          gone = 0;
        }
      } else refused++;
    }
  };
  const all = Promise.all(Array.from({ length: clients }, one));
  await Promise.race([all, sleep(ms, undefined, { ref: false })]);
  isOver = true;
  await all;
  const elapsed = performance.now() - start;
  const line = {
    granted,
    refused,
    elapsed,
    cpuUs: cpuUs() - cpu,
    loopMs: loopMs() - loop,
    calls: stats().calls - calls,
  };
  for (const lease of held.slice(gone)) manager.abort(lease);
  return line;
}

/** The same work in this process alone. */
async function local(ms) {
  const alone = new ConnectionManager({ maxConnectionsPerUser: 1000, maxConnectionsPerIp: 1000 });
  const held = [];
  let gone = 0;
  let count = 0;
  const loop = loopMs();
  const start = performance.now();
  while (performance.now() - start < ms) {
    for (let left = 500; left > 0; left--) {
      held.push(alone.reserve(...client()));
      count++;
      if (held.length - gone > 2000) alone.abort(held[gone++]);
    }
    await sleep(0);
  }
  const used = loopMs() - loop;
  for (const lease of held.slice(gone)) alone.abort(lease);
  alone.close();
  return { count, loopMs: used };
}

/** One client at a time; the times of its answers, ms. */
async function lone(count) {
  const times = [];
  for (let left = count; left > 0; left--) {
    const asked = performance.now();
    const lease = await manager.admit(...client());
    times.push(performance.now() - asked);
    if (lease.success) manager.abort(lease);
    await sleep(2);
  }
  return times;
}

const kept = [];
/** Takes seats that stay. */
async function take(count) {
  for (let left = count; left > 0;) {
    const part = Math.min(left, 2000);
    const leases = await Promise.all(
      Array.from({ length: part }, () => manager.admit(...client())),
    );
    const granted = leases.filter(({ success }) => success);
    kept.push(...granted);
    left -= granted.length;
  }
  return { held: kept.length };
}

/** Waits until the server knows every seat again after a loss; returns the time at which it did. */
async function told(losses) {
  for (;;) {
    const { seats, confirmedSeats, losses: now, publishedKeys } = stats();
    if (now > losses && seats === confirmedSeats && seats === kept.length)
      return { at: Date.now(), publishedKeys };
    await sleep(2);
  }
}

/** Times at which the connections of users were closed, ms. */
const closedAt = {};
/** Opens a connection of each of some users. */
async function open(count) {
  for (let at = 0; at < count; at++) {
    // An address of its own for each: those of all processes together would pass the limit of one.
    const lease = await manager.admit(`192.0.${at >> 8}.${at & 255}`, `kicked${at}`);
    const close = () => {
      closedAt[at] = Date.now();
      setImmediate(() => manager.release(connection));
    };
    const { connection } = manager.commit(lease, `${seed}.${at}`, { close });
  }
  return {};
}

/** Closes the connections of each of them in all processes, one user after the other; returns when it was asked for, ms. */
async function kick(count) {
  const times = {};
  for (let at = 0; at < count; at++) {
    times[at] = Date.now();
    await manager.closeUser(`kicked${at}`);
    await sleep(5);
  }
  return times;
}

const closed = () => closedAt;

/** Tries to take the seat of one user, again and again. */
async function seize(user) {
  for (;;) {
    const lease = await manager.admit('192.0.2.1', user);
    if (lease.success) return { at: Date.now() };
    await sleep(5);
  }
}

const acts = { flood, local, lone, take, told, seize, open, kick, closed, stats };
for await (const line of createInterface({ input: process.stdin })) {
  const [act, ...args] = JSON.parse(line);
  say({ [act]: await acts[act](...args) });
}
process.exit();
