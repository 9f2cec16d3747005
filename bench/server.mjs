// Measures 1,000 connects with one ping each, and the shutdown of a busy server on Bun. The clients
// run in this process.
// Run: npm run bench, or: node bench/server.mjs
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import WebSocket from 'ws';
import { root, tool } from '../scripts/lib/project.mjs';
import { machine, median, verdict } from './compare.mjs';

const CLIENTS = 1000;
const REQUESTS = 50;
const ROUNDS = 5;

async function start(twin) {
  const server = spawn(tool('bun'), ['bench/server.bun.ts', twin ? 'twin' : 'portcullis'], {
    cwd: root,
    stdio: ['ignore', 'pipe', 'inherit', 'ipc'],
  });
  const [line] = await once(server.stdout, 'data');
  return { server, port: Number(/:(\d+)/.exec(String(line))[1]) };
}

/** Opens all clients at once and lets each ping once. */
async function load(twin) {
  const { server, port } = await start(twin);
  const before = performance.now();
  const clients = Array.from({ length: CLIENTS }, () => new WebSocket(`ws://127.0.0.1:${port}/ws`));
  await Promise.all(clients.map((client) => once(client, 'open')));
  const opened = performance.now();
  const answers = clients.map((client) => once(client, 'message'));
  for (const client of clients) client.send('{"type":"ping"}');
  const pongs = await Promise.all(answers);
  const answered = performance.now();
  if (!pongs.every(([data]) => String(data).includes('pong')))
    throw new Error('a ping was not answered');
  return { server, port, clients, setUpMs: opened - before, trips: answered - opened };
}

/** Shuts a server down while it is busy; counts lost requests and clients that were told. */
async function end({ server, port, clients }) {
  const codes = clients.map((client) => once(client, 'close').then(([code]) => code));
  let lost = 0;
  const requests = Array.from({ length: REQUESTS }, () =>
    fetch(`http://127.0.0.1:${port}/slow`)
      .then((response) => response.text())
      .then((text) => text === 'slow' || lost++)
      .catch(() => lost++),
  );
  // Wait until the server counts all of them as in flight, and the question itself.
  const stats = async () =>
    (await (await fetch(`http://127.0.0.1:${port}/stats`)).json()).requests.active;
  while ((await stats()) <= REQUESTS);
  const result = once(server, 'message');
  server.kill('SIGTERM');
  const [told] = await result;
  const seen = await Promise.all(codes);
  await Promise.all(requests);
  return { lost, told, gone: seen.filter((code) => code === 1001).length };
}

const figures = { twin: [], portcullis: [] };
const ends = [];
for (let round = 0; round < ROUNDS; round++) {
  for (const twin of round % 2 === 0 ? [true, false] : [false, true]) {
    const one = await load(twin);
    figures[twin ? 'twin' : 'portcullis'].push(one);
    if (twin) {
      one.server.kill('SIGKILL');
      for (const client of one.clients) client.terminate();
    } else ends.push(await end(one));
  }
}
console.log(
  `the server on Bun, ${CLIENTS} WebSocket clients in a process of their own on ${machine}: bare Elysia / ElysiaServerBuilder`,
);
const row = (title, of) => {
  const [twin, ours] = [median(figures.twin.map(of)), median(figures.portcullis.map(of))];
  console.log(
    `  ${title.padEnd(36)}${twin.toFixed(0).padStart(6)} / ${ours.toFixed(0)} ms   (${(ours / twin).toFixed(2)} of it)`,
  );
  return ours;
};
const connectedMs = row('all are connected', ({ setUpMs }) => setUpMs);
const answeredMs = row('each is answered once', ({ trips }) => trips);
verdict('all are connected', connectedMs, 'ms', { most: 5000, aim: 1000 });
verdict('each is answered once', answeredMs, 'ms', { most: 1000, aim: 100 });
console.log(
  `shutdown with ${CLIENTS} WebSockets and ${REQUESTS} requests in flight, window 1 s, deadline 5 s, ${ROUNDS} rounds`,
);
const lost = ends.reduce((sum, one) => sum + one.lost, 0);
const gone = ends.reduce((sum, one) => sum + one.gone, 0);
const settledMs = median(ends.map(({ told }) => told.totalMs));
console.log(`  requests lost                       ${lost} of ${REQUESTS * ROUNDS}`);
console.log(`  clients that saw 1001               ${gone} of ${CLIENTS * ROUNDS}`);
console.log(
  `  settled after                       ${settledMs.toFixed(0)} ms, graceful: ${ends.every(({ told }) => told.graceful)}`,
);
verdict('requests lost', lost, '', { most: 0 });
verdict('clients that saw 1001', (gone / (CLIENTS * ROUNDS)) * 100, '%', { least: 100 });
verdict('settled after', settledMs, 'ms', { most: 5100 });
console.log(
  `  longest block of the server's loop  ${median(ends.map(({ told }) => told.blockMs)).toFixed(1)} ms`,
);
process.exit();
