// Limits on bare Bun. Run: bun examples/bun.ts
import { portcullis } from '../dist/bun.js';

const guard = portcullis({ limits: { maxConnectionsPerIp: 10, connectionTimeoutMs: 30_000 } });
const server = Bun.serve({
  port: Number(process.env['PORT'] ?? 3000),
  fetch: guard.fetch((request, server) =>
    server.upgrade(request) ? undefined : Response.json(guard.manager.snapshot()),
  ),
  websocket: guard.websocket({ message: (ws, message) => void ws.send(message) }),
});
console.log(`listening on ${server.url.href}: WebSocket at any path, counts by plain HTTP`);
