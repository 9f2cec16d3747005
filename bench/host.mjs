// The cost of `cluster: 'host'` beside the index of one process, in CPU time of the thread.
// Run: npm run bench -- --only host, or: node bench/host.mjs [live]
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { ConnectionManager, TimerManager } from '../dist/index.js';
import { compare, machine, verdict } from './compare.mjs';
import { LIMITS, addressOf, socket } from './population.mjs';

if (process.platform !== 'linux') {
  console.log("skipped: cluster: 'host' needs Linux");
  process.exit();
}
const live = Number(process.argv[2] ?? 10_000);
/** Keys that the file has room for: the default, unless more are live. */
const CAPACITY = Math.max(65_536, 4 * live);
const NAME = `bench-${process.ppid}`;
const managerOf = (options) => new ConnectionManager(LIMITS, new TimerManager(), options);
const host = () => managerOf({ name: NAME, cluster: 'host', hostCapacity: CAPACITY });
const OTHER = 'other';
if (process.argv[3] === OTHER) {
  // Another process, which connects and disconnects all the time.
  const manager = managerOf({ name: process.argv[4], cluster: 'host', hostCapacity: CAPACITY });
  process.stdin.resume().on('end', () => {
    manager.close();
    process.exit();
  });
  console.log('ready');
  for (let i = 0; ; i++) {
    manager.addConnection('one', socket, addressOf(i % live), `user-${i % live}`);
    manager.removeConnection('one');
    if (i % 1000 === 0) await new Promise((done) => void setImmediate(done));
  }
}

const fill = (manager) => {
  for (let i = 0; i < live; i++)
    manager.addConnection(`live-${i}`, socket, addressOf(i), `user-${i}`);
  return manager;
};
console.log(`${machine}, ${live} live`);
const COUNT = 20_000;
/** CPU time of this process: what other processes take does not count. */
const cpu = (run) => {
  const before = process.cpuUsage();
  for (let i = 0; i < COUNT; i++) run(i);
  const { user, system } = process.cpuUsage(before);
  return ((user + system) * 1000) / COUNT;
};
let turn = 0;
const cycle = (manager) => () => {
  turn++;
  return cpu((i) => {
    const id = `a-${turn}-${i}`;
    manager.addConnection(id, socket, addressOf((turn * COUNT + i) & 0xff_ffff), `u-${turn}-${i}`);
    manager.removeConnection(id);
  });
};
const own = fill(managerOf({}));
const named = fill(managerOf({ name: NAME }));
const shared = fill(host());
const full = managerOf({ name: `${NAME}-full`, cluster: 'host' });
full.updateLimits({ maxConnectionsPerIp: 1 });
full.addConnection('only', socket, '192.0.2.1', 'user');
const TITLE = 'add + remove of a new address and user';
const rounds = { rounds: 21 };
const [ownNs, , hostNs] = compare(
  TITLE,
  [
    ['an index of its own', cycle(own)],
    ['an index with a name', cycle(named)],
    ["cluster: 'host', alone", cycle(shared)],
  ],
  rounds,
);
verdict('more than an own index', hostNs - ownNs, 'ns', { most: 2000, aim: 1100 });
compare(
  'a refusal, at a limit over all processes',
  [["cluster: 'host'", () => cpu((i) => full.addConnection(`r-${i}`, socket, '192.0.2.1', 'u'))]],
  rounds,
);

const other = spawn(process.execPath, [process.argv[1], String(live), OTHER, NAME], {
  stdio: ['pipe', 'pipe', 'inherit'],
});
await once(other.stdout, 'data');
const [againNs, busyNs] = compare(
  `${TITLE}, while another process does the same`,
  [
    ['an index with a name', cycle(named)],
    ["cluster: 'host'", cycle(shared)],
  ],
  rounds,
);
verdict('more than a named index', busyNs - againNs, 'ns', { most: 3000, aim: 1500 });
const gone = once(other, 'exit');
other.stdin.end();
await gone;
for (const manager of [own, named, shared, full]) manager.close();
