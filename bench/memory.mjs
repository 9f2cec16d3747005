// Prints the resident memory of a connection, bytes.
// Run: node --expose-gc bench/memory.mjs <twin|portcullis> [live]
// Each contestant has its own process: one would reuse the memory that the other has freed.
import { ConnectionManager, TimerManager } from '../dist/index.js';
import { LIMITS, addressOf, socket } from './population.mjs';
import { TwinConnectionManager } from './twin.mjs';

const live = Number(process.argv[3] ?? 1_000_000);
const manager =
  process.argv[2] === 'twin'
    ? new TwinConnectionManager(LIMITS)
    : new ConnectionManager(LIMITS, new TimerManager());
const collect = () => {
  if ('bun' in process.versions) for (let i = 0; i < 3; i++) globalThis.Bun.gc(true);
  else for (let i = 0; i < 3; i++) globalThis.gc();
};
collect();
const before = process.memoryUsage.rss();
const flat = (text) => Buffer.from(text).toString('latin1');
for (let i = 0; i < live; i++)
  manager.addConnection(flat(`id-${i}`), socket, flat(addressOf(i)), flat(`user-${i}`));
collect();
await new Promise((resolve) => setTimeout(resolve, 300));
collect();
console.log(((process.memoryUsage.rss() - before) / live).toFixed(0));
if (manager.connections.size !== live) throw new Error('not all were admitted');
process.exit(0);
