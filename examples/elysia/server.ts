// Limits on Bun with Elysia. Run: bun install && bun start
import { Elysia } from 'elysia';
import { portcullis } from 'portcullis/elysia';

const app = new Elysia()
  .use(portcullis({ limits: { maxConnectionsPerIp: 10, connectionTimeoutMs: 30_000 } }))
  .ws('/ws', { message: (ws, message) => void ws.send(message) })
  .get('/stats', ({ portcullis }) => portcullis.manager.snapshot())
  .listen(Number(process.env['PORT'] ?? 3000));
console.log(`listening on ${app.server?.url.href ?? ''}: WebSocket at /ws, counts at /stats`);
