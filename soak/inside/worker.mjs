// A worker that holds connections, timers, a monitor and a running batch verification, and waits
// for its end.
import { parentPort, workerData } from 'node:worker_threads';
import {
  ConnectionManager,
  PerformantMiddlewareChain,
  ProductionMetrics,
  ResourceMonitor,
  TimerManager,
  TokenVerifier,
  parseJson,
} from '../../dist/index.js';

const { name, connections, timers: count, tokens, pem, early } = workerData;
const socket = { close() {}, terminate() {} };
const timers = new TimerManager();
const monitor = new ResourceMonitor({}, { timers, log: false });
const metrics = new ProductionMetrics({ timers, monitor });
const shared = new ConnectionManager({ connectionTimeoutMs: 50, cleanupIntervalMs: 10 }, timers, {
  name,
  monitor,
});
const own = new ConnectionManager({ maxConnectionsPerIp: connections }, timers);
const verifier = new TokenVerifier({ algorithms: ['ES256'], keys: { pem } });
const chain = new PerformantMiddlewareChain(
  [{ name: 'one', middleware: (_context, next) => next() }],
  timers,
);

if (early) parentPort.postMessage('busy');
const open = (round) => {
  for (let at = 0; at < connections; at++) {
    const address = `10.${round & 255}.${at >> 8}.${at & 255}`;
    const lease = shared.reserve(address, `user-${at % 7}`);
    if (at % 3 > 0) shared.commit(lease, `${round}-${at}`, socket);
    const added = own.addConnection(`${round}-${at}`, socket, address);
    added.connection?.received(100);
  }
};
open(0);
for (let at = 0; at < count; at++)
  timers.setInterval(() => metrics.recordRequest(at), 1 + (at % 20));
if (!early) parentPort.postMessage('busy');

// From here on, the worker is busy until the main thread terminates it.
const verify = async () => {
  for (;;) await Promise.all([verifier.verifyBatch(tokens), verifier.verifyBatch(tokens)]);
};
void verify();
for (let round = 1; ; round++) {
  for (const connection of shared.connections.values())
    if (round % 2 === 0) shared.release(connection);
  for (const connection of own.connections.values()) own.release(connection);
  open(round);
  parseJson('{"a":[1,2,3]}');
  await chain.execute()({}, async () => undefined);
  await metrics.toPrometheus();
  await new Promise((resolve) => void setImmediate(resolve));
}
