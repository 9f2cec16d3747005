// Measures the longest block of the event loop by an idle sweep: a million connections, a thousand
// of them idle.
import { ConnectionManager, TimerManager } from '../dist/index.js';
import { ManualClock } from '../dist/testing.js';
import { machine, median, report, verdict } from './compare.mjs';
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
const handBlocks = [];
const twinBlocks = [];
const makeIdle = (ids) => {
  for (const id of ids) {
    const connection = ours.connections.get(id);
    if (connection !== undefined) connection.lastActivity = Date.now() - 120_000;
    const other = twin.connections.get(id);
    if (other !== undefined) other.lastActivity = Date.now() - 120_000;
  }
};
/** Returns the longest turn of the event loop while the clock advances by `ms`, each step a turn. */
const longestTurn = (ms) => {
  let worst = 0;
  for (let step = 0; step < ms; step++) {
    const start = performance.now();
    clock.advance(1);
    worst = Math.max(worst, performance.now() - start);
  }
  return worst;
};
const checkEvicted = (before, ids) => {
  const evicted = before - ours.connections.size;
  if (evicted < ids.length * 0.9) throw new Error(`only ${evicted} of ${ids.length} were evicted`);
};
for (let round = 0; round < ROUNDS; round++) {
  let ids = [...new Set(stale())];
  makeIdle(ids);
  let before = ours.connections.size;
  oursBlocks.push(longestTurn(5200));
  checkEvicted(before, ids);
  let start = performance.now();
  twin.cleanupStaleConnections();
  twinBlocks.push(performance.now() - start);
  ids = [...new Set(stale())];
  makeIdle(ids);
  twin.cleanupStaleConnections();
  before = ours.connections.size;
  start = performance.now();
  ours.cleanupStaleConnections();
  handBlocks.push(Math.max(performance.now() - start, longestTurn(100)));
  checkEvicted(before, ids);
}
report(
  'longest block',
  [
    ['twin', median(twinBlocks)],
    ['portcullis, by its timer', median(oursBlocks)],
    ['portcullis, cleanupStaleConnections()', median(handBlocks)],
  ],
  'ms',
);
verdict('by its timer', median(oursBlocks), 'ms', { most: 2 });
verdict('cleanupStaleConnections()', median(handBlocks), 'ms', { most: 2, aim: 1 });
process.exit();
