// The servers of bench/server.mjs: a bare Elysia server, or one of ElysiaServerBuilder.
import { Elysia } from 'elysia';
import { ElysiaServerBuilder } from '../dist/elysia.js';

if (process.argv[2] === 'twin') {
  const app = new Elysia()
    .ws('/ws', {
      message: (ws, message) =>
        void ((message as { type?: unknown }).type === 'ping' && ws.send('{"type":"pong"}')),
    })
    .listen({ port: 0, hostname: '127.0.0.1' });
  console.log(`listening on http://127.0.0.1:${app.server?.port}`);
} else {
  const server = await new ElysiaServerBuilder({
    port: 0,
    hostname: '127.0.0.1',
    shutdown: { drainWindowMs: 1000, deadlineMs: 5000 },
  })
    .routes((app) =>
      app.get('/slow', async () => {
        await Bun.sleep(500);
        return 'slow';
      }),
    )
    .start();
  process.on('SIGTERM', () => {
    // An interval of 5 ms: its delay is the time for which the loop was blocked.
    let blockMs = 0;
    let last = performance.now();
    const beat = setInterval(() => {
      const now = performance.now();
      blockMs = Math.max(blockMs, now - last - 5);
      last = now;
    }, 5);
    void server.stop().then((result) => {
      clearInterval(beat);
      process.send?.({ ...result, blockMs });
      process.disconnect();
    });
  });
  console.log(`listening on http://127.0.0.1:${server.port}`);
}
