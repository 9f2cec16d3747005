// Ends the process in the given way while seats, timers, batches and workers are in use:
// exit.mjs WAY TOKENS-OF-A-BATCH
import { Worker, isMainThread, workerData } from 'node:worker_threads';
import {
  ConnectionManager,
  GracefulShutdown,
  ProductionMetrics,
  ResourceMonitor,
  TimerManager,
  TokenVerifier,
} from '../../dist/index.js';
import { ecdsaToken } from './ecdsa-token.mjs';

const { way, batch } = isMainThread
  ? { way: process.argv[2], batch: Number(process.argv[3]) }
  : workerData;
const socket = { close() {}, terminate() {} };
const timers = new TimerManager();
const monitor = new ResourceMonitor({}, { timers, log: false });
const metrics = new ProductionMetrics({ timers, monitor });
const end = () => {
  switch (way) {
    case 'exit':
    case 'exit in a hook':
    case 'exit in a worker':
      return process.exit(7);
    case 'throw':
    case 'throw in a worker':
      throw new Error('thrown on purpose');
    case 'reject':
      return void Promise.reject(new Error('rejected on purpose'));
    case 'SIGTERM':
    case 'SIGINT':
    case 'SIGKILL':
      return process.kill(process.pid, way);
    case 'abort of a loop that is blocked':
      setTimeout(() => process.exit(7), 1);
      for (const until = performance.now() + 300; performance.now() < until;);
      return undefined;
    case 'by itself':
      return timers.close();
    case 'shutdown':
      return void new GracefulShutdown({ timers, drainWindowMs: 100 })
        .shutdown('SIGTERM')
        .then(() => process.exit(7));
    default:
      throw new Error(`no way to end: ${way}`);
  }
};
const isInWorker = way.endsWith('in a worker');
const inHook = way === 'exit in a hook';
const manager = new ConnectionManager(
  { connectionTimeoutMs: isInWorker ? 600_000 : 20, cleanupIntervalMs: 5 },
  timers,
  {
    name: 'soak.exit',
    monitor,
    ...(inHook ? { onEvict: end } : {}),
  },
);
for (let at = 0; at < 2000; at++)
  manager.commit(
    manager.reserve(`10.0.${at >> 8}.${at & 255}`, `user-${at % 50}`),
    `c${at}`,
    socket,
  );
const { token, pem } = ecdsaToken();
const verifier = new TokenVerifier({ algorithms: ['ES256'], keys: { pem } });
for (let at = 0; at < 3; at++)
  void verifier.verifyBatch(Array.from({ length: batch }, () => token));
void metrics.toOpenMetrics();
for (let at = 0; at < 1000; at++) timers.setInterval(() => metrics.recordRequest(at), 1 + (at % 7));

if (isMainThread) {
  // A worker that holds the same resources runs when the process ends.
  const worker = new Worker(new URL(import.meta.url), {
    workerData: { way: isInWorker ? way : 'stays', batch },
  });
  worker.on('error', ({ message }) => console.log(`the worker failed: ${message}`));
  // Not `once` of node:events: an error of the worker would reject it.
  await new Promise((resolve) => void worker.on(isInWorker ? 'exit' : 'online', resolve));
  if (isInWorker) {
    const { totalConnections } = manager.snapshot();
    if (totalConnections !== 2000)
      throw new Error(`${totalConnections} seats are taken, and 2000 are ours`);
    process.exit(7);
  }
  if (way === 'by itself') await worker.terminate();
}
if (way !== 'stays' && !inHook) timers.setTimeout(end, isMainThread ? 30 : 10);
