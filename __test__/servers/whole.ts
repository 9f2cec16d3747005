// A server of the builder with everything at once: sends requests to itself and prints the results.
import {
  ProductionMetrics,
  ResourceMonitor,
  TimerManager,
  TokenVerifier,
} from '../../dist/index.js';
import { ElysiaServerBuilder } from '../../dist/elysia.js';

const SECRET = 's'.repeat(32);
const told: string[] = [];
process.on('unhandledRejection', (error) => told.push(`unhandled ${String(error)}`));
const text = (value: object): string => Buffer.from(JSON.stringify(value)).toString('base64url');
const token = (sub: string): string => {
  const signed = `${text({ alg: 'HS256' })}.${text({ sub, exp: Math.floor(Date.now() / 1000) + 600 })}`;
  return `${signed}.${new Bun.CryptoHasher('sha256', SECRET).update(signed).digest('base64url')}`;
};

const timers = new TimerManager();
const monitor = new ResourceMonitor({}, { timers, log: false });
const metrics = new ProductionMetrics({ timers, monitor });
const server = await new ElysiaServerBuilder({ port: 0, hostname: '127.0.0.1' })
  .timers(timers)
  .monitor(monitor)
  .metrics(metrics)
  .auth(new TokenVerifier({ algorithms: ['HS256'], keys: { secret: SECRET } }))
  .limits({
    connections: { maxPerUser: 1 },
    requests: { maxConcurrent: 1, timeoutMs: 300 },
    websockets: { maxMessageSize: 100 },
  })
  .page({ path: '/page', access: 'local' })
  .shutdown({ deadlineMs: 3000, drainWindowMs: 100 })
  .onError((error, where) =>
    told.push(`${where}: ${error instanceof Error ? error.message : String(error)}`),
  )
  .middleware({
    name: 'mark',
    middleware: (context, next) => ((context.set.headers['x-mark'] = 'yes'), next()),
  })
  .middleware({
    name: 'throws',
    middleware: (context, next) => {
      if (context.request.url.endsWith('/layer')) throw new Error('of a layer');
      return next();
    },
  })
  .on('fail', () => Promise.reject(new Error('of a message')))
  .routes((app) =>
    app
      .get('/users/:id', ({ params }) => params.id)
      .get('/hangs', () => new Promise(() => undefined))
      .get('/throws', () => {
        throw new Error('of a route: its secret');
      }),
  )
  .start();
const at = (path: string): string => `http://127.0.0.1:${server.port}${path}`;
const ask = async (path: string): Promise<unknown[]> => {
  const answer = await fetch(at(path));
  return [path, answer.status, answer.headers.get('x-mark'), (await answer.text()).slice(0, 60)];
};
const answers = [];
for (const path of ['/users/1', '/users/2', '/throws', '/layer', '/hangs', '/nowhere'])
  answers.push(await ask(path));
const hanging = fetch(at('/hangs'));
while (server.snapshot().requests?.active !== 1) await Bun.sleep(2);
answers.push(await ask('/users/3'), await ask('/health/live'));
await (await hanging).text();

const open = async (bearer?: string): Promise<WebSocket | undefined> => {
  const headers = bearer === undefined ? {} : { Authorization: `Bearer ${bearer}` };
  const socket = new WebSocket(at('/ws').replace('http', 'ws'), { headers } as unknown as string[]);
  return new Promise((resolve) => {
    socket.onopen = () => resolve(socket);
    socket.onerror = () => resolve(undefined);
  });
};
const ann = await open(token('ann'));
const [again, nobody, forged] = [await open(token('ann')), await open(), await open('a.b.c')];
const say = (socket: WebSocket | undefined, message: string): Promise<unknown> => {
  const answer = new Promise((resolve) => {
    if (socket === undefined) return;
    socket.onmessage = ({ data }) => resolve((JSON.parse(data as string) as { type: string }).type);
    socket.onclose = ({ code }) => resolve(code);
  });
  socket?.send(message);
  return answer;
};
const messages = [
  await say(ann, '{"type":"ping"}'),
  await say(ann, '{"type":"fail"}'),
  await say(await open(token('bob')), 'x'.repeat(101)),
];
while (server.manager.connections.size > 1) await Bun.sleep(2);
const report = metrics.generateReport();
while (server.snapshot().websockets.open > 1) await Bun.sleep(2);
const during = {
  sockets: server.snapshot().websockets,
  authDenials: server.snapshot().authDenials,
  watched: monitor.getMetrics().activeConnections,
};
const page = async (): Promise<{
  layers: { name: string; count: number }[];
  refusals: { name: string; count: number }[];
}> => (await fetch(at('/page/snapshot'))).json() as ReturnType<typeof page>;
let seen = await page();
for (let tries = 0; tries < 100 && seen.refusals.length < 6; tries++) {
  await Bun.sleep(50);
  seen = await page();
}
const closed = say(ann, '{"type":"none"}').then(
  () =>
    new Promise<number>(
      (resolve) => ann !== undefined && (ann.onclose = ({ code }) => resolve(code)),
    ),
);
await Bun.sleep(0);
const result = await server.stop();
console.log(
  JSON.stringify({
    answers,
    refusedSockets: [again, nobody, forged].map((socket) => socket === undefined),
    messages,
    report: {
      samples: report.samples,
      errors: report.windows.lifetime.errors,
      refusals: report.refusals,
      inFlight: report.inFlight,
      users: report.metrics.activeUsers,
      connections: report.metrics.connectionCount,
      routes: report.routes
        .map(({ method, route, total }) => `${method} ${route} ${total}`)
        .toSorted(),
    },
    during,
    layers: seen.layers.map(({ name }) => name),
    refusals: Object.fromEntries(seen.refusals.map(({ name, count }) => [name, count])),
    closed: await closed,
    result: {
      graceful: result.graceful,
      forced: result.websocketsClosed.forced,
      hookErrors: result.hookErrors.length,
    },
    left: [
      timers.getActiveTimersCount(),
      monitor.getMetrics().activeRequests,
      monitor.getMetrics().activeConnections,
      metrics.generateReport().inFlight,
    ],
    told,
    ownMonitor: await (async () => {
      const other = await new ElysiaServerBuilder({
        port: 0,
        limits: { memory: { maxHeapSizeMb: 64 } },
      }).start();
      const memory = other.manager.monitor?.memoryLimits.maxHeapSizeMb;
      await other.stop();
      return [memory, other.timers.getActiveTimersCount()];
    })(),
  }),
);
