// Memory of a pending timer whose handle is not kept: node --expose-gc bench/timer-memory.mjs <host|none|capture>
// One contestant a process: what one frees, the other would reuse. By heap and buffers on Node; by
// resident set on Bun, whose heap figures leave out what matters. Prints bytes per timer.
import { TimerManager } from '../dist/index.js';

const MANY = 1_000_000;
const noop = () => undefined;
const isBun = 'bun' in process.versions;
const used = async () => {
  // What was freed goes back to the system a while later.
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
