// `portcullis/bun`: http or https.
import { GracefulShutdown } from '../../dist/index.js';
import { portcullis } from '../../dist/bun.js';
import { endOnSignal, listening, shutdownOptions, tls, work } from './settings.mjs';

const guard = portcullis({ limits: {}, requests: {} });
const server = Bun.serve({
  port: 0,
  hostname: '127.0.0.1',
  ...(tls === undefined ? {} : { tls }),
  fetch: guard.fetch(async (request: Request, server: Bun.Server<undefined>) => {
    if (server.upgrade(request)) return undefined;
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
