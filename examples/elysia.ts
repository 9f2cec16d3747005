import { Elysia } from 'elysia';
import { ConnectionManager, type ManagedSocket, TimerManager } from '../dist/index.js';

const manager = new ConnectionManager<ManagedSocket>({ maxConnectionsPerIp: 10, connectionTimeoutMs: 30_000 }, new TimerManager());
const app = new Elysia()
  .ws('/ws', {
    open(ws) {
      const result = manager.addConnection(ws.id, ws.raw, ws.remoteAddress);
      if (!result.success) ws.close(1013, result.reason);
    },
    message(ws, message) {
      const text = typeof message === 'string' ? message : JSON.stringify(message);
      manager.connections.get(ws.id)?.received(Buffer.byteLength(text));
      ws.send(text);
    },
    close: (ws) => void manager.removeConnection(ws.id),
  })
  .get('/stats', () => manager.getStats())
  .listen(Number(process.env['PORT'] ?? 3000));
console.log(`listening on ${app.server?.url.href ?? ''}: WebSocket at /ws, counts at /stats`);
