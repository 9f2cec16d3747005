// A Bun server whose guard is replaced at `/reload`, as `bun --hot` does; `/stats` tells the connections of the first
// guard, `/totals` those of all.
import { portcullis } from '../../dist/bun.js';

const guards: ReturnType<typeof portcullis>[] = [];

function serving(): {
  readonly options: Bun.Serve.Options<undefined>;
  readonly total: () => number;
} {
  const guard = portcullis({ limits: { maxConnectionsPerIp: 10 } });
  guards.push(guard);
  return {
    total: () => guard.manager.snapshot().totalConnections,
    options: {
      fetch: guard.fetch((request: Request, server: Bun.Server<undefined>) => {
        const { pathname } = new URL(request.url);
        if (pathname === '/reload') {
          server.reload(serving().options as never);
          return new Response('reloaded');
        }
        if (pathname === '/stats') return Response.json({ totalConnections: first.total() });
        if (pathname === '/totals')
          return Response.json(guards.map(({ manager }) => manager.snapshot().totalConnections));
        return server.upgrade(request) ? undefined : new Response('no WebSocket', { status: 400 });
      }),
      websocket: guard.websocket({
        message(ws: Bun.ServerWebSocket<undefined>, text: string) {
          ws.send(text);
        },
      }),
    } as never,
  };
}

const first = serving();
const server = Bun.serve({ ...first.options, port: 0, hostname: '127.0.0.1' } as never);
console.log(`listening on http://127.0.0.1:${server.port}`);
