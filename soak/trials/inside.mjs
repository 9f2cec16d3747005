// Trials inside a host: workers that end, processes that end, managers against a model.
import { inParallel } from '../in-parallel.mjs';
import { Process } from '../process.mjs';

/** Runs a file in the host to its end; returns the last line of its output, parsed. */
async function run({ command }, args, tell) {
  const process = new Process(command, args);
  let lines = 0;
  process.child.stdout.on('data', (data) =>
    tell(`${(lines += String(data).split('\n').length - 1)} lines`),
  );
  const ended = await process.ended;
  const said = `${process.out}${process.err}`;
  if (ended !== 0) throw new Error(`${process.title} ended with ${ended}: ${said.slice(-2000)}`);
  if (process.err !== '') throw new Error(`${process.title} printed errors: ${process.err}`);
  return JSON.parse(process.out.trim().split('\n').at(-1));
}

/** @param {import('../plan.mjs').Context} context */
export async function workers({ host, seed, counts, tell }) {
  const width = Math.min(4, counts.workers);
  const { left, timers, results, rss } = await run(
    host,
    ['soak/inside/workers.mjs', seed, String(counts.workers), String(width)],
    tell,
  );
  if (left.some((count) => count !== 0)) throw new Error(`ended workers still hold seats: ${left}`);
  if (timers !== 0) throw new Error(`${timers} timers are left`);
  if (results[0] !== true || results[1] !== false)
    throw new Error(`verification no longer works: ${results}`);
  return `${counts.workers} workers ended with seats, timers, and a batch under way; ${rss} MiB at the end`;
}

/** @param {import('../plan.mjs').Context} context */
export async function model({ host, seed, counts, tell }) {
  const seen = await run(
    host,
    ['soak/inside/model.mjs', seed, String(counts.operations), String(counts.rushes)],
    tell,
  );
  const refusals = Object.entries(seen).filter(([code]) => code.endsWith('_limit')).length;
  return `${counts.operations} operations of 8 managers in 4 workers equal the model's, ${refusals} refusals by limits; ${counts.rushes} rushes of all workers`;
}

/** @param {import('../plan.mjs').Context} context */
export async function leases({ host, seed, counts, tell }) {
  const { most, bound, left, reserved } = await run(
    host,
    ['soak/inside/leases.mjs', seed, String(counts.leaseSeconds)],
    tell,
  );
  if (most > bound) throw new Error(`${most} seats were taken, at most ${bound} leases lived`);
  if (left !== 0) throw new Error(`${left} seats are left`);
  return `${reserved} leases in ${counts.leaseSeconds} s of a clock of its own, half of them never used: ${most} seats at most`;
}

/** The ways to end a process, with the expected exit code or signal. */
const WAYS = {
  exit: 7,
  'exit in a hook': 7,
  'exit in a worker': 7,
  throw: 1,
  'throw in a worker': 7,
  reject: 1,
  SIGTERM: 'SIGTERM',
  SIGINT: 'SIGINT',
  SIGKILL: 'SIGKILL',
  'abort of a loop that is blocked': 7,
  'by itself': 0,
  shutdown: 7,
};

/** @param {import('../plan.mjs').Context} context */
export async function exits({ host, counts, tell }) {
  const ways = Object.entries(WAYS);
  await inParallel(counts.exits * ways.length, 3, async (at) => {
    const [way, wanted] = ways[at % ways.length];
    const process = new Process(host.command, ['soak/inside/exit.mjs', way, String(counts.batch)]);
    const ended = await process.ended;
    if (ended !== wanted)
      throw new Error(
        `"${way}" ended with ${ended} instead of ${wanted}: ${process.out}${process.err}`,
      );
    tell(`${at} of ${counts.exits * ways.length}`);
  });
  return `${counts.exits * ways.length} processes ended in ${ways.length} ways, each with the expected code`;
}
