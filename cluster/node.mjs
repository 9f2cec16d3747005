// One process of the harness, on Node or Bun: clients of many users and addresses come and go, admitted
// through the package as it is published. Writes each seat into its log: `+` after it was granted, `-`
// before it is given back; and `r` for each unit of a rate, with the times of question and answer. Commands come on the
// standard input.
import { openSync, writeSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { Cluster, ConnectionManager } from '../dist/index.js';

const given = JSON.parse(process.env.CLUSTER_NODE);
const { name, log, url, seed, limits, options, users, addresses, target, pauseMs, rate } = given;
const file = openSync(log, 'a');
// The one clock that all processes of the host share. `performance.timeOrigin` is off by the time for which a process
// was not scheduled at its start: 40 ms were seen, and looked like seats over the limit.
const now = () => Date.now();
const write = (line) => writeSync(file, `${line}\n`);

let random = (seed * 2654435761) >>> 0 || 1;
const below = (n) => {
  random ^= random << 13;
  random ^= random >>> 17;
  random ^= random << 5;
  return (random >>> 0) % n;
};

// Behind Sentinels and in a Redis Cluster there is no proxy, and the options have `urls`.
const cluster = new Cluster({ ...(options.urls === undefined ? { url } : {}), ...options });
cluster.on('state', (state, _, problem) => {
  write(`# ${now()} ${state}${problem === undefined ? '' : `: ${problem}`}`);
  // The runner waits for this.
  process.stdout.write(`state ${state}\n`);
});
const manager = new ConnectionManager(limits, { name: 'trial', cluster });
const limiter = cluster.limiter(rate);
const socket = { close: () => undefined };
const held = [];
let isQuiet = false;
let isIdle = given.isIdle === true;
let ids = 0;
let slowest = 0;

function release(count) {
  for (let left = count; left > 0 && held.length > 0; left--) {
    const [{ connection, user, address }] = held.splice(below(held.length), 1);
    write(`- ${now()} ${user} ${address}`);
    manager.release(connection);
  }
}

async function admit() {
  const user = `u${below(users)}`;
  const host = below(addresses);
  const address = `i${host}`;
  const asked = performance.now();
  const lease = await manager.admit(`192.0.2.${host}`, user);
  slowest = Math.max(slowest, performance.now() - asked);
  if (!lease.success) return lease.code;
  const result = manager.commit(lease, `${name}.${++ids}`, socket);
  if (!result.success) return result.code;
  // The grant is written in the same turn in which it was learned.
  write(`+ ${now()} ${user} ${address}`);
  held.push({ connection: result.connection, user, address });
  return 'granted';
}

async function take() {
  const key = `k${below(3)}`;
  const asked = now();
  const { success } = await limiter.take(key);
  if (success) write(`r ${asked} ${now()} ${key}`);
}

const outcomes = {};
async function work() {
  let isRefused = false;
  for (;;) {
    await sleep(isIdle ? 100 : pauseMs);
    if (isQuiet || isIdle) continue;
    // Clients stay while nobody is let in: what a process wrongly believes to be free is then passed at once.
    if (!isRefused) release(held.length > target ? 12 : below(6));
    const taken = take();
    const codes = await Promise.all(Array.from({ length: 1 + below(16) }, admit));
    await taken;
    isRefused = codes.includes('cluster_unreachable');
    for (const code of codes) outcomes[code] = (outcomes[code] ?? 0) + 1;
  }
}

let input = '';
// The harness has ended.
process.stdin.on('end', () => process.exit());
process.stdin.on('data', (data) => {
  input += data;
  for (let end; (end = input.indexOf('\n')) !== -1; input = input.slice(end + 1)) {
    const command = input.slice(0, end);
    if (command === 'quiet') isQuiet = true;
    if (command === 'busy') isIdle = false;
    if (command === 'idle') isIdle = true;
    if (command === 'report') {
      const [stats] = cluster.snapshot().managers;
      const { totalConnections } = manager.snapshot();
      process.stdout.write(
        `report ${JSON.stringify({ name, held: held.length, totalConnections, outcomes, slowest: Math.round(slowest), ...stats })}\n`,
      );
    }
  }
});
process.stdout.write(`started ${process.pid}\n`);
void work();
