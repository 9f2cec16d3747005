// Timers against the host's own: schedule and cancel with 100,000 live, and the memory of a pending one.
import { TimerManager } from '../dist/index.js';
import { compare, machine, report } from './compare.mjs';

const LIVE = 100_000;
const CYCLES = 200_000;
const noop = () => undefined;
const host = { setTimeout, clearTimeout };
const plain = new TimerManager({ context: 'none' });
const capturing = new TimerManager();
console.log(`${machine}, ${LIVE} live timers`);

const collect = () => {
  for (let i = 0; i < 3; i++)
    if ('bun' in process.versions) globalThis.Bun.gc(true);
    else globalThis.gc?.();
};
// Memory first: what the rest frees, this would use again. By heap and buffers on Node, by resident set on Bun.
if ('bun' in process.versions || globalThis.gc !== undefined) {
  const MANY = 1_000_000;
  const used = () => {
    collect();
    const { heapUsed, arrayBuffers, rss } = process.memoryUsage();
    return 'bun' in process.versions ? rss : heapUsed + arrayBuffers;
  };
  const figure = (target) => {
    const before = used();
    for (let i = 0; i < MANY; i++) target.setTimeout(noop, 1e8 + (i % 100_000)).unref();
    return (used() - before) / MANY;
  };
  const rows = [
    ['portcullis, context: none', figure(new TimerManager({ context: 'none' }))],
    ['portcullis, context: capture', figure(new TimerManager())],
  ];
  report('memory of a pending timer, handle not kept', [['host', figure(host)], ...rows], 'B');
}

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
