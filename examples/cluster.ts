// One limit over several processes: each is started with the URL of one Redis or Valkey server, and all listen on
// one port. Run: REDIS=redis://127.0.0.1:6379 bun examples/cluster.ts, several times; or npm run cluster
import { Cluster } from '../dist/index.js';
import { portcullis } from '../dist/bun.js';

const cluster = new Cluster({
  url: process.env['REDIS'] ?? 'redis://127.0.0.1:6379',
  leaseMs: 2000,
  onUnreachable: 'closed',
});
cluster.on('state', (state, _name, problem) => console.log(`cluster: ${state}`, problem ?? ''));
const guard = portcullis({
  limits: { maxTotalConnections: 1000, maxConnectionsPerUser: 3 },
  identify: (request) => new URL(request.url).searchParams.get('user'),
  name: 'example',
  cluster,
});
// Listens at once: until the cluster is up, `onUnreachable` decides.
const server = Bun.serve({
  port: Number(process.env['PORT'] ?? 3000),
  reusePort: true,
  fetch: guard.fetch((request, server) =>
    server.upgrade(request)
      ? undefined
      : Response.json({ ...guard.manager.snapshot(), cluster: cluster.snapshot() }),
  ),
  websocket: guard.websocket({
    open: (ws) => void ws.send(`admitted by process ${process.pid}`),
    message: (ws, message) => void ws.send(message),
  }),
});
console.log(`listening on ${server.url.href}: WebSocket at /?user=NAME, counts by plain HTTP`);
