// A server of the builder; the environment holds its options.
import { type BearerVerifier, ElysiaServerBuilder, type ServerOptions } from '../../dist/elysia.js';
import { ProductionMetrics } from '../../dist/index.js';

const { verifies, silent, measured, ...options } = JSON.parse(
  process.env['GUARD_OPTIONS'] ?? '{}',
) as ServerOptions & { verifies?: boolean; silent?: boolean; measured?: boolean };
if (process.listenerCount('unhandledRejection') === 0)
  process.on('unhandledRejection', (error) => console.log(`unhandled ${String(error)}`));

const auth: BearerVerifier = {
  safeVerify(token) {
    if (token === 'throw') throw new Error(`a secret: ${token}`);
    if (token === 'expired') return { success: false, error: { code: 'expired' } };
    return { success: true, claims: token === 'nobody' ? {} : { sub: token } };
  },
};
const metrics = measured === true ? new ProductionMetrics() : undefined;
interface Pair {
  readonly a: number;
  readonly b: number;
}
const isPair = (payload: unknown): payload is Pair =>
  typeof payload === 'object' &&
  payload !== null &&
  typeof (payload as Pair).a === 'number' &&
  typeof (payload as Pair).b === 'number';

const builder = new ElysiaServerBuilder({
  hostname: '127.0.0.1',
  port: 0,
  ...options,
  ...(verifies === true ? { auth } : {}),
  metrics,
}).onError((error, where) =>
  console.log(`error ${where}: ${error instanceof Error ? error.message : String(error)}`),
);
if (silent !== true) {
  builder
    .on(
      'add',
      (_connection, { payload }) => ({ type: 'sum', payload: payload.a + payload.b }),
      isPair,
    )
    .on('who', async (connection, message) => {
      await undefined;
      return {
        type: 'you',
        payload: [
          connection.userId,
          message.userId,
          connection.messageCount,
          connection.metadata.ip,
        ],
      };
    })
    .on('throw', () => {
      throw new Error('a secret of the handler');
    })
    .on('reject', () => Promise.reject(new Error('a secret of the promise')))
    .on('push', (connection) => void connection.send({ type: 'pushed', payload: 1 }))
    .on('leave', (connection) => connection.close(4000, 'bye'));
}
// One response for all requests.
const SHARED = new Response(null, { status: 403 });
const SHARED_BY_ALL = new Response(null, { status: 403 });
let waiting = 0;
let letGo: () => void = () => undefined;
const bothWait = new Promise<void>((resolve) => (letGo = resolve));
const ONCE = new Response('once');
const HELD = new Response('once');
const server = await builder
  .middleware({
    name: 'outer',
    priority: 10,
    middleware: async (context, next) => {
      context.set.headers['x-outer'] = 'yes';
      context.store['path'] = new URL(context.request.url).pathname;
      const response = await next();
      context.set.headers['x-seen'] = String(response?.status ?? 'upgrade');
      return response;
    },
  })
  .middleware({
    name: 'gate',
    middleware: async (context, next) => {
      const path = context.store['path'];
      if (path === '/user') {
        const user = context.request.headers.get('x-user');
        if (user !== null) context.set.headers['x-user'] = user;
        if (++waiting === 2) letGo();
        await bothWait;
        return SHARED_BY_ALL;
      }
      if (path === '/text-status' || path === '/number-status' || path === '/custom-status')
        context.set.status = 201;
      if (path === '/text-empty') context.set.status = 204;
      if (path === '/text-replaced') {
        await next();
        context.set.status = 201;
        return new Response(new Uint8Array([1]));
      }
      if (path === '/text-cookie') context.set.headers['set-cookie'] = 'a=1';
      if (path === '/denied') return new Response('denied', { status: 403 });
      if (path === '/set') context.response = new Response('set', { status: 418 });
      if (path === '/quiet') context.set.status = 402;
      if (path === '/silent') return undefined;
      if (path === '/other') return { not: 'a response' } as never;
      if (path === '/cookies' || path === '/shared')
        context.set.headers['set-cookie'] = [
          'a=1; Path=/',
          `b=${context.request.headers.get('x-b') ?? '2'}`,
        ];
      if (path === '/cookie')
        context.set.headers['set-cookie'] = 'a=1; Expires=Wed, 21 Oct 2026 07:28:00 GMT';
      if (path === '/shared') return SHARED;
      if (path === '/held') return HELD;
      if (path === '/set' || path === '/quiet') return undefined;
      if (path === '/broken') throw new Error('a secret of the layer');
      return next();
    },
  })
  .routes((app) =>
    app
      .get('/hello', ({ requestContext }) => `hello from ${String(requestContext?.store['path'])}`)
      .get('/slow', async ({ query }) => {
        console.log('slow begins');
        await new Promise((resolve) => void setTimeout(resolve, Number(query['ms'])).unref());
        return 'slow';
      })
      .get('/cookies', ({ cookie }) => {
        cookie['own']!.value = 'x';
        cookie['other']!.value = 'y';
        return 'cookies';
      })
      .get('/cookie', 'cookie')
      .get('/text-status', () => 'a text')
      .get('/number-status', () => 5)
      .get('/custom-status', ({ status }) => status(400, 'a text'))
      .get('/text-empty', () => 'a text')
      .get('/text-replaced', () => 'a text')
      .get('/text-cookie', () => new Response('a text'))
      .get('/resent', () => ONCE)
      .get('/measured', () => {
        const { routes = [], refusals } = metrics?.snapshot() ?? {};
        return [Object.fromEntries(routes.map(({ route, total }) => [route, total])), refusals];
      })
      .post('/json', ({ body }) => body),
  )
  .start();
const stop = (): void => {
  void server
    .stop()
    .then(({ hookErrors, ...result }) =>
      console.log(
        `result ${JSON.stringify({ ...result, hookErrors: hookErrors.map(({ name }) => name) })}`,
      ),
    );
};
if (process.env['MANY_SERVERS'] === undefined) process.on('SIGTERM', stop);
console.log(`listening on http://127.0.0.1:${server.port}`);
