// Measures the longest block of the event loop by an idle sweep: a million connections, a thousand
// of them idle.
import { ConnectionManager, TimerManager } from '../dist/index.js';
import { ManualClock } from '../dist/testing.js';
import { machine, median, report } from './compare.mjs';
import { addressOf, socket } from './population.mjs';
import { TwinConnectionManager } from './twin.mjs';

const live = Number(process.argv[2] ?? 1_000_000);
const ROUNDS = 5;
const limits = { maxTotalConnections: 4e6, connectionTimeoutMs: 60_000, cleanupIntervalMs: 5000 };
console.log(`${machine}, ${live} live, 1,000 of them stale, worst of each of ${ROUNDS} sweeps`);

const twin = new TwinConnectionManager({
  ...limits,
  maxConnectionsPerIp: 100,
  maxConnectionsPerUser: 100,
});
const clock = new ManualClock();
const ours = new ConnectionManager(limits, new TimerManager({ clock }));
for (let i = 0; i < live; i++) {
  twin.addConnection(`c${i}`, socket, addressOf(i), `u${i}`);
  ours.addConnection(`c${i}`, socket, addressOf(i), `u${i}`);
}
let serial = 0;
// Scattered over all connections, and different in each round.
const stale = () => Array.from({ length: 1000 }, () => `c${(serial++ * 7919) % live}`);
const oursBlocks = [];
const twinBlocks = [];
for (let round = 0; round < ROUNDS; round++) {
  const ids = [...new Set(stale())];
  for (const id of ids) {
    const connection = ours.connections.get(id);
    if (connection !== undefined) connection.lastActivity = Date.now() - 120_000;
    const other = twin.connections.get(id);
    if (other !== undefined) other.lastActivity = Date.now() - 120_000;
  }
  const before = ours.connections.size;
  // Each step of the clock is a turn of the event loop; the longest turn is the block.
  let worst = 0;
  for (let step = 0; step < 5200; step++) {
    const start = performance.now();
    clock.advance(1);
    worst = Math.max(worst, performance.now() - start);
  }
  if (before - ours.connections.size < ids.length * 0.9)
    throw new Error(`only ${before - ours.connections.size} of ${ids.length} were evicted`);
  oursBlocks.push(worst);
  const start = performance.now();
  twin.cleanupStaleConnections();
  twinBlocks.push(performance.now() - start);
}
report(
  'longest block',
  [
    ['twin', median(twinBlocks)],
    ['portcullis', median(oursBlocks)],
  ],
  'ms',
);
process.exit(0);
