// Whether a server's memory stays as it is while something is done to it many times.
import { inParallel } from './in-parallel.mjs';

const MIB = 2 ** 20;
/** What allocators keep, and engines compile late. */
const RSS_SLACK_MIB = 24;
/** What engines learn of the code meanwhile; of 15,000 connections it is less than the smallest thing that each could leave. */
const HEAP_SLACK_MIB = 1;
const OBJECTS_EACH = 0.1;
/** Fewer tell of what is compiled and cached, and of nothing else. */
const LEAST = 20_000;

/**
 * Runs `task(i)` for every `i` below `count`, 64 at once; warms up with a quarter of them.
 * @param {import('./process.mjs').Server} server which is to be empty again after each part
 * @returns what memory did, as text
 * @throws if it has grown
 */
export async function checkMemory(server, count, tell, task) {
  let done = 0;
  const some = (from, to) =>
    inParallel(to - from, 64, async (at) => {
      await task(from + at);
      if (++done % 500 === 0) tell(`${done} of ${count}`);
    });
  const warm = Math.ceil(count / 4);
  await some(0, warm);
  await server.seats(0);
  const before = await server.memory();
  await some(warm, count);
  await server.seats(0);
  const after = await server.memory();
  const mib = (bytes) => (bytes / MIB).toFixed(0);
  const said = [`resident ${mib(before.rss)} MiB, later ${mib(after.rss)}`];
  if (count < LEAST) return said.join();
  const each = (key) => (after[key] - before[key]) / (count - warm);
  if (after.heap !== undefined) said.push(`heap ${each('heap').toFixed(1)} bytes each`);
  if (after.objects !== undefined) said.push(`${each('objects').toFixed(3)} objects each`);
  const hasGrown =
    after.rss - before.rss > RSS_SLACK_MIB * MIB ||
    after.heap - before.heap > HEAP_SLACK_MIB * MIB ||
    each('objects') > OBJECTS_EACH;
  if (hasGrown) throw new Error(`memory grows: ${said.join('; ')}`);
  return said.join('; ');
}
