// The plugin and the builder with a monitor: sends requests to its own servers, and prints the results.
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Elysia } from 'elysia';
import { ResourceMonitor, type Stall, TimerManager } from '../../dist/index.js';
import { portcullis as guardBun } from '../../dist/bun.js';
import { ElysiaServerBuilder, portcullis } from '../../dist/elysia.js';

const [root = ''] = process.argv.slice(2);
const timers = new TimerManager();
const stalls: Stall[] = [];
const folder = mkdtempSync(join(tmpdir(), 'portcullis-monitored-'));
const file = join(folder, 'stalls.log');
const monitor = new ResourceMonitor(
  {},
  {
    timers,
    log: false,
    stalls: { log: { file } },
    onStall: (stall) => stalls.push(stall),
  },
);
const lines = (): number => readFileSync(file, 'utf8').split('has been blocked').length;
/**
 * Blocks for 250 ms, and until the watcher has written its line: with too few CPUs it comes late. A look at the
 * monitor would note the requests itself.
 */
const block = (): void => {
  const before = lines();
  const startMs = performance.now();
  while (performance.now() - startMs < 250);
  while (lines() === before && performance.now() - startMs < 10_000) Bun.sleepSync(20);
};
const stalled = async (count: number): Promise<void> => {
  for (let tries = 0; tries < 200 && stalls.length < count; tries++) await Bun.sleep(10);
};

let finish = (): void => undefined;
const held = new Promise<void>((resolve) => (finish = resolve));
const app = new Elysia()
  .use(portcullis({ limits: {}, monitor }))
  .get('/slow/:id', () => held.then(() => 'slow'))
  .get('/block/:id', () => {
    block();
    return 'blocked';
  })
  .get('/throw', () => {
    throw new Error('of the handler');
  })
  .ws('/ws', {
    message(ws) {
      block();
      ws.send('done');
    },
  })
  .listen({ port: 0, hostname: '127.0.0.1' });
const base = `127.0.0.1:${app.server?.port}`;
const slow = fetch(`http://${base}/slow/7`);
while (monitor.getMetrics().activeRequests === 0) await Bun.sleep(5);
const during = monitor.getMetrics().activeRequests;
finish();
await (await slow).text();
await (await fetch(`http://${base}/throw`)).text();
await (await fetch(`http://${base}/nowhere`)).text();
const traced = (id: string): { headers: Record<string, string> } => ({
  headers: { 'x-request-id': id, traceparent: `00-${'4b'.repeat(16)}-${'f0'.repeat(8)}-01` },
});
/** Sends a request that blocks, and waits for its stall. */
const blocked = async (url: string, id: string): Promise<void> => {
  const before = stalls.length;
  await (await fetch(url, traced(id))).text();
  await stalled(before + 1);
};
await blocked(`http://${base}/block/3`, 'elysia');
const socket = new WebSocket(`ws://${base}/ws`, traced('socket') as never);
await new Promise((resolve) => (socket.onopen = resolve));
const connections = monitor.getMetrics().activeConnections;
const answered = new Promise((resolve) => (socket.onmessage = resolve));
socket.send('x');
await answered;
await stalled(stalls.length + 1);
const after = monitor.getMetrics().activeRequests;
socket.close();
await app.stop(true);

// A bare `Bun.serve`, whose handler answers at once: Bun forgets the headers of such a request.
const guard = guardBun({ limits: {}, monitor });
const bare = Bun.serve({
  port: 0,
  hostname: '127.0.0.1',
  fetch: guard.fetch(() => {
    block();
    return new Response('blocked');
  }),
});
await blocked(`http://127.0.0.1:${bare.port}/`, 'bun');
await bare.stop(true);

// A plugin for its own routes counts no requests in flight.
const scoped = new Elysia()
  .use(portcullis({ limits: {}, monitor, scoping: 'scoped' }))
  .get('/block', () => {
    block();
    return 'blocked';
  })
  .listen({ port: 0, hostname: '127.0.0.1' });
await blocked(`http://127.0.0.1:${scoped.server?.port}/block`, 'scoped');
await scoped.stop(true);

const pressed = new ResourceMonitor(
  { memory: { maxHeapSizeMb: 100 } },
  {
    timers,
    log: false,
    gc: false,
    shedding: true,
    root,
  },
);
const server = await new ElysiaServerBuilder({ hostname: '127.0.0.1', port: 0, monitor: pressed })
  .routes((given) => given.get('/x', () => 'x'))
  .start();
const at = (path: string): Promise<Response> => fetch(`http://127.0.0.1:${server.port}${path}`);
const [live, shed] = [await at('/health/live'), await at('/x')];
console.log(
  JSON.stringify({
    during,
    after,
    connections,
    labels: stalls.map(({ label }) => label),
    requested: stalls.flatMap(({ requests }) => requests),
    requests: monitor.snapshot().process.requests,
    live: live.status,
    shed: [
      shed.status,
      Number(shed.headers.get('retry-after')) >= 1,
      ((await shed.json()) as { code: string }).code,
    ],
  }),
);
rmSync(folder, { recursive: true });
process.exit(0);
