// The same work with rate-limiter-flexible on ioredis: an address, then a user, in one process.
import { setTimeout as sleep } from 'node:timers/promises';
import Redis from 'ioredis';
import { RateLimiterRedis } from 'rate-limiter-flexible';

const { port, ms, clients } = JSON.parse(process.env.CLUSTER_BENCH);
const storeClient = new Redis({ port, enableAutoPipelining: true });
const limiterOf = (keyPrefix) =>
  new RateLimiterRedis({ storeClient, keyPrefix, points: 1000, duration: 60 });
const [byAddress, byUser] = [limiterOf('i'), limiterOf('u')];
let count = 0;
let isOver = false;
let serial = 0;
const one = async () => {
  while (!isOver) {
    const at = serial++;
    await byAddress.consume(`10.${(at >> 18) & 255}.${(at >> 10) & 255}.${(at >> 2) & 255}`);
    await byUser.consume(`u${at}`);
    count++;
  }
};
const start = performance.now();
const all = Promise.all(Array.from({ length: clients }, one));
await sleep(ms);
isOver = true;
await all;
process.stdout.write(`${JSON.stringify({ count, elapsed: performance.now() - start })}\n`);
storeClient.disconnect();
