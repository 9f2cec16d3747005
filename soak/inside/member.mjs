// Two managers of one name, in a worker: performs the operations of the main thread and reports
// their outcomes.
import { parentPort, workerData } from 'node:worker_threads';
import { ConnectionManager, TimerManager } from '../../dist/index.js';
import { SeededRandom } from '../seeded-random.mjs';
import { Holder, LIMITS, draw } from './operations.mjs';

const { name, start } = workerData;
const timers = new TimerManager();
const open = () => new ConnectionManager(LIMITS, timers, { name, leaseTimeoutMs: 2 ** 30 });
const holder = new Holder(open);
const gate = new Int32Array(start);
parentPort.on('message', ({ operation, rush }) => {
  if (operation !== undefined)
    return parentPort.postMessage({
      outcome: holder.perform(operation),
      stats: holder.counts(),
      held: holder.seats(),
    });
  if (rush === undefined)
    return parentPort.postMessage({
      stats: holder.counts(),
      timers: timers.getActiveTimersCount(),
    });
  // Wait until all workers are here, then perform operations as fast as possible.
  Atomics.add(gate, 0, 1);
  Atomics.notify(gate, 0);
  for (let seen; (seen = Atomics.load(gate, 0)) < rush.target;) Atomics.wait(gate, 0, seen, 1000);
  const random = new SeededRandom(rush.seed);
  let most = 0;
  for (let at = 0; at < rush.count; at++) {
    holder.perform(draw(random));
    most = Math.max(most, holder.counts()[0]);
  }
  return parentPort.postMessage({ held: holder.seats(), most });
});
parentPort.postMessage('ready');
