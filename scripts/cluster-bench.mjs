// npm run cluster:bench: the figures of a cluster on a server of its own, each with its limit and its goal beside it.
import { spawn, spawnSync } from 'node:child_process';
import { existsSync, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { fill, Ghost, usedMemory } from '../cluster/bench/population.mjs';
import { Client, freePort, Redis, SERVER, withClient } from '../cluster/redis.mjs';
import { infoOf } from '../cluster/servers.mjs';
import { readOptions } from './lib/options.mjs';
import { fail, root, tool } from './lib/project.mjs';

const LEASE_MS = 3000;
const LOAD_MS = 4000;
/** Clients of one process that wait at once: three batches. */
const CLIENTS = 768;

/** As long as a real one: the name of each bucket carries it. */
const GENERATION = 'AAAAAAAAAAA';

const bench = join(root, 'cluster', 'bench');
const servers = new Set();
const nodes = new Set();
process.on('exit', () => {
  for (const { child } of nodes) child.kill('SIGKILL');
  for (const server of servers) server.process?.kill('SIGKILL');
});

async function serverOf() {
  const server = await new Redis(await freePort(), ['--maxclients', 2000]).start();
  servers.add(server);
  return server;
}

async function end(server) {
  await Promise.all(Array.from(nodes, stop));
  servers.delete(server);
  await server.remove();
}

let seeds = 0;
/** Starts a process of `cluster/bench/node.mjs`, and waits until it is up. */
async function nodeOf(server, name, { options = {}, limits, isUp = true } = {}) {
  const child = spawn(
    given.runtime === 'bun' ? tool('bun') : process.execPath,
    [join(bench, 'node.mjs')],
    {
      stdio: ['pipe', 'pipe', 'inherit'],
      env: {
        ...process.env,
        CLUSTER_BENCH: JSON.stringify({
          url: `redis://127.0.0.1:${server.port}`,
          name,
          seed: ++seeds,
          limits,
          options: { leaseMs: LEASE_MS, ...options },
        }),
      },
    },
  );
  const node = { child, state: '', waiting: new Map() };
  nodes.add(node);
  node.gone = new Promise((done) => child.once('exit', done));
  child.once('exit', (code) => {
    // Its answers would be waited for in vain.
    if (nodes.has(node)) fail(`a process of cluster/bench/node.mjs ended with code ${code}.`);
  });
  createInterface({ input: child.stdout }).on('line', (line) => {
    for (const [name, value] of Object.entries(JSON.parse(line))) {
      if (name === 'state') node.state = value;
      else node.waiting.get(name)?.(value);
    }
  });
  node.ask = (act, ...args) => {
    child.stdin.write(`${JSON.stringify([act, ...args])}\n`);
    return new Promise((done) => node.waiting.set(act, done));
  };
  while (isUp && node.state !== 'up') await sleep(5);
  return node;
}

async function stop(node) {
  nodes.delete(node);
  node.child.kill('SIGKILL');
  await node.gone;
}

/** CPU time of a server's process, us. */
async function cpuUs(server) {
  const [user, system] = [
    await infoOf(server.port, 'cpu', 'used_cpu_user'),
    await infoOf(server.port, 'cpu', 'used_cpu_sys'),
  ];
  return (Number(user) + Number(system)) * 1e6;
}

const quantile = (list, part) =>
  list.toSorted((a, b) => a - b)[Math.min(list.length - 1, Math.floor(list.length * part))];
const sum = (list, of) => list.reduce((all, one) => all + of(one), 0);

/** Loads a server from some processes at once. */
async function load(
  server,
  name,
  count,
  { options, ms = LOAD_MS, clients = CLIENTS, hold = 1e9 } = {},
) {
  const all = await Promise.all(
    Array.from({ length: count }, () => nodeOf(server, name, { options })),
  );
  const before = await cpuUs(server);
  const lines = await Promise.all(all.map((node) => node.ask('flood', ms, clients, hold)));
  const used = (await cpuUs(server)) - before;
  await Promise.all(all.map(stop));
  const granted = sum(lines, (line) => line.granted);
  return {
    rate: sum(lines, (line) => (line.granted / line.elapsed) * 1e3),
    serverUs: used / granted,
    nodeUs: sum(lines, (line) => line.cpuUs) / granted,
    loopUs: (sum(lines, (line) => line.loopMs) * 1e3) / granted,
    batch: granted / sum(lines, (line) => line.calls),
    refused: sum(lines, (line) => line.refused),
  };
}

const rows = [];
/** Notes a figure. `isGood` compares it with the limit. */
function row(name, figure, unit, must, aim, isAtLeast = false) {
  const isGood = isAtLeast ? figure >= must : figure <= must;
  const shown = (number) =>
    number >= 1000
      ? Math.round(number).toLocaleString('en')
      : String(Number(number.toPrecision(3)));
  const sign = isAtLeast ? '>=' : '<=';
  rows.push(isGood);
  console.log(
    `${isGood ? 'ok  ' : 'MISS'} ${name.padEnd(62)} ${shown(figure).padStart(9)} ${unit.padEnd(6)} must ${sign} ${shown(must)}, aim ${shown(aim)}`,
  );
}
const note = (text) => console.log(`     ${text}`);

async function rate() {
  const server = await serverOf();
  let best = { rate: 0 };
  for (const count of given.short ? [4] : [1, 2, 4]) {
    const one = await load(server, `rate${count}`, count);
    note(
      `${count} processes: ${Math.round(one.rate).toLocaleString('en')}/s, batch ${one.batch.toFixed(0)}, server ${one.serverUs.toFixed(1)} us, process ${one.nodeUs.toFixed(1)} us an admission, refused ${one.refused}`,
    );
    if (one.rate > best.rate) best = one;
  }
  row('admissions of one server from all processes', best.rate, '/s', 50_000, 100_000, true);
  await end(server);
}

async function lone() {
  const server = await serverOf();
  const node = await nodeOf(server, 'lone');
  const client = await Client.to(server.port);
  const trips = [];
  const count = given.short ? 300 : 2000;
  for (let left = count; left > 0; left--) {
    const asked = performance.now();
    await client.call('PING');
    trips.push(performance.now() - asked);
    await sleep(2);
  }
  client.close();
  const times = await node.ask('lone', count);
  note(
    `round trip p50 ${quantile(trips, 0.5).toFixed(2)} ms, p99 ${quantile(trips, 0.99).toFixed(2)}; admission p50 ${quantile(times, 0.5).toFixed(2)}, p99 ${quantile(times, 0.99).toFixed(2)}`,
  );
  row(
    'lone admission beyond the round trip, p50',
    quantile(times, 0.5) - quantile(trips, 0.5),
    'ms',
    0.5,
    0.1,
  );
  row(
    'lone admission beyond the round trip, p99',
    quantile(times, 0.99) - quantile(trips, 0.99),
    'ms',
    5,
    1,
  );
  await end(server);
}

async function live() {
  const seats = given.short ? 100_000 : 1_000_000;
  const server = await serverOf();
  const ghost = await Ghost.join(server.port, 'live', seats);
  const { serverUs, batch } = await load(server, 'live', 2);
  note(`batch ${batch.toFixed(0)}`);
  row(`CPU of the server an admission, ${seats.toLocaleString('en')} live`, serverUs, 'us', 10, 5);
  ghost.close();
  await end(server);
}

/** Memory that a population takes, B a connection: without the connection that wrote it. */
async function bytesOf(keys, columnsOf) {
  const server = await serverOf();
  const before = await usedMemory(server.port);
  let connections = 0;
  await withClient(server.port, (client) =>
    fill(client, 'chat', GENERATION, keys, (key, scope) => {
      const columns = columnsOf(key);
      if (scope === 'u') connections += columns.length;
      return columns;
    }),
  );
  await sleep(300);
  const bytes = ((await usedMemory(server.port)) - before) / connections;
  await end(server);
  return bytes;
}

async function memory() {
  for (const seats of given.short ? [100_000] : [100_000, 1_000_000]) {
    const title = seats.toLocaleString('en');
    const few = await bytesOf(seats, (key) => [key % 12]);
    row(`memory a connection, ${title}, a user and an address each`, few, 'B', 60, 45);
    // Users and addresses with 12 connections, each on another process.
    const dozen = await bytesOf(seats / 12, () => Array.from({ length: 12 }, (_, at) => at));
    row(`memory a connection, ${title}, each key on 12 processes`, dozen, 'B', 60, 45);
    // One key in 20 is held by 13 of 200 processes.
    const many = await bytesOf(seats / 1.6, (key) =>
      Array.from({ length: key % 20 === 0 ? 13 : 1 }, (_, at) => (key * 31 + at * 7) % 200),
    );
    row(`memory a connection, ${title}, 200 processes, 5 % of keys on 13`, many, 'B', 160, 100);
  }
}

async function killed() {
  const server = await serverOf();
  const times = [];
  const beatMs = LEASE_MS / 5;
  for (let left = given.short ? 1 : 5; left > 0; left--) {
    const limits = { maxConnectionsPerUser: 1 };
    const holder = await nodeOf(server, `killed${left}`, { limits });
    const other = await nodeOf(server, `killed${left}`, { limits, options: { rejectCacheMs: 0 } });
    await holder.ask('seize', 'ada');
    await stop(holder);
    const at = Date.now();
    times.push((await other.ask('seize', 'ada')).at - at);
    await stop(other);
  }
  note(`lease ${LEASE_MS} ms, beat ${beatMs} ms: ${times.join(', ')} ms`);
  row(
    'seats of a killed process back, beyond the lease',
    (Math.max(...times) - LEASE_MS) / beatMs,
    'beats',
    2,
    1,
  );
  await end(server);
}

async function swarm() {
  const server = await serverOf();
  const build = [
    'build',
    '--quiet',
    '--locked',
    '--no-default-features',
    // A thousand processes share one thread: unoptimized code would be measured.
    '--profile',
    'test',
    '--example',
    'cluster-swarm',
  ];
  if (spawnSync('cargo', build, { cwd: root, stdio: 'inherit' }).status !== 0)
    fail('the example cluster-swarm cannot be built.');
  const members = given.short ? 200 : 1000;
  const program = join(root, 'target', 'debug', 'examples', 'cluster-swarm');
  const { stdout, stderr, status } = spawnSync(
    program,
    [server.port, members, LEASE_MS].map(String),
    { encoding: 'utf8' },
  );
  if (status !== 0) fail(`cluster-swarm: ${stderr}`);
  row(
    `half of ${members} processes die at once: all declared`,
    JSON.parse(stdout).leases,
    'leases',
    2,
    1.5,
  );
  await end(server);
}

async function lost() {
  const seats = given.short ? 10_000 : 100_000;
  const server = await serverOf();
  const limits = {
    maxTotalConnections: 2 * seats,
    maxConnectionsPerIp: 1000,
    maxConnectionsPerUser: 1000,
  };
  const all = await Promise.all(
    Array.from({ length: 4 }, () => nodeOf(server, 'lost', { limits, options: { beatMs: 300 } })),
  );
  await Promise.all(all.map((node) => node.ask('take', seats / 4)));
  await sleep(1000);
  const losses = await Promise.all(all.map(async (node) => (await node.ask('stats')).losses));
  const waiting = all.map((node, at) => node.ask('told', losses[at]));
  const at = Date.now();
  await withClient(server.port, (client) => client.call('FLUSHALL'));
  const ends = await Promise.all(waiting);
  row(
    `everything lost, ${seats.toLocaleString('en')} seats of 4 processes: told again`,
    (Math.max(...ends.map((one) => one.at)) - at) / 1e3,
    's',
    2,
    1,
  );
  await end(server);
}

/** Time from a call that closes a user's connections in all processes until each of them is closed. */
async function event() {
  const server = await serverOf();
  const all = await Promise.all(Array.from({ length: 4 }, () => nodeOf(server, 'event')));
  const count = given.short ? 100 : 500;
  await Promise.all(all.map((node) => node.ask('open', count)));
  const asked = await all[0].ask('kick', count);
  await sleep(500);
  const times = [];
  for (const closed of await Promise.all(all.map((node) => node.ask('closed'))))
    for (let user = 0; user < count; user++) times.push(closed[user] - asked[user]);
  if (times.some((ms) => !(ms >= 0))) fail('a connection was not closed by its event.');
  note(`${times.length} connections of 4 processes: p50 ${quantile(times, 0.5)} ms`);
  row('event to all processes, p99', quantile(times, 0.99), 'ms', 50, 5);
  await end(server);
}

/** Memory that the server has more after a million connects than after the first of them. */
async function flat() {
  const server = await serverOf();
  const connects = given.short ? 100_000 : 1_000_000;
  const all = await Promise.all([0, 1].map(() => nodeOf(server, 'flat')));
  const part = connects / 10 / all.length;
  let granted = 0;
  const memories = [];
  for (let left = 10; left > 0; left--) {
    const lines = await Promise.all(
      all.map((node) => node.ask('flood', 600_000, CLIENTS, 2000, part)),
    );
    granted += sum(lines, (line) => line.granted);
    // Until the last seats are given back.
    while ((await seatsOf(all)) > 0) await sleep(20);
    memories.push(await usedMemory(server.port));
  }
  note(
    `${granted.toLocaleString('en')} connects; memory after each tenth: ${memories.map((bytes) => (bytes / 2 ** 20).toFixed(2)).join(', ')} MiB`,
  );
  // Buffers of its connections come and go: three measurements each are compared.
  const [early, late] = [memories.slice(0, 3), memories.slice(-3)].map((part) =>
    quantile(part, 0.5),
  );
  row(
    'memory of the server that a connect leaves behind',
    Math.max(0, late - early) / (granted * 0.7),
    'B',
    1,
    0.1,
  );
  await end(server);
}
const seatsOf = async (all) =>
  sum(await Promise.all(all.map((node) => node.ask('stats'))), (stats) => stats.confirmedSeats);

/** Size of the addon, as it is published. */
async function size() {
  const folder = join(root, 'native');
  const name = readdirSync(folder).find((one) => one.endsWith('.node'));
  row(`size of ${name}`, statSync(join(folder, name)).size / 2 ** 20, 'MiB', 6.6, 6);
}

async function loop() {
  if (process.platform !== 'linux') return note('loop time: only Linux tells it');
  const server = await serverOf();
  const { loopUs, nodeUs } = await load(server, 'loop', 1, { hold: 2000 });
  const node = await nodeOf(server, 'loop');
  const { count, loopMs } = await node.ask('local', LOAD_MS / 2);
  const localUs = (loopMs * 1e3) / count;
  note(
    `an admission ${loopUs.toFixed(1)} us of the loop (CPU of all threads ${nodeUs.toFixed(1)}), reserve and abort ${localUs.toFixed(1)} us`,
  );
  row('loop time an admission beyond `reserve`', loopUs - localUs, 'us', 5, 2);
  await end(server);
}

async function against() {
  const modules = join(bench, 'node_modules', '.package-lock.json');
  const lock = join(bench, 'package-lock.json');
  if (!existsSync(modules) || statSync(modules).mtimeMs < statSync(lock).mtimeMs) {
    const args = ['ci', '--no-audit', '--no-fund', '--ignore-scripts', '--prefer-offline'];
    const { status, stderr } = spawnSync('npm', args, { cwd: bench, encoding: 'utf8' });
    if (status !== 0) fail(`the packages of cluster/bench cannot be installed: ${stderr}`);
  }
  const server = await serverOf();
  const ms = given.short ? 1500 : LOAD_MS;
  let times = 0;
  // A batch waits for the one before, so few clients leave the server idle meanwhile: the last row tells its capacity.
  for (const clients of [64, CLIENTS]) {
    const rates = { theirs: [], taken: [], given: [] };
    for (let left = given.short ? 1 : 3; left > 0; left--) {
      const { stdout } = spawnSync(process.execPath, [join(bench, 'limiter.mjs')], {
        encoding: 'utf8',
        env: { ...process.env, CLUSTER_BENCH: JSON.stringify({ port: server.port, ms, clients }) },
      });
      const { count, elapsed } = JSON.parse(stdout);
      rates.theirs.push((count / elapsed) * 1e3);
      const name = `against${clients}.${left}`;
      rates.taken.push((await load(server, name, 1, { ms, clients })).rate);
      rates.given.push((await load(server, `${name}.given`, 1, { ms, clients, hold: 2000 })).rate);
    }
    const [theirs, taken, back] = Object.values(rates).map((list) => quantile(list, 0.5));
    const shown = [taken, back, theirs].map((rate) => `${Math.round(rate).toLocaleString('en')}/s`);
    note(
      `${clients} clients of one process: ${shown[0]}; ${shown[1]} if each seat is given back as well; rate-limiter-flexible on ioredis, which gives none back, ${shown[2]}; ${(taken / theirs).toFixed(1)}x`,
    );
    times = taken / theirs;
  }
  row(`times the rate of rate-limiter-flexible, ${CLIENTS} clients`, times, 'x', 3, 6, true);
  await end(server);
}

const FIGURES = { rate, lone, live, memory, flat, killed, swarm, lost, event, loop, against, size };
const given = readOptions(
  `npm run cluster:bench -- [options]
  --only A,B     some figures only: ${Object.keys(FIGURES).join(', ')}
  --runtime A    node or bun (default node)
  --short        smaller and fewer
  --strict       fails if a figure is beyond its limit`,
  {
    only: { type: 'list', of: Object.keys(FIGURES), default: Object.keys(FIGURES) },
    runtime: { type: 'string', of: ['node', 'bun'], default: 'node' },
    short: { type: 'boolean', default: false },
    strict: { type: 'boolean', default: false },
  },
);
if (SERVER === undefined) {
  console.log('skipped: neither redis-server nor valkey-server is on the PATH');
  process.exit(0);
}
console.log(
  `${spawnSync(SERVER, ['--version'], { encoding: 'utf8' })
    .stdout.trim()
    .replace(/ sha=.*/, '')}, processes on ${given.runtime}`,
);
for (const name of given.only) await FIGURES[name]();
const missed = rows.filter((isGood) => !isGood).length;
console.log(`${rows.length - missed} of ${rows.length} figures within their limits`);
process.exit(given.strict && missed > 0 ? 1 : 0);
