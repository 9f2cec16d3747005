// A server with the live page at /portcullis. `npm start` runs it, with traffic. Without PAGE_TOKEN the
// page makes a token, and prints its link to the terminal.
import { Elysia } from 'elysia';
import {
  PerformantMiddlewareChain,
  ProductionMetrics,
  ResourceMonitor,
  TimerManager,
} from '../dist/index.js';
import { portcullis } from '../dist/elysia.js';

const timers = new TimerManager({ name: 'server' });
const monitor = new ResourceMonitor(
  { memory: { maxHeapSizeMb: 512 } },
  { timers, log: false, shedding: { maxEventLoopDelayMs: 1000, maxEventLoopUtilization: 0.98 } },
);
const metrics = new ProductionMetrics({ timers, monitor });
const chain = new PerformantMiddlewareChain<{ path: string }>(
  [
    { name: 'request id', priority: 30, middleware: (_context, next) => next() },
    { name: 'session', priority: 20, middleware: (_context, next) => Bun.sleep(1).then(next) },
    {
      name: 'audit',
      priority: 10,
      optional: true,
      timeoutMs: 50,
      middleware: (context, next) =>
        context.path === '/flaky' ? Promise.reject(new Error('audit')) : next(),
    },
  ],
  { timers, timing: 'always', onError: () => undefined },
);

const guard = portcullis({
  limits: {
    maxTotalConnections: 2000,
    maxConnectionsPerIp: 100,
    maxConnectionsPerUser: 25,
    connectionTimeoutMs: 60_000,
  },
  timers,
  monitor,
  metrics,
  requests: {
    rate: {
      perIp: { limit: 1000, windowMs: 10_000 },
      perRoute: { 'GET /report': { limit: 20, windowMs: 10_000 } },
    },
  },
  // The traffic of the demo comes through a proxy on this machine.
  trustedProxies: ['127.0.0.1'],
  banAfter: { failures: 40, windowMs: 20_000, countRateRefusals: true },
  identify: (request) => new URL(request.url).searchParams.get('user') ?? undefined,
  page: {
    path: '/portcullis',
    title: 'Portcullis demo',
    token: process.env['PAGE_TOKEN'],
    showClients: true,
    chain,
  },
});

const app = new Elysia()
  .use(guard)
  .onBeforeHandle(({ path }) => chain.execute()({ path }) as Promise<undefined>)
  .get('/', () => 'hello')
  .get('/users/:id', ({ params }) =>
    Bun.sleep(Number(params.id) % 20).then(() => ({ id: params.id })),
  )
  .get('/report', () => Bun.sleep(60 + 120 * Math.random()).then(() => 'report'))
  .get('/flaky', ({ status }) => (Math.random() < 0.2 ? status(500, 'no luck') : 'luck'))
  .get('/block', () => {
    for (const end = performance.now() + 400; performance.now() < end;);
    return 'blocked the event loop for 400 ms';
  })
  .get('/stats', ({ portcullis }) => portcullis.manager.snapshot())
  .ws('/ws', { message: (ws, message) => void ws.send(message) })
  .listen({
    port: Number(process.env['PORT'] ?? 3000),
    hostname: process.env['HOST'] ?? '127.0.0.1',
  });
console.log(`listening on ${app.server?.url.href ?? ''}`);
