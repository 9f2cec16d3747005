// A cluster of two workers on one port, each with the page. The primary only forks.
import cluster from 'node:cluster';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { WebSocketServer } from 'ws';
import { portcullis } from '../../dist/ws.js';

if (cluster.isPrimary) {
  const workers = [cluster.fork(), cluster.fork()];
  process.on('SIGTERM', () => {
    for (const worker of workers) worker.kill('SIGKILL');
    process.exit();
  });
  const [[address]] = await Promise.all(workers.map((worker) => once(worker, 'listening')));
  console.log(`listening on http://127.0.0.1:${address.port}`);
} else {
  const guard = portcullis(JSON.parse(process.env.GUARD_OPTIONS));
  const server = createServer(guard.request((_request, response) => response.end('hello')));
  guard.attach(server, new WebSocketServer({ noServer: true }));
  // Later than the page waits for a server that no adapter has announced.
  setTimeout(() => server.listen(0, '127.0.0.1'), 1200);
}
