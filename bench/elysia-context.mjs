// Cost of keeping the context of each request of Elysia, which answers to refused requests need. Two variants take
// turns in one process; a bare app is the measure of them.
//   node_modules/.bin/bun bench/elysia-context.mjs
import { Elysia } from 'elysia';
import { AppAnswers } from '../dist/adapters/elysia-answers.js';
import { portcullis } from '../dist/elysia.js';

const ROUNDS = 30;
const REQUESTS = 5_000;
const kept = AppAnswers.prototype.request;
const dropped = () => undefined;

const bare = new Elysia().get('/', () => 'hello');
const guarded = new Elysia().use(portcullis({ limits: {}, requests: {} })).get('/', () => 'hello');

/** Sends requests one after the other; returns nanoseconds of CPU for each, which other programs do not delay. */
async function timeOf(app) {
  const start = process.cpuUsage();
  for (let index = 0; index < REQUESTS; index++)
    await app.handle(new Request('http://127.0.0.1:3000/'));
  const { user, system } = process.cpuUsage(start);
  return ((user + system) / REQUESTS) * 1000;
}

const median = (values) => values.toSorted((a, b) => a - b)[values.length >> 1];
const times = { bare: [], 'without context': [], 'with context': [] };
for (let round = -3; round < ROUNDS; round++) {
  const found = { bare: await timeOf(bare) };
  // Each variant is first in every other round.
  const order = [
    ['without context', dropped],
    ['with context', kept],
  ];
  for (const [name, request] of round % 2 === 0 ? order : order.toReversed()) {
    AppAnswers.prototype.request = request;
    found[name] = await timeOf(guarded);
  }
  // The first rounds warm up.
  if (round >= 0) for (const [name, ns] of Object.entries(found)) times[name].push(ns);
}
const ns = Object.fromEntries(Object.entries(times).map(([name, all]) => [name, Math.min(...all)]));
const least = ns['with context'] - ns['without context'];
const difference = median(
  times['with context'].map((value, round) => value - times['without context'][round]),
);
for (const [name, value] of Object.entries(ns))
  console.log(`${name.padEnd(16)} ${value.toFixed(0)} ns at best`);
for (const [what, value] of [
  ['at best', least],
  ['in the median', difference],
])
  console.log(
    `the context      ${value.toFixed(0)} ns ${what}, ${((value / ns.bare) * 100).toFixed(1)} % of a bare request`,
  );
process.exit();
