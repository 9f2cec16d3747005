// Compiled, not run: a program that uses the main entry and the subpaths together.
import { treaty } from '@elysiajs/eden';
import { Elysia, t } from 'elysia';
import {
  ConnectionManager,
  type ConnectionStats,
  GracefulShutdown,
  type ManagedConnection,
  type ResourceLimitsInput,
  TimerManager,
  type TokenResult,
  TokenVerifier,
  type TypedWebSocketMessage,
} from 'portcullis';
import { portcullis as bunGuard } from 'portcullis/bun';
import { ElysiaServerBuilder, connectionOf, portcullis, signalOf } from 'portcullis/elysia';
import { ManualClock } from 'portcullis/testing';
import { portcullis as wsGuard } from 'portcullis/ws';
import { WebSocket, WebSocketServer } from 'ws';

const timers = new TimerManager({ clock: new ManualClock() });
// Classes have private members: this compiles only if all entries declare the same classes.
const manager = new ConnectionManager({ maxConnectionsPerIp: 1 }, timers);
export const ofWs: ConnectionManager = wsGuard({ manager }).manager;
const verifier = new TokenVerifier({
  algorithms: ['RS256'],
  jwks: { url: 'https://issuer.example/jwks.json' },
});
export const ofAuth: ConnectionManager = wsGuard({ limits: {}, auth: verifier }).manager;
export const ofBrowsers: ConnectionManager = bunGuard({
  limits: {},
  auth: { verifier, subprotocol: 'bearer' },
}).manager;
class Client extends WebSocket {
  readonly room: string = '';
}
const ofFramework = new WebSocketServer({ noServer: true, WebSocket: Client });
export const undo: () => void = wsGuard({ manager }).protect(ofFramework);
export const withOwnPort = wsGuard({ manager }).drainable(new WebSocketServer({ port: 0 }));
export const roles = (result: TokenResult<{ roles: string[] }>): string[] =>
  result.success ? result.claims.roles : [result.error.code];
export const ofBun: ConnectionManager = bunGuard({ limits: {}, timers }).manager;

export const app = new Elysia()
  .use(
    portcullis({
      manager,
      refuseWith: 'close',
      identify: (request) => request.headers.get('x-user') ?? undefined,
    }),
  )
  .ws('/ws/:room', {
    body: t.Object({ text: t.String() }),
    message(ws, message) {
      const text: string = message.text;
      const room: string = ws.data.params.room;
      const shared: ConnectionManager = ws.data.portcullis.manager;
      const connection: ManagedConnection | undefined = connectionOf(ws);
      ws.send({
        text,
        room,
        shared: shared.getStats().totalConnections,
        mine: connection?.messageCount,
      });
    },
  })
  .get('/stats', ({ portcullis }) => portcullis.manager.getStats())
  .get('/text', () => 'text' as const);

const client = treaty<typeof app>('localhost');
export async function seen(): Promise<void> {
  const text: 'text' | null = (await client.text.get()).data;
  const total: number | undefined = (await client.stats.get()).data?.totalConnections;
  client
    .ws({ room: 'one' })
    .subscribe()
    .send({ text: String(text) + total });
  // @ts-expect-error the route's body is still known
  client.ws({ room: 'one' }).subscribe().send({ txt: '' });
}
export const stats: ConnectionStats = manager.getStats();
// @ts-expect-error neither is a misspelt option
portcullis({ limit: {} });

// All limits, by the names without a unit.
const limits: ResourceLimitsInput = {
  memory: { maxHeapSize: 512, warningThreshold: 70, criticalThreshold: 90, gcInterval: 30_000 },
  connections: { maxTotal: 10_000, maxPerIp: 50, maxPerUser: 5, timeoutMs: 30_000 },
  requests: { maxConcurrent: 100, timeoutMs: 5000, maxPayloadSize: 1024, maxHeaderSize: 8192 },
  websockets: {
    maxConnections: 100,
    maxMessageSize: 1024,
    pingInterval: 30_000,
    pongTimeout: 5000,
  },
};
interface Pair {
  readonly a: number;
  readonly b: number;
}
const isPair = (payload: unknown): payload is Pair => typeof payload === 'object';
const builder = new ElysiaServerBuilder({
  port: 0,
  limits,
  requests: { rate: { perKey: { limit: 5, windowMs: 1000 }, key: ({ url }) => url } },
  rates: { messageRatePerIp: { limit: 5, windowMs: 1000, action: 'drop' } },
  middlewares: [
    { name: 'log', middleware: (context, next) => ((context.store['at'] = 1), next()) },
  ],
})
  .on(
    'add',
    (connection, { payload }) => ({
      type: 'sum',
      payload: payload.a + payload.b + connection.messageCount,
    }),
    isPair,
  )
  .on<{ text: string }>('say', (_connection, { payload }) => ({
    type: 'said',
    payload: payload.text.length,
  }))
  .on('subtract', ({ ip }, { payload }) => ({ type: ip, payload: payload.a - payload.b }), {
    check: isPair,
    rate: { limit: 5, windowMs: 1000, by: 'user' },
  })
  .middleware({ name: 'deny', middleware: () => new Response('no', { status: 403 }) })
  .routes((app) =>
    app.get('/hello', ({ requestContext, request }) => ({
      at: requestContext?.store['at'],
      gone: signalOf(request).aborted,
      word: 'hello' as const,
    })),
  );
export const byOption = new ElysiaServerBuilder({
  websocket: {
    handlers: {
      say: (connection, { payload }: TypedWebSocketMessage<{ text: string }>) => ({
        type: 'said',
        payload: payload.text + connection.id,
      }),
    },
  },
});
new ElysiaServerBuilder().on(
  'add',
  // @ts-expect-error the payload's type is the check's
  (_connection, { payload }) => ({ type: 'sum', payload: payload.c }),
  isPair,
);
// @ts-expect-error a layer must give a response, or none
new ElysiaServerBuilder().middleware({ name: 'wrong', middleware: () => 5 });
const built = builder.build();
const ofBuilt = treaty<typeof built>('localhost');
export async function served(): Promise<void> {
  const word: 'hello' | undefined = (await ofBuilt.hello.get()).data?.word;
  const server = await builder.start();
  const same: typeof built = server.app;
  await using shutdown = new GracefulShutdown({ timers });
  shutdown.add(wsGuard({ manager }).drainable({} as import('node:http').Server));
  using sameForm = new GracefulShutdown(timers, { signals: ['SIGTERM'] });
  sameForm.add({ name: 'queue', drain: () => undefined });
  const forced: number = (await server.stop()).websocketsClosed.forced;
  console.log(word, same, forced);
}
