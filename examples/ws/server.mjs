// Limits on Node with `ws`. Run: npm install && npm start
import { createServer } from 'node:http';
import { WebSocketServer } from 'ws';
import { portcullis } from 'portcullis/ws';

const guard = portcullis({ limits: { maxConnectionsPerIp: 10, connectionTimeoutMs: 30_000 } });
const server = createServer((_request, response) =>
  response.end(JSON.stringify(guard.manager.snapshot())),
);
const webSocketServer = new WebSocketServer({ noServer: true });
webSocketServer.on('connection', (ws) =>
  ws.on('message', (data, isBinary) => ws.send(data, { binary: isBinary })),
);
guard.attach(server, webSocketServer);
server.listen(Number(process.env['PORT'] ?? 3000), () => {
  console.log(
    `listening on http://localhost:${server.address().port}/: WebSocket at any path, counts by plain HTTP`,
  );
});
