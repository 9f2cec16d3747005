// Resident memory per connection: node --expose-gc bench/memory.mjs <twin|portcullis> [live]
// One contestant a process: what one frees, the other would reuse. Prints bytes per connection.
import { ConnectionManager, TimerManager } from '../dist/index.js';
import { TwinConnectionManager } from './twin.mjs';

const live = Number(process.argv[3] ?? 1_000_000);
const socket = { close() {} };
const limits = {
  maxTotalConnections: 4e6,
  maxConnectionsPerIp: 100,
  maxConnectionsPerUser: 100,
  connectionTimeoutMs: 3e7,
  cleanupIntervalMs: 1e7,
};
const manager =
  process.argv[2] === 'twin'
    ? new TwinConnectionManager(limits)
    : new ConnectionManager(limits, new TimerManager());
const collect = () => {
  if ('bun' in process.versions) for (let i = 0; i < 3; i++) globalThis.Bun.gc(true);
  else for (let i = 0; i < 3; i++) globalThis.gc();
};
collect();
const before = process.memoryUsage.rss();
const flat = (text) => Buffer.from(text).toString('latin1');
for (let i = 0; i < live; i++)
  manager.addConnection(
    flat(`id-${i}`),
    socket,
    flat(`10.${(i >> 16) & 255}.${(i >> 8) & 255}.${i & 255}`),
    flat(`user-${i}`),
  );
collect();
await new Promise((resolve) => setTimeout(resolve, 300));
collect();
console.log(((process.memoryUsage.rss() - before) / live).toFixed(0));
if (manager.connections.size !== live) throw new Error('not all were admitted');
process.exit(0);
