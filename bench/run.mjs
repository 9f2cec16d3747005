// Side by side, interleaved in one process, medians: npm run bench. On Bun: node_modules/.bin/bun bench/run.mjs
import { ConnectionManager, TimerManager } from '../dist/index.js';
import { TwinConnectionManager } from './twin.mjs';

const ROUNDS = 7;
const LIVE = Number(process.argv[2] ?? 10_000);
const socket = { close() {} };
const median = (list) => list.toSorted((a, b) => a - b)[list.length >> 1];

function compare(title, contestants) {
  const times = contestants.map(() => []);
  for (let round = 0; round < ROUNDS; round++) contestants.forEach(([, run], index) => times[index].push(run(round)));
  const medians = times.map(median);
  console.log(
    `${title}\n${contestants.map(([name], i) => `  ${name}: ${medians[i].toFixed(1)} ns`).join('\n')}\n  ratio: ${(medians[0] / medians[1]).toFixed(2)}x`,
  );
}

function timed(count, run) {
  const start = performance.now();
  for (let i = 0; i < count; i++) run(i);
  return ((performance.now() - start) * 1e6) / count;
}

const fill = (manager) => {
  for (let i = 0; i < LIVE; i++) manager.addConnection(`live-${i}`, socket, `10.${(i >> 16) & 255}.${(i >> 8) & 255}.${i & 255}`, `user-${i}`);
  return manager;
};
const timers = new TimerManager();
const limits = { maxTotalConnections: 5e6, maxConnectionsPerIp: 100, maxConnectionsPerUser: 100, connectionTimeoutMs: 3e7, cleanupIntervalMs: 1e7 };
const twin = fill(new TwinConnectionManager(limits));
const ours = fill(new ConnectionManager(limits, timers));
const connection = ours.connections.get('live-7');

const cycle = (manager) => (round) =>
  timed(50_000, (i) => {
    const id = `c-${round}-${i}`;
    manager.addConnection(id, socket, `11.0.${(i >> 8) & 255}.${i & 255}`, `u-${i}`);
    manager.removeConnection(id);
  });
console.log(`${'bun' in process.versions ? `Bun ${process.versions.bun}` : `Node ${process.versions.node}`}, ${LIVE} live`);
compare('activity: updateActivity(id) of the twin / connection.received(n)', [
  ['twin', () => timed(2e6, () => twin.updateActivity('live-7'))],
  ['portcullis', () => timed(2e6, (i) => connection.received(i & 1023))],
]);
compare('add + remove with a user', [
  ['twin', cycle(twin)],
  ['portcullis', cycle(ours)],
]);
const host = { setTimeout, clearTimeout };
const plain = new TimerManager({ context: 'none' });
const churn = (target) => () => timed(100_000, (i) => target.clearTimeout(target.setTimeout(noop, 1e6 + (i % 1000))));
const noop = () => undefined;
compare('timer schedule + cancel (context capture off)', [
  ['host', churn(host)],
  ['portcullis', churn(plain)],
]);
process.exit(0);
