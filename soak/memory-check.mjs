// Checks that a server's memory does not grow with the number of clients that it has served.
import { inParallel } from './in-parallel.mjs';

const MIB = 2 ** 20;
/** Growth of the resident set that allocators and late compilation explain, MiB. */
const RSS_SLACK_MIB = 24;
/**
 * Growth of the heap by the engine's own type feedback, MiB. One object kept by each of 15,000
 * connections would exceed it.
 */
const HEAP_SLACK_MIB = 1;
const OBJECTS_EACH = 0.1;
/** Fewer runs measure only compilation and caches, so their growth is reported but not judged. */
const LEAST = 20_000;

/**
 * Runs `task(i)` for every `i` below `count`, 64 at a time. The first quarter warms the server up.
 * @param {import('./process.mjs').Server} server must have no seats taken after the warm-up and at
 *   the end
 * @returns the memory before and after, as text
 * @throws if the memory has grown
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
  await server.atMostSockets(0);
  const said = [`resident ${mib(before.rss)} MiB, later ${mib(after.rss)}; no socket left`];
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
