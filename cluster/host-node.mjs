// One process of the trial of a host, on Node or Bun: clients of many users and addresses come and go. Writes each seat
// into its log, in the form of `node.mjs`: `+` after it was granted, `-` before it is given back. Commands come on the
// standard input.
import { openSync, writeSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { ConnectionManager } from '../dist/index.js';

const { name, label, log, seed, limits, users, addresses, target } = JSON.parse(
  process.env.HOST_NODE,
);
const file = openSync(log, 'a');
// The one clock that all processes of the host share.
const write = (line) => writeSync(file, `${line}\n`);

let random = (seed * 2654435761) >>> 0 || 1;
const below = (n) => {
  random ^= random << 13;
  random ^= random >>> 17;
  random ^= random << 5;
  return (random >>> 0) % n;
};

const manager = new ConnectionManager(limits, { name, cluster: 'host', hostCapacity: 1024 });
const socket = { close: () => undefined };
const held = [];
let isQuiet = false;
let ids = 0;
const outcomes = {};

function release() {
  const [connection] = held.splice(below(held.length), 1);
  write(`- ${Date.now()} ${connection.id}`);
  manager.release(connection);
}

function admit() {
  const user = `u${below(users)}`;
  const host = below(addresses);
  const address = `i${host}`;
  const ip = `192.0.2.${host}`;
  const id = `${label}.${++ids}`;
  const asked = Date.now();
  const result = manager.addConnection(id, socket, ip, user);
  const code = result.success ? 'granted' : result.code;
  outcomes[code] = (outcomes[code] ?? 0) + 1;
  if (!result.success) return;
  write(`+ ${Date.now()} ${id} ${user} ${address} ${name} ${asked}`);
  held.push(result.connection);
}

async function work() {
  for (;;) {
    await sleep(1);
    if (isQuiet) continue;
    for (let left = 1 + below(16); left > 0; left--) admit();
    for (let left = below(held.length > target ? 32 : 12); left > 0 && held.length > 0; left--)
      release();
  }
}

let input = '';
process.stdin.on('end', () => {
  manager.close();
  process.exit();
});
process.stdin.on('data', (data) => {
  input += data;
  for (let end; (end = input.indexOf('\n')) !== -1; input = input.slice(end + 1)) {
    const command = input.slice(0, end);
    if (command === 'quiet') isQuiet = true;
    if (command === 'empty') while (held.length > 0) release();
    const { totalConnections, host } = manager.snapshot();
    process.stdout.write(
      `report ${JSON.stringify({ label, held: held.length, totalConnections, host, outcomes })}\n`,
    );
  }
});
process.stdout.write('started\n');
void work();
