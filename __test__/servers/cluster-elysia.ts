// An Elysia server of a cluster; the URL of the database is in REDIS. Serves /ws?user=NAME, and its counts at /stats.
import { Elysia } from 'elysia';
import { portcullis } from '../../dist/elysia.js';
import { Cluster } from '../../dist/index.js';

const cluster = new Cluster({
  url: process.env['REDIS'] ?? '',
  // A busy machine may answer late.
  leaseMs: 4000,
  admitTimeoutMs: 400,
  onUnreachable: 'closed',
});
const app = new Elysia()
  .use(
    portcullis({
      limits: { maxConnectionsPerUser: 1 },
      identify: (request) => new URL(request.url).searchParams.get('user'),
      name: 'chat',
      cluster,
    }),
  )
  .ws('/ws', { open: (ws) => void ws.send('hello') })
  .get('/stats', ({ portcullis }) => ({
    ...portcullis.manager.snapshot(),
    cluster: cluster.snapshot(),
  }))
  .listen(0);
await cluster.ready();
console.log(`listening on http://127.0.0.1:${app.server?.port}/`);
