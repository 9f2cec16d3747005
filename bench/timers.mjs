// Compares timers with those of the host: schedule and cancel with 100,000 live timers.
import { TimerManager } from '../dist/index.js';
import { compare, machine, verdict } from './compare.mjs';

const LIVE = 100_000;
const CYCLES = 200_000;
const noop = () => undefined;
const host = { setTimeout, clearTimeout };
const plain = new TimerManager({ context: 'none' });
const capturing = new TimerManager();
console.log(`${machine}, ${LIVE} live timers`);

for (let i = 0; i < LIVE; i++) {
  host.setTimeout(noop, 1e7 + i).unref();
  plain.setTimeout(noop, 1e7 + i).unref();
  capturing.setTimeout(noop, 1e7 + i).unref();
}
// Each contestant has its own loop: an engine optimises its calls without regard to the others.
const churn = (target) =>
  new Function(
    'target',
    'noop',
    'cycles',
    `
  const start = performance.now();
  for (let i = 0; i < cycles; i++) target.clearTimeout(target.setTimeout(noop, 1e6 + (i % 1000)));
  return ((performance.now() - start) * 1e6) / cycles;
`,
  ).bind(null, target, noop, CYCLES);
const [hostNs, plainNs] = compare('schedule + cancel', [
  ['host', churn(host)],
  ['portcullis, context: none', churn(plain)],
  ['portcullis, context: capture', churn(capturing)],
]);
verdict('context: none, of the host', plainNs / hostNs, 'x', { most: 1.2 });
process.exit();
