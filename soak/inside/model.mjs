// Workers with two managers each, all of one name: one operation at a time against a naive model, then
// all of them at once; now and then a worker is ended, and another takes its place.
import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import { SeededRandom } from '../seeded-random.mjs';
import { LIMITS, broken, countsOf, draw, expected } from './operations.mjs';

const [seed, count, rounds] = process.argv.slice(2);
const WORKERS = 4;
const random = new SeededRandom(seed);
const start = new SharedArrayBuffer(4);
const members = [];
const fail = (what) => {
  console.log(`the model disagrees: ${what}`);
  process.exit(1);
};
const begin = async (at) => {
  const worker = new Worker(new URL('member.mjs', import.meta.url), {
    workerData: { name: 'soak.model', start },
  });
  worker.on('error', (error) => fail(error.stack));
  await once(worker, 'message');
  members[at] = { worker, held: [] };
};
const ask = async (member, message) => {
  const answer = once(member.worker, 'message');
  member.worker.postMessage(message);
  return (await answer)[0];
};
const all = () => members.flatMap(({ held }) => held);
const same = (left, right) => JSON.stringify(left) === JSON.stringify(right);

await Promise.all(Array.from({ length: WORKERS }, (_, at) => begin(at)));
const seen = {};
for (let step = 0; step < Number(count); step++) {
  if (random.next() < 0.003) {
    const at = random.below(WORKERS);
    await members[at].worker.terminate();
    await begin(at);
    const { stats } = await ask(members[at], {});
    if (!same(stats, countsOf(all())))
      fail(
        `step ${step}, a worker has ended: ${JSON.stringify({ stats, counts: countsOf(all()) })}`,
      );
  }
  const member = random.pick(members);
  const operation = draw(random);
  const wanted = expected(all(), member.held, operation);
  const { outcome, stats, held } = await ask(member, { operation });
  seen[outcome] = (seen[outcome] ?? 0) + 1;
  member.held = held;
  if (outcome !== wanted) fail(`step ${step}: ${JSON.stringify({ operation, wanted, outcome })}`);
  if (!same(stats, countsOf(all())))
    fail(`step ${step}: ${JSON.stringify({ operation, stats, counts: countsOf(all()) })}`);
}
const gate = new Int32Array(start);
for (let round = 0; round < Number(rounds); round++) {
  const target = Atomics.load(gate, 0) + WORKERS;
  const answers = await Promise.all(
    members.map((member, at) =>
      ask(member, { rush: { target, seed: `${seed} ${round} ${at}`, count: 2000 } }),
    ),
  );
  answers.forEach(({ held, most }, at) => {
    members[at].held = held;
    if (most > LIMITS.maxTotalConnections) fail(`rush ${round}: ${most} seats were taken`);
  });
  const limit = broken(all());
  if (limit !== undefined)
    fail(`rush ${round}: more than ${limit} allows: ${JSON.stringify(all())}`);
  const { stats } = await ask(members[0], {});
  if (!same(stats, countsOf(all())))
    fail(`rush ${round}: ${JSON.stringify({ stats, counts: countsOf(all()) })}`);
  // One is ended in the middle of the next rush.
  const at = random.below(WORKERS);
  const ending = members[at].worker;
  ending.postMessage({ rush: { target: 0, seed: `${seed} ${round}`, count: 1e9 } });
  await new Promise((resolve) => void setTimeout(resolve, random.below(20)));
  await ending.terminate();
  await begin(at);
  const after = await ask(members[at], {});
  if (!same(after.stats, countsOf(all())))
    fail(
      `rush ${round}, a worker has ended: ${JSON.stringify({ stats: after.stats, counts: countsOf(all()) })}`,
    );
}
for (const [at, member] of members.entries()) {
  const { timers } = await ask(member, {});
  if (timers !== 4) fail(`${timers} timers for two managers`);
  await member.worker.terminate();
  member.held = [];
  const other = members[at + 1];
  if (other === undefined) break;
  const { stats } = await ask(other, {});
  if (!same(stats, countsOf(all())))
    fail(`at the end: ${JSON.stringify({ stats, counts: countsOf(all()) })}`);
}
console.log(JSON.stringify(seen));
process.exit(0);
