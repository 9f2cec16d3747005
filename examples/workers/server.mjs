// Limits that all workers of a process share. Run: npm install && npm start
import { createServer } from 'node:http';
import { Worker, isMainThread, parentPort } from 'node:worker_threads';
import { fileURLToPath } from 'node:url';
import { WebSocketServer } from 'ws';
import { portcullis } from 'portcullis/ws';

const limits = { maxConnectionsPerIp: 3 };
if (isMainThread) {
  // A manager of the same name on the main thread counts the connections of all workers.
  const { manager } = portcullis({ limits, name: 'chat' });
  const urls = [];
  for (let index = 0; index < 2; index++) {
    new Worker(fileURLToPath(import.meta.url)).once('message', (port) => {
      urls.push(`http://localhost:${port}/`);
      if (urls.length === 2)
        server.listen(Number(process.env['PORT'] ?? 3000), () =>
          console.log(`listening on ${url()}: counts of the workers at ${urls.join(' and ')}`),
        );
    });
  }
  const server = createServer((_request, response) =>
    response.end(JSON.stringify({ ...manager.snapshot(), workers: urls })),
  );
  const url = () => `http://localhost:${server.address().port}/`;
} else {
  const guard = portcullis({ limits, name: 'chat' });
  const server = createServer();
  const webSocketServer = new WebSocketServer({ noServer: true });
  webSocketServer.on('connection', (ws) => ws.on('message', (data) => ws.send(data)));
  guard.attach(server, webSocketServer);
  server.listen(0, () => parentPort?.postMessage(server.address().port));
}
