// Reports the server's own figures to its parent process.
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

const BEAT_MS = 10;
let delays = [];

/** Returns the live bytes after a garbage collection: the objects of the heap, and the memory that they hold outside. */
async function liveBytes() {
  if (process.versions.bun !== undefined) {
    const { heapStats } = await import('bun:jsc');
    // The second collection frees what finalizers of the first have let go.
    for (let time = 0; time < 2; time++) globalThis.Bun.gc(true);
    const { heapSize, extraMemorySize } = heapStats();
    return heapSize + extraMemorySize;
  }
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc');
  for (let time = 0; time < 2; time++) collect();
  const { heapUsed, external } = process.memoryUsage();
  return heapUsed + external;
}

/**
 * Sends the port to the parent, and the figures since the last question whenever the parent asks.
 * @param ban bans an address, where the server can
 */
export function report(port, seats, ban) {
  let due = performance.now() + BEAT_MS;
  setInterval(() => {
    const now = performance.now();
    // A blocked loop misses beats. Count each of them with the rest of the block as its delay.
    for (let late = Math.max(0, now - due); late >= 0; late -= BEAT_MS) delays.push(late);
    due = now + BEAT_MS;
  }, BEAT_MS);
  process.on('message', async ({ banned, isLive }) => {
    if (banned !== undefined) ban(banned);
    if (isLive) return process.send({ liveBytes: await liveBytes() });
    const sorted = delays.toSorted((a, b) => a - b);
    delays = [];
    const { user, system } = process.cpuUsage();
    return process.send({
      seats: seats(),
      rssBytes: process.memoryUsage.rss(),
      cpuSeconds: (user + system) / 1e6,
      kernelSeconds: system / 1e6,
      delayP99Ms: sorted[Math.ceil(sorted.length * 0.99) - 1] ?? 0,
      delayMaxMs: sorted.at(-1) ?? 0,
    });
  });
  process.on('disconnect', () => process.exit());
  process.send({ port });
}
