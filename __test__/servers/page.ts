// A server on Bun with every source of the page. PAGE holds options of the page; EMPTY leaves only its connections.
import { Elysia } from 'elysia';
import {
  PerformantMiddlewareChain,
  ProductionMetrics,
  ResourceMonitor,
  TimerManager,
} from '../../dist/index.js';
import { portcullis } from '../../dist/elysia.js';

const timers = new TimerManager();
const given = JSON.parse(process.env['PAGE'] ?? '{"access":"local","showClients":true}') as object;
let isFull = false;
const monitor = new ResourceMonitor(
  { memory: { maxHeapSizeMb: 4096 } },
  {
    timers,
    log: false,
    shedding: {
      maxEventLoopDelayMs: 60_000,
      maxEventLoopUtilization: 0.99,
      checks: { queue: () => !isFull },
      sampleIntervalMs: 100,
    },
  },
);
const metrics = new ProductionMetrics({ timers, monitor });
const chain = new PerformantMiddlewareChain<{ path: string }>(
  [{ name: 'first layer', middleware: (_context, next) => next() }],
  timers,
  { timing: 'always' },
);
const parts = process.env['EMPTY'] === undefined ? { monitor, metrics, chain } : {};

const app = new Elysia()
  .use(
    portcullis({
      limits: { maxTotalConnections: 1000, maxConnectionsPerIp: 600 },
      timers,
      identify: (request) => new URL(request.url).searchParams.get('user') ?? undefined,
      page: { path: '/portcullis', ...parts, ...given },
    }),
  )
  .get('/ok', async () => {
    await chain.execute()({ path: '/ok' });
    metrics.recordRequest(12, { route: '/ok', method: 'GET', status: 200 });
    return 'ok';
  })
  .get('/long', () => {
    metrics.recordRequest(12, {
      route: `/${'segment/'.repeat(23)}:last`,
      method: 'GET',
      status: 200,
    });
    return 'recorded';
  })
  .get('/block', () => {
    for (const end = performance.now() + 300; performance.now() < end;);
    return 'blocked';
  })
  .get('/full', () => {
    isFull = true;
    return 'full';
  })
  .get('/stats', ({ portcullis }) => portcullis.manager.getStats())
  .ws('/ws', { message: (ws, message) => void ws.send(message) })
  .listen({ port: 0, hostname: '127.0.0.1' });
console.log(`listening on http://127.0.0.1:${app.server?.port}`);
