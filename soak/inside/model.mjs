// Compares managers of one name, two in each worker, with a naive model: first one operation at a
// time, then rushes of all workers at once. Now and then a worker ends and another one takes its
// place.
import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import { SeededRandom } from '../seeded-random.mjs';
import { LIMITS, broken, countsOf, draw, expected } from './operations.mjs';

const [seed, count, rounds] = process.argv.slice(2);
const WORKERS = 4;
const random = new SeededRandom(seed);
const start = new SharedArrayBuffer(4);
const gate = new Int32Array(start);
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

/** Compares the counts of a worker with the seats that all workers hold. */
async function compareCounts(member, title) {
  const { stats } = await ask(member, {});
  const counts = countsOf(all());
  if (!same(stats, counts)) fail(`${title}: ${JSON.stringify({ stats, counts })}`);
}

/** Ends a worker and starts another one; its seats must be free. */
async function replace(at, title) {
  await members[at].worker.terminate();
  await begin(at);
  await compareCounts(members[at], `${title}, a worker has ended`);
}

/** Compares single operations with the model; returns how often each outcome came. */
async function compareOperations(steps) {
  const outcomes = {};
  for (let step = 0; step < steps; step++) {
    if (random.next() < 0.003) await replace(random.below(WORKERS), `step ${step}`);
    const member = random.pick(members);
    const operation = draw(random);
    const wanted = expected(all(), member.held, operation);
    const { outcome, stats, held } = await ask(member, { operation });
    outcomes[outcome] = (outcomes[outcome] ?? 0) + 1;
    member.held = held;
    const counts = countsOf(all());
    if (outcome !== wanted) fail(`step ${step}: ${JSON.stringify({ operation, wanted, outcome })}`);
    if (!same(stats, counts)) fail(`step ${step}: ${JSON.stringify({ operation, stats, counts })}`);
  }
  return outcomes;
}

/**
 * Lets all workers perform operations at the same time, and ends one in the middle of the next
 * rush.
 */
async function rush(round) {
  const title = `rush ${round}`;
  const target = Atomics.load(gate, 0) + WORKERS;
  const answers = await Promise.all(
    members.map((member, at) =>
      ask(member, { rush: { target, seed: `${seed} ${round} ${at}`, count: 2000 } }),
    ),
  );
  answers.forEach(({ held, most }, at) => {
    members[at].held = held;
    if (most > LIMITS.maxTotalConnections) fail(`${title}: ${most} seats were taken`);
  });
  const limit = broken(all());
  if (limit !== undefined) fail(`${title}: more than ${limit} allows: ${JSON.stringify(all())}`);
  await compareCounts(members[0], title);
  const at = random.below(WORKERS);
  members[at].worker.postMessage({ rush: { target: 0, seed: `${seed} ${round}`, count: 1e9 } });
  await new Promise((resolve) => void setTimeout(resolve, random.below(20)));
  await replace(at, title);
}

/** Ends the workers one by one; each time, the others must count one worker's seats less. */
async function endAll() {
  for (const [at, member] of members.entries()) {
    const { timers } = await ask(member, {});
    if (timers !== 4) fail(`${timers} timers for two managers`);
    await member.worker.terminate();
    member.held = [];
    const other = members[at + 1];
    if (other !== undefined) await compareCounts(other, 'at the end');
  }
}

await Promise.all(Array.from({ length: WORKERS }, (_, at) => begin(at)));
const outcomes = await compareOperations(Number(count));
for (let round = 0; round < Number(rounds); round++) await rush(round);
await endAll();
console.log(JSON.stringify(outcomes));
process.exit(0);
