// `portcullis/ws` on Node: http, https, or HTTP/2 beside HTTP/1.1.
import http from 'node:http';
import http2 from 'node:http2';
import https from 'node:https';
import { WebSocketServer } from 'ws';
import { GracefulShutdown } from '../../dist/index.js';
import { portcullis } from '../../dist/ws.js';
import { endOnSignal, listening, scheme, shutdownOptions, tls, work } from './settings.mjs';

const guard = portcullis({ limits: {}, requests: {} });
const handler = guard.request(async (request, response) => {
  if (request.url === '/events') {
    const end = () => response.end('event: bye\ndata:\n\n');
    response.writeHead(200, { 'content-type': 'text/event-stream' });
    response.write('data: hello\n\n');
    if (guard.draining.aborted) return end();
    guard.draining.addEventListener('abort', end);
    return response.once('close', () => guard.draining.removeEventListener('abort', end));
  }
  for await (const _ of request);
  await work();
  response.end('done');
});
const SERVERS = {
  http: () => http.createServer(handler),
  https: () => https.createServer(tls, handler),
  h2: () => http2.createSecureServer({ ...tls, allowHTTP1: true }, handler),
};
const server = SERVERS[scheme]();
const webSocketServer = new WebSocketServer({ noServer: true });
webSocketServer.on('connection', (ws) => ws.on('message', (data) => ws.send(data)));
guard.attach(server, webSocketServer);
endOnSignal(new GracefulShutdown(shutdownOptions).add(guard.drainable(server)));
server.listen(0, '127.0.0.1', () => listening(server.address().port));
