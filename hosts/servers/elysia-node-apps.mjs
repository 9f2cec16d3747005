// Apps in which the plugin finds its adapter in different ways; the test names one.
import { node } from '@elysiajs/node';
import { Elysia, t } from 'elysia';
import { ProductionMetrics } from 'portcullis';
import { guarded, portcullis } from 'portcullis/elysia';
import { contract } from '../../__test__/servers/options.mjs';

const { answer, identifying, kind, listening, options } = contract();
const plugin = portcullis({
  ...options,
  ...identifying((request, name) => request.headers.get(name)),
});
const guard = plugin.decorator.portcullis;
const opened = [0, 0];
const echo = {
  open: () => void opened[0]++,
  message: (ws, message) => void ws.send(message),
  close: () => void opened[1]++,
};
const sleep = (ms) => new Promise((resolve) => void setTimeout(resolve, ms));

const APPS = {
  early: () => new Elysia({ adapter: node() }).ws('/ws', echo).use(plugin),
  nested() {
    // The sockets of an app open only if its adapter is the one that listens.
    const adapter = node();
    return new Elysia({ adapter }).use(new Elysia({ adapter }).use(plugin).ws('/ws', echo));
  },
  plain: () => new Elysia({ adapter: node() }).use(plugin).ws('/ws', echo),
  group: () => new Elysia({ adapter: node() }).group('', (app) => app.use(plugin).ws('/ws', echo)),
  promised: () =>
    new Elysia({ adapter: guarded(node()) })
      .use(sleep(50).then(() => (app) => app.use(plugin)))
      .ws('/ws', echo),
  scoped() {
    const adapter = node();
    return new Elysia({ adapter })
      .use(
        new Elysia({ adapter })
          .use(portcullis({ limits: { maxConnectionsPerIp: 1 }, scoping: 'scoped' }))
          .ws('/admin', echo),
      )
      .use(new Elysia({ adapter }).use(plugin).ws('/chat', echo))
      .ws('/free', echo);
  },
  routes: () =>
    new Elysia({ adapter: node() })
      .use(plugin)
      .ws('/ws', echo)
      .ws('/one', { ...echo, portcullis: { maxConnections: 1 } }),
  both: () =>
    new Elysia({ adapter: node() })
      .use(plugin)
      .get('/ws', () => 'no socket')
      .ws('/ws', echo)
      .ws('/rooms/:id', echo)
      .get('/rooms/:id', () => 'no socket'),
  hooked: () =>
    new Elysia({ adapter: node() })
      .onError(() => undefined)
      .use(plugin)
      .get('/token', () => 'secret', { portcullis: { requireToken: true } })
      .ws('/ws', echo),
  mapped: () =>
    new Elysia({ adapter: node() })
      .mapResponse(({ response }) => new Response(JSON.stringify(response)))
      .use(plugin)
      .get('/token', () => 'secret', { portcullis: { requireToken: true } })
      .ws('/ws', echo),
  typed: () =>
    new Elysia({ adapter: node() })
      .onError(() => undefined)
      .use(
        portcullis({
          ...options,
          onRefused: () => ({ headers: { 'content-type': 'text/html' }, body: '<b>no</b>' }),
        }),
      ),
  measured: () =>
    new Elysia({ adapter: node() }).use(
      portcullis({ ...options, metrics: new ProductionMetrics() }),
    ),
  pair() {
    const second = portcullis({ limits: {} });
    const managers = [guard.manager, second.decorator.portcullis.manager];
    return new Elysia({ adapter: node() })
      .use(plugin)
      .use(second)
      .ws('/ws', echo)
      .get('/both', () =>
        managers.flatMap((manager) =>
          [...manager.connections.values()].map((one) => [
            one.messageCount,
            one.bytesReceived,
            one.bytesSent,
          ]),
        ),
      );
  },
  narrower: () =>
    new Elysia({ adapter: node() })
      .use(plugin)
      .use(portcullis({ refuseWith: 'close', limits: { maxConnectionsPerIp: 1 } }))
      .ws('/ws', echo),
  own() {
    let refusal = [];
    try {
      portcullis({ scoping: 'local', limits: {} }).ws('/own', echo);
    } catch (error) {
      refusal = [error.code, error.field];
    }
    return new Elysia({ adapter: node() }).use(plugin).get('/own', () => refusal);
  },
  tokens: () =>
    new Elysia({ adapter: node() })
      .get('/before', () => 'secret')
      .use(plugin)
      .get('/after', () => 'secret')
      .get('/token', () => 'secret', { portcullis: { requireToken: true } })
      .ws('/ws', echo),
  refusing: () =>
    new Elysia({ adapter: node() })
      .use(plugin)
      .ws('/ws', echo)
      .ws('/refused', { ...echo, beforeHandle: ({ status }) => status(401, 'no') })
      .ws('/throws', {
        ...echo,
        beforeHandle() {
          throw new Error('a secret');
        },
      })
      .ws('/slow', { ...echo, beforeHandle: () => sleep(60_000) })
      .post('/length', async ({ request }) => String((await request.text()).length), {
        parse: 'none',
      })
      .post(
        '/clone',
        async ({ request }) => {
          const [first, second] = [request.clone(), request.clone()];
          let bytes = 0;
          for await (const chunk of second.body) bytes += chunk.length;
          return `${await first.text()}, ${await request.text()}, ${bytes}`;
        },
        { parse: 'none' },
      )
      .post('/form', ({ body }) => body.file.size, { body: t.Object({ file: t.File() }) })
      .post('/bytes', ({ body }) => body.byteLength)
      .post('/blob', async ({ request }) => (await request.blob()).size, { parse: 'none' })
      .post(
        '/again',
        async ({ request }) => (await new Request(request.url, request).text()).length,
        {
          parse: 'none',
        },
      )
      .mount(
        '/mounted',
        async (request) => new Response(String((await request.arrayBuffer()).byteLength)),
      )
      .get('/sleep', () => sleep(60_000))
      .get('/address', ({ request, server }) => server.requestIP(request).address)
      .get('/heap', async () => {
        await sleep(50);
        globalThis.gc();
        return process.memoryUsage().heapUsed;
      }),
};
const app = APPS[kind]()
  .get('/stats', () => guard.manager.getStats())
  .get('/guard', () => guard.snapshot())
  .get('/opened', () => opened)
  .get('/release', () => answer('/release'))
  .listen({ port: 0, hostname: '127.0.0.1', gracefulShutdown: false });
const { raw } = app.server;
await raw.ready();
await app.modules;
await sleep(kind === 'promised' ? 200 : 0);
listening(raw.node.server.address().port);
