// Two managers on one name, in a worker: does what it is told, and tells what came of it.
import { parentPort, workerData } from 'node:worker_threads';
import { ConnectionManager, TimerManager } from '../../dist/index.js';
import { Dice } from '../dice.mjs';
import { LIMITS, draw, operate, told } from './operations.mjs';

const { name, start } = workerData;
const timers = new TimerManager();
const open = () => new ConnectionManager(LIMITS, timers, { name, leaseTimeoutMs: 2 ** 30 });
const managers = [open(), open()];
const held = [];
const gate = new Int32Array(start);
const statsOf = () => {
  const { totalConnections, connectionsByIp, connectionsByUser, anonymousConnections } =
    managers[0].snapshot();
  return [totalConnections, connectionsByIp, connectionsByUser, anonymousConnections];
};
parentPort.on('message', ({ operation, rush }) => {
  if (operation !== undefined)
    return parentPort.postMessage({
      outcome: operate(managers, open, held, operation),
      stats: statsOf(),
      held: told(held),
    });
  if (rush === undefined)
    return parentPort.postMessage({ stats: statsOf(), timers: timers.getActiveTimersCount() });
  // All workers at once, as fast as they can.
  Atomics.add(gate, 0, 1);
  Atomics.notify(gate, 0);
  for (let seen; (seen = Atomics.load(gate, 0)) < rush.target;) Atomics.wait(gate, 0, seen, 1000);
  const dice = new Dice(rush.seed);
  let most = 0;
  for (let at = 0; at < rush.count; at++) {
    operate(managers, open, held, draw(dice));
    most = Math.max(most, statsOf()[0]);
  }
  return parentPort.postMessage({ held: told(held), most });
});
parentPort.postMessage('ready');
