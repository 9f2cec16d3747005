// Cost of keeping the context of each request of Elysia, which answers to refused requests need where the app has
// hooks of its own. Variants of two guarded apps, one with such a hook, take turns in one process; a bare app is the
// measure of them.
//   node_modules/.bin/bun bench/elysia-context.mjs
import { Elysia } from 'elysia';
import { AppAnswers } from '../dist/adapters/elysia-answers.js';
import { portcullis } from '../dist/elysia.js';

const ROUNDS = 30;
const REQUESTS = 5_000;
const kept = AppAnswers.prototype.request;
const dropped = () => undefined;

// They listen, as in production: the guard learns of its app so.
const listen = (app) => app.get('/', () => 'hello').listen({ port: 0, hostname: '127.0.0.1' });
const bare = listen(new Elysia());
const plain = listen(new Elysia().use(portcullis({ limits: {}, requests: {} })));
const hooked = listen(
  new Elysia().use(portcullis({ limits: {}, requests: {} })).onError(() => undefined),
);

/** Sends requests one after the other; returns nanoseconds of CPU for each, which other programs do not delay. */
async function timeOf(app) {
  const start = process.cpuUsage();
  for (let index = 0; index < REQUESTS; index++)
    await app.handle(new Request('http://127.0.0.1:3000/'));
  const { user, system } = process.cpuUsage(start);
  return ((user + system) / REQUESTS) * 1000;
}

const median = (values) => values.toSorted((a, b) => a - b)[values.length >> 1];
const PAIRS = [
  ['no hooks', plain],
  ['a hook', hooked],
];
const times = { bare: [] };
for (let round = -3; round < ROUNDS; round++) {
  const found = { bare: await timeOf(bare) };
  // Each variant is first in every other round.
  const order = [
    ['without', dropped],
    ['with', kept],
  ];
  for (const [name, app] of PAIRS)
    for (const [variant, request] of round % 2 === 0 ? order : order.toReversed()) {
      AppAnswers.prototype.request = request;
      found[`${name}, ${variant}`] = await timeOf(app);
    }
  // The first rounds warm up.
  if (round >= 0) for (const [name, ns] of Object.entries(found)) (times[name] ??= []).push(ns);
}
const bareNs = Math.min(...times.bare);
for (const [name, all] of Object.entries(times))
  console.log(`${name.padEnd(18)} ${Math.min(...all).toFixed(0)} ns at best`);
for (const [name] of PAIRS) {
  const without = times[`${name}, without`];
  const difference = median(times[`${name}, with`].map((value, round) => value - without[round]));
  console.log(
    `with ${name}, it costs ${difference.toFixed(0)} ns in the median, ${((difference / bareNs) * 100).toFixed(1)} % of a bare request`,
  );
}
process.exit();
