// A server from ElysiaServerBuilder, on Bun. Run: bun examples/builder.ts
import { ElysiaServerBuilder } from '../dist/elysia.js';

const server = await new ElysiaServerBuilder({
  port: Number(process.env['PORT'] ?? 3000),
  limits: { connections: { maxPerIp: 100 }, requests: { maxConcurrent: 1000 } },
  shutdown: { signals: ['SIGTERM', 'SIGINT'] },
}).start();
console.log(
  `listening on ${server.url.href}: WebSocket at /ws, health at /health/ready, counts at /stats`,
);
