// Measures what the live page costs each second, in CPU time of the process: with a viewer, and while
// nobody looks. Run: node bench/page.mjs [routes]
import {
  ConnectionManager,
  ProductionMetrics,
  ResourceMonitor,
  TimerManager,
} from '../dist/index.js';
import { SHOWN } from '../dist/page/mask.js';
import { Recorder } from '../dist/page/recorder.js';
import { compare, machine, verdict } from './compare.mjs';

const routes = Number(process.argv[2] ?? 40);
const timers = new TimerManager();
const monitor = new ResourceMonitor({}, { timers, log: false });
const metrics = new ProductionMetrics({ timers, monitor });
const connections = new ConnectionManager({}, { timers });
const recorder = new Recorder({ connections, timers, monitor, metrics }, 'bench', 8, SHOWN);
const SECONDS = 40;

/** Requests of a second. */
function serve() {
  for (let at = 0; at < 1000; at++)
    metrics.recordRequest(1 + (at % 40), { route: `/${at % routes}`, method: 'GET', status: 200 });
}
const second = (look) => () => {
  let spent = 0;
  for (let at = 0; at < SECONDS; at++) {
    serve();
    const begun = process.cpuUsage();
    look();
    const { user, system } = process.cpuUsage(begun);
    spent += user + system;
  }
  return spent / 1000 / SECONDS;
};
for (let at = 0; at < 3; at++) {
  serve();
  await new Promise((resolve) => setTimeout(resolve, 1000));
}
console.log(`${machine}, ${routes} routes`);
const [, unseen] = compare(
  'a second of the live page, without the sending',
  [
    ['with a viewer', second(() => recorder.look(1, 0, true))],
    ['while nobody looks', second(() => recorder.glance())],
  ],
  { unit: 'ms' },
);
verdict('while nobody looks', unseen, 'ms', { most: 0.3 });
process.exit();
