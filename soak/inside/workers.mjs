// Terminates workers at random moments and prints the seats and timers that they leave. The process
// has a manager of the same name.
import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import { ConnectionManager, TimerManager, TokenVerifier } from '../../dist/index.js';
import { SeededRandom } from '../seeded-random.mjs';
import { ecdsaToken } from './ecdsa-token.mjs';

const [seed, count, width] = process.argv.slice(2);
const random = new SeededRandom(seed);
const { token, pem } = ecdsaToken();
const name = 'soak.workers';
const timers = new TimerManager();
const manager = new ConnectionManager({ connectionTimeoutMs: 50, cleanupIntervalMs: 10 }, timers, {
  name,
});
const before = timers.getActiveTimersCount();
const workerData = {
  name,
  connections: 200,
  timers: 100,
  tokens: Array.from({ length: 1024 }, () => token),
  pem,
};

let left = Number(count);
const one = async () => {
  while (left-- > 0) {
    // Some are terminated during their start, or even before their first line.
    const early = random.next() < 0.3;
    const worker = new Worker(new URL('worker.mjs', import.meta.url), {
      workerData: { ...workerData, early },
    });
    worker.on('error', (error) => {
      console.error(error);
      process.exit(1);
    });
    if (!early || random.next() < 0.7) await once(worker, 'message');
    await new Promise((resolve) => void setTimeout(resolve, random.below(60)));
    await worker.terminate();
    console.log('ended');
  }
};
await Promise.all(Array.from({ length: Number(width) }, one));

const { totalConnections, connectionsByIp, connectionsByUser, anonymousConnections } =
  manager.getStats();
// Batches and timers of this thread must still work.
const results = await new TokenVerifier({ algorithms: ['ES256'], keys: { pem } }).verifyBatch([
  token,
  'x',
]);
await timers.sleep(5);
console.log(
  JSON.stringify({
    left: [totalConnections, connectionsByIp, connectionsByUser, anonymousConnections],
    timers: timers.getActiveTimersCount() - before,
    results: results.map(({ success }) => success),
    rss: Math.round(process.memoryUsage.rss() / 2 ** 20),
  }),
);
process.exit(0);
