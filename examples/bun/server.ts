// Limits on bare Bun. Run: bun install && bun start
import { portcullis } from 'portcullis/bun';

const guard = portcullis({ limits: { maxConnectionsPerIp: 10, connectionTimeoutMs: 30_000 } });
const server = Bun.serve({
  port: Number(process.env['PORT'] ?? 3000),
  fetch: guard.fetch((request, server) =>
    server.upgrade(request) ? undefined : Response.json(guard.manager.snapshot()),
  ),
  websocket: guard.websocket({ message: (ws, message) => void ws.send(message) }),
});
console.log(`listening on ${server.url.href}: WebSocket at any path, counts by plain HTTP`);
