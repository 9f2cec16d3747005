// Measures the monitor: the cost of reading it, its delay in noticing a stall, the CPU time of its
// watcher.
import { readFileSync, readdirSync } from 'node:fs';
import { ConnectionManager, ResourceMonitor, TimerManager } from '../dist/index.js';
import { compare, machine, timed, verdict } from './compare.mjs';

const STALLS = 200;
const THRESHOLD = 100;
const CALLS = 200_000;
const timers = new TimerManager();
const manager = new ConnectionManager({}, timers);
const found = [];
const monitor = new ResourceMonitor(
  { memory: { maxHeapSizeMb: 4096 } },
  {
    timers,
    connections: manager,
    onStall: (stall) => found.push(stall),
    log: false,
  },
);
const idle = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const spin = (ms) => {
  for (const end = performance.now() + ms; performance.now() < end;);
};
console.log(machine);

let kept = 0;
await idle(1000);
const [, metricsNs, healthyNs] = compare(
  'reading the figures',
  [
    ['process.memoryUsage()', () => timed(CALLS / 20, () => (kept += process.memoryUsage().rss))],
    ['getMetrics()', () => timed(CALLS, () => (kept += monitor.getMetrics().activeConnections))],
    ['isHealthy()', () => timed(CALLS * 10, () => (kept += monitor.isHealthy() ? 1 : 0))],
    [
      'requestStarted() + requestEnded()',
      () => timed(CALLS * 10, () => (monitor.requestStarted(1), monitor.requestEnded())),
    ],
  ],
  { rounds: 7 },
);
verdict('isHealthy()', healthyNs, 'ns', { most: 15 });
verdict('getMetrics()', metricsNs / 1000, 'us', { most: 2 });
await idle(300);
found.length = 0;

// CPU time of the watcher's thread, as the kernel counts it.
const watcher = () => {
  if (process.platform !== 'linux') return Number.NaN;
  const task = readdirSync('/proc/self/task').find(
    (id) => readFileSync(`/proc/self/task/${id}/comm`, 'utf8').trim() === 'portcullis',
  );
  return Number(readFileSync(`/proc/self/task/${task}/schedstat`, 'utf8').split(' ')[0]) / 1e6;
};
const used = async (title, ms, want, work) => {
  const [before, start] = [watcher(), performance.now()];
  const end = start + ms;
  await work(end);
  verdict(title, ((watcher() - before) / (performance.now() - start)) * 100, '%', want);
};
const LOADED = { most: 0.5, aim: 0.2 };
console.log("the watcher's thread, of a core");
await idle(2500);
await used('idle', 10_000, { most: 0.1, aim: 0.05 }, () => idle(10_000));
await used('loaded by half', 8000, LOADED, async (end) => {
  while (performance.now() < end) {
    spin(2);
    await idle(2);
  }
});
await used('loaded in full, short callbacks', 8000, LOADED, async (end) => {
  while (performance.now() < end) {
    spin(20);
    await new Promise((resolve) => setImmediate(resolve));
  }
});
const starved = ({ cause }) => cause === 'starved' || cause === 'throttled';
const falsely = found.filter((stall) => !starved(stall)).length;
console.log(
  `stalls reported in 26 s of idling and of short callbacks: ${falsely} false, ${found.length - falsely} because no CPU was free`,
);
verdict('false stalls', falsely, '', { most: 0 });

// Blocks the loop for 150 ms after random idle times: every second time asleep in a system call.
const late = { busy: [], asleep: [] };
const sleeper = new Int32Array(new SharedArrayBuffer(4));
let random = 7;
const next = (most) => (random = (random * 1_103_515_245 + 12_345) % 2 ** 31) % most;
let missed = 0;
for (let i = 0; i < STALLS; i++) {
  await idle(30 + next(90));
  found.length = 0;
  const began = performance.timeOrigin + performance.now();
  if (i % 2 === 0) spin(150);
  else Atomics.wait(sleeper, 0, 0, 150);
  for (let tries = 0; tries < 50 && found.length === 0; tries++) await idle(5);
  const [stall] = found;
  if (stall === undefined) missed++;
  else
    (i % 2 === 0 ? late.busy : late.asleep).push(
      stall.startedAt + stall.noticedAfterMs - began - THRESHOLD,
    );
}
console.log(
  `${STALLS} staged stalls, ${missed} missed; delay of the notice after the threshold of ${THRESHOLD} ms`,
);
for (const [title, times] of Object.entries({ ...late, all: [...late.busy, ...late.asleep] })) {
  times.sort((a, b) => a - b);
  const at = (quantile) =>
    times[Math.min(times.length - 1, Math.floor(times.length * quantile))]?.toFixed(1);
  console.log(`  ${title.padEnd(8)} p50 ${at(0.5)} ms, p99 ${at(0.99)} ms, longest ${at(1)} ms`);
  if (title === 'all')
    verdict('noticed after the threshold, p99', Number(at(0.99)), 'ms', { most: 30, aim: 10 });
}
verdict('staged stalls missed', missed, '', { most: 0 });

const start = performance.now();
monitor.close();
verdict('close()', performance.now() - start, 'ms', { most: 50 });
manager.cleanup();
if (kept === -1) console.log(kept);
