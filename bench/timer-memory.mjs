// Prints the memory of a pending timer whose handle is dropped, bytes.
// Run: node --expose-gc bench/timer-memory.mjs <host|none|capture>
// Each contestant has its own process: one would reuse the memory that the other has freed. On Node
// the figure is heap and buffers; on Bun it is the resident set, because Bun's heap figures omit
// part of this memory.
import { TimerManager } from '../dist/index.js';

const MANY = 1_000_000;
const noop = () => undefined;
const isBun = 'bun' in process.versions;
const used = async () => {
  // Freed memory returns to the system after a while.
  for (let round = 0; round < 3; round++) {
    for (let i = 0; i < 3; i++) {
      if (isBun) globalThis.Bun.gc(true);
      else globalThis.gc();
    }
    await new Promise((resolve) => setTimeout(resolve, 300));
  }
  const { heapUsed, arrayBuffers, rss } = process.memoryUsage();
  return isBun ? rss : heapUsed + arrayBuffers;
};
const context = process.argv[2];
const target = context === 'host' ? { setTimeout } : new TimerManager({ context });
const before = await used();
for (let i = 0; i < MANY; i++) target.setTimeout(noop, 1e8 + (i % 100_000)).unref();
console.log((((await used()) - before) / MANY).toFixed(1));
process.exit(0);
