// `portcullis/bun`: http, https, or HTTP/2 beside HTTP/1.1.
import { GracefulShutdown } from '../../dist/index.js';
import { portcullis } from '../../dist/bun.js';
import { endOnSignal, events, listening, scheme, shutdownOptions, tls, work } from './settings.mjs';

const guard = portcullis({ limits: {}, requests: {} });
const server = Bun.serve({
  port: 0,
  hostname: '127.0.0.1',
  ...(tls === undefined ? {} : { tls }),
  http2: scheme === 'h2',
  fetch: guard.fetch(async (request: Request, server: Bun.Server<undefined>) => {
    if (server.upgrade(request)) return undefined;
    if (request.url.endsWith('/events')) return events(guard.draining);
    await request.text();
    await work();
    return new Response('done');
  }),
  websocket: guard.websocket({
    message(ws: Bun.ServerWebSocket<undefined>, data: string) {
      ws.send(data);
    },
  }),
} as never);
endOnSignal(new GracefulShutdown(shutdownOptions).add(guard.drainable(server)));
listening(server.port);
