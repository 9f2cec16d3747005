// A server from ElysiaServerBuilder, on Bun. Run: bun install && bun start
import { ElysiaServerBuilder } from 'portcullis/elysia';

const server = await new ElysiaServerBuilder({
  port: Number(process.env['PORT'] ?? 3000),
  limits: { connections: { maxPerIp: 100 }, requests: { maxConcurrent: 1000 } },
  shutdown: { signals: ['SIGTERM', 'SIGINT'] },
}).start();
console.log(
  `listening on ${server.url.href}: WebSocket at /ws, health at /health/ready, counts at /stats`,
);
