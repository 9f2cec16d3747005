// Leases at a rate above every internal batch: 10,000 a second, where a sweep expires 4,096 at once.
// Prints the most seats that were taken, the most that may be, and the seats that are left.
import { ConnectionManager, TimerManager } from '../../dist/index.js';
import { ManualClock } from '../../dist/testing.js';
import { SeededRandom } from '../seeded-random.mjs';

const [seed, seconds] = process.argv.slice(2);
const random = new SeededRandom(seed);
const PER_SECOND = 10_000;
const STEP_MS = 100;
const LEASE_MS = 2000;
/** A lease ends by two ticks and one sweep after its timeout, at the latest. */
const LATE_MS = 3000;
const OPEN_MS = 1000;

const clock = new ManualClock();
const timers = new TimerManager({ clock });
const manager = new ConnectionManager(
  { connectionTimeoutMs: OPEN_MS, cleanupIntervalMs: 500 },
  { timers, leaseTimeoutMs: LEASE_MS },
);
const socket = { close() {} };
let reserved = 0;
let most = 0;
for (let ms = 0; ms < Number(seconds) * 1000; ms += STEP_MS) {
  for (let i = 0; i < (PER_SECOND * STEP_MS) / 1000; i++) {
    const lease = manager.reserve(`10.${random.below(256)}.${random.below(256)}.1`);
    if (!lease.success) throw new Error(`a lease was refused: ${lease.code}`);
    reserved++;
    // A half is used at once: given back, or opened for a client that falls silent.
    if (i % 4 === 0) manager.abort(lease);
    else if (i % 4 === 1) manager.commit(lease, `c${reserved}`, socket);
  }
  clock.advance(STEP_MS);
  most = Math.max(most, manager.snapshot().totalConnections);
}
clock.advance(60_000);
const left = manager.snapshot().totalConnections;
const half = PER_SECOND / 2000;
const quarter = PER_SECOND / 4000;
const bound = half * (LEASE_MS + LATE_MS) + quarter * (OPEN_MS + LATE_MS);
manager.close();
console.log(JSON.stringify({ most, bound, left, reserved }));
