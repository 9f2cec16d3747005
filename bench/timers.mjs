// Timers against the host's own: schedule and cancel with 100,000 live.
import { TimerManager } from '../dist/index.js';
import { compare, machine } from './compare.mjs';

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
// A loop of its own for each: what one makes of the call does not change another's.
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
compare('schedule + cancel', [
  ['host', churn(host)],
  ['portcullis, context: none', churn(plain)],
  ['portcullis, context: capture', churn(capturing)],
]);
process.exit(0);
