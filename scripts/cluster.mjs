// npm run cluster: a Redis or Valkey server and three Bun processes on one port, with clients that come and go.
// Enter kills a process: its seats are free again after the lease.
import { spawn } from 'node:child_process';
import { freePort, Redis, SERVER, withClient } from '../cluster/redis.mjs';
import { readOptions } from './lib/options.mjs';
import { build, fail, root, tool } from './lib/project.mjs';
import WebSocket from 'ws';

const META = '{pc2:example}:m';
const PAUSE_MS = 1000;
const { processes, seconds } = readOptions(
  `npm run cluster -- [options]
  --processes N  processes on one port, 1 to 16 (default 3)
  --seconds N    ends by itself, and kills a process half-way (default: runs until Ctrl-C)`,
  {
    processes: { type: 'integer', least: 1, most: 16, default: 3 },
    seconds: { type: 'integer', least: 4, most: 3600 },
  },
);
if (SERVER === undefined)
  fail('neither redis-server nor valkey-server is on the PATH: install one of them.');
build();

const redis = await new Redis(await freePort()).start();
const port = await freePort();
const children = new Map();
let serial = 0;
function start() {
  const name = `process ${++serial}`;
  const child = spawn(tool('bun'), ['examples/cluster.ts'], {
    cwd: root,
    stdio: ['ignore', 'pipe', 'inherit'],
    env: { ...process.env, PORT: String(port), REDIS: `redis://127.0.0.1:${redis.port}` },
  });
  child.stdout.on('data', (data) => {
    for (const line of String(data).trim().split('\n')) console.log(`${name}: ${line}`);
  });
  child.on('exit', () => children.delete(name));
  children.set(name, child);
}
for (let left = processes; left > 0; left--) start();

/** Ten users with up to five clients each, of which the cluster admits three. */
const clients = new Set();
const outcomes = { admitted: 0, refused: 0 };
function connect() {
  const user = `user-${Math.floor(Math.random() * 10)}`;
  const socket = new WebSocket(`ws://127.0.0.1:${port}/?user=${user}`);
  socket.on('open', () => {
    outcomes.admitted++;
    clients.add(socket);
  });
  socket.on('error', () => outcomes.refused++);
  socket.on('close', () => clients.delete(socket));
}
const traffic = setInterval(() => {
  for (let left = 5; left > 0; left--) connect();
  const [oldest] = clients;
  if (clients.size > 20) oldest?.close();
}, 100);

async function show() {
  const [total, live] = await withClient(redis.port, (client) =>
    client.call('HMGET', META, 'T', 'live'),
  );
  const bits = [...(live ?? [])].map((byte) => byte.toString(2)).join('');
  console.log(
    `${clients.size} clients are open; the server counts ${total ?? 0} seats of ${bits.replaceAll('0', '').length} processes; ${outcomes.admitted} admitted, ${outcomes.refused} refused`,
  );
}
const watch = setInterval(() => void show().catch(() => undefined), PAUSE_MS);

function kill() {
  const [name, child] = [...children][0] ?? [];
  if (child === undefined) return;
  console.log(
    `${name} is killed: its seats are free in 2 seconds, and another process takes its place`,
  );
  child.kill('SIGKILL');
  setTimeout(start, 3000);
}
async function end() {
  clearInterval(traffic);
  clearInterval(watch);
  for (const socket of clients) socket.close();
  for (const child of children.values()) child.kill('SIGKILL');
  await redis.remove();
  process.exit(0);
}
// However it ends, nothing of it stays.
process.on('exit', () => {
  for (const child of children.values()) child.kill('SIGKILL');
  redis.process?.kill('SIGKILL');
});
for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => void end());
console.log('Enter kills a process, Ctrl-C ends.');
process.stdin.on('data', kill);
if (seconds !== undefined) {
  setTimeout(kill, seconds * 500);
  setTimeout(() => void end(), seconds * 1000);
}
