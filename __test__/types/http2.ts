// Compiled, not run: a guard of servers of `node:http2`.
import { createServer } from 'node:http';
import {
  createSecureServer,
  createServer as createPlainServer,
  type Http2ServerRequest,
  type Http2ServerResponse,
} from 'node:http2';
import { createServer as createTlsServer } from 'node:https';
import { GracefulShutdown } from 'portcullis';
import { portcullis, signalOf } from 'portcullis/ws';
import { WebSocketServer } from 'ws';

const guard = portcullis({ limits: {} });
const handler = guard.request((request: Http2ServerRequest, response: Http2ServerResponse) => {
  const isGone: boolean = signalOf(request)?.aborted ?? false;
  response.end(`${guard.traceOf(request).requestId} ${isGone}`);
});
const server = createSecureServer({ allowHTTP1: true }, handler);
guard.attach(server, new WebSocketServer({ noServer: true }), { path: '/ws' });
guard.upgrades(server);
new GracefulShutdown({}).add(guard.drainable(server)).add(guard.drainable(createPlainServer()));

// Handlers of `node:http` need no types: these are its own.
export const own = guard.request((request, response) => response.end(request.headersDistinct));
createServer(own);
createServer(guard.request((request, response) => response.end(request.url)));
guard.attach(
  createTlsServer(
    {},
    guard.request((request, response) => response.end(request.url)),
  ),
  new WebSocketServer({ noServer: true }),
);
// @ts-expect-error text is no request
guard.request((request: string) => request);
