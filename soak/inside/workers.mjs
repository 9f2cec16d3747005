// Ends workers at random moments, in a process that has a manager of the same name, and says what is left.
import { generateKeyPairSync, sign } from 'node:crypto';
import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import { ConnectionManager, TimerManager, TokenVerifier } from '../../dist/index.js';
import { Dice } from '../dice.mjs';

const [seed, count, width] = process.argv.slice(2);
const dice = new Dice(seed);
const { publicKey, privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
const base64url = (value) => Buffer.from(JSON.stringify(value)).toString('base64url');
const head = `${base64url({ alg: 'RS256', typ: 'JWT' })}.${base64url({ sub: 'ann', exp: Math.floor(Date.now() / 1000) + 36_000 })}`;
const token = `${head}.${sign('sha256', Buffer.from(head), privateKey).toString('base64url')}`;
const pem = publicKey.export({ type: 'spki', format: 'pem' });
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
    // Some are ended while they still begin, and even before they run.
    const early = dice.next() < 0.3;
    const worker = new Worker(new URL('worker.mjs', import.meta.url), {
      workerData: { ...workerData, early },
    });
    worker.on('error', (error) => {
      console.error(error);
      process.exit(1);
    });
    if (!early || dice.next() < 0.7) await once(worker, 'message');
    await new Promise((resolve) => void setTimeout(resolve, dice.below(60)));
    await worker.terminate();
    console.log('ended');
  }
};
await Promise.all(Array.from({ length: Number(width) }, one));

const { totalConnections, connectionsByIp, connectionsByUser, anonymousConnections } =
  manager.snapshot();
// A batch of its own still works, and so do timers.
const results = await new TokenVerifier({ algorithms: ['RS256'], keys: { pem } }).verifyBatch([
  token,
  'x',
]);
await timers.sleep(5);
console.log(
  JSON.stringify({
    left: [totalConnections, connectionsByIp, connectionsByUser, anonymousConnections],
    timers: timers.getActiveTimersCount() - before,
    results: results.map(({ ok }) => ok),
    rss: Math.round(process.memoryUsage.rss() / 2 ** 20),
  }),
);
process.exit(0);
